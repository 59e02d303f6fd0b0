"""Work that may hang, in a child process with a deadline.

A read or write on a suspended volume sleeps in the kernel (state D) and cannot be ended, not even by SIGKILL. Such a
child is left to itself and never waited for; its entry in the process table goes when it or this process ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How long a killed child may take to go before it counts as one that the kernel holds.
REAP_SECONDS = 0.3
ANSWER_MAX_BYTES = 4 * 1024 * 1024
# Where dmsetup and smartctl lie, which is not on the PATH of everybody.
SYSTEM_PATH = ":/usr/sbin:/sbin"
# How many open files a process has at most, where /proc does not tell which they are.
FILES_MAX = 65536
_STANDARD_FILES = 3

_abandoned: set[int] = set()

T = TypeVar("T")


class DeadlineError(Exception):
    """The child did not answer in time; it was killed, or left behind when that did not help."""


class IsolatedError(Exception):
    """What the child was to do failed; `errno` is that of an OSError, or 0."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Output:
    """What a program said: its exit code (negative for a signal) and its texts."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The first line that it wrote to stderr, or how it ended."""
        return next((line.strip() for line in self.stderr.splitlines() if line.strip()), f"exit code {self.code}")


def call(function: Callable[[], T], seconds: float) -> T:
    """Return what a function returns, which must be plain JSON data.

    It runs in a fork of this process without its open files. A lock that another thread held at the fork costs one
    deadline at most.

    Raises:
        DeadlineError: it did not return in time.
        IsolatedError: it raised.
    """
    _reap_abandoned()
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise IsolatedError(f"cannot start a process: {error.strerror}", error.errno or 0) from error
    if child == 0:
        _serve(function, writer, seconds)
    os.close(writer)
    try:
        answer = _receive(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        _end(child)
    value: T = _unpack(answer)
    return value


def run(arguments: Sequence[str], seconds: float) -> Output:
    """Run a program with nothing on stdin and nothing but PATH in its environment, and return what it said.

    Raises:
        DeadlineError: it did not end in time.
        IsolatedError: it cannot be started; `errno` is ENOENT when there is none of this name.
    """
    _reap_abandoned()
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": f"{os.environ.get('PATH', os.defpath)}{SYSTEM_PATH}", "LC_ALL": "C"},
        )
    except OSError as error:
        raise IsolatedError(f"{arguments[0]}: {error.strerror}", error.errno or 0) from error
    except ValueError as error:  # a zero byte in an argument
        raise IsolatedError(f"{arguments[0]}: {error}") from error
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{arguments[0]} did not end within {seconds:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _end(process.pid)
            process.returncode = -signal.SIGKILL  # it is not waited for by anyone else
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Output(process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def _serve(function: Callable[[], object], writer: int, seconds: float) -> NoReturn:
    """Be the child: answer into the pipe and end, whatever happens."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + 1)  # when the parent dies first
        _close_inherited(writer)
        try:
            answer = json.dumps({"value": function()})
        except OSError as error:
            answer = json.dumps({"error": error.strerror or str(error), "errno": error.errno or 0})
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = json.dumps({"error": f"{type(error).__name__}: {error}", "errno": 0})
        with open(writer, "wb", buffering=0) as pipe:
            rest = memoryview(answer.encode())
            while rest:
                rest = rest[pipe.write(rest) :]
    finally:
        os._exit(0)


def _close_inherited(writer: int) -> None:
    """Close all files but the pipe: a child that never ends must hold no lock and no pipe of its parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(_STANDARD_FILES):
        os.dup2(null, number)
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(FILES_MAX))
    for number in numbers:
        if number >= _STANDARD_FILES and number != writer:
            with suppress(OSError):
                os.close(number)


def _receive(reader: int, deadline: float) -> bytes:
    """Return all that comes from the child until it closes the pipe."""
    answer = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while len(answer) <= ANSWER_MAX_BYTES:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise DeadlineError("no answer in time")
        part = os.read(reader, 65536)
        if not part:
            break
        answer += part
    return bytes(answer)


def _unpack(answer: bytes) -> Any:
    try:
        message = json.loads(answer)
    except ValueError:
        raise IsolatedError("the process ended without an answer") from None
    if "error" in message:
        raise IsolatedError(message["error"], message["errno"])
    return message["value"]


def _end(child: int) -> None:
    """Kill a child and take its exit code; leave it when it does not go."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + REAP_SECONDS
    while not _is_reaped(child):
        if time.monotonic() > deadline:
            _abandoned.add(child)
            return
        time.sleep(0.005)


def _reap_abandoned() -> None:
    for child in list(_abandoned):
        if _is_reaped(child):
            _abandoned.discard(child)


def _is_reaped(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True

"""Running borg: environment, passphrase pipe, input, log lines and stopping."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from regstore.backup.borg.environment import make_environment
from regstore.backup.borg.outcome import Message, Outcome
from regstore.errors import InterruptedRunError
from regstore.work import Cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.backup.borg.program import Program

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20.0
"""How long borg may take to roll back and give its lock away when it is told to stop."""


class Borg:
    """The program with what every call of it needs.

    Args:
        program: which.
        passphrase: of the repository.
        lock_wait: seconds for which borg waits for a lock.
    """

    def __init__(self, program: Program, passphrase: bytes, lock_wait: float = 0.0) -> None:
        self.program = program
        self._passphrase = passphrase
        self._lock_wait = lock_wait

    def run(
        self,
        arguments: Sequence[str],
        *,
        takes_lock: bool = True,
        paths: Iterable[str] | None = None,
        stdin: bytes | None = None,
        cwd: str | None = None,
        files_cache: str = "",
        on_count: Callable[[int], None] | None = None,
        on_file: Callable[[str, str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Outcome:
        """Run borg to its end; nothing is judged.

        Args:
            arguments: the command and what follows.
            takes_lock: whether it waits for the locks of the repository and of borg's cache here; commands that read
                can do without.
            paths: fed to it one by one, NUL at the end of each.
            stdin: fed to it as it is.
            cwd: where it runs.
            files_cache: which memory of files it uses: registries have the same paths, and not the same files.
            on_count: told how many more bytes it has worked through.
            on_file: told the status letter and the path of each file that it has worked through.
            cancel: ends it.

        Raises:
            InterruptedRunError: somebody asked to stop, and it did.
        """
        cancel = cancel or Cancel()
        pieces = iter([stdin]) if stdin is not None else (os.fsencode(path) + b"\0" for path in paths or ())
        has_input = stdin is not None or paths is not None
        environment = make_environment(files_cache, takes_lock=takes_lock)
        with self._start(arguments, environment, takes_lock=takes_lock, has_input=has_input, cwd=cwd) as (
            process,
            outcome,
            reader,
        ):
            reader.on_count, reader.on_file = on_count, on_file
            output: list[bytes] = []
            feeding = threading.Thread(target=_feed, args=(process, pieces, cancel), daemon=True)
            collecting = threading.Thread(target=lambda: output.append(_stdout_of(process).read()), daemon=True)
            feeding.start()
            collecting.start()
            while collecting.is_alive():
                collecting.join(_POLL_SECONDS)
                cancel.check()
            feeding.join()
            outcome.output = b"".join(output)
        return outcome

    @contextmanager
    def stream(self, arguments: Sequence[str]) -> Iterator[tuple[IO[bytes], Outcome]]:
        """Run a command that reads, without locks, and read what it writes meanwhile; the outcome is complete when the
        block has ended."""
        environment = make_environment(takes_lock=False)
        with self._start(arguments, environment, takes_lock=False) as (process, outcome, _):
            stdout = _stdout_of(process)
            try:
                yield stdout, outcome
            finally:
                stdout.close()  # one that still writes ends by that

    @contextmanager
    def _start(
        self,
        arguments: Sequence[str],
        environment: dict[str, str],
        *,
        takes_lock: bool,
        has_input: bool = False,
        cwd: str | None = None,
    ) -> Iterator[tuple[subprocess.Popen[bytes], Outcome, _LogReader]]:
        fd, writing = os.pipe()
        try:
            os.write(writing, self._passphrase + b"\n")
        finally:
            os.close(writing)
        command = [self.program.path, "--log-json", "--lock-wait", str(max(1, round(self._lock_wait))), arguments[0]]
        command += [*([] if takes_lock else ["--bypass-lock"]), *arguments[1:]]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**environment, "BORG_PASSPHRASE_FD": str(fd)},
                pass_fds=(fd,),
                start_new_session=True,  # a Ctrl-C is ours to handle, and ssh has no terminal to ask on
            )
        finally:
            os.close(fd)
        outcome = Outcome(-1)
        reader = _LogReader(process, outcome)
        try:
            yield process, outcome, reader
        except BaseException:
            _stop(process)
            raise
        finally:
            outcome.code = process.wait()
            reader.join()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


class _LogReader(threading.Thread):
    """Reads log lines as they come; lines that are no JSON, such as a prompt, are passed over."""

    def __init__(self, process: subprocess.Popen[bytes], outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self.on_count: Callable[[int], None] | None = None
        self.on_file: Callable[[str, str], None] | None = None
        self._stderr = process.stderr
        self._outcome = outcome
        self._seen = 0
        self.start()

    def run(self) -> None:
        for line in self._stderr or ():
            try:
                content = json.loads(line[line.index(b"{") :])
            except ValueError:
                continue
            match content.get("type"):
                case "log_message":
                    level, identity = content.get("levelname", ""), content.get("msgid") or ""
                    self._outcome.messages.append(Message(level, identity, str(content.get("message", ""))))
                case "archive_progress" if self.on_count and "original_size" in content:
                    self.on_count(content["original_size"] - self._seen)
                    self._seen = content["original_size"]
                case "file_status" if self.on_file:
                    self.on_file(str(content.get("status")), str(content.get("path")))


def _feed(process: subprocess.Popen[bytes], pieces: Iterator[bytes], cancel: Cancel) -> None:
    """Write the input; a piece at a time, since what makes the pieces may wait between two of them."""
    if process.stdin is None:
        return
    # borg says by itself why it reads no more; who asked to stop is answered by whoever waits for borg.
    with suppress(BrokenPipeError, InterruptedRunError):
        for piece in pieces:
            cancel.check()
            process.stdin.write(piece)
            process.stdin.flush()
    with suppress(BrokenPipeError):
        process.stdin.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _stdout_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise TypeError("a process without a pipe")
    return process.stdout

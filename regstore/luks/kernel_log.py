"""What the kernel said since a time: of `/dev/kmsg`, or else of the journal."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from regstore.luks.isolation import DeadlineError, IsolatedError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from regstore.luks.sysroot import Sysroot

RECORDS_MAX = 100_000
RECORD_MAX_BYTES = 8192  # PRINTK_MESSAGE_MAX is 2048
# A record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): priority, sequence, microseconds since the start, flags.
_KMSG = re.compile(r"[0-9]+,[0-9]+,([0-9]{1,18}),[^;]*;(.*)")
# A line of dmesg, or of journalctl -o short-monotonic, which adds the host and `kernel:`.
_PRINTED = re.compile(r"\[ *([0-9]{1,12})\.([0-9]{1,6})\] (?:\S+ kernel: )?(.*)")


class LogError(Exception):
    """The kernel's log cannot be read."""


class Message(NamedTuple):
    """One message, and when: in seconds since the system started."""

    at: float
    text: str


def read_log(sysroot: Sysroot, since: float | None, seconds: float) -> list[str]:
    """Return what the kernel said, oldest first.

    Args:
        since: a time of `time.time()`; what was said before is left out.
        seconds: how long the journal may take.

    Raises:
        LogError: it cannot be read, or is empty, which no kernel's log is.
    """
    try:
        messages = list(_read_kmsg(sysroot.path("/dev/kmsg")))
    except OSError as error:
        messages = list(_read_journal(sysroot, f"/dev/kmsg: {error.strerror}", seconds))
    if not messages:
        raise LogError("the kernel's log is empty")
    if since is None:
        return [message.text for message in messages]
    started = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    return [message.text for message in messages if started + message.at >= since]


def parse_messages(lines: Iterable[str]) -> Iterator[Message]:
    """Yield the messages of records of /dev/kmsg or of printed lines; others are left out."""
    for line in lines:
        if match := _KMSG.match(line):
            yield Message(int(match[1]) / 1e6, match[2])
        elif match := _PRINTED.match(line):
            yield Message(float(f"{match[1]}.{match[2]}"), match[3])


def _read_kmsg(path: Path) -> Iterator[Message]:
    """Yield the kernel's buffer as it is now. Each read gives one record; of a recorded log any part."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            with open(handle, encoding="utf-8", errors="replace", closefd=False) as file:
                yield from parse_messages(line for line, _ in zip(file, range(RECORDS_MAX), strict=False))
            return
        for _ in range(RECORDS_MAX):
            try:
                record = os.read(handle, RECORD_MAX_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:  # overwritten meanwhile: the next read goes on behind
                    raise
                continue
            if not record:
                return
            yield from parse_messages([record.decode("utf-8", "replace").split("\n", 1)[0]])
    finally:
        os.close(handle)


def _read_journal(sysroot: Sysroot, reason: str, seconds: float) -> Iterator[Message]:
    root = [f"--root={sysroot.directory}"] if sysroot.is_other else []
    command = ["journalctl", *root, "--dmesg", "--boot", "--quiet", "--no-pager", "--output=short-monotonic"]
    try:
        output = run([*command, f"--lines={RECORDS_MAX}"], seconds)
    except (DeadlineError, IsolatedError) as error:
        raise LogError(f"{reason}; {error}") from error
    if output.code != 0 or not output.stdout.strip():
        raise LogError(f"{reason}; the journal has nothing of the kernel ({output.complaint})")
    yield from parse_messages(output.stdout.splitlines())

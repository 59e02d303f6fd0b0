"""Who opened a file for writing, whatever program it was (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EVENT = struct.Struct("iIII")
_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE, _IN_CLOSE_NOWRITE = 0x2, 0x4, 0x8, 0x10
_NAMES = {_IN_MODIFY: "modified", _IN_ATTRIB: "attributes", _IN_CLOSE_WRITE: "written", _IN_CLOSE_NOWRITE: "read"}


@contextmanager
def watching(path: Path) -> Iterator[set[str]]:
    """Fill a set, at the end, with what was done: `read`, `written` (opened for that, used or not), `modified`."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(queue, os.fsencode(path), sum(_NAMES)) > 0
    seen: set[str] = set()
    try:
        yield seen
        while True:
            try:
                events = os.read(queue, 65536)
            except BlockingIOError:
                break
            while events:
                _, mask, _, length = _EVENT.unpack_from(events)
                seen.update(name for bit, name in _NAMES.items() if mask & bit)
                events = events[_EVENT.size + length :]
    finally:
        os.close(queue)

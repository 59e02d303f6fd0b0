"""What may be known of a key file without reading the key."""

from __future__ import annotations

import os
import stat
from errno import ENOENT, ENOTDIR
from typing import TYPE_CHECKING, NamedTuple

from regstore.luks.isolation import IsolatedError, call

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot


class KeyFile(NamedTuple):
    """Its mode and owner, and whether it ends with a newline; None when that cannot be read or means nothing."""

    mode: int
    owner: int
    has_newline: bool | None


def look_at_key(sysroot: Sysroot, path: str, seconds: float) -> KeyFile | None:
    """Return what a key file is like; None when there is none. Of a regular file only the last byte is read.

    Raises:
        DeadlineError: the file system does not answer.
        IsolatedError: it cannot be looked at.
    """
    place = str(sysroot.path(path))
    try:
        mode, owner, has_newline = call(lambda: _look(place), seconds)
    except IsolatedError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return None
        raise
    return KeyFile(mode, owner, has_newline)


def _look(place: str) -> tuple[int, int, bool | None]:
    status = os.stat(place)
    has_newline: bool | None = False
    if stat.S_ISREG(status.st_mode) and status.st_size:
        try:
            with open(place, "rb", buffering=0) as file:
                has_newline = os.pread(file.fileno(), 1, status.st_size - 1) == b"\n"
        except PermissionError:
            has_newline = None
    return stat.S_IMODE(status.st_mode), status.st_uid, has_newline

"""Copying the content of a file by the cheapest way that the file system has."""

from __future__ import annotations

import errno
import fcntl
import os

_FICLONE = 0x40049409
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.ENOTTY, errno.EMLINK)


def copy_content(source: int, target: int, size: int) -> None:
    """Copy `size` bytes between open files: shared extents, else in the kernel, else through memory.

    Raises:
        OSError: as the system calls.
        EOFError: the source is shorter.
    """
    if clone_content(source, target):
        return
    left = size
    while left:
        try:
            count = os.copy_file_range(source, target, left)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or left != size:
                raise
            count = _copy_through_memory(source, target)
        if count == 0:
            raise EOFError("the file became shorter while it was copied")
        left -= count


def clone_content(source: int, target: int) -> bool:
    """Let an empty open file share the extents of another; False where the file system cannot.

    Raises:
        OSError: it could, and failed.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _copy_through_memory(source: int, target: int) -> int:
    total = 0
    while piece := os.read(source, 1024 * 1024):
        view = memoryview(piece)
        total += len(piece)
        while view:
            view = view[os.write(target, view) :]
    return total

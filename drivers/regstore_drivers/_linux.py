"""System calls that the standard library lacks, each with a fallback for file systems that lack them too."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_FICLONE = 0x40049409
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.ENOTTY, errno.EMLINK)

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)


def rename_no_replace(source: str, target: str) -> None:
    """Rename a file unless the target exists.

    Tries renameat2(RENAME_NOREPLACE), then a hard link and unlink, both atomic; a file system with neither gets a look
    and a rename.

    Raises:
        FileExistsError: the target exists.
        OSError: as rename(2).
    """
    try:
        _rename_exclusive(source, target)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or error.errno == errno.EXDEV:
            raise
    else:
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or error.errno == errno.EXDEV:
            raise
    else:
        os.unlink(source)
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def _rename_exclusive(source: str, target: str) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def copy_content(source: int, target: int, size: int) -> None:
    """Copy `size` bytes between open files: shared extents, else in the kernel, else through memory.

    Raises:
        OSError: as the system calls; EIO when the source is shorter.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    else:
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
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        left -= count


def _copy_through_memory(source: int, target: int) -> int:
    total = 0
    while piece := os.read(source, 1024 * 1024):
        view = memoryview(piece)
        total += len(piece)
        while view:
            view = view[os.write(target, view) :]
    return total

"""Renaming a file without ever overwriting another: three ways, for what a file system can do."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_FLAGS = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})

_checking = threading.Lock()


def _find_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function


_renameat2 = _find_renameat2()


def rename_exclusive(src: str, dst: str) -> None:
    """Rename a file; whatever stands at `dst` stays.

    Atomic by renameat2, or by a hard link where the kernel or file system has no such flag. Where it has no hard links
    either, `dst` is looked for first: threads of this process cannot overwrite each other's file then, another
    process that creates `dst` in that moment could lose it.

    Raises:
        FileExistsError: there is something at `dst`.
        OSError: see rename(2).
    """
    if _renameat2 is not None:
        failed = _renameat2(_AT_FDCWD, os.fsencode(src), _AT_FDCWD, os.fsencode(dst), _RENAME_NOREPLACE)
        number = ctypes.get_errno()
        if not failed:
            return
        if number not in _NO_FLAGS:
            raise OSError(number, os.strerror(number), src, None, dst)
    try:
        os.link(src, dst, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        _drop_first_name(src, dst)
        return
    with _checking:
        if os.path.lexists(dst):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), src, None, dst)
        os.rename(src, dst)


def _drop_first_name(src: str, dst: str) -> None:
    try:
        os.unlink(src)
    except OSError:
        os.unlink(dst)
        raise

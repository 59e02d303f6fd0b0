"""What lies under a mount point, hidden by what is mounted there."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, NamedTuple

from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.mounts import relative

if TYPE_CHECKING:
    from collections.abc import Iterator

# mount(2) and unshare(2).
_CLONE_NEWNS = 0x00020000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_BLOBS = "docker/registry/v2/blobs"
ENTRIES_MAX = 20_000
NAMES_MAX = 5


class ShadowError(Exception):
    """It cannot be looked at."""


class Shadow(NamedTuple):
    """What lies there.

    Attributes:
        entries: the names of the first few things in the directory.
        has_blobs: a registry's blobs are among them.
        is_cut: there is more than was counted.
    """

    entries: list[str]
    files: int
    size_bytes: int
    has_blobs: bool
    is_cut: bool


def look_below(mount_point: str, above: str, root: str, seconds: float) -> Shadow:
    """Return what lies in the mount point's directory on the file system that is mounted above.

    A child process with a mount table of its own binds that file system over the mount point, without what is mounted
    in it. Nobody else sees that, and it ends with the child.

    Args:
        mount_point: where the volume is mounted.
        above: where the file system that holds the mount point's directory is mounted.
        root: the registry's directory, in the mount point or the same.
        seconds: how long it may take.

    Raises:
        ShadowError: it is not allowed, or took too long.
    """
    if os.geteuid() != 0:
        raise ShadowError("only root can look under a mount point")
    try:
        return Shadow(*call(lambda: _look(mount_point, above, root), seconds))
    except (DeadlineError, IsolatedError) as error:
        raise ShadowError(f"a look under the mount point failed: {error}") from error


def _look(mount_point: str, above: str, root: str) -> Shadow:
    libc = ctypes.CDLL(None, use_errno=True)
    _require(libc.unshare(_CLONE_NEWNS))
    _require(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _require(libc.mount(os.fsencode(above), os.fsencode(mount_point), None, _MS_BIND, None))
    hidden = os.path.join(mount_point, relative(mount_point, above))
    names = sorted(os.listdir(hidden)) if os.path.isdir(hidden) else []
    blobs = {os.path.join(hidden, _BLOBS), os.path.join(hidden, relative(root, mount_point), _BLOBS)}
    has_blobs = any(next(_files(place), None) is not None for place in blobs if os.path.isdir(place))
    files = size_bytes = 0
    for entry in _files(hidden) if names else ():
        if files >= ENTRIES_MAX:
            return Shadow(names[:NAMES_MAX], files, size_bytes, has_blobs, is_cut=True)
        files += 1
        size_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
    return Shadow(names[:NAMES_MAX], files, size_bytes, has_blobs, is_cut=False)


def _files(directory: str) -> Iterator[os.DirEntry[str]]:
    waiting = [directory]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry


def _require(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

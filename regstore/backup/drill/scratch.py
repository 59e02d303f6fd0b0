"""Scratch directories of drills: removed when the drill is over, however it ends.

A drill that is killed leaves its directory; the next one of the same user in the same place removes it. While a drill
lives it holds a lock (flock) on its directory, which dies with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from regstore.errors import StorageFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "regstore-drill-"
_KEPT = "regstore-kept-"


@contextmanager
def open_scratch(parent: str | None, *, is_kept: bool = False) -> Iterator[str]:
    """Make an empty directory that only this user can enter, for one block.

    Args:
        parent: where it is made; None: where temporary files go (TMPDIR).
        is_kept: whether it stays.

    Raises:
        UsageError: there is no such parent, or it cannot be written.
        StorageFailedError: the directory cannot be removed.
    """
    place = os.path.abspath(parent or tempfile.gettempdir())
    _remove_dead(place)
    path, lock = _make(place, _KEPT if is_kept else _PREFIX)
    try:
        yield path
    except BaseException:
        if not is_kept:
            shutil.rmtree(path, ignore_errors=True)
        raise
    else:
        if not is_kept:
            _remove(path)
    finally:
        os.close(lock)


def _make(place: str, prefix: str) -> tuple[str, int]:
    """Make a directory and lock it. Another drill may take it for a dead one's before it is locked."""
    while True:
        try:
            path = tempfile.mkdtemp(prefix=prefix, dir=place)
        except OSError as error:
            raise UsageError(
                f"cannot make a scratch directory in {place}: {error.strerror}",
                hint="name another place with --scratch",
            ) from error
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(path):
                return path, lock
            os.close(lock)


def _remove_dead(place: str) -> None:
    """Remove the directories of dead drills of this user."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                with suppress(OSError):
                    _remove_if_dead(entry.path)


def _remove_if_dead(path: str) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    finally:
        os.close(lock)


def _remove(path: str) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StorageFailedError(
            f"the scratch directory {path} cannot be removed: {error}", hint="remove it by hand"
        ) from error

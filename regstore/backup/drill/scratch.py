"""Scratch directories of drills: removed when the drill is over, however it ends.

A drill that is killed leaves its directory; the next one of the same user in the same place removes it. While a drill
lives it holds a lock (flock) on its directory, which dies with it.

Nobody else may be able to put something else, such as a link, in the place of the directory: what lies above it belongs
to root or this user, and others cannot write there, or only behind the sticky bit (as sshd(8) wants it, StrictModes).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from regstore.errors import RefusedError, StorageFailedError, UsageError

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
        UsageError: there is no such parent, or it cannot be written, or knows no locks.
        RefusedError: others could put something else in its place.
        StorageFailedError: the directory cannot be removed.
    """
    place = os.path.realpath(parent or tempfile.gettempdir())
    _check_private(place)
    _remove_dead(place)
    path, lock = _make(place, _KEPT if is_kept else _PREFIX)
    try:
        yield path
    except BaseException as error:
        if is_kept:
            error.add_note(f"the scratch directory {path} was kept")
        else:
            shutil.rmtree(path, ignore_errors=True)
        raise
    else:
        if not is_kept:
            _remove(path)
    finally:
        os.close(lock)


def _check_private(place: str) -> None:
    """Refuse a place that somebody else can rename what lies in, or that lies in such a one.

    Raises:
        RefusedError: it is one.
    """
    for directory in (Path(place), *Path(place).parents):
        try:
            found = directory.stat()
        except OSError:
            continue  # whoever makes the directory there is told
        is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if is_open or found.st_uid not in (0, os.geteuid()):
            raise RefusedError(
                f"no scratch directory is made in {place}: others can replace what lies in {directory}",
                hint="name another place with --scratch: a directory of your own, below such of root's",
                code="scratch-unsafe",
            )


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
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                os.close(lock)
                os.rmdir(path)
                raise UsageError(
                    f"cannot lock a scratch directory in {place}: {error.strerror}",
                    hint="NFS does not lock directories: name a place on a disk of this host with --scratch",
                ) from error
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

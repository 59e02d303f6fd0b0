"""Owners and modes against the tree's own majority, aggregated while it is walked.

A walk of millions of files keeps no object for any of them: for each class of files (owner, group, mode) it keeps how
many there are, and the topmost directories below which all files are of that class, or single paths.
"""

from __future__ import annotations

import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from regstore.fsck.catalogue import finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.fsck.catalogue import CheckFinding

_PLACES_COUNT = 50


class Class(NamedTuple):
    """What files, or directories, have in common."""

    is_directory: bool
    uid: int
    gid: int
    mode: int


class Places:
    """Where the files (or directories) of one subtree are, by class. At most some places are kept of each."""

    __slots__ = ("counts", "paths")

    def __init__(self) -> None:
        self.counts: dict[Class, int] = {}
        self.paths: dict[Class, list[tuple[str, int]]] = {}

    def add(self, kind: Class, path: str, count: int = 1) -> None:
        """Note files of a class at a path or, all of them, below it."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        paths = self.paths.setdefault(kind, [])
        if len(paths) < _PLACES_COUNT:
            paths.append((path, count))

    def merge(self, other: Places) -> None:
        """Take over the places of a subtree."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            paths = self.paths.setdefault(kind, [])
            paths += other.paths[kind][: _PLACES_COUNT - len(paths)]

    def collapse(self, path: str) -> None:
        """If all below a directory are of one class, keep the directory alone; a single file keeps its name."""
        if len(self.counts) == 1:
            ((kind, count),) = self.counts.items()
            if count > 1:
                self.paths[kind] = [(path, count)]


def class_of(status: object) -> Class:
    """Return the class of a file by its status (`os.stat_result`)."""
    mode: int = status.st_mode  # type: ignore[attr-defined]
    uid: int = status.st_uid  # type: ignore[attr-defined]
    gid: int = status.st_gid  # type: ignore[attr-defined]
    return Class(stat.S_ISDIR(mode), uid, gid, stat.S_IMODE(mode))


def iter_findings(files: Places, directories: Places) -> Iterator[CheckFinding]:
    """Yield what the registry's user cannot use, and what has another owner than most.

    That user is taken to be the owner of most of the tree. Modes differ legitimately (distribution makes files 0666 and
    directories 0777 less umask, and 2.8 makes some 0755): one that lets the user work is no finding.
    """
    owners: Counter[tuple[int, int]] = Counter()
    for places in (files, directories):
        for kind, count in places.counts.items():
            owners[kind.uid, kind.gid] += count
    if not owners:
        return
    # Of two halves the smaller numbers: an answer must not depend on the order of a directory.
    (user, group), _ = min(owners.items(), key=lambda item: (-item[1], item[0]))
    found: dict[tuple[str, str, int, int], tuple[int, set[str]]] = {}
    for places in (files, directories):
        for kind, paths in places.paths.items():
            what = _judge(kind, user, group)
            for path, count in paths if what else ():
                before, modes = found.get((what, path, kind.uid, kind.gid), (0, set()))
                found[what, path, kind.uid, kind.gid] = (before + count, modes | {f"{kind.mode:04o}"})
    for (what, path, uid, gid), (count, modes) in found.items():
        words = f"{count} files and directories" if count > 1 else "it"
        detail = f"{words} of {uid}:{gid} with mode {', '.join(sorted(modes))}; most of the tree is of {user}:{group}"
        evidence = {"count": count, "uid": uid, "gid": gid, "modes": sorted(modes)}
        yield finding(what, path, detail, **evidence, majority_uid=user, majority_gid=group)


def _judge(kind: Class, user: int, group: int) -> str:
    """Return the id of the finding that a class is, or nothing."""
    needed = 0o7 if kind.is_directory else 0o4
    if kind.uid == user:
        granted = kind.mode >> 6
    elif kind.gid == group:
        granted = kind.mode >> 3
    else:
        granted = kind.mode
    if user != 0 and granted & needed != needed:
        return "owner-unwritable" if kind.is_directory else "owner-unreadable"
    return "" if (kind.uid, kind.gid) == (user, group) else "owner-differs"

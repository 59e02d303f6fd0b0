"""Owners and modes against the tree's own majority, aggregated while it is walked.

A walk of millions of files keeps no object for any of them: for each owner it keeps how many files and directories
there are, and the topmost directories below which everything is of that owner, or single paths.
"""

from __future__ import annotations

import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from regstore.fsck.catalogue import finding

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from regstore.fsck.catalogue import CheckFinding

_SPOTS_COUNT = 50
_GROUP, _OTHERS = 2, 1


class Owner(NamedTuple):
    """Who owns files and directories, and whether the owner may read the files, and use and change the directories."""

    uid: int
    gid: int
    is_allowed: bool


class Spot(NamedTuple):
    """A file, or a directory with all below it.

    Attributes:
        path: its key.
        file_count, directory_count: what it stands for.
        file_bits, directory_bits: to whom all of them are open, beside the owner: the group (2), others (1).
    """

    path: str
    file_count: int
    directory_count: int
    file_bits: int
    directory_bits: int

    def __add__(self, other: Spot) -> Spot:  # type: ignore[override]
        """Return both together, under the path of the first."""
        return Spot(
            self.path,
            self.file_count + other.file_count,
            self.directory_count + other.directory_count,
            self.file_bits & other.file_bits,
            self.directory_bits & other.directory_bits,
        )


class Spots:
    """Where what lies in one subtree is, by owner; of each at most some spots, and the sum of all."""

    __slots__ = ("listed", "sums")

    def __init__(self) -> None:
        self.sums: dict[Owner, Spot] = {}
        self.listed: dict[Owner, list[Spot]] = {}

    def add(self, path: str, status: os.stat_result) -> None:
        """Note one file or directory."""
        mode = status.st_mode
        is_directory = stat.S_ISDIR(mode)
        needed = 0o7 if is_directory else 0o4
        owner = Owner(status.st_uid, status.st_gid, mode >> 6 & needed == needed)
        bits = (_GROUP if mode >> 3 & needed == needed else 0) | (_OTHERS if mode & needed == needed else 0)
        spot = Spot(path, 0, 1, 3, bits) if is_directory else Spot(path, 1, 0, bits, 3)
        self._take(owner, spot, [spot])

    def merge(self, other: Spots) -> None:
        """Take over the spots of a subtree."""
        for owner, spot in other.sums.items():
            self._take(owner, spot, other.listed[owner])

    def _take(self, owner: Owner, total: Spot, spots: list[Spot]) -> None:
        mine = self.sums.get(owner)
        if mine is None:
            self.sums[owner], self.listed[owner] = total, spots[:_SPOTS_COUNT]
            return
        self.sums[owner] = mine + total
        listed = self.listed[owner]
        listed += spots[: _SPOTS_COUNT - len(listed)]

    def collapse(self, path: str) -> None:
        """If all below a directory, and it itself, are of one owner, keep the directory alone."""
        if len(self.sums) == 1:
            ((owner, spot),) = self.sums.items()
            self.listed[owner] = [spot._replace(path=path)]


def iter_findings(spots: Spots, where: str) -> Iterator[CheckFinding]:
    """Yield what the registry's user cannot use, and what has another owner than most.

    That user is taken to be the owner of most of the tree, in the group of most of that. Modes differ legitimately
    (distribution makes files 0666 and directories 0777 less umask, and 2.8 makes some 0755): one that lets the user
    work is no finding.

    Args:
        spots: of the whole tree.
        where: the subject of what is too much to be listed.
    """
    users: Counter[int] = Counter()
    groups: Counter[tuple[int, int]] = Counter()
    for owner, spot in spots.sums.items():
        users[owner.uid] += spot.file_count + spot.directory_count
        groups[owner.uid, owner.gid] += spot.file_count + spot.directory_count
    if not users:
        return
    # Of two halves the smaller number: an answer must not depend on the order of a directory.
    user = min(users, key=lambda uid: (-users[uid], uid))
    group = min((gid for uid, gid in groups if uid == user), key=lambda gid: (-groups[user, gid], gid))
    for owner, listed in spots.listed.items():
        rest = spots.sums[owner]
        for spot in listed:
            rest = rest._replace(
                file_count=rest.file_count - spot.file_count,
                directory_count=rest.directory_count - spot.directory_count,
            )
            if what := _judge(owner, spot, user, group):
                yield _finding(what, spot, owner, user, group)
        if rest.file_count + rest.directory_count and (what := _judge(owner, rest, user, group)):
            yield _finding(what, rest._replace(path=where), owner, user, group)


def _finding(what: str, spot: Spot, owner: Owner, user: int, group: int) -> CheckFinding:
    count = spot.file_count + spot.directory_count
    words = f"{spot.file_count} files and {spot.directory_count} directories" if count > 1 else "it"
    detail = f"{words} of {owner.uid}:{owner.gid}; most of the tree is of {user}:{group}"
    evidence = {"count": count, "uid": owner.uid, "gid": owner.gid, "majority_uid": user, "majority_gid": group}
    return finding(what, spot.path, detail, **evidence)


def _judge(owner: Owner, spot: Spot, user: int, group: int) -> str:
    """Return the id of the finding that a spot is, or nothing."""
    if user != 0:
        if owner.uid == user:
            can_read = can_write = owner.is_allowed
        else:
            bit = _GROUP if owner.gid == group else _OTHERS
            can_read, can_write = bool(spot.file_bits & bit), bool(spot.directory_bits & bit)
        if spot.file_count and not can_read:
            return "owner-unreadable"
        if spot.directory_count and not can_write:
            return "owner-unwritable"
    return "" if (owner.uid, owner.gid) == (user, group) else "owner-differs"

"""What a drill restores: some images of a good snapshot, drawn at random or named."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.select import LATEST, find_snapshot, iter_snapshots
from regstore.errors import UsageError

if TYPE_CHECKING:
    from random import Random

    from regstore.backup.engine import SnapshotStore
    from regstore.backup.snapshot import Snapshot

_COUNT = 5


@dataclass(frozen=True, slots=True)
class DrillSelection:
    """Which images are restored.

    Attributes:
        snapshot: an id, or `latest`: the newest complete one.
        count: how many are drawn; None: five, or all that are named.
        repositories, tags: globs; only images of these names.
    """

    snapshot: str = LATEST
    count: int | None = None
    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def has(self, repository: str, tag: str) -> bool:
        """Tell whether an image may be drawn."""
        return _fits(repository, self.repositories) and _fits(tag, self.tags)


def choose_snapshot(store: SnapshotStore, wanted: str) -> tuple[Snapshot, list[BackupFinding]]:
    """Return a snapshot, and what is to be said of newer ones that are passed over.

    Raises:
        UsageError: there is none, or several begin so.
        StorageFailedError: the one that was asked for is damaged.
        DriverError: the store cannot be read.
    """
    if wanted != LATEST:
        return find_snapshot(store, wanted), []
    findings: list[BackupFinding] = []
    newest: Snapshot | None = None
    for loaded in iter_snapshots(store, newest_first=True):
        if loaded.snapshot is None:
            findings.append(loaded.finding())
            continue
        newest = newest or loaded.snapshot
        if loaded.snapshot.head.is_complete:
            if newest is not loaded.snapshot:
                id_ = newest.head.id
                detail = f"the drill takes the newest complete one, {loaded.snapshot.head.id}"
                findings.append(finding("snapshot-incomplete", id_, detail, snapshots=(id_,)))
            return loaded.snapshot, findings
    if newest is None:
        return find_snapshot(store, wanted), findings  # which says that there is none
    id_ = newest.head.id
    findings.append(
        finding("snapshot-incomplete", id_, "no snapshot is complete: the drill takes it", snapshots=(id_,))
    )
    return newest, findings


def draw_images(snapshot: Snapshot, selection: DrillSelection, random: Random) -> dict[str, list[str]]:
    """Draw images, evenly: repository to tags. Those that were broken when the snapshot was made are not among them.

    Raises:
        UsageError: there is none of these names.
        SnapshotDamagedError: the snapshot cannot be understood.
    """
    broken = set(snapshot.head.broken)
    images = [
        (contents.name, tag)
        for contents in snapshot.iter_contents()
        for tag in contents.tags
        if selection.has(contents.name, tag) and f"{contents.name}:{tag}" not in broken
    ]
    if not images:
        raise UsageError(
            f"the snapshot {snapshot.head.id} has no whole image of these names",
            hint="regstore backup show lists its repositories and tags",
            code="nothing-chosen",
        )
    is_named = bool(selection.repositories or selection.tags)
    count = selection.count or (len(images) if is_named else _COUNT)
    drawn: dict[str, list[str]] = {}
    for repository, tag in sorted(random.sample(images, min(count, len(images)))):
        drawn.setdefault(repository, []).append(tag)
    return drawn


def _fits(name: str, globs: tuple[str, ...]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)

"""What two snapshots differ in: tags, and data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regstore.backup.snapshot import Snapshot
    from regstore.digest import Digest


@dataclass(slots=True)
class Difference:
    """What came, moved and went from an older snapshot to a newer one.

    Attributes:
        added, deleted: image (`repository:tag`) to what it means, or meant.
        moved: image to what it meant and means.
        added_blobs, deleted_blobs: digest to bytes.
    """

    added: dict[str, Digest] = field(default_factory=dict)
    moved: dict[str, tuple[Digest, Digest]] = field(default_factory=dict)
    deleted: dict[str, Digest] = field(default_factory=dict)
    added_blobs: dict[Digest, int] = field(default_factory=dict)
    deleted_blobs: dict[Digest, int] = field(default_factory=dict)


def compare_snapshots(old: Snapshot, new: Snapshot) -> Difference:
    """Say what differs.

    Raises:
        SnapshotDamagedError: one cannot be understood.
    """
    difference = Difference()
    for name in sorted({*old.repositories, *new.repositories}):
        before, after = _tags_of(old, name), _tags_of(new, name)
        for tag in sorted(before.keys() | after.keys()):
            image = f"{name}:{tag}"
            if tag not in before:
                difference.added[image] = after[tag]
            elif tag not in after:
                difference.deleted[image] = before[tag]
            elif before[tag] != after[tag]:
                difference.moved[image] = (before[tag], after[tag])
    before_blobs, after_blobs = old.blobs(), new.blobs()
    difference.added_blobs = {digest: after_blobs[digest] for digest in after_blobs.keys() - before_blobs.keys()}
    difference.deleted_blobs = {digest: before_blobs[digest] for digest in before_blobs.keys() - after_blobs.keys()}
    return difference


def _tags_of(snapshot: Snapshot, repository: str) -> dict[str, Digest]:
    if not snapshot.has(repository):
        return {}
    return {tag: meant.digest for tag, meant in snapshot.contents(repository).tags.items()}

"""`backup test-restore`: restores some images for a trial, and throws them away.

A backup that was never restored is a hope. Random tags of random snapshots are written to a scratch directory with all
that they need, every byte hashed, and then looked at as a registry would.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.choose import Selection
from regstore.backup.inspection import find_problems
from regstore.backup.restore import Restore, RestoreOptions
from regstore.backup.select import iter_snapshots
from regstore.registry import Registry
from regstore.work import Cancel, NoProgress
from regstore_drivers.filesystem import FilesystemDriver

if TYPE_CHECKING:
    from random import Random

    from regstore.backup.engine import SnapshotStore
    from regstore.backup.snapshot import Snapshot
    from regstore.work import Progress


class Tried(NamedTuple):
    """An image that was restored for a trial: of which snapshot, its bytes, and what is wrong with it, or nothing."""

    snapshot: str
    image: str
    total_bytes: int
    problem: str


@dataclass(slots=True)
class TrialResult:
    """What was tried, and the findings about it."""

    tried: list[Tried] = field(default_factory=list)
    findings: list[BackupFinding] = field(default_factory=list)


def try_restore(
    store: SnapshotStore,
    count: int,
    random: Random,
    *,
    directory: str | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> TrialResult:
    """Restore random images for a trial. Images that were broken when their snapshot was made are not among them.

    Args:
        store: where from.
        count: how many images at most.
        random: draws them.
        directory: where scratch directories are made; None: where temporary files go.
        progress, cancel: told and asked.

    Raises:
        DriverError, StorageFailedError: the store or the scratch directory cannot be used.
        InterruptedRunError: somebody asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    result = TrialResult()
    drawn = _draw(store, count, random, result, cancel)
    for snapshot, images in drawn:
        for repository, tag in images:
            cancel.check()
            tried = _try(store, snapshot, repository, tag, directory, progress, cancel)
            result.tried.append(tried)
            if tried.problem:
                image = (tried.image,)
                result.findings.append(finding("image-lost", tried.image, tried.problem, image, (tried.snapshot,)))
    return result


def _draw(
    store: SnapshotStore, count: int, random: Random, result: TrialResult, cancel: Cancel
) -> list[tuple[Snapshot, list[tuple[str, str]]]]:
    """Draw snapshots, then images of each, evenly."""
    snapshots = []
    for loaded in iter_snapshots(store):
        cancel.check()
        if loaded.snapshot is None:
            result.findings.append(loaded.finding())
        else:
            snapshots.append(loaded.snapshot)
    chosen = [random.choice(snapshots) for _ in range(count)] if snapshots else []
    drawn = []
    for snapshot in snapshots:
        wanted = sum(one is snapshot for one in chosen)
        broken = set(snapshot.head.broken)
        images = [
            (contents.name, tag)
            for contents in (snapshot.iter_contents() if wanted else ())
            for tag in contents.tags
            if f"{contents.name}:{tag}" not in broken
        ]
        if images:
            drawn.append((snapshot, random.sample(images, min(wanted, len(images)))))
    return drawn


def _try(
    store: SnapshotStore,
    snapshot: Snapshot,
    repository: str,
    tag: str,
    directory: str | None,
    progress: Progress,
    cancel: Cancel,
) -> Tried:
    scratch = tempfile.mkdtemp(prefix="regstore-trial-", dir=directory)
    image = f"{repository}:{tag}"
    target = Registry(FilesystemDriver(scratch))
    options = RestoreOptions(Selection((repository,), (tag,)))
    restore = Restore(store, snapshot, target, options, progress=progress, cancel=cancel)
    try:
        plan = restore.plan()
        restore.apply(plan)
        if image in plan.chosen.lost:
            return Tried(snapshot.head.id, image, plan.total_bytes, plan.chosen.lost[image])
        problems = find_problems(target, snapshot.contents(repository), [tag])
        return Tried(snapshot.head.id, image, plan.total_bytes, problems.get(tag, ""))
    finally:
        restore.forget()
        shutil.rmtree(scratch, ignore_errors=True)

"""`backup verify`, `prune` and `unlock` of a borg repository."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from regstore.backup.borg.run import raise_error
from regstore.backup.borg.store import META, PREFIX, BorgStore
from regstore.backup.catalogue import finding
from regstore.backup.layout import is_snapshot_name
from regstore.backup.prune import PruneOptions, PrunePlan, PruneResult, choose_snapshots
from regstore.backup.select import iter_snapshots
from regstore.backup.verify import VerifyResult, iter_hurt
from regstore.digest import format_digest
from regstore.work import Cancel, NoProgress

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore.work import Progress


def verify_borg_store(
    store: BorgStore, *, is_full: bool, progress: Progress | None = None, cancel: Cancel | None = None
) -> VerifyResult:
    """Verify a borg repository: every snapshot is read, every archive is listed, and borg checks the repository.

    borg's check locks the repository: a backup waits for it.

    Args:
        store: which.
        is_full: whether all data are decrypted and compared with their checksums too (`check --verify-data`).
        progress, cancel: told and asked.

    Raises:
        UsageError, LockedError, StorageFailedError: as borg says.
        InterruptedRunError: somebody asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    result = VerifyResult()
    seen: dict[Digest, int] = {}
    for loaded in iter_snapshots(store):
        cancel.check()
        if loaded.snapshot is None:
            result.findings.append(loaded.finding())
            continue
        result.snapshot_count += 1
        blobs = loaded.snapshot.blobs()
        seen |= blobs
        data = store.open_data(loaded.snapshot)
        lost = data.find_lost(blobs)
        images: dict[Digest, set[str]] = {digest: set() for digest in lost}
        if lost:
            for digest, image in iter_hurt(loaded.snapshot, data, lost.keys(), progress, cancel):
                images[digest].add(image)
        for digest, (kind, detail) in sorted(lost.items()):
            hurt = tuple(sorted(images[digest]))
            result.findings.append(finding(kind, format_digest(digest), detail, hurt, (loaded.file.id,)))
    result.blob_count, result.total_bytes = len(seen), sum(seen.values())
    outcome = store.repository.check(is_full=is_full)
    # 1 is a warning elsewhere: here it says that errors were found.
    if outcome.is_warning:
        result.findings.append(finding("repository-damaged", store.location, outcome.text[-1000:]))
    elif outcome.code:
        raise_error(outcome, store.location, "check")
    return result


def prune_borg_store(
    store: BorgStore,
    options: PruneOptions,
    *,
    is_dry_run: bool,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> PruneResult:
    """Delete the snapshots that no rule keeps, and what runs that died have left, and free the space.

    What a run that died left is an archive of data without its snapshot; one that is younger than the grace period may
    be of a run under way.

    Raises:
        RefusedError: there is no rule, or none that keeps anything.
        UsageError, LockedError, StorageFailedError: as borg says.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    plan = PrunePlan()
    choose_snapshots(store, options.rules, plan, progress, cancel)
    _, archives = store.repository.list_archives()
    names = {archive.name for archive in archives}
    dead = [
        archive.name
        for archive in archives
        if archive.name.startswith(PREFIX)
        and is_snapshot_name(archive.name[len(PREFIX) :])
        and f"{archive.name}{META}" not in names
        and time.time() - archive.begun_at >= options.grace
    ]
    # The snapshot first: what has none does not exist.
    going = [f"{PREFIX}{file.name}{META}" for file in plan.removed]
    going += [f"{PREFIX}{file.name}" for file in plan.removed if f"{PREFIX}{file.name}" in names]
    if not is_dry_run and (going or dead):
        store.repository.delete([*going, *dead])
        store.repository.compact()
    return PruneResult(plan, list(plan.findings))

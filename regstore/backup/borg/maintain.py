"""`backup verify` and `prune` of a borg repository."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.backup.borg.outcome import raise_error
from regstore.backup.borg.reading import ArchiveReader
from regstore.backup.borg.store import META, PREFIX, BorgStore
from regstore.backup.catalogue import finding
from regstore.backup.layout import is_snapshot_name
from regstore.backup.prune import PruneOptions, PrunePlan, PruneResult, choose_snapshots
from regstore.backup.select import iter_snapshots
from regstore.backup.verify import VerifyResult, iter_hurt
from regstore.digest import Digest, format_digest
from regstore.work import Cancel, NoProgress

if TYPE_CHECKING:
    from regstore.backup.borg.outcome import Outcome
    from regstore.backup.select import Loaded
    from regstore.backup.snapshot import Snapshot
    from regstore.work import Progress

_SHOWN_CHARACTERS = 1000
_CHECKPOINT = re.compile(r"\.checkpoint(\.[0-9]+)?$")
"""What borg appends to the name of an archive that it saves while it is being made."""


def verify_borg_store(
    store: BorgStore, *, is_full: bool, progress: Progress | None = None, cancel: Cancel | None = None
) -> VerifyResult:
    """Verify a borg repository: every snapshot is read, every archive is listed, and borg checks the repository.

    borg cannot tell which files its errors are in: where it finds some, all data are read and hashed, so that what is
    lost is named with the images that it hurts.

    Args:
        store: which.
        is_full: whether all data are decrypted and compared with their checksums too (`check --verify-data`), and
            nothing is believed that this host remembers.
        progress, cancel: told and asked.

    Raises:
        UsageError, LockedError, StorageFailedError: as borg says.
        InterruptedRunError: somebody asked to stop.
    """
    if is_full:
        store.distrust_cache()
    return _Verification(store, progress or NoProgress(), cancel or Cancel()).run(is_full=is_full)


@dataclass(slots=True)
class _Loss:
    """One lost blob: the kind of the finding, its detail, the images that it hurts, and in which snapshots."""

    kind: str
    detail: str
    images: set[str] = field(default_factory=set)
    snapshots: list[str] = field(default_factory=list)


class _Verification:
    def __init__(self, store: BorgStore, progress: Progress, cancel: Cancel) -> None:
        self._store = store
        self._progress = progress
        self._cancel = cancel
        self._result = VerifyResult()
        self._losses: dict[Digest, _Loss] = {}
        self._whole: dict[Digest, int] = {}

    def run(self, *, is_full: bool) -> VerifyResult:
        result = self._result
        outcome = self._check(is_full=is_full)
        seen: dict[Digest, int] = {}
        for loaded in iter_snapshots(self._store):
            self._cancel.check()
            if loaded.snapshot is None:
                result.findings.append(loaded.finding())
                continue
            result.snapshot_count += 1
            seen |= loaded.snapshot.blobs()
            self._look_at(loaded, loaded.snapshot, is_hashing=outcome is not None)
        result.blob_count, result.total_bytes = len(seen), sum(seen.values())
        result.hashed_count, result.hashed_bytes = len(self._whole), sum(self._whole.values())
        for digest, loss in sorted(self._losses.items()):
            images, ids = tuple(sorted(loss.images)), tuple(loss.snapshots)
            result.findings.append(finding(loss.kind, format_digest(digest), loss.detail, images, ids))
        if outcome is not None:
            text = outcome.text[-_SHOWN_CHARACTERS:]
            result.findings.append(finding("repository-damaged", self._store.location, text))
        return result

    def _check(self, *, is_full: bool) -> Outcome | None:
        """Let borg check the repository; return the outcome if it is damaged.

        Its lock would keep a backup out for as long as that takes. Without it a run that writes may look like damage:
        what seems damaged is checked once more, with the lock.
        """
        repository = self._store.repository
        self._progress.start("borg check")
        for is_locking in (False, True):
            outcome = repository.check(is_full=is_full, is_locking=is_locking, cancel=self._cancel)
            if not outcome.code:
                break
        self._progress.finish()
        if not outcome.code:
            return None
        # 1 is a warning elsewhere: here it says that errors were found.
        if not outcome.is_warning and not outcome.is_damage:
            raise_error(outcome, self._store.location, "check", repository.lock_holders())
        return outcome

    def _look_at(self, loaded: Loaded, snapshot: Snapshot, *, is_hashing: bool) -> None:
        """Look for what a snapshot needs and the repository does not have as it should be."""
        blobs = snapshot.blobs()
        data = self._store.open_data(snapshot)
        lost = data.find_lost(blobs)
        if is_hashing:
            doubtful = blobs.keys() - lost.keys() - self._whole.keys()
            archive = f"{PREFIX}{snapshot.head.name}"
            self._progress.start(f"data of {snapshot.head.id}", sum(blobs[digest] for digest in doubtful), "B")
            for read in ArchiveReader(self._store.repository, archive, self._progress, self._cancel).hash(doubtful):
                if read.kind:
                    lost[read.digest] = (f"store-blob-{read.kind}", read.detail)
                else:
                    self._whole[read.digest] = blobs[read.digest]
            self._progress.finish()
        if not lost:
            return
        for digest, (kind, detail) in lost.items():
            self._losses.setdefault(digest, _Loss(kind, detail)).snapshots.append(loaded.file.id)
        for digest, image in iter_hurt(snapshot, data, lost.keys(), self._progress, self._cancel):
            self._losses[digest].images.add(image)


def prune_borg_store(
    store: BorgStore,
    options: PruneOptions,
    *,
    is_dry_run: bool,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> PruneResult:
    """Delete the snapshots that no rule keeps, and what runs that died have left, and free the space.

    The rules are ours and not those of `borg prune`, which counts incomplete snapshots as good ones. What a run that
    died left is an archive of data without its snapshot, or a checkpoint; one that is younger than the grace period
    may be of a run under way.

    Raises:
        RefusedError: there is no rule, or none that keeps anything.
        UsageError, LockedError, StorageFailedError: as borg says.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    if not is_dry_run:
        store.repository.list_archives(is_locking=True)  # ends here while another run writes
    plan = PrunePlan()
    choose_snapshots(store, options.rules, plan, progress, cancel)
    # Listed last: a backup that has just ended has its snapshot by now.
    _, archives = store.repository.list_archives()
    names = {archive.name for archive in archives}
    # The snapshot first: what has none does not exist.
    going = [f"{PREFIX}{file.name}{META}" for file in plan.removed]
    going += [f"{PREFIX}{file.name}" for file in plan.removed]
    going += [
        archive.name
        for archive in archives
        if _is_unfinished(archive.name, names) and time.time() - archive.begun_at >= options.grace
    ]
    going = [name for name in going if name in names]
    if going and not is_dry_run:
        store.repository.delete(going)
        store.repository.compact()
    return PruneResult(plan, list(plan.findings))


def _is_unfinished(name: str, names: set[str]) -> bool:
    """Tell whether an archive is ours, and not part of a snapshot."""
    if not name.startswith(PREFIX):
        return False
    base, count = _CHECKPOINT.subn("", name)
    if not is_snapshot_name(base.removesuffix(META)[len(PREFIX) :]):
        return False
    return bool(count) or (not name.endswith(META) and f"{name}{META}" not in names)

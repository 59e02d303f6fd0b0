"""`backup prune`: snapshots that no rule keeps go, and then, in two steps, the data that none needs any more.

What no snapshot needs is condemned: noted in a list, with the time. A later run deletes what has been condemned for
longer than the grace period and is still not needed. What is needed comes from the snapshots, what may go from the
listing: a listing that is short deletes less. A snapshot that cannot be read, or that was there at the last run and is
not listed, may need anything: nothing is condemned or deleted then.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import zstandard

from regstore.backup import layout
from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.retention import Candidate, Rules, choose_kept
from regstore.backup.select import iter_snapshots
from regstore.errors import RefusedError, StorageFailedError
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasClock
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.backup.engine import SnapshotFile, SnapshotStore
    from regstore.backup.listing import Listing
    from regstore.backup.snapshot import Head, Snapshot
    from regstore.backup.store import Store
    from regstore.digest import Digest
    from regstore.lock import Holder
    from regstore.work import Progress

_FORMAT = "regstore condemned"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What is kept, and how soon data go.

    Attributes:
        rules: which snapshots are kept.
        grace: seconds for which data stay condemned.
        lock_wait: seconds to wait for another run.
    """

    rules: Rules
    grace: float = 86400.0
    lock_wait: float = 0.0


@dataclass(slots=True)
class PrunePlan:
    """What a run would do.

    Attributes:
        kept: snapshot to the rules that keep it, in the order made.
        removed: snapshots that go.
        condemned: key to the time (seconds since the epoch) since which it is known that nothing needs it.
        deleted: condemned keys that go now.
        sizes: bytes of all condemned keys.
        names: the snapshot files that stay, for the next run to compare with.
        findings: what keeps data from being condemned or deleted.
        leftovers: temporary files of runs that died.
    """

    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    removed: list[SnapshotFile] = field(default_factory=list)
    condemned: dict[str, float] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    findings: list[BackupFinding] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def condemned_bytes(self) -> int:
        """The bytes of what stays condemned."""
        return sum(size for key, size in self.sizes.items() if key in self.condemned) - self.deleted_bytes

    @property
    def deleted_bytes(self) -> int:
        """The bytes of what goes now."""
        return sum(self.sizes[key] for key in self.deleted)


@dataclass(slots=True)
class PruneResult:
    """What a run did: its plan, what failed, and whose lock was taken over."""

    plan: PrunePlan
    findings: list[BackupFinding] = field(default_factory=list)
    dead_holder: Holder | None = None


def plan_prune(
    store: Store, options: PruneOptions, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> PrunePlan:
    """Say what would go. Changes nothing.

    Raises:
        RefusedError: there is no rule, or none that keeps anything.
        DriverError, StorageFailedError: the store cannot be read.
        InterruptedRunError: somebody asked to stop.
    """
    return _Planner(store, options, progress or NoProgress(), cancel or Cancel()).plan()


def prune_store(
    store: Store, options: PruneOptions, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> PruneResult:
    """Plan, and do it: `backup prune`.

    Raises:
        RefusedError: there is no rule, or none that keeps anything.
        LockedError: another run writes to the store.
        DriverError, StorageFailedError: the store failed; nothing was deleted after it.
        InterruptedRunError: stopped on request.
    """
    cancel = cancel or Cancel()
    with store.hold_lock("backup prune", options.lock_wait, cancel) as dead:
        plan = plan_prune(store, options, progress=progress, cancel=cancel)
        findings = _apply(store, plan, progress or NoProgress(), cancel)
    return PruneResult(plan, findings, dead)


def choose_snapshots(
    store: SnapshotStore, rules: Rules, plan: PrunePlan, progress: Progress, cancel: Cancel
) -> set[Digest]:
    """Note in a plan which snapshots stay and which go, and return the digests that those which stay need.

    Raises:
        RefusedError: there is no rule, or none that keeps anything.
        DriverError, StorageFailedError: the store cannot be read.
    """
    if rules.keeps_nothing:
        raise RefusedError(
            "there is no rule that keeps a snapshot",
            hint="say what to keep, such as --keep-daily 7 --keep-weekly 5 --keep-monthly 12",
            code="no-rule",
        )
    needed: dict[str, set[Digest]] = {}
    files: dict[str, SnapshotFile] = {}
    candidates: list[Candidate] = []
    progress.start("reading snapshots")
    for loaded in iter_snapshots(store):
        cancel.check()
        progress.advance()
        if loaded.snapshot is None:
            plan.findings.append(loaded.finding())
            continue
        head = loaded.snapshot.head
        plan.heads.append(head)
        files[head.id] = loaded.file
        needed[head.id] = set(loaded.snapshot.blobs())
        images = tuple(_iter_images(loaded.snapshot)) if rules.tags else ()
        candidates.append(
            Candidate(head.id, head.sequence, head.created_at, head.source, head.is_complete, partial(iter, images))
        )
    progress.finish()
    plan.kept = choose_kept(candidates, rules)
    plan.removed = [file for id_, file in files.items() if id_ not in plan.kept]
    return set().union(*(needed[id_] for id_ in plan.kept))


class _Planner:
    def __init__(self, store: Store, options: PruneOptions, progress: Progress, cancel: Cancel) -> None:
        self._store = store
        self._options = options
        self._progress = progress
        self._cancel = cancel
        self._plan = PrunePlan()

    def plan(self) -> PrunePlan:
        listing = self._store.take_listing()
        self._plan.leftovers = listing.leftovers
        former, names = read_condemned(self._store)
        missing = sorted(set(names) - {file.name for file in listing.snapshots})
        for name in missing:
            detail = "it was there at the last run of prune; data are deleted by the next run at the earliest"
            self._plan.findings.append(finding("snapshot-missing", name.rpartition("-")[2], detail))
        needed = choose_snapshots(self._store, self._options.rules, self._plan, self._progress, self._cancel)
        self._plan.names = [file.name for file in listing.snapshots if file not in self._plan.removed]
        if self._plan.findings:
            self._plan.condemned = former
            self._plan.sizes = dict.fromkeys(former, 0)
            return self._plan
        now = self._store.driver.now() if isinstance(self._store.driver, HasClock) else time.time()
        for key, size in self._iter_unneeded(listing, needed):
            self._plan.condemned[key] = former.get(key, now)
            self._plan.sizes[key] = size
            if key in former and now - former[key] >= self._options.grace:
                self._plan.deleted.append(key)
        return self._plan

    def _iter_unneeded(self, listing: Listing, needed: set[Digest]) -> Iterator[tuple[str, int]]:
        """Yield key and bytes of blobs and packs of which nothing is needed; never of a pack that cannot be read."""
        for digest, size in listing.blobs.items():
            if digest not in needed:
                yield layout.blob_key(digest), size
        damaged = self._store.load_packed(listing.packs)
        for entry in listing.packs:
            name = layout.parse_pack_key(entry.key) or ""
            if name not in damaged and needed.isdisjoint(self._store.packed.digests_of(name)):
                yield entry.key, entry.size


def _iter_images(snapshot: Snapshot) -> Iterable[str]:
    for contents in snapshot.iter_contents():
        for tag in contents.tags:
            yield f"{contents.name}:{tag}"


def _apply(store: Store, plan: PrunePlan, progress: Progress, cancel: Cancel) -> list[BackupFinding]:
    findings = list(plan.findings)
    store.remove_leftovers(plan.leftovers)
    store.abort_uploads()
    cancel.check()
    # Before the snapshots go: one that is gone and was not meant to go keeps the next run from deleting anything.
    _write_condemned(store, plan)
    failures = _delete(store, [layout.snapshot_key(file.name) for file in plan.removed])
    cancel.check()
    if not failures:  # what a snapshot needs that is still there stays
        progress.start("deleting data", len(plan.deleted))
        failures = _delete(store, plan.deleted, progress)
        progress.finish()
    store.forget_all_but(plan.names)
    return findings + failures


def _delete(store: Store, keys: list[str], progress: Progress | None = None) -> list[BackupFinding]:
    findings = []
    for outcome in store.driver.delete(keys):
        if progress:
            progress.advance()
        if outcome.outcome == "failed":
            findings.append(finding("delete-failed", outcome.key, outcome.reason))
    return findings


def read_condemned(store: Store) -> tuple[dict[str, float], list[str]]:
    """Return what is condemned (key to the time since when), and the names of the snapshots that were kept then.

    Raises:
        StorageFailedError: the list cannot be understood.
        DriverError: it cannot be read.
    """
    try:
        data = store.driver.read(layout.CONDEMNED, limit=1 << 32)
    except NotFound:
        return {}, []
    try:
        content: dict[str, Any] = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(data))
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError("it is of another version")  # noqa: TRY301 - damage and versions are told alike
        return {str(key): float(at) for key, at in content["keys"].items()}, [str(n) for n in content["snapshots"]]
    except (ValueError, LookupError, TypeError, AttributeError, zstandard.ZstdError) as error:
        raise StorageFailedError(
            f"{store.location.rstrip('/')}/{layout.CONDEMNED} cannot be understood: {error}",
            hint="remove that file: data that nothing needs are condemned anew then, and deleted later",
            code="corruption",
        ) from error


def _write_condemned(store: Store, plan: PrunePlan) -> None:
    content = {"format": _FORMAT, "version": _VERSION, "snapshots": plan.names, "keys": plan.condemned}
    data = zstandard.ZstdCompressor(write_checksum=True).compress(json.dumps(content).encode())
    store.driver.write(layout.CONDEMNED, data, len(data))

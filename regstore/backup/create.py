"""`backup create`: a snapshot of a registry that may be live, of which only what is new is read.

Order: lock, tags and links, the list of blobs, the data that the store does not have, tags once more, and last the
snapshot. A run that dies leaves data that no snapshot names, which the next run uses, and no half snapshot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.backup import layout
from regstore.backup.assembly import assemble_snapshot
from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.pack import SMALL_BYTES, PackWriter
from regstore.backup.snapshot import SnapshotDamagedError
from regstore.digest import Digest, is_digest_of
from regstore.errors import StorageFailedError
from regstore.hashing import is_whole
from regstore.state import open_state
from regstore.transfer import Failed, Item, Paced, Source, VolumeOrigin, copy_blobs, open_journal, resuming_uploads
from regstore.transfer.copying import SECOND_LOOK_SECONDS
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DriverError, NotFound, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore.backup.engine import SnapshotFile
    from regstore.backup.listing import Listing
    from regstore.backup.snapshot import Head
    from regstore.backup.store import Store
    from regstore.bandwidth import Bandwidth
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.transfer import Journal
    from regstore.work import Progress


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """How a backup is made.

    Attributes:
        jobs: blobs copied at once; None: as many as there are processors, or 16 where a request takes its time.
        bandwidth: bytes a second that are read at the source; None: no limit.
        lock_wait: seconds to wait for another run.
    """

    jobs: int | None = None
    bandwidth: Bandwidth | None = None
    lock_wait: float = 0.0


@dataclass(slots=True)
class CreateResult:
    """What a backup did.

    Attributes:
        head: that of the snapshot.
        findings: what was found wrong, and what is worth a note.
        dead_holder: whose lock was taken over, if a run died.
    """

    head: Head
    findings: list[BackupFinding]
    dead_holder: Holder | None = None


def create_backup(
    registry: Registry,
    store: Store,
    options: CreateOptions | None = None,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> CreateResult:
    """Store a snapshot of a registry: `backup create`. Nothing is written to the registry's volume.

    Raises:
        RefusedError: the registry has no repository, or lies in the store or around it.
        LockedError: another run writes to the store.
        DriverError, StorageFailedError: the store failed, or the source as a whole cannot be read.
        InterruptedRunError: stopped on request; the next run uses what was stored.
    """
    store.check_apart(registry.driver)
    options = options or CreateOptions()
    cancel = cancel or Cancel()
    with store.hold_lock("backup create", options.lock_wait, cancel) as dead:
        result = _Creation(registry, store, options, progress or NoProgress(), cancel).run()
    result.dead_holder = dead
    return result


@dataclass(slots=True)
class _Known:
    """What the snapshots of a store tell: the newest sequence number, and the bytes of blobs as recorded."""

    sequence: int = 0
    sizes: dict[Digest, int] = field(default_factory=dict)
    findings: list[BackupFinding] = field(default_factory=list)


class _Creation:
    def __init__(
        self, registry: Registry, store: Store, options: CreateOptions, progress: Progress, cancel: Cancel
    ) -> None:
        self._registry = registry
        self._store = store
        self._options = options
        self._progress = Paced(progress, options.bandwidth, cancel) if options.bandwidth else progress
        self._origin = VolumeOrigin(registry.driver)
        self._cancel = cancel
        is_local = isinstance(registry.driver, HasLocalPath) and isinstance(store.driver, HasLocalPath)
        self._jobs = options.jobs or ((os.cpu_count() or 1) if is_local else 16)
        self._state = open_state(f"backup of {registry.location}")
        self._failures: dict[Digest, tuple[str, str]] = {}
        self._stored: dict[Digest, int] = {}
        self._new_count = 0
        self._new_bytes = 0

    def run(self) -> CreateResult:
        purpose = {"source": self._registry.location, "store": self._store.id}
        journal = open_journal("backup", self._store.location, purpose)
        try:
            return self._run(journal)
        finally:
            journal.close()
            self._state.close()

    def _run(self, journal: Journal) -> CreateResult:
        scan_jobs = 1 if isinstance(self._registry.driver, HasLocalPath) else self._jobs
        source = Source(self._registry, self._state, jobs=scan_jobs, progress=self._progress, cancel=self._cancel)
        source.take()
        source.check_not_empty()
        listing = self._store.take_listing()
        self._store.remove_leftovers(listing.leftovers)
        known = self._read_snapshots(listing.snapshots)
        damaged_packs = self._store.load_packed(listing.packs)
        known.findings += [finding("pack-damaged", name, reason) for name, reason in damaged_packs.items()]
        self._find_stored(source, listing, known, journal)
        with resuming_uploads(self._store.driver, ""):  # nobody else uploads below a store
            self._store_missing(sorted(source.blobs - self._stored.keys()), source, journal)
        damage = source.find_damage(self._is_stored, self._failures)
        if self._new_count:
            damage.findings += source.reread_tags()
        blobs = {digest: self._stored[digest] for digest in self._blobs_of(source)}
        new = (self._new_count, self._new_bytes)
        snapshot = assemble_snapshot(source, known.sequence + 1, blobs, new, damage)
        self._store.write_snapshot(snapshot)
        journal.finish()
        return CreateResult(snapshot.head, [*map(BackupFinding.of_source, damage.findings), *known.findings])

    def _read_snapshots(self, files: list[SnapshotFile]) -> _Known:
        """Read what is known; of each source the newest snapshot tells the sizes of blobs."""
        known = _Known()
        sources: set[str] = set()
        for file in reversed(files):
            known.sequence = max(known.sequence, int(file.name.partition("-")[0]))
            if self._store.known_source(file) in sources:
                continue
            try:
                snapshot = self._store.load_snapshot(file)
                if snapshot.head.source not in sources:
                    known.sizes |= snapshot.blobs()
            except (SnapshotDamagedError, DriverError) as error:
                known.findings.append(finding("snapshot-damaged", file.id, str(error)))
                continue
            sources.add(snapshot.head.source)
        return known

    def _find_stored(self, source: Source, listing: Listing, known: _Known, journal: Journal) -> None:
        """Note what is stored: what a snapshot names and lies there with its size, is packed, or was found whole."""
        sizes = listing.blobs | self._store.packed.sizes()
        doubtful: list[Digest] = []
        for digest, size in sizes.items():
            recorded = known.sizes.get(digest, journal.done.get(digest))
            if recorded == size or digest in self._store.packed:
                self._stored[digest] = size
            elif recorded is None and digest in source.blobs:
                doubtful.append(digest)
        self._progress.start("data that no snapshot names", len(doubtful))
        for digest, is_good in zip(doubtful, map_bounded(self._is_whole, doubtful, self._jobs), strict=True):
            if is_good:
                self._stored[digest] = sizes[digest]
        self._progress.finish()

    def _is_whole(self, digest: Digest) -> bool:
        self._cancel.check()
        self._progress.advance()
        try:
            return is_whole(self._store.driver, layout.blob_key(digest), digest)
        except DriverError:
            return False  # it is stored again, or that fails

    def _is_stored(self, digest: Digest) -> bool:
        return digest in self._stored

    def _store_missing(self, digests: list[Digest], source: Source, journal: Journal) -> None:
        """Store data that the store does not have: small ones packed, large ones as they are."""
        if not digests:
            return
        sizes = {info.digest: info.size for info in source.volume.iter_blob_sizes(digests)}
        for digest in digests:
            if digest not in sizes:
                self._failures[digest] = ("missing", "it is gone since it was listed")
        small = [d for d, size in sizes.items() if size <= SMALL_BYTES and len(d) == 32]
        large = [Item(d, size, layout.blob_key(d)) for d, size in sizes.items() if size > SMALL_BYTES or len(d) != 32]
        self._progress.start(f"{len(sizes)} new blobs", sum(sizes.values()), "B")
        self._pack(small)
        self._copy(large, journal)
        self._progress.finish()

    def _pack(self, digests: list[Digest]) -> None:
        writer = PackWriter()
        packed: list[tuple[Digest, int]] = []
        jobs = 1 if isinstance(self._registry.driver, HasLocalPath) else self._jobs
        for digest, data in zip(digests, map_bounded(self._read_small, digests, jobs), strict=True):
            self._cancel.check()
            if data is None:
                continue
            self._progress.advance(len(data))
            writer.add(digest, data)
            packed.append((digest, len(data)))
            if writer.is_full:
                self._end_pack(writer, packed)
        if not writer.is_empty:
            self._end_pack(writer, packed)

    def _end_pack(self, writer: PackWriter, packed: list[tuple[Digest, int]]) -> None:
        pack = writer.finish()
        self._store.write_pack(pack.name, pack.data)
        for digest, size in packed:
            self._note_stored(digest, size)
        packed.clear()

    def _read_small(self, digest: Digest) -> bytes | None:
        """Read a small blob and hash it; what is wrong is read once more."""
        for pause in (SECOND_LOOK_SECONDS, None):
            try:
                data = self._origin.read(digest)
            except TooLarge as error:
                self._failures[digest] = ("corrupt", str(error))
                return None
            except NotFound as error:
                self._failures[digest] = ("missing", str(error))
                return None
            except (DriverError, StorageFailedError) as error:
                self._failures[digest] = ("unreadable", str(error))
                return None
            if is_digest_of(digest, data):
                return data
            if pause is not None:
                self._cancel.wait(pause)
        self._failures[digest] = ("corrupt", f"its {len(data)} bytes do not hash to its name")
        return None

    def _copy(self, items: list[Item], journal: Journal) -> None:
        driver = self._store.driver
        target = BulkWriter(driver.local_path("")) if isinstance(driver, HasLocalPath) else driver
        outcomes = copy_blobs(
            items,
            self._origin,
            target,
            jobs=self._jobs,
            progress=self._progress,
            cancel=self._cancel,
            journal=journal,
        )
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                self._failures[outcome.item.digest] = (outcome.kind, outcome.detail)
            else:
                self._note_stored(outcome.digest, outcome.size)
        if isinstance(target, BulkWriter):
            target.sync()

    def _note_stored(self, digest: Digest, size: int) -> None:
        self._stored[digest] = size
        self._new_count += 1
        self._new_bytes += size

    def _blobs_of(self, source: Source) -> Iterable[Digest]:
        """Return what the snapshot holds: the registry's data, and what its images need and only the store has."""
        return (source.blobs | source.needed()) & self._stored.keys()

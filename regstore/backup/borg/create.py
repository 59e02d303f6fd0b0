"""`backup create` into a borg repository: one archive of the data, then one of the snapshot alone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from regstore.backup.borg.repository import SNAPSHOT_FILE
from regstore.backup.borg.store import META, PREFIX, BorgStore
from regstore.backup.create import CreateOptions, CreateResult
from regstore.backup.select import iter_snapshots
from regstore.backup.source import Source, assemble_snapshot
from regstore.errors import UsageError
from regstore.hashing import is_whole
from regstore.layout import BlobData
from regstore.state import open_state
from regstore.transfer import Paced
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from regstore.backup.catalogue import BackupFinding
    from regstore.digest import Digest
    from regstore.registry import Registry
    from regstore.work import Progress


def create_borg_backup(
    registry: Registry,
    store: BorgStore,
    options: CreateOptions | None = None,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> CreateResult:
    """Store a snapshot of a registry in a borg repository. See `regstore.backup.create_backup`.

    borg does not know digests: data that no snapshot here names yet are hashed before they are handed to it.

    Raises:
        UsageError: the registry is no directory.
        RefusedError: the registry has no repository, or lies in the store or around it.
        LockedError, StorageFailedError: as borg says.
        InterruptedRunError: stopped on request.
    """
    if not isinstance(registry.driver, HasLocalPath):
        raise UsageError(
            f"borg reads files, and {registry.location} is no directory",
            hint="store a registry in a bucket in a native store: a directory or an s3:// URL",
        )
    store.check_apart(registry.driver)
    cancel = cancel or Cancel()
    options = options or CreateOptions()
    progress = progress or NoProgress()
    if options.bandwidth:
        progress = Paced(progress, options.bandwidth, cancel)
    return _Creation(registry, store, options, progress, cancel).run()


class _Creation:
    def __init__(
        self, registry: Registry, store: BorgStore, options: CreateOptions, progress: Progress, cancel: Cancel
    ) -> None:
        self._registry = registry
        self._store = store
        self._progress = progress
        self._cancel = cancel
        self._jobs = options.jobs or os.cpu_count() or 1
        self._failures: dict[Digest, tuple[str, str]] = {}

    def run(self) -> CreateResult:
        state = open_state(f"backup of {self._registry.location}")
        try:
            source = Source(self._registry, state, jobs=1, progress=self._progress, cancel=self._cancel)
            return self._run(source)
        finally:
            state.close()

    def _run(self, source: Source) -> CreateResult:
        source.take()
        source.check_not_empty()
        known, sequence, findings = self._read_snapshots()
        sizes = {info.digest: info.size for info in source.volume.iter_blob_sizes(sorted(source.blobs))}
        new = [digest for digest in sizes if digest not in known]
        for digest in source.blobs - sizes.keys():
            self._failures[digest] = ("missing", "it is gone since it was listed")
        self._hash(new, sizes)
        whole = {digest: size for digest, size in sizes.items() if digest not in self._failures}
        damage = source.find_damage(whole.__contains__, self._failures)
        draft = assemble_snapshot(source, sequence + 1, whole, (0, 0), [], set())
        stored = self._store_data(f"{PREFIX}{draft.head.name}", whole)
        if len(stored) < len(whole):
            damage = source.find_damage(stored.__contains__, self._failures)
        damage.findings += source.reread_tags() if new else []
        findings += damage.findings
        added = [digest for digest in new if digest in stored]
        counts = (len(added), sum(stored[digest] for digest in added))
        snapshot = assemble_snapshot(
            source, sequence + 1, stored, counts, findings, damage.broken, identity=draft.head.id
        )
        archive = f"{PREFIX}{snapshot.head.name}{META}"
        self._store.repository.create_from(archive, SNAPSHOT_FILE, snapshot.encode())
        return CreateResult(snapshot.head, findings)

    def _read_snapshots(self) -> tuple[set[Digest], int, list[BackupFinding]]:
        """Return the digests that the newest snapshot of each source names, the newest number, and the findings."""
        known: set[Digest] = set()
        sequence = 0
        findings: list[BackupFinding] = []
        sources: set[str] = set()
        for loaded in iter_snapshots(self._store, newest_first=True):
            sequence = max(sequence, int(loaded.file.name.partition("-")[0]))
            if loaded.snapshot is None:
                findings.append(loaded.finding())
            elif loaded.snapshot.head.source not in sources:
                sources.add(loaded.snapshot.head.source)
                known |= loaded.snapshot.blobs().keys()
        return known, sequence, findings

    def _hash(self, digests: list[Digest], sizes: dict[Digest, int]) -> None:
        self._progress.start(f"hashing {len(digests)} new blobs", sum(sizes[digest] for digest in digests), "B")
        for digest, problem in zip(digests, map_bounded(self._look_at, digests, self._jobs), strict=True):
            self._progress.advance(sizes[digest])
            if problem:
                self._failures[digest] = problem
        self._progress.finish()

    def _look_at(self, digest: Digest) -> tuple[str, str] | None:
        self._cancel.check()
        try:
            if is_whole(self._registry.driver, BlobData(digest).key, digest):
                return None
        except NotFound as error:
            return "missing", str(error)
        except DriverError as error:
            return "unreadable", str(error)
        return "corrupt", "its bytes do not hash to its name"

    def _store_data(self, archive: str, sizes: dict[Digest, int]) -> dict[Digest, int]:
        """Hand the data to borg, and return what it has stored: counted, not believed."""
        keys = {BlobData(digest).key: digest for digest in sorted(sizes)}
        driver = self._registry.driver
        root = driver.local_path("") if isinstance(driver, HasLocalPath) else ""
        self._progress.start("borg", sum(sizes.values()), "B")
        outcome = self._store.repository.create(
            archive, list(keys), root, self._registry.location, self._progress.advance
        )
        self._progress.finish()
        count = json.loads(outcome.output)["archive"]["stats"]["nfiles"] if outcome.output else -1
        if count == len(keys) and not outcome.code:
            return sizes
        found = self._store.repository.list_sizes(archive)
        stored = {digest: sizes[digest] for key, digest in keys.items() if found.get(key) == sizes[digest]}
        reasons = "; ".join(outcome.warnings)[:500]
        for digest in sizes.keys() - stored.keys():
            self._failures[digest] = ("unreadable", f"borg left it out: {reasons}")
        return stored

"""`backup create` into a borg repository: one archive of the data, then one of the snapshot alone.

borg does not know digests. Whatever it reads is therefore hashed by us: new data before it gets them, and afterwards
those that it says it has read though a snapshot names them already (another owner, a copied volume, a lost cache).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from regstore.backup.assembly import assemble_snapshot
from regstore.backup.borg.reading import ArchiveReader
from regstore.backup.borg.repository import SNAPSHOT_FILE
from regstore.backup.borg.store import META, PREFIX, BorgStore
from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.create import CreateOptions, CreateResult
from regstore.backup.select import iter_snapshots
from regstore.errors import LockedError, UsageError
from regstore.hashing import is_whole
from regstore.layout import BlobData
from regstore.state import open_state
from regstore.transfer import Damage, Paced, Source
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from regstore.backup.borg.outcome import Outcome
    from regstore.digest import Digest
    from regstore.registry import Registry
    from regstore.work import Progress

_UNCHANGED = "U"
_CHANGED_MEANWHILE = "C"
_SHOWN_CHARACTERS = 500


def create_borg_backup(
    registry: Registry,
    store: BorgStore,
    options: CreateOptions | None = None,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> CreateResult:
    """Store a snapshot of a registry in a borg repository. See `regstore.backup.create_backup`.

    Raises:
        UsageError: the registry is no directory.
        RefusedError: the registry has no repository, or lies in the store or around it.
        LockedError, StorageFailedError: as borg says.
        InterruptedRunError: stopped on request; the next run uses what was stored.
    """
    if not isinstance(registry.driver, HasLocalPath):
        raise UsageError(
            f"borg reads files, and {registry.location} is no directory",
            hint="store a registry in a bucket in a native store: a directory or an s3:// URL",
        )
    store.check_apart(registry.driver)
    root = registry.driver.local_path("")
    return _Creation(
        registry, root, store, options or CreateOptions(), progress or NoProgress(), cancel or Cancel()
    ).run()


class _Creation:
    def __init__(
        self,
        registry: Registry,
        root: str,
        store: BorgStore,
        options: CreateOptions,
        progress: Progress,
        cancel: Cancel,
    ) -> None:
        self._registry = registry
        self._root = root
        self._store = store
        self._progress = progress
        limit = options.bandwidth
        self._hashing = Paced(progress, limit, cancel) if limit else progress
        self._feeding: Progress = Paced(NoProgress(), limit, cancel) if limit else NoProgress()
        self._cancel = cancel
        self._jobs = options.jobs or os.cpu_count() or 1
        self._failures: dict[Digest, tuple[str, str]] = {}

    def run(self) -> CreateResult:
        state = open_state(f"backup of {self._registry.location}")
        try:
            self._store.repository.list_archives(is_locking=True)  # not after hours of hashing
            source = Source(self._registry, state, jobs=1, progress=self._progress, cancel=self._cancel)
            return self._run(source)
        finally:
            state.close()

    def _run(self, source: Source) -> CreateResult:
        source.take()
        source.check_not_empty()
        known, sequence, damaged = self._read_snapshots()
        sizes = {info.digest: info.size for info in source.volume.iter_blob_sizes(sorted(source.blobs))}
        for digest in source.blobs - sizes.keys():
            self._failures[digest] = ("missing", "it is gone since it was listed")
        new = {digest for digest in sizes if digest not in known}
        self._hash(sorted(new), sizes)
        whole = {digest: size for digest, size in sizes.items() if digest not in self._failures}
        draft = assemble_snapshot(source, sequence + 1, whole, (0, 0), Damage())
        data_archive = f"{PREFIX}{draft.head.name}"
        stored = self._store_data(data_archive, whole, new)
        damage = source.find_damage(stored.__contains__, self._failures)
        if new:
            damage.findings += source.reread_tags()
        findings = [*map(BackupFinding.of_source, damage.findings), *damaged]
        if self._store.repository.stale_locks:
            findings.append(finding("dead-run", self._store.location, "; ".join(self._store.repository.stale_locks)))
        added = new & stored.keys()
        counts = (len(added), sum(stored[digest] for digest in added))
        snapshot = assemble_snapshot(source, sequence + 1, stored, counts, damage, identity=draft.head.id)
        self._cancel.check()
        self._store.repository.create_from(f"{data_archive}{META}", SNAPSHOT_FILE, snapshot.encode())
        self._check_kept(data_archive)
        return CreateResult(snapshot.head, findings)

    def _read_snapshots(self) -> tuple[set[Digest], int, list[BackupFinding]]:
        """Return the digests that the newest snapshot of each source names, the newest number, and the findings."""
        known: set[Digest] = set()
        sequence = 0
        findings: list[BackupFinding] = []
        sources: set[str] = set()
        for loaded in iter_snapshots(self._store, newest_first=True):
            self._cancel.check()
            sequence = max(sequence, int(loaded.file.name.partition("-")[0]))
            if loaded.snapshot is None:
                findings.append(loaded.finding())
            elif loaded.snapshot.head.source not in sources:
                sources.add(loaded.snapshot.head.source)
                known |= loaded.snapshot.blobs().keys()
        return known, sequence, findings

    def _hash(self, digests: list[Digest], sizes: dict[Digest, int]) -> None:
        """Hash data of the source, and note the failures."""
        self._hashing.start(f"hashing {len(digests)} blobs", sum(sizes[digest] for digest in digests), "B")
        for digest, problem in zip(digests, map_bounded(self._look_at, digests, self._jobs), strict=True):
            self._hashing.advance(sizes[digest])
            if problem:
                self._failures[digest] = problem
        self._hashing.finish()

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

    def _store_data(self, archive: str, sizes: dict[Digest, int], hashed: Collection[Digest]) -> dict[Digest, int]:
        """Hand the data to borg, and return what it has stored: counted and hashed, not believed."""
        keys = {BlobData(digest).key: digest for digest in sorted(sizes)}
        states: dict[Digest, str] = {}

        def note(state: str, path: str) -> None:
            if path in keys:
                states[keys[path]] = state

        self._progress.start("borg", sum(sizes.values()), "B")
        outcome = self._store.repository.create(
            archive,
            self._pace(keys, sizes, hashed),
            self._root,
            self._registry.location,
            on_count=self._progress.advance,
            on_file=note,
            cancel=self._cancel,
        )
        self._progress.finish()
        stored = self._count(archive, keys, sizes, outcome)
        # Without a state: borg said nothing of it, and nobody knows.
        read = [digest for digest in stored if states.get(digest) != _UNCHANGED]
        changed = [digest for digest in read if states.get(digest) == _CHANGED_MEANWHILE]
        self._hash([digest for digest in read if digest not in hashed and digest not in changed], sizes)
        self._hash_stored(archive, changed)
        return {digest: size for digest, size in stored.items() if digest not in self._failures}

    def _pace(self, keys: dict[str, Digest], sizes: dict[Digest, int], new: Collection[Digest]) -> Iterator[str]:
        """Yield the paths, each when its data are due: borg has no limit of its own for what it reads."""
        self._feeding.start("", None, "B")
        for key, digest in keys.items():
            yield key
            if digest in new:
                self._feeding.advance(sizes[digest])

    def _count(
        self, archive: str, keys: dict[str, Digest], sizes: dict[Digest, int], outcome: Outcome
    ) -> dict[Digest, int]:
        """Return what the archive has, as far as counts and listings tell."""
        count = json.loads(outcome.output)["archive"]["stats"]["nfiles"] if outcome.output else -1
        if count == len(keys) and not outcome.code:
            return sizes
        found, _ = self._store.repository.list_files(archive)
        stored = {
            digest: sizes[digest] for key, digest in keys.items() if key in found and found[key].size == sizes[digest]
        }
        reasons = "; ".join(outcome.warnings)[:_SHOWN_CHARACTERS]
        for digest in sizes.keys() - stored.keys():
            self._failures[digest] = ("unreadable", f"borg left it out: {reasons}")
        return stored

    def _hash_stored(self, archive: str, digests: Iterable[Digest]) -> None:
        """Hash data in the archive, and note the failures."""
        for read in ArchiveReader(self._store.repository, archive, NoProgress(), self._cancel).hash(digests):
            if read.kind:
                self._failures[read.digest] = ("corrupt", f"it changed while borg read it: {read.detail}")

    def _check_kept(self, data_archive: str) -> None:
        """See that nobody deleted the data before the snapshot was written: between the two there is no lock."""
        _, archives = self._store.repository.list_archives()
        names = {archive.name for archive in archives}
        if data_archive not in names:
            self._store.repository.delete([f"{data_archive}{META}"])
            raise LockedError(
                f"another run deleted the data that this backup stored in {self._store.location}",
                hint="run again; leave --grace of prune longer than a backup takes",
            )

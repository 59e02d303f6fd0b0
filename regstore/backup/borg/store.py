"""A borg repository as a store of snapshots.

A snapshot is two archives: `regstore-<name>` with the data as the registry has them, and `regstore-<name>.meta` with
the snapshot file alone, which is made last: what has none does not exist.
"""

from __future__ import annotations

import io
import tempfile
import threading
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from regstore.backup.borg.outcome import raise_error
from regstore.backup.borg.reading import ArchiveReader
from regstore.backup.borg.repository import SNAPSHOT_FILE, Repository
from regstore.backup.cache import StoreCache
from regstore.backup.engine import SnapshotFile
from regstore.backup.layout import is_snapshot_name
from regstore.backup.snapshot import Snapshot, SnapshotDamagedError, parse_snapshot
from regstore.digest import Digest, format_digest, is_digest_of
from regstore.layout import BlobData
from regstore.registry.ends import check_apart
from regstore.transfer import Failed, Item
from regstore.work import Cancel, NoProgress
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DigestMismatch, NotFound
from regstore_drivers.filesystem import FilesystemDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from regstore.backup.borg.reading import BlobStream
    from regstore.transfer import Journal
    from regstore.work import Progress
    from regstore_drivers.base import Driver, ReadDriver

PREFIX = "regstore-"
META = ".meta"
_FLUSH_COUNT = 2000
_BUFFER_BYTES = 256 * 1024
_SPOOL_BYTES = 64 * 1024 * 1024
"""Manifests above that go to a temporary file: those of some 40,000 images are kept in memory."""


class BorgStore:
    """Snapshots in a borg repository. See `SnapshotStore` for the methods.

    Raises:
        UsageError, StorageFailedError: it cannot be opened.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.id, _ = repository.list_archives()
        self._cache = StoreCache(self.id)
        self._believes_cache = True

    @property
    def location(self) -> str:
        """`borg:` and the repository."""
        return self.repository.location

    def distrust_cache(self) -> None:
        """Read snapshots from the repository from now on, whatever this host remembers of them."""
        self._believes_cache = False

    def list_snapshots(self) -> list[SnapshotFile]:
        """List the snapshots: those whose last archive was made."""
        _, archives = self.repository.list_archives()
        found = [
            SnapshotFile(archive.name[len(PREFIX) : -len(META)], 0, archive.id)
            for archive in archives
            if archive.name.startswith(PREFIX) and archive.name.endswith(META)
        ]
        return sorted(file for file in found if is_snapshot_name(file.name))

    def load_snapshot(self, file: SnapshotFile) -> Snapshot:
        """Read a snapshot. See `SnapshotStore.load_snapshot`."""
        data = self._cache.get(file.name, file.mark) if self._believes_cache else None
        if data is not None:
            return parse_snapshot(data)
        outcome = self.repository.read_file(f"{PREFIX}{file.name}{META}", SNAPSHOT_FILE)
        if outcome.is_damage:
            raise SnapshotDamagedError(outcome.text)
        if outcome.code and not outcome.is_warning:
            raise_error(outcome, self.location, "read a snapshot of")
        snapshot = parse_snapshot(outcome.output)
        self._cache.put(file.name, file.mark, outcome.output)
        return snapshot

    def open_data(self, snapshot: Snapshot) -> BorgData:
        """Get ready to read the data of a snapshot."""
        return BorgData(self.repository, snapshot)

    def check_apart(self, driver: ReadDriver) -> None:
        """Refuse a registry in the repository or around it."""
        if self.repository.local_path:
            check_apart(driver, FilesystemDriver(self.repository.local_path), "the registry and the store")

    def close(self) -> None:
        """Do nothing: every call is a process of its own."""


class BorgData:
    """The data of a snapshot in a borg repository. See `SnapshotData` for the methods."""

    jobs = 1

    def __init__(self, repository: Repository, snapshot: Snapshot) -> None:
        self._repository = repository
        self._snapshot = snapshot
        self._archive = f"{PREFIX}{snapshot.head.name}"
        self._lock = threading.Lock()
        self._spool: IO[bytes] | None = None
        self._places: dict[Digest, tuple[int, int]] = {}

    def find_lost(self, blobs: Mapping[Digest, int]) -> dict[Digest, tuple[str, str]]:
        """Compare with the listing of the archive. See `SnapshotData.find_lost`."""
        files, problem = self._repository.list_files(self._archive)
        lost: dict[Digest, tuple[str, str]] = {}
        for digest, size in blobs.items():
            found = files.get(BlobData(digest).key)
            if found is None:
                lost[digest] = ("store-blob-missing", problem or "the archive does not have it")
            elif found.size != size:
                lost[digest] = ("store-blob-size", f"it has {found.size} bytes in the archive instead of {size}")
            elif not found.is_healthy:
                lost[digest] = ("store-blob-corrupt", "borg check --repair has put zeros where its data were lost")
        return lost

    def read_manifest(self, digest: Digest) -> bytes:
        """Return a manifest: all of the snapshot are fetched by one stream; very many go to a temporary file."""
        with self._lock:
            if self._spool is None:
                self._spool = self._fetch_manifests()
            if digest not in self._places:
                key, location = BlobData(digest).key, self._repository.location
                raise NotFound("the archive does not have it", operation="read", key=key, location=location)
            offset, size = self._places[digest]
            self._spool.seek(offset)
            return self._spool.read(size)

    def _fetch_manifests(self) -> IO[bytes]:
        spool = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115 - it lives as this does
        stored = self._snapshot.blobs()
        wanted: set[Digest] = set()
        for contents in self._snapshot.iter_contents():
            wanted.update(contents.revisions, (tag.digest for tag in contents.tags.values()))

        def keep(digest: Digest, open_stream: Callable[[], BlobStream]) -> bool:
            data = open_stream().readall()
            if not is_digest_of(digest, data):
                return False
            self._places[digest] = (spool.tell(), len(data))
            spool.write(data)
            return True

        reader = ArchiveReader(self._repository, self._archive, NoProgress(), Cancel())
        for _ in reader.read(wanted & stored.keys(), keep):
            pass  # what is not whole is not there: copying it tells why
        return spool

    def copy_blobs(
        self,
        items: Sequence[Item],
        target: Driver | BulkWriter,
        *,
        jobs: int,
        progress: Progress,
        cancel: Cancel,
        journal: Journal | None = None,
    ) -> Iterator[Item | Failed]:
        """Stream the archive, and copy what is wanted. See `SnapshotData.copy_blobs`."""
        del jobs  # one stream
        by_digest = {item.digest: item for item in items}
        done: list[Item] = []

        def write(digest: Digest, open_stream: Callable[[], BlobStream]) -> bool:
            item = by_digest[digest]
            try:
                target.write(item.key, lambda: _buffered(open_stream()), item.size, format_digest(digest))
            except DigestMismatch:
                return False
            return True

        reader = ArchiveReader(self._repository, self._archive, progress, cancel)
        is_all = len(by_digest) == self._snapshot.head.blob_count
        try:
            for read in reader.read(by_digest, write, is_all=is_all):
                item = by_digest[read.digest]
                if read.kind:
                    yield Failed(item, read.kind, read.detail)
                    continue
                done.append(item)
                if len(done) >= _FLUSH_COUNT:
                    yield from _commit(target, done, journal)
                    done.clear()
            yield from _commit(target, done, journal)
        finally:
            if isinstance(target, BulkWriter):
                target.discard()


def _buffered(stream: BlobStream) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(stream, _BUFFER_BYTES))


def _commit(target: Driver | BulkWriter, done: list[Item], journal: Journal | None) -> list[Item]:
    """Make what was written durable, and note it."""
    if isinstance(target, BulkWriter):
        target.flush()
    if journal is not None:
        journal.add((item.digest, item.size) for item in done)
    return done

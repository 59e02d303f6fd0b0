"""A borg repository as a store of snapshots.

A snapshot is two archives: `regstore-<name>` with the data as the registry has them, and `regstore-<name>.meta` with
the snapshot file alone, which is made last: what has none does not exist.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from regstore.backup.borg.repository import SNAPSHOT_FILE, Repository, iter_chunks
from regstore.backup.borg.run import raise_error
from regstore.backup.cache import StoreCache
from regstore.backup.engine import SnapshotFile
from regstore.backup.layout import is_snapshot_name
from regstore.backup.snapshot import Snapshot, SnapshotDamagedError, parse_snapshot
from regstore.digest import Digest, format_digest
from regstore.layout import BlobData, parse_key
from regstore.registry.ends import check_apart
from regstore.transfer import Failed, Item
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DigestMismatch, NotFound
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from regstore.backup.borg.run import Outcome
    from regstore.transfer import Journal
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver, ReadDriver

PREFIX = "regstore-"
META = ".meta"
_FLUSH_COUNT = 2000
_SPOOL_BYTES = 64 * 1024 * 1024
_ALL_SHARE = 0.5
"""From that share of an archive on all of it is streamed, and what is not wanted passed over."""


class BorgStore:
    """Snapshots in a borg repository. See `SnapshotStore` for the methods."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.id, _ = repository.list_archives()
        self._cache = StoreCache(self.id)

    @property
    def location(self) -> str:
        """`borg:` and the repository."""
        return self.repository.location

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
        data = self._cache.get(file.name, file.mark)
        if data is not None:
            return parse_snapshot(data)
        outcome = self.repository.read_file(f"{PREFIX}{file.name}{META}", SNAPSHOT_FILE)
        if outcome.code:
            if _is_damage(outcome):
                raise SnapshotDamagedError(outcome.text)
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
        self._spool: IO[bytes] | None = None
        self._places: dict[Digest, tuple[int, int]] = {}

    def find_lost(self, blobs: Mapping[Digest, int]) -> dict[Digest, tuple[str, str]]:
        """Compare with the listing of the archive. See `SnapshotData.find_lost`."""
        sizes = self._repository.list_sizes(self._archive)
        lost: dict[Digest, tuple[str, str]] = {}
        for digest, size in blobs.items():
            found = sizes.get(BlobData(digest).key)
            if found is None:
                lost[digest] = ("store-blob-missing", "the archive does not have it")
            elif found != size:
                lost[digest] = ("store-blob-size", f"it has {found} bytes in the archive instead of {size}")
        return lost

    def read_manifest(self, digest: Digest) -> bytes:
        """Return a manifest: all of the snapshot are fetched by one stream; very many go to a temporary file."""
        if self._spool is None:
            self._fetch_manifests()
        if digest not in self._places or self._spool is None:
            key = BlobData(digest).key
            raise NotFound(
                "the archive does not have it", operation="read", key=key, location=self._repository.location
            )
        offset, size = self._places[digest]
        self._spool.seek(offset)
        return self._spool.read(size)

    def _fetch_manifests(self) -> None:
        self._spool = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115 - it lives as this does
        stored = self._snapshot.blobs()
        wanted = {digest for contents in self._snapshot.iter_contents() for digest in contents.revisions}
        for digest, stream in self._iter_members(sorted(wanted & stored.keys())):
            offset = self._spool.tell()
            data = stream.read(stored[digest] + 1)
            self._spool.write(data)
            self._places[digest] = (offset, len(data))

    def _iter_members(self, digests: Sequence[Digest]) -> Iterator[tuple[Digest, IO[bytes]]]:
        """Stream some files of the archive, as far as they can be read."""
        wanted = set(digests)
        for chunk in iter_chunks([BlobData(digest).key for digest in digests]):
            with self._repository.export_tar(self._archive, chunk) as (stdout, _):
                for digest, stream in _iter_tar(stdout):
                    if digest in wanted:
                        yield digest, stream

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
        """Stream the archive, and copy what is wanted. See `SnapshotData.copy_blobs`.

        borg ends at the first chunk that is damaged: the file in which that is, is tried by itself, and the rest is
        streamed anew.
        """
        del jobs  # one stream
        remaining = {item.digest: item for item in sorted(items)}
        copying = _Copying(target, progress, cancel, journal)
        try:
            while remaining:
                is_damaged = yield from self._stream(remaining, copying)
                if not is_damaged:
                    yield from (Failed(item, "missing", "the archive does not have it") for item in remaining.values())
                    break
                # The archive holds them in the order of their digests: the first that is left is where it ended.
                suspect = remaining.pop(next(iter(remaining)))
                with self._repository.stream_file(self._archive, BlobData(suspect.digest).key) as (stdout, outcome):
                    is_whole = copying.copy(suspect, stdout)
                if not is_whole:
                    yield Failed(suspect, "corrupt", outcome.text if outcome.code else "other bytes came than it has")
            yield from copying.commit()
        finally:
            if isinstance(target, BulkWriter):
                target.discard()

    def _stream(self, remaining: dict[Digest, Item], copying: _Copying) -> Generator[Item | Failed, None, bool]:
        """Copy by streams until one ends early, and return whether one did."""
        keys = [BlobData(digest).key for digest in remaining]
        is_all = len(keys) >= _ALL_SHARE * self._snapshot.head.blob_count
        for chunk in [[]] if is_all else iter_chunks(keys):
            with self._repository.export_tar(self._archive, chunk) as (stdout, outcome):
                for digest, stream in _iter_tar(stdout):
                    item = remaining.get(digest)
                    if item is None:
                        continue
                    if not copying.copy(item, stream):
                        return True
                    del remaining[digest]
                    yield from copying.commit(_FLUSH_COUNT)
            if _is_damage(outcome):
                return True
            if outcome.code and not outcome.is_warning:
                raise_error(outcome, self._repository.location, "read from")
        return False


class _Copying:
    """Writes what comes, and tells of it when it is durable."""

    def __init__(
        self, target: Driver | BulkWriter, progress: Progress, cancel: Cancel, journal: Journal | None
    ) -> None:
        self._target = target
        self._progress = progress
        self._cancel = cancel
        self._journal = journal
        self._done: list[Item] = []

    def copy(self, item: Item, stream: IO[bytes]) -> bool:
        """Write a blob; False when other bytes came, and nothing was written."""
        sources = [cast("BinaryIO", io.BufferedReader(_Member(stream, self._progress, self._cancel)))]
        try:
            # A stream cannot be opened twice: a retry finds nothing, and the blob is tried by itself.
            self._target.write(
                item.key, lambda: sources.pop() if sources else io.BytesIO(), item.size, format_digest(item.digest)
            )
        except DigestMismatch:
            return False
        self._done.append(item)
        return True

    def commit(self, at_least: int = 1) -> Iterator[Item]:
        """Yield what is durable, when so much has come."""
        if len(self._done) < at_least:
            return
        if isinstance(self._target, BulkWriter):
            self._target.flush()
        if self._journal is not None:
            self._journal.add((item.digest, item.size) for item in self._done)
        yield from self._done
        self._done.clear()


class _Member(PieceStream):
    """A file in a stream; one that breaks off just ends."""

    def __init__(self, stream: IO[bytes], progress: Progress, cancel: Cancel) -> None:
        self._stream = stream
        self._progress = progress
        self._cancel = cancel

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end."""
        self._cancel.check()
        try:
            piece = self._stream.read(size)
        except (tarfile.TarError, OSError):
            return b""
        self._progress.advance(len(piece))
        return piece


def _iter_tar(stdout: IO[bytes]) -> Iterator[tuple[Digest, IO[bytes]]]:
    """Yield digest and content of the blobs in a tar stream, until it ends or breaks off."""
    try:
        with tarfile.open(fileobj=stdout, mode="r|") as archive:
            for member in archive:
                spec = parse_key(member.name)
                stream = archive.extractfile(member)
                if isinstance(spec, BlobData) and stream is not None:
                    yield spec.digest, stream
    except (tarfile.TarError, EOFError):
        return  # the outcome of the program says why


def _is_damage(outcome: Outcome) -> bool:
    """Tell whether borg ended since data in the repository are damaged or gone."""
    words = ("ntegrity", "Object with key", "inconsistent", "not found in repository", "Data integrity")
    return outcome.code not in (0, 1) and (
        "IntegrityError" in outcome.ids or any(word in outcome.text for word in words)
    )

"""Copying blobs: in parallel, hashed while they stream, with a final name only when they are whole.

What cannot be read, or has other bytes than its digest says, is told and left out; the rest goes on. A target that
fails ends the copy: nothing that was begun has a name then.
"""

from __future__ import annotations

import io
import threading
import time
from contextlib import closing, contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from regstore.digest import Digest, format_digest
from regstore.errors import StorageFailedError
from regstore.transfer.pace import PIECE_BYTES, Paced
from regstore.work import map_bounded
from regstore_drivers.bulk import SYNC_BYTES, BulkWriter
from regstore_drivers.errors import DigestMismatch, DriverError, NotFound
from regstore_drivers.streams import IntoStream, read_into

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import WriteableBuffer

    from regstore.transfer.journal import Journal
    from regstore.transfer.server_copying import CopyingServer
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver

SECOND_LOOK_SECONDS = 0.2
"""A registry of the 2.x line writes manifests in place: what does not hash to its name is read again after that."""

_BATCH_COUNT = 10_000
_GROUP_COUNT = 128
_BATCH_SECONDS = 5.0


class Item(NamedTuple):
    """A blob that is to be copied: its digest, its bytes as the origin's listing tells, and its key at the target."""

    digest: Digest
    size: int
    key: str


class Failed(NamedTuple):
    """A blob that was not copied. `kind` is `missing`, `corrupt` or `unreadable`."""

    item: Item
    kind: str
    detail: str


class BlobOrigin(Protocol):
    """Where blobs are read. Safe to use from several threads."""

    @property
    def is_local(self) -> bool:
        """Whether they lie on a file system."""

    def size(self, digest: Digest) -> int:
        """Return the bytes of a blob.

        Raises:
            NotFound: it is not there.
            DriverError, StorageFailedError: it cannot be read.
        """

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob; the caller closes the stream.

        Raises:
            NotFound: it is not there.
            DriverError, StorageFailedError: it cannot be read.
        """

    def path(self, digest: Digest) -> str | None:
        """Return the file that holds exactly the blob, or None where it is no plain file."""

    def content(self, digest: Digest) -> bytes | None:
        """Return a blob that is best read at once, because others lie beside it; None: `open` it.

        Raises:
            DriverError, StorageFailedError: it cannot be read.
        """


def copy_blobs(
    items: Iterable[Item],
    origin: BlobOrigin,
    target: Driver | BulkWriter,
    *,
    jobs: int,
    progress: Progress,
    cancel: Cancel,
    journal: Journal | None = None,
    server: CopyingServer | None = None,
    server_progress: Progress | None = None,
) -> Iterator[Item | Failed]:
    """Copy blobs, and yield the outcome of each as soon as it is durable. The iterator must be consumed.

    An object that is there already is replaced, at the moment in which its successor is whole.

    Args:
        items: what to copy; taken lazily, and told in their order, but for small files between file systems.
        origin: where from.
        target: where to.
        jobs: how many at once.
        progress: told of every byte; the caller begins and ends the phase.
        cancel: asked between two pieces.
        journal: told what is durable.
        server: tries first to copy without this host.
        server_progress: told of bytes that did not pass this host; None: `progress` is.

    Raises:
        DriverError: the target failed.
        InterruptedRunError: somebody asked to stop.
    """
    if isinstance(progress, Paced):
        jobs = progress.jobs_within(jobs)
    copier = _Copier(origin, target, progress, cancel, server, server_progress or progress)
    done: list[Item | Failed] = []
    began = time.monotonic()
    try:
        groups = _share_out(items) if isinstance(target, BulkWriter) and origin.is_local else ([item] for item in items)
        with closing(map_bounded(copier.copy_all, groups, jobs)) as outcomes:  # no thread writes when it has ended
            for group in outcomes:
                done += group
                if len(done) >= _BATCH_COUNT or time.monotonic() - began >= _BATCH_SECONDS:
                    yield from _commit(target, done, journal)
                    done, began = [], time.monotonic()
        yield from _commit(target, done, journal)
    finally:
        if isinstance(target, BulkWriter):
            target.discard()


def _share_out(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Return small files in groups, and each large one alone, evenly mixed: while one is hashed others are written."""
    small: list[Item] = []
    large: list[list[Item]] = []
    for item in items:
        if item.size < SYNC_BYTES:
            small.append(item)
        else:
            large.append([item])
    groups = [small[start : start + _GROUP_COUNT] for start in range(0, len(small), _GROUP_COUNT)]
    mixed = [(place / len(kind), group) for kind in (groups, large) for place, group in enumerate(kind)]
    mixed.sort(key=itemgetter(0))
    return map(itemgetter(1), mixed)


def _commit(target: Driver | BulkWriter, done: list[Item | Failed], journal: Journal | None) -> list[Item | Failed]:
    if isinstance(target, BulkWriter):
        target.flush()
    if journal is not None:
        journal.add((item.digest, item.size) for item in done if isinstance(item, Item))
    return done


class _OriginFailedError(Exception):
    """The origin failed: never an error of the target, and no reason for it to try again."""

    def __init__(self, kind: str, error: Exception) -> None:
        super().__init__(str(error))
        self.kind = kind


@contextmanager
def _blaming_origin() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise _OriginFailedError("missing", error) from error
    except (DriverError, StorageFailedError) as error:
        raise _OriginFailedError("unreadable", error) from error


class _Copier:
    def __init__(
        self,
        origin: BlobOrigin,
        target: Driver | BulkWriter,
        progress: Progress,
        cancel: Cancel,
        server: CopyingServer | None,
        server_progress: Progress,
    ) -> None:
        self._origin = origin
        self._target = target
        self._progress = progress
        self._cancel = cancel
        self._server = server
        self._server_progress = server_progress
        self._lock = threading.Lock()

    def copy_all(self, items: list[Item]) -> list[Item | Failed]:
        """Copy a group of blobs."""
        if len(items) == 1 or not isinstance(self._target, BulkWriter):
            return [self.copy(item) for item in items]
        with self._target.small_lane:
            return [self.copy(item) for item in items]

    def copy(self, item: Item) -> Item | Failed:
        """Copy one blob; what seems corrupt is read once more, at the size that it has then."""
        self._cancel.check()
        if self._server is not None and self._server.copy(item, self.took, self._was_spared):
            return item
        try:
            try:
                return self._copy(item)
            except DigestMismatch:
                self._cancel.wait(SECOND_LOOK_SECONDS)
                return self._copy(item._replace(size=self._size(item.digest)))
        except DigestMismatch as error:
            return Failed(item, "corrupt", error.reason)
        except _OriginFailedError as error:
            return Failed(item, error.kind, str(error))

    def _copy(self, item: Item) -> Item:
        self._cancel.check()
        path = self._origin.path(item.digest) if isinstance(self._target, BulkWriter) else None
        digest = format_digest(item.digest)
        if path is not None and isinstance(self._target, BulkWriter):
            try:
                self._target.copy_file(item.key, path, item.size, digest, self.took)
            except NotFound as error:
                raise _OriginFailedError("missing", error) from error
            except DriverError:
                raise
            except OSError as error:
                raise _OriginFailedError("unreadable", error) from error
            return item
        with _blaming_origin():
            content = self._origin.content(item.digest)
        if content is None:
            self._target.write(item.key, lambda: self._open(item.digest), item.size, digest)
        else:
            self._target.write(item.key, content, item.size, digest)
            self._advance(len(content))
        return item

    def _open(self, digest: Digest) -> BinaryIO:
        with _blaming_origin():
            stream = self._origin.open(digest)
        return io.BufferedReader(_OriginStream(stream, self), PIECE_BYTES)

    def _size(self, digest: Digest) -> int:
        with _blaming_origin():
            return self._origin.size(digest)

    def _advance(self, count: int) -> None:
        with self._lock:
            self._progress.advance(count)

    def _was_spared(self, count: int) -> None:
        with self._lock:
            self._server_progress.advance(count)

    def took(self, count: int) -> None:
        """Note that so many bytes came, and stop when asked to."""
        self._cancel.check()
        self._advance(count)


class _OriginStream(IntoStream):
    """The stream of an origin, with its errors told from those of the target."""

    def __init__(self, stream: BinaryIO, copier: _Copier) -> None:
        self._stream = stream
        self._copier = copier

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as one piece goes, and return how many bytes came; 0 only at the end."""
        with memoryview(buffer) as view:
            try:
                count = read_into(self._stream, view[:PIECE_BYTES])
            except (DriverError, StorageFailedError) as error:
                raise _OriginFailedError("unreadable", error) from error
        self._copier.took(count)
        return count

    def close(self) -> None:
        """Close the stream of the origin."""
        if not self.closed:
            self._stream.close()
        super().close()

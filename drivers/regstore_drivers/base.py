"""The contract of a storage driver: value types, the two interfaces, and the optional powers.

A *key* is a relative path with `/` between its components, as in `docker/registry/v2/blobs/sha256/ab/...`.
A *prefix* is the start of a key: empty for everything, else it ends with `/` when a directory is meant.
All methods are synchronous and safe to call from several threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

READ_LIMIT_BYTES = 16 * 1024 * 1024
"""The default limit of `read`: four times the largest manifest that a registry accepts."""

Source = bytes | Callable[[], BinaryIO]
"""What `write` stores: bytes, or a function that opens the stream anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object, as a listing or `stat` shows it.

    Attributes:
        key: its key.
        size: bytes.
        mtime: seconds since the epoch (UTC) at which its content was last written; on S3 LastModified.
        etag: the storage's entity tag without quotes, or None. On a file system None.
        version: the storage's version id, or None.
        ctime: seconds since the epoch at which the object last changed in any way, a rename included; where the
            storage has no such time it equals `mtime`.
    """

    key: str
    size: int
    mtime: float
    etag: str | None = None
    version: str | None = None
    ctime: float = 0.0

    @property
    def newest(self) -> float:
        """The newer of the two times: the age of an object counts from here."""
        return max(self.mtime, self.ctime)


@dataclass(frozen=True, slots=True)
class Deleted:
    """The outcome of deleting one key: `gone`, `absent` (it was not there) or `failed` with the reason.

    `retryable` says of a failure that the same call may succeed in a moment.
    """

    key: str
    outcome: str
    reason: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload to an object store that was begun and neither completed nor aborted.

    `initiated` is in seconds since the epoch; `size` the bytes of its parts, or None when not asked for.
    """

    key: str
    upload_id: str
    initiated: float
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """Size and free space of the storage below the root, in bytes and inodes; None where it has no such limit."""

    total_bytes: int | None
    free_bytes: int | None
    total_inodes: int | None
    free_inodes: int | None


class ReadDriver(ABC):
    """The reading half of a driver: what marking, checking and reporting may hold."""

    scheme: str
    """The URL scheme, such as `file` or `s3`."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The root as a URL without credentials, for messages, plans and logs."""

    @abstractmethod
    def stat(self, key: str) -> Entry:
        """Describe one object.

        Raises:
            NotFound: there is no such object; a directory is not an object.
            InvalidKey, DriverError: see the classes.
        """

    @abstractmethod
    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield every object whose key starts with `prefix` and sorts after `start_after`.

        Lazy, in byte order of the full key (so that a directory sorts as `name/`), each key once, no request per
        key. A prefix under which nothing is stored yields nothing. A failure raises; a listing never just ends.
        An object that vanishes during the walk may be left out.
        """

    @abstractmethod
    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below `prefix` (which is empty or ends with `/`), in byte order, without stat.

        A name that is a directory ends with `/`; a name that is both an object and a directory comes twice.
        """

    @abstractmethod
    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object.

        Raises:
            NotFound: there is no such object.
            TooLarge: it has more than `limit` bytes; never a truncation.
        """

    @abstractmethod
    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream over `length` bytes from `offset` (None: to the end).

        Its reads raise ShortRead when the storage ends before the promised size. The caller closes it.

        Raises:
            NotFound: there is no such object.
            DriverError: the range does not lie inside the object.
        """

    def close(self) -> None:
        """Free connections. Using the driver afterwards is an error of the caller."""
        return


class Driver(ReadDriver):
    """A whole driver."""

    @abstractmethod
    def write(
        self,
        key: str,
        source: Source,
        size: int,
        digest: str | None = None,
        *,
        if_absent: bool = False,
        mtime_ns: int | None = None,
    ) -> Entry:
        """Store an object: all of it, durable when this returns, or nothing.

        The bytes are counted and, when `digest` (`sha256:<hex>`, any algorithm of hashlib) is given, hashed while they
        stream; a mismatch leaves the former object, or none.

        Args:
            key: where.
            source: the content.
            size: its bytes.
            digest: what it hashes to.
            if_absent: an object that exists stays.
            mtime_ns: the modification time that the object shall show, in nanoseconds since the epoch; where the
                storage sets the time itself it is noted in the object's metadata (`mtime`, as rclone does).

        Raises:
            AlreadyExists: `if_absent` and the key exists.
            DigestMismatch: other bytes than promised came.
        """

    @abstractmethod
    def copy(self, src: str, dst: str) -> Entry:
        """Copy inside the store, with the object's own attributes (owner, mode and times; metadata, storage class).

        An existing `dst` is replaced. Durable when this returns.

        Raises:
            NotFound: there is no `src`.
        """

    @abstractmethod
    def move(self, src: str, dst: str) -> None:
        """Rename without overwriting: rename on a file system; copy, verify, delete on an object store.

        Raises:
            NotFound: there is no `src`.
            AlreadyExists: there is a `dst`.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete objects, in batches where the store can, never a directory, and yield one outcome per key.

        The iterator must be consumed for the work to be done. A key that cannot be deleted is an outcome, not an error;
        a storage that cannot be reached at all raises.
        """


@runtime_checkable
class HasLocalPath(Protocol):
    """The objects are plain files."""

    def local_path(self, key: str) -> str:
        """Return the absolute path of a key (or prefix)."""


@runtime_checkable
class HasTransferOptions(Protocol):
    """The storage is reached over connections, and the caller decides how many, and how large one request may be."""

    def with_transfer_options(self, *, jobs: int, multipart_threshold: int | None = None) -> Driver:
        """Return a driver of the same place.

        Args:
            jobs: how many requests may run at the same time.
            multipart_threshold: bytes above which objects are written in parts; None leaves it as it is.
        """


@runtime_checkable
class HasCapacity(Protocol):
    """The storage knows its size."""

    def capacity(self) -> Capacity:
        """Return size and free space."""


@runtime_checkable
class HasClock(Protocol):
    """The storage tells its own time without being written to."""

    def now(self) -> float:
        """Return the storage's time in seconds since the epoch (the Date of an answer)."""


@dataclass(frozen=True, slots=True)
class WriteFeatures:
    """What a server can do to keep writes safe.

    Attributes:
        has_checksums: it checks the SHA-256 that an upload carries.
        has_conditions: of two writers with `if_absent` one wins.
    """

    has_checksums: bool
    has_conditions: bool


@runtime_checkable
class HasWriteFeatures(Protocol):
    """The storage is a server of one make or another."""

    def probe_writes(self, directory: str) -> WriteFeatures:
        """Find out, with an object that is written below `directory` (empty, or with a slash at its end) and
        deleted again, what it can do."""


@dataclass(frozen=True, slots=True)
class CopyFeatures:
    """What a server can do to copy from another place on it.

    Attributes:
        has_copies: it copies an object with one request.
        has_part_copies: it copies larger ones in parts.
        has_checksums: it tells the SHA-256 of the whole that it copied with one request.
        refusal: why it does not copy; empty where it does.
    """

    has_copies: bool
    has_part_copies: bool
    has_checksums: bool
    refusal: str = ""


@runtime_checkable
class HasServerCopy(Protocol):
    """The storage is a server that may hold other stores too, and takes objects from them by itself."""

    def is_same_server(self, location: str) -> bool:
        """Tell, without a request, whether a driver's `location` seems to be on the same server."""

    def copy_from(self, source: Entry, location: str, key: str) -> str | None:
        """Copy from another store on the same server; the bytes do not pass here, and nothing is verified.

        The object gets the attributes that `write` gives. Where the server knows conditional writes, one that is
        there already stays.

        Args:
            source: its key there and its size; with an entity tag it is copied only as long as it has that one, where
                the server knows such conditions.
            location: that of the other store's driver.
            key: where to.

        Returns:
            The digest (`sha256:<hex>`) of the whole object, computed by the server as it copied; None where it tells
            none: then only reading the copy tells whether it is what it should be.

        Raises:
            CopyRefused: the server may not or cannot copy from there.
            NotFound: there is no such source.
            DriverError: the source changed, there is such an object, or it failed.
        """

    def probe_copies(self, source: Entry, location: str, directory: str) -> CopyFeatures:
        """Find out what the server can do, by copies of an object of at least one byte that are deleted again.

        Args:
            source, location: see `copy_from`.
            directory: where the copies may lie: empty, or with a slash at its end.
        """


@runtime_checkable
class HasSmallListing(Protocol):
    """The storage is asked for listings page by page: a few objects cost one request, many cost several."""

    def list_small(self, prefix: str) -> list[Entry] | None:
        """Return what `list` yields if it is little enough for one request; None where it is more."""


@runtime_checkable
class HasMultipart(Protocol):
    """The storage keeps incomplete multipart uploads."""

    def list_multipart(self, prefix: str) -> Iterator[MultipartUpload]:
        """Yield the incomplete uploads of keys that start with `prefix`."""

    def abort_multipart(self, upload: MultipartUpload) -> bool:
        """Abort one; False when it was gone already."""


@runtime_checkable
class HasMultipartResume(Protocol):
    """The storage can go on with an incomplete upload of ours."""

    def resume_multipart(self, upload: MultipartUpload) -> None:
        """Let the next write of that key go on with an upload, if there is a use for it.

        Its source is read and hashed as ever; a finished part is not sent again when it is the same. For uploads only
        that the caller knows to be its own: one that a registry has open must not be completed by another.
        """

    def watch_multipart(self, on_begin: Callable[[MultipartUpload], object] | None) -> None:
        """Call this with every upload that a write begins, before its first part is sent; None: no more."""


@runtime_checkable
class HasMultipartSize(Protocol):
    """The storage tells the size of incomplete multipart uploads, each for a request or more."""

    def multipart_size(self, upload: MultipartUpload) -> int:
        """Return the bytes of its parts; 0 when it is gone."""


@runtime_checkable
class HasVersions(Protocol):
    """The storage may keep former versions of what is deleted."""

    def is_versioned(self) -> bool:
        """Tell whether deleting leaves a version behind."""


@runtime_checkable
class HasStoredChecksum(Protocol):
    """The storage keeps a checksum of the whole object that it computed or verified itself."""

    def stored_checksum(self, key: str) -> str | None:
        """Return `sha256:<hex>` of the full object, or None when the storage has none."""


@runtime_checkable
class HasKeptTime(Protocol):
    """The storage sets times itself, and keeps in an object's metadata the one that `write(mtime_ns=...)` was given."""

    def kept_mtime_ns(self, key: str) -> int | None:
        """Return that time in nanoseconds since the epoch, or None when none is kept.

        Raises:
            NotFound: there is no such object.
        """


@runtime_checkable
class HasDirectories(Protocol):
    """The storage has real directories, which stay when they are empty."""

    def remove_empty_directory(self, prefix: str) -> bool:
        """Remove one directory if it is empty; False when it is not empty or not there.

        Only for directories into which nobody writes at that moment.
        """

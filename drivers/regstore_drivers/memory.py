"""Objects in this process's memory: an object store for tests and trials.

A key may be an object and the directory of others at the same time, as on S3.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from regstore_drivers.base import READ_LIMIT_BYTES, Deleted, Driver, Entry, MultipartUpload, Source
from regstore_drivers.content import iter_promised
from regstore_drivers.errors import AlreadyExists, DriverError, InvalidKey, NotFound, TooLarge
from regstore_drivers.keys import check_key, check_prefix, sort_key

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator

_PAGE_KEYS = 1000


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    entry: Entry


class MemoryDriver(Driver):
    """A driver over a dictionary.

    Powers: HasClock, HasMultipart, HasSmallListing.

    Args:
        name: the rest of its location.
        clock: tells the time of writes, in seconds since the epoch.
    """

    scheme = "memory"

    def __init__(self, name: str = "unnamed", *, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.RLock()
        self._objects: dict[str, _Object] = {}
        self._sorted: list[bytes] = []
        self._uploads: dict[str, MultipartUpload] = {}
        self._upload_count = 0

    @property
    def location(self) -> str:
        """`memory://` and the name."""
        return f"memory://{self._name}"

    def stat(self, key: str) -> Entry:
        """Describe one object. See `ReadDriver.stat`."""
        return self._get("stat", key).entry

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield entries a page at a time, as they are when their page is taken. See `ReadDriver.list`."""
        check_prefix(prefix, "list", self.location)
        return self._list(sort_key(prefix), sort_key(start_after))

    def _list(self, prefix: bytes, after: bytes) -> Iterator[Entry]:
        while True:
            with self._lock:
                start = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, after))
                names = [name for name in self._sorted[start : start + _PAGE_KEYS] if name.startswith(prefix)]
                page = [self._objects[_text(name)].entry for name in names]
            yield from page
            if len(page) < _PAGE_KEYS:
                return
            after = names[-1]

    def list_small(self, prefix: str) -> builtins.list[Entry] | None:
        """Return the entries if they are one page at most. See `HasSmallListing.list_small`."""
        check_prefix(prefix, "list_small", self.location)
        found = [*islice(self._list(sort_key(prefix), b""), _PAGE_KEYS + 1)]
        return found if len(found) <= _PAGE_KEYS else None

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield names one level down. See `ReadDriver.list_dir`."""
        if prefix and not prefix.endswith("/"):
            raise self._error("list_dir", prefix, InvalidKey, "it does not end with a slash")
        check_prefix(prefix, "list_dir", self.location)
        return self._list_dir(sort_key(prefix))

    def _list_dir(self, prefix: bytes) -> Iterator[str]:
        wanted = prefix
        while True:
            with self._lock:
                position = bisect_left(self._sorted, wanted)
                key = self._sorted[position] if position < len(self._sorted) else b""
            if not key.startswith(prefix) or key == b"":
                return
            name, slash, _ = key[len(prefix) :].partition(b"/")
            yield _text(name + slash)
            # The first key after everything below the directory: `0` is the byte after the slash.
            wanted = prefix + name + b"0" if slash else key + b"\0"

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object. See `ReadDriver.read`."""
        data = self._get("read", key).data
        if len(data) > limit:
            raise self._error("read", key, TooLarge, f"{len(data)} bytes are more than the limit of {limit}")
        return data

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream over the bytes as they are now. See `ReadDriver.open`."""
        data = self._get("open", key).data
        end = len(data) if length is None else offset + length
        if not 0 <= offset <= end <= len(data):
            raise self._error("open", key, DriverError, f"bytes {offset} to {end} do not lie in its {len(data)}")
        return io.BytesIO(data[offset:end])

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
        """Store an object. See `Driver.write`."""
        check_key(key, "write", self.location)
        if if_absent and key in self._objects:
            raise self._error("write", key, AlreadyExists, "it exists already")
        data = b"".join(map(bytes, iter_promised(source, size, digest, key=key, location=self.location)))
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        with self._lock:
            if if_absent and key in self._objects:
                raise self._error("write", key, AlreadyExists, "it exists already")
            now = self._clock()
            mtime = now if mtime_ns is None else mtime_ns / 1e9
            return self._put(_Object(data, Entry(key, len(data), mtime, etag, None, now)))

    def copy(self, src: str, dst: str) -> Entry:
        """Copy an object with its time. See `Driver.copy`."""
        check_key(dst, "copy", self.location)
        with self._lock:
            return self._put(self._renamed(self._get("copy", src), dst))

    def move(self, src: str, dst: str) -> None:
        """Rename an object. See `Driver.move`."""
        check_key(dst, "move", self.location)
        with self._lock:
            moved = self._get("move", src)
            if dst in self._objects:
                raise self._error("move", dst, AlreadyExists, "it exists already")
            self._put(self._renamed(moved, dst))
            self._remove(src)

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Forget objects. See `Driver.delete`."""
        for key in keys:
            try:
                check_key(key, "delete", self.location)
            except InvalidKey as error:
                yield Deleted(key, "failed", error.reason)
                continue
            with self._lock:
                is_there = key in self._objects
                if is_there:
                    self._remove(key)
            yield Deleted(key, "gone" if is_there else "absent")

    def now(self) -> float:
        """Return the time of the clock."""
        return self._clock()

    def begin_multipart(self, key: str, *, size: int | None = None, initiated: float | None = None) -> MultipartUpload:
        """Leave an incomplete upload behind, as a writer that died does.

        Args:
            key: the object that it was to become.
            size: bytes of its parts.
            initiated: when it began; None for now.
        """
        check_key(key, "begin_multipart", self.location)
        with self._lock:
            self._upload_count += 1
            begun = self._clock() if initiated is None else initiated
            upload = MultipartUpload(key, f"upload-{self._upload_count:08}", begun, size)
            self._uploads[upload.upload_id] = upload
            return upload

    def list_multipart(self, prefix: str) -> Iterator[MultipartUpload]:
        """Yield the incomplete uploads in byte order of their keys. See `HasMultipart.list_multipart`."""
        check_prefix(prefix, "list_multipart", self.location)
        with self._lock:
            uploads = [upload for upload in self._uploads.values() if upload.key.startswith(prefix)]
        yield from sorted(uploads, key=lambda upload: (sort_key(upload.key), upload.upload_id))

    def abort_multipart(self, upload: MultipartUpload) -> bool:
        """Forget an incomplete upload. See `HasMultipart.abort_multipart`."""
        with self._lock:
            return self._uploads.pop(upload.upload_id, None) is not None

    def multipart_size(self, upload: MultipartUpload) -> int:
        """Return the bytes of the parts of an incomplete upload. See `HasMultipartSize.multipart_size`."""
        with self._lock:
            found = self._uploads.get(upload.upload_id)
            return (found.size or 0) if found else 0

    def _get(self, operation: str, key: str) -> _Object:
        check_key(key, operation, self.location)
        try:
            return self._objects[key]
        except KeyError:
            raise self._error(operation, key, NotFound, "there is no such object") from None

    def _put(self, item: _Object) -> Entry:
        key = item.entry.key
        if key not in self._objects:
            insort(self._sorted, sort_key(key))
        self._objects[key] = item
        return item.entry

    def _remove(self, key: str) -> None:
        del self._objects[key]
        del self._sorted[bisect_left(self._sorted, sort_key(key))]

    def _renamed(self, item: _Object, key: str) -> _Object:
        old = item.entry
        return _Object(item.data, Entry(key, old.size, old.mtime, old.etag, old.version, self._clock()))

    def _error(self, operation: str, key: str, kind: type[DriverError], reason: str) -> DriverError:
        return kind(reason, operation=operation, key=key, location=self.location)


_shared: dict[str, MemoryDriver] = {}
_shared_lock = threading.Lock()


def from_url(url: str) -> MemoryDriver:
    """Open `memory://name`: the same driver for the same name, as long as the process lives.

    Raises:
        ValueError: it is not such a URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "memory" or not parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError(f"not the URL of a memory driver: {url!r}; write memory://NAME")
    with _shared_lock:
        return _shared.setdefault(parts.netloc, MemoryDriver(parts.netloc))


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")

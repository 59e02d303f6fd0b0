"""A driver that counts what is asked of it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from regstore_drivers.base import READ_LIMIT_BYTES, Driver, Entry, Source
from regstore_drivers.wrappers._forwarding import Forwarding
from regstore_drivers.wrappers._watched import watch_source, watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Counting(Forwarding):
    """Counts calls by operation, and the bytes of contents; from any number of threads.

    A listing and a batch of deletions are one call each. Copies that the storage makes by itself count no bytes.

    Never HasLocalPath: readers would go past the wrapper.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._bytes_read = 0
        self._bytes_written = 0

    @property
    def counts(self) -> dict[str, int]:
        """The calls of each operation that was called, as they are now."""
        with self._lock:
            return dict(self._counts)

    @property
    def bytes_read(self) -> int:
        """How many bytes `read` and the streams of `open` gave."""
        with self._lock:
            return self._bytes_read

    @property
    def bytes_written(self) -> int:
        """How many bytes `write` took from its sources, those of failed tries included."""
        with self._lock:
            return self._bytes_written

    def reset(self) -> None:
        """Count from nothing again."""
        with self._lock:
            self._counts.clear()
            self._bytes_read = self._bytes_written = 0

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        with self._lock:
            self._counts[operation] += 1
        return call()

    def _add_read(self, count: int) -> None:
        with self._lock:
            self._bytes_read += count

    def _add_written(self, count: int) -> None:
        with self._lock:
            self._bytes_written += count

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object. See `ReadDriver.read`."""
        data = super().read(key, limit)
        self._add_read(len(data))
        return data

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream whose bytes are counted as they are read. See `ReadDriver.open`."""
        return watch_stream(super().open(key, offset, length), self._add_read)

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
        return super().write(
            key, watch_source(source, self._add_written), size, digest, if_absent=if_absent, mtime_ns=mtime_ns
        )

"""A driver that is slower than it could be."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from regstore_drivers.base import READ_LIMIT_BYTES, Driver, Entry, Source
from regstore_drivers.wrappers._forwarding import Forwarding
from regstore_drivers.wrappers._watched import watch_source, watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Throttled(Forwarding):
    """Lets through so many bytes a second, reads and writes of all threads together, by a token bucket.

    Copies that the storage makes by itself are not throttled: their bytes do not pass here.

    Never HasLocalPath: readers would go past the wrapper.

    Args:
        driver: the driver to call.
        bytes_per_second: the rate; None for no limit.
        burst_bytes: what may pass at once after a quiet time; None for what passes in one second.
        latency_seconds: a pause before each call, as a distant storage has (for benches).
        clock: a clock that never goes back.
        sleep: waits so many seconds.

    Raises:
        ValueError: the rate or the burst is not above zero, or the latency below it.
    """

    def __init__(
        self,
        driver: Driver,
        bytes_per_second: float | None,
        *,
        burst_bytes: float | None = None,
        latency_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if latency_seconds < 0:
            raise ValueError(f"the latency must not be below 0, as {latency_seconds} is")
        super().__init__(driver)
        self._latency_seconds = latency_seconds
        self._sleep = sleep
        self._bucket = None
        if bytes_per_second is not None:
            self._bucket = Bucket(bytes_per_second, bytes_per_second if burst_bytes is None else burst_bytes, clock)

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        if self._latency_seconds:
            self._sleep(self._latency_seconds)
        return call()

    def _pass(self, count: int) -> None:
        if self._bucket is not None and (seconds := self._bucket.take(count)) > 0:
            self._sleep(seconds)

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object. See `ReadDriver.read`."""
        data = super().read(key, limit)
        self._pass(len(data))
        return data

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream that gives its bytes at the rate. See `ReadDriver.open`."""
        return watch_stream(super().open(key, offset, length), self._pass)

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
        """Store an object, from a source that gives its bytes at the rate. See `Driver.write`."""
        return super().write(
            key, watch_source(source, self._pass), size, digest, if_absent=if_absent, mtime_ns=mtime_ns
        )


class Bucket:
    """Tokens, one for each byte, that come at a rate up to a limit; who takes more than there are owes them.

    Args:
        rate: bytes a second.
        limit: what may be taken at once after a quiet time.
        clock: a clock that never goes back.

    Raises:
        ValueError: the rate or the limit is not above zero.
    """

    def __init__(self, rate: float, limit: float, clock: Callable[[], float]) -> None:
        if rate <= 0 or limit <= 0:
            raise ValueError(f"rate and burst must be above 0, not {rate} and {limit}")
        self._rate = rate
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = limit
        self._filled = clock()

    def take(self, count: int) -> float:
        """Take tokens and return the seconds until they are paid for."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._limit, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            self._tokens -= count
            return max(0.0, -self._tokens / self._rate)

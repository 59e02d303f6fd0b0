"""A limit on the bytes a second of a copy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from regstore.bandwidth import Timetable
from regstore_drivers.wrappers.throttled import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.bandwidth import Bandwidth
    from regstore.work import Cancel, Progress


PIECE_BYTES = 256 * 1024
"""How many bytes at most are told at once."""
_PAUSE_SECONDS = 5


class Paced:
    """A progress that keeps whoever tells it of bytes waiting until they are due. See `Progress`.

    Args:
        progress: told of everything.
        bandwidth: the limit, of all threads together.
        cancel: ends a wait.
        clock: seconds since the epoch.
    """

    def __init__(
        self, progress: Progress, bandwidth: Bandwidth, cancel: Cancel, clock: Callable[[], float] = time.time
    ) -> None:
        self._progress = progress
        self._cancel = cancel
        self._bandwidth = bandwidth
        self._clock = clock
        self._counts_bytes = False
        self._rate: int | None = None
        self._bucket: Bucket | None = None

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Begin a phase; only one that counts bytes is held back."""
        self._counts_bytes = unit == "B"
        self._progress.start(phase, total, unit)

    def advance(self, count: int = 1) -> None:
        """Tell of bytes, and wait until they are due.

        Raises:
            InterruptedRunError: somebody asked to stop.
        """
        self._progress.advance(count)
        bucket = self._current_bucket() if self._counts_bytes else None
        if bucket and (seconds := bucket.take(count)) > 0:
            self._cancel.wait(seconds)

    def jobs_within(self, jobs: int) -> int:
        """Return how many threads leave a piece in five seconds to each: servers end uploads in which nothing comes."""
        bandwidth = self._bandwidth
        rates = [slot.rate for slot in bandwidth.slots] if isinstance(bandwidth, Timetable) else [bandwidth]
        slowest = min((rate for rate in rates if rate is not None), default=jobs * PIECE_BYTES)
        return max(1, min(jobs, slowest * _PAUSE_SECONDS // PIECE_BYTES))

    def finish(self) -> None:
        """End the phase."""
        self._progress.finish()

    def _current_bucket(self) -> Bucket | None:
        bandwidth = self._bandwidth
        rate = bandwidth.rate_at(self._clock()) if isinstance(bandwidth, Timetable) else bandwidth
        if rate != self._rate:
            self._bucket = None if rate is None else Bucket(rate, rate, time.monotonic)
            self._rate = rate
        return self._bucket

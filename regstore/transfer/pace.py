"""A limit on the bytes a second of a copy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from regstore_drivers.wrappers.throttled import Bucket

if TYPE_CHECKING:
    from regstore.work import Cancel, Progress


class Paced:
    """A progress that keeps whoever tells it of bytes waiting until they are due. See `Progress`.

    Args:
        progress: told of everything.
        bytes_per_second: the limit, of all threads together.
        cancel: ends a wait.
    """

    def __init__(self, progress: Progress, bytes_per_second: int, cancel: Cancel) -> None:
        self._progress = progress
        self._cancel = cancel
        self._bucket = Bucket(bytes_per_second, bytes_per_second, time.monotonic)
        self._counts_bytes = False

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
        if self._counts_bytes and (seconds := self._bucket.take(count)) > 0:
            self._cancel.wait(seconds)

    def finish(self) -> None:
        """End the phase."""
        self._progress.finish()

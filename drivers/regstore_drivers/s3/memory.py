"""How much data all uploads of a driver hold in memory at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UPLOAD_MEMORY_BYTES = 64 * 1024 * 1024


class MemoryBudget:
    """A number of bytes that threads share; who wants more than is left waits, and one alone gets what it wants."""

    def __init__(self, total: int = UPLOAD_MEMORY_BYTES) -> None:
        self._total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Hold `count` bytes; never while holding others, which could wait for itself."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._total)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()

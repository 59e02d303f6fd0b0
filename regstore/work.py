"""Progress, cancelling, clocks and bounded parallel work, as arguments with do-nothing defaults."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from regstore.errors import InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_POLL_SECONDS = 0.1
T = TypeVar("T")
R = TypeVar("R")


class Progress(Protocol):
    """Who is told how far the work is. One phase at a time."""

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Begin a phase of `total` items (None: nobody knows yet), or bytes where the unit is `B`."""

    def advance(self, count: int = 1) -> None:
        """Say that so many more items are done."""

    def finish(self) -> None:
        """End the phase."""


class NoProgress:
    """Tells nobody."""

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Do nothing."""

    def advance(self, count: int = 1) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class Cancel:
    """A request to stop, checked between items."""

    def __init__(self) -> None:
        # No Event: its lock, held by the thread that a signal interrupts, would stop the handler for ever.
        self._is_requested = False
        self.exit_code = 130

    def request(self, exit_code: int = 130) -> None:
        """Ask to stop. Safe in a signal handler."""
        self.exit_code = exit_code
        self._is_requested = True

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._is_requested

    def check(self) -> None:
        """Stop here if asked to.

        Raises:
            InterruptedRunError: somebody asked.
        """
        if self._is_requested:
            error = InterruptedRunError("stopped on request")
            error.exit_code = self.exit_code
            raise error

    def wait(self, seconds: float) -> None:
        """Wait, but not past a request to stop.

        Raises:
            InterruptedRunError: somebody asked.
        """
        deadline = time.monotonic() + seconds
        while not self._is_requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
        self.check()


def map_bounded(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Generator[R, None, None]:
    """Map in `jobs` threads, in order, with at most four calls a thread under way, so that the input stays lazy.

    The first error of a call is raised when its turn comes; what has not begun by then is dropped.
    """
    if jobs <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="regstore") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 4 * jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

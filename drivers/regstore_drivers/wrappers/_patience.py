"""How long, and with what pauses, one call may go on failing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore_drivers.errors import DriverError

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 20.0
_MOST_DOUBLINGS = 16


class Patience:
    """The tries of one call: pauses with full jitter below a limit that doubles, and one deadline for all of them.

    Args:
        deadline_seconds: when to give up.
        sleep: waits so many seconds.
        clock: a clock that never goes back.
        random: draws from [0, 1).
        started: the deadline counts from now, and not from the first failure.
    """

    def __init__(
        self,
        deadline_seconds: float,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
        random: Callable[[], float],
        *,
        started: bool = True,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._sleep = sleep
        self._clock = clock
        self._random = random
        self._start = clock() if started else None
        self._tries = 0

    @property
    def is_tried(self) -> bool:
        """Whether a try has failed."""
        return self._tries > 0

    def renew(self) -> None:
        """Note that something came: the deadline counts from now."""
        self._start = self._clock()
        self._tries = 0

    def wait(self, error: DriverError) -> None:
        """Pause before the next try.

        Raises:
            DriverError: the given one, when another try would not help or there is no time for it.
        """
        if not error.retryable or not self.has_waited(error.retry_after or 0.0):
            raise error

    def has_waited(self, at_least: float = 0.0) -> bool:
        """Pause; False, and no pause, when there is not the time for it."""
        now = self._clock()
        if self._start is None:
            self._start = now
        left = self._start + self._deadline_seconds - now
        if left <= 0 or at_least > left:
            return False
        limit = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._tries, _MOST_DOUBLINGS))
        self._sleep(max(at_least, min(left, limit * self._random())))
        self._tries += 1
        return True

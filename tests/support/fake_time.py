"""Time that passes only when somebody sleeps."""

from __future__ import annotations


class FakeTime:
    """A clock and the sleep that moves it on.

    Attributes:
        now: what the clock shows.
        pauses: how long each sleep was.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.pauses: list[float] = []

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass, and remember how much."""
        self.pauses.append(seconds)
        self.now += seconds

    def pass_by(self, seconds: float) -> None:
        """Let time pass without a sleep, as a slow call does."""
        self.now += seconds

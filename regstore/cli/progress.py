"""Progress: a bar per phase on a terminal, one line a minute otherwise."""

from __future__ import annotations

import sys
import time

from regstore.cli import messages
from regstore.wording import human_bytes

_LINE_SECONDS = 60.0


class BarProgress:
    """Bars on stderr."""

    def __init__(self) -> None:
        self._bar: object | None = None

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Begin a bar."""
        from tqdm import tqdm

        self.finish()
        self._bar = tqdm(
            total=total,
            desc=phase,
            unit=unit,
            unit_scale=True,
            unit_divisor=1024 if unit else 1000,
            mininterval=0.2,
            leave=False,
            file=sys.stderr,
        )

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(count)  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()  # type: ignore[attr-defined]
            self._bar = None


class LineProgress:
    """A message a minute."""

    def __init__(self) -> None:
        self._phase, self._unit, self._done = "", "", 0
        self._total: int | None = None
        self._began = self._last = time.monotonic()

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Begin counting."""
        self._phase, self._total, self._unit, self._done = phase, total, unit, 0
        self._began = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count, and say so once a minute."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            rate = self._done / max(now - self._began, 0.001)
            of = f" of {self._show(self._total)}" if self._total else ""
            left = f", {(self._total - self._done) / rate / 60:.0f} min left" if self._total and rate else ""
            messages.tell_progress(
                f"{self._phase}: {self._show(self._done)}{of}, {self._show(rate)}/s{left}",
                phase=self._phase,
                current=self._done,
                total=self._total,
                unit=self._unit,
            )

    def _show(self, count: float) -> str:
        return human_bytes(count) if self._unit == "B" else f"{count:.0f}"

    def finish(self) -> None:
        """Say nothing."""


class QuietProgress(LineProgress):
    """Says nothing at all."""

    def advance(self, count: int = 1) -> None:
        """Do nothing."""


def choose_progress(*, quiet: bool) -> BarProgress | LineProgress:
    """Return what suits stderr."""
    if quiet:
        return QuietProgress()
    has_bars = sys.stderr.isatty() and messages.current_form() is messages.Form.TEXT
    return BarProgress() if has_bars else LineProgress()

"""Texts, sizes and times as they are shown: what is safe, and what can be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: float, *, grouping: Literal["", ","] = "") -> str:
    """Return bytes with a binary unit, three digits or so; `grouping` stands between thousands."""
    size = float(count)
    for unit in UNITS:
        if abs(size) < 1024 or unit == UNITS[-1]:
            return f"{size:{grouping}.0f} B" if unit == "B" else f"{size:{grouping}.1f} {unit}"
        size /= 1024
    raise AssertionError


def human_seconds(seconds: float) -> str:
    """Return a span of time with one unit: `0.4 s`, `12 s`, `3 min`, `26.0 h`, `4.2 d`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def plain(text: str) -> str:
    """Return the text with everything that is not seen, or changes how the rest is seen, as an escape.

    Names on a volume may hold anything.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def iso_time(at: float | None) -> str | None:
    """Return ISO 8601 in UTC, of seconds since the epoch; None also of a time that no calendar has."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None

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

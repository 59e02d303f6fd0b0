"""Durations as operators write them."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(text: str) -> float:
    """Parse 90m, 24h, 7d or 0s into seconds.

    Raises:
        ValueError: it is no duration.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write it as 90m, 24h or 7d (units s, m, h, d, w)")
    return float(int(match[1]) * _UNITS[match[2]])

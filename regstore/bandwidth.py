"""Limits on bytes a second, the same all day or by the clock."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


class Slot(NamedTuple):
    """From when on (minutes since midnight, local time) how many bytes a second; None: no limit."""

    minute: int
    rate: int | None


class Timetable(NamedTuple):
    """Limits by the clock, in order of their times. Before the first of a day the last holds, as in rclone."""

    slots: tuple[Slot, ...]

    def rate_at(self, at: float) -> int | None:
        """Return the limit at a time, in seconds since the epoch."""
        local = datetime.fromtimestamp(at).astimezone()
        minute = 60 * local.hour + local.minute
        rate = self.slots[-1].rate
        for slot in self.slots:
            if slot.minute <= minute:
                rate = slot.rate
        return rate


Bandwidth: TypeAlias = int | Timetable
"""Bytes a second, or a timetable of them."""


def parse_timetable(text: str, parse_rate: Callable[[str], int]) -> Timetable:
    """Parse `08:00,10MiB 20:00,off`.

    Args:
        text: the timetable.
        parse_rate: parses bytes a second.

    Raises:
        ValueError: it is none.
    """
    slots: dict[int, int | None] = {}
    for part in text.split():
        clock, _, rate = part.partition(",")
        match = _CLOCK.fullmatch(clock)
        if match is None or not rate:
            raise ValueError(f"{part!r} is no part of a timetable: write it as '08:00,10MiB 20:00,off'")
        minute = 60 * int(match[1]) + int(match[2])
        if minute in slots:
            raise ValueError(f"{clock} stands twice in the timetable")
        slots[minute] = None if rate == "off" else parse_rate(rate)
    if not slots:
        raise ValueError("the timetable is empty")
    return Timetable(tuple(Slot(*slot) for slot in sorted(slots.items())))

"""Timetables of bandwidth."""

from __future__ import annotations

from datetime import datetime

import pytest

from regstore.bandwidth import Slot, Timetable, parse_timetable
from regstore.transfer import Paced
from regstore.work import Cancel, NoProgress


def at(clock: str) -> float:
    """Return a time of some day, in the local zone."""
    return datetime.fromisoformat(f"2026-11-20 {clock}").timestamp()


def test_a_timetable_holds_from_each_time_on() -> None:
    table = parse_timetable("20:00,off 08:00,10 12:30,5", int)

    assert table == Timetable((Slot(480, 10), Slot(750, 5), Slot(1200, None)))
    rates = [table.rate_at(at(clock)) for clock in ("07:59", "08:00", "12:29", "12:30", "20:00", "23:59", "00:00")]
    assert rates == [None, 10, 10, 5, None, None, None]


@pytest.mark.parametrize("text", ["", "8,10", "24:00,10", "08:60,1", "08:00", "08:00,x", "08:00,1 8:00,2"])
def test_no_timetable(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_timetable(text, int)


def test_who_is_paced_follows_the_clock() -> None:
    class Waiting(Cancel):
        waited = 0.0

        def wait(self, seconds: float) -> None:
            self.waited += seconds

    cancel, now = Waiting(), at("12:00")
    paced = Paced(NoProgress(), parse_timetable("08:00,1000 20:00,off", int), cancel, clock=lambda: now)
    paced.start("copying", unit="B")
    paced.advance(1000)
    assert cancel.waited < 0.1
    paced.advance(1000)
    assert 0.5 < cancel.waited < 1.1
    now = at("21:00")
    cancel.waited = 0.0
    paced.advance(10**9)
    assert cancel.waited == 0

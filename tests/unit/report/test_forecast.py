"""When a volume will be full."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.report.forecast import Forecast, forecast_full
from support.examples import examples

DAY = 86400.0
START = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def series(*stored: int) -> list[tuple[float, int]]:
    """Return one report a day."""
    return [(START + number * DAY, size) for number, size in enumerate(stored)]


def test_a_straight_line_is_full_when_free_space_is_used_up() -> None:
    found = forecast_full(series(*range(0, 1000, 100)), 1000)

    assert found.state == "ok"
    assert found.growth_bytes_per_day == 100
    assert found.full_at == found.full_at_earliest == found.full_at_latest == START + 9 * DAY + 10 * DAY


@pytest.mark.parametrize("days", range(7))
def test_less_than_seven_days_are_not_enough(days: int) -> None:
    points = [(at + hour * 3600, size) for at, size in series(*range(days)) for hour in range(5)]

    assert forecast_full(points, 1000) == Forecast("not-enough-data")
    assert forecast_full(points, 1000).to_json() == {
        "state": "not-enough-data",
        "growth_bytes_per_day": None,
        "full_at": None,
        "full_at_earliest": None,
        "full_at_latest": None,
    }


def test_the_last_report_of_a_day_counts() -> None:
    noisy = [(at - 3600, 10**9) for at, _ in series(*range(10))]
    points = sorted([*noisy, *series(*range(0, 1000, 100))])

    assert forecast_full(points, 1000).growth_bytes_per_day == 100


def test_one_wild_day_does_not_turn_the_line() -> None:
    sizes = [100 * number for number in range(20)]
    sizes[13] = 10**9

    assert forecast_full(series(*sizes), 1000).growth_bytes_per_day == pytest.approx(100)


@pytest.mark.parametrize("sizes", [(5,) * 10, tuple(range(100, 0, -10))])
def test_without_growth_it_is_never_full(sizes: tuple[int, ...]) -> None:
    found = forecast_full(series(*sizes), 1000)

    assert found.state == "ok"
    assert found.full_at is None


def test_an_unknown_capacity_has_growth_and_no_date() -> None:
    found = forecast_full(series(*range(0, 1000, 100)), None)

    assert (found.growth_bytes_per_day, found.full_at, found.full_at_latest) == (100, None, None)


def test_a_date_past_9999_is_none() -> None:
    assert forecast_full(series(*range(10)), 10**18).full_at is None


@examples(60)
@given(
    st.lists(st.integers(0, 10**15), min_size=7, max_size=40),
    st.integers(0, 10**15),
)
def test_the_interval_holds_the_date(sizes: list[int], free: int) -> None:
    found = forecast_full(series(*sizes), free)

    assert found.state == "ok"
    if found.full_at is not None:
        assert found.full_at_earliest is not None
        assert found.full_at_earliest <= found.full_at
        assert found.full_at_latest is None or found.full_at_latest >= found.full_at

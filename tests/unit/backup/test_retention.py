"""Which snapshots are kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.backup.retention import Candidate, Rules, choose_kept
from support.examples import examples

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = 86400.0


def made(number: int, at: float, source: str = "a", *, is_complete: bool = True) -> Candidate:
    """A snapshot made so many days after the start."""
    created = (START + timedelta(days=at)).timestamp()
    images = [f"app:v{number}"]
    return Candidate(f"{source}{number}", number, created, source, is_complete, lambda: images)


def kept(candidates: Sequence[Candidate], **rules: Any) -> list[str]:
    """The ids of those that are kept, sorted."""
    return sorted(choose_kept(candidates, Rules(**rules), UTC), key=lambda id_: (id_[0], int(id_[1:])))


DAILY = [made(number, number) for number in range(40)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"last": 1}, ["a39"]),
        ({"last": 3}, ["a37", "a38", "a39"]),
        ({"daily": 2}, ["a38", "a39"]),
        # 2026-02-09 is a Monday: the weeks end on Sundays, days 38 and 31.
        ({"weekly": 3}, ["a31", "a38", "a39"]),
        ({"monthly": 1}, ["a39"]),
        # Two months only: the oldest stands for those that are still to come.
        ({"monthly": 5}, ["a0", "a30", "a39"]),
        ({"yearly": 2}, ["a0", "a39"]),
        ({"within": 2 * DAY}, ["a37", "a38", "a39"]),
        ({"tags": ("app:v7",)}, ["a7", "a39"]),
        ({"tags": ("nothing:*",)}, ["a39"]),
    ],
    ids=repr,
)
def test_each_rule(rules: dict[str, Any], expected: list[str]) -> None:
    assert kept(DAILY, **rules) == expected


def test_of_one_bucket_the_newest_is_kept() -> None:
    hours = [made(0, 0), made(1, 0.01), made(2, 0.02), made(3, 0.1)]

    assert kept(hours, hourly=2) == ["a2", "a3"]


def test_days_begin_in_the_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    evening = [made(0, 0.4), made(1, 0.55), made(2, 0.65)]  # 21:36 UTC, and 01:12 and 03:36 of the next day

    def daily(zone: timezone | None) -> list[str]:
        two = choose_kept(evening, Rules(daily=2), zone)
        return sorted(id_ for id_, reasons in two.items() if "daily" in reasons)

    assert daily(UTC) == ["a0", "a2"]
    assert daily(timezone(timedelta(hours=-2))) == ["a1", "a2"]
    monkeypatch.setenv("TZ", "WEST+2")  # two hours behind UTC
    time.tzset()
    try:
        assert daily(None) == ["a1", "a2"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_images_are_asked_for_only_where_a_rule_wants_them() -> None:
    def images() -> list[str]:
        pytest.fail("asked")

    candidate = Candidate("a0", 0, START.timestamp(), "a", True, images)

    assert choose_kept([candidate], Rules(last=1, within=DAY), UTC).keys() == {"a0"}


def test_the_order_made_counts_and_not_the_clock() -> None:
    back = [made(0, 10), made(1, 0), made(2, 1)]  # the clock was set back after the first

    assert kept(back, last=2) == ["a1", "a2"]
    assert kept(back, within=0.5 * DAY) == ["a0", "a2"]  # dated after the newest: nobody knows how old it is


def test_incomplete_ones_do_not_count_and_stay_while_they_are_the_newest() -> None:
    snapshots = [made(0, 0), made(1, 1, is_complete=False), made(2, 2), made(3, 3, is_complete=False)]

    assert kept(snapshots, last=2) == ["a0", "a2", "a3"]
    assert kept(snapshots, daily=1) == ["a2", "a3"]
    assert kept(snapshots, within=1.5 * DAY) == ["a1", "a2", "a3"]


def test_a_source_without_a_complete_one_keeps_all() -> None:
    assert kept([made(0, 0, is_complete=False), made(1, 1, is_complete=False)], last=1) == ["a0", "a1"]


def test_sources_count_by_themselves() -> None:
    assert kept([made(0, 0), made(1, 1, "b"), made(2, 2, "b")], last=1) == ["a0", "b2"]


def test_the_reasons_are_told() -> None:
    assert choose_kept([made(0, 0)], Rules(last=1, daily=3), UTC) == {
        "a0": ("newest complete", "last", "daily", "daily, the oldest")
    }


@pytest.mark.parametrize("rules", [Rules(), Rules(within=0.0), Rules(last=0, daily=0)])
def test_rules_that_keep_nothing(rules: Rules) -> None:
    assert rules.keeps_nothing


CANDIDATES = st.lists(
    st.tuples(st.floats(0, 800, allow_nan=False), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=25
).map(lambda rows: [made(n, at, source, is_complete=whole) for n, (at, source, whole) in enumerate(rows)])
RULES = st.fixed_dictionaries(
    {name: st.integers(0, 4) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")},
    optional={
        "within": st.floats(0, 900 * DAY),
        "tags": st.lists(st.sampled_from([f"app:v{number}" for number in range(25)] + ["app:v1?"])).map(tuple),
    },
)


@given(CANDIDATES, RULES, st.randoms(use_true_random=False))
@examples(80)
def test_properties(candidates: list[Candidate], rules: dict[str, Any], random: Any) -> None:
    chosen = set(kept(candidates, **rules))
    for source in "ab":
        mine = [one for one in candidates if one.source == source]
        complete = [one for one in mine if one.is_complete]
        if complete:
            assert max(complete, key=lambda one: one.sequence).id in chosen
        assert set(kept(mine, **rules)) == {id_ for id_ in chosen if id_[0] == source}
    assert set(kept([one for one in candidates if one.id in chosen], **rules)) == chosen
    shuffled = candidates[:]
    random.shuffle(shuffled)
    assert set(kept(shuffled, **rules)) == chosen


@given(CANDIDATES, RULES, RULES)
@examples(80)
def test_more_generous_rules_keep_all_that_others_keep(
    candidates: list[Candidate], rules: dict[str, Any], more: dict[str, Any]
) -> None:
    both = {name: rules[name] + more[name] for name in rules if name not in ("within", "tags")}
    widths = [one["within"] for one in (rules, more) if "within" in one]
    tags = rules.get("tags", ()) + more.get("tags", ())

    generous = kept(candidates, **both, within=max(widths, default=None), tags=tags)

    assert set(kept(candidates, **rules)) <= set(generous)

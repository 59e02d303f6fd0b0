"""Who shares how much with whom."""

from __future__ import annotations

import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.report import groups as module
from regstore.report.groups import Groups
from support.examples import examples

COUNT = 9
SETS = st.lists(st.tuples(st.sets(st.integers(0, COUNT - 1), min_size=2), st.integers(0, 1000)), max_size=12)


@pytest.mark.parametrize("large", [2, 4, 100])
def test_every_pair_counts_whatever_is_large(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(module, "LARGE", large)

    @examples(100)
    @given(SETS)
    def check(sets: list[tuple[set[int], int]]) -> None:
        groups = Groups()
        expected: dict[tuple[int, int], int] = {}
        for members, size in sets:
            groups.add(sorted(members), size)
            for pair in combinations(sorted(members), 2):
                expected[pair] = expected.get(pair, 0) + size

        found = dict(groups.iter_shared(COUNT))

        assert set(found) == set(range(COUNT))
        both = {(a, b): size for a, row in found.items() for b, size in row.items()}
        assert both == expected | {(b, a): size for (a, b), size in expected.items()}
        largest = groups.largest_pairs(COUNT, 5)
        assert (
            largest
            == sorted(((a, b, size) for (a, b), size in expected.items()), key=lambda row: (-row[2], row[0], row[1]))[
                :5
            ]
        )

    check()


def test_large_sets_are_not_counted_pair_by_pair() -> None:
    """Two thousand repositories on three hundred common layers: two billion pairs one by one."""
    groups = Groups()
    everybody = list(range(2000))
    for number in range(300):
        groups.add(everybody[number % 7 :], 10)
    started = time.process_time()

    shares = sum(len(shared) for _, shared in groups.iter_shared(2000))

    assert shares == 2000 * 1999
    assert time.process_time() - started < 30

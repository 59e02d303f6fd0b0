"""Who shares how much with whom: bytes by the exact set of repositories that have them.

Most blobs that are shared at all are shared by the same few sets of repositories: sets are far fewer than blobs. Of
large sets, such as those of base images, every pair of members counts; so that it need not be counted one by one,
repositories that are in the same large sets are taken together.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGE = 64
"""Members of a set from which on it is large."""


class Groups:
    """Bytes by group. Repositories are numbers."""

    def __init__(self) -> None:
        self._sizes: Counter[tuple[int, ...]] = Counter()

    def add(self, members: Sequence[int], size: int) -> None:
        """Add what a group of at least two shares; the members ascend."""
        self._sizes[tuple(members)] += size

    def iter_shared(self, count: int) -> Iterator[tuple[int, dict[int, int]]]:
        """Yield for each of the first `count` repositories what it shares with every other one, in bytes."""
        small: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(count)]
        membership = [0] * count
        large_sizes: list[int] = []
        for members, size in self._sizes.items():
            if len(members) < LARGE:
                for number in members:
                    small[number].append((members, size))
                continue
            bit = 1 << len(large_sizes)
            large_sizes.append(size)
            for number in members:
                membership[number] |= bit
        alike: dict[int, list[int]] = {}
        for number, sets in enumerate(membership):
            if sets:
                alike.setdefault(sets, []).append(number)
        of_sets = _Sums(large_sizes)
        for number in range(count):
            shared: dict[int, int] = {}
            for sets, others in alike.items() if membership[number] else ():
                if common := sets & membership[number]:
                    shared.update(dict.fromkeys(others, of_sets[common]))
            for members, size in small[number]:
                for other in members:
                    shared[other] = shared.get(other, 0) + size
            shared.pop(number, None)
            yield number, shared

    def largest_pairs(self, count: int, limit: int) -> list[tuple[int, int, int]]:
        """Return (number, larger number, bytes) of the pairs that share most, the largest first."""
        largest: list[tuple[int, int, int]] = []
        for number, shared in self.iter_shared(count):
            # Negative numbers: of equal sizes the pair that sorts first wins.
            pairs = [(size, -number, -other) for other, size in shared.items() if other > number]
            largest = heapq.nlargest(limit, [*largest, *pairs])
        return [(-number, -other, size) for size, number, other in largest]


class _Sums(dict[int, int]):
    """The bytes of some large sets together, by their bits; each sum is made once."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self._sizes = sizes

    def __missing__(self, sets: int) -> int:
        total, left = 0, sets
        while left:
            lowest = left & -left
            total += self._sizes[lowest.bit_length() - 1]
            left ^= lowest
        self[sets] = total
        return total

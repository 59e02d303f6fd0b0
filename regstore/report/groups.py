"""Who shares how much with whom: bytes by the exact set of repositories that have them.

Most blobs that are shared at all are shared by the same few sets of repositories: sets are far fewer than blobs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Groups:
    """Bytes by group. Repositories are numbers."""

    def __init__(self) -> None:
        self._sizes: Counter[tuple[int, ...]] = Counter()

    def add(self, members: Sequence[int], size: int) -> None:
        """Add what a group of at least two shares; the members ascend."""
        self._sizes[tuple(members)] += size

    def iter_shared(self, count: int) -> Iterator[tuple[int, dict[int, int]]]:
        """Yield for each of the first `count` repositories what it shares with every other one, in bytes."""
        groups_of: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(count)]
        for members, size in self._sizes.items():
            for number in members:
                groups_of[number].append((members, size))
        for number, groups in enumerate(groups_of):
            shared: dict[int, int] = {}
            for members, size in groups:
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

"""Packed records about digests, by their first byte: what a pass over a volume holds until it is weighed.

A volume has many millions of (digest, repository) pairs; each takes 32 bytes and four or eight a number.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.digest import Digest

SHARD_COUNT = 257
"""One for each first byte of SHA-256 digests, and the last for all other digests."""


class Records:
    """Digests, each with some numbers, in the order in which they were added.

    Args:
        numbers: what follows the digest, in the letters of `struct`: `I` counts and indexes, `d` times.
    """

    def __init__(self, numbers: str = "") -> None:
        self._struct = struct.Struct(f">32s{numbers}")
        self._shards = [bytearray() for _ in range(SHARD_COUNT - 1)]
        self._others: list[tuple[Any, ...]] = []

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows: a digest and its numbers each."""
        shards, pack = self._shards, self._struct.pack
        for row in rows:
            digest = row[0]
            if len(digest) == 32:
                shards[digest[0]] += pack(*row)
            else:
                self._others.append(row)

    def take_shard(self, shard: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one shard and let go of them."""
        if shard == SHARD_COUNT - 1:
            rows, self._others = self._others, []
            return iter(rows)
        packed, self._shards[shard] = self._shards[shard], bytearray()
        return self._struct.iter_unpack(packed)

    def take_digests(self, shard: int) -> set[Digest]:
        """Return the digests of one shard and let go of its rows."""
        return {row[0] for row in self.take_shard(shard)}

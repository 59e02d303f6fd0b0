"""Weighing what a pass collected: the sizes of blobs, shard by shard, added up by who keeps, names and shares them."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.digest import format_digest
from regstore.gc.catalogue import finding
from regstore.report.groups import Groups
from regstore.report.measure import NO_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from regstore.digest import Digest
    from regstore.registry.scan import Blobs, Volume
    from regstore.report.measure import Measured
    from regstore.report.records import Records
    from regstore.work import Cancel, Progress

_SHARED_WITH_COUNT = 10


@dataclass(slots=True)
class Weight:
    """Bytes of one repository, as docs/reports.md defines them; `shared_with` has the number of another, and bytes."""

    logical: int = 0
    stored: int = 0
    unique: int = 0
    reclaimable: int = 0
    shared_with: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Weights:
    """What a volume weighs, in bytes.

    Attributes:
        repositories: by number.
        root_sizes, root_uniques: by the number of the root.
        freed_by_rule: for each what-if rule what it would free.
        stored, allocated: of all blobs; None where the storage does not tell blocks.
        freed, freed_in_grace: what a collection frees without and with the grace period.
        blob_count: blobs with data.
    """

    repositories: list[Weight]
    root_sizes: list[int]
    root_uniques: list[int]
    freed_by_rule: list[int]
    stored: int = 0
    allocated: int | None = 0
    freed: int = 0
    freed_in_grace: int = 0
    blob_count: int = 0


class Scale:
    """Weighs.

    Args:
        volume: where sizes and ages are asked for.
        measured: what a pass collected; its records are used up.
        grace: the grace period in seconds.
        link_limits: how old, in seconds, a layer link has to be to go, without and with the grace period.
    """

    def __init__(self, volume: Volume, measured: Measured, grace: float, link_limits: tuple[float, float]) -> None:
        self._volume = volume
        self._measured = measured
        self._grace = grace
        self._link_limit, self._link_limit_in_grace = link_limits
        self._now = volume.newest_seen
        self._groups = Groups()
        self.weights = Weights(
            [Weight() for _ in measured.repositories],
            [0] * len(measured.roots),
            [0] * len(measured.roots),
            [0] * len(measured.lost),
        )

    def weigh(self, blobs: Blobs, progress: Progress, cancel: Cancel) -> Weights:
        """Weigh all blobs; what is needed and absent becomes a finding in `measured`."""
        progress.start("sizes", blobs.count)
        for shard, digests in enumerate(blobs.iter_shards()):
            cancel.check()
            self._weigh_shard(shard, digests)
            progress.advance(len(digests))
        progress.finish()
        self._share_out()
        return self.weights

    def _weigh_shard(self, shard: int, digests: set[Digest]) -> None:
        measured, weights = self._measured, self.weights
        sizes: dict[Digest, int] = {}
        for digest, size, allocated in self._volume.iter_blob_sizes(sorted(digests)):
            sizes[digest] = size
            if allocated is None or weights.allocated is None:
                weights.allocated = None
            else:
                weights.allocated += allocated
        weights.stored += sum(sizes.values())
        weights.blob_count += len(sizes)
        owners = self._weigh_kept(shard, sizes)
        self._note_missing(owners.keys() - sizes.keys())
        live = measured.live.take_digests(shard) if measured.is_marked else owners.keys()
        freed = self._freed(sizes, live, measured.loose.take_shard(shard), 0.0, self._link_limit)
        weights.freed += sum(freed.values())
        in_grace = measured.live_in_grace.take_digests(shard) if measured.is_marked else owners.keys()
        loose = measured.loose_in_grace.take_shard(shard)
        weights.freed_in_grace += sum(
            self._freed(sizes, in_grace, loose, self._grace, self._link_limit_in_grace).values()
        )
        for digest, number in measured.dead.take_shard(shard):
            weights.repositories[number].reclaimable += freed.get(digest, 0)
        self._weigh_tags(shard, sizes)

    def _weigh_kept(self, shard: int, sizes: dict[Digest, int]) -> dict[Digest, list[int]]:
        """Add up who keeps what, and return the repositories that keep each blob."""
        repositories = self.weights.repositories
        owners: dict[Digest, list[int]] = {}
        for digest, number, tag_count in self._measured.kept.take_shard(shard):
            owners.setdefault(digest, []).append(number)
            size = sizes.get(digest, 0)
            weight = repositories[number]
            weight.stored += size
            weight.logical += size * tag_count
        for digest, numbers in owners.items():
            size = sizes.get(digest, 0)
            if len(numbers) == 1:
                repositories[numbers[0]].unique += size
            elif size:
                self._groups.add(numbers, size)
        return owners

    def _freed(
        self,
        sizes: dict[Digest, int],
        live: AbstractSet[Digest],
        loose: Iterator[tuple[Digest, float]],
        grace: float,
        link_limit: float,
    ) -> dict[Digest, int]:
        """Return the blobs that a collection frees, with their sizes."""
        now = self._now
        held = {digest for digest, newest in loose if now - newest < link_limit}
        candidates = sorted(sizes.keys() - live - held)
        return {
            info.digest: sizes[info.digest]
            for info in self._volume.iter_blob_info(candidates)
            if now - info.newest >= grace
        }

    def _weigh_tags(self, shard: int, sizes: dict[Digest, int]) -> None:
        measured, weights = self._measured, self.weights
        for digest, root in measured.reached.take_shard(shard):
            weights.root_sizes[root] += sizes.get(digest, 0)
        keepers: dict[Digest, int] = {}
        counts: Counter[Digest] = Counter()
        for digest, root in measured.tagged.take_shard(shard):
            counts[digest] += 1
            keepers[digest] = root
        for digest, root in keepers.items():
            if root != NO_ROOT and counts[digest] == 1:
                weights.root_uniques[root] += sizes.get(digest, 0)
        for position, lost in enumerate(measured.lost):
            weights.freed_by_rule[position] += self._lost_bytes(lost, shard, counts, sizes)

    @staticmethod
    def _lost_bytes(lost: Records, shard: int, counts: Counter[Digest], sizes: dict[Digest, int]) -> int:
        """Add up what every repository that kept it keeps no longer."""
        losses = Counter(digest for (digest,) in lost.take_shard(shard))
        return sum(sizes.get(digest, 0) for digest, count in losses.items() if count == counts[digest])

    def _note_missing(self, missing: set[Digest]) -> None:
        missing -= self._measured.excused
        if not missing:
            return
        pushed_since = {size.digest for size in self._volume.iter_blob_sizes(sorted(missing))}
        for digest in sorted(missing - pushed_since):
            detail = "a kept manifest needs these data, and they are not there: they weigh nothing here"
            self._measured.findings.append(finding("blob-missing", format_digest(digest), detail))

    def _share_out(self) -> None:
        """Say with whom each repository shares most."""
        for number, shared in self._groups.iter_shared(len(self.weights.repositories)):
            largest = heapq.nsmallest(_SHARED_WITH_COUNT, shared.items(), key=lambda item: (-item[1], item[0]))
            self.weights.repositories[number].shared_with = largest

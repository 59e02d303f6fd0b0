"""Advice that the numbers of a capacity report suggest, as findings that are only information."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from regstore.report.catalogue import finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.findings import Finding
    from regstore.report.measure import Seen
    from regstore.report.weigh import Weights

_OLD_TAG_COUNT = 50
_REPOSITORY_COUNT = 5
_SHARE = 0.01


def iter_advice(repositories: Sequence[Seen], weights: Weights) -> Iterator[Finding]:
    """Yield what is worth a thought, a few findings of each kind."""
    pairs = list(zip(repositories, weights.repositories, strict=True))
    for seen, weight in heapq.nlargest(_REPOSITORY_COUNT, pairs, key=lambda pair: pair[1].reclaimable):
        if weight.reclaimable > _SHARE * weights.stored:
            share = 100 * weight.reclaimable / weights.stored
            detail = f"{weight.reclaimable} bytes of what it names can be collected, {share:.0f} % of the volume"
            yield finding("reclaimable", seen.name, detail)
    frozen_in_time = [seen for seen in repositories if seen.old_tag_count >= _OLD_TAG_COUNT and not seen.history_count]
    for seen in heapq.nlargest(_REPOSITORY_COUNT, frozen_in_time, key=lambda seen: seen.old_tag_count):
        detail = f"{seen.old_tag_count} of its {seen.tag_count} tags are older than 90 days, and none was ever moved"
        yield finding("tags-never-superseded", seen.name, detail)
    crumbled = [seen for seen in repositories if seen.tiny_tags]
    for seen in heapq.nlargest(_REPOSITORY_COUNT, crumbled, key=lambda seen: len(seen.tiny_tags)):
        detail = f"{len(seen.tiny_tags)} tags, such as {seen.tiny_tags[0]}, have at least 20 layers, half of them tiny"
        yield finding("many-tiny-layers", seen.name, detail)

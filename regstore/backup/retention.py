"""Which snapshots are kept: rules in the words of borg and restic, for each source by itself.

Pure. Only complete snapshots count for the rules, in the order made, whatever the clock said; the newest complete one
of every source is kept always.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo

_BUCKETS = {
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept.

    Attributes:
        last: so many of the newest.
        hourly, daily, weekly, monthly, yearly: the newest of each of so many hours, days, ... that have one.
        within: all made in so many seconds before the newest complete one.
        tags: globs over `repository:tag`; whatever holds a matching image.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def keeps_nothing(self) -> bool:
        """Whether there is no rule, or none that could keep anything."""
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        return not any(counts) and not self.within and not self.tags


class Candidate(NamedTuple):
    """One snapshot, as the rules see it. `images` gives its `repository:tag`s and is asked only where a rule wants
    them."""

    id: str
    sequence: int
    created_at: float
    source: str
    is_complete: bool
    images: Callable[[], Iterable[str]] = tuple


def choose_kept(
    candidates: Iterable[Candidate], rules: Rules, time_zone: tzinfo | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the ids of the snapshots that are kept, each with the rules for which it is.

    While a rule has fewer buckets than it may keep, the oldest complete snapshot is kept by it too, as in borg: so
    there is something old from the beginning. An incomplete snapshot is kept as long as no complete one of its source
    is newer, and by `within` and `tags`.

    Args:
        candidates: of all sources, in any order.
        rules: what to keep.
        time_zone: in which days begin; None: this host's.
    """
    kept: dict[str, list[str]] = {}
    sources: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        sources.setdefault(candidate.source, []).append(candidate)
    for members in sources.values():
        newest_first = sorted(members, key=lambda one: one.sequence, reverse=True)
        for id_, reason in _choose(newest_first, rules, time_zone):
            reasons = kept.setdefault(id_, [])
            if reason not in reasons:
                reasons.append(reason)
    return {id_: tuple(reasons) for id_, reasons in kept.items()}


def _choose(newest_first: Sequence[Candidate], rules: Rules, time_zone: tzinfo | None) -> Iterable[tuple[str, str]]:
    complete = [one for one in newest_first if one.is_complete]
    newest = complete[0] if complete else None
    for one in newest_first:
        if newest is None or one.sequence > newest.sequence:
            yield one.id, "newer than the newest complete one"
    if newest is None:
        return
    yield newest.id, "newest complete"
    for one in complete[: rules.last]:
        yield one.id, "last"
    if rules.within is not None:
        for one in newest_first:
            if newest.created_at - one.created_at <= rules.within:
                yield one.id, "within"
    for one in newest_first if rules.tags else ():
        if any(fnmatchcase(image, glob) for image in one.images() for glob in rules.tags):
            yield one.id, "tag"
    for name, form in _BUCKETS.items():
        yield from _choose_buckets(complete, name, form, getattr(rules, name), time_zone)


def _choose_buckets(
    complete: Sequence[Candidate], name: str, form: str, count: int, time_zone: tzinfo | None
) -> Iterable[tuple[str, str]]:
    seen: set[str] = set()
    for one in complete:
        if len(seen) == count:
            return
        bucket = datetime.fromtimestamp(one.created_at, time_zone).strftime(form)
        if bucket not in seen:
            seen.add(bucket)
            yield one.id, name
    if len(seen) < count:
        yield complete[-1].id, f"{name}, the oldest"

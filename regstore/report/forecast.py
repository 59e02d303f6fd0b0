"""When a volume will be full: a robust line through what former reports found.

The slope is the median of the slopes between all pairs of days, and its interval that of Sen (Estimates of the
regression coefficient based on Kendall's tau, JASA 1968), at 95 %: a day on which much was pushed or collected does not
turn the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, Any

from regstore.wording import iso_time

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_DAYS = 7
MAX_DAYS = 400
"""The last so many days with a report are looked at: what grew years ago says little, and pairs are many."""
_DAY = 86400.0
_Z_95 = 1.959964
_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Forecast:
    """Growth in bytes a day, and when the volume is full, in seconds since the epoch.

    `state` is `ok` or `not-enough-data`; then all else is None. `full_at` is None without growth, where nobody knows
    what is free, and past the year 9999; `full_at_latest` also where the interval holds no growth.
    """

    state: str
    growth_bytes_per_day: float | None = None
    full_at: float | None = None
    full_at_earliest: float | None = None
    full_at_latest: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        growth = self.growth_bytes_per_day
        return {
            "state": self.state,
            "growth_bytes_per_day": None if growth is None else round(growth),
            "full_at": iso_time(self.full_at),
            "full_at_earliest": iso_time(self.full_at_earliest),
            "full_at_latest": iso_time(self.full_at_latest),
        }


def forecast_full(points: Sequence[tuple[float, int]], free_bytes: int | None) -> Forecast:
    """Forecast when free space is used up.

    Args:
        points: times in seconds since the epoch and bytes stored then, oldest first; of a day the last counts.
        free_bytes: what is free now; None where nobody knows.
    """
    days = {math.floor(at / _DAY): (at, stored) for at, stored in points}
    daily = list(days.values())[-MAX_DAYS:]
    if len(daily) < MIN_DAYS:
        return Forecast("not-enough-data")
    slopes = sorted(
        (later[1] - earlier[1]) / ((later[0] - earlier[0]) / _DAY) for earlier, later in combinations(daily, 2)
    )
    growth = median(slopes)
    low, high = _interval(slopes, len(daily))
    now = daily[-1][0]

    def full(rate: float) -> float | None:
        if free_bytes is None or rate <= 0:
            return None
        at = now + free_bytes / rate * _DAY
        return at if at <= _END else None

    return Forecast("ok", growth, full(growth), full(high), full(low))


def _interval(slopes: Sequence[float], count: int) -> tuple[float, float]:
    """Return the 95 % interval of the slope, by the ranks that Kendall's statistic gives."""
    width = _Z_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lower = max(math.floor((len(slopes) - width) / 2), 0)
    upper = min(math.ceil((len(slopes) + width) / 2), len(slopes) - 1)
    return slopes[lower], slopes[upper]

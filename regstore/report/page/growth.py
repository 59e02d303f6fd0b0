"""The growth of a capacity report: the forecast in words, and a curve of what was measured with the forecast behind."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from regstore.report.charts import Curve, Point, Size, Tick, curve_chart
from regstore.report.page.sections import Section
from regstore.report.page.text import date_text, day_html, explain, plural, size_html, size_text
from regstore.report.page.values import as_number, as_seconds, object_in, rows_in
from regstore.wording import UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.report.page.values import Row

_DRAWN = (("wide", Size(1120, 320)), ("medium", Size(680, 300)), ("narrow", Size(350, 260)))
"""Widths of a screen, as the style calls them: it is drawn for each, since letters must not shrink."""
_POINTS = 400
_AXIS_WIDTH = 82
_DAY = 86400.0
_LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def growth_section(document: Row) -> Section:
    """Show what is said of growth, and the curve when there are two runs."""
    forecast = object_in(document, "forecast")
    history = _read_history(document)
    body = f"<p>{_forecast_words(document)}</p>"
    if len({point.x for point in history}) > 1:
        curve = _curve(history, document)
        title = f"Stored bytes over {plural(len(history), 'run', 'runs')}, and the forecast"
        drawn = "".join(
            f'<div class="{name}">{curve_chart(_with_ticks(curve, size), size=size, title=title)}</div>'
            for name, size in _DRAWN
        )
        key = '<li><span class="stroke measured"></span>stored</li>'
        if curve.expected:
            key += '<li><span class="stroke expected"></span>forecast</li>'
            key += '<li><span class="swatch band"></span>where it may lie</li>'
        body += f'<div class="drawn">{drawn}</div><ul class="shades" aria-label="Lines">{key}</ul>'
    elif forecast.get("state") == "ok" or history:
        body += explain("A curve is drawn from the second recorded run on.")
    return Section("growth", "Growth", body)


def _forecast_words(document: Row) -> str:
    forecast = object_in(document, "forecast")
    rate = as_number(forecast.get("growth_bytes_per_day"))
    if forecast.get("state") != "ok":
        return "Not enough data: a forecast needs seven days."
    if rate is None or rate <= 0:
        shrinks = f" It shrinks by {size_html(-rate)} a day." if rate else ""
        return f"The registry does not grow, so there is no date on which the volume is full.{shrinks}"
    words = f"The registry grows by <b>{size_html(rate)}</b> a day."
    full, earliest, latest = (forecast.get(key) for key in ("full_at", "full_at_earliest", "full_at_latest"))
    if full is None:
        return f"{words} There is no date on which the volume is full."
    words += f" The volume is full around <b>{day_html(full)}</b>"
    if earliest is not None:
        end = "an unknown date, or never" if latest is None else day_html(latest)
        words += f", between {day_html(earliest)} and {end}"
    return f"{words}."


def _read_history(document: Row) -> list[Point]:
    """Return time and stored bytes of each run, in order, and of very many runs some."""
    points = []
    for entry in rows_in(document, "history"):
        at, stored = as_seconds(entry.get("at")), as_number(object_in(entry, "totals").get("stored_bytes"))
        if at is not None and stored is not None:
            points.append(Point(at, stored))
    points.sort()
    stride = math.ceil(len(points) / _POINTS) or 1
    return points[::-stride][::-1]


def _curve(history: Sequence[Point], document: Row) -> Curve:
    """Put the forecast behind what was measured; the axes get their marks when the width is known."""
    forecast = object_in(document, "forecast")
    start, last = history[0], history[-1]
    span = last.x - start.x
    free = as_number(object_in(document, "volume").get("free_bytes"))
    rate = as_number(forecast.get("growth_bytes_per_day"))
    full, earliest, latest = (as_seconds(forecast.get(f"full_at{end}")) for end in ("", "_earliest", "_latest"))
    curve = Curve(
        history,
        [f"{size_text(point.y)} on {date_text(point.x)}" for point in history],
        (start.x, last.x),
        (0, 0),
        (),
        (),
    )
    if forecast.get("state") != "ok" or rate is None:
        return replace(curve, up=(min(point.y for point in history), max(point.y for point in history)))
    limit = None if free is None else last.y + free
    longest = min(last.x + max(3 * span, 14 * _DAY), _LAST_SECOND)
    end = min(longest, max(latest or full or longest, last.x + span / 3))

    def slope(at: float | None, otherwise: float) -> float:
        return (limit - last.y) / (at - last.x) if limit is not None and at is not None and at > last.x else otherwise

    middle = slope(full, rate / _DAY)
    upper = slope(earliest, middle)
    lower = slope(latest, middle if earliest is None else min(0.0, middle))
    rays = [_ray(last, by, end, limit) for by in (upper, middle, lower)]
    top = max(point.y for point in (*history, *rays[0]))
    reached = limit is not None and top >= limit
    return replace(
        curve,
        across=(start.x, end),
        up=(max(0.0, min(point.y for point in (*history, *rays[2]))), top),
        expected=rays[1][:2],
        band=[*rays[0], *reversed(rays[2])],
        limit=Tick(limit, f"full: {size_text(limit)}") if reached and limit is not None else None,
    )


def _ray(start: Point, slope: float, end: float, limit: float | None) -> list[Point]:
    """Return a straight line from a point on, that stops to rise at the limit."""
    final = Point(end, start.y + slope * (end - start.x))
    if limit is None or final.y <= limit:
        return [start, final]
    return [start, Point(start.x + (limit - start.y) / slope, limit), Point(end, limit)]


def _with_ticks(curve: Curve, size: Size) -> Curve:
    """Give the axes of a curve as many marks as there is room for, at round places."""
    low, high = curve.up
    if high - low > high / 3:
        low = 0.0
    unit = 1024 ** max(0, min(len(UNITS) - 1, int(math.log(max(high, 1), 1024))))
    step = max(1.0, _round_step((high - low) / unit / 5) * unit)
    first, last = math.floor(low / step), math.ceil((high + (high - low) / 40) / step)
    name = UNITS[round(math.log(unit, 1024))]
    marks = [Tick(number * step, f"{number * step / unit:.6g} {name}") for number in range(first, last + 1)]
    return replace(
        curve,
        up=(first * step, last * step),
        y_ticks=marks,
        x_ticks=_time_ticks(*curve.across, (size.width - _AXIS_WIDTH) / 100),
    )


def _round_step(least: float) -> float:
    """Return the next of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... that is not smaller."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _time_ticks(start: float, end: float, room: float) -> list[Tick]:
    """Return days to mark, at midnight: the same number of days apart, or of years."""
    days = max(1.0, (end - start) / _DAY / max(2.0, room))
    step = next((n for n in (1, 2, 7, 14, 28, 56, 91, 182, 364) if n >= days), 364 * math.ceil(days / 364)) * _DAY
    first = math.ceil(start / _DAY) * _DAY
    count = int((end - first) / step) + 1
    return [Tick(first + number * step, date_text(first + number * step)) for number in range(max(0, count))]

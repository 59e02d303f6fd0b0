"""The HTML page of a report: the JSON document as one file that needs nothing else, neither network nor script.

What is in the document comes from the volume, and names there may hold anything: every text goes through `_text`, which
shows control characters and marks of direction as escapes and leaves nothing for a browser to take as markup. A policy
in the page forbids all the rest, and all scripts but the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore.report.charts import (
    Curve,
    Group,
    Point,
    Segment,
    Size,
    Tick,
    Tile,
    curve_chart,
    stacked_bar,
    treemap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

_ROWS = 5000
_LISTED = 1000
_SHORT_LIST = 50
"""Rows of a table: of repositories, of what may be longer still, and of what only the first ones of matter."""
_NAMES = 8
_LONG_NAME = 16
_SCROLLED = 100
"""A table with more rows scrolls on its own, under headings that stay."""
_GROUPS = 24
_FEW = 8
"""So few boxes need only half the height."""
_DRAWN = (
    ("wide", Size(1120, 540), Size(1120, 320), 160),
    ("medium", Size(680, 520), Size(680, 300), 100),
    ("narrow", Size(350, 520), Size(350, 260), 50),
)
"""Widths of a screen: charts are drawn for each, since letters must not shrink. Treemap, curve, and tiles at most."""
_POINTS = 400
_AXIS_WIDTH = 82
_DAY = 86400.0
_LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SEVERITIES = ("critical", "error", "warning", "info")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_NOTHING = "–"  # noqa: RUF001 a dash for what is not known
_NO_NUMBER = f"<td class=n>{_NOTHING}</td>"
_MORE = "{count:,} more {noun} are left out here; the JSON document has them all."


class _Section(NamedTuple):
    """A part of the page, and how the list of parts calls it."""

    name: str
    heading: str
    body: str


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table: its heading, what makes a cell of a row, and whether numbers stand in it."""

    heading: str
    cell: Callable[[Row], str]
    is_number: bool = True


def render_capacity_page(document: Mapping[str, Any]) -> str:
    """Return the page of a capacity report. Any field of the document may be null, and any list empty."""
    repositories = _rows(document, "repositories")
    sections = [
        _space(document),
        _map_of_repositories(repositories),
        _growth(document),
        _what_if(document),
        _findings(document),
        _namespaces(document),
        _repositories(repositories),
        _tags(document),
        _sharing(repositories),
        _strays(document),
        _totals(document),
    ]
    return _page(document, "Capacity", _capacity_lede(document), _capacity_figures(document), sections)


def render_dedup_page(document: Mapping[str, Any]) -> str:
    """Return the page of a deduplication report of any level. Any field may be null, and any list empty."""
    level = _level(document)
    sections = [
        _saving(document, level),
        _scopes(document),
        _findings(document),
        _layers(document),
        _top(document, level),
        _directories(document),
        _pairs(document),
        _dedup_repositories(document),
        _strays(document),
        _totals(document),
    ]
    return _page(document, "Deduplication", _dedup_lede(document, level), _dedup_figures(document, level), sections)


# The frame


def _page(document: Row, kind: str, lede: str, figures: Sequence[str], sections: Iterable[_Section | None]) -> str:
    there = [section for section in sections if section is not None]
    location = _text(document.get("location") or "an unknown location")
    links = "".join(f'<li><a href="#{part.name}">{part.heading}</a></li>' for part in there)
    bodies = "".join(
        f'<section id="{part.name}" aria-labelledby="{part.name}-heading"><h2 id="{part.name}-heading">{part.heading}'
        f"</h2>{part.body}</section>\n"
        for part in there
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{kind} of {location}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><p class="kind">{kind} report</p><h1><bdi>{location}</bdi></h1><p class="lede">{lede}</p>'
        f"{_particulars(document)}</header>\n"
        f'<dl class="figures" aria-label="Headline figures">{"".join(figures)}</dl>\n'
        f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav>\n<main>\n{bodies}</main>\n'
        "<footer><p>Units are binary: 1 KiB is 1,024 bytes. A pointer on a size shows the bytes.</p></footer>\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _particulars(document: Row) -> str:
    """Return when and by what the report was made, and how much there is to see to."""
    entries = [_time(document.get("started_at"))]
    seconds = _number(document.get("duration_seconds"))
    if seconds is not None:
        entries.append(f"took {seconds:,.1f} s")
    command = document.get("command")
    tool = " ".join(str(word) for word in ("regstore", document.get("tool_version"), command) if word)
    entries.append(f"<code>{_text(tool)}</code>")
    counts = _count_findings(document)
    if counts:
        entries.append(f'<a href="#findings">{counts}</a>')
    return f'<ul class="particulars">{"".join(f"<li>{entry}</li>" for entry in entries)}</ul>'


def _figure(label: str, value: str, note: str = "", style: str = "") -> str:
    more = f'<dd class="note">{note}</dd>' if note else ""
    chosen = f' class="{style}"' if style else ""
    return f'<div{chosen}><dt>{label}</dt><dd class="value">{value}</dd>{more}</div>'


def _note(text: str) -> str:
    return f'<p class="explained">{text}</p>'


# Capacity


def _capacity_lede(document: Row) -> str:
    totals = _row(document, "totals")
    repositories = _number(totals.get("repository_count"))
    where = "" if repositories is None else f" in {_plural(repositories, 'repository', 'repositories')}"
    stored = _number(totals.get("stored_bytes"))
    words = "It is not known how much is stored." if stored is None else f"{_size(stored)} stored{where}."
    freed = _number(totals.get("unreferenced_bytes"))
    if freed:
        words += f" A collection would free {_size(freed)} of it now."
    elif freed is not None:
        words += " A collection would free nothing now."
    full = _row(document, "forecast").get("full_at")
    if full is not None:
        words += f" At the present growth the volume is full around {_day(full)}."
    return words


def _capacity_figures(document: Row) -> list[str]:
    totals, volume, forecast = (_row(document, name) for name in ("totals", "volume", "forecast"))
    stored, logical = _number(totals.get("stored_bytes")), _number(totals.get("logical_bytes"))
    blobs, tags = _number(totals.get("blob_count")), _number(totals.get("tag_count"))
    ratio = f"{logical / stored:.1f} times as much" if stored and logical is not None else "without sharing"
    free, total = _number(volume.get("free_bytes")), _number(volume.get("total_bytes"))
    figures = [
        _figure("Stored", _size(stored), "" if blobs is None else _plural(blobs, "blob", "blobs"), "main"),
        _figure("Logical", _size(logical), ratio),
        _figure("Live", _size(totals.get("live_bytes")), "" if tags is None else _plural(tags, "tag", "tags")),
        _figure("Reclaimable", _size(totals.get("unreferenced_bytes")), _share_note(totals, stored), "freed"),
        _figure("In grace", _size(totals.get("grace_bytes")), "freed by a later one"),
    ]
    if free is not None:
        share = f"{_percent(free, total)} of {_size(total)}" if total else ""
        figures.append(_figure("Free on the volume", _size(free), share))
    rate = _number(forecast.get("growth_bytes_per_day"))
    if forecast.get("full_at") is not None:
        note = "" if rate is None else f"{_signed(rate)} a day"
        figures.append(_figure("Full around", _day(forecast["full_at"]), note))
    elif rate is not None:
        figures.append(_figure("Growth a day", _signed(rate)))
    return figures


def _share_note(totals: Row, stored: float | None) -> str:
    freed = _number(totals.get("unreferenced_bytes"))
    return f"{_percent(freed, stored)} of what is stored" if stored and freed is not None else ""


_SPACE = (
    ("live", "Live", "live_bytes", "kept by every collection"),
    ("grace", "In grace", "grace_bytes", "unreferenced, too young to be freed"),
    ("unreferenced", "Reclaimable", "unreferenced_bytes", "freed by a collection now"),
    ("quarantined", "Quarantined", "quarantined_bytes", "kept for an undo until purged"),
    ("uploads", "Uploads", "upload_bytes", "pushes under way or given up"),
)


def _space(document: Row) -> _Section | None:
    totals, volume = _row(document, "totals"), _row(document, "volume")
    parts = [(style, label, _number(totals.get(key)) or 0, note) for style, label, key, note in _SPACE]
    ours = sum(part[2] for part in parts)
    total, free = _number(volume.get("total_bytes")), _number(volume.get("free_bytes"))
    if total is None or free is None:
        body = _bar(parts, ours, "What the registry holds") if ours else ""
    else:
        others = [
            ("other", "Other", max(0, total - free - ours), "used or kept back by other things"),
            ("free", "Free", free, ""),
        ]
        whole = ours + sum(part[2] for part in others)
        if 4 * ours < whole:
            # Its parts would be too thin to be told apart.
            body = _bar(
                [("live", "The registry", ours, "its parts stand below"), *others], whole, "What the volume holds"
            )
            body += f"<h3>The registry alone</h3>{_bar(parts, ours, 'The registry alone')}" if ours else ""
        else:
            body = _bar([*parts, *others], whole, "What the volume holds") if whole else ""
    if not body:
        return None
    inodes, free_inodes = _number(volume.get("total_inodes")), _number(volume.get("free_inodes"))
    if inodes and free_inodes is not None:
        body += _note(
            f"Of {inodes:,.0f} inodes, {free_inodes:,.0f} are free ({_percent(free_inodes, inodes)});"
            f" the registry uses {_count(totals.get('inode_count'))}."
        )
    return _Section("space", "Space", body)


def _bar(parts: Sequence[tuple[str, str, float, str]], whole: float, title: str) -> str:
    """Draw parts of a whole, with a legend that says the same in words."""
    segments = []
    legend = []
    told = []
    for style, label, value, note in parts:
        share = _percent(value, whole)
        segments.append(Segment(value, f"{label}: {_human(value)} ({share})", style))
        told.append(f"{label} {_human(value)} ({share})")
        legend.append(
            f'<li><span class="swatch {style}"></span><span class="label">{label}</span> <b>{_size(value)}</b>'
            f' <span class="share">{share}</span>{f"<small>{note}</small>" if note else ""}</li>'
        )
    drawn = stacked_bar(segments, title=f"{title}: {', '.join(told)}")
    return f'{drawn}<ul class="legend">{"".join(legend)}</ul>'


def _map_of_repositories(repositories: Sequence[Row]) -> _Section | None:
    stored = [row for row in repositories if (_number(row.get("stored_bytes")) or 0) > 0]
    if not stored:
        return None
    stored.sort(key=lambda row: -(_number(row.get("stored_bytes")) or 0))
    title = f"Stored bytes of {_plural(len(stored), 'repository', 'repositories')} by namespace"
    drawn = "".join(
        f'<div class="{name}">{treemap(_group_by_namespace(stored, limit), size=_lower(size, stored), title=title)}'
        "</div>"
        for name, size, _, limit in _DRAWN
    )
    steps = "".join(
        f'<li><span class="swatch unique-{step}"></span>{step * 20} to {step * 20 + 20} %</li>' for step in range(5)
    )
    explained = (
        "Each box is a repository, as large as what is stored because of it; a layer that several share counts in each."
        " The stronger its colour, the more of it is unique: freed if that repository went."
    )
    return _Section(
        "map",
        "Where it is",
        f'{_note(explained)}<div class="drawn">{drawn}</div>'
        f'<ul class="shades" aria-label="Unique part"><li>Unique part:</li>{steps}</ul>',
    )


def _lower(size: Size, stored: Sequence[Row]) -> Size:
    return size._replace(height=size.height / 2) if len(stored) <= _FEW else size


def _group_by_namespace(stored: Sequence[Row], limit: int) -> list[Group]:
    """Make the boxes of the treemap: the largest on their own, the others of each namespace in one."""
    members: dict[str, list[Row]] = {}
    names = {str(row.get("name")) for row in stored}
    spaces = {name.partition("/")[0] for name in names if "/" in name}
    for row in stored:
        first, slash, _ = str(row.get("name")).partition("/")
        members.setdefault(f"{first}/" if slash or first in spaces else "", []).append(row)
    shown = {id(row) for row in stored[:limit]}
    groups = [
        _group(space, [row for row in rows if id(row) in shown], [row for row in rows if id(row) not in shown])
        for space, rows in members.items()
    ]
    groups.sort(key=lambda group: -group.value)
    if len(groups) <= _GROUPS:
        return groups
    rest = groups[_GROUPS:]
    value = sum(group.value for group in rest)
    label = f"{len(rest):,} more namespaces"
    gathered = Tile(value, label, _human(value), f"{label}: {_human(value)} stored", "gathered")
    return [*groups[:_GROUPS], Group("", "", label, [], gathered)]


def _group(space: str, shown: Sequence[Row], rest: Sequence[Row]) -> Group:
    tiles = []
    for row in shown:
        value = _number(row.get("stored_bytes")) or 0
        unique = _number(row.get("unique_bytes"))
        name = _printable(row.get("name"))
        style = "unknown" if unique is None else f"unique-{min(4, max(0, int(unique / value * 5)))}"
        told = "" if unique is None else f", {_human(unique)} unique"
        below = _printable(str(row.get("name")).removeprefix(space))
        tiles.append(Tile(value, below, _human(value), f"{name}: {_human(value)} stored{told}", style))
    gathered = None
    if rest:
        value = sum(_number(row.get("stored_bytes")) or 0 for row in rest)
        label = f"{len(rest):,} more"
        gathered = Tile(value, label, _human(value), f"{label} repositories: {_human(value)} stored", "gathered")
    total = sum(_number(row.get("stored_bytes")) or 0 for row in (*shown, *rest))
    label = _printable(space) or "without a namespace"
    count = _plural(len(shown) + len(rest), "repository", "repositories")
    return Group(label, _human(total), f"{label}: {count}, {_human(total)} stored", tiles, gathered)


def _growth(document: Row) -> _Section:
    forecast = _row(document, "forecast")
    history = _read_history(document)
    body = f"<p>{_forecast_words(document)}</p>"
    if len({point.x for point in history}) > 1:
        curve = _curve(history, document)
        title = f"Stored bytes over {_plural(len(history), 'run', 'runs')}, and the forecast"
        drawn = "".join(
            f'<div class="{name}">{curve_chart(_with_ticks(curve, size), size=size, title=title)}</div>'
            for name, _, size, _ in _DRAWN
        )
        key = '<li><span class="stroke measured"></span>stored</li>'
        if curve.expected:
            key += '<li><span class="stroke expected"></span>forecast</li>'
            key += '<li><span class="swatch band"></span>where it may lie</li>'
        body += f'<div class="drawn">{drawn}</div><ul class="shades" aria-label="Lines">{key}</ul>'
    elif forecast.get("state") == "ok" or history:
        body += _note("A curve is drawn from the second recorded run on.")
    return _Section("growth", "Growth", body)


def _forecast_words(document: Row) -> str:
    forecast = _row(document, "forecast")
    rate = _number(forecast.get("growth_bytes_per_day"))
    if forecast.get("state") != "ok":
        return "Not enough data: a forecast needs seven days."
    if rate is None or rate <= 0:
        shrinks = f" It shrinks by {_size(-rate)} a day." if rate else ""
        return f"The registry does not grow, so there is no date on which the volume is full.{shrinks}"
    words = f"The registry grows by <b>{_size(rate)}</b> a day."
    full, earliest, latest = (forecast.get(key) for key in ("full_at", "full_at_earliest", "full_at_latest"))
    if full is None:
        return f"{words} There is no date on which the volume is full."
    words += f" The volume is full around <b>{_day(full)}</b>"
    if earliest is not None:
        end = "an unknown date, or never" if latest is None else _day(latest)
        words += f", between {_day(earliest)} and {end}"
    return f"{words}."


def _read_history(document: Row) -> list[Point]:
    """Return time and stored bytes of each run, in order, and of very many runs some."""
    points = []
    for entry in _rows(document, "history"):
        at, stored = _seconds(entry.get("at")), _number(_row(entry, "totals").get("stored_bytes"))
        if at is not None and stored is not None:
            points.append(Point(at, stored))
    points.sort()
    stride = math.ceil(len(points) / _POINTS) or 1
    return points[::-stride][::-1]


def _curve(history: Sequence[Point], document: Row) -> Curve:
    """Put the forecast behind what was measured; the axes get their marks when the width is known."""
    forecast = _row(document, "forecast")
    start, last = history[0], history[-1]
    span = last.x - start.x
    free = _number(_row(document, "volume").get("free_bytes"))
    rate = _number(forecast.get("growth_bytes_per_day"))
    full, earliest, latest = (_seconds(forecast.get(f"full_at{end}")) for end in ("", "_earliest", "_latest"))
    curve = Curve(
        history, [f"{_human(point.y)} on {_date(point.x)}" for point in history], (start.x, last.x), (0, 0), (), ()
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
        limit=Tick(limit, f"full: {_human(limit)}") if reached and limit is not None else None,
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
    unit = 1024 ** max(0, min(len(_UNITS) - 1, int(math.log(max(high, 1), 1024))))
    step = max(1.0, _round_step((high - low) / unit / 5) * unit)
    first, last = math.floor(low / step), math.ceil((high + (high - low) / 40) / step)
    name = _UNITS[round(math.log(unit, 1024))]
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
    return [Tick(first + number * step, _date(first + number * step)) for number in range(max(0, count))]


def _what_if(document: Row) -> _Section | None:
    rows = _rows(document, "what_if")
    if not rows:
        return None
    columns = [
        _Column("Rule", lambda row: _name_cell(row.get("rule")), is_number=False),
        _Column("Tags that go", lambda row: _count_cell(row.get("tag_count"))),
        _Column("Freed", lambda row: _size_cell(row.get("freed_bytes"))),
    ]
    note = _note("What a later collection would free beyond what it frees today. Each rule is asked alone.")
    return _Section("what-if", "What if", note + _table("What each rule would free", columns, rows, "rules", _ROWS))


def _sum_columns(rows: Sequence[Row]) -> list[_Column]:
    """Return the columns that repositories and namespaces have in common."""
    most = max((_number(row.get("stored_bytes")) or 0 for row in rows), default=0)
    return [
        _Column("Stored", lambda row: _size_cell(row.get("stored_bytes"), most)),
        _Column("Unique", lambda row: _size_cell(row.get("unique_bytes"))),
        _Column("Shared", lambda row: _size_cell(row.get("shared_bytes"))),
        _Column("Reclaimable", lambda row: _size_cell(row.get("reclaimable_bytes"))),
        _Column("Logical", lambda row: _size_cell(row.get("logical_bytes"))),
        _Column("Growth", lambda row: _signed_cell(row.get("growth_bytes"))),
        _Column("Tags", lambda row: _count_cell(row.get("tag_count"))),
        _Column("Revisions", lambda row: _count_cell(row.get("revision_count"))),
        _Column("Newest push", lambda row: _time_cell(row.get("newest_push_at"))),
    ]


def _namespaces(document: Row) -> _Section | None:
    rows = _rows(document, "namespaces")
    if not rows:
        return None
    columns = [_Column("Namespace", lambda row: _name_cell(row.get("name")), is_number=False), *_sum_columns(rows)]
    return _Section("namespaces", "Namespaces", _table("Sums by namespace", columns, rows, "namespaces", _LISTED))


def _repositories(rows: Sequence[Row]) -> _Section:
    if not rows:
        return _Section("repositories", "Repositories", "<p>There are none.</p>")
    columns = [_Column("Repository", lambda row: _name_cell(row.get("name")), is_number=False), *_sum_columns(rows)]
    note = _note(
        "<b>Logical</b>: what its tags would weigh without sharing. <b>Stored</b>: kept because of it."
        " <b>Unique</b>: freed if it went. <b>Shared</b>: the rest of what is stored."
        " <b>Reclaimable</b>: freed of its blobs by a collection now. <b>Growth</b>: of what is stored, since the last"
        " report."
    )
    return _Section("repositories", "Repositories", note + _table("Repositories", columns, rows, "repositories", _ROWS))


def _tags(document: Row) -> _Section | None:
    rows = _rows(document, "tags")
    if not rows:
        return None
    columns = [
        _Column("Tag", lambda row: _name_cell(_tag_name(row)), is_number=False),
        _Column("Size", lambda row: _size_cell(row.get("size_bytes"))),
        _Column("Unique", lambda row: _size_cell(row.get("unique_bytes"))),
        _Column("Layers", lambda row: _count_cell(row.get("layer_count"))),
        _Column("Platforms", lambda row: _list_cell(row.get("platforms"), "more"), is_number=False),
        _Column("Pushed", lambda row: _time_cell(row.get("pushed_at"))),
        _Column("Digest", lambda row: _digest_cell(row.get("digest")), is_number=False),
    ]
    note = _note("<b>Unique</b>: freed if this tag went and untagged images with it.")
    return _Section("tags", "Tags", note + _table("Tags", columns, rows, "tags", _LISTED))


def _tag_name(row: Row) -> str | None:
    parts = [str(row[key]) for key in ("repository", "tag") if row.get(key) is not None]
    return ":".join(parts) if parts else None


def _sharing(repositories: Sequence[Row]) -> _Section | None:
    """Show the pairs of repositories that share most, from what each says of its largest partners."""
    pairs: dict[tuple[str, str], float] = {}
    for row in repositories:
        for other in _rows(row, "shared_with"):
            if row.get("name") is None or other.get("name") is None:
                continue
            first, second = sorted((str(row.get("name")), str(other.get("name"))))
            pairs[first, second] = max(pairs.get((first, second), 0), _number(other.get("bytes")) or 0)
    if not pairs:
        return None
    largest = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:_SHORT_LIST]
    rows = [{"a": first, "b": second, "shared_bytes": shared} for (first, second), shared in largest]
    caption = f"The {len(rows)} pairs that share most" if len(pairs) > len(rows) else "Pairs that share"
    return _Section("shared", "Most shared", _table(caption, _pair_columns(rows), rows, "pairs", _SHORT_LIST))


# Deduplication


def _level(document: Row) -> str:
    """Tell what is compared: the document says so, or what it has does."""
    said = document.get("level")
    if said in ("blob", "file", "chunk"):
        return str(said)
    if document.get("layers") is not None or "saved_bytes" in _row(document, "totals"):
        return "blob"
    return "chunk" if any("chunk" in key for key in _row(document, "totals")) else "file"


def _dedup_sums(document: Row, level: str) -> tuple[float | None, float | None, float | None]:
    """Return all bytes, those that are needed once, and those that are there again."""
    totals = _row(document, "totals")
    names = ("logical_bytes", "stored_bytes", "saved_bytes")
    if level != "blob":
        names = (f"{level}_bytes", "unique_bytes", "duplicate_bytes")
    whole, once, again = (_number(totals.get(name)) for name in names)
    return whole, once, again


def _dedup_lede(document: Row, level: str) -> str:
    whole, _, again = _dedup_sums(document, level)
    layers = _number(_row(document, "totals").get("layer_count"))
    what = "layers" if layers is None else _plural(layers, "layer", "layers")
    if whole is None or again is None:
        return f"Compared: {what}."
    share = _percent(again, whole)
    if level == "blob":
        return f"Sharing {what} across repositories saves {_size(again)}: {share} of what they would weigh apart."
    return f"Of {_size(whole)} of {level}s in {what}, {_size(again)} ({share}) are copies."


def _dedup_figures(document: Row, level: str) -> list[str]:
    totals = _row(document, "totals")
    whole, once, again = _dedup_sums(document, level)
    layers = _number(totals.get("layer_count"))
    if level == "blob":
        figures = [
            _figure("Stored", _size(once), "" if layers is None else _plural(layers, "layer", "layers"), "main"),
            _figure("Without sharing", _size(whole), "each layer once a repository"),
            _figure("Saved by sharing", _size(again), _percent(again, whole), "spared"),
        ]
    else:
        count, distinct = (_number(totals.get(name)) for name in (f"{level}_count", f"unique_{level}_count"))
        figures = [
            _figure("In all layers", _size(whole), "" if count is None else _plural(count, level, f"{level}s"), "main"),
            _figure("Unique", _size(once), "" if distinct is None else f"{distinct:,.0f} different {level}s"),
            _figure("Duplicate", _size(again), _percent(again, whole), "freed"),
        ]
        if layers is not None:
            figures.append(_figure("Layers", f"{layers:,.0f}", "looked into once each"))
    saving = document.get("base_image_saving_bytes")
    if saving is not None:
        figures.append(_figure("A common base image", _size(saving), "saved by rebuilding on one"))
    return figures


def _saving(document: Row, level: str) -> _Section | None:
    whole, once, again = _dedup_sums(document, level)
    if not whole or once is None or again is None:
        return None
    words = ("Stored", "Saved", "each layer once", "shared instead of stored again", "saved")
    if level != "blob":
        words = ("Unique", "Duplicate", f"each {level} once", f"the same {level}s again", "unreferenced")
    parts = [("live", words[0], once, words[2]), (words[4], words[1], again, words[3])]
    return _Section("saving", "Once and again", _bar(parts, once + again, "Bytes"))


def _scopes(document: Row) -> _Section | None:
    scopes = _row(document, "scopes")
    labels = {
        "within_image_bytes": "Within one image",
        "across_images_bytes": "Across images of one repository",
        "across_repositories_bytes": "Across repositories",
    }
    rows = [{"label": label, "bytes": scopes.get(key)} for key, label in labels.items() if key in scopes]
    if not rows:
        return None
    most = max(_number(row["bytes"]) or 0 for row in rows)
    columns = [
        _Column("Where", lambda row: _name_cell(row.get("label")), is_number=False),
        _Column("Duplicate", lambda row: _size_cell(row.get("bytes"), most)),
    ]
    return _Section("scopes", "Where it is duplicate", _table("Duplicates by where they are", columns, rows, "", _ROWS))


def _layers(document: Row) -> _Section | None:
    rows = _rows(document, "layers")
    if not rows:
        return None

    def names(row: Row) -> list[Any]:
        listed = row.get("repositories")
        return listed if isinstance(listed, list) else []

    def saved(row: Row) -> float | None:
        size = _number(row.get("size_bytes"))
        return None if size is None or not names(row) else size * (len(names(row)) - 1)

    columns = [
        _Column("Layer", lambda row: _digest_cell(row.get("digest"), "th"), is_number=False),
        _Column("Size", lambda row: _size_cell(row.get("size_bytes"))),
        _Column("Repositories", lambda row: _count_cell(len(names(row)) if row.get("repositories") else None)),
        _Column("Saved", lambda row: _size_cell(saved(row))),
        _Column("Shared by", lambda row: _list_cell(row.get("repositories"), "more"), is_number=False),
    ]
    return _Section(
        "layers", "Most shared layers", _table("Layers and who shares them", columns, rows, "layers", _LISTED)
    )


def _top(document: Row, level: str) -> _Section | None:
    rows = _rows(document, "top")
    if not rows:
        return None

    def again(row: Row) -> float | None:
        size, copies = _number(row.get("size_bytes")), _number(row.get("copies"))
        return None if size is None or copies is None else size * max(0, copies - 1)

    def name(row: Row) -> str:
        return _digest_cell(row.get("digest"), "th") if row.get("path") is None else _name_cell(row.get("path"))

    columns = [
        _Column(level.capitalize(), name, is_number=False),
        _Column("Size", lambda row: _size_cell(row.get("size_bytes"))),
        _Column("Copies", lambda row: _count_cell(row.get("copies"))),
        _Column("Duplicate", lambda row: _size_cell(again(row))),
    ]
    caption = f"The {level}s that are there most often"
    return _Section("top", f"Top {level}s", _table(caption, columns, rows, f"{level}s", _LISTED))


def _directories(document: Row) -> _Section | None:
    rows = _rows(document, "directories")
    if not rows:
        return None
    columns = [
        _Column("Directory", lambda row: _name_cell(row.get("path")), is_number=False),
        _Column("Duplicate", lambda row: _size_cell(row.get("duplicate_bytes"))),
        _Column("Files", lambda row: _count_cell(row.get("file_count"))),
    ]
    table = _table("The directories with most in duplicate", columns, rows, "directories", _LISTED)
    return _Section("directories", "Top directories", table)


def _pairs(document: Row) -> _Section | None:
    rows = _rows(document, "pairs")
    if not rows:
        return None
    table = _table("The pairs of repositories that share most", _pair_columns(rows), rows, "pairs", _LISTED)
    return _Section("pairs", "Pairs that share most", table)


def _pair_columns(rows: Sequence[Row]) -> list[_Column]:
    most = max((_number(row.get("shared_bytes")) or 0 for row in rows), default=0)
    return [
        _Column("Repository", lambda row: _name_cell(row.get("a")), is_number=False),
        _Column("And", lambda row: f"<td>{_name(row.get('b'))}</td>", is_number=False),
        _Column("Shared", lambda row: _size_cell(row.get("shared_bytes"), most)),
    ]


def _dedup_repositories(document: Row) -> _Section | None:
    """Show what each repository has: the fields differ between the levels, and their names say what they are."""
    rows = _rows(document, "repositories")
    if not rows:
        return None
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith(("_bytes", "_count")))
    columns = [
        _Column("Repository", lambda row: _name_cell(row.get("name")), is_number=False),
        *(_Column(_text(_words(key)), _cell_of(key)) for key in keys),
    ]
    return _Section("repositories", "Repositories", _table("Repositories", columns, rows, "repositories", _ROWS))


def _cell_of(key: str) -> Callable[[Row], str]:
    if key.endswith("_bytes"):
        return lambda row: _size_cell(row.get(key))
    return lambda row: _count_cell(row.get(key))


# Both


def _count_findings(document: Row) -> str:
    words = [str(row.get("severity")) for row in _rows(document, "findings")]
    counts = ((severity, words.count(severity)) for severity in _SEVERITIES)
    plurals = {"critical": "critical", "info": "notes", "error": "errors", "warning": "warnings"}
    singular = {**plurals, "info": "note", "error": "error", "warning": "warning"}
    return ", ".join(f"{count:,} {(singular if count == 1 else plurals)[name]}" for name, count in counts if count)


def _findings(document: Row) -> _Section:
    rows = _rows(document, "findings")
    if not rows:
        return _Section("findings", "Findings", "<p>There are none.</p>")
    rank = {severity: number for number, severity in enumerate(_SEVERITIES)}
    ordered = sorted(rows, key=lambda row: rank.get(str(row.get("severity")), len(rank)))
    entries = "".join(_finding(row) for row in ordered[:_LISTED])
    left = _note(_MORE.format(count=len(rows) - _LISTED, noun="findings")) if len(rows) > _LISTED else ""
    return _Section("findings", "Findings", f'<ul class="findings">{entries}</ul>{left}')


def _finding(row: Row) -> str:
    severity = str(row.get("severity") or "unknown")
    style = severity if severity in _SEVERITIES else "info"
    repair = f'<p class="repair">{_text(row["repair"])}</p>' if row.get("repair") else ""
    detail = f"<p>{_text(row['detail'])}</p>" if row.get("detail") else ""
    return (
        f'<li class="{style}"><p><span class="severity">{_text(severity)}</span> <b class="subject">'
        f"{_name(row.get('subject'))}</b> <code>{_text(row.get('id') or '')}</code></p>{detail}{repair}</li>"
    )


def _strays(document: Row) -> _Section | None:
    listed = document.get("strays")
    if not isinstance(listed, list) or not listed:
        return None
    keys = "".join(f"<li><code>{_name(key)}</code></li>" for key in listed[:_LISTED])
    left = _note(_MORE.format(count=len(listed) - _LISTED, noun="strays")) if len(listed) > _LISTED else ""
    note = _note(f"{_plural(len(listed), 'file', 'files')} that no registry put there. They are in no number above.")
    return _Section("strays", "Strays", f'{note}<ul class="strays">{keys}</ul>{left}')


def _totals(document: Row) -> _Section | None:
    totals = _row(document, "totals")
    entries = "".join(
        f"<div><dt>{_text(_words(key))}</dt><dd>{_size(value) if key.endswith('_bytes') else _count(value)}</dd></div>"
        for key, value in totals.items()
        if value is None or _number(value) is not None
    )
    return _Section("totals", "All totals", f'<dl class="totals">{entries}</dl>') if entries else None


def _table(caption: str, columns: Sequence[_Column], rows: Sequence[Row], noun: str, limit: int) -> str:
    """Return a table that can be sorted, of no more rows than the limit, and what is left out."""
    headings = "".join(
        f'<th scope="col"{" class=n" if column.is_number else ""}>{column.heading}</th>' for column in columns
    )
    body = "\n".join(f"<tr>{''.join(column.cell(row) for column in columns)}</tr>" for row in rows[:limit])
    left = _note(_MORE.format(count=len(rows) - limit, noun=noun)) if len(rows) > limit else ""
    count = f' <span class="share">{len(rows):,}</span>' if noun else ""
    style = "scroll long" if len(rows) > _SCROLLED else "scroll"
    return (
        f'<div class="{style}" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}{count}'
        f"</caption><thead><tr>{headings}</tr></thead>\n<tbody>{body}</tbody></table></div>{left}"
    )


def _name_cell(value: Any) -> str:
    return f'<th scope="row">{_name(value)}</th>'


def _digest_cell(value: Any, tag: str = "td") -> str:
    """Return a digest, cut to what tells it apart; a pointer reads all of it."""
    if value is None:
        return f"<{tag}>{_NOTHING}</{tag}>"
    name, colon, hexadecimal = _printable(value).rpartition(":")
    short = f"{name}{colon}{hexadecimal[:12]}"
    return f'<{tag}><code title="{_text(value)}">{escape(short)}</code></{tag}>'


def _list_cell(value: Any, noun: str) -> str:
    listed = value if isinstance(value, list) else []
    if not listed:
        return f"<td>{_NOTHING}</td>"
    names = ", ".join(_name(item) for item in listed[:_NAMES])
    left = f", {len(listed) - _NAMES:,} {noun}" if len(listed) > _NAMES else ""
    return f'<td class="names">{names}{left}</td>'


def _count_cell(value: Any) -> str:
    number = _number(value)
    return f'<td data-sort="{number:.0f}">{number:,.0f}</td>' if number is not None else _NO_NUMBER


def _size_cell(value: Any, most: float = 0) -> str:
    """Return a cell with a size and, when there is a largest one, a bar for its part of that."""
    number = _number(value)
    if number is None:
        return _NO_NUMBER
    bar = f' class="b" style="--p:{max(0, number) / most:.1%}"' if most else ""
    return f'<td data-sort="{number:.0f}" title="{number:,.0f}"{bar}>{_human(number)}</td>'


def _signed_cell(value: Any) -> str:
    number = _number(value)
    if number is None:
        return _NO_NUMBER
    return f'<td data-sort="{number:.0f}" title="{number:+,.0f}">{_sign(number)}</td>'


def _time_cell(value: Any) -> str:
    seconds = _seconds(value)
    if seconds is None:
        return f"<td class=n>{_text(value)}</td>" if value is not None else _NO_NUMBER
    moment = datetime.fromtimestamp(seconds, UTC)
    return f'<td data-sort="{seconds:.0f}" title="{moment:%H:%M} UTC">{moment:%Y-%m-%d}</td>'


# Words and numbers


def _printable(value: Any) -> str:
    """Return a text with everything that is not seen, or changes how the rest is seen, as an escape."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(value: Any) -> str:
    """Return a text as HTML."""
    return escape(_printable(value))


def _name(value: Any) -> str:
    """Return a name as HTML; letters written from right to left leave what is around them alone."""
    if value is None:
        return _NOTHING
    text = _text(value)
    if len(text) > _LONG_NAME:
        text = text.replace("/", "/<wbr>")
    return text if text.isascii() else f"<bdi>{text}</bdi>"


def _row(row: Row, key: str) -> Row:
    """Return a part of the document, empty when it is null or absent."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _rows(row: Row, key: str) -> list[Row]:
    """Return a list of the document, empty when it is null or absent."""
    value = row.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _seconds(value: Any) -> float | None:
    """Return a time of the document in seconds, or None when it is none."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _human(count: float) -> str:
    """Return bytes with a binary unit, as the tables of the command line do."""
    size = float(count)
    for unit in _UNITS:
        if abs(size) < 1024 or unit == _UNITS[-1]:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError


def _sign(count: float) -> str:
    if not count:
        return "0 B"
    return f"+{_human(count)}" if count > 0 else f"\N{MINUS SIGN}{_human(-count)}"


def _size(value: Any) -> str:
    """Return a size as HTML, with the bytes for a pointer."""
    number = _number(value)
    return _NOTHING if number is None else f'<span class="size" title="{number:,.0f} bytes">{_human(number)}</span>'


def _signed(number: float) -> str:
    return f'<span class="size" title="{number:+,.0f} bytes">{_sign(number)}</span>'


def _count(value: Any) -> str:
    number = _number(value)
    return _NOTHING if number is None else f"{number:,.0f}"


def _percent(part: float | None, whole: float | None) -> str:
    if not whole or part is None:
        return _NOTHING
    share = part / whole
    if share == 0:
        return "0 %"
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{share * 100:.1f} %" if share < 0.1 else f"{share * 100:.0f} %"


def _plural(count: float, one: str, many: str) -> str:
    return f"{count:,.0f} {one if count == 1 else many}"


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _date(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def _day(value: Any) -> str:
    """Return the day of a time as HTML."""
    seconds = _seconds(value)
    if seconds is None:
        return _NOTHING if value is None else _text(value)
    return f'<time datetime="{_text(value)}">{_date(seconds)}</time>'


def _time(value: Any) -> str:
    """Return a time as HTML, to the minute."""
    seconds = _seconds(value)
    if seconds is None:
        return "at an unknown time" if value is None else _text(value)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f'<time datetime="{_text(value)}">{_date(seconds)}, {moment:%H:%M} UTC</time>'


_SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const letters = new Intl.Collator("en", {numeric: true});
  const order = (index, sign) => (a, b) => {
    const [x, y] = [a.cells[index], b.cells[index]].map(
      (cell) => cell.hasAttribute("data-sort") ? Number(cell.dataset.sort) : cell.textContent);
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
    return sign * letters.compare(x, y);
  };
  headings.forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort(order(index, up ? 1 : -1)));
    });
  });
}
"""
"""Makes the headings of tables buttons. Rows without a number come last either way."""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    f"{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'"
)

_STYLE = """
:root {
  color-scheme: light;
  --paper: #ffffff; --card: #f5f7fa; --rule: #dde2e9; --ink: #18202b; --quiet: #566173; --link: #1c5fa8;
  --live: #2f6fb2; --grace: #86b4de; --unreferenced: #d97a1e; --quarantined: #8a5fb5; --uploads: #2f9486;
  --other: #98a1ae; --free: #e4e8ee; --bar: #d9e7f5;
  --unique-0: #e0ebf6; --unique-1: #b9d4ed; --unique-2: #86b5e0; --unique-3: #3573b3; --unique-4: #1d5190;
  --on-light: #14202e; --on-dark: #ffffff; --gathered: #dfe3e8; --on-gathered: #2a3442;
  --critical: #a3123a; --error: #b3261e; --warning: #8a5200; --info: #44566c; --band: #f3dcc0; --limit: #b3261e;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --paper: #11161d; --card: #19202a; --rule: #2c3644; --ink: #e6ebf2; --quiet: #9ba8b9; --link: #82b7ee;
    --live: #4a8fd6; --grace: #2d5f93; --unreferenced: #e8953f; --quarantined: #a985d1; --uploads: #45b09f;
    --other: #667284; --free: #29323f; --bar: #20344a;
    --unique-0: #1d2c3d; --unique-1: #24425f; --unique-2: #2d5f92; --unique-3: #5a9ad8; --unique-4: #9cc8f3;
    --on-light: #eaf1f9; --on-dark: #0c1420; --gathered: #2a323d; --on-gathered: #ccd5e0;
    --critical: #ff8fab; --error: #ff9a8f; --warning: #f0b35c; --info: #a9b8ca; --band: #4a3720; --limit: #ff9a8f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 75rem; background: var(--paper); color: var(--ink);
  font: 0.9375rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
code { font: 0.875em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
a { color: var(--link); text-underline-offset: 0.15em; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
p { margin: 0; }
ul, dl, dd { margin: 0; padding: 0; list-style: none; }
.kind {
  color: var(--quiet); font-size: 0.75rem; font-weight: 600; letter-spacing: 0.09em; text-transform: uppercase;
}
h1 {
  margin: 0.25rem 0 0.5rem; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.015em;
  overflow-wrap: anywhere;
}
h2 { margin: 0 0 0.5rem; font-size: 1.1875rem; line-height: 1.3; letter-spacing: -0.005em; }
h3 { margin: 1.5rem 0 0.5rem; font-size: 0.9375rem; }
.lede { max-width: 46rem; font-size: 1.0625rem; }
.size { white-space: nowrap; }
.particulars { display: flex; flex-wrap: wrap; gap: 0.125rem 1.25rem; margin-top: 0.75rem; color: var(--quiet); }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 1px; margin: 1.75rem 0 1.25rem;
  border: 1px solid var(--rule); border-radius: 8px; background: var(--card); overflow: hidden;
}
.figures > div { padding: 0.875rem 1rem 0.75rem; box-shadow: 0 0 0 1px var(--rule); }
.figures dt { color: var(--quiet); font-size: 0.8125rem; }
.figures .value {
  font-size: 1.25rem; font-weight: 600; line-height: 1.35; letter-spacing: -0.015em; white-space: nowrap;
}
.figures .note { color: var(--quiet); font-size: 0.8125rem; line-height: 1.35; }
.figures .main { box-shadow: inset 0 3px var(--live), 0 0 0 1px var(--rule); }
.figures .freed { box-shadow: inset 0 3px var(--unreferenced), 0 0 0 1px var(--rule); }
.figures .spared { box-shadow: inset 0 3px var(--uploads), 0 0 0 1px var(--rule); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.125rem; font-size: 0.875rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); scroll-margin-top: 0.5rem; }
.explained { max-width: 50rem; margin: 0 0 0.875rem; color: var(--quiet); font-size: 0.875rem; }
.explained b { color: var(--ink); font-weight: 600; }
.scroll + .explained, .legend + .explained, ul + .explained { margin: 0.75rem 0 0; }
svg { display: block; width: 100%; }
svg.bar { height: 2.25rem; border-radius: 4px; }
svg.bar rect { stroke: var(--paper); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.drawn > div { display: none; }
.drawn > .wide { display: block; }
@media (max-width: 60rem) { .drawn > .wide { display: none; } .drawn > .medium { display: block; } }
@media (max-width: 35rem) { .drawn > .medium { display: none; } .drawn > .narrow { display: block; } }
.live { fill: var(--live); background: var(--live); }
.grace { fill: var(--grace); background: var(--grace); }
.unreferenced { fill: var(--unreferenced); background: var(--unreferenced); }
.quarantined { fill: var(--quarantined); background: var(--quarantined); }
.uploads, .saved { fill: var(--uploads); background: var(--uploads); }
.other { fill: var(--other); background: var(--other); }
.free { fill: var(--free); background: var(--free); }
.band { fill: var(--band); background: var(--band); }
.unique-0, .unknown { fill: var(--unique-0); background: var(--unique-0); }
.unique-1 { fill: var(--unique-1); background: var(--unique-1); }
.unique-2 { fill: var(--unique-2); background: var(--unique-2); }
.unique-3 { fill: var(--unique-3); background: var(--unique-3); }
.unique-4 { fill: var(--unique-4); background: var(--unique-4); }
.gathered { fill: var(--gathered); background: var(--gathered); }
.swatch {
  display: inline-block; width: 0.75rem; height: 0.75rem; border-radius: 2px; box-shadow: inset 0 0 0 1px #8886;
}
.legend {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr)); gap: 0.625rem 1.5rem; margin-top: 1rem;
}
.legend li { position: relative; padding-left: 1.375rem; }
.legend .swatch { position: absolute; left: 0; top: 0.3125rem; }
.legend .label { margin-right: 0.25rem; }
.legend b { font-weight: 600; }
.legend small { display: block; color: var(--quiet); font-size: 0.8125rem; line-height: 1.35; }
.share { color: var(--quiet); font-weight: 400; white-space: nowrap; }
.shades {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin-top: 0.75rem; color: var(--quiet);
  font-size: 0.8125rem;
}
.shades .swatch { margin-right: 0.375rem; vertical-align: -0.0625rem; }
.stroke {
  display: inline-block; width: 1.25rem; margin-right: 0.375rem; border-top: 2px solid var(--live);
  vertical-align: 0.25rem;
}
.stroke.expected { border-top: 2px dashed var(--unreferenced); }
svg text { font-size: 12px; fill: var(--ink); pointer-events: none; }
.group { fill: var(--card); stroke: var(--rule); }
svg .heading { font-weight: 600; }
svg .aside, svg .axis { fill: var(--quiet); }
.on.unique-0, .on.unique-1, .on.unique-2, .on.unknown { fill: var(--on-light); }
.on.unique-3, .on.unique-4 { fill: var(--on-dark); }
.on.gathered { fill: var(--on-gathered); }
.treemap rect:not(.group):hover { stroke: var(--ink); stroke-width: 2px; }
.grid { stroke: var(--rule); }
.axis-mark { stroke: var(--quiet); }
.measured { fill: none; stroke: var(--live); stroke-width: 2.25px; stroke-linejoin: round; }
.expected { fill: none; stroke: var(--unreferenced); stroke-width: 2px; stroke-dasharray: 6 4; }
.dot { fill: var(--paper); stroke: var(--live); stroke-width: 1.75px; }
.limit { stroke: var(--limit); stroke-width: 1.5px; }
svg .limit-label { fill: var(--limit); font-weight: 600; }
.growth p { margin-bottom: 1rem; }
#growth .drawn { margin-top: 1rem; }
.scroll { max-width: 100%; overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; }
.long { max-height: min(80vh, 60rem); overflow-y: auto; }
table { width: 100%; border-collapse: separate; border-spacing: 0; font-size: 0.875rem; line-height: 1.4; }
caption { padding: 0.625rem 0.875rem 0.375rem; text-align: left; font-weight: 600; }
th, td { padding: 0.3125rem 0.5rem; text-align: left; vertical-align: top; }
td, tbody code { white-space: nowrap; }
td[data-sort], th.n, td.n { text-align: right; }
thead th {
  position: sticky; top: 0; z-index: 2; padding-block: 0.5rem; background: var(--paper); color: var(--quiet);
  border-bottom: 1px solid var(--rule); font-weight: 600; white-space: nowrap;
}
th:first-child { padding-left: 0.875rem; }
th:last-child, td:last-child { padding-right: 0.875rem; }
tbody th { min-width: 10rem; font-weight: 500; overflow-wrap: anywhere; }
tbody tr:nth-child(even) > * { background-color: var(--card); }
tbody tr:hover > * { background-color: var(--bar); }
td.names { min-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
td.b { background: linear-gradient(var(--bar), var(--bar)) no-repeat left 0 center / var(--p) 70%; }
tr:hover td.b { background-image: linear-gradient(var(--free), var(--free)); }
thead button {
  display: inline-block; margin: -0.25rem; padding: 0.25rem; border: 0; background: none; color: inherit; font: inherit;
  cursor: pointer;
}
thead button:hover, [aria-sort=ascending] button, [aria-sort=descending] button { color: var(--ink); }
thead button::after { content: "\\2195"; display: inline-block; width: 0.75em; margin-left: 0.125em; opacity: 0.55; }
[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
.findings li { padding: 0.625rem 0 0.625rem 0.875rem; border-left: 3px solid var(--tone); }
.findings li + li { margin-top: 0.5rem; }
.findings .critical { --tone: var(--critical); }
.findings .error { --tone: var(--error); }
.findings .warning { --tone: var(--warning); }
.findings .info { --tone: var(--info); }
.findings p { max-width: 60rem; overflow-wrap: anywhere; }
.findings .subject { font-weight: 600; }
.findings code { color: var(--quiet); }
.findings .repair { color: var(--quiet); }
.findings .repair::before { content: "\\2192\\00a0"; }
.severity {
  margin-right: 0.375rem; color: var(--tone); font-size: 0.75rem; font-weight: 700; letter-spacing: 0.05em;
  text-transform: uppercase;
}
.strays li { overflow-wrap: anywhere; }
.totals { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0 2rem; }
.totals div {
  display: flex; justify-content: space-between; gap: 1rem; padding: 0.3125rem 0;
  border-bottom: 1px solid var(--rule);
}
.totals dt { color: var(--quiet); }
footer { margin-top: 3rem; color: var(--quiet); font-size: 0.8125rem; }
@media (max-width: 35rem) {
  body { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.375rem; }
  .figures { grid-template-columns: 1fr 1fr; }
  .figures > div:last-child:nth-child(odd) { grid-column: span 2; }
  .figures .value { font-size: 1.1875rem; }
  tbody th { position: sticky; left: 0; z-index: 1; max-width: 11rem; background: var(--paper); }
  th, td { padding-inline: 0.625rem; }
  td.names { white-space: nowrap; }
  td.names wbr { display: none; }
}
@media print {
  @page { margin: 14mm; }
  html { font-size: 10px; }
  body { padding: 0; max-width: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, thead button::after { display: none; }
  section { margin-top: 1.25rem; padding-top: 0.875rem; }
  .scroll, .long { max-height: none; overflow: visible; border: 0; }
  thead { display: table-header-group; }
  thead th { position: static; }
  th, td { padding: 0.125rem 0.375rem; }
  table { font-size: 0.8125rem; }
  td.names, tbody th { min-width: 0; }
  tr, .findings li, svg, .figures > div { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""

"""Charts of a report as inline SVG: a stacked bar, a treemap, and a curve with its forecast.

Nothing here knows what is drawn: values, labels and names of CSS classes come in, text goes out. Colours belong to the
style sheet of the page. All text is escaped here.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BAR_WIDTH, _BAR_HEIGHT = 1000.0, 36.0
_SLIVER = 6.0
"""No segment of a bar is narrower: what is there must be seen."""
_HEADING_HEIGHT = 19.0
_GAP = 2.0
_FONT_SIZE = 12.0
_BOLD = 1.12
"""Letters of headings are as much wider."""
_LINE_HEIGHT = 15.0
_PADDING = 6.0
_LEAST_LETTERS = 4
"""A name that is cut shorter says nothing."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 68.0, 14.0, 14.0, 26.0
_DOTS = 32
"""Of more measurements than that only the last has a dot: they would hide the line."""


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, by: float) -> Box:
        """Return the rectangle less a margin, never less than nothing."""
        by = min(by, self.width / 2, self.height / 2)
        return Box(self.x + by, self.y + by, self.width - 2 * by, self.height - 2 * by)


class Size(NamedTuple):
    """What a chart is drawn for, in pixels."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar, in a colour of the style sheet."""

    value: float
    title: str
    style: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A box of a treemap: its name, what stands below the name, and what a pointer reads."""

    value: float
    label: str
    note: str
    title: str
    style: str


@dataclass(frozen=True, slots=True)
class Group:
    """A box of a treemap with boxes in it: some on their own, the largest first, and one for all that are smaller."""

    label: str
    note: str
    title: str
    tiles: Sequence[Tile]
    gathered: Tile | None = None

    @property
    def value(self) -> float:
        """All that is in it."""
        return sum(tile.value for tile in self.tiles) + (self.gathered.value if self.gathered else 0)


class Point(NamedTuple):
    """A point of a curve, in the units of the axes."""

    x: float
    y: float


class Tick(NamedTuple):
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A measured curve, what is expected after it, and the axes.

    Attributes:
        points: what was measured, in order; `titles` has a text for each.
        expected: the line of the forecast.
        band: the outline of where the forecast lies.
        limit: a level that must not be crossed, with its label.
        across: first and last of the horizontal axis.
        up: first and last of the vertical axis.
    """

    points: Sequence[Point]
    titles: Sequence[str]
    across: tuple[float, float]
    up: tuple[float, float]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    expected: Sequence[Point] = ()
    band: Sequence[Point] = ()
    limit: Tick | None = None


def stacked_bar(segments: Sequence[Segment], *, title: str) -> str:
    """Draw parts of a whole side by side. The bar stretches to the width that it is given."""
    shown = [segment for segment in segments if segment.value > 0]
    total = sum(segment.value for segment in shown)
    widths = [max(_SLIVER, segment.value / total * _BAR_WIDTH) for segment in shown]
    # What the slivers got beyond their share comes off the others, so that the whole stays as wide.
    scale = _BAR_WIDTH / sum(widths) if widths else 1.0
    parts = []
    x = 0.0
    for segment, width in zip(shown, widths, strict=True):
        parts.append(_rect(Box(x, 0.0, width * scale, _BAR_HEIGHT), segment.style, segment.title))
        x += width * scale
    return _svg("bar", Size(_BAR_WIDTH, _BAR_HEIGHT), title, parts, ' preserveAspectRatio="none"')


def squarify(values: Sequence[float], into: Box) -> list[Box]:
    """Part a box into boxes as near to squares as can be, with areas in proportion to the values.

    The squarified treemap of Bruls, Huizing and van Wijk (2000): rows along the shorter side, each filled for as long
    as that makes its boxes squarer. The boxes come, and lie, in the order of the values, which must be above 0; they
    are squarest when the values fall.
    """
    boxes: list[Box] = []
    rest = float(sum(values))
    while len(boxes) < len(values):
        if into.width <= 0 or into.height <= 0:
            return [*boxes, *[Box(into.x, into.y, 0.0, 0.0)] * (len(values) - len(boxes))]
        scale, side = into.width * into.height / rest, min(into.width, into.height)
        row = [values[len(boxes)]]
        for value in values[len(boxes) + 1 :]:
            if _worst([*row, value], scale, side) > _worst(row, scale, side):
                break
            row.append(value)
        is_last = len(boxes) + len(row) == len(values)
        placed, into = _lay_row(row, scale, into, is_last=is_last)
        boxes.extend(placed)
        rest -= sum(row)
    return boxes


def _worst(row: Sequence[float], scale: float, side: float) -> float:
    """Return the worst ratio of sides in a row of these values."""
    area = sum(row) * scale
    return max(side * side * max(row) * scale / (area * area), area * area / (side * side * min(row) * scale))


def _lay_row(row: Sequence[float], scale: float, into: Box, *, is_last: bool) -> tuple[list[Box], Box]:
    """Place one row along the shorter side, and return its boxes and what is left."""
    upright = into.width >= into.height
    side, depth = (into.height, into.width) if upright else (into.width, into.height)
    total = sum(row)
    # The last row takes what is there: errors of rounding add up to no gap.
    thickness = depth if is_last else min(depth, total * scale / side)
    boxes = []
    along = 0.0
    for value in row:
        length = min(side - along, value / total * side)
        if upright:
            boxes.append(Box(into.x, into.y + along, thickness, length))
        else:
            boxes.append(Box(into.x + along, into.y, length, thickness))
        along += length
    if upright:
        return boxes, Box(into.x + thickness, into.y, into.width - thickness, into.height)
    return boxes, Box(into.x, into.y + thickness, into.width, into.height - thickness)


def treemap(groups: Sequence[Group], *, size: Size, title: str) -> str:
    """Draw groups, and in each its tiles, by area. Labels stand only where they fit."""
    shown = [group for group in groups if group.value > 0]
    parts: list[str] = []
    for group, box in zip(shown, squarify([group.value for group in shown], Box(0.0, 0.0, *size)), strict=True):
        parts.extend(_group(group, box.inset(_GAP / 2)))
    return _svg("treemap", size, title, parts)


def _group(group: Group, box: Box) -> Iterable[str]:
    """Draw a group: its heading when there is room for one, and its tiles."""
    yield f"<g>{_rect(box, 'group', group.title)}"
    inner = box.inset(_GAP)
    label = _fit(group.label, inner.width - _PADDING, _BOLD * _FONT_SIZE)
    if label and inner.height > 2 * _HEADING_HEIGHT:
        note = ""
        if len(label) == len(group.label):
            left = inner.width - 3 * _PADDING - _text_width(label, _BOLD * _FONT_SIZE)
            note = group.note if _text_width(group.note, _FONT_SIZE) <= left else ""
        y = inner.y + _HEADING_HEIGHT - _PADDING
        yield _text(Point(inner.x + _PADDING / 2, y), label, "heading")
        if note:
            yield _text(Point(inner.x + inner.width - _PADDING / 2, y), note, "aside", "end")
        inner = Box(inner.x, inner.y + _HEADING_HEIGHT, inner.width, inner.height - _HEADING_HEIGHT)
    tiles = [tile for tile in group.tiles if tile.value > 0]
    if group.gathered is not None:
        # It is often larger than any other, and stands last all the same.
        inner, rest = _halve(sum(tile.value for tile in tiles), group.gathered.value, inner)
        yield _tile(group.gathered, rest.inset(0.5))
    for tile, place in zip(tiles, squarify([tile.value for tile in tiles], inner), strict=True):
        yield _tile(tile, place.inset(0.5))
    yield "</g>"


def _halve(first: float, second: float, box: Box) -> tuple[Box, Box]:
    """Part a box in two across its longer side."""
    share = first / (first + second)
    if box.width >= box.height:
        width = box.width * share
        return box._replace(width=width), Box(box.x + width, box.y, box.width - width, box.height)
    height = box.height * share
    return box._replace(height=height), Box(box.x, box.y + height, box.width, box.height - height)


def _tile(tile: Tile, box: Box) -> str:
    """Draw a tile with its name and, when that is whole and there is room, its note."""
    drawn = _rect(box, tile.style, tile.title)
    room = box.width - 2 * _PADDING
    label = _fit(tile.label, room, _FONT_SIZE)
    if not label or box.height < _LINE_HEIGHT + _PADDING:
        return drawn
    drawn += _text(Point(box.x + _PADDING, box.y + _LINE_HEIGHT + 1), label, f"on {tile.style}")
    if box.height >= 2 * _LINE_HEIGHT + _PADDING and 0 < _text_width(tile.note, _FONT_SIZE) <= room:
        drawn += _text(Point(box.x + _PADDING, box.y + 2 * _LINE_HEIGHT + 1), tile.note, f"on note {tile.style}")
    return drawn


def curve_chart(curve: Curve, *, size: Size, title: str) -> str:
    """Draw a curve in its axes, with the forecast in a band behind it."""
    frame = Box(_LEFT, _TOP, size.width - _LEFT - _RIGHT, size.height - _TOP - _BOTTOM)
    (left, right), (low, high) = curve.across, curve.up

    def place(point: Point) -> Point:
        x = frame.x + (point.x - left) / ((right - left) or 1.0) * frame.width
        return Point(x, frame.y + frame.height - (point.y - low) / ((high - low) or 1.0) * frame.height)

    bottom, end = frame.y + frame.height, frame.x + frame.width
    parts = []
    for tick in curve.y_ticks:
        y = place(Point(left, tick.at)).y
        parts.append(_line(Point(frame.x, y), Point(end, y), "grid"))
        parts.append(_text(Point(frame.x - 8, y + 4), tick.label, "axis", "end"))
    for tick in curve.x_ticks:
        x = place(Point(tick.at, low)).x
        parts.append(_line(Point(x, bottom), Point(x, bottom + 4), "axis-mark"))
        parts.append(_text(Point(x, bottom + 18), tick.label, "axis", "middle"))
    if curve.band:
        parts.append(f'<polygon class="band" points="{_points(map(place, curve.band))}"/>')
    if curve.expected:
        parts.append(f'<polyline class="expected" points="{_points(map(place, curve.expected))}"/>')
    if curve.limit is not None:
        y = place(Point(left, curve.limit.at)).y
        parts.append(_line(Point(frame.x, y), Point(end, y), "limit"))
        parts.append(_text(Point(frame.x + 6, y + 15), curve.limit.label, "limit-label"))
    if len(curve.points) > 1:
        parts.append(f'<polyline class="measured" points="{_points(map(place, curve.points))}"/>')
    dotted = len(curve.points) if len(curve.points) <= _DOTS else 1
    for point, text in list(zip(map(place, curve.points), curve.titles, strict=True))[-dotted:]:
        parts.append(
            f'<circle class="dot" cx="{_number(point.x)}" cy="{_number(point.y)}" r="3">'
            f"<title>{escape(text)}</title></circle>"
        )
    return _svg("curve", size, title, parts)


def _fit(text: str, room: float, size: float) -> str:
    """Return the text, or as much of it as there is room for, or nothing."""
    if _text_width(text, size) <= room:
        return text
    for length in range(len(text) - 1, _LEAST_LETTERS - 1, -1):
        cut = f"{text[:length]}…"
        if _text_width(cut, size) <= room:
            return cut
    return ""


def _text_width(text: str, size: float) -> float:
    """Estimate how wide a text is: fonts differ, so rather too wide than too narrow."""
    return size * sum(_letter_width(letter) for letter in text)


def _letter_width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    if letter in "ijlt.,:;|!'/ ()[]frI":
        return 0.42
    return 0.84 if letter in "mwMW%@<>=+&#~" or letter.isupper() else 0.63


def _svg(style: str, size: Size, title: str, parts: Iterable[str], more: str = "") -> str:
    box = f"0 0 {_number(size.width)} {_number(size.height)}"
    body = "".join(parts)
    return f'<svg class="{style}" viewBox="{box}" role="img"{more}><title>{escape(title)}</title>{body}</svg>'


def _rect(box: Box, style: str, title: str) -> str:
    return (
        f'<rect class="{style}" x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}"'
        f' height="{_number(box.height)}"><title>{escape(title)}</title></rect>'
    )


def _line(start: Point, end: Point, style: str) -> str:
    ends = " ".join(
        f'{name}="{_number(value)}"' for name, value in zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    )
    return f'<line class="{style}" {ends}/>'


def _text(at: Point, text: str, style: str, anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{style}" x="{_number(at.x)}" y="{_number(at.y)}"{where}>{escape(text)}</text>'


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{_number(point.x)},{_number(point.y)}" for point in points)


def _number(value: float) -> str:
    """Return a coordinate to a hundredth of a pixel, as short as can be."""
    return f"{value:.2f}".rstrip("0").rstrip(".")

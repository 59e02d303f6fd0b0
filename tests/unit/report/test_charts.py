"""Charts as text: what is drawn where, and that no text is markup."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.report.charts import (
    Box,
    Curve,
    Group,
    Point,
    Segment,
    Size,
    Tick,
    Tile,
    curve_chart,
    squarify,
    stacked_bar,
    treemap,
)
from support.examples import examples

HOSTILE = "</title><script>alert(1)</script>\"'&"
BOX = Box(3.0, 5.0, 640.0, 360.0)
VALUES = st.lists(st.integers(1, 10**14), min_size=1, max_size=60)


def parse(svg: str) -> ElementTree.Element:
    """Read a chart strictly: what is well-formed for XML is so for a browser."""
    return ElementTree.fromstring(svg)


def boxes_of(svg: str, style: str) -> list[Box]:
    return [
        Box(*(float(rect.attrib[name]) for name in ("x", "y", "width", "height")))
        for rect in parse(svg).iter("rect")
        if rect.attrib["class"] == style
    ]


def overlap(one: Box, other: Box) -> float:
    """Return the depth to which two boxes lie in each other, at most 0 when they do not."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return min(across, down)


def is_inside(box: Box, outer: Box, slack: float) -> bool:
    return (
        box.x >= outer.x - slack
        and box.y >= outer.y - slack
        and box.x + box.width <= outer.x + outer.width + slack
        and box.y + box.height <= outer.y + outer.height + slack
    )


def tile(value: float, label: str = "app", style: str = "plain") -> Tile:
    return Tile(value, label, f"{value:.0f} B", f"{label}: {value:.0f}", style)


@examples(60)
@given(VALUES)
def test_areas_are_in_proportion_to_the_values(values: list[int]) -> None:
    boxes = squarify(values, BOX)

    whole = BOX.width * BOX.height
    assert len(boxes) == len(values)
    for value, box in zip(values, boxes, strict=True):
        assert box.width * box.height == pytest.approx(value / sum(values) * whole, rel=1e-6, abs=1e-6)


@examples(60)
@given(VALUES)
def test_boxes_lie_inside_and_side_by_side(values: list[int]) -> None:
    boxes = squarify(values, BOX)

    assert all(is_inside(box, BOX, 1e-6) for box in boxes)
    assert all(overlap(one, other) <= 1e-6 for one, other in itertools.combinations(boxes, 2))


def test_boxes_of_falling_values_are_nearly_square() -> None:
    """The example of the paper that the treemap is named after."""
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))

    assert boxes[0] == Box(0, 0, 3, 2)
    assert boxes[1] == Box(0, 2, 3, 2)
    assert max(max(box.width / box.height, box.height / box.width) for box in boxes) < 3


@pytest.mark.parametrize("box", [Box(0, 0, 0, 0), Box(0, 0, 10, 0)])
def test_a_box_of_no_size_is_parted_into_such(box: Box) -> None:
    assert [part.width * part.height for part in squarify([3, 2, 1], box)] == [0, 0, 0]


def test_nothing_is_parted_into_nothing() -> None:
    assert squarify([], BOX) == []


@examples(60)
@given(st.lists(st.lists(st.integers(0, 10**13), max_size=12), max_size=12), st.integers(0, 10**13))
def test_tiles_lie_inside_their_groups_and_groups_side_by_side(shares: list[list[int]], rest: int) -> None:
    groups = [Group("team/", "", "team", [tile(value) for value in values], tile(rest + 1)) for values in shares]
    size = Size(800, 400)

    drawn = treemap(groups, size=size, title="all")

    outer, inner = boxes_of(drawn, "group"), boxes_of(drawn, "plain")
    assert len(outer) == len(groups)
    assert len(inner) == sum(1 + sum(value > 0 for value in values) for values in shares)
    assert all(is_inside(box, Box(0, 0, *size), 0.02) for box in outer)
    assert all(overlap(one, other) <= 0.02 for one, other in itertools.combinations(outer, 2))
    assert all(overlap(one, other) <= 0.02 for one, other in itertools.combinations(inner, 2))
    assert all(any(is_inside(box, group, 0.02) for group in outer) for box in inner)


def test_a_group_of_nothing_is_not_drawn() -> None:
    drawn = treemap(
        [Group("a/", "", "a", [tile(0)]), Group("b/", "", "b", [tile(5)])], size=Size(300, 200), title="all"
    )

    assert len(boxes_of(drawn, "group")) == 1


def test_labels_stand_only_where_they_fit() -> None:
    tiles = [tile(1000, "large"), tile(500, "a-very-long-name-that-does-not-fit" * 4), tile(1, "tiny")]

    drawn = treemap([Group("team/", "1.5 KiB", "team", tiles)], size=Size(400, 300), title="all")

    texts = [text.text or "" for text in parse(drawn).iter("text")]
    assert texts[:4] == ["team/", "1.5 KiB", "large", "1000 B"]
    assert [text for text in texts if text.endswith("…")] == [texts[4]]
    assert "tiny" not in texts
    assert "tiny: 1" in [title.text for title in parse(drawn).iter("title")]


def test_wide_letters_need_more_room() -> None:
    def label(name: str) -> list[str | None]:
        drawn = treemap([Group("", "", "", [tile(1, name)])], size=Size(130, 100), title="all")
        return [text.text for text in parse(drawn).iter("text")]

    assert label("ordinary-name") == ["ordinary-name", "1 B"]
    assert label("画像管理用登録簿第一号機")[0] == "画像管理用登録簿…"


def test_parts_of_a_bar_fill_it_in_proportion() -> None:
    drawn = stacked_bar([Segment(600, "most", "a"), Segment(400, "rest", "b"), Segment(0, "none", "c")], title="all")

    assert boxes_of(drawn, "a") == [Box(0, 0, 600, 36)]
    assert boxes_of(drawn, "b") == [Box(600, 0, 400, 36)]
    assert boxes_of(drawn, "c") == []


@examples(60)
@given(st.lists(st.integers(0, 10**15), max_size=8))
def test_a_bar_is_as_wide_as_ever_and_no_part_is_lost(values: list[int]) -> None:
    drawn = stacked_bar([Segment(value, "part", "part") for value in values], title="all")

    boxes = boxes_of(drawn, "part")
    assert len(boxes) == sum(value > 0 for value in values)
    assert all(box.width >= 5.7 for box in boxes)
    assert not boxes or sum(box.width for box in boxes) == pytest.approx(1000, abs=0.1)


def curve(**changes: object) -> Curve:
    fields: dict[str, object] = {
        "points": [Point(0, 0), Point(5, 50), Point(10, 100)],
        "titles": ["first", "second", "third"],
        "across": (0, 20),
        "up": (0, 200),
        "x_ticks": [Tick(0, "Monday"), Tick(20, "Friday")],
        "y_ticks": [Tick(0, "0 B"), Tick(200, "200 B")],
    }
    return Curve(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_curve_lies_in_its_axes() -> None:
    drawn = parse(curve_chart(curve(), size=Size(482, 240), title="growth"))

    (line,) = drawn.iter("polyline")
    assert line.attrib["points"] == "68,214 168,164 268,114"
    assert [text.text for text in drawn.iter("text")] == ["0 B", "200 B", "Monday", "Friday"]
    assert [title.text for title in drawn.iter("title")] == ["growth", "first", "second", "third"]
    assert drawn.attrib["role"] == "img"


def test_a_forecast_is_a_line_in_a_band_below_a_limit() -> None:
    expected = [Point(10, 100), Point(20, 200)]
    band = [Point(10, 100), Point(15, 200), Point(20, 200), Point(20, 150)]

    drawn = parse(
        curve_chart(curve(expected=expected, band=band, limit=Tick(200, "full")), size=Size(482, 240), title="growth")
    )

    assert [line.attrib["class"] for line in drawn.iter("polyline")] == ["expected", "measured"]
    (polygon,) = drawn.iter("polygon")
    assert polygon.attrib["points"] == "268,114 368,14 468,14 468,64"
    assert [line.attrib["y1"] for line in drawn.iter("line") if line.attrib["class"] == "limit"] == ["14"]


def test_of_many_points_only_the_last_has_a_dot() -> None:
    points = [Point(number / 10, number) for number in range(100)]

    drawn = parse(
        curve_chart(curve(points=points, titles=[str(point.y) for point in points]), size=Size(482, 240), title="")
    )

    assert [circle.findtext("title") for circle in drawn.iter("circle")] == ["99"]


@pytest.mark.parametrize("flat", [{"across": (5, 5), "up": (7, 7)}, {"points": [Point(3, 3)], "titles": ["one"]}])
def test_a_curve_without_an_extent_is_drawn(flat: dict[str, object]) -> None:
    assert parse(curve_chart(curve(**flat), size=Size(482, 240), title="")) is not None


def test_no_text_is_markup() -> None:
    hostile = Tile(9, HOSTILE, HOSTILE, HOSTILE, "plain")
    drawn = [
        stacked_bar([Segment(1, HOSTILE, "part")], title=HOSTILE),
        treemap([Group(HOSTILE, HOSTILE, HOSTILE, [hostile], hostile)], size=Size(2000, 900), title=HOSTILE),
        curve_chart(
            curve(titles=[HOSTILE] * 3, x_ticks=[Tick(1, HOSTILE)], limit=Tick(3, HOSTILE)),
            size=Size(482, 240),
            title=HOSTILE,
        ),
    ]

    for svg in drawn:
        texts = [element.text for element in parse(svg).iter() if element.tag in ("title", "text")]
        assert HOSTILE in texts
        assert "<script" not in svg

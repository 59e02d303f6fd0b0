"""The page of a report as text: whole whatever the document lacks, and nothing in it but what belongs there."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.report.page import render_capacity_page, render_dedup_page
from support.examples import examples
from support.report_documents import (
    GIB,
    HOSTILE,
    capacity_document,
    dedup_blob_document,
    dedup_chunk_document,
    dedup_file_document,
    hostile_document,
    without_values,
)

Render = Callable[[dict[str, Any]], str]

PAGES: dict[str, tuple[Render, Callable[[], dict[str, Any]]]] = {
    "capacity": (render_capacity_page, capacity_document),
    "blob": (render_dedup_page, dedup_blob_document),
    "file": (render_dedup_page, dedup_file_document),
    "chunk": (render_dedup_page, dedup_chunk_document),
}
VOID = {"meta", "wbr", "br", "link", "img", "input"}
ALLOWED = re.compile(
    "html|head|meta|title|style|script|body|header|footer|nav|main|section|h[123]|p|ul|li|dl|div|dt|dd|a|b|code|small"
    "|span|time|bdi|wbr|svg|g|rect|line|text|circle|polygon|polyline|table|caption|thead|tbody|tr|th|td"
)


class Page(HTMLParser):
    """A page read strictly: every element that is opened is closed, in order.

    Attributes:
        tags: the names of all elements.
        attributes: name and value of all attributes.
        texts: what can be read, by element.
        rows: the cells of all table rows, as text.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice"
        self.attributes.extend((name, value or "") for name, value in attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if (self.get_starttag_text() or "").endswith("/>") and (not self._open or self._open[-1] != tag):
            return  # the parser ends an element that closes itself once more
        assert self._open, f"{tag} is closed and never opened"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return "".join(data for element, data in self.texts if element not in ("style", "script"))


def render(kind: str, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document) -> str:
    """Return the page of a sample document that was changed."""
    renderer, document = PAGES[kind]
    return renderer(change(document()))


@pytest.fixture(params=list(PAGES))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of page."""
    return str(request.param)


def emptied(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with every list and part empty."""
    return {key: type(value)() if isinstance(value, list | dict) else value for key, value in document.items()}


@pytest.mark.parametrize(
    "change",
    [
        dict,
        without_values,
        emptied,
        hostile_document,
        dict.fromkeys,
        lambda _: {},
        lambda document: without_values(hostile_document(document)),
    ],
    ids=["whole", "null-fields", "empty", "hostile", "null", "nothing", "null-names"],
)
def test_a_page_is_well_formed(kind: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    page = Page(render(kind, change))

    assert [tag for tag in page.tags if not ALLOWED.fullmatch(tag)] == []
    assert page.tags.count("script") == 1
    assert page.tags.count("h1") == 1
    identifiers = [value for name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    assert {value for name, value in page.attributes if name == "href"} <= {f"#{name}" for name in identifiers}
    assert "None" not in page.text


def test_a_page_asks_for_nothing(kind: str) -> None:
    html = render(kind)
    page = Page(html)

    names = {name for name, _ in page.attributes}
    assert not names & {"src", "srcset", "action", "background", "poster", "data", "xlink:href", "ping"}
    assert not [name for name in names if name.startswith("on")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html.replace("\n", " "))


def test_the_policy_allows_the_script_of_the_page_and_nothing_else(kind: str) -> None:
    html = render(kind)

    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy} ' in html
    assert html.index("Content-Security-Policy") < html.index("<style")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_are_no_markup(name: str) -> None:
    document = capacity_document(1)
    document["repositories"][0]["name"] = name
    document["findings"][0]["subject"] = name
    document["strays"] = [name]
    document["location"] = name

    html = render_capacity_page(document)
    page = Page(html)

    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert shown in [row[0] for row in page.rows]
    assert page.text.count(shown) >= 4
    assert html.count("<script") == 1
    assert html.encode()  # a lone surrogate would not do


@examples(60)
@given(st.text())
def test_any_name_is_shown_as_it_is_printed(name: str) -> None:
    page = Page(render_capacity_page({"strays": [name], "repositories": [{"name": name, "stored_bytes": 1}]}))

    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert shown in [row[0] for row in page.rows]
    assert all(c.isprintable() or c == "\n" for c in page.text)


def test_a_hostile_severity_is_no_class() -> None:
    finding = {"id": "x", "severity": 'info" onclick="harm()', "subject": "s", "detail": "d", "repair": ""}

    page = Page(render_capacity_page({"findings": [finding]}))

    assert "onclick" not in {name for name, _ in page.attributes}


def test_sizes_are_for_people_and_bytes_for_machines() -> None:
    html = render_capacity_page(
        {"repositories": [{"name": "team/app", "stored_bytes": 3 * GIB // 2, "growth_bytes": -1024}]}
    )

    assert '<td data-sort="1610612736" title="1,610,612,736" class="b" style="--p:100.0%">1.5 GiB</td>' in html
    assert '<td data-sort="-1024" title="-1,024">\N{MINUS SIGN}1.0 KiB</td>' in html


def test_what_fills_the_volume_adds_up_to_it() -> None:
    totals = {"live_bytes": 50, "unreferenced_bytes": 20, "grace_bytes": 10, "quarantined_bytes": 4, "upload_bytes": 1}
    page = Page(render_capacity_page({"totals": totals, "volume": {"total_bytes": 200, "free_bytes": 100}}))

    assert "Live 50 B (25 %), In grace 10 B (5.0 %), Reclaimable 20 B (10 %)" in page.text
    assert "Quarantined 4 B (2.0 %), Uploads 1 B (0.5 %), Other 15 B (7.5 %), Free 100 B (50 %)" in page.text


def test_a_bucket_has_no_free_space() -> None:
    page = Page(render_capacity_page({"totals": {"live_bytes": 75, "unreferenced_bytes": 25}, "volume": None}))

    assert "Live 75 B (75 %)" in page.text
    assert "Free" not in page.text


def test_a_registry_that_is_a_small_part_of_its_volume_has_a_bar_of_its_own() -> None:
    totals = {"live_bytes": 3, "unreferenced_bytes": 1}
    page = Page(render_capacity_page({"totals": totals, "volume": {"total_bytes": 10**6, "free_bytes": 10**5}}))

    assert (
        "What the volume holds: The registry 4 B (under 0.1 %), Other 878.9 KiB (90 %), Free 97.7 KiB (10 %)"
        in page.text
    )
    assert "Live 3 B (75 %)" in page.text


def test_the_worst_findings_come_first() -> None:
    words = ["info", "critical", "warning", "odd", "error"]
    findings = [{"id": "x", "severity": word, "subject": f"s-{word}", "detail": "", "repair": ""} for word in words]

    page = Page(render_capacity_page({"findings": findings}))

    assert re.findall(r"s-(\w+)", page.text) == ["critical", "error", "warning", "info", "odd"]
    assert "1 critical, 1 error, 1 warning, 1 note" in page.text


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (None, "Not enough data: a forecast needs seven days."),
        ({"state": "not-enough-data"}, "Not enough data: a forecast needs seven days."),
        ({"state": "ok", "growth_bytes_per_day": 0}, "no date on which the volume is full."),
        ({"state": "ok", "growth_bytes_per_day": -2048.0}, "It shrinks by 2.0 KiB a day."),
        ({"state": "ok", "growth_bytes_per_day": 2048}, "There is no date on which the volume is full."),
        (
            {
                "state": "ok",
                "growth_bytes_per_day": 2048,
                "full_at": "2027-03-01T10:00:00+00:00",
                "full_at_earliest": "2027-02-01T10:00:00Z",
            },
            "full around 1 Mar 2027, between 1 Feb 2027 and an unknown date, or never.",
        ),
    ],
)
def test_the_forecast_is_told_in_words(forecast: dict[str, Any] | None, words: str) -> None:
    assert words in Page(render_capacity_page({"forecast": forecast})).text


FAR = {"state": "ok", "growth_bytes_per_day": 1, "full_at": "9999-12-31T00:00:00+00:00", "full_at_latest": None}


@pytest.mark.parametrize("forecast", [None, {"state": "not-enough-data"}, FAR, capacity_document(1)["forecast"]])
@pytest.mark.parametrize("year", [1, 1970, 2026, 9999])
@pytest.mark.parametrize("sizes", [(0, 0), (5, 5), (10**15, 1), (1, 10**12)])
def test_a_curve_is_drawn_for_whatever_was_recorded(
    forecast: dict[str, Any] | None, year: int, sizes: tuple[int, int]
) -> None:
    history = [
        {"at": f"{year:04}-12-{30 + number}T00:00:00+00:00", "totals": {"stored_bytes": size}}
        for number, size in enumerate(sizes)
    ]

    page = Page(render_capacity_page({"history": history, "forecast": forecast, "volume": {"free_bytes": 5}}))

    assert page.tags.count("svg") == 3
    assert "polyline" in page.tags
    assert page.tags.count("line") < 60  # not a mark for each byte


def test_one_run_makes_no_curve() -> None:
    history = [{"at": "2026-11-27T00:00:00+00:00", "totals": {"stored_bytes": 4}}]

    assert "svg" not in Page(render_capacity_page({"history": history})).tags


def test_a_long_history_is_thinned_out_up_to_its_last_run() -> None:
    history = [
        {"at": f"2026-{1 + n // 840:02}-{1 + n // 30 % 28:02}T{n % 24:02}:00:00+00:00", "totals": {"stored_bytes": n}}
        for n in range(9000)
    ]

    html = render_capacity_page({"history": history})

    points = [line.count(",") for line in re.findall(r'<polyline class="measured" points="([^"]*)"', html)]
    assert len(points) == 3
    assert all(300 < count <= 400 for count in points)


def test_small_repositories_are_gathered_in_the_treemap() -> None:
    html = render_capacity_page(capacity_document(2000))

    for name, most in (("wide", 220), ("medium", 160), ("narrow", 110)):
        (drawn,) = re.findall(rf'<div class="{name}">(<svg class="treemap".*?</svg>)', html)
        assert drawn.count("<rect") <= most
        assert re.search(r"\d+ more repositories: ", drawn)


def test_many_namespaces_are_gathered_in_the_treemap() -> None:
    repositories = [{"name": f"n{number}/app", "stored_bytes": 100 + number} for number in range(100)]

    html = render_capacity_page({"repositories": repositories})

    assert html.count("76 more namespaces: ") == 3


def test_a_repository_beside_those_below_it_is_of_their_namespace() -> None:
    rows = [{"name": name, "stored_bytes": 10} for name in ("team", "team/app", "alone")]

    html = render_capacity_page({"repositories": rows})

    assert "team/: 2 repositories, 20 B stored" in html
    assert "without a namespace: 1 repository, 10 B stored" in html


def test_the_pairs_that_share_most_are_told_once() -> None:
    rows = [
        {"name": "b", "shared_with": [{"name": "a", "bytes": 10}, {"name": "c", "bytes": 30}]},
        {"name": "a", "shared_with": [{"name": "b", "bytes": 10}, {"name": None, "bytes": 4}]},
    ]

    page = Page(render_capacity_page({"repositories": rows}))

    assert page.rows[-2:] == [["b", "c", "30 B"], ["a", "b", "10 B"]]


def test_what_is_beyond_the_limit_of_a_table_is_counted() -> None:
    page = Page(render_capacity_page({"repositories": [{"name": f"app-{number}"} for number in range(5003)]}))

    assert "3 more repositories are left out here" in page.text
    assert sum(row[0].startswith("app-") for row in page.rows) == 5000


def test_two_thousand_repositories_make_a_page_of_moderate_size_at_once() -> None:
    document = capacity_document(2000)
    started = time.process_time()

    html = render_capacity_page(document)

    assert time.process_time() - started < 2  # a fifth of it, on a quiet machine
    assert len(html.encode()) < 2_000_000
    assert html.count('<tr><th scope="row">') > 2000


def test_each_level_says_what_it_compares() -> None:
    words = {kind: Page(render(kind)).text for kind in ("blob", "file", "chunk")}

    assert "Saved by sharing" in words["blob"]
    assert "Most shared layers" in words["blob"]
    assert "Top files" in words["file"]
    assert "A common base image" in words["file"]
    assert "Across repositories" in words["file"]
    assert "Top chunks" in words["chunk"]
    assert "different chunks" in words["chunk"]


def test_a_layer_saves_its_size_for_each_further_repository() -> None:
    layer = {"digest": f"sha256:{'ab' * 32}", "size_bytes": 100, "repositories": [f"r{n}" for n in range(11)]}

    page = Page(render_dedup_page({"layers": [layer]}))

    names = ", ".join(f"r{n}" for n in range(8))
    assert page.rows[-1] == ["sha256:abababababab", "100 B", "11", "1,000 B", f"{names}, 3 more"]
    assert ("title", f"sha256:{'ab' * 32}") in page.attributes


def test_texts_have_enough_contrast_in_both_schemes() -> None:
    """WCAG 2 AA: 4.5 to 1 for text, in every pair of colours that meets on the page."""
    html = render_capacity_page({})
    light = dict(re.findall(r"--([\w-]+): (#\w{6});", html.partition("@media screen")[0]))
    dark = dict(re.findall(r"--([\w-]+): (#\w{6});", html.partition("@media screen")[2].partition("* {")[0]))
    texts = ["ink", "quiet", "link", "critical", "error", "warning", "info", "limit"]
    pairs = [(text, ground) for text in texts for ground in ("paper", "card")]
    pairs += [("ink", ground) for ground in ("bar", "free", "band")]
    pairs += [("on-light", f"unique-{step}") for step in (0, 1, 2)] + [("on-dark", f"unique-{step}") for step in (3, 4)]
    pairs += [("on-gathered", "gathered")]

    weak = [
        (text, ground, round(contrast(scheme[text], scheme[ground]), 2))
        for scheme in (light, dark)
        for text, ground in pairs
        if contrast(scheme[text], scheme[ground]) < 4.5
    ]

    assert weak == []


def contrast(one: str, other: str) -> float:
    """Return the ratio of contrast of two colours, as WCAG 2 defines it."""
    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

"""The pages of reports in a real browser: they are shown, sort, and do nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from regstore.report.page import render_capacity_page, render_dedup_page
from support.browser import BROWSER, BROWSER_PACKAGE, DRIVER, DRIVER_PACKAGE, Browser, start_browser
from support.programs import require_program
from support.report_documents import (
    capacity_document,
    dedup_blob_document,
    dedup_chunk_document,
    dedup_file_document,
    hostile_document,
    without_values,
)

pytestmark = pytest.mark.browser

Show = Callable[[str], Path]

PAGES: dict[str, Callable[[], str]] = {
    "capacity": lambda: render_capacity_page(capacity_document()),
    "capacity-2000": lambda: render_capacity_page(capacity_document(2000)),
    "capacity-nothing": lambda: render_capacity_page({}),
    "capacity-null": lambda: render_capacity_page(without_values(capacity_document(5))),
    "blob": lambda: render_dedup_page(dedup_blob_document()),
    "file": lambda: render_dedup_page(dedup_file_document()),
    "chunk": lambda: render_dedup_page(dedup_chunk_document()),
    "dedup-nothing": lambda: render_dedup_page({}),
}
COLUMN = """
const table = document.querySelector(arguments[0] + " table");
const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[1]);
return [...table.tBodies[0].rows].map((row) => row.cells[index].dataset.sort ?? row.cells[index].textContent);
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this module."""
    binary = require_program(BROWSER, BROWSER_PACKAGE)
    driver = require_program(DRIVER, DRIVER_PACKAGE)
    with start_browser(binary, driver, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """The browser, with a light screen of usual width."""
    running.emulate()
    running.resize(1280)
    yield running
    running.allow_scripts(True)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Show:
    """A function that writes a page and opens it."""

    def write_and_open(html: str) -> Path:
        page = tmp_path / "report.html"
        page.write_text(html, encoding="utf-8")
        browser.open(page)
        return page

    return write_and_open


def heading(browser: Browser, section: str, name: str) -> Any:
    """Return the button in the heading of a column."""
    buttons = browser.driver.find_elements(By.CSS_SELECTOR, f"{section} thead th button")
    return next(button for button in buttons if button.get_attribute("textContent") == name)


def column(browser: Browser, section: str, name: str) -> list[str]:
    """Return what a column is sorted by, from top to bottom."""
    values: list[str] = browser.run(COLUMN, section, name)
    return values


def sort_states(browser: Browser, section: str) -> list[str]:
    """Return what each heading says about the order, where it says any."""
    script = (
        "return [...document.querySelectorAll(arguments[0] + ' th[aria-sort]')]"
        ".filter((cell) => cell.ariaSort !== 'none').map((cell) => cell.textContent + ' ' + cell.ariaSort);"
    )
    states: list[str] = browser.run(script, section)
    return states


def colour(browser: Browser, name: str = "background-color", selector: str = "body") -> tuple[int, ...]:
    """Return a colour as the browser computed it."""
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]];"
    text: str = browser.run(script, selector, name)
    return tuple(int(part) for part in text.partition("(")[2].rstrip(")").split(",")[:3])


def is_shown(browser: Browser, selector: str) -> bool:
    return bool(browser.driver.find_element(By.CSS_SELECTOR, selector).is_displayed())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_shown_without_an_error_and_asks_for_nothing(browser: Browser, show: Show, name: str) -> None:
    page = show(PAGES[name]())

    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.run("return performance.getEntriesByType('resource').length;") == 0
    assert is_shown(browser, "h1")
    assert browser.run("return document.compatMode;") == "CSS1Compat"


@pytest.mark.parametrize("width", [360, 390, 600, 768, 1024, 1280, 2560])
@pytest.mark.parametrize("name", ["capacity", "blob", "file"])
def test_a_page_is_never_wider_than_the_screen(browser: Browser, show: Show, name: str, width: int) -> None:
    browser.resize(width)

    show(PAGES[name]())

    assert browser.run("return document.documentElement.scrollWidth;") == width


@pytest.mark.parametrize("name", ["capacity", "file"])
def test_a_page_of_hostile_names_runs_nothing(browser: Browser, show: Show, name: str) -> None:
    document = hostile_document(capacity_document(30) if name == "capacity" else dedup_file_document(30))
    page = show(render_capacity_page(document) if name == "capacity" else render_dedup_page(document))

    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.run("return window.harmed === undefined;") is True
    assert browser.run("return document.scripts.length;") == 1
    assert browser.run("return document.querySelectorAll('img, iframe, object, embed').length;") == 0
    assert "<script>window.harmed = true</script>" in browser.run("return document.body.innerText;")


def test_the_policy_refuses_what_slipped_in(browser: Browser, show: Show) -> None:
    """The second wall, should the first ever have a hole: neither a script nor a request."""
    html = render_capacity_page(capacity_document(3))
    slipped = "<script>window.harmed = true</script><img src='x.png' onerror='window.harmed = true'>"

    show(html.replace("</header>", f"{slipped}</header>", 1))

    assert browser.run("return window.harmed === undefined;") is True
    refused = browser.console()
    assert len(refused) >= 2
    assert all("Content Security Policy" in message for message in refused)


def test_a_heading_sorts_up_and_then_down(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    before = column(browser, "#repositories", "Unique")
    assert sort_states(browser, "#repositories") == []

    heading(browser, "#repositories", "Unique").click()
    up = column(browser, "#repositories", "Unique")
    assert up == sorted(before, key=int)
    assert sort_states(browser, "#repositories") == ["Unique ascending"]

    heading(browser, "#repositories", "Unique").click()
    assert column(browser, "#repositories", "Unique") == up[::-1]
    assert sort_states(browser, "#repositories") == ["Unique descending"]

    heading(browser, "#repositories", "Repository").click()
    names = column(browser, "#repositories", "Repository")
    assert names == sorted(names)
    assert sort_states(browser, "#repositories") == ["Repository ascending"]
    assert sort_states(browser, "#namespaces") == []
    assert browser.console() == []


def test_what_is_not_known_stands_last_either_way(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    unknown = column(browser, "#repositories", "Growth").count("–")  # noqa: RUF001 the dash of the page
    assert unknown > 1

    for _ in range(2):
        heading(browser, "#repositories", "Growth").click()
        values = column(browser, "#repositories", "Growth")
        assert set(values[-unknown:]) == {"–"}  # noqa: RUF001
        assert all(int(value) is not None for value in values[:-unknown])


def test_numbers_in_names_sort_as_numbers(browser: Browser, show: Show) -> None:
    show(render_capacity_page({"repositories": [{"name": f"app-{number}"} for number in (10, 9, 100, 1)]}))

    heading(browser, "#repositories", "Repository").click()

    assert column(browser, "#repositories", "Repository") == ["app-1", "app-9", "app-10", "app-100"]


def test_the_keyboard_sorts_too(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    button = heading(browser, "#repositories", "Stored")

    browser.run("arguments[0].focus();", button)
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert sort_states(browser, "#repositories") == ["Stored ascending"]

    browser.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert sort_states(browser, "#repositories") == ["Stored descending"]


def test_thousands_of_rows_are_sorted_at_once(browser: Browser, show: Show) -> None:
    show(PAGES["capacity-2000"]())

    milliseconds = browser.run(
        "const start = performance.now(); arguments[0].click(); document.body.offsetHeight;"
        " return performance.now() - start;",
        heading(browser, "#repositories", "Unique"),
    )

    values = [int(value) for value in column(browser, "#repositories", "Unique")]
    assert len(values) == 2000
    assert values == sorted(values)
    assert milliseconds < 3000  # a tenth of it, on a quiet machine


def test_dark_is_dark_and_light_is_light(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    light, light_ink, light_bar = colour(browser), colour(browser, "color"), colour(browser, "fill", "rect.live")

    browser.emulate(scheme="dark")

    dark, dark_ink = colour(browser), colour(browser, "color")
    assert min(light) > 240
    assert max(light_ink) < 60
    assert max(dark) < 60
    assert min(dark_ink) > 200
    assert colour(browser, "fill", "rect.live") != light_bar


def test_the_page_is_whole_without_scripts(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    texts = "return [...document.querySelectorAll('h1, h2, p, td, th, dt, dd, svg title')].map((e) => e.textContent);"
    with_script = browser.run(texts)

    browser.allow_scripts(False)
    show(PAGES["capacity"]())

    assert browser.driver.find_elements(By.CSS_SELECTOR, "button") == []
    assert is_shown(browser, "#repositories table")
    browser.allow_scripts(True)  # for this question only: the page stays as it was opened
    assert browser.run(texts) == with_script
    assert browser.driver.find_elements(By.CSS_SELECTOR, "button") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_light_and_has_every_row(browser: Browser, show: Show, scheme: str) -> None:
    show(PAGES["capacity-2000"]())
    region = "return document.querySelector('#repositories .scroll').clientHeight;"
    on_screen = browser.run(region)

    browser.emulate(scheme=scheme, media="print")

    assert min(colour(browser)) > 240
    assert max(colour(browser, "color")) < 60
    assert not is_shown(browser, "nav")
    assert browser.run(region) > 10 * on_screen


@pytest.mark.parametrize(("width", "shown"), [(390, "narrow"), (800, "medium"), (1280, "wide")])
def test_charts_are_drawn_for_the_width_of_the_screen(browser: Browser, show: Show, width: int, shown: str) -> None:
    browser.resize(width)
    show(PAGES["capacity"]())

    for section in ("#map", "#growth"):
        displayed = [name for name in ("narrow", "medium", "wide") if is_shown(browser, f"{section} .{name} svg")]
        assert displayed == [shown]


@pytest.mark.parametrize("name", ["capacity", "blob", "file", "chunk"])
def test_everything_has_a_name_for_those_who_listen(browser: Browser, show: Show, name: str) -> None:
    show(PAGES[name]())

    assert browser.run("return document.documentElement.lang;") == "en"
    assert browser.run("return document.title.length;") > 0
    unnamed = (
        "return [...document.querySelectorAll('svg, table, section')].filter((element) =>"
        " !(element.querySelector(':scope > title, :scope > caption, :scope > h2')?.textContent)).length;"
    )
    assert browser.run(unnamed) == 0
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]));")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_no_label_runs_out_of_its_box(browser: Browser, show: Show) -> None:
    show(PAGES["capacity"]())
    script = """
    const wide = [];
    for (const drawing of document.querySelectorAll("#map .wide svg")) {
      for (const text of drawing.querySelectorAll("text.on")) {
        let box = text;
        while (box && box.tagName !== "rect") box = box.previousElementSibling;
        const end = (element) => element.getBBox().x + element.getBBox().width;
        if (end(text) > end(box)) wide.push(text.textContent);
      }
    }
    return wide;
    """

    assert browser.run(script) == []

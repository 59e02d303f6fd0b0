"""Tables of a page that can be sorted: their columns and cells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from regstore.report.page.text import NOTHING, explain, name_html, signed_size_text, size_text, text_html
from regstore.report.page.values import as_number, as_seconds
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regstore.report.page.values import Row

MOST_ROWS = 5000
"""Rows of a table of repositories."""
LISTED_ROWS = 1000
"""Rows of a table of what may be longer still."""
_NAMES = 8
"""Of a list in a cell that are shown."""
_SCROLLED = 100
"""A table with more rows scrolls on its own, under headings that stay."""
_NO_NUMBER = f"<td class=n>{NOTHING}</td>"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, what makes a cell of a row, and whether numbers stand in it."""

    heading: str
    cell: Callable[[Row], str]
    is_number: bool = True


def sortable_table(caption: str, columns: Sequence[Column], rows: Sequence[Row], noun: str, limit: int) -> str:
    """Return a table that can be sorted, of no more rows than the limit, and what is left out."""
    headings = "".join(
        f'<th scope="col"{" class=n" if column.is_number else ""}>{column.heading}</th>' for column in columns
    )
    body = "\n".join(f"<tr>{''.join(column.cell(row) for column in columns)}</tr>" for row in rows[:limit])
    left = explain_left_out(len(rows), limit, noun)
    count = f' <span class="share">{len(rows):,}</span>' if noun else ""
    style = "scroll long" if len(rows) > _SCROLLED else "scroll"
    return (
        f'<div class="{style}" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}{count}'
        f"</caption><thead><tr>{headings}</tr></thead>\n<tbody>{body}</tbody></table></div>{left}"
    )


def explain_left_out(count: int, limit: int, noun: str) -> str:
    """Return a note on what a list does not show, if there is more than the limit."""
    if count <= limit:
        return ""
    return explain(f"{count - limit:,} more {noun} are left out here; the JSON document has them all.")


def name_cell(value: Any) -> str:
    """Return the cell that heads a row."""
    return f'<th scope="row">{name_html(value)}</th>'


def digest_cell(value: Any, tag: str = "td") -> str:
    """Return a digest, cut to what tells it apart; a pointer reads all of it."""
    if value is None:
        return f"<{tag}>{NOTHING}</{tag}>"
    name, colon, hexadecimal = plain(str(value)).rpartition(":")
    short = f"{name}{colon}{hexadecimal[:12]}"
    return f'<{tag}><code title="{text_html(value)}">{escape(short)}</code></{tag}>'


def list_cell(value: Any, noun: str) -> str:
    """Return a cell with the first names of a list, and how many more there are."""
    listed = value if isinstance(value, list) else []
    if not listed:
        return f"<td>{NOTHING}</td>"
    names = ", ".join(name_html(item) for item in listed[:_NAMES])
    left = f", {len(listed) - _NAMES:,} {noun}" if len(listed) > _NAMES else ""
    return f'<td class="names">{names}{left}</td>'


def count_cell(value: Any) -> str:
    """Return a cell with a count."""
    number = as_number(value)
    return f'<td data-sort="{number:.0f}">{number:,.0f}</td>' if number is not None else _NO_NUMBER


def size_cell(value: Any, most: float = 0) -> str:
    """Return a cell with a size and, when there is a largest one, a bar for its part of that."""
    number = as_number(value)
    if number is None:
        return _NO_NUMBER
    bar = f' class="b" style="--p:{max(0, number) / most:.1%}"' if most else ""
    return f'<td data-sort="{number:.0f}" title="{number:,.0f}"{bar}>{size_text(number)}</td>'


def signed_size_cell(value: Any) -> str:
    """Return a cell with a size and its sign."""
    number = as_number(value)
    if number is None:
        return _NO_NUMBER
    return f'<td data-sort="{number:.0f}" title="{number:+,.0f}">{signed_size_text(number)}</td>'


def time_cell(value: Any) -> str:
    """Return a cell with the day of a time."""
    seconds = as_seconds(value)
    if seconds is None:
        return f"<td class=n>{text_html(value)}</td>" if value is not None else _NO_NUMBER
    moment = datetime.fromtimestamp(seconds, UTC)
    return f'<td data-sort="{seconds:.0f}" title="{moment:%H:%M} UTC">{moment:%Y-%m-%d}</td>'


def pair_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a table of pairs of repositories that share something."""
    most = max((as_number(row.get("shared_bytes")) or 0 for row in rows), default=0)
    return [
        Column("Repository", lambda row: name_cell(row.get("a")), is_number=False),
        Column("And", lambda row: f"<td>{name_html(row.get('b'))}</td>", is_number=False),
        Column("Shared", lambda row: size_cell(row.get("shared_bytes"), most)),
    ]

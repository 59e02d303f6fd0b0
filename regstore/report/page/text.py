"""Values of a document as text and as HTML.

What is in the document comes from the volume, and names there may hold anything: every text goes through `text_html`,
which shows control characters and marks of direction as escapes and leaves nothing for a browser to take as markup.
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from regstore.report.page.values import as_number, as_seconds
from regstore.wording import human_bytes, plain

NOTHING = "–"  # noqa: RUF001 a dash for what is not known
_LONG_NAME = 16
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def text_html(value: Any) -> str:
    """Return a text as HTML."""
    return escape(plain(str(value)))


def name_html(value: Any) -> str:
    """Return a name as HTML; letters written from right to left leave what is around them alone."""
    if value is None:
        return NOTHING
    text = text_html(value)
    if len(text) > _LONG_NAME:
        text = text.replace("/", "/<wbr>")
    return text if text.isascii() else f"<bdi>{text}</bdi>"


def explain(text: str) -> str:
    """Return a paragraph that explains what stands below; the text is HTML."""
    return f'<p class="explained">{text}</p>'


def size_text(count: float) -> str:
    """Return bytes with a binary unit; commas part thousands."""
    return human_bytes(count, grouping=",")


def signed_size_text(count: float) -> str:
    """Return a size that grows or shrinks, with its sign."""
    if not count:
        return "0 B"
    return f"+{size_text(count)}" if count > 0 else f"\N{MINUS SIGN}{size_text(-count)}"


def size_html(value: Any) -> str:
    """Return a size as HTML, with the bytes for a pointer."""
    number = as_number(value)
    return NOTHING if number is None else f'<span class="size" title="{number:,.0f} bytes">{size_text(number)}</span>'


def signed_size_html(number: float) -> str:
    """Return a size with its sign as HTML, with the bytes for a pointer."""
    return f'<span class="size" title="{number:+,.0f} bytes">{signed_size_text(number)}</span>'


def count_text(value: Any) -> str:
    """Return a count with commas between thousands."""
    number = as_number(value)
    return NOTHING if number is None else f"{number:,.0f}"


def percent(part: float | None, whole: float | None) -> str:
    """Return a part of a whole in percent, as precise as it matters."""
    if not whole or part is None:
        return NOTHING
    share = part / whole
    if share == 0:
        return "0 %"
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{share * 100:.1f} %" if share < 0.1 else f"{share * 100:.0f} %"


def plural(count: float, one: str, many: str) -> str:
    """Return a count and what is counted."""
    return f"{count:,.0f} {one if count == 1 else many}"


def key_words(key: str) -> str:
    """Return a key of the document as words."""
    return key.replace("_", " ").capitalize()


def date_text(seconds: float) -> str:
    """Return the day of a time."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def day_html(value: Any) -> str:
    """Return the day of a time as HTML."""
    seconds = as_seconds(value)
    if seconds is None:
        return NOTHING if value is None else text_html(value)
    return f'<time datetime="{text_html(value)}">{date_text(seconds)}</time>'


def time_html(value: Any) -> str:
    """Return a time as HTML, to the minute."""
    seconds = as_seconds(value)
    if seconds is None:
        return "at an unknown time" if value is None else text_html(value)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f'<time datetime="{text_html(value)}">{date_text(seconds)}, {moment:%H:%M} UTC</time>'

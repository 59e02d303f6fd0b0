"""The frame of a page: its head, the headline figures, and the sections one after the other.

A policy in the page forbids all that does not belong to it, and all scripts but the one that sorts tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.report.page.sections import Section, count_findings
from regstore.report.page.style import POLICY, SCRIPT, STYLE
from regstore.report.page.text import text_html, time_html
from regstore.report.page.values import as_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regstore.report.page.values import Row


def render_page(document: Row, kind: str, lede: str, figures: Sequence[str], sections: Iterable[Section | None]) -> str:
    """Return the page.

    Args:
        document: what the report says of itself: where, when, by what, its findings.
        kind: of report.
        lede: the report in a sentence, as HTML.
        figures: the headline figures, each from `figure`.
        sections: the parts, in order; None for one that has nothing to show.
    """
    there = [section for section in sections if section is not None]
    location = text_html(document.get("location") or "an unknown location")
    links = "".join(f'<li><a href="#{part.name}">{part.heading}</a></li>' for part in there)
    bodies = "".join(
        f'<section id="{part.name}" aria-labelledby="{part.name}-heading"><h2 id="{part.name}-heading">{part.heading}'
        f"</h2>{part.body}</section>\n"
        for part in there
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{kind} of {location}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><p class="kind">{kind} report</p><h1><bdi>{location}</bdi></h1><p class="lede">{lede}</p>'
        f"{_particulars(document)}</header>\n"
        f'<dl class="figures" aria-label="Headline figures">{"".join(figures)}</dl>\n'
        f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav>\n<main>\n{bodies}</main>\n'
        "<footer><p>Units are binary: 1 KiB is 1,024 bytes. A pointer on a size shows the bytes.</p></footer>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _particulars(document: Row) -> str:
    """Return when and by what the report was made, and how much there is to see to."""
    entries = [time_html(document.get("started_at"))]
    seconds = as_number(document.get("duration_seconds"))
    if seconds is not None:
        entries.append(f"took {seconds:,.1f} s")
    command = document.get("command")
    tool = " ".join(str(word) for word in ("regstore", document.get("tool_version"), command) if word)
    entries.append(f"<code>{text_html(tool)}</code>")
    counts = count_findings(document)
    if counts:
        entries.append(f'<a href="#findings">{counts}</a>')
    return f'<ul class="particulars">{"".join(f"<li>{entry}</li>" for entry in entries)}</ul>'


def figure(label: str, value: str, note: str = "", style: str = "") -> str:
    """Return a headline figure as HTML: what it is, its value, a note below it, and its style."""
    more = f'<dd class="note">{note}</dd>' if note else ""
    chosen = f' class="{style}"' if style else ""
    return f'<div{chosen}><dt>{label}</dt><dd class="value">{value}</dd>{more}</div>'

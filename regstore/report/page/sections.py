"""Parts that the pages of all reports have, and what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore.report.charts import Segment, stacked_bar
from regstore.report.page.tables import LISTED_ROWS, explain_left_out
from regstore.report.page.text import (
    count_text,
    explain,
    key_words,
    name_html,
    percent,
    plural,
    size_html,
    size_text,
    text_html,
)
from regstore.report.page.values import as_number, object_in, rows_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.report.page.values import Row

_SEVERITIES = ("critical", "error", "warning", "info")


class Section(NamedTuple):
    """A part of the page, and how the list of parts calls it."""

    name: str
    heading: str
    body: str


def bar_with_legend(parts: Sequence[tuple[str, str, float, str]], whole: float, title: str) -> str:
    """Draw parts of a whole, with a legend that says the same in words."""
    segments = []
    legend = []
    told = []
    for style, label, value, note in parts:
        share = percent(value, whole)
        segments.append(Segment(value, f"{label}: {size_text(value)} ({share})", style))
        told.append(f"{label} {size_text(value)} ({share})")
        legend.append(
            f'<li><span class="swatch {style}"></span><span class="label">{label}</span> <b>{size_html(value)}</b>'
            f' <span class="share">{share}</span>{f"<small>{note}</small>" if note else ""}</li>'
        )
    drawn = stacked_bar(segments, title=f"{title}: {', '.join(told)}")
    return f'{drawn}<ul class="legend">{"".join(legend)}</ul>'


def count_findings(document: Row) -> str:
    """Say how many findings there are of each severity; nothing when there are none."""
    words = [str(row.get("severity")) for row in rows_in(document, "findings")]
    counts = ((severity, words.count(severity)) for severity in _SEVERITIES)
    plurals = {"critical": "critical", "info": "notes", "error": "errors", "warning": "warnings"}
    singular = {**plurals, "info": "note", "error": "error", "warning": "warning"}
    return ", ".join(f"{count:,} {(singular if count == 1 else plurals)[name]}" for name, count in counts if count)


def findings_section(document: Row) -> Section:
    """Show the findings, the worst first."""
    rows = rows_in(document, "findings")
    if not rows:
        return Section("findings", "Findings", "<p>There are none.</p>")
    rank = {severity: number for number, severity in enumerate(_SEVERITIES)}
    ordered = sorted(rows, key=lambda row: rank.get(str(row.get("severity")), len(rank)))
    entries = "".join(_finding(row) for row in ordered[:LISTED_ROWS])
    left = explain_left_out(len(rows), LISTED_ROWS, "findings")
    return Section("findings", "Findings", f'<ul class="findings">{entries}</ul>{left}')


def _finding(row: Row) -> str:
    severity = str(row.get("severity") or "unknown")
    style = severity if severity in _SEVERITIES else "info"
    repair = f'<p class="repair">{text_html(row["repair"])}</p>' if row.get("repair") else ""
    detail = f"<p>{text_html(row['detail'])}</p>" if row.get("detail") else ""
    return (
        f'<li class="{style}"><p><span class="severity">{text_html(severity)}</span> <b class="subject">'
        f"{name_html(row.get('subject'))}</b> <code>{text_html(row.get('id') or '')}</code></p>{detail}{repair}</li>"
    )


def strays_section(document: Row) -> Section | None:
    """Show the files that belong to no registry."""
    listed = document.get("strays")
    if not isinstance(listed, list) or not listed:
        return None
    keys = "".join(f"<li><code>{name_html(key)}</code></li>" for key in listed[:LISTED_ROWS])
    left = explain_left_out(len(listed), LISTED_ROWS, "strays")
    note = explain(f"{plural(len(listed), 'file', 'files')} that no registry put there. They are in no number above.")
    return Section("strays", "Strays", f'{note}<ul class="strays">{keys}</ul>{left}')


def totals_section(document: Row) -> Section | None:
    """Show every total of the document under its own name."""
    totals = object_in(document, "totals")
    entries = "".join(
        f"<div><dt>{text_html(key_words(key))}</dt>"
        f"<dd>{size_html(value) if key.endswith('_bytes') else count_text(value)}</dd></div>"
        for key, value in totals.items()
        if value is None or as_number(value) is not None
    )
    return Section("totals", "All totals", f'<dl class="totals">{entries}</dl>') if entries else None

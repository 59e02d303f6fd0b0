"""The page of a capacity report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regstore.report.page.frame import figure, render_page
from regstore.report.page.growth import growth_section
from regstore.report.page.repository_map import map_section
from regstore.report.page.sections import Section, bar_with_legend, findings_section, strays_section, totals_section
from regstore.report.page.tables import (
    LISTED_ROWS,
    MOST_ROWS,
    Column,
    count_cell,
    digest_cell,
    list_cell,
    name_cell,
    pair_columns,
    signed_size_cell,
    size_cell,
    sortable_table,
    time_cell,
)
from regstore.report.page.text import count_text, day_html, explain, percent, plural, signed_size_html, size_html
from regstore.report.page.values import as_number, object_in, rows_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regstore.report.page.values import Row

_SHORT_LIST = 50
"""Rows of a table of what only the first ones of matter."""
_SPACE = (
    ("live", "Live", "live_bytes", "kept by every collection"),
    ("grace", "In grace", "grace_bytes", "unreferenced, too young to be freed"),
    ("unreferenced", "Reclaimable", "unreferenced_bytes", "freed by a collection now"),
    ("quarantined", "Quarantined", "quarantined_bytes", "kept for an undo until purged"),
    ("uploads", "Uploads", "upload_bytes", "pushes under way or given up"),
)


def render_capacity_page(document: Mapping[str, Any]) -> str:
    """Return the page of a capacity report. Any field of the document may be null, and any list empty."""
    repositories = rows_in(document, "repositories")
    sections = [
        _space(document),
        map_section(repositories),
        growth_section(document),
        _what_if(document),
        findings_section(document),
        _namespaces(document),
        _repositories(repositories),
        _tags(document),
        _sharing(repositories),
        strays_section(document),
        totals_section(document),
    ]
    return render_page(document, "Capacity", _capacity_lede(document), _capacity_figures(document), sections)


def _capacity_lede(document: Row) -> str:
    totals = object_in(document, "totals")
    repositories = as_number(totals.get("repository_count"))
    where = "" if repositories is None else f" in {plural(repositories, 'repository', 'repositories')}"
    stored = as_number(totals.get("stored_bytes"))
    words = "It is not known how much is stored." if stored is None else f"{size_html(stored)} stored{where}."
    freed = as_number(totals.get("unreferenced_bytes"))
    if freed:
        words += f" A collection would free {size_html(freed)} of it now."
    elif freed is not None:
        words += " A collection would free nothing now."
    full = object_in(document, "forecast").get("full_at")
    if full is not None:
        words += f" At the present growth the volume is full around {day_html(full)}."
    return words


def _capacity_figures(document: Row) -> list[str]:
    totals, volume, forecast = (object_in(document, name) for name in ("totals", "volume", "forecast"))
    stored, logical = as_number(totals.get("stored_bytes")), as_number(totals.get("logical_bytes"))
    blobs, tags = as_number(totals.get("blob_count")), as_number(totals.get("tag_count"))
    ratio = f"{logical / stored:.1f} times as much" if stored and logical is not None else "without sharing"
    free, total = as_number(volume.get("free_bytes")), as_number(volume.get("total_bytes"))
    figures = [
        figure("Stored", size_html(stored), "" if blobs is None else plural(blobs, "blob", "blobs"), "main"),
        figure("Logical", size_html(logical), ratio),
        figure("Live", size_html(totals.get("live_bytes")), "" if tags is None else plural(tags, "tag", "tags")),
        figure("Reclaimable", size_html(totals.get("unreferenced_bytes")), _share_note(totals, stored), "freed"),
        figure("In grace", size_html(totals.get("grace_bytes")), "freed by a later one"),
    ]
    if free is not None:
        share = f"{percent(free, total)} of {size_html(total)}" if total else ""
        figures.append(figure("Free on the volume", size_html(free), share))
    rate = as_number(forecast.get("growth_bytes_per_day"))
    if forecast.get("full_at") is not None:
        note = "" if rate is None else f"{signed_size_html(rate)} a day"
        figures.append(figure("Full around", day_html(forecast["full_at"]), note))
    elif rate is not None:
        figures.append(figure("Growth a day", signed_size_html(rate)))
    return figures


def _share_note(totals: Row, stored: float | None) -> str:
    freed = as_number(totals.get("unreferenced_bytes"))
    return f"{percent(freed, stored)} of what is stored" if stored and freed is not None else ""


def _space(document: Row) -> Section | None:
    totals, volume = object_in(document, "totals"), object_in(document, "volume")
    parts = [(style, label, as_number(totals.get(key)) or 0, note) for style, label, key, note in _SPACE]
    ours = sum(part[2] for part in parts)
    total, free = as_number(volume.get("total_bytes")), as_number(volume.get("free_bytes"))
    if total is None or free is None:
        body = bar_with_legend(parts, ours, "What the registry holds") if ours else ""
    else:
        others = [
            ("other", "Other", max(0, total - free - ours), "used or kept back by other things"),
            ("free", "Free", free, ""),
        ]
        whole = ours + sum(part[2] for part in others)
        if 4 * ours < whole:
            # Its parts would be too thin to be told apart.
            body = bar_with_legend(
                [("live", "The registry", ours, "its parts stand below"), *others], whole, "What the volume holds"
            )
            body += f"<h3>The registry alone</h3>{bar_with_legend(parts, ours, 'The registry alone')}" if ours else ""
        else:
            body = bar_with_legend([*parts, *others], whole, "What the volume holds") if whole else ""
    if not body:
        return None
    inodes, free_inodes = as_number(volume.get("total_inodes")), as_number(volume.get("free_inodes"))
    if inodes and free_inodes is not None:
        body += explain(
            f"Of {inodes:,.0f} inodes, {free_inodes:,.0f} are free ({percent(free_inodes, inodes)});"
            f" the registry uses {count_text(totals.get('inode_count'))}."
        )
    return Section("space", "Space", body)


def _what_if(document: Row) -> Section | None:
    rows = rows_in(document, "what_if")
    if not rows:
        return None
    columns = [
        Column("Rule", lambda row: name_cell(row.get("rule")), is_number=False),
        Column("Tags that go", lambda row: count_cell(row.get("tag_count"))),
        Column("Freed", lambda row: size_cell(row.get("freed_bytes"))),
    ]
    note = explain("What a later collection would free beyond what it frees today. Each rule is asked alone.")
    return Section(
        "what-if", "What if", note + sortable_table("What each rule would free", columns, rows, "rules", MOST_ROWS)
    )


def _sum_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that repositories and namespaces have in common."""
    most = max((as_number(row.get("stored_bytes")) or 0 for row in rows), default=0)
    return [
        Column("Stored", lambda row: size_cell(row.get("stored_bytes"), most)),
        Column("Unique", lambda row: size_cell(row.get("unique_bytes"))),
        Column("Shared", lambda row: size_cell(row.get("shared_bytes"))),
        Column("Reclaimable", lambda row: size_cell(row.get("reclaimable_bytes"))),
        Column("Logical", lambda row: size_cell(row.get("logical_bytes"))),
        Column("Growth", lambda row: signed_size_cell(row.get("growth_bytes"))),
        Column("Tags", lambda row: count_cell(row.get("tag_count"))),
        Column("Revisions", lambda row: count_cell(row.get("revision_count"))),
        Column("Newest push", lambda row: time_cell(row.get("newest_push_at"))),
    ]


def _namespaces(document: Row) -> Section | None:
    rows = rows_in(document, "namespaces")
    if not rows:
        return None
    columns = [Column("Namespace", lambda row: name_cell(row.get("name")), is_number=False), *_sum_columns(rows)]
    return Section(
        "namespaces", "Namespaces", sortable_table("Sums by namespace", columns, rows, "namespaces", LISTED_ROWS)
    )


def _repositories(rows: Sequence[Row]) -> Section:
    if not rows:
        return Section("repositories", "Repositories", "<p>There are none.</p>")
    columns = [Column("Repository", lambda row: name_cell(row.get("name")), is_number=False), *_sum_columns(rows)]
    note = explain(
        "<b>Logical</b>: what its tags would weigh without sharing. <b>Stored</b>: kept because of it."
        " <b>Unique</b>: freed if it went. <b>Shared</b>: the rest of what is stored."
        " <b>Reclaimable</b>: freed of its blobs by a collection now. <b>Growth</b>: of what is stored, since the last"
        " report."
    )
    return Section(
        "repositories", "Repositories", note + sortable_table("Repositories", columns, rows, "repositories", MOST_ROWS)
    )


def _tags(document: Row) -> Section | None:
    rows = rows_in(document, "tags")
    if not rows:
        return None
    columns = [
        Column("Tag", lambda row: name_cell(_tag_name(row)), is_number=False),
        Column("Size", lambda row: size_cell(row.get("size_bytes"))),
        Column("Unique", lambda row: size_cell(row.get("unique_bytes"))),
        Column("Layers", lambda row: count_cell(row.get("layer_count"))),
        Column("Platforms", lambda row: list_cell(row.get("platforms"), "more"), is_number=False),
        Column("Pushed", lambda row: time_cell(row.get("pushed_at"))),
        Column("Digest", lambda row: digest_cell(row.get("digest")), is_number=False),
    ]
    note = explain("<b>Unique</b>: freed if this tag went and untagged images with it.")
    return Section("tags", "Tags", note + sortable_table("Tags", columns, rows, "tags", LISTED_ROWS))


def _tag_name(row: Row) -> str | None:
    parts = [str(row[key]) for key in ("repository", "tag") if row.get(key) is not None]
    return ":".join(parts) if parts else None


def _sharing(repositories: Sequence[Row]) -> Section | None:
    """Show the pairs of repositories that share most, from what each says of its largest partners."""
    pairs: dict[tuple[str, str], float] = {}
    for row in repositories:
        for other in rows_in(row, "shared_with"):
            if row.get("name") is None or other.get("name") is None:
                continue
            first, second = sorted((str(row.get("name")), str(other.get("name"))))
            pairs[first, second] = max(pairs.get((first, second), 0), as_number(other.get("bytes")) or 0)
    if not pairs:
        return None
    largest = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:_SHORT_LIST]
    rows = [{"a": first, "b": second, "shared_bytes": shared} for (first, second), shared in largest]
    caption = f"The {len(rows)} pairs that share most" if len(pairs) > len(rows) else "Pairs that share"
    return Section("shared", "Most shared", sortable_table(caption, pair_columns(rows), rows, "pairs", _SHORT_LIST))

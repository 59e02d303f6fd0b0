"""The page of a deduplication report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regstore.report.page.frame import figure, render_page
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
    size_cell,
    sortable_table,
)
from regstore.report.page.text import key_words, percent, plural, size_html, text_html
from regstore.report.page.values import as_number, object_in, rows_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regstore.report.page.values import Row


def render_dedup_page(document: Mapping[str, Any]) -> str:
    """Return the page of a deduplication report of any level. Any field may be null, and any list empty."""
    level = _level(document)
    sections = [
        _saving(document, level),
        _scopes(document),
        findings_section(document),
        _layers(document),
        _top(document, level),
        _directories(document),
        _pairs(document),
        _dedup_repositories(document),
        strays_section(document),
        totals_section(document),
    ]
    return render_page(
        document, "Deduplication", _dedup_lede(document, level), _dedup_figures(document, level), sections
    )


def _level(document: Row) -> str:
    """Tell what is compared: the document says so, or what it has does."""
    said = document.get("level")
    if said in ("blob", "file", "chunk"):
        return str(said)
    if document.get("layers") is not None or "saved_bytes" in object_in(document, "totals"):
        return "blob"
    return "chunk" if any("chunk" in key for key in object_in(document, "totals")) else "file"


def _dedup_sums(document: Row, level: str) -> tuple[float | None, float | None, float | None]:
    """Return all bytes, those that are needed once, and those that are there again."""
    totals = object_in(document, "totals")
    names = ("logical_bytes", "stored_bytes", "saved_bytes")
    if level != "blob":
        names = (f"{level}_bytes", "unique_bytes", "duplicate_bytes")
    whole, once, again = (as_number(totals.get(name)) for name in names)
    return whole, once, again


def _dedup_lede(document: Row, level: str) -> str:
    whole, _, again = _dedup_sums(document, level)
    layers = as_number(object_in(document, "totals").get("layer_count"))
    what = "layers" if layers is None else plural(layers, "layer", "layers")
    if whole is None or again is None:
        return f"Compared: {what}."
    share = percent(again, whole)
    if level == "blob":
        return f"Sharing {what} across repositories saves {size_html(again)}: {share} of what they would weigh apart."
    return f"Of {size_html(whole)} of {level}s in {what}, {size_html(again)} ({share}) are copies."


def _dedup_figures(document: Row, level: str) -> list[str]:
    totals = object_in(document, "totals")
    whole, once, again = _dedup_sums(document, level)
    layers = as_number(totals.get("layer_count"))
    if level == "blob":
        figures = [
            figure("Stored", size_html(once), "" if layers is None else plural(layers, "layer", "layers"), "main"),
            figure("Without sharing", size_html(whole), "each layer once a repository"),
            figure("Saved by sharing", size_html(again), percent(again, whole), "spared"),
        ]
    else:
        count, distinct = (as_number(totals.get(name)) for name in (f"{level}_count", f"unique_{level}_count"))
        figures = [
            figure(
                "In all layers", size_html(whole), "" if count is None else plural(count, level, f"{level}s"), "main"
            ),
            figure("Unique", size_html(once), "" if distinct is None else f"{distinct:,.0f} different {level}s"),
            figure("Duplicate", size_html(again), percent(again, whole), "freed"),
        ]
        if layers is not None:
            figures.append(figure("Layers", f"{layers:,.0f}", "looked into once each"))
    saving = document.get("base_image_saving_bytes")
    if saving is not None:
        figures.append(figure("A common base image", size_html(saving), "saved by rebuilding on one"))
    return figures


def _saving(document: Row, level: str) -> Section | None:
    whole, once, again = _dedup_sums(document, level)
    if not whole or once is None or again is None:
        return None
    words = ("Stored", "Saved", "each layer once", "shared instead of stored again", "saved")
    if level != "blob":
        words = ("Unique", "Duplicate", f"each {level} once", f"the same {level}s again", "unreferenced")
    parts = [("live", words[0], once, words[2]), (words[4], words[1], again, words[3])]
    return Section("saving", "Once and again", bar_with_legend(parts, once + again, "Bytes"))


def _scopes(document: Row) -> Section | None:
    scopes = object_in(document, "scopes")
    labels = {
        "within_image_bytes": "Within one image",
        "across_images_bytes": "Across images of one repository",
        "across_repositories_bytes": "Across repositories",
    }
    rows = [{"label": label, "bytes": scopes.get(key)} for key, label in labels.items() if key in scopes]
    if not rows:
        return None
    most = max(as_number(row["bytes"]) or 0 for row in rows)
    columns = [
        Column("Where", lambda row: name_cell(row.get("label")), is_number=False),
        Column("Duplicate", lambda row: size_cell(row.get("bytes"), most)),
    ]
    return Section(
        "scopes", "Where it is duplicate", sortable_table("Duplicates by where they are", columns, rows, "", MOST_ROWS)
    )


def _layers(document: Row) -> Section | None:
    rows = rows_in(document, "layers")
    if not rows:
        return None

    def names(row: Row) -> list[Any]:
        listed = row.get("repositories")
        return listed if isinstance(listed, list) else []

    def saved(row: Row) -> float | None:
        size = as_number(row.get("size_bytes"))
        return None if size is None or not names(row) else size * (len(names(row)) - 1)

    columns = [
        Column("Layer", lambda row: digest_cell(row.get("digest"), "th"), is_number=False),
        Column("Size", lambda row: size_cell(row.get("size_bytes"))),
        Column("Repositories", lambda row: count_cell(len(names(row)) if row.get("repositories") else None)),
        Column("Saved", lambda row: size_cell(saved(row))),
        Column("Shared by", lambda row: list_cell(row.get("repositories"), "more"), is_number=False),
    ]
    return Section(
        "layers",
        "Most shared layers",
        sortable_table("Layers and who shares them", columns, rows, "layers", LISTED_ROWS),
    )


def _top(document: Row, level: str) -> Section | None:
    rows = rows_in(document, "top")
    if not rows:
        return None

    def again(row: Row) -> float | None:
        size, copies = as_number(row.get("size_bytes")), as_number(row.get("copies"))
        return None if size is None or copies is None else size * max(0, copies - 1)

    def name(row: Row) -> str:
        return digest_cell(row.get("digest"), "th") if row.get("path") is None else name_cell(row.get("path"))

    columns = [
        Column(level.capitalize(), name, is_number=False),
        Column("Size", lambda row: size_cell(row.get("size_bytes"))),
        Column("Copies", lambda row: count_cell(row.get("copies"))),
        Column("Duplicate", lambda row: size_cell(again(row))),
    ]
    caption = f"The {level}s that are there most often"
    return Section("top", f"Top {level}s", sortable_table(caption, columns, rows, f"{level}s", LISTED_ROWS))


def _directories(document: Row) -> Section | None:
    rows = rows_in(document, "directories")
    if not rows:
        return None
    columns = [
        Column("Directory", lambda row: name_cell(row.get("path")), is_number=False),
        Column("Duplicate", lambda row: size_cell(row.get("duplicate_bytes"))),
        Column("Files", lambda row: count_cell(row.get("file_count"))),
    ]
    table = sortable_table("The directories with most in duplicate", columns, rows, "directories", LISTED_ROWS)
    return Section("directories", "Top directories", table)


def _pairs(document: Row) -> Section | None:
    rows = rows_in(document, "pairs")
    if not rows:
        return None
    table = sortable_table("The pairs of repositories that share most", pair_columns(rows), rows, "pairs", LISTED_ROWS)
    return Section("pairs", "Pairs that share most", table)


def _dedup_repositories(document: Row) -> Section | None:
    """Show what each repository has: the fields differ between the levels, and their names say what they are."""
    rows = rows_in(document, "repositories")
    if not rows:
        return None
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith(("_bytes", "_count")))
    columns = [
        Column("Repository", lambda row: name_cell(row.get("name")), is_number=False),
        *(Column(text_html(key_words(key)), _cell_of(key)) for key in keys),
    ]
    return Section(
        "repositories", "Repositories", sortable_table("Repositories", columns, rows, "repositories", MOST_ROWS)
    )


def _cell_of(key: str) -> Callable[[Row], str]:
    if key.endswith("_bytes"):
        return lambda row: size_cell(row.get(key))
    return lambda row: count_cell(row.get(key))

"""The map of a capacity report: a box for each repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.report.charts import Group, Size, Tile, treemap
from regstore.report.page.sections import Section
from regstore.report.page.text import explain, plural, size_text
from regstore.report.page.values import as_number
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.report.page.values import Row

_GROUPS = 24
_FEW = 8
"""So few boxes need only half the height."""
_DRAWN = (("wide", Size(1120, 540), 160), ("medium", Size(680, 520), 100), ("narrow", Size(350, 520), 50))
"""Widths of a screen, as the style calls them: it is drawn for each, since letters must not shrink. Size, and boxes."""


def map_section(repositories: Sequence[Row]) -> Section | None:
    """Show repositories as boxes as large as what they store."""
    stored = [row for row in repositories if (as_number(row.get("stored_bytes")) or 0) > 0]
    if not stored:
        return None
    stored.sort(key=lambda row: -(as_number(row.get("stored_bytes")) or 0))
    title = f"Stored bytes of {plural(len(stored), 'repository', 'repositories')} by namespace"
    drawn = "".join(
        f'<div class="{name}">{treemap(_group_by_namespace(stored, limit), size=_lower(size, stored), title=title)}'
        "</div>"
        for name, size, limit in _DRAWN
    )
    steps = "".join(
        f'<li><span class="swatch unique-{step}"></span>{step * 20} to {step * 20 + 20} %</li>' for step in range(5)
    )
    explained = (
        "Each box is a repository, as large as what is stored because of it; a layer that several share counts in each."
        " The stronger its colour, the more of it is unique: freed if that repository went."
    )
    return Section(
        "map",
        "Where it is",
        f'{explain(explained)}<div class="drawn">{drawn}</div>'
        f'<ul class="shades" aria-label="Unique part"><li>Unique part:</li>{steps}</ul>',
    )


def _lower(size: Size, stored: Sequence[Row]) -> Size:
    return size._replace(height=size.height / 2) if len(stored) <= _FEW else size


def _group_by_namespace(stored: Sequence[Row], limit: int) -> list[Group]:
    """Make the boxes of the treemap: the largest on their own, the others of each namespace in one."""
    members: dict[str, list[Row]] = {}
    names = {str(row.get("name")) for row in stored}
    spaces = {name.partition("/")[0] for name in names if "/" in name}
    for row in stored:
        first, slash, _ = str(row.get("name")).partition("/")
        members.setdefault(f"{first}/" if slash or first in spaces else "", []).append(row)
    shown = {id(row) for row in stored[:limit]}
    groups = [
        _group(space, [row for row in rows if id(row) in shown], [row for row in rows if id(row) not in shown])
        for space, rows in members.items()
    ]
    groups.sort(key=lambda group: -group.value)
    if len(groups) <= _GROUPS:
        return groups
    rest = groups[_GROUPS:]
    value = sum(group.value for group in rest)
    label = f"{len(rest):,} more namespaces"
    gathered = Tile(value, label, size_text(value), f"{label}: {size_text(value)} stored", "gathered")
    return [*groups[:_GROUPS], Group("", "", label, [], gathered)]


def _group(space: str, shown: Sequence[Row], rest: Sequence[Row]) -> Group:
    tiles = []
    for row in shown:
        value = as_number(row.get("stored_bytes")) or 0
        unique = as_number(row.get("unique_bytes"))
        name = plain(str(row.get("name")))
        style = "unknown" if unique is None else f"unique-{min(4, max(0, int(unique / value * 5)))}"
        told = "" if unique is None else f", {size_text(unique)} unique"
        below = plain(str(row.get("name")).removeprefix(space))
        tiles.append(Tile(value, below, size_text(value), f"{name}: {size_text(value)} stored{told}", style))
    gathered = None
    if rest:
        value = sum(as_number(row.get("stored_bytes")) or 0 for row in rest)
        label = f"{len(rest):,} more"
        gathered = Tile(value, label, size_text(value), f"{label} repositories: {size_text(value)} stored", "gathered")
    total = sum(as_number(row.get("stored_bytes")) or 0 for row in (*shown, *rest))
    label = plain(space) or "without a namespace"
    count = plural(len(shown) + len(rest), "repository", "repositories")
    return Group(label, size_text(total), f"{label}: {count}, {size_text(total)} stored", tiles, gathered)

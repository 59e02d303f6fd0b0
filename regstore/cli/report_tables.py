"""Reports as tables: for people, and with tabs for awk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regstore.cli.output import human_time, render_table
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regstore.report.capacity import Capacity, RepositoryRow, TagRow
    from regstore.report.forecast import Forecast
    from regstore.report.history import Entry

REPOSITORY_COLUMNS = (
    *("name", "tag_count", "revision_count", "logical_bytes", "stored_bytes", "unique_bytes", "shared_bytes"),
    *("reclaimable_bytes", "newest_push_at", "growth_bytes"),
)
TAG_COLUMNS = ("repository", "tag", "digest", "size_bytes", "unique_bytes", "layer_count", "platforms", "pushed_at")
DEDUP_COLUMNS = {
    "blob": ("digest", "size_bytes", "repositories"),
    "file": ("path", "size_bytes", "copies"),
    "chunk": ("digest", "size_bytes", "copies"),
}
_SHOWN_HISTORY = 30
_REPOSITORY_HEADINGS = (
    *("REPOSITORY", "TAGS", "REVISIONS", "LOGICAL", "STORED", "UNIQUE", "SHARED", "RECLAIMABLE", "GROWTH", "PUSHED"),
    "SHARES MOST WITH",
)


def capacity_table(capacity: Capacity, forecast: Forecast, history: Sequence[Entry] | None) -> list[str]:
    """Return the lines of a capacity report for people."""
    sections = [_totals(capacity, forecast)]
    if capacity.repositories:
        rows = [[*_REPOSITORY_HEADINGS]]
        rows += _repository_rows(capacity.repositories)
        sections.append(render_table(rows))
    if capacity.tags:
        rows = [["TAG", "SIZE", "UNIQUE", "LAYERS", "PLATFORMS", "PUSHED", "DIGEST"]]
        rows += [_tag_row(row) for row in capacity.tags]
        sections.append(render_table(rows))
    if capacity.what_if:
        rows = [["WHAT IF", "TAGS", "FREED"]]
        rows += [[plain(rule), f"{count}", human_bytes(freed)] for rule, count, freed in capacity.what_if]
        sections.append(render_table(rows))
    if history:
        rows = [["REPORT", "STORED", "LIVE", "UNREFERENCED", "TAGS"]]
        rows += [_history_row(entry) for entry in history[-_SHOWN_HISTORY:]]
        sections.append(render_table(rows))
    return ["\n\n".join(sections), "\n"]


def _totals(capacity: Capacity, forecast: Forecast) -> str:
    totals, room = capacity.totals, capacity.room

    def size(name: str) -> str:
        value = totals[name]
        return "-" if value is None else human_bytes(value)

    stored = f"{size('stored_bytes')} in {totals['blob_count']} blobs"
    if totals["allocated_bytes"] is not None:
        stored += f" ({size('allocated_bytes')} on the disk)"
    rows = [
        ("registry", plain(capacity.location)),
        ("stored", stored),
        ("  live", size("live_bytes")),
        ("  unreferenced", f"{size('unreferenced_bytes')}: what a collection frees"),
        ("  in grace", f"{size('grace_bytes')}: unreferenced too, and too young yet"),
        ("logical", f"{size('logical_bytes')}: all tags without sharing"),
        ("quarantined", size("quarantined_bytes")),
        ("uploads", size("upload_bytes")),
        (
            "tags",
            f"{totals['tag_count']} in {totals['repository_count']} repositories, "
            f"{totals['revision_count']} manifests, {totals['tag_history_count']} former meanings",
        ),
    ]
    inodes = "" if totals["inode_count"] is None else f", {totals['inode_count']} files and directories"
    rows.append(("links", f"{totals['link_count']}{inodes}"))
    if room.total_bytes and room.free_bytes is not None:
        share = 100 * room.free_bytes / room.total_bytes
        free = f"{human_bytes(room.free_bytes)} of {human_bytes(room.total_bytes)} ({share:.0f} %)"
        if room.total_inodes and room.free_inodes is not None:
            free += f", {100 * room.free_inodes / room.total_inodes:.0f} % of the inodes"
        rows.append(("free", free))
    rows.append(("forecast", forecast_words(forecast)))
    return "\n".join(f"{name:<15} {value}" for name, value in rows)


def forecast_words(forecast: Forecast) -> str:
    """Say the forecast in words."""
    if forecast.growth_bytes_per_day is None:
        return "not enough data: it needs reports of seven days"
    growth = round(forecast.growth_bytes_per_day)
    words = f"{'-' if growth < 0 else '+'}{human_bytes(abs(growth))} a day"
    if forecast.full_at is None:
        return f"{words}; no date on which it is full"
    full = human_time(forecast.full_at)[:10]
    earliest, latest = forecast.full_at_earliest, forecast.full_at_latest
    between = f"{human_time(earliest)[:10] if earliest else '?'} to {human_time(latest)[:10] if latest else 'never'}"
    return f"{words}; full on {full} (95 %: {between})"


def _repository_rows(rows: Sequence[RepositoryRow]) -> list[list[str]]:
    """Return the rows as a tree: below each namespace with several repositories its sums, then what is in it.

    The order of the rows is kept: a namespace stands where its first repository does.
    """
    return _subtree([(row.name.split("/"), row) for row in rows], 0)


def _subtree(rows: Sequence[tuple[list[str], RepositoryRow]], depth: int) -> list[list[str]]:
    spaces: dict[str, list[tuple[list[str], RepositoryRow]]] = {}
    for parts, row in rows:
        spaces.setdefault(parts[depth], []).append((parts, row))
    lines = []
    for members in spaces.values():
        if len(members) == 1:
            lines.append(_repository_row(members[0][1], depth))
            continue
        own = [row for parts, row in members if len(parts) == depth + 1]
        below = [(parts, row) for parts, row in members if len(parts) > depth + 1]
        space = "/".join(members[0][0][: depth + 1]) + "/"
        lines += [_repository_row(row, depth) for row in own]
        if len(below) > 1:
            lines.append(_sums_row(space, [row for _, row in below], depth))
            lines += _subtree(below, depth + 1)
        else:
            lines += [_repository_row(row, depth) for _, row in below]
    return lines


def _repository_row(row: RepositoryRow, depth: int) -> list[str]:
    return [
        "  " * depth + plain(row.name),
        f"{row.tag_count}",
        f"{row.revision_count}",
        human_bytes(row.logical_bytes),
        human_bytes(row.stored_bytes),
        human_bytes(row.unique_bytes),
        human_bytes(row.shared_bytes),
        human_bytes(row.reclaimable_bytes),
        "-" if row.growth_bytes is None else _signed(row.growth_bytes),
        "-" if row.newest_push_at is None else human_time(row.newest_push_at)[:10],
        plain(row.shared_with[0][0]) if row.shared_with else "-",
    ]


def _sums_row(name: str, rows: Sequence[RepositoryRow], depth: int) -> list[str]:
    sums = [
        sum(getattr(row, field) for row in rows)
        for field in ("logical_bytes", "stored_bytes", "unique_bytes", "shared_bytes", "reclaimable_bytes")
    ]
    grown = [row.growth_bytes for row in rows if row.growth_bytes is not None]
    pushed = [row.newest_push_at for row in rows if row.newest_push_at is not None]
    return [
        "  " * depth + plain(name),
        f"{sum(row.tag_count for row in rows)}",
        f"{sum(row.revision_count for row in rows)}",
        *map(human_bytes, sums),
        _signed(sum(grown)) if grown else "-",
        human_time(max(pushed))[:10] if pushed else "-",
        "-",
    ]


def _signed(size: int) -> str:
    return f"-{human_bytes(-size)}" if size < 0 else human_bytes(size)


def _tag_row(row: TagRow) -> list[str]:
    return [
        plain(f"{row.repository}:{row.tag}"),
        human_bytes(row.size_bytes),
        human_bytes(row.unique_bytes),
        "-" if row.layer_count is None else f"{row.layer_count}",
        plain(" ".join(row.platforms)) or "-",
        "-" if row.pushed_at is None else human_time(row.pushed_at)[:16],
        row.digest[:19],
    ]


def _history_row(entry: Entry) -> list[str]:
    sizes = [entry.totals.get(name) or 0 for name in ("stored_bytes", "live_bytes", "unreferenced_bytes")]
    return [human_time(entry.at), *map(human_bytes, sizes), f"{entry.totals.get('tag_count') or 0}"]


def plain_capacity(document: Mapping[str, Any]) -> list[str]:
    """Return the repositories, or tags, of a document with tabs between columns and raw bytes."""
    if "tags" in document:
        return _tabbed(TAG_COLUMNS, document["tags"])
    return _tabbed(REPOSITORY_COLUMNS, document["repositories"])


def plain_dedup(document: Mapping[str, Any]) -> list[str]:
    """Return the main list of a document with tabs between columns and raw bytes."""
    return _tabbed(DEDUP_COLUMNS[document["level"]], document["layers" if document["level"] == "blob" else "top"])


def _tabbed(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["\t".join(columns) + "\n"]
    lines += ["\t".join(_cell(row[column]) for column in columns) + "\n" for row in rows]
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return plain(" ".join(map(str, value))) or "-" if isinstance(value, list) else plain(str(value))


def dedup_table(document: Mapping[str, Any]) -> list[str]:
    """Return the lines of a deduplication report for people."""
    totals, level = document["totals"], document["level"]
    facts = [("registry", plain(document["location"])), ("layers", f"{totals['layer_count']}")]
    if level == "blob":
        facts += [
            ("stored", human_bytes(totals["stored_bytes"])),
            ("logical", f"{human_bytes(totals['logical_bytes'])}: once for every repository"),
            ("saved", f"{human_bytes(totals['saved_bytes'])} by sharing layers"),
        ]
    else:
        total = totals[f"{level}_bytes"]
        share = f" ({100 * totals['duplicate_bytes'] / total:.0f} %)" if total else ""
        facts += [
            (f"{level}s", f"{totals[f'{level}_count']} with {human_bytes(total)}"),
            ("unique", f"{totals[f'unique_{level}_count']} with {human_bytes(totals['unique_bytes'])}"),
            ("duplicate", f"{human_bytes(totals['duplicate_bytes'])}{share}"),
        ]
        scopes = document["scopes"]
        facts += [
            (f"  {words}", human_bytes(scopes[name]))
            for words, name in (
                ("in an image", "within_image_bytes"),
                ("across images", "across_images_bytes"),
                ("across repos", "across_repositories_bytes"),
            )
        ]
        if document["base_image_saving_bytes"] is not None:
            saving = human_bytes(document["base_image_saving_bytes"])
            facts.append(("common base", f"{saving} less, if what several layers have lay in one (an estimate)"))
    sections = ["\n".join(f"{name:<15} {value}" for name, value in facts)]
    sections += [render_table(rows) for rows in _dedup_lists(document) if len(rows) > 1]
    return ["\n\n".join(sections), "\n"]


def _dedup_lists(document: Mapping[str, Any]) -> list[list[list[str]]]:
    lists: list[list[list[str]]] = []
    if document["level"] == "blob":
        rows = [["LAYER", "SIZE", "SHARED", "BY"]]
        for layer in document["layers"]:
            names = layer["repositories"]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            sharers = plain(", ".join(names[:3])) + more
            rows.append([layer["digest"], human_bytes(layer["size_bytes"]), f"{len(names)}", sharers])
        lists.append(rows)
    else:
        name = "path" if document["level"] == "file" else "digest"
        rows = [[document["level"].upper(), "SIZE", "COPIES"]]
        rows += [[plain(row[name]), human_bytes(row["size_bytes"]), f"{row['copies']}"] for row in document["top"]]
        lists.append(rows)
        rows = [["DIRECTORY", "DUPLICATE", "FILES"]]
        rows += [
            [plain(row["path"]) or "/", human_bytes(row["duplicate_bytes"]), f"{row['file_count']}"]
            for row in document["directories"]
        ]
        lists.append(rows)
    rows = [["SHARED BY", "AND", "BYTES"]]
    rows += [[plain(row["a"]), plain(row["b"]), human_bytes(row["shared_bytes"])] for row in document["pairs"]]
    lists.append(rows)
    return lists

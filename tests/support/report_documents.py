"""JSON documents of reports, as they could be of a real volume: made up, the same each time."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4
NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
NAMESPACES = ("platform", "payments", "web", "data", "ml", "mirror/docker.io", "tools", "legacy")
WORDS = (
    "api", "worker", "frontend", "gateway", "batch", "scheduler", "ingest", "exporter", "base", "cache", "auth",
    "search", "notify", "reports", "proxy", "trainer", "notebook", "runner", "builder", "console",
)  # fmt: skip
HOSTILE = (
    "<script>window.harmed = true</script>",
    "<img src=x onerror='window.harmed = true'>",
    '"onmouseover="window.harmed=true" x=\'',
    "a & b &lt; c",
    "</title></style></svg></table><script>window.harmed = true</script>",
    "exe.\u202egnp.txt\u2066\u200b",
    "bell\x07 escape\x1b[31m nul\x00 newline\n tab\t",
    "lone surrogate \udc80",
    "שלום/مرحبا",
    "]]><!-- --><script>window.harmed = true</script>",
)


def capacity_document(count: int = 60, *, seed: int = 1) -> dict[str, Any]:
    """Return a capacity report of so many repositories in eight namespaces, with everything that can be asked for."""
    chance = random.Random(seed)
    rows = [_repository(chance, number) for number in range(count)]
    _share(chance, rows)
    rows.sort(key=lambda row: -row["stored_bytes"])
    stored = int(sum(row["unique_bytes"] + row["shared_bytes"] / 3 for row in rows))
    reclaimable = sum(row["reclaimable_bytes"] for row in rows)
    grace = reclaimable // 5
    free = int(stored * 0.7)
    totals = {
        "stored_bytes": stored,
        "allocated_bytes": stored + count * 40_000,
        "logical_bytes": sum(row["logical_bytes"] for row in rows),
        "live_bytes": stored - reclaimable,
        "unreferenced_bytes": reclaimable - grace,
        "grace_bytes": grace,
        "quarantined_bytes": stored // 40,
        "upload_bytes": stored // 110,
        "multipart_bytes": None,
        "link_count": count * 940,
        "inode_count": count * 2110,
        "tag_history_count": count * 71,
        "repository_count": count,
        "tag_count": sum(row["tag_count"] for row in rows),
        "revision_count": sum(row["revision_count"] for row in rows),
        "blob_count": count * 230,
    }
    return {
        **_envelope("report capacity"),
        "totals": totals,
        "volume": {
            "total_bytes": int(stored * 1.95),
            "free_bytes": free,
            "total_inodes": 61_054_976,
            "free_inodes": 48_211_030,
        },
        "repositories": rows,
        "namespaces": _namespaces(rows),
        "tags": [_tag(chance, row, number) for row in rows[:40] for number in range(min(4, row["tag_count"]))],
        "what_if": [
            {"rule": "keep-last 10", "tag_count": 1831, "freed_bytes": stored // 6},
            {"rule": "older-than 90d", "tag_count": 914, "freed_bytes": stored // 11},
            {"rule": "delete legacy/*:*", "tag_count": 77, "freed_bytes": stored // 19},
        ],
        "forecast": {
            "state": "ok",
            "growth_bytes_per_day": stored / 150,
            "full_at": (NOW + timedelta(days=105)).isoformat(),
            "full_at_earliest": (NOW + timedelta(days=84)).isoformat(),
            "full_at_latest": (NOW + timedelta(days=141)).isoformat(),
        },
        "history": _history(chance, stored, totals),
        "strays": ["docker/registry/v2/blobs/sha256/ab/notes.txt", "docker/registry/v2/lost+found", "backup of 2024"],
        "findings": _findings(rows),
    }


def dedup_blob_document(count: int = 60) -> dict[str, Any]:
    """Return a deduplication report of the level of blobs."""
    chance = random.Random(2)
    names = [_name(number) for number in range(count)]
    layers = []
    for number in range(120):
        users = sorted(chance.sample(names, max(1, min(count, int(chance.paretovariate(0.7))))))
        layers.append(
            {
                "digest": _digest(f"layer {number}"),
                "size_bytes": int(chance.lognormvariate(17.5, 1.4)),
                "repositories": users,
            }
        )
    layers.sort(key=lambda layer: (-len(layer["repositories"]), -layer["size_bytes"]))
    stored = sum(layer["size_bytes"] for layer in layers)
    logical = sum(layer["size_bytes"] * len(layer["repositories"]) for layer in layers)
    return {
        **_envelope("report dedup"),
        "totals": {
            "layer_count": len(layers),
            "stored_bytes": stored,
            "logical_bytes": logical,
            "saved_bytes": logical - stored,
        },
        "layers": layers,
        "pairs": _pairs(chance, names),
        "findings": [],
    }


def dedup_file_document(count: int = 60) -> dict[str, Any]:
    """Return a deduplication report of the level of files."""
    chance = random.Random(3)
    names = [_name(number) for number in range(count)]
    paths = ("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/bin/python3.11", "usr/lib/locale/C.utf8/LC_COLLATE", "opt/jdk")
    repositories = []
    for name in names:
        whole = int(chance.lognormvariate(22, 1))
        again = int(whole * chance.uniform(0.1, 0.8))
        repositories.append(
            {"name": name, "file_count": whole // 90_000, "file_bytes": whole, "unique_bytes": whole - again}
            | {"duplicate_bytes": again}
        )
    whole = sum(row["file_bytes"] for row in repositories)
    again = sum(row["duplicate_bytes"] for row in repositories)
    return {
        **_envelope("report dedup"),
        "totals": {
            "layer_count": 1311,
            "file_count": whole // 90_000,
            "file_bytes": whole,
            "unique_file_count": (whole - again) // 110_000,
            "unique_bytes": whole - again,
            "duplicate_bytes": again,
        },
        "top": [
            {"path": f"{paths[n % 4]}{n or ''}", "size_bytes": 190 * MIB // (n + 1), "copies": 210 - 2 * n}
            for n in range(50)
        ],
        "directories": [
            {
                "path": f"usr/lib/python3.{n}/site-packages",
                "duplicate_bytes": 9 * GIB // (n + 1),
                "file_count": 9000 - n,
            }
            for n in range(20)
        ],
        "repositories": repositories,
        "pairs": _pairs(chance, names),
        "scopes": {
            "within_image_bytes": again // 12,
            "across_images_bytes": again // 3,
            "across_repositories_bytes": again - again // 12 - again // 3,
        },
        "base_image_saving_bytes": again // 4,
        "findings": [],
    }


def dedup_chunk_document() -> dict[str, Any]:
    """Return a deduplication report of the level of chunks."""
    files = dedup_file_document(8)
    totals = {key.replace("file", "chunk"): value for key, value in files["totals"].items()}
    top = [{**row, "digest": _digest(row.pop("path"))} for row in files["top"]]
    return {**files, "totals": totals, "top": top, "directories": []}


def hostile_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with hostile texts wherever a text comes from the volume."""
    count = 0

    def replaced(value: Any, key: str = "") -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {name: replaced(entry, name) for name, entry in value.items()}
        if isinstance(value, list):
            return [replaced(entry, key) for entry in value]
        if not isinstance(value, str) or key in ("state", "severity", "level") or "_at" in key or key == "at":
            return value
        count += 1
        return f"{HOSTILE[count % len(HOSTILE)]}{count}"

    hurt: dict[str, Any] = replaced(document)
    return hurt


def without_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with null for each field that is not a list or a part."""

    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: emptied(entry) for name, entry in value.items()}
        return [emptied(entry) for entry in value[:3]] if isinstance(value, list) else None

    hurt: dict[str, Any] = emptied(document)
    return hurt


def _envelope(command: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "tool_version": "0.4.0",
        "command": command,
        "location": "/srv/registry",
        "started_at": NOW.isoformat(),
        "duration_seconds": 18.442,
        "exit_code": 0,
    }


def _name(number: int) -> str:
    word = WORDS[number // len(NAMESPACES) % len(WORDS)]
    again = number // (len(NAMESPACES) * len(WORDS))
    return f"{NAMESPACES[number % len(NAMESPACES)]}/{word}{f'-{again}' if again else ''}"


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _repository(chance: random.Random, number: int) -> dict[str, Any]:
    heavy = 1.9 if number % len(NAMESPACES) in (2, 4, 5) else 1.0
    stored = int(chance.lognormvariate(22.6, 1.25) * heavy)
    unique = int(stored * chance.betavariate(1.6, 1.2))
    tags = chance.randint(1, 90)
    return {
        "name": _name(number),
        "tag_count": tags,
        "revision_count": tags + chance.randint(0, 60),
        "logical_bytes": int(stored * chance.uniform(1.2, 9)),
        "stored_bytes": stored,
        "unique_bytes": unique,
        "shared_bytes": stored - unique,
        "reclaimable_bytes": int(stored * chance.choice((0, 0, 0.02, 0.1, 0.3))),
        "newest_push_at": (NOW - timedelta(hours=chance.randint(1, 9000))).isoformat(),
        "growth_bytes": int(stored * chance.choice((0, 0.01, 0.04, -0.02))) if number % 11 else None,
    }


def _share(chance: random.Random, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        others = chance.sample(rows, min(4, len(rows)))
        row["shared_with"] = [
            {"name": other["name"], "bytes": min(row["shared_bytes"], other["shared_bytes"]) // (rank + 1)}
            for rank, other in enumerate(others)
            if other is not row
        ]


def _namespaces(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = f"{row['name'].partition('/')[0]}/"
        entry = sums.setdefault(name, {"name": name, "growth_bytes": 0, "newest_push_at": row["newest_push_at"]})
        for key, value in row.items():
            if isinstance(value, int):
                entry[key] = entry.get(key, 0) + value
    return sorted(sums.values(), key=lambda entry: -entry["stored_bytes"])


def _tag(chance: random.Random, row: dict[str, Any], number: int) -> dict[str, Any]:
    size = int(chance.lognormvariate(19.6, 0.8))
    return {
        "repository": row["name"],
        "tag": f"v1.{number}.{chance.randint(0, 9)}",
        "digest": _digest(f"{row['name']}{number}"),
        "size_bytes": size,
        "unique_bytes": int(size * chance.betavariate(0.6, 2)),
        "layer_count": chance.randint(3, 24) if number else None,
        "platforms": ["linux/amd64"] if number else ["linux/amd64", "linux/arm64"],
        "pushed_at": (NOW - timedelta(hours=chance.randint(1, 5000))).isoformat(),
    }


def _history(chance: random.Random, stored: int, totals: dict[str, Any]) -> list[dict[str, Any]]:
    entries = []
    for day in range(60, -1, -1):
        size = int(stored * (1 - day / 150 + (0 if day in (0, 60) else chance.uniform(-0.008, 0.008))))
        at = (NOW - timedelta(days=day)).isoformat()
        entries.append({"at": at, "totals": {**totals, "stored_bytes": size if day else stored}})
    return entries


def _findings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = rows[0]["name"] if rows else "team/app"
    return [
        {
            "id": "large-reclaimable",
            "severity": "info",
            "subject": first,
            "detail": "31.4 GiB of it would be freed by a collection today.",
            "repair": "regstore gc run /srv/registry",
        },
        {
            "id": "unreadable-manifest",
            "severity": "warning",
            "subject": f"{first}:v1.4.2",
            "detail": "The manifest names a layer that is not on the volume; it weighs nothing in this report.",
            "repair": "regstore fsck run /srv/registry, then push the image again",
        },
        {
            "id": "wasteful-layers",
            "severity": "info",
            "subject": "ml/trainer@sha256:0f3c…",
            "detail": "2.1 GiB added in one layer are deleted in a later one.",
            "repair": "Remove the files in the step that makes them.",
        },
        {
            "id": "low-space",
            "severity": "error",
            "subject": "/srv/registry",
            "detail": "Less than a tenth of the inodes of the volume are free.",
            "repair": "",
        },
    ]


def _pairs(chance: random.Random, names: list[str]) -> list[dict[str, Any]]:
    pairs = [
        {
            "a": names[n % len(names)],
            "b": names[(n * 3 + 1) % len(names)],
            "shared_bytes": chance.randint(1, 40) * GIB // 9,
        }
        for n in range(80)
    ]
    return sorted(pairs, key=lambda pair: -pair["shared_bytes"])

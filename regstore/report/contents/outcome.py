"""What a report says of the contents of layers, and the levels it says it at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regstore.findings import Finding

FILES, CHUNKS = "file", "chunk"
"""The levels."""


@dataclass(frozen=True, slots=True)
class ContentsReport:
    """What is in the layers that could be read. At chunk level, chunks stand for files.

    Attributes:
        totals: `layer_count`, `file_count`, `file_bytes`, `unique_file_count`, `unique_bytes`, `duplicate_bytes`; at
            chunk level `chunk_count`, `chunk_bytes`, `unique_chunk_count` instead. Each distinct layer counts once.
        top: `path` of the first copy (at chunk level `digest`), `size_bytes`, `copies`; what wastes most first.
        directories: `path`, `duplicate_bytes`, `file_count`: files that are not the first copy of their content, where
            empty ones do not count; the largest first; none at chunk level.
        repositories: `name`, `file_count`, `file_bytes`, `unique_bytes` (contents in no other repository),
            `duplicate_bytes` (within it); the largest first. At chunk level `chunk_count` and `chunk_bytes`.
        pairs: `a`, `b`, `shared_bytes` of distinct contents that both have; the largest first.
        scopes: `within_image_bytes`, `across_images_bytes` (of one repository), `across_repositories_bytes`: the
            duplicate bytes by the narrowest scope that a copy shares with an earlier one; together `duplicate_bytes`.
        base_image_saving_bytes: an estimate of what is saved if contents of several layers lay in one common layer.
        findings: layers that could not be read.
    """

    totals: dict[str, int]
    top: list[dict[str, Any]]
    directories: list[dict[str, Any]]
    repositories: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    scopes: dict[str, int]
    base_image_saving_bytes: int | None
    findings: list[Finding]

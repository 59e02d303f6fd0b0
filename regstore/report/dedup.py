"""`report dedup --level file` and `--level chunk`: what is in the live layers of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regstore.report.contents import ContentsReport, read_contents
from regstore.report.records import SHARD_COUNT
from regstore.report.sharing import find_images, iter_missing
from regstore.state import open_state

if TYPE_CHECKING:
    from regstore.registry import Registry
    from regstore.work import Cancel, Progress


def measure_contents(
    registry: Registry,
    *,
    level: str,
    jobs: int,
    top: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ContentsReport:
    """Say what the files, or chunks, of all live layers have in common. Writes nothing below the registry's root.

    Args:
        registry: what is looked at.
        level: `file` or `chunk`.
        jobs: processes that read layers.
        top: rows of the longest lists.
        progress, cancel: told and asked between items.

    Raises:
        UsageError: chunks are asked for and the extra is not installed.
        DriverError, StorageFailedError: something could not be read for certain.
        InterruptedRunError: the run was asked to stop.
    """
    state = open_state(registry.location)
    volume = registry.open_volume(jobs, is_measuring=True)
    try:
        volume.list_blobs(lambda _: None)  # an object store tells sizes there, and nowhere else for nothing
        images = find_images(registry, state, volume, progress=progress, cancel=cancel)
        for shard in range(SHARD_COUNT):
            images.findings += iter_missing(volume, images.layers.take_digests(shard), images)
        volume.check_unchanged()
    finally:
        state.close()
    names = images.repositories
    kept = {manifest: sorted(names[number] for number in numbers) for manifest, numbers in images.kept.items()}
    contents = read_contents(
        registry, kept, level=level, jobs=jobs, top=top, newest=images.newest, progress=progress, cancel=cancel
    )
    contents.findings[:0] = images.findings
    return contents


def contents_to_json(contents: ContentsReport, level: str) -> dict[str, Any]:
    """Return the fields of the JSON document."""
    return {
        "level": level,
        "totals": contents.totals,
        "top": contents.top,
        "directories": contents.directories,
        "repositories": contents.repositories,
        "pairs": contents.pairs,
        "scopes": contents.scopes,
        "base_image_saving_bytes": contents.base_image_saving_bytes,
    }

"""`report capacity`: what fills a volume, by repository and by tag, and what would be free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regstore.digest import format_digest
from regstore.gc.guards import refuse_harbor
from regstore.gc.status import read_status
from regstore.report.advice import iter_advice
from regstore.report.measure import Pass
from regstore.report.platforms import platforms_of
from regstore.report.weigh import Scale
from regstore.state import open_state
from regstore.wording import iso_time
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import Capacity as Room
from regstore_drivers.base import HasCapacity, HasLocalPath, HasMultipartSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.findings import Finding
    from regstore.registry import Registry
    from regstore.report.measure import Measured, Root
    from regstore.report.options import Options
    from regstore.report.weigh import Weights
    from regstore.state import State
    from regstore.work import Progress
    from regstore_drivers.base import Driver, MultipartUpload

_SUMS = (
    *("tag_count", "revision_count", "logical_bytes", "stored_bytes", "unique_bytes", "shared_bytes"),
    "reclaimable_bytes",
)


@dataclass(slots=True)
class RepositoryRow:
    """One repository. The words are defined in docs/reports.md; times are seconds since the epoch.

    `shared_with` names the ten repositories that share most with it, with the bytes. `growth_bytes` is the change of
    `stored_bytes` since the last report; None when there was none.
    """

    name: str
    tag_count: int
    revision_count: int
    logical_bytes: int
    stored_bytes: int
    unique_bytes: int
    reclaimable_bytes: int
    newest_push_at: float | None
    shared_with: list[tuple[str, int]] = field(default_factory=list)
    growth_bytes: int | None = None

    @property
    def shared_bytes(self) -> int:
        """What other repositories keep too."""
        return self.stored_bytes - self.unique_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "tag_count": self.tag_count,
            "revision_count": self.revision_count,
            "logical_bytes": self.logical_bytes,
            "stored_bytes": self.stored_bytes,
            "unique_bytes": self.unique_bytes,
            "shared_bytes": self.shared_bytes,
            "reclaimable_bytes": self.reclaimable_bytes,
            "newest_push_at": iso_time(self.newest_push_at),
            "growth_bytes": self.growth_bytes,
            "shared_with": [{"name": name, "bytes": size} for name, size in self.shared_with],
        }


@dataclass(slots=True)
class TagRow:
    """One tag: what its image weighs, and what deleting the tag alone would free. `platforms` are `os/architecture`."""

    repository: str
    tag: str
    digest: str
    size_bytes: int
    unique_bytes: int
    layer_count: int | None
    platforms: list[str]
    pushed_at: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "unique_bytes": self.unique_bytes,
            "layer_count": self.layer_count,
            "platforms": self.platforms,
            "pushed_at": iso_time(self.pushed_at),
        }


@dataclass(slots=True)
class Capacity:
    """A capacity report.

    Attributes:
        location: the registry, without credentials.
        totals: the numbers of the whole volume, by their names in the JSON document.
        room: size and free space of the storage.
        repositories: all of them, by name.
        tags: all of them, when asked for.
        what_if: (rule, tags that would go, bytes that a collection would free after it), in the order asked.
        findings: what could not be weighed, and advice.
        strays: keys that are not of the registry's layout.
        stale_upload_count: uploads that nothing was added to for a week.
    """

    location: str
    totals: dict[str, int | None]
    room: Room
    repositories: list[RepositoryRow]
    tags: list[TagRow]
    what_if: list[tuple[str, int, int]]
    findings: list[Finding]
    strays: list[str]
    stale_upload_count: int = 0


def sum_namespaces(rows: Sequence[RepositoryRow]) -> list[dict[str, Any]]:
    """Return the sums of the repositories below each namespace, by its name with a slash at the end.

    Beside the sums each has its newest push, and its growth where that is known.
    """
    below: dict[str, list[RepositoryRow]] = {}
    for row in rows:
        parts = row.name.split("/")
        for depth in range(1, len(parts)):
            below.setdefault("/".join(parts[:depth]) + "/", []).append(row)
    return [
        {
            "name": name,
            **{column: sum(getattr(row, column) for row in members) for column in _SUMS},
            "newest_push_at": iso_time(max(row.newest_push_at or 0.0 for row in members) or None),
            "growth_bytes": _growth_of(members),
        }
        for name, members in sorted(below.items())
    ]


def _growth_of(rows: Sequence[RepositoryRow]) -> int | None:
    known = [row.growth_bytes for row in rows if row.growth_bytes is not None]
    return sum(known) if known else None


def measure_capacity(
    registry: Registry,
    options: Options,
    *,
    state: State | None = None,
    now: float | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Capacity:
    """Weigh a volume. Writes nothing below the registry's root and takes no lock.

    Args:
        registry: what is weighed.
        options: what is asked for.
        state: what is remembered between runs; by default that of the registry's location.
        now: the time from which the ages of tags count, in seconds since the epoch; by default this host's.
        progress, cancel: told and asked between items.

    Raises:
        RefusedError: `delete_untagged` on a volume whose tags lie elsewhere (Harbor, GitLab's database).
        DriverError, StorageFailedError: something could not be read for certain.
        InterruptedRunError: the run was asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    own_state = state is None
    state = state or open_state(registry.location)
    try:
        one = Pass(registry, options, state, now, progress, cancel)
        blobs = one.run()
        measured = one.measured
        if options.delete_untagged:
            refuse_harbor(
                sum(seen.revision_count for seen in measured.repositories),
                sum(seen.tag_count for seen in measured.repositories),
                measured.signature_tag_count,
            )
        limits = (one.link_limit(0.0), one.link_limit(options.grace))
        weights = Scale(one.volume, measured, options.grace, limits).weigh(blobs, progress, cancel)
        one.volume.check_unchanged()
        multipart_bytes = sum(_size_of(registry.driver, upload) for upload in one.volume.iter_multipart())
    finally:
        if own_state:
            state.close()
    inodes = None
    if one.volume.directory_count is not None:
        in_repositories = sum(seen.name_count for seen in measured.repositories)
        # Beside what has names below them: `blobs` and `repositories` themselves.
        inodes = 2 + blobs.name_count + weights.blob_count + one.volume.directory_count + in_repositories
    totals: dict[str, int | None] = {
        "stored_bytes": weights.stored,
        "allocated_bytes": weights.allocated,
        "logical_bytes": sum(weight.logical for weight in weights.repositories),
        "live_bytes": weights.stored - weights.freed,
        "unreferenced_bytes": weights.freed_in_grace,
        "grace_bytes": weights.freed - weights.freed_in_grace,
        "quarantined_bytes": read_status(registry).quarantined_bytes,
        "upload_bytes": sum(seen.upload_bytes for seen in measured.repositories) + multipart_bytes,
        "multipart_bytes": multipart_bytes,
        "tag_history_count": sum(seen.history_count for seen in measured.repositories),
        "link_count": sum(seen.link_count for seen in measured.repositories),
        "inode_count": inodes,
        "repository_count": len(measured.repositories),
        "tag_count": sum(seen.tag_count for seen in measured.repositories),
        "revision_count": sum(seen.revision_count for seen in measured.repositories),
        "blob_count": weights.blob_count,
    }
    room = registry.driver.capacity() if isinstance(registry.driver, HasCapacity) else Room(None, None, None, None)
    return Capacity(
        registry.location,
        totals,
        room,
        _repository_rows(measured, weights),
        _tag_rows(registry, measured, weights, options.jobs, progress, cancel),
        [
            (rule.text, count, freed)
            for rule, count, freed in zip(options.what_if, measured.rule_counts, weights.freed_by_rule, strict=True)
        ],
        [*measured.findings, *iter_advice(measured.repositories, weights)],
        measured.strays,
        sum(seen.stale_upload_count for seen in measured.repositories),
    )


def _size_of(driver: Driver, upload: MultipartUpload) -> int:
    if upload.size is None and isinstance(driver, HasMultipartSize):
        return driver.multipart_size(upload)
    return upload.size or 0


def _repository_rows(measured: Measured, weights: Weights) -> list[RepositoryRow]:
    names = [seen.name for seen in measured.repositories]
    rows = [
        RepositoryRow(
            seen.name,
            seen.tag_count,
            seen.revision_count,
            weight.logical,
            weight.stored,
            weight.unique,
            weight.reclaimable,
            seen.newest_push,
            [(names[number], size) for number, size in weight.shared_with],
        )
        for seen, weight in zip(measured.repositories, weights.repositories, strict=True)
    ]
    rows.sort(key=lambda row: row.name)
    return rows


def _tag_rows(
    registry: Registry, measured: Measured, weights: Weights, jobs: int, progress: Progress, cancel: Cancel
) -> list[TagRow]:
    rows: list[TagRow] = []
    progress.start("platforms", len(measured.roots))

    def look(root: Root) -> list[str]:
        cancel.check()
        return platforms_of(registry.driver, root.digest)

    found = map_bounded(look, measured.roots, 1 if isinstance(registry.driver, HasLocalPath) else jobs)
    for number, (root, platforms) in enumerate(zip(measured.roots, found, strict=True)):
        progress.advance()
        for tag, pushed in zip(root.tags, root.pushed, strict=True):
            rows.append(
                TagRow(
                    measured.repositories[root.repository].name,
                    tag,
                    format_digest(root.digest),
                    weights.root_sizes[number],
                    weights.root_uniques[number],
                    root.layer_count,
                    platforms,
                    pushed,
                )
            )
    progress.finish()
    rows.sort(key=lambda row: (row.repository, row.tag))
    return rows

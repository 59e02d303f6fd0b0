"""Numbers as a Prometheus text file, for node_exporter's textfile collector or a scrape.

No timestamps, HELP and TYPE for each, every metric a gauge: a file is a snapshot (prometheus/node_exporter,
collector/textfile.go; prometheus/docs, content/docs/instrumenting/exposition_formats.md).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from regstore._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from regstore.findings import Finding
    from regstore.jobs import JobNote
    from regstore.report.capacity import Capacity
    from regstore.report.forecast import Forecast

METRICS = {
    "regstore_build_info": "The version of regstore.",
    "regstore_stored_bytes": "Bytes of all blob data.",
    "regstore_allocated_bytes": "Bytes of the disk blocks that hold blob data.",
    "regstore_logical_bytes": "What all tags would weigh without sharing.",
    "regstore_live_bytes": "Bytes of blobs that tags and manifests need.",
    "regstore_grace_bytes": "Bytes of unneeded blobs that are younger than the grace period.",
    "regstore_reclaimable_bytes": "Bytes that a collection frees.",
    "regstore_quarantined_bytes": "Bytes of blobs in quarantines of collections.",
    "regstore_upload_bytes": "Bytes of open uploads.",
    "regstore_stale_uploads": "Open uploads that nothing was added to for a week.",
    "regstore_blobs": "Blobs with data.",
    "regstore_repositories": "Repositories.",
    "regstore_tags": "Tags.",
    "regstore_revisions": "Manifests that repositories link.",
    "regstore_links": "Link files.",
    "regstore_inodes": "Files and directories of the registry's tree.",
    "regstore_volume_bytes": "Size of the file system.",
    "regstore_volume_free_bytes": "Free space of the file system for unprivileged users.",
    "regstore_volume_inodes": "Inodes of the file system.",
    "regstore_volume_free_inodes": "Free inodes of the file system.",
    "regstore_growth_bytes_per_day": "Growth of the stored bytes, by a robust line through former reports.",
    "regstore_forecast_full_timestamp_seconds": "When the file system will be full.",
    "regstore_findings": "Findings of a job's last run.",
    "regstore_luks_header_ok": "1 when no finding about the LUKS header is a warning or worse, 0 when one is.",
    "regstore_report_timestamp_seconds": "When the report was made.",
    "registry_storage_size_bytes": "Bytes of all blob data.",
    "regstore_repository_stored_bytes": "Bytes that a repository keeps; the largest repositories only.",
    "regstore_repository_reclaimable_bytes": "Bytes that a collection frees; the largest repositories only.",
    "regstore_dedup_layers": "Distinct live layers.",
    "regstore_dedup_stored_bytes": "Bytes of distinct live layers, or contents of their files or chunks.",
    "regstore_dedup_logical_bytes": "The same, once for every repository or copy.",
    "regstore_dedup_saved_bytes": "What sharing layers saves, or what sharing files or chunks would save.",
    "regstore_job_last_run_timestamp_seconds": "When the last run of a job began.",
    "regstore_job_last_success_timestamp_seconds": "When the last run began that came to its end.",
    "regstore_job_duration_seconds": "How long the last run of a job took.",
    "regstore_job_exit_code": "How the last run of a job ended; 0 and 1 are done.",
    "regstore_gc_deleted_blobs": "Blobs that the last collection removed.",
    "regstore_gc_freed_bytes": "Bytes that the last collection gave back to the storage.",
    "regstore_drill_restored_bytes": "Bytes of data that the last drill restored.",
    "regstore_drill_restore_seconds": "How long the last drill restored data.",
    "regstore_drill_first_pull_seconds": "When the first image of the last drill had been pulled, since it began.",
    "regstore_drill_recovery_seconds": "When all images of the last drill had been pulled, since it began.",
    "regstore_drill_full_restore_seconds": "How long the data of the whole snapshot would take at that rate.",
}
_OF_TOTALS = {
    "regstore_stored_bytes": "stored_bytes",
    "regstore_allocated_bytes": "allocated_bytes",
    "regstore_logical_bytes": "logical_bytes",
    "regstore_live_bytes": "live_bytes",
    "regstore_grace_bytes": "grace_bytes",
    "regstore_reclaimable_bytes": "unreferenced_bytes",
    "regstore_quarantined_bytes": "quarantined_bytes",
    "regstore_upload_bytes": "upload_bytes",
    "regstore_blobs": "blob_count",
    "regstore_repositories": "repository_count",
    "regstore_tags": "tag_count",
    "regstore_revisions": "revision_count",
    "regstore_links": "link_count",
    "regstore_inodes": "inode_count",
    "registry_storage_size_bytes": "stored_bytes",
}
METRICS_OF_JOBS = frozenset(name for name in METRICS if name.startswith(("regstore_job_", "regstore_gc_")))
"""What `job_samples` exports beside findings."""

Sample = tuple[str, dict[str, str], float | int]
"""Name, labels, value."""


def render_exposition(samples: Iterable[Sample]) -> str:
    """Return the text of samples, those of one metric together."""
    by_name: dict[str, list[str]] = {}
    for sample in samples:
        by_name.setdefault(sample[0], describe(sample[0])).append(sample_line(sample))
    return "".join(f"{line}\n" for lines in by_name.values() for line in lines)


def describe(name: str) -> list[str]:
    """Return the lines that come before the samples of a metric."""
    return [f"# HELP {name} {METRICS[name]}", f"# TYPE {name} gauge"]


def sample_line(sample: Sample) -> str:
    """Return the line of a sample."""
    name, labels, value = sample
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metric_names() -> list[str]:
    """Return every name that regstore exports."""
    return list(METRICS)


def capacity_samples(
    capacity: Capacity, forecast: Forecast, findings: Sequence[Finding], at: float, top: int = 0
) -> list[Sample]:
    """Return the samples of a capacity report.

    Args:
        capacity, forecast, findings: of the report.
        at: when it was made, in seconds since the epoch.
        top: so many of the largest repositories get samples of their own.
    """
    label = {"registry": capacity.location}
    samples: list[Sample] = [("regstore_build_info", {"version": __version__}, 1)]
    room = capacity.room
    numbers: dict[str, float | int | None] = {name: capacity.totals[key] for name, key in _OF_TOTALS.items()}
    numbers |= {
        "regstore_stale_uploads": capacity.stale_upload_count,
        "regstore_volume_bytes": room.total_bytes,
        "regstore_volume_free_bytes": room.free_bytes,
        "regstore_volume_inodes": room.total_inodes,
        "regstore_volume_free_inodes": room.free_inodes,
        "regstore_growth_bytes_per_day": forecast.growth_bytes_per_day,
        "regstore_forecast_full_timestamp_seconds": forecast.full_at,
        "regstore_report_timestamp_seconds": round(at, 3),
    }
    samples += [(name, label, value) for name, value in numbers.items() if value is not None]
    samples += finding_samples(capacity.location, findings)
    largest = sorted(capacity.repositories, key=lambda row: -row.stored_bytes)[:top]
    for row in largest:
        labels = {**label, "repository": row.name}
        samples.append(("regstore_repository_stored_bytes", labels, row.stored_bytes))
        samples.append(("regstore_repository_reclaimable_bytes", labels, row.reclaimable_bytes))
    return samples


def dedup_samples(location: str, level: str, totals: Mapping[str, int]) -> list[Sample]:
    """Return the samples of a deduplication report of some level from its totals."""
    labels = {"registry": location, "level": level}
    stored = totals["stored_bytes"] if level == "blob" else totals["unique_bytes"]
    saved = totals["saved_bytes"] if level == "blob" else totals["duplicate_bytes"]
    return [
        ("regstore_dedup_layers", labels, totals["layer_count"]),
        ("regstore_dedup_stored_bytes", labels, stored),
        ("regstore_dedup_logical_bytes", labels, stored + saved),
        ("regstore_dedup_saved_bytes", labels, saved),
    ]


def finding_samples(location: str, findings: Sequence[Finding]) -> list[Sample]:
    """Return the findings of a report, counted by id and severity."""
    counts = Counter((finding.id, finding.severity.word) for finding in findings)
    return [_finding_sample(location, "report", *key, count) for key, count in sorted(counts.items())]


def luks_samples(target: str, is_header_ok: bool | None, counts: Mapping[tuple[str, str], int]) -> list[Sample]:
    """Return the samples of a check of an encrypted volume.

    Args:
        target: the registry's directory or the device.
        is_header_ok: None when no header was read.
        counts: findings by id and severity.
    """
    samples: list[Sample] = []
    if is_header_ok is not None:
        samples.append(("regstore_luks_header_ok", {"registry": target}, int(is_header_ok)))
    return samples + [_finding_sample(target, "luks check", *key, count) for key, count in sorted(counts.items())]


def job_samples(location: str, notes: Mapping[str, JobNote]) -> list[Sample]:
    """Return when and how jobs ended, and what they found. Reports speak for themselves."""
    samples: list[Sample] = []
    for job, note in sorted(notes.items()):
        labels = {"registry": location, "job": job}
        samples.append(("regstore_job_last_run_timestamp_seconds", labels, note.last_run_at))
        if note.last_success_at is not None:
            samples.append(("regstore_job_last_success_timestamp_seconds", labels, note.last_success_at))
        samples.append(("regstore_job_duration_seconds", labels, note.duration_seconds))
        samples.append(("regstore_job_exit_code", labels, note.exit_code))
        samples += [(name, {"registry": location}, value) for name, value in note.numbers.items() if name in METRICS]
        for check, (severity, count) in sorted(note.findings.items()) if job != "report" else ():
            samples.append(_finding_sample(location, job, check, severity, count))
    return samples


def _finding_sample(location: str, job: str, check: str, severity: str, count: int) -> Sample:
    return "regstore_findings", {"registry": location, "job": job, "check": check, "severity": severity}, count

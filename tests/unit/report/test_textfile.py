"""Jobs in a text file are replaced, and the rest of it stays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from regstore.errors import UsageError
from regstore.jobs import JobNote
from regstore.report.exposition import job_samples, render_exposition
from regstore.report.textfile import merge_jobs, update_jobs

PLACE = "file:///srv"
OLD = {
    "gc": JobNote(100.0, 100.0, 1.0, 0, {"regstore_gc_freed_bytes": 5.0}, {"stray": ("info", 2)}),
    "fsck": JobNote(100.0, 100.0, 1.0, 0, {}, {"blob-missing": ("error", 1)}),
}
NEW = {"gc": JobNote(200.0, 100.0, 3.0, 4), "nightly": JobNote(190.0, None, 20.0, 4)}
VOLUME = [
    ("regstore_stored_bytes", {"registry": PLACE}, 7),
    ("regstore_findings", {"registry": PLACE, "job": "report", "check": "x", "severity": "info"}, 1),
    ("regstore_blobs", {"registry": PLACE}, 3),
]


def samples(text: str) -> set[str]:
    return {line for line in text.splitlines() if not line.startswith("#")}


def assert_well_formed(text: str) -> None:
    """Each metric has one HELP and one TYPE before its samples, and all its samples together."""
    seen: list[str] = []
    for line in text.splitlines():
        name = line.split()[2] if line.startswith("#") else line.partition("{")[0].split()[0]
        if line.startswith("# HELP"):
            assert name not in seen
            seen.append(name)
        assert seen[-1] == name


def rendered(notes: Iterable[dict[str, JobNote]]) -> str:
    return render_exposition([*VOLUME, *(sample for note in notes for sample in job_samples(PLACE, note))])


def test_jobs_are_replaced_and_the_volume_stays() -> None:
    merged = merge_jobs(rendered([OLD]), PLACE, NEW)
    assert samples(merged) == samples(rendered([NEW]))
    assert_well_formed(merged)
    assert merge_jobs(merged, PLACE, NEW) == merged


def test_findings_of_jobs_join_those_of_the_report() -> None:
    merged = merge_jobs(rendered([NEW]), PLACE, OLD)
    assert samples(merged) == samples(rendered([OLD]))
    assert_well_formed(merged)


def test_no_heading_is_left_alone() -> None:
    text = render_exposition(job_samples(PLACE, OLD))
    merged = merge_jobs(text, PLACE, NEW)
    assert "regstore_findings" not in merged
    assert_well_formed(merged)


def test_what_is_not_regstores_stays() -> None:
    foreign = '# a comment\nother_metric{job="gc"} 1\n'
    merged = merge_jobs(foreign, PLACE, {})
    assert merged == foreign


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "registry.prom"
    update_jobs(str(path), PLACE, NEW)
    assert samples(path.read_text()) == samples(render_exposition(job_samples(PLACE, NEW)))
    assert [child.name for child in tmp_path.iterdir()] == ["registry.prom"]


def test_a_pipe_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    update_jobs(str(tmp_path / "pipe"), PLACE, NEW)
    update_jobs("/dev/null", PLACE, NEW)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none"):
        update_jobs(str(tmp_path / "none" / "x.prom"), PLACE, NEW)

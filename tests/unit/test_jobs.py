"""Notes of jobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regstore.jobs import JobNote, note_job, read_jobs

PLACE = "file:///srv/registry"


def test_nothing_is_known_before_the_first_run(tmp_path: Path) -> None:
    assert read_jobs(PLACE, tmp_path / "state") == {}
    assert not (tmp_path / "state").exists()


def test_the_last_run_of_each_job_is_known(tmp_path: Path) -> None:
    note_job(PLACE, "gc", 100.0, 5.0, 0, {"blobs": 3}, {"stray": ("info", 2)}, tmp_path)
    note_job(PLACE, "fsck", 200.0, 7.0, 1, {}, {"blob-corrupt": ("critical", 1)}, tmp_path)

    assert read_jobs(PLACE, tmp_path) == {
        "gc": JobNote(100.0, 100.0, 5.0, 0, {"blobs": 3}, {"stray": ("info", 2)}),
        "fsck": JobNote(200.0, 200.0, 7.0, 1, {}, {"blob-corrupt": ("critical", 1)}),
    }
    assert read_jobs("s3://other", tmp_path) == {}


@pytest.mark.parametrize("code", [2, 3, 4, 5, 130])
def test_a_failed_run_keeps_the_last_success(tmp_path: Path, code: int) -> None:
    note_job(PLACE, "gc", 50.0, 1.0, code, {}, {}, tmp_path)
    assert read_jobs(PLACE, tmp_path)["gc"].last_success_at is None
    note_job(PLACE, "gc", 100.0, 1.0, 0, {}, {}, tmp_path)

    note_job(PLACE, "gc", 200.0, 1.0, code, {}, {}, tmp_path)

    note = read_jobs(PLACE, tmp_path)["gc"]
    assert (note.last_run_at, note.last_success_at, note.exit_code) == (200.0, 100.0, code)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gc": 1}', '{"gc": {"findings": {"a": []}}}'])
def test_damaged_notes_are_begun_anew(tmp_path: Path, content: str) -> None:
    note_job(PLACE, "gc", 100.0, 1.0, 0, {}, {}, tmp_path)
    (path,) = tmp_path.glob("*.jobs.json")
    path.write_text(content)

    assert read_jobs(PLACE, tmp_path) == {}
    note_job(PLACE, "fsck", 200.0, 1.0, 0, {}, {}, tmp_path)
    assert set(read_jobs(PLACE, tmp_path)) == {"fsck"}


def test_jobs_that_end_together_are_all_noted(tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: note_job(PLACE, name, 1.0, 1.0, 0, {}, {}, tmp_path), names))

    assert set(read_jobs(PLACE, tmp_path)) == set(names)


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    note_job(PLACE, "gc", 1.0, 1.0, 0, {}, {}, tmp_path / "file" / "state")

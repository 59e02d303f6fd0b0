"""When each job last ran on a registry, and how it ended: small notes beside the state, for status and metrics.

A collection with nothing to do leaves nothing on the volume: its journal cannot tell whether cron still runs it.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regstore.errors import UsageError
from regstore.outfile import write_lines
from regstore.state import state_directory, state_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DONE = (0, 1)
"""Exit codes of a job that came to its end, with or without findings."""


@dataclass(frozen=True, slots=True)
class JobNote:
    """The last run of one job. Times are seconds since the epoch.

    Attributes:
        last_run_at: when it began.
        last_success_at: when the last one began that came to its end; None when none ever did.
        duration_seconds: how long it took.
        exit_code: how it ended.
        numbers: what it counted, by names of its own.
        findings: severity and count by the id of findings.
    """

    last_run_at: float
    last_success_at: float | None
    duration_seconds: float
    exit_code: int
    numbers: dict[str, float] = field(default_factory=dict)
    findings: dict[str, tuple[str, int]] = field(default_factory=dict)


def read_jobs(location: str, directory: Path | None = None) -> dict[str, JobNote]:
    """Return the last run of each job on a registry, by the job's name. What cannot be read is unknown."""
    notes: dict[str, JobNote] = {}
    with suppress(OSError, ValueError):
        content = json.loads(_path_of(location, directory).read_bytes())
        for job, values in content.items() if isinstance(content, dict) else ():
            with suppress(TypeError, ValueError, LookupError):
                values["findings"] = {name: (row[0], row[1]) for name, row in values["findings"].items()}
                notes[job] = JobNote(**values)
    return notes


def newest_jobs(*locations: str) -> dict[str, JobNote]:
    """Return the last run of each job that was noted at one of the locations; empty ones are passed over."""
    newest: dict[str, JobNote] = {}
    for location in filter(None, locations):
        for job, note in read_jobs(location).items():
            if job not in newest or newest[job].last_run_at <= note.last_run_at:
                newest[job] = note
    return newest


def note_job(
    location: str,
    job: str,
    started_at: float,
    duration_seconds: float,
    exit_code: int,
    numbers: Mapping[str, float],
    findings: Mapping[str, tuple[str, int]],
    directory: Path | None = None,
) -> JobNote:
    """Note how a job ended, and return the note. Where nothing can be written nothing is noted."""
    path = _path_of(location, directory)
    success = started_at if exit_code in _DONE else None
    note = JobNote(started_at, success, duration_seconds, exit_code, dict(numbers), dict(findings))
    with suppress(OSError, UsageError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Jobs may end at the same moment.
        with open(path.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            notes = read_jobs(location, directory)
            if success is None and job in notes:
                note = replace(note, last_success_at=notes[job].last_success_at)
            notes[job] = note
            content: dict[str, Any] = {name: asdict(note) for name, note in notes.items()}
            write_lines(str(path), [json.dumps(content, indent=1), "\n"], "notes of jobs")
    return note


def _path_of(location: str, directory: Path | None) -> Path:
    return (directory or state_directory()) / f"{state_name(location)}.jobs.json"

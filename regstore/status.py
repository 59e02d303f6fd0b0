"""How a registry and its backups are, from what former jobs noted: nothing of the registry's data is read."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regstore.jobs import JobNote, read_jobs
from regstore.report.forecast import Forecast, forecast_full
from regstore.report.history import History
from regstore.state import open_state
from regstore.wording import iso_time
from regstore_drivers.base import HasCapacity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regstore.registry import Registry

_DAY = 86400.0
_FRESH_DAYS = 30
_SHARDS = 256
_DONE = (0, 1)
_BAD = ("error", "critical")


@dataclass(frozen=True, slots=True)
class Status:
    """One registry.

    Attributes:
        location: of the registry.
        jobs: the last run of each job, by its name.
        of_store: the same of its store of backups.
        free_bytes, total_bytes: of its volume; None where nobody knows.
        forecast: of the stored bytes.
        verified_count: blobs that were hashed within the last 30 days.
        blob_count: of the last report; None before the first.
        backup_age_seconds: of the last backup that came to its end; None without one.
        problems: objectives that are missed, jobs that failed, and damage.
    """

    location: str
    jobs: Mapping[str, JobNote]
    of_store: Mapping[str, JobNote]
    free_bytes: int | None
    total_bytes: int | None
    forecast: Forecast
    verified_count: int
    blob_count: int | None
    backup_age_seconds: float | None
    problems: Sequence[str] = field(default_factory=list)

    @property
    def verified_fraction(self) -> float | None:
        """The share of blobs that were verified, at most 1; None before the first report."""
        if not self.blob_count:
            return None
        return min(self.verified_count / self.blob_count, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "location": self.location,
            "jobs": _jobs_to_json(self.jobs),
            "store_jobs": _jobs_to_json(self.of_store),
            "free_bytes": self.free_bytes,
            "total_bytes": self.total_bytes,
            "forecast": self.forecast.to_json(),
            "verified_count": self.verified_count,
            "blob_count": self.blob_count,
            "verified_fraction": self.verified_fraction,
            "backup_age_seconds": self.backup_age_seconds,
            "problems": list(self.problems),
        }


def read_status(registry: Registry, store: str, rpo_seconds: float | None, now: float) -> Status:
    """Read how a registry is.

    Args:
        registry: opened, for its location and the room of its volume.
        store: the location of its store of backups, or empty.
        rpo_seconds: the age that the last backup may have; None without an objective.
        now: seconds since the epoch.

    Raises:
        StorageFailedError: the history of reports is damaged.
        DriverError: the storage does not answer.
    """
    jobs = read_jobs(registry.location)
    of_store = read_jobs(store) if store else {}
    total, free = None, None
    if isinstance(registry.driver, HasCapacity):
        room = registry.driver.capacity()
        total, free = room.total_bytes, room.free_bytes
    entries = History(registry.location).entries()
    points = [(entry.at, entry.totals.get("stored_bytes") or 0) for entry in entries]
    backup = jobs.get("backup")
    age = now - backup.last_success_at if backup and backup.last_success_at is not None else None
    return Status(
        registry.location,
        jobs,
        of_store,
        free,
        total,
        forecast_full(points, free),
        _count_verified(registry.location, now - _FRESH_DAYS * _DAY),
        entries[-1].totals.get("blob_count") if entries else None,
        age,
        [*_missed_objective(age, rpo_seconds), *_job_problems({**jobs, **of_store})],
    )


def _missed_objective(age: float | None, rpo_seconds: float | None) -> list[str]:
    if rpo_seconds is None:
        return []
    if age is None:
        return ["there is no backup yet"]
    return ["the last backup is older than its objective"] if age > rpo_seconds else []


def _job_problems(jobs: Mapping[str, JobNote]) -> list[str]:
    problems = []
    for name, note in sorted(jobs.items()):
        if note.exit_code not in _DONE:
            problems.append(f"the last run of {name} ended with {note.exit_code}")
        bad = sorted(check for check, (severity, _) in note.findings.items() if severity in _BAD)
        if bad:
            problems.append(f"{name} found {', '.join(bad)}")
    return problems


def _count_verified(location: str, since: float) -> int:
    with closing(open_state(location)) as state:
        times = (state.verified_times(shard) for shard in range(_SHARDS))
        return sum(at >= since for shard in times for at in shard.values())


def _jobs_to_json(jobs: Mapping[str, JobNote]) -> dict[str, Any]:
    return {
        name: {
            "last_run_at": iso_time(note.last_run_at),
            "last_success_at": iso_time(note.last_success_at),
            "duration_seconds": note.duration_seconds,
            "exit_code": note.exit_code,
            "numbers": note.numbers,
            "findings": {check: {"severity": s, "count": count} for check, (s, count) in sorted(note.findings.items())},
        }
        for name, note in sorted(jobs.items())
    }


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer of systemd and when it goes off next, in seconds since the epoch; None when it does not."""

    unit: str
    next_at: float | None


def read_timers() -> list[Timer]:
    """Return regstore's timers on this host; none where there is no systemd."""
    if shutil.which("systemctl") is None:
        return []
    try:
        done = subprocess.run(
            ["systemctl", "list-timers", "--all", "--output=json", "regstore*"],
            capture_output=True, check=False, timeout=10,
        )  # fmt: skip
        entries = json.loads(done.stdout)
        return [Timer(str(entry["unit"]), entry["next"] / 1e6 if entry.get("next") else None) for entry in entries]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return []

"""Deleting what was quarantined long enough ago, after putting back what is needed again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.gc.actions import Kind, Verb
from regstore.gc.catalogue import finding
from regstore.gc.guards import check_markers
from regstore.gc.journal import Journal
from regstore.gc.options import Options
from regstore.gc.plan import Planner
from regstore.gc.quarantine import put_back
from regstore.ledger import REPAIRS, iter_runs
from regstore.lock import hold_lock
from regstore.state import open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasDirectories, HasVersions

if TYPE_CHECKING:
    from regstore.findings import Finding
    from regstore.ledger import Run
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.state import State
    from regstore.work import Progress
    from regstore_drivers.base import Driver

_BATCH_COUNT = 1000


@dataclass(slots=True)
class PurgeResult:
    """What a purge did: the runs it purged, items and bytes deleted, items put back, items that failed, and whose lock
    was taken over, if a run died."""

    run_ids: list[str] = field(default_factory=list)
    deleted_count: int = 0
    freed_bytes: int = 0
    restored_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    dead_holder: Holder | None = None


def purge(
    registry: Registry,
    retention: float,
    *,
    state: State | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> PurgeResult:
    """Delete what collections and repairs at least `retention` seconds ago quarantined: `gc purge`.

    Raises:
        As `regstore.gc.collect`.
    """
    check_markers(registry)
    with hold_lock(registry.driver, "gc purge") as (now, dead):
        own_state = state is None
        state = state or open_state(registry.location)
        try:
            result = purge_runs(registry, state, retention, now, progress=progress, cancel=cancel)
            _purge_repairs(registry, retention, now, result, progress or NoProgress(), cancel or Cancel())
        finally:
            if own_state:
                state.close()
    result.dead_holder = dead
    return result


def purge_runs(
    registry: Registry,
    state: State,
    retention: float,
    now: float,
    *,
    also: str = "",
    spare: str = "",
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> PurgeResult:
    """Purge under a lock that the caller holds; the run `also` goes whatever its age, the run `spare` does not."""
    result = PurgeResult()
    cancel, progress = cancel or Cancel(), progress or NoProgress()
    journal = Journal(registry.driver)
    due = [
        run
        for run in journal.runs
        if run.is_purged or run.id == also or (run.id != spare and _age(run, now) >= retention)
    ]
    if not due:
        return result
    if any(not run.is_purged and not run.is_undone for run in due):
        _put_back_needed(registry, state, journal, now, cancel, result)
    journal.keep_condemned(registry.driver, due, now)
    is_versioned = isinstance(registry.driver, HasVersions) and registry.driver.is_versioned()
    for run in due:
        cancel.check()
        freed = result.freed_bytes
        _delete_run(registry.driver, run, result, progress, cancel)
        if is_versioned:
            result.freed_bytes = freed
        result.run_ids.append(run.id)
    return result


def _purge_repairs(
    registry: Registry, retention: float, now: float, result: PurgeResult, progress: Progress, cancel: Cancel
) -> None:
    """Only when asked for, never at the end of a collection: bad data may be all that is left of a blob."""
    for run in list(iter_runs(registry.driver, REPAIRS)):
        cancel.check()
        if run.is_purged or _age(run, now) >= retention:
            _delete_run(registry.driver, run, result, progress, cancel)
            result.run_ids.append(run.id)


def _age(run: Run, now: float) -> float:
    ended = (run.finished or {}).get("finished_at", run.started_at)
    return now - float(ended)


def _put_back_needed(
    registry: Registry, state: State, journal: Journal, now: float, cancel: Cancel, result: PurgeResult
) -> None:
    plan = Planner(registry, Options(offline=True), state, journal, now, cancel).plan(NoProgress())
    for action in sorted(plan.actions, key=lambda action: action.kind is not Kind.BLOB):
        source = journal.quarantined.get(action.key) if action.verb is Verb.RESTORE else None
        if source and put_back(registry.driver, source, action.key, action.digest, action.kind):
            result.restored_count += 1
            result.findings.append(finding("restored", action.key, action.reason))


def _delete_run(driver: Driver, run: Run, result: PurgeResult, progress: Progress, cancel: Cancel) -> None:
    """Delete a run: first the mark that it is being purged, then the quarantine, the ledger, and the mark last."""
    mark = f"{run.prefix}purged.json"
    if not run.is_purged:
        data = json.dumps({"id": run.id}).encode()
        driver.write(mark, data, len(data))
    progress.start(f"purging {run.id}")
    failed = False
    sizes: dict[str, int] = {}
    for entry in driver.list(run.quarantine):
        sizes[entry.key] = entry.size
        if len(sizes) >= _BATCH_COUNT:
            failed |= _delete_batch(driver, sizes, result, progress)
            sizes = {}
            cancel.check()
    failed |= _delete_batch(driver, sizes, result, progress)
    progress.finish()
    if failed:
        return
    others = [entry.key for entry in driver.list(run.prefix) if entry.key not in (mark, f"{run.prefix}run.json")]
    for keys in (others, [f"{run.prefix}run.json"], [mark]):
        list(driver.delete(keys))
    if isinstance(driver, HasDirectories):
        _remove_directories(driver, run.prefix)


def _delete_batch(driver: Driver, sizes: dict[str, int], result: PurgeResult, progress: Progress) -> bool:
    failed = False
    for deleted in driver.delete(list(sizes)):
        if deleted.outcome == "failed":
            failed = True
            result.findings.append(finding("removal-failed", deleted.key, deleted.reason))
        elif deleted.outcome == "gone":
            result.deleted_count += 1
            result.freed_bytes += sizes[deleted.key]
        progress.advance()
    return failed


def _remove_directories(driver: Driver, prefix: str) -> None:
    for name in list(driver.list_dir(prefix)):
        if name.endswith("/"):
            _remove_directories(driver, f"{prefix}{name}")
    if isinstance(driver, HasDirectories):
        driver.remove_empty_directory(prefix)

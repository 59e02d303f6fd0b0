"""Taking a run back: everything that it moved returns to its place, blobs first, tags last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.errors import UsageError
from regstore.gc.actions import Kind, Verb
from regstore.gc.catalogue import finding
from regstore.gc.guards import check_markers
from regstore.gc.journal import Journal
from regstore.gc.quarantine import put_back
from regstore.ledger import mark_undone
from regstore.lock import hold_lock
from regstore.state import open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.errors import PermissionDenied

if TYPE_CHECKING:
    from regstore.findings import Finding
    from regstore.ledger import Run
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.state import State
    from regstore.work import Progress

_ORDER = [
    Kind.BLOB,
    Kind.LAYER_LINK,
    Kind.REVISION_LINK,
    Kind.TAG_INDEX,
    Kind.TAG_LINK,
    Kind.UPLOAD,
    Kind.LEFTOVER,
    Kind.MULTIPART,
    Kind.REPOSITORY,
]


@dataclass(slots=True)
class UndoResult:
    """What an undo did.

    Attributes:
        run_id: the run taken back; empty when there was none.
        restored_count, restored_bytes: objects put back.
        kept_count: objects that were in their place already.
        lost_count: aborted multipart uploads, which cannot come back.
        findings: objects that could not be put back.
        dead_holder: whose lock was taken over, if a run died.
    """

    run_id: str = ""
    restored_count: int = 0
    restored_bytes: int = 0
    kept_count: int = 0
    lost_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    dead_holder: Holder | None = None


def undo(
    registry: Registry,
    run_id: str = "",
    *,
    state: State | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> UndoResult:
    """Take back a run, by default the newest that removed or condemned and is not undone yet: `gc undo`.

    It works beside a live registry.

    Args:
        registry: where.
        run_id: which run.
        state: what is remembered between runs; by default that of the registry's location.
        progress, cancel: told and asked between items.

    Raises:
        UsageError: there is no such run, or it was purged.
        LockedError, DriverError: see `regstore.gc.collect`.
    """
    check_markers(registry)
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    with hold_lock(registry.driver, "gc undo") as (_, dead):
        journal = Journal(registry.driver)
        run = _choose(journal, run_id)
        if run is None:
            return UndoResult(dead_holder=dead)
        result = UndoResult(run.id, dead_holder=dead)
        entries = list(journal.iter_entries(run))
        result.lost_count = sum(entry.kind is Kind.MULTIPART for entry in entries)
        moved = [entry for entry in entries if entry.to and entry.verb is Verb.REMOVE]
        moved.sort(key=lambda entry: _ORDER.index(entry.kind))
        progress.start(f"undoing {run.id}", len(moved))
        for entry in moved:
            cancel.check()
            try:
                done = put_back(registry.driver, entry.to, entry.key, entry.digest, entry.kind)
            except PermissionDenied as error:
                result.findings.append(finding("removal-failed", entry.key, str(error)))
                continue
            finally:
                progress.advance()
            if done:
                result.restored_count += 1
                result.restored_bytes += entry.size if entry.kind is not Kind.UPLOAD else 0
            else:
                result.kept_count += 1
        progress.finish()
        _forget(registry, state, {entry.repository for entry in moved if entry.repository})
        if not result.findings:
            mark_undone(registry.driver, run)
    return result


def _forget(registry: Registry, state: State | None, repositories: set[str]) -> None:
    """Forget what was remembered of repositories that were changed: the next survey reads all their links."""
    own_state = state is None
    state = state or open_state(registry.location)
    try:
        for repository in repositories:
            state.forget_repository(repository)
        state.commit()
    finally:
        if own_state:
            state.close()


def _has_something_to_undo(journal: Journal, run: Run) -> bool:
    """A run that only put back or spared what was needed again has nothing that could be taken back."""
    return any(entry.verb in (Verb.REMOVE, Verb.CONDEMN) for entry in journal.iter_entries(run))


def _choose(journal: Journal, run_id: str) -> Run | None:
    if not run_id:
        runs = (run for run in reversed(journal.runs) if not run.is_undone and not run.is_purged)
        return next((run for run in runs if _has_something_to_undo(journal, run)), None)
    for run in journal.runs:
        if run.id == run_id:
            if run.is_purged:
                raise UsageError(f"the run {run_id} was purged: what it removed is deleted")
            return None if run.is_undone else run
    known = ", ".join(run.id for run in journal.runs[-5:]) or "none"
    raise UsageError(f"there is no run {run_id}", hint=f"the newest runs are: {known}")

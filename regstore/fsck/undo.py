"""Taking a repair back: the links that it wrote are set aside, and what lay there before returns.

Fetched data stay: they are right, and a client that saw them since may have left out an upload. So do links that a
registry wrote anew since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.fsck.catalogue import CheckFinding, finding
from regstore.fsck.journal import Entry, iter_repairs, read_entries
from regstore.fsck.plan import Verb
from regstore.layout import LayerLink, RevisionLink, TagIndexLink, TagLink, parse_key
from regstore.ledger import mark_undone
from regstore.lock import hold_lock
from regstore.state import open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.errors import AlreadyExists, NotFound, PermissionDenied

if TYPE_CHECKING:
    from regstore.ledger import Run
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.work import Progress


_OWN_WRITE_SECONDS = 10.0
"""A link whose time is later than that after its ledger line was written by somebody else."""


@dataclass(slots=True)
class UndoResult:
    """What an undo did.

    Attributes:
        run_id: the repair taken back; empty when there was none.
        restored_count: objects that returned to their place.
        withdrawn_count: links that the repair had written and that were set aside, in `undone/` of the run.
        kept_count: objects that were left as they are: right data, and links that somebody wrote since.
        findings: objects that could not be put back.
        dead_holder: whose lock was taken over, if a run died.
    """

    run_id: str = ""
    restored_count: int = 0
    withdrawn_count: int = 0
    kept_count: int = 0
    findings: list[CheckFinding] = field(default_factory=list)
    dead_holder: Holder | None = None


def undo_repair(registry: Registry, *, progress: Progress | None = None, cancel: Cancel | None = None) -> UndoResult:
    """Take back the newest repair that is not taken back yet: `fsck undo`.

    Raises:
        LockedError: another run holds the lock; nothing was changed.
        DriverError, StorageFailedError: the storage failed; run it again to go on.
        InterruptedRunError: stopped on request; run it again to go on.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    with hold_lock(registry.driver, "fsck undo") as (_, dead):
        runs = [run for run in iter_repairs(registry.driver) if not run.is_undone and not run.is_purged]
        if not runs:
            return UndoResult(dead_holder=dead)
        result = UndoResult(runs[-1].id, dead_holder=dead)
        entries = read_entries(registry.driver, runs[-1])
        progress.start(f"undoing {runs[-1].id}", len(entries))
        # Backwards: what came last is what others may lean on.
        for entry in reversed(entries):
            cancel.check()
            try:
                _take_back(registry, runs[-1], entry, result)
            except PermissionDenied as error:
                result.findings.append(finding("storage-error", entry.key, str(error)))
            progress.advance()
        progress.finish()
        _forget(registry, entries)
        if not result.findings:
            mark_undone(registry.driver, runs[-1])
    return result


def _take_back(registry: Registry, run: Run, entry: Entry, result: UndoResult) -> None:
    driver = registry.driver
    if entry.verb is Verb.WRITE and not _withdraw(registry, run, entry, result):
        return
    if not entry.to:
        return
    try:
        driver.move(entry.to, entry.key)
    except NotFound:
        return  # it had never been moved, or is back already
    except AlreadyExists:
        result.kept_count += 1
    else:
        result.restored_count += 1


def _withdraw(registry: Registry, run: Run, entry: Entry, result: UndoResult) -> bool:
    """Set aside what the repair put in place; say whether the place is free for what lay there before."""
    driver = registry.driver
    try:
        held, written_at = driver.read(entry.key), driver.stat(entry.key).newest
    except NotFound:
        return True
    if held != entry.content or written_at - entry.at > _OWN_WRITE_SECONDS:
        result.kept_count += 1
        return False
    try:
        driver.move(entry.key, f"{run.prefix}undone/{entry.key}")
    except NotFound:
        return True
    except AlreadyExists:
        result.kept_count += 1
        return False
    result.withdrawn_count += 1
    return True


def _forget(registry: Registry, entries: list[Entry]) -> None:
    specs = [parse_key(entry.key) for entry in entries]
    names = {spec.repository for spec in specs if isinstance(spec, LayerLink | RevisionLink | TagLink | TagIndexLink)}
    state = open_state(registry.location)
    try:
        for name in names:
            state.forget_repository(name)
        state.commit()
    finally:
        state.close()

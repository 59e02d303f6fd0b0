"""What the journal says: runs, the quarantine, what waits to be collected, and who holds the lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regstore.gc.actions import Kind, Verb
from regstore.gc.journal import Journal
from regstore.lock import Holder, current_holder

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore.registry import Registry


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run. `state` is `quarantined`, `undone`, `purging`, or `killed` (it never ended; it can be undone)."""

    id: str
    started_at: float
    state: str
    item_count: int
    blob_count: int
    blob_bytes: int
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of collections on one registry. Times are seconds since the epoch, bytes those of blobs."""

    location: str
    runs: list[RunStatus]
    quarantined_bytes: int
    condemned_count: int
    oldest_condemned_at: float | None
    holder: Holder | None


def read_status(registry: Registry) -> Status:
    """Read the journal. Takes no lock and writes nothing."""
    journal = Journal(registry.driver)
    runs = []
    collected: set[Digest | None] = set()
    for run in journal.runs:
        entries = list(journal.iter_entries(run))
        removed = [entry for entry in entries if entry.verb is Verb.REMOVE]
        blobs = [entry for entry in removed if entry.kind is Kind.BLOB]
        if run.is_purged:
            state = "purging"
        elif run.is_undone:
            state = "undone"
        else:
            state = "quarantined" if run.finished else "killed"
            collected.update(entry.digest for entry in blobs)
        size = sum(entry.size for entry in blobs)
        runs.append(RunStatus(run.id, run.started_at, state, len(removed), len(blobs), size, run.options))
    waiting = {digest: at for digest, at in journal.condemned.items() if digest not in collected}
    return Status(
        registry.location,
        runs,
        sum(run.blob_bytes for run in runs if run.state in ("quarantined", "killed")),
        len(waiting),
        min(waiting.values(), default=None),
        current_holder(registry.driver),
    )

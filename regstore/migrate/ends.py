"""The two ends of a migration: which are refused, and what is at the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.errors import RefusedError
from regstore.migrate.plan import BLOBS_ONLY, EMPTY, FORMER_RUN
from regstore.migrate.record import Record, check_direction, read_marker, read_note
from regstore.migrate.target import has_any
from regstore.registry.ends import check_apart, place_of

if TYPE_CHECKING:
    from regstore.registry import Registry
    from regstore_drivers.base import ReadDriver

_DATABASE_IN_USE = f"{layout.LOCKFILES}database-in-use"


class Ends(NamedTuple):
    """What is at the target.

    Attributes:
        kind: `empty`, `blobs-only` or `former-run`; see `MigrationPlan.kind`.
        record: that of the runs before, if there is any that counts.
    """

    kind: str
    record: Record | None


def check_ends(source: Registry, target: Registry) -> Ends:
    """Look at both ends, and change nothing.

    Raises:
        RefusedError: they are the same, nested or swapped; or the target holds another registry.
        DriverError: one cannot be read.
    """
    check_apart(source.driver, target.driver, "the source and the target")
    check_direction(source.driver, target.driver)
    record = _record_of(source.driver, target.driver)
    if has_any(target, layout.REPOSITORIES):
        if record is None:
            raise RefusedError(
                f"there is a registry at {target.location} already, and no migration from {source.location} made it",
                hint="name an empty directory or prefix; to bring images into a registry that is in use, back up the "
                "one and restore with --merge into the other",
                code="target-not-empty",
            )
        return Ends(FORMER_RUN, record)
    if has_any(target, layout.BLOBS):
        # Those of a run that was not ended are in its journal.
        return Ends(BLOBS_ONLY, None if record and record.is_complete else record)
    return Ends(EMPTY, None)


def keeps_names_in_database(source: Registry) -> bool:
    """Tell whether GitLab's registry marked the volume."""
    return source.has(_DATABASE_IN_USE)


def _record_of(source: ReadDriver, target: ReadDriver) -> Record | None:
    """Return what is noted of migrations between the two: at the target, else on this host."""
    marker = read_marker(target)
    if marker is not None:
        return marker if marker.source == place_of(source) else None  # wherever its disk was mounted then
    note = read_note(target)
    if note and (note.source, note.target) == (place_of(source), place_of(target)):
        # The note at the target is gone, and perhaps more with it: nothing that was verified counts any longer.
        return Record("", note.source, note.target)
    return None

"""What is noted of a migration: at the target, so that any host knows it, and in the state directory.

The note at the target says whose copy it is. The one in the state directory outlives a target that was emptied, and
lets a run the other way round be refused where the note at the target is gone.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from regstore.errors import RefusedError
from regstore.layout import HOME
from regstore.registry.ends import place_of
from regstore.state import state_directory, state_name
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import remove_temporary_files
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from regstore_drivers.base import Driver, ReadDriver

MARKER = f"{HOME}migration.json"
_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One migration.

    Attributes:
        id: another one for each target that was begun anew.
        source, target: where, without credentials, in a form that is the same however it was written.
        is_complete: whether a run has ended: what lies at the target was hashed.
        is_open: whether a run has begun to write since, and did not end.
    """

    id: str
    source: str
    target: str
    is_complete: bool = False
    is_open: bool = True

    @classmethod
    def parse(cls, data: bytes) -> Record | None:
        """Read a note; None when it cannot be understood."""
        try:
            content = json.loads(data)
            return cls(**{name: content[name] for name in cls.__slots__})
        except (ValueError, LookupError, TypeError):
            return None

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


def new_record(source: ReadDriver, target: ReadDriver) -> Record:
    """Return the record of a migration that begins."""
    return Record(secrets.token_hex(8), place_of(source), place_of(target))


def read_marker(driver: ReadDriver) -> Record | None:
    """Return what a migration into a registry has noted there; None when nothing can be understood.

    Raises:
        DriverError: it cannot be read.
    """
    try:
        return Record.parse(driver.read(MARKER, limit=_LIMIT))
    except NotFound:
        return None


def read_note(driver: ReadDriver) -> Record | None:
    """Return what this host has noted of the last migration into a registry."""
    with suppress(OSError):
        return Record.parse(note_path(driver).read_bytes())
    return None


def note_path(driver: ReadDriver) -> Path:
    """Return the file in which this host notes the migration into a registry."""
    return state_directory() / f"{state_name(place_of(driver))}.migration.json"


def write_record(driver: Driver, record: Record) -> None:
    """Note a migration at its target, whose lock is held, and on this host if that can be written.

    Raises:
        DriverError: the target cannot be written.
    """
    data = record.encode()
    if isinstance(driver, HasLocalPath):
        remove_temporary_files(driver.local_path(HOME))
    driver.write(MARKER, data, len(data))
    path = note_path(driver)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)


def check_direction(source: ReadDriver, target: ReadDriver) -> None:
    """Refuse a migration back to where its source came from.

    Raises:
        RefusedError: it is one.
        DriverError: the source cannot be read.
    """
    for found in (read_marker(source), read_note(source)):
        if found and found.source == place_of(target):
            raise RefusedError(
                f"{source.location} is the target of a migration from {target.location}: the two are swapped",
                hint="name the old registry first and the new one second; if the way back is meant, first remove "
                f"{MARKER} at {source.location}, and {note_path(source)} if it is there",
                code="swapped",
            )


def check_not_same(source: ReadDriver, target: Driver, record: Record) -> None:
    """Refuse two names of one place, once the record is written: no comparison of names finds them all.

    Raises:
        RefusedError: what was written at the target is read at the source.
        DriverError: one of them cannot be reached.
    """
    found = read_marker(source)
    if found is None or found.id != record.id:
        return
    with suppress(DriverError):
        list(target.delete([MARKER]))
    with suppress(OSError):
        note_path(target).unlink(missing_ok=True)
    raise RefusedError(
        f"{source.location} and {target.location} are two names of one place", hint="name another target", code="same"
    )

"""What former reports found, kept beside the state: one entry a run, and what each repository stored at the last one.

This is no cache: it cannot be made again, so it lies in a file of its own, and a damaged one is an error that is told
and not begun anew.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from regstore.errors import StorageFailedError
from regstore.state import state_directory, state_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_VERSION = 1
_SCHEMA = """
CREATE TABLE runs (at REAL PRIMARY KEY, totals TEXT NOT NULL);
CREATE TABLE repositories (name TEXT PRIMARY KEY, stored_bytes INTEGER NOT NULL) WITHOUT ROWID;
"""


class Entry(NamedTuple):
    """The totals of one run, at `at` seconds since the epoch."""

    at: float
    totals: dict[str, int | None]


class History:
    """The former reports on one registry.

    Args:
        location: of the registry.
        directory: where it lies; by default where the state does.
    """

    def __init__(self, location: str, directory: Path | None = None) -> None:
        self.path = (directory or state_directory()) / f"{state_name(location)}.history.sqlite"

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first.

        Raises:
            StorageFailedError: the file is damaged, or of a later version.
        """
        if not self.path.exists():
            return []
        with self._open() as database:
            rows = database.execute("SELECT at, totals FROM runs ORDER BY at").fetchall()
            return [Entry(at, json.loads(totals)) for at, totals in rows]

    def last_stored(self) -> dict[str, int] | None:
        """Return what each repository stored at the last report, in bytes; None before the first.

        Raises:
            StorageFailedError: see `entries`.
        """
        if not self.path.exists():
            return None
        with self._open() as database:
            if database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None:
                return None
            return dict(database.execute("SELECT name, stored_bytes FROM repositories").fetchall())

    def add(self, entry: Entry, stored: Mapping[str, int]) -> None:
        """Add the entry of this run, durably.

        Raises:
            OSError: the directory cannot be written.
            StorageFailedError: see `entries`; or nothing can be written there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?)", (entry.at, json.dumps(entry.totals)))
            database.execute("DELETE FROM repositories")
            database.executemany("INSERT INTO repositories VALUES (?, ?)", stored.items())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
                elif version != _VERSION:
                    raise self._unusable(f"it is of version {version}, and this regstore knows {_VERSION}")
                yield database
        except (sqlite3.Error, ValueError) as error:
            raise self._unusable(str(error)) from error

    def _unusable(self, why: str) -> StorageFailedError:
        return StorageFailedError(
            f"the history of reports, {self.path}, cannot be used: {why}",
            hint="move the file away to begin a new history",
            code="history-unusable",
        )

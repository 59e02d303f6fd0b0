"""What is remembered between runs: a small SQLite database per registry, never on the registry's volume.

It holds the references of manifests, which are immutable, and the names of links that were read and found good. Losing it
costs time. Believing it can hide new damage from a collection, and never makes one remove more: whether a link exists is
looked at every time.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regstore import record as records
from regstore.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SCHEMA_VERSION = 1
_BATCH = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS manifest (digest BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS good_links (repository TEXT PRIMARY KEY, layers BLOB NOT NULL, revisions BLOB NOT NULL);
"""


class GoodLinks(NamedTuple):
    """The SHA-256 links of a repository that were read and held what their path says."""

    layers: frozenset[bytes]
    revisions: frozenset[bytes]


NO_GOOD_LINKS = GoodLinks(frozenset(), frozenset())


def state_directory() -> Path:
    """Return where state lies: `$XDG_STATE_HOME/regstore`, or `/var/lib/regstore` for root, or below the home."""
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "regstore"
    if os.geteuid() == 0:
        return Path("/var/lib/regstore")
    return Path.home() / ".local/state/regstore"


class State:
    """The remembered facts of one registry.

    Args:
        path: the database file, or None for one in memory that is forgotten at the end.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._db = _open_database(path)

    def known_manifests(self, digests: Sequence[bytes]) -> dict[Digest, records.Record]:
        """Return the records of those manifests that are known."""
        known: dict[Digest, records.Record] = {}
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            query = f"SELECT digest, record FROM manifest WHERE digest IN ({marks})"  # noqa: S608 - only marks
            for digest, data in self._db.execute(query, batch):
                known[Digest(digest)] = records.parse_record(data)
        return known

    def remember_manifests(self, found: Iterable[tuple[Digest, records.Record]]) -> None:
        """Remember the references of manifests whose bytes were hashed."""
        self._db.executemany(
            "INSERT OR REPLACE INTO manifest VALUES (?, ?)",
            ((digest, records.encode_record(record)) for digest, record in found),
        )

    def good_links(self, repository: str) -> GoodLinks:
        """Return the links of a repository that were good when they were read."""
        row = self._db.execute(
            "SELECT layers, revisions FROM good_links WHERE repository = ?", (repository,)
        ).fetchone()
        return GoodLinks(_unpack(row[0]), _unpack(row[1])) if row else NO_GOOD_LINKS

    def remember_good_links(self, repository: str, links: GoodLinks) -> None:
        """Replace what is remembered of a repository's links."""
        self._db.execute(
            "INSERT OR REPLACE INTO good_links VALUES (?, ?, ?)",
            (repository, b"".join(links.layers), b"".join(links.revisions)),
        )

    def forget_links(self) -> None:
        """Forget every link, so that the next scan reads them all."""
        self._db.execute("DELETE FROM good_links")

    def commit(self) -> None:
        """Make what was remembered durable."""
        self._db.commit()

    def close(self) -> None:
        """Close the database; what was not committed is forgotten."""
        self._db.close()


def open_state(location: str, directory: Path | None = None) -> State:
    """Open the state of the registry at a location; where none can be written, one in memory.

    A damaged database, or one of another version, is set aside and begun anew.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", location).strip("-")[-60:]
    directory = directory or state_directory()
    path = directory / f"{name}-{hashlib.sha256(location.encode()).hexdigest()[:12]}.sqlite"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return State(path)
    except (OSError, sqlite3.OperationalError):
        return State(None)
    except (sqlite3.DatabaseError, ValueError):
        path.replace(path.with_suffix(".damaged"))
        return State(path)


def _open_database(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        wanted = _SCHEMA_VERSION * 1000 + records.FORMAT
        if version not in (0, wanted):
            raise ValueError(f"state of another version: {version}")
        database.executescript(f"PRAGMA synchronous = NORMAL; PRAGMA user_version = {wanted}; {_SCHEMA}")
    except BaseException:
        database.close()
        raise
    return database


def _unpack(data: bytes) -> frozenset[bytes]:
    return frozenset(data[i : i + 32] for i in range(0, len(data), 32))

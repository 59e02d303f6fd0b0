"""What is remembered between runs: a small SQLite database per registry, never on the registry's volume.

It holds the references of manifests, which are immutable, the links that were read and found good, what a repository's
manifests reach together, when each blob was last found whole, and what layers decompress to. Losing it costs time.
Believing it can hide new damage from a collection, and never makes one remove more: which manifests a repository
links, and what its tags mean, is looked at every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regstore import record as records
from regstore.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SCHEMA_VERSION = 4
_WRITE_COUNT = 250
_SCHEMA = """
CREATE TABLE IF NOT EXISTS manifests (repository TEXT PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS repository (
    name TEXT PRIMARY KEY, layers BLOB NOT NULL, revisions BLOB NOT NULL, histories TEXT NOT NULL, marks BLOB
);
CREATE TABLE IF NOT EXISTS verified (shard INTEGER PRIMARY KEY, times BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS diff_ids (layer BLOB PRIMARY KEY, diff_id BLOB NOT NULL) WITHOUT ROWID;
"""


_LENGTHS = struct.Struct(">HI")

_VERIFIED = struct.Struct(">32sd")

MARK = struct.Struct(">32sq")
"""A digest and the size in bytes that manifests say (-1: nothing)."""


class Known(NamedTuple):
    """What is remembered of one repository. Only SHA-256 digests are.

    Attributes:
        layers, revisions: links that were read and held what their path says.
        histories: tag to the hexadecimal digits of what it meant, then of each entry of its index.
        marks: what the manifests `revisions` reach when all are kept, as `MARK` records;
            None where marking was not plain.
    """

    layers: frozenset[bytes] = frozenset()
    revisions: frozenset[bytes] = frozenset()
    histories: dict[str, str] = {}  # noqa: RUF012 - never changed
    marks: bytes | None = None


NOTHING_KNOWN = Known()


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

    What is to be remembered is written in short transactions, so that a plan may run beside a collection. A database
    that cannot be read or written any more is not an error: nothing is known then, and nothing is remembered.

    Args:
        path: the database file, or None for one in memory that is forgotten at the end.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._db = _open_database(path)
        self._repositories: dict[str, Known] = {}
        self._manifests: dict[str, bytes] = {}
        self._diff_ids: dict[Digest, Digest] = {}

    def known_manifests(self, repository: str) -> dict[Digest, records.Record]:
        """Return the records of the manifests that are known of a repository."""
        if repository in self._manifests:
            return parse_manifests(self._manifests[repository])
        query = "SELECT records FROM manifests WHERE repository = ?"
        with suppress(sqlite3.Error, struct.error, ValueError):
            row = self._db.execute(query, (repository,)).fetchone()
            if row:
                return parse_manifests(row[0])
        return {}

    def all_known_manifests(self) -> dict[Digest, records.Record]:
        """Return the records of all manifests that are known of any repository."""
        self.commit()
        known: dict[Digest, records.Record] = {}
        with suppress(sqlite3.Error, struct.error, ValueError):
            for (data,) in self._db.execute("SELECT records FROM manifests"):
                known.update(parse_manifests(data))
        return known

    def remember_manifests(self, repository: str, known: Mapping[Digest, records.Record]) -> None:
        """Replace the records of a repository's manifests, whose bytes were hashed."""
        self._manifests[repository] = b"".join(
            [part for digest, record in known.items() for part in _manifest_parts(digest, record)]
        )
        if len(self._manifests) >= _WRITE_COUNT:
            self.commit()

    def known_repository(self, name: str) -> Known:
        """Return what is remembered of a repository."""
        if name in self._repositories:
            return self._repositories[name]
        query = "SELECT layers, revisions, histories, marks FROM repository WHERE name = ?"
        with suppress(sqlite3.Error, ValueError):
            row = self._db.execute(query, (name,)).fetchone()
            if row:
                return Known(_unpack(row[0]), _unpack(row[1]), json.loads(row[2]), row[3])
        return NOTHING_KNOWN

    def remember_repository(self, name: str, known: Known) -> None:
        """Replace what is remembered of a repository."""
        self._repositories[name] = known
        if len(self._repositories) >= _WRITE_COUNT:
            self.commit()

    def forget_repository(self, name: str) -> None:
        """Forget a repository, so that the next scan reads all its links."""
        self.remember_repository(name, NOTHING_KNOWN)

    def verified_times(self, shard: int) -> dict[Digest, float]:
        """Return when the data of SHA-256 digests were last found whole, in seconds since the epoch.

        Args:
            shard: the first byte of the digests.
        """
        with suppress(sqlite3.Error, struct.error):
            row = self._db.execute("SELECT times FROM verified WHERE shard = ?", (shard,)).fetchone()
            if row:
                return {Digest(digest): at for digest, at in _VERIFIED.iter_unpack(row[0])}
        return {}

    def remember_verified(self, digests: Iterable[Digest], at: float) -> None:
        """Note that data were found whole, durably. Other than SHA-256 digests are not remembered."""
        self._change_verified(digests, at)

    def forget_verified(self, digests: Iterable[Digest]) -> None:
        """Note that data were found bad, or gone, durably."""
        self._change_verified(digests, None)

    def _change_verified(self, digests: Iterable[Digest], at: float | None) -> None:
        shards: dict[int, list[Digest]] = {}
        for digest in digests:
            if len(digest) == 32:
                shards.setdefault(digest[0], []).append(digest)
        if not shards:
            return
        with suppress(sqlite3.Error), self._db:
            # From the reading on: another run that writes between would bring back what this one forgets.
            self._db.execute("BEGIN IMMEDIATE")
            for shard, members in shards.items():
                times = self.verified_times(shard)
                for digest in members:
                    if at is None:
                        times.pop(digest, None)
                    else:
                        times[digest] = at
                data = b"".join([_VERIFIED.pack(*item) for item in times.items()])
                self._db.execute("INSERT OR REPLACE INTO verified VALUES (?, ?)", (shard, data))

    def diff_id(self, layer: Digest) -> Digest | None:
        """Return what a layer is known to decompress to: the digest of the plain bytes."""
        if layer in self._diff_ids:
            return self._diff_ids[layer]
        with suppress(sqlite3.Error):
            row = self._db.execute("SELECT diff_id FROM diff_ids WHERE layer = ?", (layer,)).fetchone()
            if row:
                return Digest(row[0])
        return None

    def remember_diff_id(self, layer: Digest, diff_id: Digest) -> None:
        """Note what a layer decompresses to, whose data were hashed on the way and found whole."""
        self._diff_ids[layer] = diff_id
        if len(self._diff_ids) >= _WRITE_COUNT:
            self.commit()

    def commit(self) -> None:
        """Make what was remembered durable."""
        rows = [
            (name, b"".join(known.layers), b"".join(known.revisions), json.dumps(known.histories), known.marks)
            for name, known in self._repositories.items()
        ]
        manifests = list(self._manifests.items())
        self._repositories.clear()
        self._manifests.clear()
        diff_ids = list(self._diff_ids.items())
        self._diff_ids.clear()
        with suppress(sqlite3.Error), self._db:
            self._db.executemany("INSERT OR REPLACE INTO repository VALUES (?, ?, ?, ?, ?)", rows)
            self._db.executemany("INSERT OR REPLACE INTO manifests VALUES (?, ?)", manifests)
            self._db.executemany("INSERT OR REPLACE INTO diff_ids VALUES (?, ?)", diff_ids)

    def close(self) -> None:
        """Close the database; what was not committed is forgotten."""
        self._db.close()


def state_name(location: str) -> str:
    """Return the name of the files that are kept for a location: readable, and another one for every location."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", location).strip("-")[-60:]
    return f"{name}-{hashlib.sha256(os.fsencode(location)).hexdigest()[:12]}"


def open_state(location: str, directory: Path | None = None) -> State:
    """Open the state of the registry at a location; where none can be written, one in memory.

    A damaged database, or one of another version, is set aside and begun anew.
    """
    directory = directory or state_directory()
    path = directory / f"{state_name(location)}.sqlite"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return State(path)
    except (OSError, sqlite3.OperationalError):
        return State(None)
    except (sqlite3.DatabaseError, ValueError):
        pass
    try:
        path.replace(path.with_suffix(".damaged"))
        return State(path)
    except (OSError, sqlite3.Error):
        return State(None)


def _open_database(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", timeout=5, check_same_thread=False)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    wanted = _SCHEMA_VERSION * 1000 + records.FORMAT
    if version not in (0, wanted):
        raise ValueError(f"state of another version: {version}")
    if version != wanted:
        database.executescript(f"PRAGMA user_version = {wanted}; {_SCHEMA}")
    database.execute("PRAGMA synchronous = NORMAL")


def parse_manifests(data: bytes) -> dict[Digest, records.Record]:
    """Read digests and records as `State.remember_manifests` packs them.

    Raises:
        struct.error, ValueError: they are damaged.
    """
    known: dict[Digest, records.Record] = {}
    position = 0
    while position < len(data):
        digest_length, record_length = _LENGTHS.unpack_from(data, position)
        start = position + _LENGTHS.size + digest_length
        position = start + record_length
        known[Digest(data[start - digest_length : start])] = records.parse_record(data[start:position])
    return known


def _manifest_parts(digest: Digest, record: records.Record) -> tuple[bytes, bytes, bytes]:
    encoded = records.encode_record(record)
    return _LENGTHS.pack(len(digest), len(encoded)), digest, encoded


def _unpack(data: bytes) -> frozenset[bytes]:
    return frozenset(data[i : i + 32] for i in range(0, len(data), 32))

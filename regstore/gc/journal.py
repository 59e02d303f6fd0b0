"""What collections did, kept beside the registry's tree: runs, their ledgers, and the quarantine.

Everything lies below `regstore/` in the registry's root. What purged runs condemned is in one file; a run has
`run.json` (when, with which options), ledger segments (JSON Lines, each durable before the first of its steps is
taken), the quarantine with the original keys below it, and `finished.json`, `undone.json` or `purged.json` as they
come. A ledger line is an intent: what it names may still be in its place.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import StorageFailedError
from regstore.gc.actions import Action, Kind, Verb
from regstore.layout import HOME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore_drivers.base import Driver, ReadDriver

RUNS = f"{HOME}runs/"
CONDEMNED = f"{HOME}condemned.jsonl"
"""What purged runs condemned and no run has collected yet, in ledger lines."""
_KEPT_SECONDS = 90 * 86400.0
"""What was condemned that long ago and not collected is linked again, or is condemned anew."""


class Entry(NamedTuple):
    """One line of a ledger: the object at `key` was to be moved to `to`, at `at` seconds since the epoch.

    `to` is empty for what is only noted (a condemned blob) or cannot be kept (a multipart upload). A restore has the
    quarantine's key in `key` and the original in `to`.
    """

    verb: Verb
    kind: Kind
    key: str
    to: str
    repository: str
    digest: Digest | None
    size: int
    at: float

    def to_line(self) -> bytes:
        """Return the line, without newline."""
        content = {
            "action": self.verb.value,
            "kind": self.kind.value,
            "key": self.key,
            "to": self.to or None,
            "repository": self.repository or None,
            "digest": format_digest(self.digest) if self.digest is not None else None,
            "bytes": self.size,
            "at": round(self.at, 3),
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read a line."""
        content = json.loads(line)
        return cls(
            Verb(content["action"]),
            Kind(content["kind"]),
            content["key"],
            content["to"] or "",
            content["repository"] or "",
            parse_digest(content["digest"]) if content["digest"] else None,
            content["bytes"],
            content["at"],
        )


@dataclass(slots=True)
class Run:
    """One run as its files show it. `finished`: what `finished.json` holds, or None when the run was killed."""

    id: str
    started_at: float
    options: dict[str, Any]
    finished: dict[str, Any] | None = None
    is_undone: bool = False
    is_purged: bool = False
    segments: list[str] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """Where its files lie."""
        return f"{RUNS}{self.id}/"

    @property
    def quarantine(self) -> str:
        """Where what it removed lies, under the original keys."""
        return f"{RUNS}{self.id}/quarantine/"


class Journal:
    """The runs of one registry, read.

    Attributes:
        runs: oldest first.
        condemned: digest to the newest time at which its last link was seen to go, or at which it was noted without
            links; not what a run in between, or the same, saw linked or needed.
        unlinked_in: digest to the repositories whose link to it went.
        quarantined: original key to the quarantine's key, for everything that runs in force moved.
    """

    def __init__(self, driver: ReadDriver) -> None:
        self._driver = driver
        self.runs = list(_iter_runs(driver))
        self.condemned: dict[Digest, float] = {}
        self.unlinked_in: dict[Digest, set[str]] = {}
        self.quarantined: dict[str, str] = {}
        self._collected: set[Digest] = set()
        has_kept = CONDEMNED.removeprefix(HOME) in driver.list_dir(HOME)
        self._kept = list(self._read(CONDEMNED)) if has_kept else []
        for entry in self._kept:
            self._note(entry)
        for run in self.runs:
            if not run.is_purged:
                self._take(run)

    def _take(self, run: Run) -> None:
        entries = list(self.iter_entries(run))
        for entry in entries if not run.is_undone else ():
            if entry.verb is Verb.SPARE:
                continue
            if entry.verb is Verb.RESTORE:
                self.quarantined.pop(entry.to, None)
                continue
            if entry.to:
                self.quarantined[entry.key] = entry.to
            self._note(entry)
        # Last, since the same run may remove another link to it; and what was seen stays true when a run is undone.
        for entry in entries:
            if entry.verb is Verb.SPARE and entry.digest is not None:
                self.condemned.pop(entry.digest, None)

    def _note(self, entry: Entry) -> None:
        if entry.digest is None:
            return
        if entry.kind is Kind.BLOB and entry.verb is Verb.REMOVE:
            self._collected.add(entry.digest)
        if entry.kind is Kind.LAYER_LINK or (entry.kind is Kind.BLOB and entry.verb is Verb.CONDEMN):
            self.condemned[entry.digest] = max(entry.at, self.condemned.get(entry.digest, 0.0))
        if entry.kind in (Kind.LAYER_LINK, Kind.REVISION_LINK):
            self.unlinked_in.setdefault(entry.digest, set()).add(entry.repository)

    def keep_condemned(self, driver: Driver, runs: Iterable[Run], now: float) -> None:
        """Keep what some runs condemned, as far as no run collected or spared it, when they are purged: the next run
        goes on."""
        kept = list(self._kept)
        for run in runs:
            if not run.is_undone:
                kept += self.iter_entries(run)
        lines: dict[tuple[Kind, str], Entry] = {}
        for entry in kept:
            is_condemned = entry.kind in (Kind.LAYER_LINK, Kind.REVISION_LINK) or entry.verb is Verb.CONDEMN
            is_spared = entry.kind is not Kind.REVISION_LINK and entry.digest not in self.condemned
            is_over = is_spared or entry.digest in self._collected or now - entry.at >= _KEPT_SECONDS
            if is_condemned and entry.verb is not Verb.RESTORE and not is_over:
                lines[entry.kind, entry.key] = entry._replace(verb=Verb.CONDEMN, to="")
        if list(lines.values()) != self._kept:
            self._kept = list(lines.values())
            data = b"".join(entry.to_line() + b"\n" for entry in self._kept)
            driver.write(CONDEMNED, data, len(data))

    def iter_entries(self, run: Run) -> Iterator[Entry]:
        """Yield the ledger of one run in order.

        Raises:
            StorageFailedError: a segment cannot be understood.
        """
        for segment in run.segments:
            yield from self._read(segment)

    def _read(self, segment: str) -> Iterator[Entry]:
        for line in self._driver.read(segment).splitlines():
            try:
                yield Entry.from_line(line)
            except (ValueError, KeyError, TypeError) as error:
                raise _damaged(self._driver, segment, error) from error


def _iter_runs(driver: ReadDriver) -> Iterator[Run]:
    for name in list(driver.list_dir(RUNS)):
        if not name.endswith("/"):
            continue
        prefix = f"{RUNS}{name}"
        children = set(driver.list_dir(prefix))
        if "run.json" not in children:
            # Written before anything else and deleted after everything but the mark: what a dead purge left.
            if "purged.json" in children or next(driver.list(prefix), None) is None:
                yield Run(name.rstrip("/"), 0.0, {}, is_purged=True)
            continue
        head = _read_object(driver, f"{prefix}run.json", "started_at")
        run = Run(name.rstrip("/"), head["started_at"], head.get("options") or {})
        run.is_undone = "undone.json" in children
        run.is_purged = "purged.json" in children
        if "finished.json" in children:
            run.finished = _read_object(driver, f"{prefix}finished.json", "finished_at")
        if "ledger/" in children:
            run.segments = [f"{prefix}ledger/{segment}" for segment in driver.list_dir(f"{prefix}ledger/")]
        yield run


def _read_object(driver: ReadDriver, key: str, time: str) -> dict[str, Any]:
    """Read a JSON object that holds a time, in seconds since the epoch, under a name."""
    try:
        content: dict[str, Any] = json.loads(driver.read(key))
        content[time] = float(content[time])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(driver, key, error) from error
    return content


def _damaged(driver: ReadDriver, key: str, error: Exception) -> StorageFailedError:
    return StorageFailedError(
        f"the ledger {driver.location.rstrip('/')}/{key} cannot be understood: {error}",
        hint="nothing was changed; keep the file and its quarantine, and restore it from a backup",
        code="ledger-damaged",
    )


class Ledger:
    """The journal of the run under way. Nothing is written before the first entry.

    Args:
        driver: the registry's driver.
        started_at: the storage's time.
        head: what `run.json` holds beside that.
    """

    def __init__(self, driver: Driver, started_at: float, head: dict[str, Any]) -> None:
        stamp = datetime.fromtimestamp(started_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        same = [re.fullmatch(f"{stamp}-([0-9a-f]{{6}})/", name) for name in driver.list_dir(RUNS)]
        # Runs of the same second have an order too: the newest is undone first.
        number = max((int(match[1], 16) + 1 for match in same if match), default=secrets.randbelow(1 << 23))
        self.run = Run(f"{stamp}-{number:06x}", started_at, head.get("options", {}))
        self._driver = driver
        self._head = {"id": self.run.id, "started_at": started_at, **head}
        self._segment_count = 0

    @property
    def is_begun(self) -> bool:
        """Whether anything was written."""
        return self._segment_count > 0

    def quarantine_key(self, key: str) -> str:
        """Return where an object goes."""
        return f"{self.run.quarantine}{key}"

    def write(self, entries: Iterable[Entry]) -> None:
        """Make the intent to take some steps durable."""
        lines = b"\n".join(entry.to_line() for entry in entries)
        if not lines:
            return
        if not self._segment_count:
            self._write_json("run.json", self._head)
        self._segment_count += 1
        data = lines + b"\n"
        self._driver.write(f"{self.run.prefix}ledger/{self._segment_count:06}.jsonl", data, len(data), if_absent=True)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Note how the run ended."""
        if self.is_begun:
            self._write_json("finished.json", outcome)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        data = json.dumps(content, indent=1).encode() + b"\n"
        self._driver.write(f"{self.run.prefix}{name}", data, len(data))


def entry_of(action: Action, key: str, to: str, at: float) -> Entry:
    """Make the ledger entry of a step on one object."""
    return Entry(action.verb, action.kind, key, to, action.repository, action.digest, action.size, at)

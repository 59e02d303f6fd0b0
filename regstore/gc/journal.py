"""What collections did, kept beside the registry's tree: runs, their ledgers, and the quarantine.

Everything lies below `regstore/` in the registry's root. A run has `run.json` (when, with which options), ledger
segments (JSON Lines, each durable before the first of its steps is taken), the quarantine with the original keys below
it, and `finished.json`, `undone.json` or `purged.json` as they come. A ledger line is an intent: what it names may
still be in its place.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import StorageFailedError
from regstore.gc.actions import Action, Kind, Verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore_drivers.base import Driver, ReadDriver

HOME = "regstore/"
RUNS = f"{HOME}runs/"


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
            links.
        unlinked_in: digest to the repositories whose link to it went.
        quarantined: original key to the quarantine's key, for everything that runs in force moved.
    """

    def __init__(self, driver: ReadDriver) -> None:
        self._driver = driver
        self.runs = list(_iter_runs(driver))
        self.condemned: dict[Digest, float] = {}
        self.unlinked_in: dict[Digest, set[str]] = {}
        self.quarantined: dict[str, str] = {}
        for run in self.runs:
            if not run.is_undone and not run.is_purged:
                self._take(run)

    def _take(self, run: Run) -> None:
        for entry in self.iter_entries(run):
            if entry.verb is Verb.RESTORE:
                self.quarantined.pop(entry.to, None)
                continue
            if entry.to:
                self.quarantined[entry.key] = entry.to
            if entry.digest is None:
                continue
            if entry.verb is Verb.CONDEMN or entry.kind is Kind.LAYER_LINK:
                self.condemned[entry.digest] = max(entry.at, self.condemned.get(entry.digest, 0.0))
            if entry.kind in (Kind.LAYER_LINK, Kind.REVISION_LINK):
                self.unlinked_in.setdefault(entry.digest, set()).add(entry.repository)

    def iter_entries(self, run: Run) -> Iterator[Entry]:
        """Yield the ledger of one run in order.

        Raises:
            StorageFailedError: a segment cannot be understood.
        """
        for segment in run.segments:
            for line in self._driver.read(segment).splitlines():
                try:
                    yield Entry.from_line(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise StorageFailedError(
                        f"the ledger {segment} of {self._driver.location} cannot be understood: {error}",
                        hint="nothing was changed; keep the file and its quarantine, and restore it from a backup",
                        code="ledger-damaged",
                    ) from error


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
        head = json.loads(driver.read(f"{prefix}run.json"))
        run = Run(name.rstrip("/"), head["started_at"], head["options"])
        run.is_undone = "undone.json" in children
        run.is_purged = "purged.json" in children
        if "finished.json" in children:
            run.finished = json.loads(driver.read(f"{prefix}finished.json"))
        if "ledger/" in children:
            run.segments = [f"{prefix}ledger/{segment}" for segment in driver.list_dir(f"{prefix}ledger/")]
        yield run


class Ledger:
    """The journal of the run under way. Nothing is written before the first entry.

    Args:
        driver: the registry's driver.
        started_at: the storage's time.
        head: what `run.json` holds beside that.
    """

    def __init__(self, driver: Driver, started_at: float, head: dict[str, Any]) -> None:
        stamp = datetime.fromtimestamp(started_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        self.run = Run(f"{stamp}-{secrets.token_hex(3)}", started_at, head.get("options", {}))
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

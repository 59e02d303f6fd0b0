"""What collections did, kept beside the registry's tree: runs, their ledgers, and the quarantine.

Everything lies below `regstore/` in the registry's root: runs as `regstore.ledger` describes them, and one file with
what purged runs condemned.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore import layout, ledger
from regstore.digest import Digest, format_digest, parse_digest
from regstore.gc.actions import Action, Kind, Verb
from regstore.layout import HOME
from regstore.ledger import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.ledger import Run
    from regstore_drivers.base import Driver, ReadDriver

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
        self.runs = list(ledger.iter_runs(driver, RUNS))
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

    @property
    def quarantined_blobs(self) -> set[Digest]:
        """The blobs among what runs in force moved."""
        return {spec.digest for spec in map(layout.parse_key, self.quarantined) if isinstance(spec, layout.BlobData)}

    @property
    def quarantined_layer_links(self) -> dict[str, set[Digest]]:
        """The layer links among it, by repository: what is remembered of those is in doubt."""
        found: dict[str, set[Digest]] = {}
        for spec in map(layout.parse_key, self.quarantined):
            if isinstance(spec, layout.LayerLink):
                found.setdefault(spec.repository, set()).add(spec.digest)
        return found

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
                raise ledger.damaged(self._driver, segment, error) from error


class Ledger(ledger.Ledger):
    """The journal of the collection under way."""

    def __init__(self, driver: Driver, started_at: float, head: dict[str, Any]) -> None:
        super().__init__(driver, RUNS, started_at, head)

    def write(self, entries: Iterable[Entry]) -> None:
        """Make the intent to take some steps durable."""
        self.write_lines(entry.to_line() for entry in entries)


def entry_of(action: Action, key: str, to: str, at: float) -> Entry:
    """Make the ledger entry of a step on one object."""
    return Entry(action.verb, action.kind, key, to, action.repository, action.digest, action.size, at)

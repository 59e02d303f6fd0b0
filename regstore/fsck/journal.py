"""What repairs did, kept beside the registry's tree as `regstore.ledger` describes it, apart from collections.

A ledger line says what was to be done to one key: `write` a link, `fetch` data, or move something to the quarantine
(`quarantine`, `remove`). `to` is where the former object of that key lies, if there was one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore import ledger
from regstore.digest import Digest, format_digest, parse_digest
from regstore.fsck.plan import Verb
from regstore.ledger import REPAIRS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.ledger import Run
    from regstore_drivers.base import Driver, ReadDriver


class Entry(NamedTuple):
    """One line of a ledger; `content` is what a written link is to hold."""

    verb: Verb
    key: str
    to: str
    digest: Digest | None
    content: bytes
    at: float

    def to_line(self) -> bytes:
        """Return the line, without newline."""
        line = {
            "action": self.verb.value,
            "key": self.key,
            "to": self.to or None,
            "digest": format_digest(self.digest) if self.digest is not None else None,
            "content": self.content.decode("ascii") or None,
            "at": round(self.at, 3),
        }
        return json.dumps(line, separators=(",", ":")).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read a line."""
        content = json.loads(line)
        return cls(
            Verb(content["action"]),
            content["key"],
            content["to"] or "",
            parse_digest(content["digest"]) if content["digest"] else None,
            (content["content"] or "").encode(),
            content["at"],
        )


class Ledger(ledger.Ledger):
    """The journal of the repair under way."""

    def __init__(self, driver: Driver, started_at: float, head: dict[str, Any]) -> None:
        super().__init__(driver, REPAIRS, started_at, head)

    def write(self, entries: Iterable[Entry]) -> None:
        """Make the intent to take some steps durable."""
        self.write_lines(entry.to_line() for entry in entries)


def iter_repairs(driver: ReadDriver) -> Iterator[Run]:
    """Yield the repairs, oldest first.

    Raises:
        StorageFailedError: one of their files cannot be understood.
    """
    return ledger.iter_runs(driver, REPAIRS)


def read_entries(driver: ReadDriver, run: Run) -> list[Entry]:
    """Return the ledger of a repair, in order.

    Raises:
        StorageFailedError: it cannot be understood.
    """
    entries = []
    for segment in run.segments:
        for line in driver.read(segment).splitlines():
            try:
                entries.append(Entry.from_line(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ledger.damaged(driver, segment, error) from error
    return entries

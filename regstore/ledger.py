"""Runs that change a volume, kept beside the registry's tree: what each meant to do, before it did it.

A kind of run has a directory of its own. In it a run has `run.json` (when, with which options), ledger segments (JSON
Lines, each durable before the first of its steps is taken), a quarantine with the original keys below it, and
`finished.json`, `undone.json` or `purged.json` as they come. A ledger line is an intent: what it names may still be in
its place.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from regstore.errors import StorageFailedError
from regstore.layout import HOME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore_drivers.base import Driver, ReadDriver

RUNS = f"{HOME}runs/"
"""Where the runs of collections lie."""
REPAIRS = f"{HOME}repairs/"
"""Where repairs lie."""


@dataclass(slots=True)
class Run:
    """One run as its files show it.

    Attributes:
        home: the prefix below which runs of its kind lie.
        id: its name there; names sort by time.
        started_at: seconds since the epoch.
        options: with which it ran.
        finished: what `finished.json` holds, or None when the run was killed.
        is_undone, is_purged: whether it was taken back, or its quarantine is being deleted.
        segments: the keys of its ledger, in order.
    """

    home: str
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
        return f"{self.home}{self.id}/"

    @property
    def quarantine(self) -> str:
        """Where what it removed lies, under the original keys."""
        return f"{self.prefix}quarantine/"


class Ledger:
    """The journal of the run under way. Nothing is written before the first line.

    Args:
        driver: the registry's driver.
        home: the prefix below which runs of this kind lie.
        started_at: the storage's time.
        head: what `run.json` holds beside that.
    """

    def __init__(self, driver: Driver, home: str, started_at: float, head: dict[str, Any]) -> None:
        stamp = datetime.fromtimestamp(started_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        same = [re.fullmatch(f"{stamp}-([0-9a-f]{{6}})/", name) for name in driver.list_dir(home)]
        # Runs of the same second have an order too: the newest is undone first.
        number = max((int(match[1], 16) + 1 for match in same if match), default=secrets.randbelow(1 << 23))
        self.run = Run(home, f"{stamp}-{number:06x}", started_at, head.get("options", {}))
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

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Make the intent to take some steps durable, one line each."""
        content = b"\n".join(lines)
        if not content:
            return
        if not self._segment_count:
            self._write_json("run.json", self._head)
        self._segment_count += 1
        data = content + b"\n"
        self._driver.write(f"{self.run.prefix}ledger/{self._segment_count:06}.jsonl", data, len(data), if_absent=True)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Note how the run ended."""
        if self.is_begun:
            self._write_json("finished.json", outcome)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        data = json.dumps(content, indent=1).encode() + b"\n"
        self._driver.write(f"{self.run.prefix}{name}", data, len(data))


def mark_undone(driver: Driver, run: Run) -> None:
    """Note that a run was taken back."""
    data = json.dumps({"id": run.id}).encode()
    driver.write(f"{run.prefix}undone.json", data, len(data))


def iter_runs(driver: ReadDriver, home: str) -> Iterator[Run]:
    """Yield the runs below a prefix, oldest first.

    Raises:
        StorageFailedError: one of their files cannot be understood.
    """
    for name in list(driver.list_dir(home)):
        if not name.endswith("/"):
            continue
        prefix = f"{home}{name}"
        children = set(driver.list_dir(prefix))
        if "run.json" not in children:
            # Written before anything else and deleted after everything but the mark: what a dead purge left.
            if "purged.json" in children or next(driver.list(prefix), None) is None:
                yield Run(home, name.rstrip("/"), 0.0, {}, is_purged=True)
            continue
        head = _read_object(driver, f"{prefix}run.json", "started_at")
        run = Run(home, name.rstrip("/"), head["started_at"], head.get("options") or {})
        run.is_undone = "undone.json" in children
        run.is_purged = "purged.json" in children
        if "finished.json" in children:
            run.finished = _read_object(driver, f"{prefix}finished.json", "finished_at")
        if "ledger/" in children:
            run.segments = [f"{prefix}ledger/{segment}" for segment in driver.list_dir(f"{prefix}ledger/")]
        yield run


def damaged(driver: ReadDriver, key: str, error: Exception) -> StorageFailedError:
    """Make the error of a file of a run that cannot be understood."""
    return StorageFailedError(
        f"the ledger {driver.location.rstrip('/')}/{key} cannot be understood: {error}",
        hint="nothing was changed; keep the file and its quarantine, and restore it from a backup",
        code="ledger-damaged",
    )


def _read_object(driver: ReadDriver, key: str, time: str) -> dict[str, Any]:
    """Read a JSON object that holds a time, in seconds since the epoch, under a name."""
    try:
        content: dict[str, Any] = json.loads(driver.read(key))
        content[time] = float(content[time])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(driver, key, error) from error
    return content

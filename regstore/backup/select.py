"""Which snapshot an operator means: an id, `latest`, or a time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.snapshot import Snapshot, SnapshotDamagedError
from regstore.errors import StorageFailedError, UsageError
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.backup.engine import SnapshotFile, SnapshotStore

LATEST = "latest"
_SHORTEST_ID = 4


class Loaded(NamedTuple):
    """A snapshot file, and what it holds or why it cannot be read."""

    file: SnapshotFile
    snapshot: Snapshot | None
    problem: str = ""

    def finding(self) -> BackupFinding:
        """Return the finding of a snapshot that cannot be read."""
        return finding("snapshot-damaged", self.file.id, self.problem, snapshots=(self.file.id,))


def iter_snapshots(store: SnapshotStore, *, newest_first: bool = False) -> Iterator[Loaded]:
    """Yield every snapshot, one in memory at a time.

    Raises:
        DriverError, StorageFailedError: the store cannot be listed.
    """
    files = store.list_snapshots()
    for file in reversed(files) if newest_first else files:
        try:
            yield Loaded(file, store.load_snapshot(file))
        except (SnapshotDamagedError, DriverError) as error:
            yield Loaded(file, None, str(error))


def find_snapshot(store: SnapshotStore, wanted: str, at: float | None = None) -> Snapshot:
    """Return the snapshot of an id (or the start of it), or the newest that can be read.

    Args:
        store: where.
        wanted: an id or `latest`.
        at: with `latest`: the newest made not later than that, in seconds since the epoch.

    Raises:
        UsageError: there is none, or several begin so.
        StorageFailedError: the one that was asked for is damaged.
        DriverError: the store cannot be read.
    """
    if wanted == LATEST:
        for loaded in iter_snapshots(store, newest_first=True):
            if loaded.snapshot is not None and (at is None or loaded.snapshot.head.created_at <= at):
                return loaded.snapshot
        when = "" if at is None else f" made by {datetime.fromtimestamp(at).astimezone().isoformat(timespec='seconds')}"
        raise UsageError(
            f"there is no snapshot in {store.location}{when} that can be read",
            hint="regstore backup list shows those there are",
            code="snapshot-missing",
        )
    files = [file for file in store.list_snapshots() if file.id.startswith(wanted)]
    if len(files) != 1 or len(wanted) < _SHORTEST_ID:
        known = "no snapshot has" if not files else "several snapshots have"
        raise UsageError(
            f"{known} the id {wanted!r} in {store.location}",
            hint="regstore backup list shows the ids; four digits or more of one are enough",
            code="snapshot-missing",
        )
    try:
        return store.load_snapshot(files[0])
    except SnapshotDamagedError as error:
        raise StorageFailedError(
            f"the snapshot {files[0].id} in {store.location} is damaged: {error}",
            hint="take another one (regstore backup list), or restore its file from a second copy of the store",
            code="corruption",
        ) from error


def parse_time(text: str) -> float:
    """Parse `YYYY-MM-DD HH:MM[:SS]` in local time, or ISO 8601 with an offset, into seconds since the epoch.

    Raises:
        ValueError: it is neither.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is no time: write it as 2026-11-20 03:00, or 2026-11-20T03:00:00+01:00") from error

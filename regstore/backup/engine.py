"""What every kind of store can do for those who read snapshots: restore, show, compare, try out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from regstore.backup.snapshot import Snapshot
    from regstore.digest import Digest
    from regstore.transfer import Failed, Item, Journal
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver, ReadDriver
    from regstore_drivers.bulk import BulkWriter


class SnapshotFile(NamedTuple):
    """A snapshot as a listing shows it.

    Attributes:
        name: `<sequence>-<utc>-<id>`; names sort in the order made.
        size: bytes of the file.
        mark: changes when the file does: an entity tag, or times; empty where nothing tells.
    """

    name: str
    size: int
    mark: str = ""

    @property
    def id(self) -> str:
        """What operators call it by."""
        return self.name.rpartition("-")[2]


class SnapshotData(Protocol):
    """The data of one snapshot. Safe to use from several threads; `ManifestReader` takes it for a volume."""

    jobs: int
    """How many reads at once are worth while."""

    def find_lost(self, blobs: Mapping[Digest, int]) -> dict[Digest, tuple[str, str]]:
        """Return which of these blobs (digest to bytes as recorded) the store does not have as they should be: the id
        of the finding and the detail. Only listings are looked at.

        Raises:
            DriverError, StorageFailedError: the store cannot be read.
        """

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the bytes of a manifest, which the caller hashes.

        Raises:
            NotFound: it is not there.
            DriverError, StorageFailedError: it cannot be read.
        """

    def copy_blobs(
        self,
        items: Sequence[Item],
        target: Driver | BulkWriter,
        *,
        jobs: int,
        progress: Progress,
        cancel: Cancel,
        journal: Journal | None = None,
    ) -> Iterator[Item | Failed]:
        """Copy blobs out of the store, each hashed. See `regstore.transfer.copy_blobs`."""


class SnapshotStore(Protocol):
    """A place where snapshots are kept."""

    id: str

    @property
    def location(self) -> str:
        """Where it is, without credentials."""

    def list_snapshots(self) -> list[SnapshotFile]:
        """List the snapshots in the order made.

        Raises:
            DriverError, StorageFailedError: the store cannot be read.
        """

    def load_snapshot(self, file: SnapshotFile) -> Snapshot:
        """Read a snapshot; all its bytes are hashed.

        Raises:
            SnapshotDamagedError: it is damaged.
            DriverError, StorageFailedError: it cannot be read.
        """

    def open_data(self, snapshot: Snapshot) -> SnapshotData:
        """Get ready to read the data of a snapshot.

        Raises:
            DriverError, StorageFailedError: the store cannot be read.
        """

    def check_apart(self, driver: ReadDriver) -> None:
        """Refuse a registry that lies in the store, or around it.

        Raises:
            RefusedError: it does.
        """

    def close(self) -> None:
        """Free connections."""

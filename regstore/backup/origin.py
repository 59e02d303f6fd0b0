"""A store of backups as a source of data for repairs. See `regstore.transfer.fetching.Source`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regstore.backup.select import iter_snapshots
from regstore.transfer.fetching import Found
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.backup.store import Store
    from regstore.digest import Digest


class StoreSource:
    """What any snapshot of a store holds, whatever registry it came from.

    Raises:
        DriverError: the store cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._store.load_packed(store.take_listing().packs)

    @property
    def name(self) -> str:
        """The store as a URL without credentials."""
        return self._store.location

    def find(self, digest: Digest, repositories: Sequence[str]) -> Found | None:
        """Look for the data, whatever repositories need them. See `Source.find`."""
        try:
            return Found(self._store.size(digest), partial(self._store.open, digest))
        except NotFound:
            return None

    def has_manifest(self, digest: Digest, repository: str) -> bool:
        """Look into the newest snapshot that has the repository. See `Source.has_manifest`."""
        for loaded in iter_snapshots(self._store, newest_first=True):
            if loaded.snapshot is not None and loaded.snapshot.has(repository):
                return digest in loaded.snapshot.contents(repository).revisions
        return False

    def close(self) -> None:
        """Close the store."""
        self._store.close()

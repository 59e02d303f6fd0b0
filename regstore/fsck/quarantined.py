"""What collections moved to their quarantine, as a source of missing data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regstore.layout import BlobData
from regstore.ledger import RUNS, iter_runs
from regstore.transfer.fetching import Found
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.digest import Digest
    from regstore.registry import Registry


class QuarantineSource:
    """The quarantines of collections on the registry that is repaired; nothing is taken away from them.

    Raises:
        DriverError, StorageFailedError: the runs cannot be read.
    """

    name = "the quarantine of a collection"

    def __init__(self, registry: Registry) -> None:
        self._driver = registry.driver
        runs = [run for run in iter_runs(registry.driver, RUNS) if not run.is_undone and not run.is_purged]
        self._prefixes = [run.quarantine for run in reversed(runs)]

    def find(self, digest: Digest, _: Sequence[str]) -> Found | None:
        """Look in the newest run first. See `Source.find`."""
        for prefix in self._prefixes:
            key = f"{prefix}{BlobData(digest).key}"
            try:
                size = self._driver.stat(key).size
            except NotFound:
                continue
            return Found(size, partial(self._driver.open, key))
        return None

    def has_manifest(self, _: Digest, __: str) -> bool:
        """Say no: what was removed proves nothing about what belongs where."""
        return False

    def close(self) -> None:
        """Do nothing: the driver is the registry's."""

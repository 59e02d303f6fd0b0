"""A registry volume as an origin of blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from regstore.layout import BlobData
from regstore_drivers.base import HasLocalPath
from regstore_drivers.wrappers import ReadOnly

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore_drivers.base import ReadDriver


class VolumeOrigin:
    """The blobs of a registry volume, which is only read. See `BlobOrigin` for the methods."""

    def __init__(self, driver: ReadDriver) -> None:
        self._driver = ReadOnly(driver)
        self._local = self._driver if isinstance(self._driver, HasLocalPath) else None

    @property
    def is_local(self) -> bool:
        """Whether it lies on a file system."""
        return self._local is not None

    def size(self, digest: Digest) -> int:
        """Return the bytes of a blob's data."""
        return self._driver.stat(BlobData(digest).key).size

    def read(self, digest: Digest) -> bytes:
        """Return a small blob's data."""
        return self._driver.read(BlobData(digest).key)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob's data."""
        return self._driver.open(BlobData(digest).key)

    def path(self, digest: Digest) -> str | None:
        """Return the data's file, on a file system."""
        return self._local.local_path(BlobData(digest).key) if self._local else None

    def content(self, digest: Digest) -> bytes | None:
        """Return None: each blob is an object of its own."""
        return None

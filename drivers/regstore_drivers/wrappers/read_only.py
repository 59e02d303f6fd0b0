"""A driver that cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NoReturn

from regstore_drivers.base import (
    READ_LIMIT_BYTES,
    Entry,
    HasLocalPath,
    HasMultipart,
    MultipartUpload,
    ReadDriver,
)
from regstore_drivers.errors import ReadOnlyDriver
from regstore_drivers.wrappers._forwarding import READ_POWERS, powers_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReadOnly(ReadDriver):
    """The reading half of a driver, without the methods of the other half.

    The powers that only read are forwarded, HasLocalPath included. So that incomplete uploads can be listed,
    HasMultipart is too, but aborting one raises ReadOnlyDriver. HasDirectories is not.
    """

    def __init__(self, driver: ReadDriver) -> None:
        self._driver = driver
        self.scheme = driver.scheme
        for name in powers_of(
            driver, {**READ_POWERS, HasLocalPath: ("local_path",), HasMultipart: ("list_multipart",)}
        ):
            setattr(self, name, getattr(driver, name))
        if isinstance(driver, HasMultipart):
            self.abort_multipart = self._refuse

    def _refuse(self, upload: MultipartUpload) -> NoReturn:
        reason = "the driver was opened for reading only"
        raise ReadOnlyDriver(reason, operation="abort_multipart", key=upload.key, location=self.location)

    @property
    def location(self) -> str:
        """The root of the wrapped driver."""
        return self._driver.location

    def stat(self, key: str) -> Entry:
        """Describe one object. See `ReadDriver.stat`."""
        return self._driver.stat(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield entries. See `ReadDriver.list`."""
        return self._driver.list(prefix, start_after)

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield names one level down. See `ReadDriver.list_dir`."""
        return self._driver.list_dir(prefix)

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object. See `ReadDriver.read`."""
        return self._driver.read(key, limit)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream. See `ReadDriver.open`."""
        return self._driver.open(key, offset, length)

    def close(self) -> None:
        """Close the wrapped driver."""
        self._driver.close()

"""What all wrappers share: they are drivers that hand every call on to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from regstore_drivers.base import (
    READ_LIMIT_BYTES,
    Driver,
    Entry,
    HasCapacity,
    HasClock,
    HasDirectories,
    HasKeptTime,
    HasMultipart,
    HasMultipartResume,
    HasMultipartSize,
    HasServerCopy,
    HasSmallListing,
    HasStoredChecksum,
    HasVersions,
    HasWriteFeatures,
    ReadDriver,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from regstore_drivers.base import Deleted, Source

T = TypeVar("T")

READ_POWERS: dict[type, tuple[str, ...]] = {
    HasCapacity: ("capacity",),
    HasClock: ("now",),
    HasKeptTime: ("kept_mtime_ns",),
    HasMultipartSize: ("multipart_size",),
    HasSmallListing: ("list_small",),
    HasStoredChecksum: ("stored_checksum",),
    HasVersions: ("is_versioned",),
}
"""The optional powers that change nothing, and their methods."""

POWERS: dict[type, tuple[str, ...]] = {
    **READ_POWERS,
    HasDirectories: ("remove_empty_directory",),
    HasMultipart: ("list_multipart", "abort_multipart"),
    HasMultipartResume: ("resume_multipart", "watch_multipart"),
    HasServerCopy: ("is_same_server", "copy_from", "probe_copies"),
    HasWriteFeatures: ("probe_writes",),
}
"""All optional powers but HasLocalPath: whoever has the path of a file goes past the wrapper."""

_LISTINGS = frozenset(("list_multipart",))


def powers_of(driver: ReadDriver, powers: dict[type, tuple[str, ...]]) -> Iterator[str]:
    """Yield the names of the methods of those powers that a driver has."""
    for protocol, names in powers.items():
        if isinstance(driver, protocol):
            yield from names


class Forwarding(Driver):
    """A driver over another driver: every call goes through `_call` or, when it yields items, `_iterate`.

    The optional powers become attributes of the instance, because a check against a runtime protocol does not ask
    `__getattr__` from Python 3.12 on.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.scheme = driver.scheme
        for name in powers_of(driver, POWERS):
            setattr(self, name, self._power(name))

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """Make one call; `key` is the source of a copy or move, and empty where there is none."""
        raise NotImplementedError

    def _iterate(self, operation: str, key: str, call: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Make one call that yields items; `key` is the prefix."""
        return self._call(operation, key, call)

    def _power(self, name: str) -> Callable[..., Any]:
        method = getattr(self._driver, name)
        make = self._iterate if name in _LISTINGS else self._call

        def forward(*arguments: Any) -> Any:
            subject = arguments[0] if arguments else ""
            key = getattr(subject, "key", subject)
            return make(name, key if isinstance(key, str) else "", lambda: method(*arguments))

        return forward

    @property
    def location(self) -> str:
        """The root of the wrapped driver."""
        return self._driver.location

    def stat(self, key: str) -> Entry:
        """Describe one object. See `ReadDriver.stat`."""
        return self._call("stat", key, lambda: self._driver.stat(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield entries. See `ReadDriver.list`."""
        return self._iterate("list", prefix, lambda: self._driver.list(prefix, start_after))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield names one level down. See `ReadDriver.list_dir`."""
        return self._iterate("list_dir", prefix, lambda: self._driver.list_dir(prefix))

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object. See `ReadDriver.read`."""
        return self._call("read", key, lambda: self._driver.read(key, limit))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream. See `ReadDriver.open`."""
        return self._call("open", key, lambda: self._driver.open(key, offset, length))

    def write(
        self,
        key: str,
        source: Source,
        size: int,
        digest: str | None = None,
        *,
        if_absent: bool = False,
        mtime_ns: int | None = None,
    ) -> Entry:
        """Store an object. See `Driver.write`."""
        return self._call(
            "write", key, lambda: self._driver.write(key, source, size, digest, if_absent=if_absent, mtime_ns=mtime_ns)
        )

    def copy(self, src: str, dst: str) -> Entry:
        """Copy inside the store. See `Driver.copy`."""
        return self._call("copy", src, lambda: self._driver.copy(src, dst))

    def move(self, src: str, dst: str) -> None:
        """Rename without overwriting. See `Driver.move`."""
        return self._call("move", src, lambda: self._driver.move(src, dst))

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete objects. See `Driver.delete`."""
        return self._iterate("delete", "", lambda: self._driver.delete(keys))

    def close(self) -> None:
        """Close the wrapped driver."""
        self._driver.close()

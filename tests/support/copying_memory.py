"""A storage in memory that copies from another one by itself, as a server does that holds both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from regstore_drivers.base import CopyFeatures, Driver, Entry
from regstore_drivers.errors import DriverError
from regstore_drivers.memory import MemoryDriver


class CopyingMemory(MemoryDriver):
    """Copies from `source`.

    Attributes:
        tells_checksums: it tells the SHA-256 of what it copied.
        rotten: keys whose copies have other bytes.
        refusal: called with each source before it is copied; may raise.
        on_copied: called with the key of each copy; may raise.
        copied: the keys of the copies, without those of probes.
    """

    def __init__(self, name: str, source: Driver) -> None:
        super().__init__(name)
        self._source = source
        self.tells_checksums = True
        self.rotten: set[str] = set()
        self.refusal: Callable[[Entry], object] = lambda _: None
        self.on_copied: Callable[[str], object] = lambda _: None
        self.copied: list[str] = []

    def is_same_server(self, location: str) -> bool:
        return location == self._source.location

    def copy_from(self, source: Entry, location: str, key: str) -> str | None:
        assert location == self._source.location
        self.refusal(source)
        if source.etag is not None and source.etag != self._source.stat(source.key).etag:
            raise DriverError("it changed", operation="copy_from", key=key)
        data = self._source.read(source.key, 1 << 30)
        if key in self.rotten:
            data = bytes(len(data))
        self.write(key, data, len(data))
        self.copied.append(key)
        self.on_copied(key)
        return f"sha256:{hashlib.sha256(data).hexdigest()}" if self.tells_checksums else None

    def probe_copies(self, source: Entry, location: str, directory: str) -> CopyFeatures:
        try:
            self.refusal(source)
        except DriverError as error:
            return CopyFeatures(False, False, False, error.reason)
        return CopyFeatures(True, True, self.tells_checksums)

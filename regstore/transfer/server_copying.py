"""Blobs that the target's server copies by itself, from a registry on the same server.

Only the SHA-256 that the server computed over the whole copy, or reading the copy, proves it. What is not whole is
deleted, and whatever does not succeed is left to be streamed through this host, which finds out what is wrong with it.
A run that dies may leave a copy that was never proven: until a run has ended, nothing at the target counts by its size.
"""

from __future__ import annotations

import hashlib
import threading
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from regstore.digest import format_digest, split_digest
from regstore.layout import BlobData
from regstore_drivers.base import Entry, HasServerCopy
from regstore_drivers.errors import CopyRefused, DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Set

    from regstore.digest import Digest
    from regstore.transfer.copying import Item
    from regstore_drivers.base import Driver, ReadDriver

COPIED_MIN_BYTES = 1024 * 1024
"""Where copies have to be read to be proven, a smaller blob is better streamed: that takes no more requests, and it has
no name before it is proven."""

_PIECE_BYTES = 1024 * 1024


class CopyingServer(Protocol):
    """What may copy a blob before it is streamed."""

    def copy(self, item: Item, on_read: Callable[[int], None], on_proven: Callable[[int], None]) -> bool:
        """Copy and prove a blob; False when it has to be streamed.

        Args:
            item: which.
            on_read: told of each piece that was read to prove it, and may end that by an error.
            on_proven: told of bytes that did not pass here.

        Raises:
            DriverError: a copy that is not whole cannot be deleted, or after a failure nobody can tell whether one is
                there.
        """


class ServerCopying:
    """Copies between two drivers on one server. Safe to use from several threads; see `CopyingServer`.

    Args:
        source: where from.
        target: where to; it has the power of HasServerCopy.
        occupied: digests of which something lies at the target: it stays until its successor is whole, so that these
            are streamed.
        copied_min_bytes: smaller blobs are streamed.

    Attributes:
        count, size: the blobs, and their bytes, that were copied and proven.
        refusal: why the server did not copy all of them; empty as long as it does. What it refused at some size is
            not tried again at that size or above: copies in parts may be what it cannot.
    """

    def __init__(self, source: ReadDriver, target: Driver, occupied: Set[Digest], copied_min_bytes: int = 0) -> None:
        if not isinstance(target, HasServerCopy):
            raise TypeError(f"{target.location} copies nothing by itself")
        self._source = source
        self._power: HasServerCopy = target
        self._target: Driver = target
        self._occupied = occupied
        self._copied_min_bytes = copied_min_bytes
        self._lock = threading.Lock()
        self._refused_size: int | None = None
        self._etags: dict[Digest, str] = {}
        self.count = 0
        self.size = 0
        self.refusal = ""

    def noting_tags(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, sorted by digest, and note the entity tags that a listing of the source shows.

        Raises:
            DriverError: the source cannot be listed.
        """
        for prefix, group in groupby(items, key=_shard_of):
            shard = list(group)
            copies = any(item.size >= self._copied_min_bytes for item in shard)
            found = {entry.key: entry.etag for entry in self._source.list(prefix)} if copies else {}
            for item in shard:
                if etag := found.get(BlobData(item.digest).key):
                    self._etags[item.digest] = etag
                yield item

    def copy(self, item: Item, on_read: Callable[[int], None], on_proven: Callable[[int], None]) -> bool:
        """Copy and prove a blob. See `CopyingServer.copy`."""
        etag = self._etags.pop(item.digest, None)
        is_refused = self._refused_size is not None and item.size >= self._refused_size
        if is_refused or item.size < self._copied_min_bytes or item.digest in self._occupied:
            return False
        source = Entry(BlobData(item.digest).key, item.size, 0.0, etag=etag)
        try:
            told = self._power.copy_from(source, self._source.location, item.key)
        except CopyRefused as error:
            self._note_refusal(item.size, error.reason)
            return False
        except DriverError as error:
            if error.retryable:
                self._note_refusal(0, error.reason)
            if not self._lies_there(item.key):
                return False
            told = None  # a try whose answer was lost had its effect
        if not self._is_proven(item, told, on_read, on_proven):
            self._delete(item.key)
            return False
        with self._lock:
            self.count += 1
            self.size += item.size
        return True

    def _lies_there(self, key: str) -> bool:
        try:
            self._target.stat(key)
        except NotFound:
            return False
        return True

    def _is_proven(
        self, item: Item, told: str | None, on_read: Callable[[int], None], on_proven: Callable[[int], None]
    ) -> bool:
        algorithm, digits = split_digest(item.digest)
        if told is not None and algorithm == "sha256":
            on_proven(item.size)
            return told == format_digest(item.digest)
        hasher = hashlib.new(algorithm)
        try:
            with self._target.open(item.key) as stream:
                while piece := stream.read(_PIECE_BYTES):
                    hasher.update(piece)
                    on_read(len(piece))
        except DriverError:
            return False  # it is streamed, or that fails
        return hasher.hexdigest() == digits

    def _note_refusal(self, size: int, reason: str) -> None:
        with self._lock:
            self._refused_size = size if self._refused_size is None else min(size, self._refused_size)
            self.refusal = self.refusal or reason

    def _delete(self, key: str) -> None:
        for outcome in self._target.delete([key]):
            if outcome.outcome == "failed":
                reason = f"a copy that is not whole could not be deleted: {outcome.reason}"
                raise DriverError(reason, operation="delete", key=key, location=self._target.location)


def _shard_of(item: Item) -> str:
    return BlobData(item.digest).key.rsplit("/", 2)[0] + "/"

"""A driver that tries again what may succeed in a moment."""

from __future__ import annotations

import hashlib
import io
import random as random_module
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from regstore_drivers.base import Deleted, Driver, Entry, Source
from regstore_drivers.content import open_source
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound, Unavailable
from regstore_drivers.keys import sort_key
from regstore_drivers.wrappers._forwarding import Forwarding
from regstore_drivers.wrappers._patience import Patience
from regstore_drivers.wrappers._resuming import PIECE_BYTES, Resuming

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

LONGEST_DEADLINE_SECONDS = 120.0
_BATCH_KEYS = 1000


class Retrying(Forwarding):
    """Calls again what failed with a retryable error, after growing random pauses, until the deadline.

    The deadline counts from the beginning of a call; for writes, copies and moves, which last as long as the object
    is large, from their first failure; and for listings and streams from the newest entry or byte that came. When it
    is over, or the storage asks for a longer wait than is left, the last error is raised.

    A call whose answer got lost may have had its effect. So on a second try a write with `if_absent` succeeds when
    the key has the very content that was to be written, a move when the source is gone and the destination there
    (when both are there with the same content, the source is deleted), and a deleted key that is absent counts as gone.

    Never HasLocalPath: readers would go past the wrapper.

    Args:
        driver: the driver to call.
        deadline_seconds: when to give up; at most two minutes.
        sleep: waits so many seconds.
        clock: a clock that never goes back.
        random: draws from [0, 1).

    Raises:
        ValueError: the deadline is not between 0 and two minutes.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        deadline_seconds: float = 110.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if not 0 <= deadline_seconds <= LONGEST_DEADLINE_SECONDS:
            raise ValueError(f"the deadline must be from 0 to {LONGEST_DEADLINE_SECONDS} s, not {deadline_seconds}")
        super().__init__(driver)
        self._new_patience = partial(Patience, deadline_seconds, sleep, clock, random)

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        patience = self._new_patience(started=operation not in ("copy", "copy_from"))
        while True:
            try:
                return call()
            except DriverError as error:
                patience.wait(error)

    def _iterate(self, operation: str, key: str, call: Callable[[], Iterator[T]]) -> Iterator[T]:
        seen: set[T] = set()

        def new_items(_: T | None) -> Iterator[T]:
            for item in call():
                if item not in seen:
                    seen.add(item)
                    yield item

        return self._resume(new_items)

    def _resume(self, items_after: Callable[[T | None], Iterable[T]]) -> Iterator[T]:
        """Yield items; after a failure ask for those after the last one that was yielded."""
        patience = self._new_patience()
        last: T | None = None
        while True:
            try:
                for item in items_after(last):
                    last = item
                    yield item
                    patience.renew()
            except DriverError as error:
                patience.wait(error)
            else:
                return

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield entries; after a failure go on behind the last one. See `ReadDriver.list`."""
        return self._resume(lambda last: self._driver.list(prefix, last.key if last else start_after))

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield names; after a failure go on behind the last one. See `ReadDriver.list_dir`."""

        def names_after(last: str | None) -> Iterator[str]:
            names = self._driver.list_dir(prefix)
            return names if last is None else (name for name in names if sort_key(name) > sort_key(last))

        return self._resume(names_after)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream that goes on where it broke. See `ReadDriver.open`.

        An object that is replaced at that moment gives a mixture: whoever reads what may change compares a digest.
        """
        open_at = partial(self._driver.open, key)
        stream = self._call("open", key, lambda: open_at(offset, length))
        return io.BufferedReader(Resuming(stream, open_at, offset, length, self._new_patience), PIECE_BYTES)

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
        """Store an object; the source is opened anew for each try. See `Driver.write`."""
        patience = self._new_patience(started=False)
        while True:
            try:
                try:
                    return self._driver.write(key, source, size, digest, if_absent=if_absent, mtime_ns=mtime_ns)
                except AlreadyExists:
                    if not (if_absent and patience.is_tried):
                        raise
                    entry = self._driver.stat(key)
                    if not self._has_content(entry, source, size):
                        raise
                    return entry
            except DriverError as error:
                patience.wait(error)

    def move(self, src: str, dst: str) -> None:
        """Rename without overwriting, or finish what a former try began. See `Driver.move`."""
        patience = self._new_patience(started=False)
        while True:
            try:
                try:
                    self._driver.move(src, dst)
                except (NotFound, AlreadyExists):
                    if not (patience.is_tried and self._finish_move(src, dst)):
                        raise
            except DriverError as error:
                patience.wait(error)
            else:
                return

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete in batches of 1,000, and again what the storage was too busy for. See `Driver.delete`."""
        iterator = iter(keys)
        while batch := [*islice(iterator, _BATCH_KEYS)]:
            yield from self._delete_batch(batch)

    def _delete_batch(self, left: builtins.list[str]) -> Iterator[Deleted]:
        patience = self._new_patience()
        is_lost = False
        while True:
            busy: list[Deleted] = []
            problem: DriverError | None = None
            try:
                for outcome in self._driver.delete(tuple(left)):
                    left.remove(outcome.key)
                    if outcome.retryable:
                        busy.append(outcome)
                    elif outcome.outcome == "absent" and is_lost:
                        yield Deleted(outcome.key, "gone")
                    else:
                        yield outcome
            except DriverError as error:
                problem = error
                is_lost = True
            if problem is not None:
                patience.wait(problem)
            elif not busy or not patience.has_waited():
                yield from busy
                return
            left += [outcome.key for outcome in busy]

    def _has_content(self, entry: Entry, source: Source, size: int) -> bool:
        """Tell whether an object has the bytes of a source, by its entity tag if that is an MD5, else by reading it."""
        if entry.size != size:
            return False
        with open_source(source) as stream:
            found = _hash_stream(stream, "md5", "sha256")
        return entry.etag == found["md5"] or self._hash_object(entry.key) == found["sha256"]

    def _finish_move(self, src: str, dst: str) -> bool:
        """Tell whether a move that failed has happened; delete what it copied and did not delete."""
        if src == dst:
            return False
        try:
            copied = self._driver.stat(dst)
        except NotFound:
            return False
        try:
            original = self._driver.stat(src)
        except NotFound:
            return True
        if copied.size != original.size:
            return False
        is_same = original.etag is not None and copied.etag == original.etag
        if not is_same and self._hash_object(src) != self._hash_object(dst):
            return False
        for outcome in self._driver.delete([src]):
            if outcome.outcome == "failed":
                kind = Unavailable if outcome.retryable else DriverError
                raise kind(outcome.reason, operation="move", key=src, location=self.location)
        return True

    def _hash_object(self, key: str) -> str:
        with self._driver.open(key) as stream:
            return _hash_stream(stream, "sha256")["sha256"]


def _hash_stream(stream: BinaryIO, *algorithms: str) -> dict[str, str]:
    hashers = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    while piece := stream.read(PIECE_BYTES):
        for hasher in hashers.values():
            hasher.update(piece)
    return {algorithm: hasher.hexdigest() for algorithm, hasher in hashers.items()}

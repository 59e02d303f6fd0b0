"""Hashing the data of blobs: which, in which order, and what came of each.

Threads suffice: hashlib lets go of the interpreter's lock for every piece of data, and two threads keep two processors
busy.
"""

from __future__ import annotations

import hashlib
import os
import stat as stat_module
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import Digest, format_digest, split_digest
from regstore.errors import InterruptedRunError
from regstore.layout import BlobData
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath, HasStoredChecksum
from regstore_drivers.errors import DriverError, NotFound
from regstore_drivers.wrappers import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

    from regstore.state import State
    from regstore.work import Progress
    from regstore_drivers.base import Driver

_PIECE_BYTES = 1024 * 1024
_BATCH_COUNT = 8
"""Blobs a work item: enough that many small ones do not drown in overhead."""
_REMEMBER_COUNT = 2000
_REMEMBER_SECONDS = 30.0


class Checked(NamedTuple):
    """What came of one blob.

    Attributes:
        digest: its name.
        outcome: `good`, `corrupt`, `gone` (it vanished since it was listed) or `unreadable`.
        size: bytes read, or vouched for by the storage.
        detail: of a corrupt one what it hashes to, of an unreadable one why.
    """

    digest: Digest
    outcome: str
    size: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which blobs are verified; see `regstore.fsck.options.Options`."""

    subset: tuple[int, int] | None = None
    sample: float | None = None
    older_than: float | None = None

    def takes(self, digest: Digest, verified_at: float | None, now: float, random: Random) -> bool:
        """Tell whether a blob is among them.

        Args:
            digest: its name; each is in exactly one of the M parts.
            verified_at: when it was last found whole, in seconds since the epoch; None: never.
            now: seconds since the epoch.
            random: draws the sample.
        """
        if self.subset is not None:
            part, parts = self.subset
            if _number_of(digest) % parts != part - 1:
                return False
        # A time to come was noted by a clock that ran ahead: the blob would not be due for years.
        if self.older_than is not None and verified_at is not None and 0 <= now - verified_at < self.older_than:
            return False
        return self.sample is None or random.random() < self.sample


def _number_of(digest: Digest) -> int:
    """Return a number that spreads digests evenly."""
    return int(split_digest(digest)[1][:15], 16)


def select_blobs(
    shards: Iterable[Iterable[Digest]], selection: Selection, state: State, now: float, random: Random
) -> list[Digest]:
    """Return the digests that are to be verified: those that never were, then the longest unverified first.

    Args:
        shards: the digests of the blobs, by first byte, all that are not SHA-256 after those.
        selection: which of them.
        state: when each was last found whole.
        now: seconds since the epoch.
        random: draws the sample.
    """
    fresh: list[Digest] = []
    known: list[tuple[float, Digest]] = []
    for shard, digests in enumerate(shards):
        times = state.verified_times(shard) if shard < 256 else {}
        for digest in sorted(digests):
            at = times.get(digest)
            if not selection.takes(digest, at, now, random):
                continue
            if at is None:
                fresh.append(digest)
            else:
                known.append((at, digest))
    known.sort()
    return fresh + [digest for _, digest in known]


def verify_blobs(
    driver: Driver,
    digests: Iterable[Digest],
    state: State,
    *,
    jobs: int,
    now: float,
    time_budget: float | None = None,
    bandwidth: int | None = None,
    trust_stored_checksums: bool = False,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[Checked]:
    """Hash blobs and yield what came of each, in the order given.

    Those that are whole are remembered with the time at which the run began, those that are not are forgotten; so it is
    with all that were done when the run is stopped, and they are yielded before the error is raised.

    Args:
        driver: the registry's.
        digests: of the blobs.
        state: where it is remembered when each was found whole.
        jobs: how many are read at once.
        now: the time that is remembered, in seconds since the epoch.
        time_budget: no blob is begun when so many seconds have passed; one that was begun is read to its end.
        bandwidth: bytes a second, of all threads together.
        trust_stored_checksums: a SHA-256 of the whole object that the storage keeps proves it without reading.
        progress: advanced by bytes.
        cancel: asked between pieces.
        clock: a clock that never goes back, in seconds.
        sleep: waits so many seconds, for the bandwidth; None: a wait that a request to stop ends.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()

    def wait(seconds: float) -> None:
        with suppress(InterruptedRunError):  # raised at the end, when all that was done is told
            cancel.wait(seconds)

    if bandwidth:
        driver = Throttled(driver, bandwidth, clock=clock, sleep=sleep or wait)
    deadline = None if time_budget is None else clock() + time_budget

    def is_over() -> bool:
        return cancel.is_requested or (deadline is not None and clock() >= deadline)

    hasher = _Hasher(driver, progress, cancel, is_over, is_trusting=trust_stored_checksums)
    memory = _Memory(state, now, clock)
    try:
        for checked in map_bounded(hasher.check_all, _batches(digests, is_over), jobs):
            for one in checked:
                memory.take(one)
                yield one
    finally:
        memory.store()
    cancel.check()


def _batches(digests: Iterable[Digest], is_over: Callable[[], bool]) -> Iterator[list[Digest]]:
    remaining = iter(digests)
    while not is_over() and (batch := list(islice(remaining, _BATCH_COUNT))):
        yield batch


class _Memory:
    """Hands outcomes to the state, some at a time."""

    def __init__(self, state: State, now: float, clock: Callable[[], float]) -> None:
        self._state = state
        self._now = now
        self._clock = clock
        self._good: list[Digest] = []
        self._bad: list[Digest] = []
        self._stored = clock()

    def take(self, checked: Checked) -> None:
        if checked.outcome == "good":
            self._good.append(checked.digest)
        elif checked.outcome in ("corrupt", "gone"):
            self._bad.append(checked.digest)
        if len(self._good) >= _REMEMBER_COUNT or self._clock() - self._stored >= _REMEMBER_SECONDS:
            self.store()

    def store(self) -> None:
        self._state.remember_verified(self._good, self._now)
        self._state.forget_verified(self._bad)
        self._good, self._bad, self._stored = [], [], self._clock()


class _Hasher:
    """Hashes blobs; called by several threads."""

    def __init__(
        self, driver: Driver, progress: Progress, cancel: Cancel, is_over: Callable[[], bool], *, is_trusting: bool
    ) -> None:
        self._driver = driver
        self._progress = progress
        self._cancel = cancel
        self._is_over = is_over
        self._is_trusting = is_trusting
        self._buffers = threading.local()
        self._lock = threading.Lock()

    def check_all(self, digests: list[Digest]) -> list[Checked]:
        """Check a batch; what is not begun when the run is to stop is left out."""
        done = []
        for digest in digests:
            if self._is_over():  # many batches wait for a thread
                break
            checked = self._check(digest)
            if checked is not None:
                done.append(checked)
        return done

    def _check(self, digest: Digest) -> Checked | None:
        key = BlobData(digest).key
        algorithm, digits = split_digest(digest)
        hasher = hashlib.new(algorithm)
        try:
            if self._is_vouched_for(key, digest):
                size = self._driver.stat(key).size
                self._advance(size)
                return Checked(digest, "good", size)
            if isinstance(self._driver, HasLocalPath):
                size = self._read_file(self._driver.local_path(key), hasher.update)
            else:
                size = self._read_object(key, hasher.update)
        except (NotFound, FileNotFoundError):
            return Checked(digest, "gone", 0)
        except DriverError as error:
            return Checked(digest, "unreadable", 0, str(error))
        except OSError as error:
            # That of a read, unlike that of opening, names no file.
            return Checked(digest, "unreadable", 0, f"{key}: {error.strerror}")
        if self._cancel.is_requested and hasher.hexdigest() != digits:
            return None  # stopped in its midst
        if hasher.hexdigest() != digits:
            return Checked(digest, "corrupt", size, f"its {size} bytes hash to {algorithm}:{hasher.hexdigest()}")
        return Checked(digest, "good", size)

    def _is_vouched_for(self, key: str, digest: Digest) -> bool:
        if not self._is_trusting or not isinstance(self._driver, HasStoredChecksum):
            return False
        return self._driver.stored_checksum(key) == format_digest(digest)

    def _read_file(self, path: str, update: Callable[[memoryview], object]) -> int:
        view: memoryview = getattr(self._buffers, "view", None) or memoryview(bytearray(_PIECE_BYTES))
        self._buffers.view = view
        # Opening a pipe would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(path)  # as the driver says of it
            with suppress(OSError):  # only advice
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            size = 0
            while (count := os.readv(descriptor, [view])) and not self._cancel.is_requested:
                update(view[:count])
                size += count
                self._advance(count)
            return size
        finally:
            os.close(descriptor)

    def _read_object(self, key: str, update: Callable[[bytes], object]) -> int:
        size = 0
        with self._driver.open(key) as stream:
            while (piece := stream.read(_PIECE_BYTES)) and not self._cancel.is_requested:
                update(piece)
                size += len(piece)
                self._advance(len(piece))
        return size

    def _advance(self, count: int) -> None:
        with self._lock:
            self._progress.advance(count)


AGES_SECONDS = {"1d": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0, "90d": 90 * 86400.0}


@dataclass(slots=True)
class Coverage:
    """What share of a volume was found whole how lately.

    Attributes:
        blob_count, total_bytes: of all blobs that are there.
        verified_count, verified_bytes: age (`1d`, `7d`, `30d`, `90d`, `ever`) to blobs and bytes verified within it.
    """

    blob_count: int = 0
    total_bytes: int = 0
    verified_count: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*AGES_SECONDS, "ever"], 0))
    verified_bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*AGES_SECONDS, "ever"], 0))

    def add(self, size: int, verified_at: float | None, now: float) -> None:
        """Count one blob; `verified_at` and `now` in seconds since the epoch."""
        self.blob_count += 1
        self.total_bytes += size
        if verified_at is None:
            return
        for age, seconds in (*AGES_SECONDS.items(), ("ever", float("inf"))):
            if 0 <= now - verified_at < seconds:
                self.verified_count[age] += 1
                self.verified_bytes[age] += size

"""What the target can take: its room, what its server can do, and how fast the way there is."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore import layout
from regstore.transfer.room import block_bytes, check_room
from regstore.work import map_bounded
from regstore_drivers.base import Entry, HasCapacity, HasLocalPath, HasServerCopy, HasWriteFeatures
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DriverError
from regstore_drivers.filesystem import FilesystemDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.migrate.plan import MigrationPlan
    from regstore.registry import Registry
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver, WriteFeatures

_INODES_PER_BLOB, _INODES_PER_LINK, _INODES_PER_TAG = 2, 2, 3
_SAMPLE_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 4 * 1024 * 1024
_SMALL_COUNT = 256


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a run will take, by a short measurement.

    Attributes:
        bytes_per_second: of data, read and written.
        links_per_second: small files or objects.
        seconds: of the whole.
    """

    bytes_per_second: float
    links_per_second: float
    seconds: float


def probe_features(target: Registry) -> WriteFeatures | None:
    """Say what the server of an object store can do, by small objects that are written and deleted; None for others.

    Raises:
        DriverError: nothing can be written there.
    """
    driver = target.driver
    return driver.probe_writes(layout.HOME) if isinstance(driver, HasWriteFeatures) else None


def may_copy_by_server(source: Registry, target: Registry) -> bool:
    """Tell whether both ends seem to be on one server that copies by itself."""
    driver = target.driver
    return isinstance(driver, HasServerCopy) and driver.is_same_server(source.driver.location)


def probe_copies(plan: MigrationPlan, source: Registry, target: Registry) -> None:
    """Find out whether the target's server copies from the source, and how, by a copy of a small blob.

    Raises:
        DriverError: the target's storage failed.
    """
    driver = target.driver
    if not isinstance(driver, HasServerCopy) or not may_copy_by_server(source, target):
        return
    sample = min(((size, digest) for digest, size in plan.blobs.items() if size), default=None)
    if sample is None:
        return
    entry = Entry(layout.BlobData(sample[1]).key, sample[0], 0.0)
    found = driver.probe_copies(entry, source.driver.location, layout.HOME)
    if found.has_copies:
        plan.copies, plan.is_server_side = found, True
    else:
        plan.copy_refusal = found.refusal


def probe_own_copies(plan: MigrationPlan, target: Registry) -> None:
    """Find out how the target's server copies inside the target, by small objects that are written and deleted.

    Raises:
        DriverError: the target's storage failed.
    """
    driver = target.driver
    if not isinstance(driver, HasServerCopy):
        return
    key = f"{layout.HOME}regstore-probe-{secrets.token_hex(8)}"
    try:
        plan.copies = driver.probe_copies(driver.write(key, b"probe", 5), driver.location, layout.HOME)
    finally:
        list(driver.delete([key]))


def check_space(plan: MigrationPlan, source: Registry, target: Registry) -> None:
    """Refuse what a file system has no room for. Where both ends lie on one, data may need none.

    Raises:
        RefusedError: there are too few bytes or inodes.
        DriverError: the target cannot say.
    """
    driver = target.driver
    if not isinstance(driver, HasLocalPath):
        return
    place = _existing(driver.local_path(""))
    room: HasCapacity = FilesystemDriver(place)
    is_shared = isinstance(source.driver, HasLocalPath) and os.stat(place).st_dev == _device_of(source.driver)
    inodes = len(plan.blobs) * _INODES_PER_BLOB + plan.link_count * _INODES_PER_LINK
    inodes += len(plan.new_tags) * _INODES_PER_TAG
    needed = 0 if is_shared else block_bytes(plan.blobs.values())
    check_room(room.capacity(), needed, inodes, plan.target, "make room, or name a target on another disk")


def estimate(
    plan: MigrationPlan, source: Registry, target: Registry, jobs: int, progress: Progress, cancel: Cancel
) -> Estimate:
    """Measure for some seconds, and say how long a run will take. What is written for it is removed again.

    Raises:
        DriverError: the target cannot be written.
        InterruptedRunError: somebody asked to stop.
    """
    progress.start("measuring")
    read = _measure_reading(plan, source.driver, jobs, cancel)
    written, small = _measure_writing(target.driver, jobs)
    progress.finish()
    rate = 1 / (1 / read + 1 / written)
    seconds = plan.total_bytes / rate + (plan.link_count + len(plan.blobs)) / small
    return Estimate(rate, small, seconds)


def _measure_reading(plan: MigrationPlan, driver: Driver, jobs: int, cancel: Cancel) -> float:
    """Return bytes a second of reading and hashing a sample of what is to be copied."""
    sample: list[tuple[str, int]] = []
    left = _SAMPLE_BYTES
    for digest, size in sorted(plan.blobs.items(), key=lambda item: -item[1]):
        if left <= 0:
            break
        sample.append((layout.BlobData(digest).key, min(size, _PIECE_BYTES)))
        left -= min(size, _PIECE_BYTES)

    def read(item: tuple[str, int]) -> int:
        cancel.check()
        try:
            with driver.open(item[0], 0, item[1]) as stream:
                data = stream.read()
        except DriverError:
            return 0  # the run will say what is wrong with it
        hashlib.sha256(data)
        return len(data)

    began = time.perf_counter()
    count = sum(map_bounded(read, sample, jobs))
    return max(count, 1) / max(time.perf_counter() - began, 1e-6)


def _measure_writing(driver: Driver, jobs: int) -> tuple[float, float]:
    """Return bytes a second of large, and number a second of small files or objects."""
    if isinstance(driver, HasLocalPath):
        with tempfile.TemporaryDirectory(prefix="regstore-probe-", dir=_existing(driver.local_path(""))) as directory:
            writer = BulkWriter(directory)
            return _time_writes(writer, "", jobs, writer.sync)
    return _time_writes(driver, layout.HOME, jobs, lambda: None)


def _time_writes(writer: Driver | BulkWriter, prefix: str, jobs: int, sync: Callable[[], None]) -> tuple[float, float]:
    """Write as a run does, and remove it again from an object store."""
    data = os.urandom(_PIECE_BYTES)
    stem = f"{prefix}regstore-probe-{secrets.token_hex(8)}"
    large = [f"{stem}/large-{number}" for number in range(max(jobs // 4, 1))]
    small = [f"{stem}/{number}/link" for number in range(_SMALL_COUNT)]
    try:
        began = time.perf_counter()
        list(map_bounded(lambda key: writer.write(key, data, len(data)), large, jobs))
        sync()
        middle = time.perf_counter()
        list(map_bounded(lambda key: writer.write(key, b"link", 4), small, jobs))
        sync()
        ended = time.perf_counter()
    finally:
        if not isinstance(writer, BulkWriter):
            list(writer.delete([*large, *small]))
    return len(large) * len(data) / max(middle - began, 1e-6), len(small) / max(ended - middle, 1e-6)


def _existing(path: str) -> str:
    """Return a path, or the nearest directory above it that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _device_of(driver: HasLocalPath) -> int:
    return os.stat(driver.local_path(layout.V2)).st_dev

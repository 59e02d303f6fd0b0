"""Any sequence of calls, compared with a dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from regstore_drivers.base import Driver
from regstore_drivers.errors import ShortRead
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.testing.state_machine import DriverMachine, driver_state_machine
from regstore_drivers.wrappers import Counting, Faulty, Recording, Retrying, Throttled


@contextmanager
def _open_files() -> Iterator[Driver]:
    with tempfile.TemporaryDirectory() as directory:
        yield FilesystemDriver(directory)


@contextmanager
def _open_memory() -> Iterator[Driver]:
    yield MemoryDriver()


def _wrapped(
    open_driver: Callable[[], AbstractContextManager[Driver]], wrap: Callable[[Driver], Driver]
) -> Callable[[], AbstractContextManager[Driver]]:
    @contextmanager
    def open_wrapped() -> Iterator[Driver]:
        with open_driver() as driver:
            yield wrap(driver)

    return open_wrapped


def _over_files(wrap: Callable[[Driver], Driver], examples: int = 3) -> type[DriverMachine]:
    return driver_state_machine(_wrapped(_open_files, wrap), key_may_be_directory=False, examples=examples)


def _over_memory(wrap: Callable[[Driver], Driver], examples: int = 5) -> type[DriverMachine]:
    return driver_state_machine(_wrapped(_open_memory, wrap), examples=examples)


def _retry_what_gets_lost(driver: Driver) -> Driver:
    """Lose the reply of every third call and break every third listing and stream, and try again."""
    faulty = Faulty(driver)
    for nth in range(2, 100, 3):
        for operation in ("stat", "read", "write", "copy", "move", "delete"):
            faulty.lose_reply(operation, nth=nth)
        for operation in ("open", "list", "list_dir"):
            faulty.fail(operation, error=ShortRead, nth=nth, after=nth % 4)
    return Retrying(faulty, sleep=lambda _: None)


TestFiles = driver_state_machine(_open_files, key_may_be_directory=False, examples=12).TestCase
TestMemory = driver_state_machine(_open_memory, examples=15).TestCase
TestRetryingFiles = _over_files(Retrying).TestCase
TestRetryingMemory = _over_memory(Retrying).TestCase
TestRetryingLosses = driver_state_machine(
    _wrapped(_open_memory, _retry_what_gets_lost), tells_absent=False, examples=10
).TestCase
TestCountingFiles = _over_files(Counting).TestCase
TestCountingMemory = _over_memory(Counting).TestCase
TestFaultyFiles = _over_files(Faulty).TestCase
TestFaultyMemory = _over_memory(Faulty).TestCase
TestRecordingFiles = _over_files(Recording).TestCase
TestRecordingMemory = _over_memory(Recording).TestCase
TestThrottledFiles = _over_files(lambda driver: Throttled(driver, None)).TestCase
TestThrottledMemory = _over_memory(lambda driver: Throttled(driver, None)).TestCase

"""Any sequence of calls, compared with a dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from regstore_drivers.base import Driver
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


def _over_files(wrap: Callable[[Driver], Driver], examples: int = 15) -> type[DriverMachine]:
    return driver_state_machine(_wrapped(_open_files, wrap), key_may_be_directory=False, examples=examples)


def _over_memory(wrap: Callable[[Driver], Driver]) -> type[DriverMachine]:
    return driver_state_machine(_wrapped(_open_memory, wrap))


def _lossy(driver: Driver) -> Driver:
    """Lose the reply of every third call that retrying makes, and cut listings and streams."""
    faulty = Faulty(driver)
    for operation in ("stat", "read", "open", "write", "copy", "move", "delete", "list", "list_dir"):
        for nth in range(2, 3000, 3):
            faulty.lose_reply(operation, nth=nth)
    return Retrying(faulty, sleep=lambda _: None)


TestFiles = driver_state_machine(_open_files, key_may_be_directory=False).TestCase
TestMemory = driver_state_machine(_open_memory).TestCase
TestRetryingFiles = _over_files(Retrying).TestCase
TestRetryingMemory = _over_memory(Retrying).TestCase
TestCountingFiles = _over_files(Counting).TestCase
TestCountingMemory = _over_memory(Counting).TestCase
TestFaultyFiles = _over_files(Faulty).TestCase
TestFaultyMemory = _over_memory(Faulty).TestCase
TestRecordingFiles = _over_files(Recording).TestCase
TestRecordingMemory = _over_memory(Recording).TestCase
TestThrottledFiles = _over_files(lambda driver: Throttled(driver, None)).TestCase
TestThrottledMemory = _over_memory(lambda driver: Throttled(driver, None)).TestCase

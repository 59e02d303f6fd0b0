"""The suite for all drivers, on those that need no server and on every wrapper over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore_drivers.base import Driver
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.testing import DriverSuite, ReadDriverSuite
from regstore_drivers.wrappers import Counting, Faulty, ReadOnly, Recording, Retrying, Throttled


class FilesystemSuite(DriverSuite):
    key_may_be_directory = False
    many_keys = 20  # a directory has no pages

    @pytest.fixture
    def files(self, tmp_path: Path) -> FilesystemDriver:
        return FilesystemDriver(str(tmp_path))


class TestFilesystem(FilesystemSuite):
    many_keys = 200

    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return files


class TestMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return MemoryDriver()


class TestRetryingFiles(FilesystemSuite):
    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return Retrying(files)


class TestRetryingMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return Retrying(MemoryDriver())


class TestCountingFiles(FilesystemSuite):
    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return Counting(files)


class TestCountingMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return Counting(MemoryDriver())


class TestFaultyFiles(FilesystemSuite):
    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return Faulty(files)


class TestFaultyMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return Faulty(MemoryDriver())


class TestRecordingFiles(FilesystemSuite):
    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return Recording(files)


class TestRecordingMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return Recording(MemoryDriver())


class TestThrottledFiles(FilesystemSuite):
    @pytest.fixture
    def driver(self, files: FilesystemDriver) -> Driver:
        return Throttled(files, 1e12)


class TestThrottledMemory(DriverSuite):
    @pytest.fixture
    def driver(self) -> Driver:
        return Throttled(MemoryDriver(), 1e12)


class TestReadOnlyFiles(ReadDriverSuite):
    key_may_be_directory = False
    many_keys = 20

    @pytest.fixture
    def store(self, tmp_path: Path) -> Driver:
        return FilesystemDriver(str(tmp_path))

    @pytest.fixture
    def driver(self, store: Driver) -> ReadOnly:
        return ReadOnly(store)


class TestReadOnlyMemory(ReadDriverSuite):
    @pytest.fixture
    def store(self) -> Driver:
        return MemoryDriver()

    @pytest.fixture
    def driver(self, store: Driver) -> ReadOnly:
        return ReadOnly(store)

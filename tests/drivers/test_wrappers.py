"""What wrappers count, record and forward."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regstore_drivers.base import (
    Capacity,
    CopyFeatures,
    Driver,
    Entry,
    HasCapacity,
    HasClock,
    HasDirectories,
    HasLocalPath,
    HasMultipart,
    HasMultipartResume,
    HasServerCopy,
    HasSmallListing,
    HasStoredChecksum,
    HasVersions,
    MultipartUpload,
    ReadDriver,
)
from regstore_drivers.errors import DigestMismatch, NotFound, ReadOnlyDriver
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Counting, Faulty, ReadOnly, Recording, Retrying, Throttled

POWERS = (
    HasCapacity,
    HasClock,
    HasDirectories,
    HasLocalPath,
    HasMultipart,
    HasMultipartResume,
    HasServerCopy,
    HasSmallListing,
    HasStoredChecksum,
    HasVersions,
)
WRAPPERS: dict[str, Callable[[Driver], Driver]] = {
    "Counting": Counting,
    "Faulty": Faulty,
    "Recording": Recording,
    "Retrying": Retrying,
    "Throttled": lambda driver: Throttled(driver, None),
}


class Mighty(MemoryDriver):
    """A driver with all powers there are."""

    is_closed = False

    def capacity(self) -> Capacity:
        return Capacity(4, 3, 2, 1)

    def is_versioned(self) -> bool:
        return True

    def stored_checksum(self, key: str) -> str | None:
        return f"sha256:{key}"

    def remove_empty_directory(self, prefix: str) -> bool:
        return prefix == "empty/"

    def resume_multipart(self, upload: MultipartUpload) -> None:
        self.resumed = upload

    def watch_multipart(self, on_begin: Callable[[MultipartUpload], object] | None) -> None:
        self.on_begin = on_begin

    def is_same_server(self, location: str) -> bool:
        return location == "here"

    def copy_from(self, source: Entry, location: str, key: str) -> str | None:
        return f"sha256:{source.key} of {location} to {key}"

    def probe_copies(self, source: Entry, location: str, directory: str) -> CopyFeatures:
        return CopyFeatures(True, True, True)

    def local_path(self, key: str) -> str:
        return f"/{key}"

    def close(self) -> None:
        self.is_closed = True


def powers_of(driver: ReadDriver) -> set[type]:
    return {power for power in POWERS if isinstance(driver, power)}


class TestPowers:
    @pytest.mark.parametrize("name", WRAPPERS)
    def test_a_wrapper_has_those_of_its_driver_but_no_local_path(self, name: str, tmp_path: Path) -> None:
        wrap = WRAPPERS[name]
        assert powers_of(wrap(MemoryDriver())) == {HasClock, HasMultipart, HasSmallListing}
        assert powers_of(wrap(FilesystemDriver(str(tmp_path)))) == {HasCapacity, HasDirectories}
        assert powers_of(wrap(Mighty())) == {*POWERS} - {HasLocalPath}
        assert powers_of(wrap(wrap(Mighty()))) == {*POWERS} - {HasLocalPath}

    def test_read_only_has_those_that_read(self, tmp_path: Path) -> None:
        assert powers_of(ReadOnly(MemoryDriver())) == {HasClock, HasMultipart, HasSmallListing}
        assert powers_of(ReadOnly(FilesystemDriver(str(tmp_path)))) == {HasCapacity, HasLocalPath}
        assert powers_of(ReadOnly(Mighty())) == {*POWERS} - {HasDirectories, HasMultipartResume, HasServerCopy}

    @pytest.mark.parametrize("name", [*WRAPPERS, "ReadOnly"])
    def test_they_are_those_of_the_driver(self, name: str) -> None:
        mighty = Mighty(clock=lambda: 42.0)
        upload = mighty.begin_multipart("a", size=5)
        driver: ReadDriver = ReadOnly(mighty) if name == "ReadOnly" else WRAPPERS[name](mighty)
        assert isinstance(driver, HasCapacity)
        assert driver.capacity() == Capacity(4, 3, 2, 1)
        assert isinstance(driver, HasClock)
        assert driver.now() == 42.0
        assert isinstance(driver, HasStoredChecksum)
        assert driver.stored_checksum("k") == "sha256:k"
        assert isinstance(driver, HasVersions)
        assert driver.is_versioned()
        assert isinstance(driver, HasMultipart)
        assert [*driver.list_multipart("")] == [upload]
        if name == "ReadOnly":
            with pytest.raises(ReadOnlyDriver) as caught:
                driver.abort_multipart(upload)
            assert (caught.value.key, caught.value.operation) == ("a", "abort_multipart")
        else:
            assert isinstance(driver, HasDirectories)
            assert driver.remove_empty_directory("empty/")
            assert not driver.remove_empty_directory("full/")
            assert isinstance(driver, HasMultipartResume)
            driver.resume_multipart(upload)
            assert mighty.resumed == upload
            driver.watch_multipart(print)
            assert mighty.on_begin is print
            assert isinstance(driver, HasServerCopy)
            assert driver.is_same_server("here")
            assert driver.copy_from(Entry("a", 1, 0.0), "here", "b") == "sha256:a of here to b"
            assert driver.probe_copies(Entry("a", 1, 0.0), "here", "x/").has_copies
            assert driver.abort_multipart(upload)
            assert not driver.abort_multipart(upload)

    @pytest.mark.parametrize("name", [*WRAPPERS, "ReadOnly"])
    def test_wrappers_pass_on_what_they_are_over(self, name: str) -> None:
        mighty = Mighty("name")
        driver: ReadDriver = ReadOnly(mighty) if name == "ReadOnly" else WRAPPERS[name](mighty)
        assert (driver.location, driver.scheme) == ("memory://name", "memory")
        driver.close()
        assert mighty.is_closed


class TestReadOnly:
    def test_it_has_no_method_that_writes(self) -> None:
        driver = ReadOnly(MemoryDriver())
        assert not isinstance(driver, Driver)
        for name in ("write", "copy", "move", "delete", "remove_empty_directory"):
            assert not hasattr(driver, name)

    def test_it_gives_the_paths_of_files(self, tmp_path: Path) -> None:
        driver = ReadOnly(FilesystemDriver(str(tmp_path)))
        assert isinstance(driver, HasLocalPath)
        assert driver.local_path("a/b") == f"{tmp_path}/a/b"


class TestCounting:
    def test_calls_are_counted_by_operation(self) -> None:
        driver = Counting(MemoryDriver())
        driver.write("a", b"12345", 5)
        driver.copy("a", "b")
        driver.move("b", "c")
        driver.stat("a")
        driver.read("a")
        assert len([*driver.list("")]) == len([*driver.list_dir("")]) == 2
        assert [outcome.outcome for outcome in driver.delete(["a", "c"])] == ["gone", "gone"]
        with pytest.raises(NotFound):
            driver.stat("a")
        assert driver.counts == {
            "write": 1, "copy": 1, "move": 1, "stat": 2, "read": 1, "list": 1, "list_dir": 1, "delete": 1,
        }  # fmt: skip
        driver.reset()
        assert driver.counts == {}

    def test_powers_are_counted(self) -> None:
        driver = Counting(MemoryDriver())
        assert isinstance(driver, HasClock)
        driver.now()
        assert isinstance(driver, HasMultipart)
        assert [*driver.list_multipart("")] == []
        assert driver.counts == {"now": 1, "list_multipart": 1}

    def test_bytes_are_counted_when_they_pass(self) -> None:
        driver = Counting(MemoryDriver())
        driver.write("a", bytes(1000), 1000)
        driver.write("b", lambda: io.BytesIO(bytes(500)), 500)
        assert (driver.bytes_read, driver.bytes_written) == (0, 1500)
        driver.read("a")
        with driver.open("a", 100) as stream:
            assert driver.bytes_read == 1000
            assert len(stream.read(10)) == 10
            assert driver.bytes_read == 1010
            assert len(stream.read()) == 890
        assert driver.bytes_read == 1900
        with pytest.raises(DigestMismatch):
            driver.write("c", bytes(10), 20)
        assert driver.bytes_written == 1510
        driver.reset()
        assert (driver.bytes_read, driver.bytes_written) == (0, 0)

    def test_threads_are_counted_exactly(self) -> None:
        driver = Counting(MemoryDriver())
        driver.write("a", b"12345", 5)

        def work(_: int) -> None:
            for _ in range(500):
                driver.read("a")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert driver.counts["read"] == 4000
        assert driver.bytes_read == 20_000


class TestRecording:
    def test_calls_are_recorded_in_order(self) -> None:
        driver = Recording(MemoryDriver())
        driver.write("a", b"12345", 5)
        driver.copy("a", "b")
        driver.move("b", "c")
        driver.stat("a")
        driver.read("a")
        driver.open("a").close()
        assert len([*driver.list("x/")]) == len([*driver.list_dir("y/")]) == 0
        assert len([*driver.delete(["c", "missing"])]) == 2
        assert driver.calls == [
            ("write", "a"), ("copy", "a"), ("move", "b"), ("stat", "a"), ("read", "a"), ("open", "a"), ("list", "x/"),
            ("list_dir", "y/"), ("delete", "c"), ("delete", "missing"),
        ]  # fmt: skip
        driver.reset()
        assert driver.calls == []

    def test_failed_calls_are_recorded(self) -> None:
        driver = Recording(MemoryDriver())
        with pytest.raises(NotFound):
            driver.read("a")
        assert driver.calls == [("read", "a")]

    def test_powers_are_recorded(self) -> None:
        memory = MemoryDriver()
        upload = memory.begin_multipart("a/b")
        driver = Recording(memory)
        assert isinstance(driver, HasMultipart)
        assert [*driver.list_multipart("a/")] == [upload]
        driver.abort_multipart(upload)
        assert driver.calls == [("list_multipart", "a/"), ("abort_multipart", "a/b")]

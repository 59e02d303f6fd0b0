"""The copy engine, its journal, and its brake."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from regstore.bandwidth import Bandwidth, Slot, Timetable
from regstore.digest import Digest, parse_digest
from regstore.errors import InterruptedRunError
from regstore.transfer import Failed, Item, Paced, VolumeOrigin, copy_blobs, open_journal
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import Driver, MultipartUpload
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DriverError, NotFound, PermissionDenied
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support.images import digest_of
from support.volume import blob_key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DATA = [b"one", b"two" * 50_000, b"", b"three" * 200_000]


def digest(data: bytes) -> Digest:
    return parse_digest(digest_of(data))


def items() -> list[Item]:
    return [Item(digest(data), len(data), f"to/{digest(data).hex()}") for data in DATA]


@pytest.fixture
def source(tmp_path: Path) -> FilesystemDriver:
    """A volume with the data."""
    for data in DATA:
        path = tmp_path / "source" / blob_key(digest_of(data))
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return FilesystemDriver(str(tmp_path / "source"))


def object_source() -> MemoryDriver:
    driver = MemoryDriver()
    for data in DATA:
        driver.write(blob_key(digest_of(data)), data, len(data))
    return driver


def copy(source: Driver, target: Driver | BulkWriter, jobs: int = 2, **options: object) -> list[Item | Failed]:
    arguments = {"progress": NoProgress(), "cancel": Cancel(), **options}
    return list(copy_blobs(items(), VolumeOrigin(source), target, jobs=jobs, **arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("kind", ["files", "file to object", "object to file", "objects"])
def test_data_are_copied_between_all_kinds_of_storage(
    source: FilesystemDriver, tmp_path: Path, kind: str, jobs: int
) -> None:
    (tmp_path / "target").mkdir()
    origin: Driver = source if kind.startswith("file") else object_source()
    is_local = kind in ("files", "object to file")
    driver: Driver = FilesystemDriver(str(tmp_path / "target")) if is_local else MemoryDriver()
    target = BulkWriter(str(tmp_path / "target")) if is_local else driver

    assert sorted(copy(origin, target, jobs)) == sorted(items())

    assert {entry.key: driver.read(entry.key) for entry in driver.list("")} == {
        f"to/{digest(data).hex()}": data for data in DATA
    }


def spoil_with(data: bytes | None) -> Callable[[Path], object]:
    return lambda path: path.unlink() if data is None else path.write_bytes(data)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "missing"), (DATA[1][:-1], "corrupt"), (b"x" + DATA[1][1:], "corrupt"), (b"", "corrupt")],
    ids=["missing", "cut", "rotten", "empty"],
)
@pytest.mark.parametrize("is_local", [True, False])
def test_what_is_wrong_is_told_and_the_rest_goes_on(
    source: FilesystemDriver, tmp_path: Path, content: bytes | None, kind: str, is_local: bool
) -> None:
    spoil_with(content)(tmp_path / "source" / blob_key(digest_of(DATA[1])))
    (tmp_path / "target").mkdir()
    target = BulkWriter(str(tmp_path / "target")) if is_local else MemoryDriver()

    outcomes = copy(source, target)

    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert [(one.item.digest, one.kind) for one in failed] == [(digest(DATA[1]), kind)]
    assert len(outcomes) == len(DATA)


def test_what_is_written_at_this_moment_is_read_again(source: FilesystemDriver, tmp_path: Path) -> None:
    """A registry of the 2.x line writes manifests in place."""
    place = tmp_path / "source" / blob_key(digest_of(DATA[1]))
    place.write_bytes(DATA[1][:10])

    class Writing(VolumeOrigin):
        def size(self, digest: Digest) -> int:
            place.write_bytes(DATA[1])
            return super().size(digest)

    (tmp_path / "target").mkdir()
    target = BulkWriter(str(tmp_path / "target"))
    outcomes = copy_blobs(items(), Writing(source), target, jobs=1, progress=NoProgress(), cancel=Cancel())

    assert sorted(outcomes) == sorted(items())


def test_an_origin_that_cannot_be_read_is_not_the_targets_fault() -> None:
    source = Faulty(object_source())
    source.fail("open", blob_key(digest_of(DATA[1])), PermissionDenied, times=None)

    outcomes = copy(source, MemoryDriver())

    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert failed.kind == "unreadable"


def test_a_target_that_fails_ends_the_copy(source: FilesystemDriver) -> None:
    target = Faulty(MemoryDriver())
    target.fail("write", "*", PermissionDenied, times=None)

    with pytest.raises(PermissionDenied):
        copy(source, target)


def test_a_flush_that_fails_leaves_nothing_half_written_by_the_threads_beside_it(
    source: FilesystemDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        time.sleep(0.05)  # the others write meanwhile
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("regstore_drivers.bulk.sync_file_system", fail)
    monkeypatch.setattr("regstore.transfer.copying._BATCH_COUNT", 1)
    (tmp_path / "target").mkdir()

    with pytest.raises(DriverError):
        copy(source, BulkWriter(str(tmp_path / "target")), 4)

    for path in (tmp_path / "target/to").iterdir():  # large data have their names at once
        assert digest(path.read_bytes()).hex() == path.name


def test_a_stop_ends_between_two_pieces(source: FilesystemDriver, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    cancel = Cancel()

    class Stop(NoProgress):
        def advance(self, count: int = 1) -> None:
            cancel.request()

    with pytest.raises(InterruptedRunError):
        copy(source, BulkWriter(str(tmp_path / "target")), progress=Stop(), cancel=cancel)

    for path in (tmp_path / "target/to").iterdir():  # large data have their names at once
        assert digest(path.read_bytes()).hex() == path.name


def test_the_journal_is_told_what_is_durable_and_outlives_a_death(source: FilesystemDriver, tmp_path: Path) -> None:
    purpose = {"store": "x"}
    journal = open_journal("restore", "file:///target", purpose, tmp_path)
    assert not journal.is_resumed
    copy(source, MemoryDriver(), journal=journal)
    journal.close()

    again = open_journal("restore", "file:///target", purpose, tmp_path)
    other = open_journal("restore", "file:///target", {"store": "y"}, tmp_path)

    assert again.is_resumed
    assert again.done == {digest(data): len(data) for data in DATA}
    assert not other.is_resumed
    assert other.done == {}
    again.finish()
    assert not open_journal("restore", "file:///target", purpose, tmp_path).is_resumed


def test_the_journal_knows_its_uploads_and_no_others(tmp_path: Path) -> None:
    ours, other = MultipartUpload("a", "1", 5.0), MultipartUpload("a", "2", 5.0)
    first = open_journal("test", "memory://", {}, tmp_path)
    first.begin()
    first.note_upload(ours)
    first.add([(digest(DATA[0]), 3)])
    first.close()

    second = open_journal("test", "memory://", {}, tmp_path)
    second.begin()
    second.close()

    third = open_journal("test", "memory://", {}, tmp_path)
    assert third.has_begun(MultipartUpload("a", "1", 6.0))
    assert not third.has_begun(other)
    assert third.done == {digest(DATA[0]): 3}


def test_half_a_record_is_passed_over(tmp_path: Path) -> None:
    journal = open_journal("restore", "target", {}, tmp_path)
    journal.add([(digest(b"one"), 3), (digest(b"two"), 3)])
    journal.close()
    (path,) = tmp_path.glob("*.journal")
    path.write_bytes(path.read_bytes()[:-1])

    again = open_journal("restore", "target", {}, tmp_path)

    assert again.done == {digest(b"one"): 3}
    again.add([(digest(b"three"), 5)])
    again.close()
    assert open_journal("restore", "target", {}, tmp_path).done == {digest(b"one"): 3, digest(b"three"): 5}


def test_a_journal_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = open_journal("restore", "target", {}, tmp_path / "file")

    journal.begin()
    journal.add([(digest(b"one"), 3)])
    journal.finish()

    assert journal.done == {digest(b"one"): 3}


def test_bytes_are_held_back_and_other_counts_are_not() -> None:
    paced = Paced(NoProgress(), 1000, Cancel())
    started = time.monotonic()
    paced.start("items", 10)
    paced.advance(5000)
    assert time.monotonic() - started < 4  # at this rate it would be 5
    paced.start("data", 1300, "B")
    paced.advance(1000)
    paced.advance(300)
    assert 0.25 < time.monotonic() - started < 5
    paced.finish()


def test_a_wait_for_the_bandwidth_ends_when_asked_to() -> None:
    cancel = Cancel()
    paced = Paced(NoProgress(), 10, cancel)
    paced.start("data", 100, "B")
    cancel.request()

    with pytest.raises(InterruptedRunError):
        paced.advance(1000)


def test_a_volume_is_only_read() -> None:
    origin = VolumeOrigin(object_source())

    assert origin.size(digest(DATA[0])) == 3
    with origin.open(digest(DATA[0])) as stream:
        assert stream.read() == b"one"
    assert origin.path(digest(DATA[0])) is None
    assert origin.content(digest(DATA[0])) is None
    assert not origin.is_local
    with pytest.raises(NotFound):
        origin.size(digest(b"nothing"))


@pytest.mark.parametrize(
    ("bandwidth", "jobs"),
    [
        (10 * 1024 * 1024, 16),
        (512 * 1024, 10),
        (1000, 1),
        (Timetable((Slot(0, None), Slot(600, 256 * 1024))), 5),
        (Timetable((Slot(0, None),)), 16),
    ],
)
def test_a_slow_copy_has_so_few_jobs_that_none_waits_for_long(bandwidth: Bandwidth, jobs: int) -> None:
    assert Paced(NoProgress(), bandwidth, Cancel()).jobs_within(16) == jobs


def test_an_unknown_error_of_a_stream_is_unreadable() -> None:
    class Broken(VolumeOrigin):
        def open(self, digest: Digest) -> BinaryIO:
            class Stream(io.BytesIO):
                def readinto(self, _: WriteableBuffer, /) -> int:
                    raise DriverError("the disk failed", operation="read", key="x")

            return Stream()

    outcomes = list(
        copy_blobs(items()[:1], Broken(object_source()), MemoryDriver(), jobs=1, progress=NoProgress(), cancel=Cancel())
    )

    (failed,) = outcomes
    assert isinstance(failed, Failed)
    assert failed.kind == "unreadable"
    assert "the disk failed" in failed.detail

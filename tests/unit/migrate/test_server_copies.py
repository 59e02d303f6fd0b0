"""Migrations between two places on one server, which copies the data by itself."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path

import pytest

from regstore import layout
from regstore.errors import InterruptedRunError
from regstore_drivers.base import Deleted, Entry
from regstore_drivers.errors import CopyRefused, DriverError, Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Counting
from support.backup import objects_of
from support.copying_memory import CopyingMemory
from support.images import digest_of, layers
from support.migration import migrate, migration, verify, worst
from support.volume import VolumeWriter, blob_key

LARGE = b"large" * 300_000
FIRST = b"first" * 299_999


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where regstore remembers what it learned."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def source() -> MemoryDriver:
    """A registry with two images that share a layer."""
    driver = MemoryDriver(f"old-{uuid.uuid4().hex}")
    push(driver, "v1", [LARGE, FIRST])
    push(driver, "v2", [LARGE, b"second"])
    return driver


@pytest.fixture
def target(source: MemoryDriver) -> CopyingMemory:
    """An empty place on the same server."""
    return CopyingMemory(f"new-{uuid.uuid4().hex}", source)


def push(driver: MemoryDriver, tag: str, data: list[bytes]) -> None:
    """Put an image into a registry."""
    VolumeWriter(lambda key, content: driver.write(key, content, len(content))).push_image("app", tag, data)


def blobs_of(driver: MemoryDriver) -> dict[str, int]:
    """Return key and size of the data of a registry."""
    return {entry.key: entry.size for entry in driver.list(layout.BLOBS)}


def rot(driver: MemoryDriver, data: bytes) -> str:
    """Damage a blob, at the same size, and return its digest."""
    digest = digest_of(data)
    driver.write(blob_key(digest), bytes(len(data)), len(data))
    return digest


def test_no_data_pass_this_host(source: MemoryDriver, target: CopyingMemory) -> None:
    reading, writing = Counting(source), Counting(target)

    result = migrate(reading, writing)

    assert worst(result) == set()
    assert objects_of(target) == objects_of(source)
    assert sorted(target.copied) == sorted(blobs_of(source))
    assert (result.server_count, result.server_bytes) == (result.copied_count, result.copied_bytes)
    assert result.server_bytes == sum(blobs_of(source).values())
    assert not result.copy_refusal
    assert reading.bytes_read + writing.bytes_read + writing.bytes_written < len(LARGE) / 2
    again = migrate(reading, writing)
    assert (again.copied_count, again.server_count, again.link_count) == (0, 0, 0)
    assert worst(verify(source, target, reads_back=True)) == set()


def test_without_checksums_copies_are_read_and_small_data_are_streamed(
    source: MemoryDriver, target: CopyingMemory
) -> None:
    target.tells_checksums = False
    reading, writing = Counting(source), Counting(target)

    result = migrate(reading, writing)

    assert objects_of(target) == objects_of(source)
    assert sorted(target.copied) == sorted(map(blob_key, map(digest_of, (LARGE, FIRST))))
    assert result.server_bytes == len(LARGE) + len(FIRST)
    assert reading.bytes_read < len(LARGE) / 2
    assert writing.bytes_read > result.server_bytes
    assert writing.bytes_written < len(LARGE) / 2


def test_a_limit_does_not_hold_back_what_does_not_pass_here(source: MemoryDriver, target: CopyingMemory) -> None:
    began = time.monotonic()
    migrate(source, target, bandwidth=1000)
    assert time.monotonic() - began < 60  # it would take 150


@pytest.mark.parametrize("tells_checksums", [True, False])
def test_damage_of_the_source_is_found_as_ever(
    source: MemoryDriver, target: CopyingMemory, tells_checksums: bool
) -> None:
    target.tells_checksums = tells_checksums
    digest = rot(source, FIRST)

    result = migrate(source, target)

    assert ("blob-corrupt", digest) in worst(result)
    assert blob_key(digest) in target.copied
    assert blob_key(digest) not in blobs_of(target)
    assert result.server_count == (result.copied_count if tells_checksums else 1)
    plain = MemoryDriver("plain")
    assert worst(migrate(source, plain)) == worst(result)
    assert objects_of(plain) == objects_of(target)


@pytest.mark.parametrize("tells_checksums", [True, False])
def test_a_copy_that_rotted_on_the_way_is_replaced(
    source: MemoryDriver, target: CopyingMemory, tells_checksums: bool
) -> None:
    target.tells_checksums = tells_checksums
    target.rotten = {blob_key(digest_of(LARGE))}

    result = migrate(source, target)

    assert worst(result) == set()
    assert objects_of(target) == objects_of(source)
    assert result.server_count == (result.copied_count - 1 if tells_checksums else 1)


def test_a_copy_that_is_not_whole_and_cannot_be_deleted_ends_the_run(
    source: MemoryDriver, target: CopyingMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.rotten = {blob_key(digest_of(LARGE))}
    monkeypatch.setattr(target, "delete", lambda keys: iter([Deleted(key, "failed", "no") for key in keys]))

    with pytest.raises(DriverError, match="a copy that is not whole could not be deleted: no"):
        migrate(source, target)


def test_a_server_that_may_not_read_the_source_copies_nothing(source: MemoryDriver, target: CopyingMemory) -> None:
    def refuse(_: Entry) -> None:
        raise CopyRefused("access denied", operation="copy_from")

    target.refusal = refuse

    result = migrate(source, target)

    assert objects_of(target) == objects_of(source)
    assert (result.server_count, result.copy_refusal) == (0, "access denied")
    assert result.copied_count == len(blobs_of(source))


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (CopyRefused("no parts"), True),
        (Unavailable("busy"), True),
        (DriverError("it changed"), False),
    ],
)
def test_what_the_server_does_not_copy_is_streamed(
    source: MemoryDriver, target: CopyingMemory, error: DriverError, refused: bool
) -> None:
    def refuse_large(entry: Entry) -> None:
        if entry.size == len(LARGE):
            raise error

    target.refusal = refuse_large

    result = migrate(source, target, jobs=1)

    assert worst(result) == set()
    assert objects_of(target) == objects_of(source)
    assert result.copy_refusal == (error.reason if refused else "")
    others = len(blobs_of(source)) - 1
    assert result.server_count == others or (isinstance(error, Unavailable) and result.server_count < others)


def test_what_lies_at_the_target_stays_until_its_successor_is_whole(
    source: MemoryDriver, target: CopyingMemory, state: Path
) -> None:
    migrate(source, target)
    shutil.rmtree(state)
    target.copied.clear()
    digest = digest_of(LARGE)
    source.write(blob_key(digest), LARGE[:100], 100)  # cut short
    push(source, "v3", [b"third"])

    result = migrate(source, target)

    assert ("blob-corrupt", digest) in worst(result)
    assert target.read(blob_key(digest), 1 << 22) == LARGE
    assert blob_key(digest) not in target.copied
    assert blob_key(digest_of(b"third")) in target.copied


def test_a_copy_that_a_dead_run_did_not_prove_is_hashed(
    source: MemoryDriver, target: CopyingMemory, state: Path
) -> None:
    migrate(source, target)
    data = [b"new" * 1000, *layers(3, "more")]
    push(source, "v3", data)
    key = blob_key(digest_of(data[0]))
    target.rotten = {key}

    def die(copied: str) -> None:
        if copied == key:
            raise InterruptedRunError("stopped")

    target.on_copied = die
    with pytest.raises(InterruptedRunError):
        migrate(source, target, jobs=1)
    assert key in blobs_of(target)
    target.rotten = set()
    target.on_copied = lambda _: None

    result = migrate(source, target)

    assert objects_of(target) == objects_of(source)
    assert ("target-blob-replaced", digest_of(data[0])) in {(found.id, found.subject) for found in result.findings}


def test_a_plan_says_what_the_server_can(source: MemoryDriver, target: CopyingMemory) -> None:
    plan = migration(source, target).plan()
    assert plan.copies
    assert plan.copies.has_part_copies
    assert plan.is_server_side
    assert target.copied == []


@pytest.mark.parametrize("failure", [Unavailable, DriverError])
def test_a_copy_whose_answer_was_lost_is_proven_or_deleted(
    source: MemoryDriver, target: CopyingMemory, failure: type[DriverError]
) -> None:
    digest = rot(source, FIRST)

    def lose_answer(key: str) -> None:
        # What exists already is what a second try is told of by a server with conditional writes.
        raise failure("the answer was lost, or it exists already", operation="copy_from", key=key)

    target.on_copied = lose_answer

    for _ in range(2):  # what was left behind would count by its size later
        assert ("blob-corrupt", digest) in worst(migrate(source, target))
        assert blob_key(digest) not in blobs_of(target)
    assert len(blobs_of(target)) == len(blobs_of(source)) - 1

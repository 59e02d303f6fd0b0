"""What `backup verify` and `test-restore` say of a store."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore import backup
from regstore.backup import Store, VerifyOptions, VerifyResult
from regstore.backup.layout import blob_key, pack_key
from regstore.digest import parse_digest
from regstore.errors import StorageFailedError
from regstore.work import Cancel
from regstore_drivers.memory import MemoryDriver, from_url
from support.backup import back_up, new_name
from support.images import Image, digest_of
from support.volume import VolumeWriter

QUICK, FULL = VerifyOptions(), VerifyOptions(is_full=True)
LARGE = b"large" * 30_000


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image of a volume, in an index too."""
    writer = VolumeWriter(tmp_path / "volume")
    image = writer.push_image("app", "v1", [LARGE, b"small"])
    writer.push_index("app", "multi", [image])
    writer.push_image("other", "v1", [b"another"])
    return image


@pytest.fixture
def store(tmp_path: Path, image: Image) -> Store:
    """A store with two snapshots; the second has an image more."""
    store = backup.init_store(str(tmp_path / "store"))
    back_up(tmp_path / "volume", store)
    VolumeWriter(tmp_path / "volume").push_image("later", "v1", [LARGE, b"later"])
    back_up(tmp_path / "volume", store)
    return store


def found(result: VerifyResult) -> list[tuple[str, str, tuple[str, ...], int]]:
    """Id, subject, images and how many snapshots of each finding."""
    return [(one.id, one.subject, one.images, len(one.snapshots)) for one in result.findings]


def flip(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def large(store: Store) -> Path:
    """The file of the large blob."""
    return Path(store.driver.local_path(blob_key(parse_digest(digest_of(LARGE)))))  # type: ignore[attr-defined]


def first_pack(store: Store) -> tuple[str, Path]:
    """Name and file of the pack that holds a blob of the first snapshot."""
    store.load_packed(store.take_listing().packs)
    packed = store.packed.get(parse_digest(digest_of(b"small")))
    assert packed
    return packed.pack, Path(store.driver.local_path(pack_key(packed.pack)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [QUICK, FULL, VerifyOptions(subset=(1, 2))], ids=["quick", "full", "subset"])
def test_a_whole_store_is_whole(store: Store, options: VerifyOptions) -> None:
    result = backup.verify_store(store, options)

    assert found(result) == []
    assert result.snapshot_count == 2
    assert result.hashed_count == {QUICK: 0, FULL: 3}.get(options, result.hashed_count)


def test_the_slices_of_a_subset_are_the_whole(store: Store) -> None:
    slices = [backup.verify_store(store, VerifyOptions(subset=(number, 3))) for number in (1, 2, 3)]

    assert sum(one.hashed_count for one in slices) == 3
    assert sum(one.hashed_bytes for one in slices) == backup.verify_store(store, FULL).hashed_bytes


def test_a_missing_and_a_shorter_blob_are_seen_without_reading(store: Store) -> None:
    hurt = ("app:multi", "app:v1", "later:v1")
    path = large(store)
    path.write_bytes(LARGE[:-1])
    assert found(backup.verify_store(store)) == [("store-blob-size", digest_of(LARGE), hurt, 2)]
    path.unlink()
    assert found(backup.verify_store(store)) == [("store-blob-missing", digest_of(LARGE), hurt, 2)]


def test_a_flipped_bit_is_seen_by_reading(store: Store) -> None:
    flip(large(store))

    assert found(backup.verify_store(store)) == []
    hurt = ("app:multi", "app:v1", "later:v1")
    assert found(backup.verify_store(store, FULL)) == [("store-blob-corrupt", digest_of(LARGE), hurt, 2)]


def test_every_flipped_bit_of_a_pack_is_seen(store: Store) -> None:
    name, path = first_pack(store)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        flip(path, position)
        result = backup.verify_store(store, FULL)
        assert ("pack-damaged", name) in [(one.id, one.subject) for one in result.findings], position
        path.write_bytes(whole)


def test_a_pack_without_its_index_hurts_what_is_in_it(store: Store, image: Image) -> None:
    _, path = first_pack(store)
    path.write_bytes(path.read_bytes()[:-1])

    result = backup.verify_store(store)

    of_manifest = next(one for one in result.findings if one.subject == image.digest)
    assert (of_manifest.id, of_manifest.images) == ("store-blob-missing", ("app:v1",))
    assert {name for one in result.findings for name in one.images} == {"app:multi", "app:v1", "other:v1"}


def test_a_damaged_snapshot_is_seen_without_reading_data(store: Store, tmp_path: Path) -> None:
    first, second = sorted((tmp_path / "store/snapshots").iterdir())
    flip(first, 40)

    result = backup.verify_store(store)

    assert [(one.id, one.severity.word) for one in result.findings] == [("snapshot-damaged", "critical")]
    assert result.findings[0].subject == first.name.split("-")[2].partition(".")[0]
    assert second.name.split("-")[2].partition(".")[0] == backup.find_snapshot(store, "latest").head.id


def test_a_damaged_format_file_is_an_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store/format.json").write_text("{}")

    with pytest.raises(StorageFailedError):
        backup.open_store(str(tmp_path / "store"))


def test_what_is_not_of_a_store_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store/packs/note.txt").touch()

    result = backup.verify_store(store)

    assert [(one.id, one.severity.word) for one in result.findings] == [("store-stray", "info")]


def test_verify_takes_no_lock(store: Store) -> None:
    with store.hold_lock("backup create", 0.0, Cancel()):
        assert found(backup.verify_store(store, FULL)) == []


@pytest.mark.parametrize("text", ["", "0/7", "8/7", "1", "a/b", "1/0", "-1/7"])
def test_a_slice_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="slice"):
        backup.parse_subset(text)


# Restores for a trial


def test_images_are_restored_for_a_trial(store: Store, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()

    result = backup.try_restore(store, 12, random.Random(1), directory=str(tmp_path / "scratch"))

    assert {one.image for one in result.tried} == {"app:v1", "app:multi", "other:v1", "later:v1"}
    assert not any(one.problem for one in result.tried)
    assert result.findings == []
    assert list((tmp_path / "scratch").iterdir()) == []
    assert all(one.total_bytes > 0 for one in result.tried)


@pytest.mark.parametrize(
    "spoil",
    [flip, lambda path: path.unlink(), lambda path: path.write_bytes(LARGE[:-1])],
    ids=["flipped", "missing", "cut"],
)
def test_an_image_that_is_lost_is_found_by_a_trial(store: Store, spoil: Callable[[Path], None]) -> None:
    spoil(large(store))

    result = backup.try_restore(store, 30, random.Random(1))

    assert {one.image for one in result.tried if one.problem} == {"app:v1", "app:multi", "later:v1"}
    assert {one.image for one in result.tried if not one.problem} == {"other:v1"}
    assert {one.id for one in result.findings} == {"image-lost"}


def test_images_that_were_broken_before_are_not_tried(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store/snapshots")
    blob = digest_of(b"another").partition(":")[2]
    (tmp_path / f"volume/docker/registry/v2/blobs/sha256/{blob[:2]}/{blob}/data").write_bytes(b"rotten")
    shutil.rmtree(tmp_path / "store/packs")
    assert back_up(tmp_path / "volume", store).head.broken == ["other:v1"]

    result = backup.try_restore(store, 30, random.Random(1))

    assert {one.image for one in result.tried} == {"app:v1", "app:multi", "later:v1"}
    assert result.findings == []


def test_a_store_without_snapshots_has_nothing_to_try(tmp_path: Path) -> None:
    store = backup.init_store(str(tmp_path / "store"))

    assert backup.try_restore(store, 3, random.Random(1)).tried == []


def test_a_full_look_believes_nothing_that_this_host_remembers(tmp_path: Path) -> None:
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", [LARGE])
    name = new_name()
    store = backup.init_store(f"memory://{name}")
    back_up(tmp_path / "volume", store)
    driver = from_url(f"memory://{name}")
    assert isinstance(driver, MemoryDriver)
    (entry,) = driver.list("snapshots/")
    spoilt = bytearray(driver.read(entry.key))
    spoilt[40] ^= 1
    driver._objects[entry.key] = dataclasses.replace(driver._objects[entry.key], data=bytes(spoilt))  # and no new time

    assert found(backup.verify_store(backup.open_store(f"memory://{name}"))) == []
    (damaged,) = backup.verify_store(backup.open_store(f"memory://{name}"), FULL).findings
    assert damaged.id == "snapshot-damaged"

"""Moving into the quarantine and back, and the directories that are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore.digest import parse_digest
from regstore.gc import Kind
from regstore.gc.quarantine import prune, put_back, remove_empty_tree
from regstore_drivers.errors import PermissionDenied
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support import images
from support.volume import (
    V2,
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
    upload_prefix,
    write_file,
)

DATA = b"data"
TEXT = images.digest_of(DATA)
DIGEST = parse_digest(TEXT)
LONG = images.digest_of(DATA, "sha512")


def below(root: Path) -> set[str]:
    """Return the directories and files below a registry's tree."""
    return {str(path.relative_to(root / V2)) for path in (root / V2).rglob("*")}


@pytest.mark.parametrize(
    ("key", "left"),
    [
        (blob_key(TEXT), "blobs/sha256"),
        (layer_link_key("app", TEXT), "repositories/app/_layers/sha256"),
        (revision_link_key("app", TEXT), "repositories/app/_manifests/revisions/sha256"),
        (tag_link_key("app", "v1"), "repositories/app/_manifests/tags"),
        (tag_index_key("app", "v1", TEXT), "repositories/app/_manifests/tags"),
        (f"{upload_prefix('app', 'id')}data", "repositories/app/_uploads"),
        (f"{upload_prefix('app', 'id')}hashstates/sha256/0", "repositories/app/_uploads"),
        (f"{blob_key(TEXT)}.1.tmp", "blobs/sha256"),
    ],
)
def test_directories_that_become_empty_go_up_to_those_a_registry_expects(tmp_path: Path, key: str, left: str) -> None:
    write_file(tmp_path, key, b"x")
    (tmp_path / key).unlink()

    prune(FilesystemDriver(str(tmp_path)), key)

    parts = left.split("/")
    assert below(tmp_path) == {"/".join(parts[: number + 1]) for number in range(len(parts))}


def test_directories_with_something_in_them_stay(tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        write_file(tmp_path, tag_link_key("app", tag), b"x")
        write_file(tmp_path, tag_index_key("app", tag, TEXT), b"x")
    (tmp_path / tag_link_key("app", "v1")).unlink()
    driver = FilesystemDriver(str(tmp_path))

    prune(driver, tag_link_key("app", "v1"))

    tags = tmp_path / V2 / "repositories/app/_manifests/tags"
    assert {path.name for path in tags.iterdir()} == {"v1", "v2"}
    assert {path.name for path in (tags / "v1").iterdir()} == {"index"}
    (tmp_path / tag_index_key("app", "v1", TEXT)).unlink()
    prune(driver, tag_index_key("app", "v1", TEXT))
    assert {path.name for path in tags.iterdir()} == {"v2"}


def test_a_store_without_directories_has_none_to_prune() -> None:
    prune(MemoryDriver(), blob_key(TEXT))
    assert not remove_empty_tree(MemoryDriver(), f"{V2}/repositories/app/")


def test_a_repository_goes_with_its_empty_parents(tmp_path: Path) -> None:
    (tmp_path / V2 / "repositories/a/b/c/_layers/sha256").mkdir(parents=True)
    (tmp_path / V2 / "repositories/a/b/c/_manifests/tags/v1/index/sha256").mkdir(parents=True)
    (tmp_path / V2 / "repositories/a/b/c/_uploads").mkdir()

    assert remove_empty_tree(FilesystemDriver(str(tmp_path)), f"{V2}/repositories/a/b/c/")

    assert below(tmp_path) == {"repositories"}


def test_a_repository_with_a_file_or_a_nested_one_stays(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    (tmp_path / V2 / "repositories/a/_layers").mkdir(parents=True)
    write_file(tmp_path, layer_link_key("a/b", TEXT), b"x")
    assert remove_empty_tree(driver, f"{V2}/repositories/a/")
    assert (tmp_path / layer_link_key("a/b", TEXT)).exists()

    write_file(tmp_path, f"{V2}/repositories/c/_layers/sha256/lost", b"x")
    assert not remove_empty_tree(driver, f"{V2}/repositories/c/")
    assert (tmp_path / V2 / "repositories/c/_layers/sha256/lost").exists()


def store(driver: MemoryDriver, **contents: bytes) -> MemoryDriver:
    """Store some objects."""
    for key, data in contents.items():
        driver.write(key, data, len(data))
    return driver


def test_an_object_goes_back_when_its_place_is_free() -> None:
    driver = store(MemoryDriver(), quarantined=DATA)

    assert put_back(driver, "quarantined", "place", DIGEST, Kind.BLOB)

    assert [entry.key for entry in driver.list("")] == ["place"]


def test_data_in_the_place_win_when_they_are_right() -> None:
    driver = store(MemoryDriver(), quarantined=DATA, place=DATA)

    assert not put_back(driver, "quarantined", "place", DIGEST, Kind.BLOB)

    assert [entry.key for entry in driver.list("")] == ["place", "quarantined"]


def test_rotten_data_in_the_place_give_way_and_are_kept() -> None:
    driver = store(MemoryDriver(), quarantined=DATA, place=b"rotten")

    assert put_back(driver, "quarantined", "place", DIGEST, Kind.BLOB)

    assert {entry.key: driver.read(entry.key) for entry in list(driver.list(""))} == {
        "place": DATA,
        "quarantined.replaced": b"rotten",
    }


@pytest.mark.parametrize("kind", [Kind.LAYER_LINK, Kind.TAG_LINK, Kind.UPLOAD])
def test_anything_else_in_the_place_stays_as_it_is(kind: Kind) -> None:
    driver = store(MemoryDriver(), quarantined=b"old", place=b"new")

    assert not put_back(driver, "quarantined", "place", DIGEST, kind)
    assert driver.read("place") == b"new"


@pytest.mark.parametrize(
    ("kind", "text", "content"),
    [
        (Kind.LAYER_LINK, TEXT, TEXT.encode()),
        (Kind.REVISION_LINK, TEXT, TEXT.encode()),
        (Kind.LAYER_LINK, LONG, None),  # it holds the canonical digest, which its path does not say
        (Kind.TAG_LINK, TEXT, None),
        (Kind.BLOB, TEXT, None),
    ],
)
def test_a_lost_link_is_written_anew_where_its_path_says_what_it_held(
    kind: Kind, text: str, content: bytes | None
) -> None:
    driver = MemoryDriver()

    assert put_back(driver, "quarantined", "place", parse_digest(text), kind) is (content is not None)

    assert {entry.key: driver.read(entry.key) for entry in list(driver.list(""))} == (
        {"place": content} if content else {}
    )
    assert not put_back(store(driver, place=b"there"), "quarantined", "place", parse_digest(text), kind)
    assert driver.read("place") == b"there"


def test_a_place_that_may_not_be_written_is_an_error() -> None:
    faulty = Faulty(store(MemoryDriver(), quarantined=DATA))
    faulty.fail("move", "*", PermissionDenied)

    with pytest.raises(PermissionDenied):
        put_back(faulty, "quarantined", "place", DIGEST, Kind.BLOB)

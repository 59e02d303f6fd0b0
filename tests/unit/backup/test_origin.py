"""A store as a source for repairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore import backup
from support.backup import back_up, contents_of
from support.collection import run_cli
from support.images import digest_of
from support.volume import VolumeWriter, blob_key, revision_link_key

LARGE = b"large" * 30_000


@pytest.mark.parametrize("spoil", ["missing", "rotten"])
@pytest.mark.parametrize("location", ["directory", "url"])
def test_a_repair_fetches_from_a_store(tmp_path: Path, spoil: str, location: str) -> None:
    root = tmp_path / "volume"
    writer = VolumeWriter(root)
    image = writer.push_image("app", "v1", [LARGE, b"small"])
    writer.push_index("app", "multi", [image])
    before = contents_of(root)
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)
    for digest in (digest_of(LARGE), digest_of(b"small"), image.digest):
        if spoil == "missing":
            (root / blob_key(digest)).unlink()
        else:
            (root / blob_key(digest)).write_bytes(b"rotten")
    place = store.location if location == "url" else tmp_path / "store"
    check = ("fsck", "--json", "--data")
    run_cli(tmp_path / "state", *check, root).expect(1)

    run_cli(tmp_path / "state", *check, "--repair", "--yes", "--from", place, root).expect(0)

    assert contents_of(root) == before


def test_a_store_that_rotted_gives_nothing(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    VolumeWriter(root).push_image("app", "v1", [LARGE])
    back_up(root, backup.init_store(str(tmp_path / "store")))
    digits = digest_of(LARGE).partition(":")[2]
    (tmp_path / f"store/blobs/sha256/{digits[:2]}/{digits}").write_bytes(b"rotten" + LARGE[6:])
    (root / blob_key(digest_of(LARGE))).unlink()

    done = run_cli(
        tmp_path / "state", "fsck", "--json", "--repair", "--yes", "--from", tmp_path / "store", root
    ).expect(1)

    assert not (root / blob_key(digest_of(LARGE))).exists()
    assert any("could not be fetched" in found["detail"] for found in done.json["findings"])


def test_a_child_that_a_snapshot_knows_is_linked_again(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    writer = VolumeWriter(root)
    image = writer.push_image("app", "", [LARGE])
    writer.push_index("app", "multi", [image])
    back_up(root, backup.init_store(str(tmp_path / "store")))
    (root / revision_link_key("app", image.digest)).unlink()

    run_cli(tmp_path / "state", "fsck", "--repair", "--yes", "--from", tmp_path / "store", root).expect(0)

    assert (root / revision_link_key("app", image.digest)).exists()

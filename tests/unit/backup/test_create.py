"""What `backup create` stores, what it reads for that, and what it says of a source that is not whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore import backup
from regstore.backup import BackupFinding, CreateResult, Store
from regstore.errors import InterruptedRunError, LockedError, RefusedError, UsageError
from regstore.registry import open_registry
from regstore.work import Cancel, NoProgress
from regstore_drivers.memory import from_url
from support.backup import back_up, bring_back, contents_of, new_name
from support.collection import run_cli
from support.images import Image, digest_of, layers
from support.programs import require_root
from support.volume import VolumeWriter, blob_key, layer_link_key, revision_link_key, tag_link_key

Images = dict[str, Image]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A volume with two repositories, one nested in the other, of which `app` has two tags that share a layer."""
    writer = VolumeWriter(tmp_path / "volume")
    shared = b"shared" * 20_000
    writer.push_image("app", "v1", [shared, b"first"])
    writer.push_image("app", "v2", [shared, b"second"])
    writer.push_image("app/web", "latest", layers(2, "web"))
    return tmp_path / "volume"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return backup.init_store(str(tmp_path / "store"))


def image_of(root: Path, repository: str, tag: str) -> Image:
    """Describe an image of a volume: its manifest's digest, configuration and layers."""
    digest = (root / tag_link_key(repository, tag)).read_text()
    data = (root / blob_key(digest)).read_bytes()
    document = json.loads(data)
    named = tuple(layer["digest"] for layer in document["layers"])
    return Image(repository, tag, digest, document["mediaType"], data, document["config"]["digest"], named)


def worst(findings: list[BackupFinding]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Id, subject and images of what is worth a warning."""
    return sorted((found.id, found.subject, found.images) for found in findings if found.severity.word != "info")


def ids(result: CreateResult) -> list[str]:
    """The ids of all findings."""
    return sorted(found.id for found in result.findings)


def test_a_second_run_stores_nothing_and_says_the_same(root: Path, store: Store) -> None:
    first, second = back_up(root, store), back_up(root, store)

    assert first.head.new_blob_count == first.head.blob_count == second.head.blob_count > 8
    assert (second.head.new_blob_count, second.head.new_bytes) == (0, 0)
    assert second.head.sequence == first.head.sequence + 1
    a, b = backup.find_snapshot(store, first.head.id), backup.find_snapshot(store, second.head.id)
    assert list(a.iter_contents()) == list(b.iter_contents())
    assert a.blobs() == b.blobs()


def test_small_data_are_packed_and_large_ones_lie_there_as_they_are(root: Path, store: Store, tmp_path: Path) -> None:
    back_up(root, store)

    files = {path.relative_to(tmp_path / "store") for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert sorted({path.parts[0] for path in files}) == ["blobs", "format.json", "lock", "packs", "snapshots"]
    shared = digest_of(b"shared" * 20_000).partition(":")[2]
    assert (tmp_path / f"store/blobs/sha256/{shared[:2]}/{shared}").read_bytes() == b"shared" * 20_000


RECORD = """\
import json, os, sys
opened = []
root = sys.argv[1]
def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(os.fsdecode(arguments[0]))
sys.addaudithook(audit)
from regstore import backup
from regstore.registry import open_registry
result = backup.create_backup(open_registry(root), backup.open_store(sys.argv[2]))
json.dump([opened, result.head.new_blob_count], sys.stdout)
"""


@pytest.mark.parametrize("change", ["none", "chown"])
def test_a_run_without_change_opens_no_file_but_the_tags(
    root: Path, store: Store, tmp_path: Path, state_home: Path, change: str
) -> None:
    back_up(root, store)
    if change == "chown":
        for path in root.rglob("*"):
            os.utime(path)
            if os.geteuid() == 0:
                os.chown(path, 1234, 1234)

    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(root), str(tmp_path / "store")], capture_output=True, check=True, text=True
    )

    opened, new_count = json.loads(done.stdout)
    of_source = [path for path in opened if path.startswith(str(root)) or not path.startswith("/")]
    files = [path for path in of_source if not os.path.isdir(path) and path.rpartition("/")[2] in ("link", "data")]
    assert new_count == 0
    assert sorted(files) == ["latest/current/link", "v1/current/link", "v2/current/link"]


def test_a_tag_that_moved_within_the_same_second_to_as_many_bytes_is_seen(root: Path, store: Store) -> None:
    back_up(root, store)
    link = root / tag_link_key("app", "v1")
    times = os.stat(link).st_atime_ns, os.stat(link).st_mtime_ns
    meant = image_of(root, "app", "v2").digest
    link.write_text(meant)
    os.utime(link, ns=times)

    second = back_up(root, store)

    tags = backup.find_snapshot(store, second.head.id).contents("app").tags
    assert f"sha256:{tags['v1'].digest.hex()}" == meant


def test_snapshots_are_ordered_as_made_when_the_clock_is_set_back(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = back_up(root, store)
    monkeypatch.setattr("regstore.transfer.source.time.time", lambda: 1_000_000_000.0)
    second = back_up(root, store)

    assert second.head.created_at < first.head.created_at
    assert backup.find_snapshot(store, "latest").head.id == second.head.id
    assert [loaded.file.id for loaded in backup.iter_snapshots(store)] == [first.head.id, second.head.id]


# Damage of the source


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [remove, cut, flip, empty])
@pytest.mark.parametrize("what", ["layer", "large layer", "manifest", "config"])
def test_damaged_data_are_named_and_the_rest_comes_back(
    root: Path, store: Store, tmp_path: Path, what: str, spoil: Callable[[Path], None]
) -> None:
    image = image_of(root, "app", "v1")
    digest = {
        "layer": digest_of(b"first"),
        "large layer": digest_of(b"shared" * 20_000),
        "manifest": image.digest,
        "config": image.config,
    }[what]
    spoil(root / blob_key(str(digest)))
    hurt = ("app:v1", "app:v2") if what == "large layer" else ("app:v1",)
    group = "manifest" if what == "manifest" else "blob"

    result = back_up(root, store)

    kind = "missing" if spoil is remove else "corrupt"
    assert worst(result.findings) == [(f"{group}-{kind}", digest, hurt)]
    assert not result.head.is_complete
    assert result.head.broken == list(hurt)
    restored = bring_back(store, tmp_path / "restored")
    assert sorted(restored.plan.chosen.lost) == list(hurt)
    whole = {"app:v1", "app:v2", "app/web:latest"} - set(hurt)
    for name in whole:
        repository, _, tag = name.partition(":")
        assert (tmp_path / "restored" / tag_link_key(repository, tag)).read_text() == image_of(
            root, repository, tag
        ).digest
    for name in hurt:
        assert not (tmp_path / "restored" / tag_link_key(*name.split(":"))).exists()


@pytest.mark.parametrize("content", ["", "sha256:cut", "sha256:" + "0" * 63 + "\n"])
def test_a_tag_that_holds_no_digest_is_named_and_the_rest_comes_back(
    root: Path, store: Store, tmp_path: Path, content: str
) -> None:
    (root / tag_link_key("app", "v1")).write_text(content)

    result = back_up(root, store)

    assert worst(result.findings) == [("link-malformed", "app:v1", ("app:v1",))]
    assert result.head.broken == ["app:v1"]
    bring_back(store, tmp_path / "restored")
    assert not (tmp_path / "restored" / tag_link_key("app", "v1")).exists()
    assert (tmp_path / "restored" / tag_link_key("app", "v2")).exists()


def test_a_missing_layer_link_breaks_the_image(root: Path, store: Store) -> None:
    digest = digest_of(b"first")
    (root / layer_link_key("app", digest)).unlink()
    (root / layer_link_key("app", digest)).parent.rmdir()

    result = back_up(root, store)

    assert worst(result.findings) == [("layer-link-missing", f"app@{digest}", ("app:v1",))]


def test_a_missing_revision_breaks_the_tag(root: Path, store: Store) -> None:
    image = image_of(root, "app", "v1")
    (root / revision_link_key("app", image.digest)).unlink()

    result = back_up(root, store)

    assert ("revision-missing", f"app@{image.digest}", ("app:v1",)) in worst(result.findings)
    assert result.head.broken == ["app:v1"]


def test_what_the_source_lost_and_the_store_still_has_is_damage_that_can_be_restored(
    root: Path, store: Store, tmp_path: Path
) -> None:
    back_up(root, store)
    (root / blob_key(digest_of(b"first"))).unlink()

    result = back_up(root, store)

    assert not result.head.broken
    bring_back(store, tmp_path / "restored")
    assert (tmp_path / "restored" / blob_key(digest_of(b"first"))).read_bytes() == b"first"


@pytest.mark.parametrize("what", ["tag", "tags", "blob", "shard"])
def test_what_cannot_be_read_is_named_and_the_rest_is_done(tmp_path: Path, root: Path, what: str) -> None:
    require_root("run as somebody who may not read everything")
    closed = {
        "tag": root / tag_link_key("app", "v1"),
        "tags": (root / tag_link_key("app", "v1")).parent.parent.parent,
        "blob": root / blob_key(digest_of(b"first")),
        "shard": (root / blob_key(digest_of(b"first"))).parent.parent,
    }[what]
    os.chmod(closed, 0)
    for path in (tmp_path, tmp_path / "state"):
        path.mkdir(exist_ok=True)
        os.chmod(path, 0o777)
    for path in tmp_path.parents:
        if path != Path("/"):
            os.chmod(path, os.stat(path).st_mode | 0o055)

    run_cli(tmp_path / "state", "backup", "init", tmp_path / "store", user=1234).expect(0)
    done = run_cli(tmp_path / "state", "backup", "create", "--json", root, tmp_path / "store", user=1234).expect(1)

    assert any("app" in str(found) for found in done.json["findings"])
    assert done.json["snapshot"]["complete"] is False
    shown = run_cli(tmp_path / "state", "backup", "show", "--json", tmp_path / "store", user=1234).expect(0).json
    assert "app/web" in [repository["name"] for repository in shown["repositories"]]


# What is in the store


def test_data_that_the_store_lost_are_stored_again(root: Path, store: Store, tmp_path: Path) -> None:
    back_up(root, store)
    digits = digest_of(b"shared" * 20_000).partition(":")[2]
    place = tmp_path / f"store/blobs/sha256/{digits[:2]}/{digits}"
    for spoil in (remove, cut):
        spoil(place)

        result = back_up(root, store)

        assert result.head.new_blob_count == 1
        assert place.read_bytes() == b"shared" * 20_000


def test_a_pack_that_is_gone_or_damaged_is_replaced(root: Path, store: Store, tmp_path: Path) -> None:
    first = back_up(root, store)
    (pack,) = (tmp_path / "store/packs").glob("*/*")
    shutil.copy(pack, tmp_path / "copy")
    pack.unlink()
    second = back_up(root, store)
    assert second.head.new_blob_count == first.head.blob_count - 1
    shutil.copy(tmp_path / "copy", pack)
    cut(pack)

    third = back_up(root, store)

    assert ids(third) == ["pack-damaged"] or third.head.new_blob_count == second.head.new_blob_count
    bring_back(store, tmp_path / "restored")
    assert contents_of(tmp_path / "restored") == contents_of(root)


def test_data_that_no_snapshot_names_are_hashed_before_they_count(root: Path, store: Store, tmp_path: Path) -> None:
    digits = digest_of(b"shared" * 20_000).partition(":")[2]
    place = tmp_path / f"store/blobs/sha256/{digits[:2]}/{digits}"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"rotten" * 20_000)  # as many bytes

    result = back_up(root, store)

    assert result.head.new_blob_count == result.head.blob_count
    assert place.read_bytes() == b"shared" * 20_000
    for path in (tmp_path / "store/snapshots").iterdir():
        path.unlink()
    again = back_up(root, store)
    assert again.head.new_blob_count == 0  # whole, and used


def test_a_damaged_snapshot_is_told_and_left_alone(root: Path, store: Store, tmp_path: Path) -> None:
    first = back_up(root, store)
    (path,) = (tmp_path / "store/snapshots").iterdir()
    flip(path)
    before = path.read_bytes()

    second = back_up(root, store)

    assert worst(second.findings) == [("snapshot-damaged", first.head.id, ())]
    assert path.read_bytes() == before
    assert second.head.sequence == 2
    assert second.head.is_complete


def test_temporary_files_of_dead_runs_are_removed(root: Path, store: Store, tmp_path: Path) -> None:
    left = tmp_path / "store/packs/.deadbeef.regstore-tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")

    back_up(root, store)

    assert not left.exists()


def test_uploads_in_parts_of_dead_runs_are_aborted(root: Path) -> None:
    name = new_name()
    store = backup.init_store(f"memory://{name}")
    driver = from_url(f"memory://{name}")
    driver.begin_multipart("blobs/sha256/ab/half")

    back_up(root, store)

    assert list(driver.list_multipart("")) == []


# Refusals


def test_an_empty_registry_is_no_snapshot(tmp_path: Path, store: Store) -> None:
    (tmp_path / "empty/docker/registry/v2/repositories").mkdir(parents=True)
    (tmp_path / "empty/docker/registry/v2/blobs").mkdir()

    with pytest.raises(RefusedError) as caught:
        back_up(tmp_path / "empty", store)

    assert caught.value.code == "source-empty"
    with pytest.raises(UsageError):
        back_up(tmp_path / "absent", store)


@pytest.mark.parametrize("where", ["volume/store", "volume/docker/store", "."])
def test_a_store_in_its_source_or_around_it_is_refused(root: Path, tmp_path: Path, where: str) -> None:
    place = tmp_path / where if where != "." else tmp_path / "around"
    source = root
    if where == ".":
        place.mkdir()
    store = backup.init_store(str(place))
    if where == ".":
        shutil.move(root, place / "volume")
        source = place / "volume"

    with pytest.raises(RefusedError) as caught:
        back_up(source, store)

    assert caught.value.code == "nested"


def test_two_stores_at_one_place_and_none_in_a_directory_that_is_used(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError) as caught:
        backup.init_store(str(tmp_path / "store"))
    assert caught.value.code == "store-exists"
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(RefusedError):
        backup.init_store(str(tmp_path / "used"))
    with pytest.raises(UsageError):
        backup.init_store(str(tmp_path / "absent/store"))
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("place", ["absent", "used"])
def test_a_disk_that_is_not_mounted_is_no_store(tmp_path: Path, root: Path, place: str) -> None:
    (tmp_path / "used").mkdir()

    with pytest.raises(UsageError) as caught:
        backup.open_store(str(tmp_path / place))

    assert caught.value.code == "store-missing"
    assert "mounted" in caught.value.hint


def test_one_run_at_a_time(root: Path, store: Store, tmp_path: Path) -> None:
    with store.hold_lock("backup create", 0.0, Cancel()), pytest.raises(LockedError):
        back_up(root, backup.open_store(str(tmp_path / "store")))


# While the registry is used


class During(NoProgress):
    """Does something when new data are about to be stored."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Act at the right phase."""
        if "new blobs" in phase:
            self._act()


def test_tags_that_are_moved_or_deleted_meanwhile_are_told_and_kept_as_they_were(root: Path, store: Store) -> None:
    before = image_of(root, "app", "v1").digest

    def act() -> None:
        (root / tag_link_key("app", "v1")).write_text(image_of(root, "app", "v2").digest)
        shutil.rmtree((root / tag_link_key("app", "v2")).parent.parent)

    result = backup.create_backup(open_registry(str(root)), store, progress=During(act))

    assert ids(result) == ["tag-deleted", "tag-moved"]
    assert result.head.is_complete
    tags = backup.find_snapshot(store, "latest").contents("app").tags
    assert f"sha256:{tags['v1'].digest.hex()}" == before
    assert "v2" in tags


def test_all_tags_may_be_deleted_meanwhile(root: Path, store: Store) -> None:
    def act() -> None:
        for link in list(root.rglob("tags")):
            shutil.rmtree(link)

    result = backup.create_backup(open_registry(str(root)), store, progress=During(act))

    assert ids(result) == ["tag-deleted"] * 3
    assert result.head.is_complete
    assert result.head.attributes["file_mode"] & 0o600 == 0o600


def test_data_that_nobody_needs_may_vanish_meanwhile(root: Path, store: Store) -> None:
    orphan = VolumeWriter(root).blob(b"nobody's")

    result = backup.create_backup(
        open_registry(str(root)), store, progress=During(lambda: (root / blob_key(orphan)).unlink())
    )

    assert ids(result) == ["blob-vanished"]
    assert result.head.is_complete


def test_a_run_that_is_stopped_leaves_no_snapshot_and_the_next_uses_what_it_stored(
    root: Path, store: Store, tmp_path: Path
) -> None:
    cancel = Cancel()
    with pytest.raises(InterruptedRunError):
        backup.create_backup(open_registry(str(root)), store, progress=During(cancel.request), cancel=cancel)
    assert store.list_snapshots() == []

    assert back_up(root, store).head.is_complete
    bring_back(store, tmp_path / "restored")
    assert contents_of(tmp_path / "restored") == contents_of(root)


def test_the_bandwidth_is_a_limit(root: Path, store: Store) -> None:
    started = time.monotonic()
    backup.create_backup(open_registry(str(root)), store, backup.CreateOptions(bandwidth=100_000))

    assert time.monotonic() - started > 0.15  # 120,000 bytes, of which as many as a second brings pass at once

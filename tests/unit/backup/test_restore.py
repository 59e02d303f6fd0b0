"""What `restore` writes, in which order, and what it makes of a target that is not empty or a store that lost data."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from regstore import backup, layout
from regstore.backup import RestoreOptions, Selection, Store
from regstore.errors import InterruptedRunError, RefusedError, UsageError
from regstore.registry import open_target
from regstore.work import Cancel, NoProgress
from regstore_drivers.bulk import Attributes
from regstore_drivers.memory import from_url
from support.backup import back_up, bring_back, contents_of, new_name, objects_of
from support.images import digest_of, layers
from support.programs import require_root
from support.volume import VolumeWriter, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key

LARGE = b"large" * 30_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A volume: two images with a shared layer, an index over one, a signature, and another repository."""
    writer = VolumeWriter(tmp_path / "volume")
    first = writer.push_image("app", "v1", [LARGE, b"first"])
    writer.push_image("app", "v2", [LARGE, b"second"])
    writer.push_index("app", "multi", [first])
    writer.push_signature("app", first, "s")
    writer.push_image("team/web", "latest", layers(2, "web"))
    writer.blob(b"nobody's")
    for number, link in enumerate(sorted((tmp_path / "volume").rglob("current/link"))):
        os.utime(link, ns=(10**18 + number, 10**18 + number))
    return tmp_path / "volume"


@pytest.fixture
def store(tmp_path: Path, root: Path) -> Store:
    """A store with a snapshot of it."""
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)
    return store


def digest_at(root: Path, repository: str, tag: str) -> str:
    """What a tag means."""
    return (root / tag_link_key(repository, tag)).read_text()


def tags_at(root: Path) -> set[str]:
    """All tags, as `repository:tag`."""
    specs = map(layout.parse_key, contents_of(root))
    return {f"{spec.repository}:{spec.tag}" for spec in specs if isinstance(spec, layout.TagLink)}


def some(*, merge: bool = False, **globs: tuple[str, ...]) -> RestoreOptions:
    """Options that choose."""
    return RestoreOptions(Selection(**globs), merge)


def test_everything_comes_back_with_the_times_of_tags(root: Path, store: Store, tmp_path: Path) -> None:
    result = bring_back(store, tmp_path / "new")

    assert contents_of(tmp_path / "new") == contents_of(root)
    assert result.findings == []
    for link in root.rglob("current/link"):
        assert os.stat(tmp_path / "new" / link.relative_to(root)).st_mtime_ns == os.stat(link).st_mtime_ns


def test_a_tag_brings_its_closure_signature_and_nothing_else(root: Path, store: Store, tmp_path: Path) -> None:
    bring_back(store, tmp_path / "new", options=some(tags=("v1",)))

    signature = f"sha256-{digest_at(root, 'app', 'v1').partition(':')[2]}.sig"
    assert tags_at(tmp_path / "new") == {"app:v1", f"app:{signature}"}
    after = contents_of(tmp_path / "new")
    assert after.items() <= contents_of(root).items()
    assert blob_key(digest_of(LARGE)) in after
    assert blob_key(digest_of(b"second")) not in after
    assert back_up(tmp_path / "new", backup.init_store(str(tmp_path / "second"))).head.is_complete


def test_exactly_the_images_that_are_named(root: Path, store: Store, tmp_path: Path) -> None:
    VolumeWriter(root).push_image("team/web", "v1", [b"of the web"])
    back_up(root, store)

    bring_back(store, tmp_path / "new", options=RestoreOptions(Selection(images={"app": ["v2"], "team/web": ["v1"]})))

    assert tags_at(tmp_path / "new") == {"app:v2", "team/web:v1"}  # not app:v1


def test_an_index_brings_its_children(root: Path, store: Store, tmp_path: Path) -> None:
    bring_back(store, tmp_path / "new", options=some(tags=("mul*",)))

    assert "app:multi" in tags_at(tmp_path / "new")
    child = digest_at(root, "app", "v1")
    assert revision_link_key("app", child) in contents_of(tmp_path / "new")


def test_a_repository_brings_all_that_it_links(root: Path, store: Store, tmp_path: Path) -> None:
    bring_back(store, tmp_path / "new", options=some(repositories=("team/*",)))

    after = contents_of(tmp_path / "new")
    before = contents_of(root)
    links = {key for key in before if key.startswith(f"{layout.REPOSITORIES}team/web/")}
    assert {key for key in after if key.startswith(layout.REPOSITORIES)} == links
    assert after.items() <= before.items()
    assert blob_key(digest_of(b"nobody's")) not in after


def test_a_digest_brings_a_manifest_without_a_tag(root: Path, store: Store, tmp_path: Path) -> None:
    digest = digest_at(root, "app", "v2")

    bring_back(store, tmp_path / "new", options=some(digests=(digest,), repositories=("app",)))

    after = contents_of(tmp_path / "new")
    assert tags_at(tmp_path / "new") == set()
    assert {revision_link_key("app", digest), layer_link_key("app", digest_of(b"second"))} <= after.keys()
    assert blob_key(digest_of(b"first")) not in after


@pytest.mark.parametrize(
    "globs",
    [{"tags": ("nope",)}, {"repositories": ("nope",)}, {"digests": ("sha256:" + "0" * 64,)}, {"digests": ("v1",)}],
    ids=repr,
)
def test_what_is_not_there_is_said(store: Store, tmp_path: Path, globs: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError):
        bring_back(store, tmp_path / "new", options=some(**globs))

    assert list((tmp_path / "new").iterdir()) == []


def test_an_older_snapshot_and_one_of_a_time(root: Path, store: Store, tmp_path: Path) -> None:
    (first,) = store.list_snapshots()
    before = contents_of(root)
    VolumeWriter(root).push_image("app", "v3", [b"third"])
    second = back_up(root, store)

    bring_back(store, tmp_path / "old", first.id)

    assert contents_of(tmp_path / "old") == before
    made = store.load_snapshot(first).head.created_at
    assert backup.find_snapshot(store, "latest", made).head.id == first.id
    assert backup.find_snapshot(store, "latest", second.head.created_at).head.id == second.head.id
    with pytest.raises(UsageError):
        backup.find_snapshot(store, "latest", made - 1)


@pytest.mark.parametrize("text", ["2026-11-20 03:00", "2026-11-20 03:00:30", "2026-11-20T03:00:00+01:00"])
def test_times_are_read_as_operators_write_them(text: str) -> None:
    assert backup.parse_time(text) > 1.7e9


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01 00:00", "99999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        backup.parse_time(text)


# Targets


def test_a_target_with_a_registry_needs_a_merge(store: Store, tmp_path: Path) -> None:
    VolumeWriter(tmp_path / "other").push_image("other", "v1", [b"other"])
    before = contents_of(tmp_path / "other")

    with pytest.raises(RefusedError) as caught:
        bring_back(store, tmp_path / "other")

    assert caught.value.code == "target-not-empty"
    assert contents_of(tmp_path / "other") == before


def test_a_merge_keeps_what_is_there_and_says_which_tags_it_moves(root: Path, store: Store, tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path / "other")
    writer.push_image("other", "v1", [b"other"])
    mine = writer.push_image("app", "v1", [b"mine"])
    before = contents_of(tmp_path / "other")

    result = bring_back(store, tmp_path / "other", options=some(merge=True))

    after = contents_of(tmp_path / "other")
    moved = tag_link_key("app", "v1")
    assert after == {**before, **contents_of(root)}
    assert [(one.id, one.subject) for one in result.findings] == [("tag-replaced", "app:v1")]
    assert mine.digest in result.findings[0].detail
    assert result.plan.replaced.keys() == {"app:v1"}
    assert before[moved] != after[moved]
    assert tag_index_key("app", "v1", mine.digest) in after  # the tag's history stays


@pytest.mark.parametrize("content", [LARGE[:-1], b"rotten" + LARGE[6:], b""], ids=["cut", "rotten", "empty"])
def test_data_at_the_target_are_hashed_before_they_count(
    root: Path, store: Store, tmp_path: Path, content: bytes
) -> None:
    place = tmp_path / "new" / blob_key(digest_of(LARGE))
    place.parent.mkdir(parents=True)
    place.write_bytes(content)

    result = bring_back(store, tmp_path / "new")  # data and no repository count as empty

    assert contents_of(tmp_path / "new") == contents_of(root)
    assert result.kept_count == 0


def test_whole_data_at_the_target_are_not_written_again(root: Path, store: Store, tmp_path: Path) -> None:
    shutil.copytree(root / layout.BLOBS, tmp_path / "new" / layout.BLOBS)

    result = bring_back(store, tmp_path / "new")

    assert result.written_count == 0
    assert result.kept_count == len(result.plan.chosen.blobs)


@pytest.mark.parametrize("where", ["store", "store/inside", "around"])
def test_a_target_in_the_store_or_around_it_is_refused(store: Store, tmp_path: Path, where: str) -> None:
    target = {"around": tmp_path}.get(where, tmp_path / where)

    with pytest.raises(RefusedError) as caught:
        bring_back(store, target)

    assert caught.value.code == "nested"


def test_a_target_whose_disk_is_not_mounted_is_not_made(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        bring_back(store, tmp_path / "absent/new")


def test_owner_and_modes_are_those_recorded(root: Path, tmp_path: Path) -> None:
    require_root("give files away")
    for path in (root, *root.rglob("*")):
        os.chown(path, 1234, 2345)
        os.chmod(path, 0o2750 if path.is_dir() else 0o640)
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)

    bring_back(store, tmp_path / "new")

    for path in (tmp_path / "new/docker").rglob("*"):
        status = path.stat()
        expected = 0o2750 if path.is_dir() else 0o640
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, expected), path


def test_owner_and_modes_can_be_chosen(store: Store, tmp_path: Path) -> None:
    require_root("give files away")

    bring_back(store, tmp_path / "new", options=RestoreOptions(attributes=Attributes(77, 78, 0o700, 0o600)))

    for path in (tmp_path / "new/docker").rglob("*"):
        status = path.stat()
        expected = 0o700 if path.is_dir() else 0o600
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (77, 78, expected), path


def test_an_object_store_is_restored_to_and_from(root: Path, tmp_path: Path) -> None:
    names = new_name(), new_name()
    store = backup.init_store(f"memory://{names[0]}")
    back_up(root, store)

    bring_back(store, f"memory://{names[1]}")

    driver = from_url(f"memory://{names[1]}")
    assert objects_of(driver) == contents_of(root)
    link = tag_link_key("app", "v1")
    assert driver.stat(link).mtime == pytest.approx(os.stat(root / link).st_mtime)


# A store that lost data


@pytest.mark.parametrize("is_read_first", [False, True], ids=["missing", "rotten"])
def test_what_the_store_lost_is_named_and_the_rest_comes_back(
    root: Path, store: Store, tmp_path: Path, is_read_first: bool
) -> None:
    digest = digest_of(LARGE)
    digits = digest.partition(":")[2]
    place = tmp_path / f"store/blobs/sha256/{digits[:2]}/{digits}"
    if is_read_first:
        place.write_bytes(b"rotten" + LARGE[6:])
    else:
        place.unlink()

    result = bring_back(store, tmp_path / "new")

    assert sorted(result.plan.chosen.lost) == ["app:multi", "app:v1", "app:v2"]
    kinds = sorted({one.id for one in result.findings})
    assert kinds == ["image-lost", "store-blob-corrupt" if is_read_first else "store-blob-missing"]
    after = contents_of(tmp_path / "new")
    assert blob_key(digest) not in after
    assert layer_link_key("app", digest) not in after
    assert {"team/web:latest"} < tags_at(tmp_path / "new")
    assert tags_at(tmp_path / "new").isdisjoint(result.plan.chosen.lost)
    again = back_up(tmp_path / "new", backup.init_store(str(tmp_path / "second")))
    assert again.head.broken == []


def test_each_lost_blob_names_the_images_that_it_hurts(root: Path, tmp_path: Path) -> None:
    other = b"other" * 30_000
    VolumeWriter(root).push_image("app", "v3", [other, LARGE])
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)
    for data in (LARGE, other):
        digits = digest_of(data).partition(":")[2]
        (tmp_path / f"store/blobs/sha256/{digits[:2]}/{digits}").unlink()

    result = bring_back(store, tmp_path / "new")

    images = {one.subject: one.images for one in result.findings if one.id == "store-blob-missing"}
    assert images == {
        digest_of(LARGE): ("app:multi", "app:v1", "app:v2", "app:v3"),
        digest_of(other): ("app:v3",),
    }


def test_a_part_whose_manifest_the_store_lost_is_not_restored_as_far_as_it_goes(
    root: Path, store: Store, tmp_path: Path
) -> None:
    """What a manifest needs that cannot be read is not known, even where the target has that manifest."""
    shutil.rmtree(tmp_path / "store/packs")
    manifest = blob_key(digest_at(root, "app", "v1"))
    place = tmp_path / "new" / manifest
    place.parent.mkdir(parents=True)
    shutil.copy(root / manifest, place)

    result = bring_back(store, tmp_path / "new", options=some(tags=("v1",)))

    assert "app:v1" in result.plan.chosen.lost  # and its signature
    assert tags_at(tmp_path / "new") == set()


# A restore that ends early


class Stop(NoProgress):
    """Asks to stop when a phase begins whose name holds a word."""

    def __init__(self, word: str, cancel: Cancel) -> None:
        self._word = word
        self._cancel = cancel

    def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
        """Ask."""
        if self._word in phase:
            self._cancel.request()


@pytest.mark.parametrize("word", ["blobs", "links"])
def test_a_restore_that_was_stopped_goes_on_without_a_merge(
    root: Path, store: Store, tmp_path: Path, word: str
) -> None:
    cancel = Cancel()
    snapshot = backup.find_snapshot(store, "latest")
    restore = backup.Restore(
        store, snapshot, open_target(str(tmp_path / "new")), progress=Stop(word, cancel), cancel=cancel
    )
    with pytest.raises(InterruptedRunError):
        restore.apply(restore.plan())
    assert tags_at(tmp_path / "new") == set()

    result = bring_back(store, tmp_path / "new")

    assert contents_of(tmp_path / "new") == contents_of(root)
    if word == "links":
        assert result.plan.is_resumed
        assert result.written_count == 0


def test_a_dry_run_writes_nothing(root: Path, store: Store, tmp_path: Path) -> None:
    snapshot = backup.find_snapshot(store, "latest")
    plan = backup.Restore(store, snapshot, open_target(str(tmp_path / "new"))).plan()

    assert plan.tag_count == len(tags_at(root))
    assert plan.total_bytes == sum(len(data) for key, data in contents_of(root).items() if key.endswith("/data"))
    assert list((tmp_path / "new").iterdir()) == []


def test_a_restore_that_was_stopped_reads_what_is_cut_again_and_removes_what_it_left(
    root: Path, store: Store, tmp_path: Path
) -> None:
    stop_before_links(store, tmp_path / "new")
    blobs = sorted((tmp_path / "new" / layout.BLOBS).rglob("data"))
    os.truncate(blobs[0], 1)
    blobs[1].unlink()
    left = blobs[2].parent / ".deadbeef.regstore-tmp"
    left.write_bytes(b"half")

    result = bring_back(store, tmp_path / "new")

    assert result.plan.is_resumed
    assert result.written_count == 2
    assert contents_of(tmp_path / "new") == contents_of(root)


def test_a_restore_that_was_stopped_replaces_no_tag_that_was_pushed_since(store: Store, tmp_path: Path) -> None:
    stop_before_links(store, tmp_path / "new")
    mine = VolumeWriter(tmp_path / "new").push_image("app", "v1", [b"mine"])

    with pytest.raises(RefusedError) as caught:
        bring_back(store, tmp_path / "new")

    assert caught.value.code == "target-not-empty"
    assert digest_at(tmp_path / "new", "app", "v1") == mine.digest
    merged = bring_back(store, tmp_path / "new", options=some(merge=True))
    assert [one.id for one in merged.findings] == ["tag-replaced"]


def stop_before_links(store: Store, target: Path) -> None:
    """Restore all data, and no link."""
    cancel = Cancel()
    snapshot = backup.find_snapshot(store, "latest")
    restore = backup.Restore(store, snapshot, open_target(str(target)), progress=Stop("links", cancel), cancel=cancel)
    with pytest.raises(InterruptedRunError):
        restore.apply(restore.plan())

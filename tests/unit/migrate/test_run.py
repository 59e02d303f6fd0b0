"""What a run of a migration writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import layout
from regstore.errors import InterruptedRunError, LockedError, RefusedError
from regstore.lock import hold_lock
from regstore.migrate import Migration, probe, writing
from regstore.migrate.record import MARKER, check_not_same, new_record, write_record
from regstore.work import Cancel
from regstore_drivers.base import Capacity, Deleted, Driver
from regstore_drivers.bulk import Attributes
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver, from_url
from regstore_drivers.wrappers import Recording
from regstore_drivers.wrappers._forwarding import Forwarding
from support.backup import contents_of, new_name, objects_of
from support.examples import examples
from support.images import digest_of, layers
from support.killing import die_at
from support.migration import compare, migrate, migration, options_of, source_at, target_at, verify, worst
from support.programs import require_root
from support.random_volumes import Tree, lay_out, trees
from support.volume import (
    V2,
    VolumeWriter,
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_link_key,
)

LARGE = b"large" * 30_000


@pytest.fixture
def writer(tmp_path: Path) -> VolumeWriter:
    """A volume: images with a shared layer, an index, a signature, another repository, and what nobody needs."""
    writer = VolumeWriter(tmp_path / "old")
    first = writer.push_image("app", "v1", [LARGE, b"first"])
    writer.push_image("app", "v2", [LARGE, b"second"])
    writer.push_index("app", "multi", [first])
    writer.push_signature("app", first, "s")
    writer.push_image("team/web", "latest", layers(2, "web"))
    for number, link in enumerate(sorted((tmp_path / "old").rglob("current/link"))):
        os.utime(link, ns=(10**18 + number, 10**18 + number))
    return writer


@pytest.fixture
def old(tmp_path: Path, writer: VolumeWriter) -> Path:
    """Its directory."""
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Where it goes."""
    return tmp_path / "new"


def digest_at(root: Path, repository: str, tag: str) -> str:
    """What a tag means."""
    return (root / tag_link_key(repository, tag)).read_text()


def tags_at(root: Path) -> set[str]:
    """All tags, as `repository:tag`."""
    specs = map(layout.parse_key, contents_of(root))
    return {f"{spec.repository}:{spec.tag}" for spec in specs if isinstance(spec, layout.TagLink)}


def times_of(root: Path) -> dict[Path, int]:
    """When each tag was pushed."""
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("current/link")}


def test_everything_goes_along_with_the_times_of_tags(old: Path, new: Path) -> None:
    before = contents_of(old)

    result = migrate(old, new)

    assert contents_of(new) == before == contents_of(old)
    assert times_of(new) == times_of(old)
    assert result.findings == []
    assert worst(verify(old, new, reads_back=True)) == set()
    assert not [path for path in old.iterdir() if path.name != "docker"]


def test_a_second_run_writes_nothing_and_opens_no_data(old: Path, new: Path) -> None:
    migrate(old, new)
    for path in old.rglob("data"):
        path.unlink()  # only the name of its directory is left: nobody asks for it

    result = migrate(old, new)

    assert (result.copied_count, result.link_count) == (0, 0)
    assert result.findings == []


def test_the_delta_is_what_is_new_and_what_tags_mean(old: Path, new: Path, writer: VolumeWriter) -> None:
    migrate(old, new)
    link = old / tag_link_key("app", "v1")
    seen = link.stat().st_mtime_ns
    moved = writer.push_image("app", "v1", [LARGE, b"moved"])
    os.utime(link, ns=(seen, seen))  # in the same second, with the same size
    writer.push_image("fresh", "v1", layers(1, "fresh"))

    result = migrate(old, new)

    assert contents_of(new) == contents_of(old)
    assert result.plan.replaced["app:v1"][1].hex() == moved.digest.partition(":")[2]
    assert result.plan.new_tags == ["fresh:v1"]
    assert result.copied_count == 6


def test_what_nobody_needs_stays_behind_unless_all_is_wanted(old: Path, new: Path, writer: VolumeWriter) -> None:
    kept = contents_of(old)
    orphan = writer.blob(b"nobody's")
    writer.layer("app", b"unused layer")
    writer.upload("app", b"half a layer")
    writer.put(f"{blob_key(digest_of(b'x'))}.5ca1ab1e-0000-4000-8000-000000000001.tmp", b"half")
    writer.put(f"{V2}/repositories/app/_layers/sha256/lost/link", b"stray")

    result = migrate(old, new)

    assert contents_of(new) == kept
    assert {found.id for found in result.findings} == {"upload-open", "left-out"}
    assert worst(verify(old, new)) == set()

    migrate(old, new, takes_all=True)

    after = contents_of(new)
    assert blob_key(orphan) in after
    assert layer_link_key("app", digest_of(b"unused layer")) in after
    stray = {key for key in contents_of(old) if "lost" in key}
    assert after == {key: data for key, data in contents_of(old).items() if key not in stray}
    assert worst(verify(old, new, takes_all=True)) == set()


def test_repositories_and_tags_bring_what_they_need(old: Path, new: Path) -> None:
    migrate(old, new, repositories=("app",), tags=("v1",))

    assert {image for image in tags_at(new) if "sha256-" not in image} == {"app:v1"}
    assert contents_of(new).items() <= contents_of(old).items()
    assert blob_key(digest_of(b"second")) not in contents_of(new)
    assert worst(verify(old, new, repositories=("app",), tags=("v1",))) == set()
    assert ("tag-missing", "app:v2") in worst(verify(old, new))

    migrate(old, new)

    assert contents_of(new) == contents_of(old)


def test_since_takes_what_was_pushed_since(old: Path, new: Path) -> None:
    link = old / tag_link_key("app", "v2")
    os.utime(link, (2e9, 2e9))

    migrate(old, new, since=1.9e9)

    assert tags_at(new) == {"app:v2"}


# What is at the target


@pytest.mark.parametrize("damage", ["cut", "rotten"])
def test_data_that_are_there_before_the_first_run_are_hashed(old: Path, new: Path, damage: str) -> None:
    data = LARGE[:-1] if damage == "cut" else b"R" + LARGE[1:]
    writer = VolumeWriter(new)
    writer.put(blob_key(digest_of(LARGE)), data)
    writer.blob(b"first")
    other = writer.blob(b"not the source's")

    result = migrate(old, new)

    assert result.plan.kind == "blobs-only"
    assert {found.id for found in result.findings} == {"target-blob-replaced"}
    after = contents_of(new)
    assert after.pop(blob_key(other)) == b"not the source's"
    assert after == contents_of(old)
    assert {found.id for found in verify(old, new).findings} == {"target-blob-extra"}


def test_later_another_size_is_copied_again_and_rot_is_found_by_reading_back(old: Path, new: Path) -> None:
    migrate(old, new)
    (new / blob_key(digest_of(LARGE))).write_bytes(LARGE[:-7])
    (new / blob_key(digest_of(b"second"))).write_bytes(b"SECOND")

    assert ("target-blob-size", digest_of(LARGE)) in worst(verify(old, new))
    result = migrate(old, new)

    assert result.copied_count == 1
    assert worst(verify(old, new)) == set()
    rotten = verify(old, new, reads_back=True)
    assert worst(rotten) == {("target-blob-corrupt", digest_of(b"second"))}
    assert rotten.findings[0].images == ("app:v2",)


def test_a_registry_that_no_run_made_is_not_touched(old: Path, new: Path) -> None:
    VolumeWriter(new).push_image("other", "v1", layers(1, "other"))
    before = contents_of(new)

    with pytest.raises(RefusedError) as refused:
        migrate(old, new)

    assert refused.value.code == "target-not-empty"
    assert contents_of(new) == before


def test_a_target_without_state_of_this_host_is_gone_on_with(old: Path, new: Path, state_home: Path) -> None:
    migrate(old, new)
    shutil.rmtree(state_home)

    result = migrate(old, new)

    assert result.plan.kind == "former-run"
    assert result.plan.doubtful == []
    assert result.copied_count == 0


def test_a_target_that_lost_its_note_is_hashed_anew(old: Path, new: Path) -> None:
    migrate(old, new)
    (new / MARKER).unlink()
    (new / blob_key(digest_of(b"second"))).write_bytes(b"SECOND")

    result = migrate(old, new)

    assert result.copied_count == 1
    assert contents_of(new) == contents_of(old)


def test_an_emptied_target_is_begun_anew(old: Path, new: Path) -> None:
    migrate(old, new)
    shutil.rmtree(new / "docker")
    VolumeWriter(new).put(blob_key(digest_of(LARGE)), b"R" + LARGE[1:])

    migrate(old, new)

    assert contents_of(new) == contents_of(old)


def test_what_is_remembered_of_a_target_ends_with_it(old: Path, new: Path) -> None:
    """A run that died leaves directories without their links; those of a former target were whole."""
    migrate(old, new)
    migrate(old, new)  # remembers the links
    shutil.rmtree(new)
    key = layer_link_key("app", digest_of(LARGE))
    (new / key).parent.mkdir(parents=True)

    migrate(old, new)

    assert contents_of(new) == contents_of(old)
    record = json.loads((new / MARKER).read_bytes())
    assert (record["is_complete"], record["is_open"]) == (True, False)
    (new / MARKER).write_text(json.dumps({**record, "is_open": True}))
    (new / key).unlink()
    migrate(old, new)
    assert contents_of(new) == contents_of(old)


@pytest.mark.parametrize("damaged", [b"", b"sha256:" + b"0" * 64], ids=["empty", "other"])
def test_damaged_links_at_the_target_are_written_anew(old: Path, new: Path, damaged: bytes) -> None:
    migrate(old, new)
    for key in (tag_link_key("app", "v1"), revision_link_key("app", digest_at(old, "app", "v1"))):
        (new / key).write_bytes(damaged)

    migrate(old, new)

    assert contents_of(new) == contents_of(old)


# Ends


def test_swapped_ends_are_refused_with_and_without_mirror(old: Path, new: Path, state_home: Path) -> None:
    migrate(old, new)
    for is_mirror in (False, True):
        with pytest.raises(RefusedError) as refused:
            migrate(new, old, is_mirror=is_mirror)
        assert refused.value.code == "swapped"
    shutil.rmtree(state_home)  # the note at the target is enough
    with pytest.raises(RefusedError):
        migrate(new, old)
    migrate(old, new)
    (new / MARKER).unlink()  # and so is the one of this host
    with pytest.raises(RefusedError):
        migrate(new, old)


@pytest.mark.parametrize("place", ["", "inside", "docker/registry/v2"])
def test_nested_and_same_ends_are_refused(old: Path, place: str) -> None:
    before = contents_of(old)

    with pytest.raises(RefusedError) as refused:
        migrate(old, old / place)

    assert refused.value.code == "nested"
    assert contents_of(old) == before


class OtherName(Forwarding):
    """The same objects, under a location that no comparison finds equal."""

    location = "memory://another-name"

    def _call(self, operation: str, key: str, call: Callable[[], Any]) -> Any:
        return call()


def test_two_names_of_one_place_are_refused(tmp_path: Path) -> None:
    source = from_url(f"memory://{new_name()}")
    VolumeWriter(lambda key, data: source.write(key, data, len(data))).blob(b"alone")
    source.write(f"{V2}/repositories/app/_layers/keep", b"", 0)
    target = OtherName(source)
    record = new_record(source, target)
    write_record(target, record)

    with pytest.raises(RefusedError) as refused:
        check_not_same(source, target, record)

    assert refused.value.code == "same"
    assert MARKER not in {entry.key for entry in source.list("")}


def test_an_empty_source_is_refused_and_nothing_is_removed(old: Path, new: Path) -> None:
    migrate(old, new)
    before = contents_of(new)
    shutil.rmtree(old / V2 / "repositories")

    with pytest.raises(RefusedError) as refused:
        migrate(old, new, is_mirror=True)

    assert refused.value.code == "source-empty"
    assert contents_of(new) == before


def test_another_run_holds_the_target(old: Path, new: Path) -> None:
    new.mkdir()
    with hold_lock(FilesystemDriver(str(new)), "another run"), pytest.raises(LockedError):
        migrate(old, new)


def test_a_file_system_without_room_is_refused_before_anything_is_copied(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_device_of", lambda _: -1)
    monkeypatch.setattr(FilesystemDriver, "capacity", lambda _: Capacity(10**6, 10**5, 1000, 1000))
    with pytest.raises(RefusedError, match="are to be copied") as refused:
        migrate(old, new)
    assert refused.value.code == "no-space"
    monkeypatch.setattr(FilesystemDriver, "capacity", lambda _: Capacity(10**9, 10**9, 1000, 20))
    with pytest.raises(RefusedError, match="inodes"):
        migrate(old, new)

    assert contents_of(new) == {}
    assert {found.id for found in migration(old, new).plan().findings} == {"space-short"}


# Deletions


def test_what_is_deleted_at_the_source_is_told_and_removed_only_with_mirror(
    old: Path, new: Path, writer: VolumeWriter
) -> None:
    image = writer.push_image("gone/app", "v1", [b"gone layer"])
    migrate(old, new)
    shutil.rmtree(old / V2 / "repositories" / "gone")
    (old / blob_key(image.digest)).unlink()

    told = migrate(old, new)

    assert [(found.id, found.subject) for found in told.findings] == [("tag-gone", "gone/app:v1")]
    assert tags_at(new) >= {"gone/app:v1"}
    assert ("tag-extra", "gone/app:v1") in worst(verify(old, new))

    removed = migrate(old, new, is_mirror=True)

    assert removed.removed == ["gone/app:v1"]
    assert not (new / V2 / "repositories" / "gone").exists()
    assert blob_key(image.digest) in contents_of(new)  # data are a collection's business
    assert worst(verify(old, new)) == set()


def test_a_deleted_tag_leaves_no_ghost(old: Path, new: Path) -> None:
    migrate(old, new)
    tag = (old / tag_link_key("app", "v2")).parent.parent
    shutil.rmtree(tag)

    migrate(old, new, is_mirror=True)

    assert not (new / tag.relative_to(old)).exists()
    assert contents_of(new) == contents_of(old)


def test_mirror_refuses_above_its_limit_and_changes_nothing(old: Path, new: Path, writer: VolumeWriter) -> None:
    migrate(old, new)
    shutil.rmtree(old / V2 / "repositories" / "app")
    writer.push_image("fresh", "v1", layers(1, "fresh"))
    before = contents_of(new)

    with pytest.raises(RefusedError) as refused:
        migrate(old, new, is_mirror=True)

    assert refused.value.code == "max-delete"
    assert contents_of(new) == before
    migrate(old, new, is_mirror=True, max_delete_percent=None)
    assert tags_at(new) == {"fresh:v1", "team/web:latest"}


def test_mirror_removes_nothing_of_what_the_source_cannot_show(old: Path, new: Path) -> None:
    """The source lost a layer and a manifest was deleted: what the target has may be the only good copy."""
    migrate(old, new)
    (old / tag_link_key("app", "v1")).write_bytes(b"")
    shutil.rmtree((old / revision_link_key("app", digest_at(old, "app", "v2"))).parent)
    before = contents_of(new)

    result = migrate(old, new, is_mirror=True)

    assert contents_of(new) == before
    assert ("mirror-withheld", result.plan.target) in worst(result)


def test_mirror_withholds_everything_when_something_cannot_be_read(old: Path, new: Path) -> None:
    migrate(old, new)
    shutil.rmtree((old / tag_link_key("team/web", "latest")).parent.parent)
    layers_of_app = old / V2 / "repositories/app/_layers/sha256"
    before = contents_of(new)
    shutil.move(layers_of_app, old / "aside")
    layers_of_app.symlink_to("sha256")  # a loop: it cannot be listed

    result = migrate(old, new, is_mirror=True)

    assert contents_of(new) == before
    assert "mirror-withheld" in {found for found, _ in worst(result)}


# Damage of the source


def test_an_image_that_is_not_whole_is_named_and_its_tag_not_written(old: Path, new: Path) -> None:
    (old / blob_key(digest_of(b"second"))).write_bytes(b"rotten")
    (old / blob_key(digest_of(layers(2, "web")[0]))).unlink()

    result = migrate(old, new)

    assert not {"app:v2", "team/web:latest"} & tags_at(new)
    assert {"app:v1", "app:multi"} <= tags_at(new)
    hurt = {found.subject: found.images for found in result.findings if found.images}
    assert hurt[digest_of(b"second")] == ("app:v2",)
    assert blob_key(digest_of(b"second")) not in contents_of(new)
    items, compared = compare(old, new)
    assert {item.mark for item in items if item.name in ("app:v2", "team/web:latest")} <= {"!", "+"}
    assert compared.findings


def test_a_tag_that_moved_to_a_broken_image_stays_where_it_was(old: Path, new: Path, writer: VolumeWriter) -> None:
    migrate(old, new)
    before = digest_at(new, "app", "v1")
    writer.push_image("app", "v1", [LARGE, b"moved"])
    (old / blob_key(digest_of(b"moved"))).unlink()

    result = migrate(old, new)

    assert digest_at(new, "app", "v1") == before
    assert any("app:v1" in found.images for found in result.findings)


def test_data_that_the_source_lost_since_count_at_the_target(old: Path, new: Path) -> None:
    migrate(old, new)
    shutil.rmtree((old / blob_key(digest_of(b"second"))).parent)

    result = migrate(old, new)

    assert worst(result) == set()
    assert "app:v2" in tags_at(new)


def test_damage_of_images_that_are_not_wanted_is_not_told(old: Path, new: Path) -> None:
    (old / blob_key(digest_of(b"second"))).write_bytes(b"rotten")
    shutil.rmtree((old / blob_key(digest_of(layers(2, "web")[0]))).parent)

    assert worst(migrate(old, new, tags=("v1",))) == set()


# Writing


def test_owner_and_modes_are_those_of_the_target_root(old: Path, new: Path) -> None:
    require_root("change owners")
    new.mkdir()
    os.chmod(new, 0o2750)
    os.chown(new, 1234, 2345)

    migrate(old, new)

    for path in (new / "docker").rglob("*"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (1234, 2345)
        assert stat.S_IMODE(status.st_mode) == (0o2750 if path.is_dir() else 0o640)


def test_owner_and_modes_can_be_given(old: Path, new: Path) -> None:
    require_root("change owners")
    migrate(old, new, attributes=Attributes(1, 2, 0o700, 0o600))

    link = (new / tag_link_key("app", "v1")).stat()
    assert (link.st_uid, link.st_gid, stat.S_IMODE(link.st_mode)) == (1, 2, 0o600)


def test_reading_back_finds_what_the_storage_spoiled(old: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = writing.is_whole
    spoiled = blob_key(digest_of(b"second"))
    monkeypatch.setattr(writing, "is_whole", lambda driver, key, digest: key != spoiled and whole(driver, key, digest))

    result = migrate(old, new, reads_back=True)

    assert ("target-blob-corrupt", digest_of(b"second")) in worst(result)
    assert "app:v2" not in tags_at(new)
    assert spoiled not in contents_of(new)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(new.parent / "state"))
    migrate(old, new, reads_back=True)
    assert contents_of(new) == contents_of(old)


def test_tags_are_written_last_and_their_images_before(old: Path) -> None:
    target = Recording(from_url(f"memory://{new_name()}"))

    migrate(old, target)

    written = [layout.parse_key(key) for operation, key in target.calls if operation == "write"]
    kinds = [type(spec) for spec in written if not isinstance(spec, layout.Stray)]
    order = [layout.BlobData, layout.LayerLink, layout.RevisionLink, layout.TagIndexLink, layout.TagLink]
    firsts = [kinds.index(kind) for kind in order]
    lasts = [len(kinds) - 1 - kinds[::-1].index(kind) for kind in order]
    assert firsts[1] > lasts[0]
    assert min(firsts[3:]) > max(lasts[:3])
    first_index = next(spec for spec in written if isinstance(spec, layout.TagIndexLink))
    # A store shows a tag as soon as anything lies below its name: what it means is written first.
    assert written.index(layout.TagLink(first_index.repository, first_index.tag)) < written.index(first_index)


@pytest.mark.slow
def test_death_at_any_change_leaves_whole_images_and_the_next_run_ends_it(tmp_path: Path, state_home: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    writer = VolumeWriter(old)
    writer.push_image("app", "v1", [LARGE, b"first"])
    gone = writer.push_image("web", "v1", [b"web", b"gone"])
    writer.push_image("web", "kept", [b"web"])
    writer.push_image("more", "v1", [b"more"])
    new.mkdir()
    migrate(old, new)
    writer.push_image("app", "v1", [LARGE, b"second"])
    shutil.rmtree((old / tag_link_key("web", "v1")).parent.parent)
    for link in (revision_link_key("web", gone.digest), layer_link_key("web", digest_of(b"gone"))):
        shutil.rmtree((old / link).parent)
    writer.push_image("web", "v2", [b"web"])
    expected = contents_of(old)
    step, is_dead = 0, True
    while is_dead:
        step += 1
        copy, state = tmp_path / f"new-{step}", tmp_path / f"state-{step}"
        shutil.copytree(new, copy)
        shutil.copytree(state_home, state)
        before = os.environ["XDG_STATE_HOME"]
        os.environ["XDG_STATE_HOME"] = str(state)
        try:
            is_dead = die_at(step, lambda copy=copy: migrate(old, copy, is_mirror=True))  # type: ignore[misc]
            there = contents_of(copy)
            for key, data in there.items():
                if isinstance(layout.parse_key(key), layout.TagLink):
                    assert whole_at(there, key, data.decode()), (step, key)
            migrate(old, copy, is_mirror=True)
            after = contents_of(copy)
            assert {key for key in expected if after.get(key) != expected[key]} == set(), step
            extra = after.keys() - expected.keys()
            assert all(isinstance(layout.parse_key(key), layout.BlobData) for key in extra), (step, extra)
            assert not (copy / tag_link_key("web", "v1")).parent.parent.exists(), step
            assert not list(copy.rglob("*.regstore-tmp")), step
        finally:
            os.environ["XDG_STATE_HOME"] = before
        shutil.rmtree(copy)
        shutil.rmtree(state)
    assert step > 40


def whole_at(contents: dict[str, bytes], tag_key: str, digest: str) -> bool:
    """Tell whether a plain image is whole, by nothing but its files."""
    name = tag_key.split("/repositories/")[1].split("/_manifests")[0]
    manifest = contents.get(blob_key(digest))
    if manifest is None or digest_of(manifest) != digest or revision_link_key(name, digest) not in contents:
        return False
    document = json.loads(manifest)
    named = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
    return all(
        layer_link_key(name, one) in contents and digest_of(contents.get(blob_key(one), b"")) == one for one in named
    )


def test_a_request_to_stop_ends_it_and_the_next_run_goes_on(old: Path, new: Path) -> None:
    class Stopping(Cancel):
        """Asks to stop after some checks."""

        left = 12

        def check(self) -> None:
            self.left -= 1
            if self.left == 0:
                self.request()
            super().check()

    with pytest.raises(InterruptedRunError):
        Migration(source_at(old), target_at(new), options_of(), cancel=Stopping()).run()

    migrate(old, new)
    assert contents_of(new) == contents_of(old)


def to_memory(tree: Tree) -> MemoryDriver:
    """Put a volume into a driver in memory."""
    driver = from_url(f"memory://{new_name()}")
    for key, stored in tree.items():
        driver.write(key, stored.data, len(stored.data))
    return driver


@given(tree=trees(), later=trees(), is_object=st.booleans())
@examples(60)
def test_random_volumes_move_whole_and_their_deltas_too(
    tree: Tree, later: Tree, is_object: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("random")
    old = base / "old"
    lay_out(tree, old)
    target: Driver = from_url(f"memory://{new_name()}") if is_object else FilesystemDriver(str(base))
    if not is_object:
        (base / "new").mkdir()
        target = FilesystemDriver(str(base / "new"))
    if not any("/_" in key for key in tree):
        with pytest.raises(RefusedError):
            migrate(old, target, takes_all=True)
        return
    migrate(old, target, takes_all=True)
    check_moved(old, target)
    lay_out(later, old)
    migrate(old, target, takes_all=True)
    check_moved(old, target)


def check_moved(old: Path, target: Driver) -> None:
    """See that everything that a comparison knows is at the target, and every link and blob byte by byte."""
    there = objects_of(target)
    items, result = compare(old, target, takes_all=True)
    broken = {image for found in result.findings for image in found.images}
    for key, data in contents_of(old).items():
        spec = layout.parse_key(key)
        is_whole_tag = isinstance(spec, layout.TagLink) and f"{spec.repository}:{spec.tag}" not in broken
        if is_whole_tag or isinstance(spec, layout.BlobData):
            assert there[key] == data
    assert {item.mark for item in items} <= {"!", "-"}


def test_a_tag_that_cannot_be_removed_keeps_its_image(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = MemoryDriver(new_name())
    migrate(old, target)
    before = objects_of(target)
    (old / revision_link_key("app", digest_at(old, "app", "v2"))).unlink()
    shutil.rmtree(old / V2 / "repositories/app/_manifests/tags/v2")
    delete = target.delete

    def refuse_tags(keys: Iterable[str]) -> Iterator[Deleted]:
        for key in keys:
            yield from [Deleted(key, "failed", "no")] if "/tags/" in key else delete([key])

    monkeypatch.setattr(target, "delete", refuse_tags)

    result = migrate(old, target, is_mirror=True, max_delete_percent=None)

    assert ("delete-failed", tag_link_key("app", "v2")) in worst(result)
    assert result.removed == []
    assert not [found for found in result.findings if found.id == "tag-removed"]
    assert objects_of(target) == before

"""Two ways to read a volume, by system calls and by listings, see the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest
from regstore.registry.listing import ListingVolume
from regstore.registry.local import LocalVolume
from regstore.registry.scan import Blobs, Repository, Volume, upload_start
from regstore.state import NOTHING_KNOWN, Known
from regstore_drivers import memory
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError, NotFound, TooLarge
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Counting, Faulty
from support import images
from support.examples import examples
from support.memory_registry import MemoryRegistry
from support.random_volumes import NOW, Tree, lay_out, trees
from support.volume import (
    V2,
    VolumeWriter,
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
    upload_prefix,
)

LAYER = b"layer"
DIGEST = images.digest_of(LAYER)


@contextmanager
def three_views(tree: Tree) -> Iterator[tuple[LocalVolume, ListingVolume, ListingVolume]]:
    """Give a volume as a directory, through a driver over that directory, and in memory."""
    with tempfile.TemporaryDirectory() as directory:
        lay_out(tree, Path(directory))
        (Path(directory) / V2 / "repositories").mkdir(parents=True, exist_ok=True)
        wrapped = Counting(FilesystemDriver(directory))
        assert not isinstance(wrapped, HasLocalPath)
        yield LocalVolume(directory), ListingVolume(wrapped), ListingVolume(MemoryRegistry(tree).memory, 3)


def digests_of(blobs: Blobs) -> set[Digest]:
    """Return the digests of a listing of blobs."""
    return set().union(*blobs.iter_shards())


def facts(repository: Repository) -> dict[str, Any]:
    """Return what must not depend on the way of reading."""
    return {
        "name": repository.name,
        "layers": repository.layers,
        "aliases": repository.aliases,
        "revisions": repository.revisions,
        "tags": repository.tags,
        "tag_indexes": {tag: sorted(history) for tag, history in repository.tag_indexes.items()},
        "uploads": sorted((upload.id, upload.keys, upload.size) for upload in repository.uploads),
        "damage": sorted(repository.damage),
        "sound_layers": repository.sound_layers,
        "sound_revisions": repository.sound_revisions,
    }


def check_alike(local: Volume, listed: Volume) -> None:
    """Fail when two volumes show different things."""
    local_blobs, listed_blobs = local.list_blobs(lambda _: None), listed.list_blobs(lambda _: None)
    assert digests_of(local_blobs) >= digests_of(listed_blobs)
    everything = sorted(digests_of(local_blobs))
    sizes = [[(d, size) for d, size, _ in volume.iter_blob_info(everything)] for volume in (local, listed)]
    assert sizes[0] == sizes[1]
    assert {digest for digest, _ in sizes[0]} == digests_of(listed_blobs)
    keys = [layout.BlobData(digest).key for digest in everything]
    assert set(map(_without_time, local.list_leftovers(keys))) == set(map(_without_time, listed_blobs.leftovers))
    check_strays(local_blobs.strays, listed_blobs.strays)
    assert local.list_repositories() == listed.list_repositories()
    for name in local.list_repositories():
        here, there = local.scan_repository(name, NOTHING_KNOWN), listed.scan_repository(name, NOTHING_KNOWN)
        assert facts(here) == facts(there)
        assert set(map(_without_time, here.leftovers)) <= set(map(_without_time, there.leftovers))
        check_strays(here.strays, there.strays)
        assert here.is_empty == there.is_empty
        for revision in here.revisions:
            assert sorted(local.read_signatures(name, revision)) == sorted(listed.read_signatures(name, revision))
            key = layout.RevisionLink(name, revision).key
            assert local.link_newest(key) is not None
            assert listed.link_newest(key) is not None
            assert read_or_none(local, revision) == read_or_none(listed, revision)


def _without_time(leftover: tuple[str, int, float]) -> tuple[str, int]:
    return leftover[:2]


def read_or_none(volume: Volume, digest: Digest) -> bytes | None:
    """Read the data of a manifest; None when they are not there."""
    try:
        return volume.read_manifest(digest)
    except NotFound:
        return None


def check_strays(local: list[str], listed: list[str]) -> None:
    """A directory is listed by its name here, by its files there."""
    for key in local:
        assert any(other == key or other.startswith(f"{key}/") for other in listed), key
    for key in listed:
        assert any(key == other or key.startswith(f"{other}/") for other in local) or "lost" not in key, key


@examples(40)
@given(trees())
def test_the_views_are_alike(tree: Tree) -> None:
    with three_views(tree) as (local, wrapped, memory):
        check_alike(local, wrapped)
        check_alike(local, memory)


@examples(50)
@given(trees(damage=True))
def test_the_views_of_damaged_volumes_are_alike(tree: Tree) -> None:
    with three_views(tree) as (local, wrapped, memory):
        check_alike(local, wrapped)
        check_alike(local, memory)


@examples(25)
@given(trees(damage=True))
def test_scanning_with_memory_sees_the_same_and_reads_less(tree: Tree) -> None:
    with three_views(tree) as views:
        for volume in views:
            for name in volume.list_repositories():
                first = volume.scan_repository(name, NOTHING_KNOWN)
                known = Known(frozenset(first.sound_layers), frozenset(first.sound_revisions), first.histories, None)
                second = volume.scan_repository(name, known)
                assert facts(second) == facts(first)
                assert second.histories == first.histories


@examples(40)
@given(trees())
def test_links_need_no_read_where_the_entity_tag_proves_them(tree: Tree) -> None:
    counting = Counting(MemoryRegistry(tree).memory)
    volume = ListingVolume(counting)
    volume.list_blobs(lambda _: None)
    repositories = [volume.scan_repository(name, NOTHING_KNOWN) for name in volume.list_repositories()]

    aliases = sum(len(repository.aliases) for repository in repositories)
    starts = sum(key.endswith("/startedat") for r in repositories for upload in r.uploads for key in upload.keys)
    # A tag that names a manifest without an index entry, after a deletion by the API, is read.
    assert counting.counts.get("read", 0) == aliases + starts
    assert counting.counts.get("stat", 0) == 0
    assert counting.counts["list"] == 2


def test_a_tag_that_its_index_does_not_prove_is_read() -> None:
    bench = MemoryRegistry(wrap=Counting)
    image = bench.writer.push_image("app", "latest", [LAYER], b"{}")
    bench.drop(tag_index_key("app", "latest", image.digest))
    volume = ListingVolume(bench.driver)
    volume.list_repositories()

    assert volume.scan_repository("app", NOTHING_KNOWN).tags == {"latest": parse_digest(image.digest)}
    assert isinstance(bench.driver, Counting)
    assert bench.driver.counts["read"] == 1


def test_a_second_look_at_a_repository_is_a_fresh_one() -> None:
    """Whoever asks again, just before something is removed, wants what is there then."""
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [LAYER], b"{}")
    volume = ListingVolume(bench.memory)
    for name in volume.list_repositories():
        volume.scan_repository(name, NOTHING_KNOWN)
    assert volume.list_repositories() == ["app"]

    bench.writer.push_image("app", "late", [b"late"], b"{}")

    assert set(volume.scan_repository("app", NOTHING_KNOWN).tags) == {"latest", "late"}


def test_a_large_volume_costs_listings_only() -> None:
    bench = MemoryRegistry(wrap=Counting)
    for number in range(2300):
        data = str(number).encode()
        digest = images.digest_of(data)
        bench.put(blob_key(digest), data)
        bench.put(layer_link_key(f"app/{number % 7}", digest), digest.encode())
        bench.put(layer_link_key(f"base-{number % 5}", digest), digest.encode())
    assert isinstance(bench.driver, Counting)
    alone, parallel = ListingVolume(bench.driver), ListingVolume(bench.driver, 4)

    seen = []
    for volume in (alone, parallel):
        bench.driver.reset()
        ticks: list[int] = []
        blobs = volume.list_blobs(ticks.append)
        names = volume.list_repositories()
        layers = [volume.scan_repository(name, NOTHING_KNOWN).layers for name in names]
        seen.append((sorted(digests_of(blobs)), names, layers))
        assert sum(ticks) == blobs.count == 2300
        assert set(bench.driver.counts) <= {"list", "list_dir", "list_small", "now"}
        # One request for each first character where a listing is taken apart, and what finds them.
        assert sum(bench.driver.counts.values()) <= (4 if volume.jobs == 1 else 4 + 16 + 16 + 8)
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == 12
    assert sum(map(len, seen[0][2])) == 4600


def test_links_that_were_good_are_not_read_again() -> None:
    with tempfile.TemporaryDirectory() as directory:
        image = VolumeWriter(directory).push_image("app", "latest", [LAYER], b"{}", algorithm="sha512")
        counting = Counting(FilesystemDriver(directory))
        volume = ListingVolume(counting)
        first = volume.scan_repository("app", NOTHING_KNOWN)
        links = len(first.layers) + len(first.revisions) + len(first.tags)
        assert counting.counts["read"] == links
        counting.reset()

        known = Known(frozenset(first.sound_layers), frozenset(first.sound_revisions))
        second = volume.scan_repository("app", known)

        assert facts(second) == facts(first)
        assert counting.counts["read"] == 2  # the alias, and the tag
        assert second.aliases == {parse_digest(image.layers[0]): parse_digest(DIGEST)}


@pytest.mark.parametrize("content", [b"", b"sha256:", DIGEST.encode() + b"\n", b"\xff" * 71, b"x" * 400])
@pytest.mark.parametrize("kind", ["layer", "revision", "tag"])
def test_malformed_links_are_damage(kind: str, content: bytes) -> None:
    bench = MemoryRegistry()
    image = bench.writer.push_image("app", "latest", [LAYER], b"{}")
    key = {
        "layer": layer_link_key("app", DIGEST),
        "revision": revision_link_key("app", image.digest),
        "tag": tag_link_key("app", "latest"),
    }[kind]
    bench.put(key, content)

    with three_views(Tree()) as (_, _, _), tempfile.TemporaryDirectory() as directory:
        for name, data in bench.contents.items():
            VolumeWriter(directory).put(name, data)
        volumes: list[Volume] = [ListingVolume(bench.memory), ListingVolume(Counting(FilesystemDriver(directory)))]
        if not (kind == "layer" and len(content) == 71):  # a layer link of the right length is left to fsck
            volumes.append(LocalVolume(directory))
        for volume in volumes:
            repository = volume.scan_repository("app", NOTHING_KNOWN)
            assert [(damage.kind, damage.key) for damage in repository.damage] == [("link-malformed", key)]
            assert "\n" not in repository.damage[0].detail
            assert len(repository.damage[0].detail) < 500
            # What the path says stays: nothing shrinks.
            assert parse_digest(DIGEST) in repository.layers
            assert repository.revisions == {parse_digest(image.digest)}
            if kind == "tag":
                assert repository.tags == {}
                assert repository.tag_indexes == {"latest": [parse_digest(image.digest)]}


def test_links_that_name_another_digest() -> None:
    tree = Tree()
    writer = VolumeWriter(tree.put)
    other = images.digest_of(b"other")
    long = images.digest_of(LAYER, "sha512")
    writer.layer_link("app", long, DIGEST)
    writer.layer_link("app", images.digest_of(b"odd"), long)
    writer.revision_link("app", DIGEST, other)
    writer.revision_link("app", other, long)

    with three_views(tree) as views:
        for volume in views:
            repository = volume.scan_repository("app", NOTHING_KNOWN)
            assert repository.aliases == {
                parse_digest(long): parse_digest(DIGEST),
                parse_digest(images.digest_of(b"odd")): parse_digest(long),
            }
            assert {(damage.kind, damage.key) for damage in repository.damage} == {
                ("link-mismatch", revision_link_key("app", DIGEST)),
                ("link-mismatch", revision_link_key("app", other)),
            }


def test_a_tag_with_an_index_alone_is_damage_and_one_with_nothing_is_none() -> None:
    tree = Tree()
    writer = VolumeWriter(tree.put)
    writer.tag_index("app", "half", DIGEST)
    writer.put(f"{tag_link_key('app', 'new')}.5ca1ab1e.tmp", b"half")

    with three_views(tree) as views:
        for volume in views:
            repository = volume.scan_repository("app", NOTHING_KNOWN)
            assert [(d.kind, d.key) for d in repository.damage] == [("tag-link-missing", tag_link_key("app", "half"))]
            assert repository.tag_indexes == {"half": [parse_digest(DIGEST)]}
            assert [key for key, _, _ in repository.leftovers] == [f"{tag_link_key('app', 'new')}.5ca1ab1e.tmp"]


@given(
    names=strategies.sets(strategies.text("ab", min_size=1, max_size=5), max_size=30),
    children=strategies.sets(strategies.text("ab", min_size=1, max_size=5), max_size=30),
    jobs=strategies.integers(2, 16),
)
def test_a_listing_in_parts_has_every_key_once(names: set[str], children: set[str], jobs: int) -> None:
    """Whatever lies there, also objects with names that others begin with."""
    driver = MemoryDriver()
    for key in names | {f"{name}/x" for name in children}:
        driver.write(f"{layout.BLOBS}{key}", b"", 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_PAGE_KEYS", 1)
        blobs = ListingVolume(driver, jobs).list_blobs(lambda _: None)

    assert sorted(blobs.strays) == sorted(entry.key for entry in driver.list(layout.BLOBS))


def test_repositories_with_names_that_begin_alike_are_listed_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = MemoryRegistry(wrap=Counting)
    expected = [f"team/service-{number:02}" for number in range(40)]
    for name in expected:
        bench.put(layer_link_key(name, DIGEST), DIGEST.encode())
    assert isinstance(bench.driver, Counting)
    bench.driver.reset()
    monkeypatch.setattr(memory, "_PAGE_KEYS", 10)

    assert ListingVolume(bench.driver, 16).list_repositories() == expected

    assert bench.driver.counts == {"list_small": 1, "list_dir": 2, "list": 40, "now": 1}


def test_a_small_volume_is_listed_by_one_request_for_each_half() -> None:
    bench = MemoryRegistry(wrap=Counting)
    image = bench.writer.push_image("app", "latest", [LAYER], b"{}")
    assert isinstance(bench.driver, Counting)
    bench.driver.reset()
    volume = ListingVolume(bench.driver, 16)

    assert volume.list_repositories() == ["app"]
    assert parse_digest(image.digest) in set().union(*volume.list_blobs(lambda _: None).iter_shards())

    assert bench.driver.counts == {"list_small": 2, "now": 2}


def test_a_link_removed_between_listing_and_reading_is_gone() -> None:
    bench = MemoryRegistry(wrap=Faulty)
    faulty = bench.driver
    assert isinstance(faulty, Faulty)
    image = bench.writer.push_image("app", "latest", [LAYER], b"{}")
    for key in (layer_link_key("app", DIGEST), revision_link_key("app", image.digest), tag_link_key("app", "latest")):
        bench.put(key, b"")  # so that no entity tag proves it
        faulty.call_before("read", key, lambda key=key: bench.drop(key))

    repository = ListingVolume(faulty).scan_repository("app", NOTHING_KNOWN)

    assert parse_digest(DIGEST) not in repository.layers
    assert repository.revisions == set()
    assert repository.tags == {}
    assert [damage.kind for damage in repository.damage] == ["tag-link-missing"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2026-01-15T08:00:00Z", 1768464000.0),
        (b"2026-01-15T08:00:00.123456789Z", 1768464000.123456),
        (b"2026-01-15T10:00:00+02:00", 1768464000.0),
        (b" 2026-01-15T08:00:00Z\n", 1768464000.0),
        (b"", 0.0),
        (b"yesterday", 0.0),
        (b"\xff", 0.0),
        (b"0001-01-01T00:00:00Z", -62135596800.0),
        (b"0001-01-01T00:00:00+23:59", -62135683140.0),
    ],
)
def test_start_times_of_uploads(text: bytes, seconds: float) -> None:
    assert upload_start(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("started", ["2026-01-15T08:00:00Z", "2999-01-01T00:00:00Z", "nonsense", ""])
def test_uploads_are_seen_whole(started: str) -> None:
    tree = Tree()
    tree.clock = NOW - 100
    writer = VolumeWriter(tree.put)
    writer.upload("app", b"bytes", started_at=started, identity="one")
    writer.upload("app", None, started_at="2026-01-15T08:00:00Z", identity="two")

    with three_views(tree) as views:
        for volume in views:
            uploads = {upload.id: upload for upload in volume.scan_repository("app", NOTHING_KNOWN).uploads}
            assert set(uploads) == {"one", "two"}
            prefix = upload_prefix("app", "one")
            names = ["data", "hashstates/sha256/0", "startedat"] if started else ["data", "hashstates/sha256/0"]
            assert uploads["one"].keys == [f"{prefix}{name}" for name in names]
            assert uploads["one"].size == 5 + 108 + len(started)
            assert uploads["one"].newest >= max(upload_start(started.encode()), NOW - 100)
            assert uploads["two"].keys == [f"{upload_prefix('app', 'two')}startedat"]


def test_nested_and_odd_repositories_are_found(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    for name in ("foo", "foo/bar", "foo/bar/baz", "a.b/c-d"):
        writer.layer_link(name, DIGEST)
    writer.upload("only/uploads")
    writer.tag("only/tags", "latest", DIGEST)
    writer.layer_link("Upper/case", DIGEST)
    writer.put(f"{V2}/repositories/_layers/sha256/{'0' * 64}/link", b"")
    (tmp_path / V2 / "repositories/empty/_manifests").mkdir(parents=True)
    (tmp_path / V2 / "repositories/hollow").mkdir(parents=True)
    expected = ["a.b/c-d", "foo", "foo/bar", "foo/bar/baz", "only/tags", "only/uploads"]

    assert ListingVolume(Counting(FilesystemDriver(str(tmp_path)))).list_repositories() == expected
    assert LocalVolume(str(tmp_path)).list_repositories() == sorted([*expected, "empty"])


def test_a_repository_behind_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    VolumeWriter(tmp_path / "other").layer_link("inner", DIGEST)
    VolumeWriter(tmp_path / "data").layer_link("app", DIGEST)
    (tmp_path / "data" / V2 / "repositories/linked").symlink_to(tmp_path / "other" / V2 / "repositories")
    volume = LocalVolume(str(tmp_path / "data"))

    assert volume.list_repositories() == ["app", "linked/inner"]
    assert volume.scan_repository("linked/inner", NOTHING_KNOWN).layers == {parse_digest(DIGEST)}


def test_a_vanished_directory_of_repositories_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / V2 / "blobs").mkdir(parents=True)

    with pytest.raises(DriverError):
        LocalVolume(str(tmp_path)).list_repositories()


def test_what_is_not_there_is_empty_and_not_an_error(tmp_path: Path) -> None:
    (tmp_path / V2 / "repositories").mkdir(parents=True)
    volumes: list[Volume] = [LocalVolume(str(tmp_path)), ListingVolume(MemoryDriver())]

    for volume in volumes:
        assert volume.list_blobs(lambda _: None).count == 0
        assert volume.list_repositories() == []
        assert facts(volume.scan_repository("app", NOTHING_KNOWN)) == facts(Repository("app"))
        assert volume.read_signatures("app", parse_digest(DIGEST)) == []
        assert volume.link_newest(layer_link_key("app", DIGEST)) is None
        assert list(volume.iter_blob_info([parse_digest(DIGEST)])) == []
        assert list(volume.iter_multipart()) == []
        assert list(volume.list_leftovers([blob_key(DIGEST), layer_link_key("app", DIGEST)])) == []
        with pytest.raises(NotFound):
            volume.read_manifest(parse_digest(DIGEST))
        volume.check_unchanged()


def test_a_manifest_of_any_size_is_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    memory = MemoryDriver()
    sizes = [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16, 16 << 20]
    for size in sizes:
        digest = writer.blob(bytes(size))
        memory.write(blob_key(digest), bytes(size), size)
        for volume in (LocalVolume(str(tmp_path)), ListingVolume(memory)):
            assert volume.read_manifest(parse_digest(digest)) == bytes(size)
    digest = writer.blob(bytes((16 << 20) + 1))
    memory.write(blob_key(digest), bytes((16 << 20) + 1), (16 << 20) + 1)
    for volume in (LocalVolume(str(tmp_path)), ListingVolume(memory)):
        with pytest.raises(TooLarge):
            volume.read_manifest(parse_digest(digest))


PLACES = [
    "blobs",
    "blobs/sha256",
    f"blobs/sha256/{DIGEST[7:9]}",
    "repositories",
    "repositories/app/_layers",
    "repositories/app/_layers/sha256",
    f"repositories/app/_layers/sha256/{'0' * 64}",
    "repositories/app/_manifests/revisions",
    "repositories/app/_manifests/revisions/sha256",
    f"repositories/app/_manifests/revisions/sha256/{'0' * 64}",
    "repositories/app/_manifests/tags",
    "repositories/app/_manifests/tags/latest",
    "repositories/app/_manifests/tags/latest/current/link",
    "repositories/app/_uploads",
    "repositories/app/_uploads/id",
]


@pytest.mark.parametrize("place", PLACES)
def test_what_cannot_be_read_is_a_storage_error_wherever_it_is(tmp_path: Path, place: str) -> None:
    """A circle of links stands for a disk that fails: it is no absence, and never makes anything look empty."""
    path = tmp_path / V2 / place
    path.parent.mkdir(parents=True)
    path.symlink_to(path)
    (tmp_path / V2 / "repositories/app/_layers").mkdir(parents=True, exist_ok=True) if place.startswith(
        "blobs"
    ) else None
    volume = LocalVolume(str(tmp_path))

    def read_all() -> None:
        blobs = volume.list_blobs(lambda _: None)
        list(volume.iter_blob_info(sorted(digests_of(blobs))))
        for name in volume.list_repositories() or ["app"]:
            volume.scan_repository(name, NOTHING_KNOWN)

    with pytest.raises(DriverError) as caught:
        read_all()
    assert not isinstance(caught.value, NotFound)
    assert os.path.commonpath([caught.value.key, str(tmp_path / V2)]) == str(tmp_path / V2)


def test_a_tree_that_is_replaced_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / V2).mkdir(parents=True)
    volume = LocalVolume(str(tmp_path))
    volume.check_unchanged()
    (tmp_path / V2).rename(tmp_path / "unmounted")

    with pytest.raises(DriverError, match="unmounted or replaced"):
        volume.check_unchanged()
    (tmp_path / V2).mkdir()
    with pytest.raises(DriverError, match="unmounted or replaced"):
        volume.check_unchanged()


def test_the_clock_of_a_directory_does_not_believe_times_that_anybody_can_set(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    digest = writer.layer("app", LAYER)
    writer.upload("app", b"x")
    future = 4_000_000_000.0
    for path in [*tmp_path.rglob("*")]:
        os.utime(path, (future, future))
    volume = LocalVolume(str(tmp_path))
    volume.list_blobs(lambda _: None)
    volume.list_repositories()
    volume.scan_repository("app", NOTHING_KNOWN)
    info = next(iter(volume.iter_blob_info([parse_digest(digest)])))

    assert info.newest == future
    assert 0 < volume.newest_seen < future - 1e9
    newest = volume.link_newest(layer_link_key("app", digest))
    assert newest == future


def test_the_age_of_data_counts_from_their_commit(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    digest = writer.blob(LAYER)
    path = tmp_path / blob_key(digest)
    os.utime(path, (1, 1))
    committed = path.stat().st_ctime

    volume = LocalVolume(str(tmp_path))

    assert next(iter(volume.iter_blob_info([parse_digest(digest)]))).newest >= committed


def test_multipart_uploads_of_the_registry_are_listed() -> None:
    memory = MemoryDriver()
    inside = memory.begin_multipart(f"{upload_prefix('app', 'id')}data", size=3, initiated=5.0)
    memory.begin_multipart("elsewhere/file", size=3, initiated=5.0)

    assert list(ListingVolume(memory).iter_multipart()) == [inside]
    assert list(ListingVolume(Counting(memory)).iter_multipart()) == [inside]


def test_digests_of_all_algorithms_are_listed(tmp_path: Path) -> None:
    tree = Tree()
    writer = VolumeWriter(tree.put)
    digests = {writer.blob(LAYER, name) for name in ("sha256", "sha384", "sha512")}
    digests |= {writer.blob(str(number).encode()) for number in range(40)}

    with three_views(tree) as views:
        for volume in views:
            blobs = volume.list_blobs(lambda _: None)
            assert set(map(format_digest, digests_of(blobs))) == digests
            assert blobs.count == len(digests) == 43
            assert len(list(blobs.iter_shards())) == 257

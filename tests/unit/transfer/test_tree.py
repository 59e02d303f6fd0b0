"""A registry's tree that is written: whole repositories, and what is missing of others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from regstore import layout
from regstore.digest import Digest, parse_digest
from regstore.errors import InterruptedRunError
from regstore.transfer import Contents, Tag, TreeTarget, tree
from regstore.work import Cancel, NoProgress
from regstore_drivers import bulk
from regstore_drivers.base import Driver
from regstore_drivers.bulk import Attributes
from regstore_drivers.errors import DriverError, InvalidKey
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from support.images import digest_of
from support.programs import require_root

PUSHED_NS = 10**18 + 7


def digest(text: str) -> Digest:
    return parse_digest(digest_of(text.encode()))


LAYERS = [digest(f"layer {number}") for number in range(5)]
ALIAS = parse_digest("sha512:" + 128 * "a")
FIRST, SECOND, SIGNATURE = digest("first"), digest("second"), digest("signature")


def repository(name: str) -> Contents:
    return Contents(
        name,
        layers={ALIAS: LAYERS[0], **{layer: layer for layer in LAYERS}},
        revisions=[FIRST, SECOND],
        signatures={FIRST: [SIGNATURE]},
        tags={"latest": Tag(SECOND, PUSHED_NS), "1.0": Tag(FIRST, 0)},
        indexes={"latest": [FIRST, SECOND], "1.0": [FIRST]},
    )


def links_of(name: str) -> dict[str, bytes]:
    """All that a registry would read of the repository, by key."""

    def link(spec: layout.Spec, held: Digest) -> tuple[str, bytes]:
        return spec.key, f"sha256:{held.hex()}".encode()

    return dict(
        [
            link(layout.LayerLink(name, ALIAS), LAYERS[0]),
            *(link(layout.LayerLink(name, layer), layer) for layer in LAYERS),
            link(layout.RevisionLink(name, FIRST), FIRST),
            link(layout.RevisionLink(name, SECOND), SECOND),
            link(layout.SignatureLink(name, FIRST, SIGNATURE), SIGNATURE),
            link(layout.TagIndexLink(name, "latest", FIRST), FIRST),
            link(layout.TagIndexLink(name, "latest", SECOND), SECOND),
            link(layout.TagIndexLink(name, "1.0", FIRST), FIRST),
            link(layout.TagLink(name, "latest"), SECOND),
            link(layout.TagLink(name, "1.0"), FIRST),
        ]
    )


@pytest.fixture(params=["files", "objects"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    return FilesystemDriver(str(tmp_path)) if request.param == "files" else MemoryDriver()


def found(driver: Driver) -> dict[str, bytes]:
    return {entry.key: driver.read(entry.key) for entry in driver.list("")}


def write(driver: Driver, *contents: Contents, is_new: bool = True, jobs: int | None = None) -> int:
    target = TreeTarget(driver, Attributes(), jobs, NoProgress(), Cancel())
    return target.write_repositories(contents, is_new=is_new)


@pytest.mark.parametrize("jobs", [None, 1, 4])
def test_repositories_are_written(driver: Driver, jobs: int | None) -> None:
    names = ["a", "a/b", "c"]

    count = write(driver, *map(repository, names), jobs=jobs)

    expected = {key: content for name in names for key, content in links_of(name).items()}
    assert found(driver) == expected
    assert count == len(expected)
    assert driver.stat(layout.TagLink("a/b", "latest").key).mtime == pytest.approx(PUSHED_NS / 10**9)


def test_a_repository_without_layers_has_no_directory_for_them(driver: Driver) -> None:
    assert write(driver, Contents("a", revisions=[FIRST])) == 1

    assert list(found(driver)) == [layout.RevisionLink("a", FIRST).key]
    assert not isinstance(driver, FilesystemDriver) or not os.path.lexists(
        driver.local_path(f"{layout.REPOSITORIES}a/_layers")
    )


def test_what_is_missing_of_a_repository_is_written_and_the_rest_left(driver: Driver) -> None:
    """Also in a tag that is there already, with an index that lacks something."""
    kept, wrong, gone = layout.LayerLink("a", LAYERS[1]).key, layout.TagLink("a", "latest").key, "1.0"
    links = links_of("a")
    for key, content in links.items():
        if f"/tags/{gone}/" not in key and key != layout.TagIndexLink("a", "latest", FIRST).key:
            driver.write(key, content, len(content), mtime_ns=10**18)
    driver.write(wrong, b"sha256:other", 12)
    before = driver.stat(kept)

    assert write(driver, repository("a"), is_new=False) == 4

    assert found(driver) == links
    assert driver.stat(kept) == before


@pytest.mark.parametrize("present", ["_layers", "_manifests"])
def test_half_a_repository_gets_its_other_half(driver: Driver, present: str) -> None:
    links = links_of("a")
    for key, content in links.items():
        if f"/{present}/" in key:
            driver.write(key, content, len(content))

    write(driver, repository("a"), is_new=False)

    assert found(driver) == links


@pytest.mark.parametrize("failing", range(6))
def test_a_disk_that_fails_never_leaves_a_tag_without_what_it_needs(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fail(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == failing + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(bulk, "sync_file_system", fail)
    driver = FilesystemDriver(str(tmp_path))
    names = ["a", "b"]
    try:
        write(driver, *map(repository, names))
    except DriverError:
        assert calls == failing + 1
    else:
        assert calls <= failing
    there = found(driver)

    for name in names:
        links = links_of(name)
        assert not any("/tags/" in key for key in links.keys() & there) or links.items() <= there.items()
    assert not list(tmp_path.rglob("*.regstore-tmp"))
    monkeypatch.undo()
    write(driver, *map(repository, names), is_new=False)
    assert found(driver) == links_of("a") | links_of("b")


def test_a_push_to_a_new_repository_meanwhile_keeps_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when all is on the disk, and nothing has its name yet."""
    pushed = layout.LayerLink("b", digest("pushed")).key, layout.RevisionLink("c", digest("pushed")).key

    def push(_: str) -> None:
        for key in pushed:
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"pushed")

    monkeypatch.setattr(bulk, "sync_file_system", push)
    driver = FilesystemDriver(str(tmp_path))
    names = ["a", "b", "c"]

    count = write(driver, *map(repository, names))

    expected = {key: content for name in names for key, content in links_of(name).items()}
    assert found(driver) == expected | dict.fromkeys(pushed, b"pushed")
    assert count == len(expected)
    assert not list(tmp_path.rglob("*.regstore-tmp"))


def test_what_is_not_whole_yet_is_not_looked_into_by_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its walk skips names that begin with `_` (registry/storage/catalog.go)."""
    seen: set[str] = set()

    def look(_: str) -> None:
        seen.update(path.name for path in (tmp_path / layout.REPOSITORIES).rglob("*.regstore-tmp"))

    monkeypatch.setattr(bulk, "sync_file_system", look)
    write(FilesystemDriver(str(tmp_path)), repository("a"))

    assert seen
    assert {name[0] for name in seen} == {"_"}


def test_a_run_that_is_stopped_keeps_what_it_has_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_BATCH_COUNT", 2 * len(links_of("a")))
    cancel = Cancel()
    target = TreeTarget(FilesystemDriver(str(tmp_path)), Attributes(), None, NoProgress(), cancel)
    contents = [repository(f"r{number}") for number in range(4)]
    calls = 0

    def stop(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the layers of the second batch
            cancel.request()

    monkeypatch.setattr(bulk, "sync_file_system", stop)
    with pytest.raises(InterruptedRunError):
        target.write_repositories(contents, is_new=True)

    there = found(FilesystemDriver(str(tmp_path)))
    assert (links_of("r0") | links_of("r1")).items() <= there.items()
    assert not any("/r2/_manifests/" in key or "/r3/_manifests/" in key for key in there)


@pytest.mark.parametrize("tag", ["../../../../evil", "a/../../b", "a//b", ""])
def test_nothing_is_written_elsewhere_than_a_tag_may_lie(driver: Driver, tag: str) -> None:
    evil = Contents("a", revisions=[FIRST], tags={tag: Tag(FIRST, 0)})

    with pytest.raises(InvalidKey):
        write(driver, evil)

    assert not [key for key in found(driver) if "/tags/" in key or "evil" in key]


def test_a_repository_without_links_is_not_made(driver: Driver) -> None:
    assert write(driver, Contents("a"), Contents("b", layers={LAYERS[0]: LAYERS[0]})) == 1

    assert list(found(driver)) == [layout.LayerLink("b", LAYERS[0]).key]
    if isinstance(driver, FilesystemDriver):
        assert not list(Path(driver.local_path("")).rglob("_manifests"))


def test_owner_and_modes_of_whole_repositories(tmp_path: Path) -> None:
    require_root("give files away")
    target = TreeTarget(
        FilesystemDriver(str(tmp_path)), Attributes(1234, 2345, 0o2750, 0o640), None, NoProgress(), Cancel()
    )
    target.write_repositories([repository("a/b")], is_new=True)

    for path in tmp_path.rglob("*"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (1234, 2345)
        assert status.st_mode & 0o7777 == (0o2750 if path.is_dir() else 0o640)

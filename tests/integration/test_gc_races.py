"""Collections that are killed at any point, and beside a registry that works at the same moment."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore import gc
from regstore.digest import format_digest, parse_digest
from regstore.layout import BlobData
from regstore.manifest import decode_manifest
from regstore.registry import open_registry
from regstore.state import State
from regstore_drivers.filesystem import FilesystemDriver
from support import images
from support.pusher import Pusher
from support.registry import Registry

pytestmark = pytest.mark.registry
MakeRegistry = Callable[..., Registry]
OFFLINE = gc.Options(offline=True, grace=0.0, upload_age=0.0, max_delete_percent=None, delete_untagged=True)


def tree(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file below the registry's tree."""
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "docker").rglob("*") if path.is_file()}


def assert_tags_whole(root: Path) -> None:
    """Read every tag's manifest and blobs from the files and hash them."""
    for link in (root / "docker").glob("registry/v2/repositories/**/_manifests/tags/*/current/link"):
        pending = [parse_digest(link.read_text())]
        while pending:
            digest = pending.pop()
            data = (root / BlobData(digest).key).read_bytes()
            assert "sha256:" + hashlib.sha256(data).hexdigest() == format_digest(digest)
            if b'"schemaVersion"' in data:
                pending += decode_manifest(data).digests


@pytest.fixture
def volume(make_registry: MakeRegistry, tmp_path: Path) -> Path:
    """A volume with two kept images that share a layer, two deleted ones and an upload."""
    root = tmp_path / "volume"
    shared = images.layer("shared")
    with make_registry(root) as registry, Pusher(registry.url) as client:
        client.push_image("app", "v1", [shared, images.layer(1)])
        client.push_multi_arch("app", "multi", "multi")
        for seed in ("gone", "gone too"):
            client.delete_manifest("app", client.push_image("app", "old", [shared, images.layer(seed)]).digest)
        client.begin_upload("app")
    return root


def run_and_die(root: Path, act: Callable[[Path], Any], fatal_call: int) -> bool:
    """Run something in a child that dies before its n-th write to the volume; say whether it got that far."""
    child = os.fork()
    if child == 0:
        calls = 0

        def deadly(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == fatal_call:
                    os._exit(9)
                return method(*arguments, **options)

            return call

        for name in ("write", "move", "copy", "delete", "remove_empty_directory"):
            setattr(FilesystemDriver, name, deadly(getattr(FilesystemDriver, name)))
        try:
            act(root)
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


def collect(root: Path) -> gc.Result:
    """Collect offline, everything at once."""
    return gc.collect(open_registry(str(root)), OFFLINE, state=State(None), settle_seconds=0.0)


def copies_of(volume: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes one fresh copy of a volume after the other."""
    numbers = iter(range(1_000_000))
    return lambda: shutil.copytree(volume, tmp_path / f"copy-{next(numbers)}", symlinks=True)


@pytest.mark.slow
def test_killed_anywhere_every_tag_is_whole_and_all_can_be_undone_or_finished(volume: Path, tmp_path: Path) -> None:
    """A run that dies before its n-th write, for every n."""
    copy = copies_of(volume, tmp_path)
    before = tree(volume)
    finished = copy()
    collect(finished)
    after = tree(finished)
    number = 0
    while True:
        number += 1
        root = copy()
        if not run_and_die(root, collect, number):
            break
        assert_tags_whole(root)
        other = shutil.copytree(root, root.with_name(f"{root.name}-undo"), symlinks=True)
        while gc.undo(open_registry(str(other))).run_id:
            pass
        assert tree(other) == before
        collect(root)
        assert tree(root) == after
        assert collect(root).removed == {}
        shutil.rmtree(root)
        shutil.rmtree(other)
    assert number > 10


@pytest.mark.slow
def test_an_undo_killed_anywhere_can_be_done_again(volume: Path, tmp_path: Path) -> None:
    """An undo that dies before its n-th write, for every n."""
    copy = copies_of(volume, tmp_path)
    before = tree(volume)
    number = 0
    while True:
        number += 1
        root = copy()
        collect(root)
        if not run_and_die(root, lambda path: gc.undo(open_registry(str(path))), number):
            break
        assert_tags_whole(root)
        gc.undo(open_registry(str(root)))
        assert tree(root) == before
        shutil.rmtree(root)
    assert number > 5


def test_a_purge_killed_anywhere_loses_nothing_live(volume: Path, tmp_path: Path) -> None:
    """A purge that dies before its n-th write; the next one ends it."""
    copy = copies_of(volume, tmp_path)
    number = 0
    while True:
        number += 1
        root = copy()
        collect(root)
        expected = tree(root)

        def purge(path: Path) -> gc.PurgeResult:
            return gc.purge(open_registry(str(path)), 0.0, state=State(None))

        if not run_and_die(root, purge, number):
            break
        purge(root)
        assert tree(root) == expected
        assert list((root / "regstore/runs").iterdir()) == []
        shutil.rmtree(root)
    assert number > 3


def test_a_blob_in_the_quarantine_comes_back_when_it_is_linked_again(volume: Path, make_registry: MakeRegistry) -> None:
    """A commit found the data present just before they were moved: the next run brings them back."""
    result = collect(volume)
    run = volume / "regstore/runs" / result.run_id / "quarantine"
    link = next(path for path in run.rglob("link") if "_layers" in str(path))
    digest = parse_digest(link.read_text())
    original = volume / link.relative_to(run)
    original.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(link, original)
    assert not (volume / BlobData(digest).key).exists()
    again = gc.collect(open_registry(str(volume)), gc.Options(offline=True), state=State(None))
    assert again.restored_count == 1
    assert (volume / BlobData(digest).key).exists()

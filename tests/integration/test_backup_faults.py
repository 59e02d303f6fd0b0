"""Backups and restores that are killed, whose disks are full, or that meet each other."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore import backup
from regstore.backup import Store
from regstore.registry import open_registry, open_target
from support.backup import back_up, bring_back, contents_of
from support.collection import Done, Volume, run_cli
from support.killing import die_at
from support.limits import run_limited, run_weighed
from support.programs import require_root
from support.volume import VolumeWriter, blob_key, write_sparse_blob

LARGE = b"large" * 30_000


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small volume with one large layer."""
    writer = VolumeWriter(tmp_path / "volume")
    image = writer.push_image("app", "v1", [LARGE, b"small"])
    writer.push_index("app", "multi", [image])
    writer.push_image("other", "v1", [b"other"])
    return tmp_path / "volume"


def assert_visible_is_whole(store: Path) -> None:
    """Whatever has its final name in a store is what its name says."""
    for path in store.glob("blobs/*/*/*"):
        if not path.name.endswith(".regstore-tmp"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for path in store.glob("packs/*/*.tar.zst"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]
    opened = backup.open_store(str(store))
    assert all(loaded.snapshot for loaded in backup.iter_snapshots(opened))


@pytest.mark.slow
def test_a_backup_that_dies_anywhere_leaves_nothing_half_and_is_completed_by_the_next(
    root: Path, tmp_path: Path
) -> None:
    number = 1
    while True:
        place = tmp_path / "store"
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        backup.init_store(str(place))
        options = backup.CreateOptions(jobs=1)
        died = die_at(
            number,
            lambda place=place, options=options: backup.create_backup(
                open_registry(str(root)), backup.open_store(str(place)), options
            ),
        )
        assert_visible_is_whole(place)
        if number % 2:
            shutil.rmtree(tmp_path / "state", ignore_errors=True)  # what this host remembered is lost too
        store = backup.open_store(str(place))
        assert back_up(root, store).head.is_complete
        assert not list(place.rglob("*.regstore-tmp"))
        bring_back(store, tmp_path / f"restored-{number}")
        assert contents_of(tmp_path / f"restored-{number}") == contents_of(root)
        shutil.rmtree(tmp_path / f"restored-{number}")
        if not died:
            break
        number += 1
    assert number > 10


@pytest.mark.slow
def test_a_restore_that_dies_anywhere_shows_only_whole_images_and_is_completed_by_the_next(
    root: Path, tmp_path: Path
) -> None:
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)
    snapshot = backup.find_snapshot(store, "latest")
    expected = contents_of(root)
    number = 1
    while True:
        target = tmp_path / "new"
        shutil.rmtree(target, ignore_errors=True)

        def restore(target: Path = target) -> object:
            restoring = backup.Restore(store, snapshot, open_target(str(target)), backup.RestoreOptions(jobs=1))
            return restoring.apply(restoring.plan())

        died = die_at(number, restore)
        now = {key: data for key, data in contents_of(target).items() if ".regstore-tmp" not in key}
        assert now.items() <= expected.items()
        for key in now:
            if "/_manifests/tags/" in key:  # tags come last, each with its index at once: all else is there
                name, _, tag = key.partition("/_manifests/tags/")
                belonging = f"{name}/_manifests/tags/{tag.partition('/')[0]}/"
                needed = {
                    other
                    for other in expected
                    if "/blobs/" in other or (other.startswith(f"{name}/_") and "/tags/" not in other)
                }
                needed |= {other for other in expected if other.startswith(belonging)}
                assert needed <= now.keys()
        # One that died after its last step is done: there is nothing to go on with.
        bring_back(store, target, options=backup.RestoreOptions(is_merge=now.keys() == expected.keys()))
        assert contents_of(target) == expected
        if not died:
            break
        number += 1
    assert number > 20


# A disk that is full


def test_a_store_that_is_full_ends_the_backup_and_the_next_goes_on(root: Path, tmp_path: Path) -> None:
    backup.init_store(str(tmp_path / "store"))

    done = run_limited(100_000, "backup", "create", root, tmp_path / "store", state=tmp_path / "state")

    assert done.expect(4).stdout == ""
    assert "File too large" in done.stderr
    store = backup.open_store(str(tmp_path / "store"))
    assert store.list_snapshots() == []
    assert_visible_is_whole(tmp_path / "store")
    assert back_up(root, store).head.is_complete


def test_a_target_that_is_full_ends_the_restore_and_the_next_goes_on(root: Path, tmp_path: Path) -> None:
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)

    done = run_limited(100_000, "restore", tmp_path / "store", tmp_path / "new", state=tmp_path / "state")

    assert "File too large" in done.expect(4).stderr
    assert not [key for key in contents_of(tmp_path / "new") if key.endswith("/current/link")]
    bring_back(store, tmp_path / "new")
    assert contents_of(tmp_path / "new") == contents_of(root)


# Two at once, and sources of all sorts


def test_a_second_backup_ends_at_once_or_waits(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    backup.init_store(str(place))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom regstore import backup\nfrom regstore.work import Cancel\n"
            "with backup.open_store(sys.argv[1]).hold_lock('backup create', 0.0, Cancel()):\n"
            "    print('held', flush=True)\n    sys.stdin.read()",
            str(place),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        run_cli(tmp_path / "state", "backup", "create", root, place).expect_error(5, "backup create", str(holder.pid))
        for command in (["list"], ["show"], ["verify", "--full"]):
            run_cli(tmp_path / "state", "backup", *command, place).expect(2 if command == ["show"] else 0)
        assert holder.stdin
        threading.Timer(2, holder.stdin.close).start()
        run_cli(tmp_path / "state", "backup", "create", "-q", "--lock-wait", "1m", root, place).expect(0)


def test_the_lock_of_a_dead_run_is_taken_over_and_that_of_another_host_is_not(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    store = backup.init_store(str(place))
    killed = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\nfrom regstore import backup\nfrom regstore.work import Cancel\n"
            "with backup.open_store(sys.argv[1]).hold_lock('backup create', 0.0, Cancel()):\n    os._exit(9)",
            str(place),
        ]
    )
    killed.wait()

    done = run_cli(tmp_path / "state", "backup", "create", root, place).expect(0)

    assert "took over the lock of a dead run" in done.stderr
    (place / "lock").write_text(
        '{"host": "elsewhere", "pid": 1, "started_at": 1.0, "command": "backup create", "token": "x"}'
    )
    run_cli(tmp_path / "state", "backup", "create", root, place).expect_error(5, "elsewhere", "unlock")
    shown = run_cli(tmp_path / "state", "backup", "unlock", place).expect(0).stdout
    assert "elsewhere" in shown
    assert back_up(root, store).head.is_complete


@pytest.mark.parametrize("link", ["root", "docker"])
def test_a_registry_behind_a_symbolic_link(root: Path, tmp_path: Path, link: str) -> None:
    expected = contents_of(root)
    if link == "root":
        (tmp_path / "link").symlink_to(root)
    else:
        (tmp_path / "link").mkdir()
        (tmp_path / "link/docker").symlink_to(root / "docker")
    store = backup.init_store(str(tmp_path / "store"))

    assert back_up(tmp_path / "link", store).head.is_complete
    bring_back(store, tmp_path / "new")

    assert contents_of(tmp_path / "new") == expected


def test_symbolic_links_below_the_blobs_are_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "docker/registry/v2/blobs/sha256/zz").symlink_to(tmp_path / "outside")
    store = backup.init_store(str(tmp_path / "store"))

    result = back_up(root, store)

    assert result.head.is_complete
    assert {found.severity.word for found in result.findings} <= {"info"}


def test_nothing_is_written_to_a_source_that_may_only_be_read(root: Path, tmp_path: Path) -> None:
    def state_of(path: Path) -> list[tuple[str, int, int, int]]:
        return sorted(
            (str(one), one.lstat().st_ino, one.lstat().st_mtime_ns, one.lstat().st_ctime_ns) for one in path.rglob("*")
        )

    require_root("run as somebody who may not write")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores").chmod(0o777)
    before = state_of(root)

    for command in (["init"], ["create", root]):
        run_cli(tmp_path / "stores/state", "backup", *command, tmp_path / "stores/store", user=1234).expect(0)

    assert state_of(root) == before


@pytest.mark.registry
def test_a_damaged_disk_is_replaced_from_the_backup(volume: Volume, tmp_path: Path) -> None:
    """The command lines of the worst day, with a real registry before and after."""
    with volume.serving() as client:
        client.push_multi_arch("team/app", "v1", "seed")
        client.push_image("app", "v1", [LARGE, b"small"])
        expected = client.pull_all()
    store = tmp_path / "store"
    run: Callable[..., Done] = lambda *words: run_cli(tmp_path / "state", *words)  # noqa: E731
    run("backup", "init", "-q", store).expect(0)
    run("backup", "create", "-q", volume.root, store).expect(0)
    shutil.rmtree(volume.root)

    done = run("restore", "--json", store, tmp_path / "disk").expect(0)

    assert done.json["tags"] == len(expected)
    restored = Volume(tmp_path / "disk", tmp_path)
    with restored.serving() as client:
        assert client.pull_all() == expected
        client.push_image("app", "v2", [b"after"])  # and it takes pushes
    run("fsck", "--data", tmp_path / "disk").expect(0)


@pytest.mark.slow
def test_a_very_large_blob_passes_with_little_memory(tmp_path: Path) -> None:
    size = 6 * 1024**3
    writer = VolumeWriter(tmp_path / "volume")
    digest = write_sparse_blob(tmp_path / "volume", size)
    writer.layer_link("app", digest)
    writer.push_image("app", "v1", [b"small"])
    backup.init_store(str(tmp_path / "store"))

    for command in (["backup", "create", "-q", tmp_path / "volume"], ["restore", "-q"]):
        target = [] if command[0] == "backup" else [tmp_path / "new"]
        code, peak = run_weighed(*command, tmp_path / "store", *target)
        assert code == 0
        assert 0 < peak < 256 * 1024 * 1024
        if command[0] == "backup":
            shutil.rmtree(tmp_path / "volume")

    assert (tmp_path / "new" / blob_key(digest)).stat().st_size == size
    for name in ("store", "new"):
        shutil.rmtree(tmp_path / name)


def test_stores_are_shared_by_registries(root: Path, tmp_path: Path) -> None:
    VolumeWriter(tmp_path / "second").push_image("app", "v1", [LARGE, b"of the second"])
    store: Store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)

    result = back_up(tmp_path / "second", store)

    assert result.head.new_bytes < len(LARGE)
    bring_back(store, tmp_path / "new")
    assert contents_of(tmp_path / "new") == contents_of(tmp_path / "second")

"""What `backup prune` removes, in two steps, and what it never does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from regstore import backup
from regstore.backup import PruneOptions, PruneResult, Rules, Store
from regstore.backup.prune import read_condemned
from regstore.errors import LockedError, RefusedError, StorageFailedError
from regstore.work import Cancel
from regstore_drivers.base import Driver
from regstore_drivers.memory import MemoryDriver, from_url
from regstore_drivers.wrappers import Faulty
from support.backup import back_up, bring_back, contents_of, new_name
from support.images import digest_of
from support.killing import die_at
from support.volume import VolumeWriter

DAY = 86400.0
LAST, NOW = Rules(last=1), PruneOptions(Rules(last=1), grace=0.0)
OLD, NEW, SHARED = b"old" * 30_000, b"new" * 30_000, b"shared" * 30_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A volume that will lose its first image."""
    writer = VolumeWriter(tmp_path / "volume")
    writer.push_image("app", "v1", [OLD, SHARED])
    writer.push_image("app", "v2", [SHARED, b"small"])
    return tmp_path / "volume"


def next_day(root: Path) -> None:
    """Delete the first image as a collection does, and push another."""
    shutil.rmtree(root)
    writer = VolumeWriter(root)
    writer.push_image("app", "v2", [SHARED, b"small"])
    writer.push_image("app", "v3", [NEW])


@pytest.fixture
def store(tmp_path: Path, root: Path) -> Store:
    """A store with two snapshots, of which the second does not need all data of the first."""
    store = backup.init_store(str(tmp_path / "store"))
    back_up(root, store)
    next_day(root)
    back_up(root, store)
    return store


def has(store: Store, data: bytes) -> bool:
    """Tell whether the store has some large data."""
    digits = digest_of(data).partition(":")[2]
    return (Path(store.driver.local_path("")) / f"blobs/sha256/{digits[:2]}/{digits}").exists()  # type: ignore[attr-defined]


def kinds(result: PruneResult) -> list[str]:
    """The ids of the findings."""
    return sorted(found.id for found in result.findings)


def assert_whole(store: Store, root: Path, place: Path) -> None:
    """The newest snapshot can be restored, and nothing that any snapshot needs is gone."""
    assert backup.verify_store(store, backup.VerifyOptions(is_full=True)).findings == []
    shutil.rmtree(place, ignore_errors=True)
    bring_back(store, place)
    assert contents_of(place) == contents_of(root)


def test_data_go_in_two_steps(root: Path, store: Store, tmp_path: Path) -> None:
    first = backup.prune_store(store, NOW)

    assert [len(first.plan.removed), len(first.plan.condemned), len(first.plan.deleted)] == [1, 1, 0]
    assert has(store, OLD)
    assert_whole(store, root, tmp_path / "a")

    second = backup.prune_store(store, NOW)

    assert [len(second.plan.removed), len(second.plan.deleted), second.plan.deleted_bytes] == [0, 1, len(OLD)]
    assert not has(store, OLD)
    assert has(store, SHARED)
    assert_whole(store, root, tmp_path / "b")
    assert backup.prune_store(store, NOW).plan.deleted == []


def test_data_stay_for_the_grace_period(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_800_000_000.0]
    monkeypatch.setattr("regstore.backup.prune.time.time", lambda: clock[0])
    options = PruneOptions(LAST, grace=DAY)
    backup.prune_store(store, options)
    for later in (DAY - 1, -5 * DAY):  # a clock that was set back makes nothing older
        clock[0] = 1_800_000_000.0 + later
        assert backup.prune_store(store, options).plan.deleted == []
    clock[0] = 1_800_000_000.0 + DAY
    assert len(backup.prune_store(store, options).plan.deleted) == 1


def test_what_is_needed_again_is_not_deleted(root: Path, store: Store, tmp_path: Path) -> None:
    backup.prune_store(store, NOW)
    VolumeWriter(root).push_image("app", "v1", [OLD, SHARED])
    again = back_up(root, store)
    assert again.head.new_bytes < len(OLD)  # what was condemned is used

    result = backup.prune_store(store, NOW)

    assert result.plan.deleted == []
    assert has(store, OLD)
    assert_whole(store, root, tmp_path / "a")


def test_a_pack_stays_as_long_as_anything_in_it_is_needed(store: Store) -> None:
    backup.prune_store(store, NOW)
    result = backup.prune_store(store, NOW)

    assert not [key for key in result.plan.condemned if key.startswith("packs/")]


def test_a_dry_run_changes_nothing(store: Store, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}

    plan = backup.plan_prune(store, NOW)

    assert len(plan.removed) == 1
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("rules", [Rules(), Rules(within=0.0)])
def test_rules_that_keep_nothing_are_refused(store: Store, rules: Rules) -> None:
    with pytest.raises(RefusedError):
        backup.prune_store(store, PruneOptions(rules))

    assert len(store.list_snapshots()) == 2


def test_snapshots_with_a_tag_can_be_kept(store: Store) -> None:
    result = backup.prune_store(store, PruneOptions(Rules(tags=("app:v1",))))

    assert result.plan.removed == []
    assert ("tag",) in result.plan.kept.values()


def test_while_a_snapshot_cannot_be_read_no_data_go(store: Store, tmp_path: Path) -> None:
    backup.prune_store(store, NOW)
    (path,) = (tmp_path / "store/snapshots").iterdir()
    back_up(tmp_path / "volume", store)
    path.write_bytes(path.read_bytes()[:-1])

    result = backup.prune_store(store, NOW)

    assert kinds(result) == ["snapshot-damaged"]
    assert result.plan.deleted == []
    assert has(store, OLD)
    assert path.exists()


def test_a_listing_that_is_short_of_a_snapshot_deletes_nothing(store: Store, tmp_path: Path) -> None:
    backup.prune_store(store, PruneOptions(Rules(last=2), grace=0.0))
    first = min((tmp_path / "store/snapshots").iterdir())
    first.rename(tmp_path / "aside")
    for _ in range(2):  # and the run after it begins anew
        result = backup.prune_store(store, NOW)
        assert result.plan.deleted == []
    assert has(store, OLD)

    (tmp_path / "aside").rename(first)
    assert len(store.list_snapshots()) == 2


def test_a_condemned_list_that_cannot_be_read_is_an_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store/condemned.json.zst").write_bytes(b"nonsense")

    with pytest.raises(StorageFailedError) as caught:
        backup.prune_store(store, NOW)

    assert caught.value.code == "corruption"
    assert len(store.list_snapshots()) == 2


def test_prune_waits_for_a_backup_or_ends(store: Store, tmp_path: Path) -> None:
    with store.hold_lock("backup create", 0.0, Cancel()), pytest.raises(LockedError):
        backup.prune_store(backup.open_store(str(tmp_path / "store")), NOW)


@pytest.mark.slow
def test_a_prune_that_dies_anywhere_loses_nothing(root: Path, store: Store, tmp_path: Path) -> None:
    """The first run dies at each of its changes in turn, then the second; a third completes."""
    shutil.copytree(tmp_path / "store", tmp_path / "fresh")

    def prune() -> object:
        return backup.prune_store(backup.open_store(str(tmp_path / "store")), NOW)

    for run in (1, 2):
        number = 1
        while True:
            shutil.rmtree(tmp_path / "store")
            shutil.copytree(tmp_path / "fresh", tmp_path / "store")
            if run == 2:
                prune()
            died = die_at(number, prune)
            opened = backup.open_store(str(tmp_path / "store"))
            assert_whole(opened, root, tmp_path / "restored")
            for _ in range(2):
                assert backup.prune_store(opened, NOW).findings == []
            assert_whole(opened, root, tmp_path / "restored")
            assert not has(opened, OLD)
            assert len(opened.list_snapshots()) == 1
            if not died:
                break
            number += 1
        assert number > 3


def test_while_a_snapshot_cannot_be_deleted_no_data_go(root: Path) -> None:
    made = backup.init_store(f"memory://{new_name()}")
    faulty = Faulty(made.driver)
    store = Store(faulty, made.id, 1)
    back_up(root, store)
    next_day(root)
    back_up(root, store)
    assert len(backup.prune_store(store, NOW).plan.condemned) == 1
    VolumeWriter(root).push_image("app", "v4", [b"fourth"])
    back_up(root, store)
    before = objects_of_store(faulty)
    faulty.fail_key("snapshots/*", "it is locked")

    result = backup.prune_store(store, NOW)

    assert [len(result.plan.removed), len(result.plan.deleted)] == [1, 1]
    assert kinds(result) == ["delete-failed"]
    assert objects_of_store(faulty) == before
    assert backup.verify_store(store, backup.VerifyOptions(is_full=True)).findings == []
    again = backup.prune_store(store, NOW)
    assert [kinds(again), len(again.plan.removed), len(again.plan.deleted)] == [[], 1, 1]


def objects_of_store(driver: Driver) -> set[str]:
    """The keys of all snapshots and data."""
    return {entry.key for prefix in ("blobs/", "packs/", "snapshots/") for entry in driver.list(prefix)}


def test_an_object_store_is_pruned_in_batches(root: Path) -> None:
    clock = [1_800_000_000.0]
    name = new_name()
    driver = from_url(f"memory://{name}")
    assert isinstance(driver, MemoryDriver)
    driver._clock = lambda: clock[0]  # the storage's own time
    store = backup.init_store(f"memory://{name}")
    VolumeWriter(root).push_image("app", "v9", [OLD])
    back_up(root, store)
    next_day(root)
    back_up(root, store)
    options = PruneOptions(LAST, grace=DAY)
    backup.prune_store(store, options)
    clock[0] += DAY

    result = backup.prune_store(store, options)

    assert [key.split("/")[0] for key in result.plan.deleted] == ["blobs"]
    keys, names = read_condemned(store)
    assert len(keys) == 1
    assert len(names) == 1
    assert backup.verify_store(store, backup.VerifyOptions(is_full=True)).findings == []

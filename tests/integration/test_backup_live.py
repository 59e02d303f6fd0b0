"""Snapshots of a registry that clients use: every tag of every one can be pulled from what is restored."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from regstore import backup
from regstore.backup import Store
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.reach import find_lacks
from regstore.state import State
from support.backup import back_up, bring_back
from support.clients import Worker
from support.collection import Volume
from support.images import layers
from support.pusher import BrokenImage, Pusher

pytestmark = pytest.mark.registry

RUNS = 13
"""For each of four cases: fifty in all."""
PUSHES = 4
"""At least so many images come between two runs, and others while they run."""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def lacking(store: Store, snapshot: backup.Snapshot) -> list[str]:
    """Return the images of a snapshot that are not whole, by what the store has."""
    data = store.open_data(snapshot)
    lost = data.find_lost(snapshot.blobs())
    stored = snapshot.blobs().keys() - lost.keys()
    manifests = TolerantReader(data, State(None))
    found = []
    for contents in snapshot.iter_contents():
        repository = contents.to_repository()
        manifests.load(contents.name, repository.revisions)
        lacks = find_lacks(repository, manifests, stored.__contains__)
        found += [f"{contents.name}:{tag}" for tag in lacks]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_every_tag_of_every_snapshot_is_whole(volume: Volume, tmp_path: Path, seed: int) -> None:
    store = backup.init_store(str(tmp_path / "store"))
    is_over = threading.Event()
    with volume.registry() as registry:
        workers = [Worker([registry.url], f"w{number}", 10 * seed + number, is_over) for number in range(3)]
        for worker in workers:
            worker.thread.start()
        try:
            for run in range(1, RUNS + 1):
                while sum(worker.pushes for worker in workers) < PUSHES * run:
                    assert [worker.failure for worker in workers] == [None] * 3
                    is_over.wait(0.01)
                result = back_up(volume.root, store)
                assert result.head.broken == [], result.findings
                assert {found.severity.word for found in result.findings} <= {"info"}
        finally:
            is_over.set()
            for worker in workers:
                worker.thread.join()
    assert [worker.failure for worker in workers] == [None] * 3
    snapshots = [loaded.snapshot for loaded in backup.iter_snapshots(store)]
    assert len(snapshots) == RUNS
    assert sum(snapshot.head.tag_count for snapshot in snapshots if snapshot) > 2 * RUNS
    for snapshot in snapshots:
        assert snapshot
        assert lacking(store, snapshot) == []
    assert backup.verify_store(store, backup.VerifyOptions(is_full=True)).findings == []
    for number, snapshot in enumerate(snapshots):
        assert snapshot
        restored = Volume(tmp_path / f"restored-{number}", tmp_path)
        bring_back(store, restored.root, snapshot.head.id)
        with restored.serving() as client:
            pulled = client.pull_all()
        assert {f"{repository}:{tag}" for repository, tag in pulled} == {
            f"{contents.name}:{tag}" for contents in snapshot.iter_contents() for tag in contents.tags
        }
        shutil.rmtree(restored.root)


def test_a_plain_copy_of_the_same_is_broken(volume: Volume, tmp_path: Path) -> None:
    """Every generic tool reads `blobs` before `repositories`; here somebody pushes in between."""
    store = backup.init_store(str(tmp_path / "store"))
    copy = Volume(tmp_path / "copy", tmp_path)
    with volume.serving() as client:
        client.push_image("app", "v1", layers(2, "first"))
        shutil.copytree(volume.tree / "blobs", copy.tree / "blobs")
        client.push_image("app", "v2", layers(2, "second"))
        shutil.copytree(volume.tree / "repositories", copy.tree / "repositories")
        back_up(volume.root, store)
    with copy.serving() as client, pytest.raises((BrokenImage, AssertionError)):
        client.pull("app", "v2")

    restored = Volume(tmp_path / "restored", tmp_path)
    bring_back(store, restored.root)

    with restored.serving() as client:
        assert {tag for _, tag in client.pull_all()} == {"v1", "v2"}


def test_a_tag_that_is_rewritten_all_the_time_is_never_empty(volume: Volume, tmp_path: Path) -> None:
    """A 2.8 registry truncates a link before it writes it."""
    store = backup.init_store(str(tmp_path / "store"))
    is_over = threading.Event()
    with volume.registry() as registry:

        def hammer() -> Iterator[None]:
            with Pusher(registry.url, head_first=True) as client:
                data = [layers(1, "a"), layers(1, "b")]
                dice = random.Random(1)
                while not is_over.is_set():
                    client.push_image("app", "latest", dice.choice(data))
                    yield

        first = hammer()
        next(first)
        thread = threading.Thread(target=lambda: [None for _ in first])
        thread.start()
        try:
            results = [back_up(volume.root, store) for _ in range(25)]
        finally:
            is_over.set()
            thread.join()
    assert all(result.head.is_complete and result.head.tag_count == 1 for result in results)

"""Collections that are killed: at every single change of the file system, and at random moments.

After each death every tagged image is whole, the next run completes what an undisturbed one does, and undo brings
everything back, byte for byte.
"""

from __future__ import annotations

import functools
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from regstore import gc
from regstore.registry import open_registry
from regstore.state import State
from support.collection import OFFLINE, Volume, Whole, contents_of, pulled, push_garbage
from support.images import layer, layers
from support.killing import copies, die_at
from support.pusher import Pusher

pytestmark = pytest.mark.registry


def collecting(volume: Volume, *urls: str) -> Callable[[], gc.Result]:
    """Return what collects a volume in this process, offline when there are no URLs."""
    options = gc.Options(
        offline=not urls,
        registry_urls=urls,
        grace=0.0,
        upload_age=0.0,
        delete_untagged=True,
        max_delete_percent=None,
        empty_repositories=True,
    )
    return lambda: gc.collect(open_registry(str(volume.root)), options, state=State(None), settle_seconds=0.0)


def undo_everything(volume: Volume) -> None:
    """Take back run after run until none is left."""
    while gc.undo(open_registry(str(volume.root)), state=State(None)).run_id:
        pass


def fill_for_killing(volume: Volume) -> Whole:
    """Push something of each kind that goes, and images that stay."""
    with volume.serving() as client:
        shared = layers(1, "shared")
        kept = client.push_image("app", "v1", [*shared, layer("app")])
        index, _ = client.push_multi_arch("app", "multi", "multi")
        client.push_image("app", "moved", [*shared, layer("former")])
        latter = client.push_image("app", "moved", [*shared, layer("latter")])
        push_garbage(client, "gone")
        client.begin_upload("app")
        return pulled(client, kept, index, latter)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_change_of_the_file_system(volume: Volume, part: int) -> None:
    """Every tag is whole, the next run completes what a whole one does, and undo brings all back, byte for byte."""
    whole = fill_for_killing(volume)
    original = contents_of(volume.snapshot())
    number = part + 1
    targets = copies(volume)
    finished = next(targets)
    collecting(finished)()
    expected = contents_of(finished.snapshot())
    for target in targets:
        if not die_at(number, collecting(target)):
            break
        left = contents_of(target.snapshot())
        assert expected.items() <= left.items() <= original.items(), number
        if number % 10 == 0:
            target.assert_whole(whole)
        other = Volume(target.root.with_name("undone"), target.root.parent)
        shutil.copytree(target.root, other.root, symlinks=True, dirs_exist_ok=True)
        undo_everything(other)
        assert contents_of(other.snapshot()) == original, number
        collecting(target)()
        assert contents_of(target.snapshot()) == expected, number
        undo_everything(target)
        assert contents_of(target.snapshot()) == original, number
        number += 4
    assert number > 100
    targets.close()


@pytest.mark.slow
def test_an_undo_killed_at_any_change_can_be_done_again(volume: Volume) -> None:
    """Every tag is whole in between, and the next undo brings all back."""
    fill_for_killing(volume)
    original = contents_of(volume.snapshot())
    collected = Volume(volume.root.with_name("source"), volume.root.parent)
    shutil.copytree(volume.root, collected.root, symlinks=True, dirs_exist_ok=True)
    collecting(collected)()
    least = contents_of(collected.snapshot())
    number = 1
    targets = copies(collected)
    for target in targets:
        undo = functools.partial(gc.undo, open_registry(str(target.root)), state=State(None))
        if not die_at(number, undo):
            break
        assert least.items() <= contents_of(target.snapshot()).items() <= original.items(), number
        undo()
        assert contents_of(target.snapshot()) == original, number
        number += 3
    assert number > 50
    targets.close()


@pytest.mark.slow
def test_a_purge_killed_at_any_change_loses_nothing_live(volume: Volume) -> None:
    """Nothing below the registry's tree changes, and the next purge ends it."""
    fill_for_killing(volume)
    collecting(volume)()
    live = contents_of(volume.snapshot())
    number = 1
    targets = copies(volume)
    for target in targets:
        purge = functools.partial(gc.purge, open_registry(str(target.root)), 0.0, state=State(None))
        if not die_at(number, purge):
            break
        purge()
        assert contents_of(target.snapshot()) == live, number
        assert list(target.path("regstore/runs").iterdir()) == [], number
        number += 2
    assert number > 50
    targets.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_killed_at_many_changes_beside_a_registry(volume: Volume, part: int) -> None:
    """The same in both phases through the API of a cached registry, which serves every tag all the while."""
    whole = fill_for_killing(volume)
    number = 3 * part + 1
    is_dead = True
    targets = copies(volume)
    while is_dead:
        target = next(targets)
        with target.registry(cache="inmemory") as registry, Pusher(registry.url) as client:
            run = collecting(target, registry.url)
            first = die_at(number, run)
            run()
            second = die_at(number, run)
            for repository, tag in whole:
                client.pull(repository, tag)
            run()
            assert run().removed == {}
            again = client.push_image("gone", "again", layers(2, "deleted gone garbage"))
            client.push_image("app", "again", [layer("shared/0"), layer("former")])
        target.assert_whole(whole | {("gone", "again"): set(again.digests)})
        is_dead = first or second
        number += 9
    assert number > 50
    targets.close()


@pytest.mark.slow
def test_killed_at_random_moments(volume: Volume) -> None:
    """The command itself, by SIGKILL, over and over on one volume; then a run completes, and undo brings all back."""
    whole = fill_for_killing(volume)
    with volume.serving() as client:
        for number in range(60):
            push_garbage(client, f"many/{number % 7}", number)
    original = contents_of(volume.snapshot())
    dice = random.Random(5)
    command = [sys.executable, "-m", "regstore", "gc", "run", *OFFLINE, "--delete-untagged", "--upload-age", "0s"]
    killed = 0
    for _ in range(25):
        process = subprocess.Popen([*command, str(volume.root)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        lock = volume.path("regstore/lock")
        while process.poll() is None and not (lock.exists() and lock.read_bytes()):
            time.sleep(0.001)
        time.sleep(dice.random() ** 2 * 0.4)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -9), errors
        killed += process.returncode == -9
        assert contents_of(volume.snapshot()).items() <= original.items()
        volume.assert_whole(whole)
    assert killed > 3

    volume.collect("--delete-untagged", "--upload-age", "0s")
    assert volume.collect("--delete-untagged", "--upload-age", "0s").removed == {}
    volume.assert_whole(whole)
    while volume.undo().json["run_id"]:
        pass
    assert contents_of(volume.snapshot()) == original

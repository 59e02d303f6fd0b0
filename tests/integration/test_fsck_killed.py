"""Repairs that are killed at every change of the file system."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from regstore import fsck
from regstore.registry import open_registry
from support.collection import Volume, contents_of, pulled
from support.damaged import Files
from support.images import layers
from support.killing import copies, die_at
from support.volume import blob_key, layer_link_key, revision_link_key, tag_link_key

pytestmark = [pytest.mark.registry, pytest.mark.slow]
CHECK = fsck.Options(data=True)


def contents(volume: Volume) -> dict[str, str]:
    """Return path and digest of every file but what a dead write left, which fsck --prune removes."""
    files = contents_of(volume.snapshot())
    return {path: digest for path, digest in files.items() if not path.endswith(".regstore-tmp")}


def repairing(volume: Volume, backup: Volume) -> Callable[[], fsck.RepairResult]:
    """Return what checks and repairs a volume in this process, from a copy of it."""

    def repair() -> fsck.RepairResult:
        registry = open_registry(str(volume.root))
        sources = [fsck.open_source(str(backup.root), registry)]
        result, options = fsck.check_registry(registry, CHECK), fsck.RepairOptions(accept_proposals=True)
        plan = fsck.plan_repair(registry, result, options, sources)
        return fsck.repair_registry(registry, result, plan, options, sources, check_options=CHECK)

    return repair


def test_a_repair_killed_at_any_change_is_completed_by_the_next_and_can_be_undone(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was whole stays whole; the next repair leaves nothing to do; undo brings back all but fetched data."""
    monkeypatch.setenv("XDG_STATE_HOME", str(volume.state_home))
    for module in ("inventory.survey", "fsck.check"):
        monkeypatch.setattr(f"regstore.{module}.SECOND_LOOKS_SECONDS", (0.001,))
    with volume.serving() as client:
        healthy = client.push_image("healthy", "v1", layers(2, "healthy"))
        app = client.push_image("app", "v1", layers(2, "app"))
        other = client.push_image("other", "v1", layers(1, "other"))
        client.push_image("moved", "v1", layers(1, "former"))
        moved = client.push_image("moved", "v1", layers(1, "latter"))
        whole = pulled(client, healthy, app, other, moved)
    backup = Volume(volume.root.with_name("backup"), volume.root.parent)
    shutil.copytree(volume.root, backup.root, dirs_exist_ok=True)
    files = Files(volume.root)
    files.flip(app.layers[0])
    files.drop(blob_key(other.digest))
    files.drop(layer_link_key("app", app.layers[1]))
    files.put(revision_link_key("app", app.digest), "")
    files.put(tag_link_key("moved", "v1"), "")
    good, damaged = contents(backup), contents(volume)
    untouched = {path: digest for path, digest in damaged.items() if good.get(path) == digest}
    number = 1
    targets = copies(volume)
    for target in targets:
        if not die_at(number, repairing(target, backup)):
            break
        left = contents(target)
        assert untouched.items() <= left.items(), number
        assert set(left.values()) <= set(good.values()) | set(damaged.values()), number
        repairing(target, backup)()
        assert contents(target) == good, number
        if number % 20 == 1:
            target.assert_whole(whole)
        while fsck.undo_repair(open_registry(str(target.root))).run_id:
            pass
        undone = contents(target)
        fetched = {blob_key(digest).removeprefix("docker/") for digest in (app.layers[0], other.digest)}
        assert {p: d for p, d in undone.items() if p not in fetched} == {
            p: d for p, d in damaged.items() if p not in fetched
        }, number
        number += 2
    assert number > 40
    targets.close()

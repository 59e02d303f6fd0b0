"""Every damage is found with the images that it hurts, repaired as far as that can be, and the repair taken back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regstore import fsck, gc
from regstore.findings import Severity
from regstore.registry import Registry, open_registry
from support.damaged import DAMAGES, Damage, Sample
from support.volume import layer_link_key

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember nothing of other tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A whole volume."""
    return Sample(tmp_path / "volume")


def each(damages: list[Damage]) -> pytest.MarkDecorator:
    """Run a test for each damage."""
    return pytest.mark.parametrize("damage", damages, ids=[damage.name for damage in damages])


def bad(result: fsck.CheckResult) -> list[str]:
    """Return the ids of findings of severity warning or worse."""
    return sorted(found.id for found in result.findings if found.severity >= Severity.WARNING)


def check(sample: Sample, **options: object) -> fsck.CheckResult:
    """Check."""
    return fsck.check_registry(open_registry(str(sample.root)), fsck.Options(**options))  # type: ignore[arg-type]


def repair(sample: Sample, backup: Path | None = None, **options: bool) -> fsck.RepairResult:
    """Check and repair."""
    registry: Registry = open_registry(str(sample.root))
    sources = [fsck.open_source(str(backup), registry)] if backup else []
    settings = fsck.RepairOptions(**options)
    result = fsck.check_registry(registry, fsck.Options())
    plan = fsck.plan_repair(registry, result, settings, sources)
    return fsck.repair_registry(registry, result, plan, settings, sources, check_options=fsck.Options())


def inodes(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return inode, size and times of everything."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = os.lstat(path)
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def test_a_whole_volume_has_no_findings(sample: Sample) -> None:
    result = check(sample)

    assert result.findings == []
    assert (result.counts.repository_count, result.counts.tag_count, result.counts.revision_count) == (2, 5, 6)
    assert {sign for sign, _ in result.iter_signs()} == {"="}
    assert len(list(result.iter_signs())) == result.counts.blob_count


@each(DAMAGES)
def test_each_damage_is_found_with_the_images_that_it_hurts(sample: Sample, damage: Damage) -> None:
    damage.inflict(sample)
    before = inodes(sample.root)

    result = check(sample)

    assert bad(result) == sorted(damage.finds)
    assert {image for found in result.findings for image in found.images} == set(damage.hurts)
    assert inodes(sample.root) == before


@each(DAMAGES)
def test_a_plan_changes_nothing(sample: Sample, damage: Damage, tmp_path: Path) -> None:
    backup = sample.copy(tmp_path / "backup")
    damage.inflict(sample)
    registry = open_registry(str(sample.root))
    result = fsck.check_registry(registry, fsck.Options())
    before = inodes(sample.root)

    fsck.plan_repair(registry, result, fsck.RepairOptions(prune=True), [fsck.open_source(str(backup), registry)])

    assert inodes(sample.root) == before


@each(DAMAGES)
def test_what_the_evidence_determines_is_repaired_without_help(sample: Sample, damage: Damage) -> None:
    damage.inflict(sample)
    damaged = sample.contents

    result = repair(sample)

    assert bad(result.left) == sorted(damage.finds if damage.left is None else damage.left)
    assert bad(check(sample)) == bad(result.left)
    again = repair(sample)
    assert (again.run_id, sum(again.done.values())) == ("", 0)
    while fsck.undo_repair(open_registry(str(sample.root))).run_id:
        pass
    assert sample.contents == damaged


@each(DAMAGES)
def test_a_whole_copy_brings_everything_back(sample: Sample, damage: Damage, tmp_path: Path) -> None:
    whole = sample.contents
    backup = sample.copy(tmp_path / "backup")
    damage.inflict(sample)

    result = repair(sample, backup)

    assert bad(result.left) == list(damage.left_with_backup)
    if not damage.left_with_backup:
        assert sample.contents == whole


def test_what_a_repair_moved_away_goes_with_a_purge(sample: Sample) -> None:
    sample.flip(sample.shared)
    sample.put(layer_link_key("app", sample.shared), "")
    registry = open_registry(str(sample.root))
    check_data = fsck.Options(data=True)
    result = fsck.check_registry(registry, check_data)
    options = fsck.RepairOptions()
    done = fsck.repair_registry(
        registry, result, fsck.plan_repair(registry, result, options), options, check_options=check_data
    )
    assert done.done[fsck.Verb.QUARANTINE] == 1

    assert gc.purge(registry, 3600.0).run_ids == []
    assert gc.purge(registry, 0.0).run_ids == [done.run_id]
    assert list((sample.root / "regstore/repairs").iterdir()) == []
    assert fsck.undo_repair(registry).run_id == ""

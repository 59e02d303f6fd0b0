"""Every damage is found with the images that it hurts, repaired as far as that can be, and the repair taken back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from regstore import fsck, gc
from regstore.errors import InterruptedRunError
from regstore.findings import Severity
from regstore.registry import Registry, open_registry
from regstore.work import Cancel
from regstore_drivers.errors import DriverError, PermissionDenied, Unavailable
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.wrappers import Faulty
from support import images
from support.damaged import DAMAGES, Damage, Sample
from support.volume import blob_key, layer_link_key, tag_link_key

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


@pytest.mark.parametrize(("grace", "goes"), [(0.0, True), (3600.0, False)])
def test_only_pruning_removes_what_nothing_needs(sample: Sample, *, grace: float, goes: bool) -> None:
    leftover = blob_key(sample.shared).replace("/data", "/data.5b1c.tmp")
    dangling = layer_link_key("app", "sha256:" + "0" * 64)
    sample.writer.put(leftover, b"half")
    sample.writer.layer_link("app", "sha256:" + "0" * 64)
    before = sample.contents
    registry, result = open_registry(str(sample.root)), check(sample)
    assert {found.id for found in result.findings} == {"leftover", "link-dangling"}
    assert fsck.plan_repair(registry, result, fsck.RepairOptions(grace=grace)).steps == []
    options = fsck.RepairOptions(prune=True, grace=grace)

    plan = fsck.plan_repair(registry, result, options)
    fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options())

    assert before.keys() - sample.contents.keys() == ({leftover, dangling} if goes else set())
    assert fsck.undo_repair(registry).restored_count == (2 if goes else 0)
    assert sample.contents == before


def test_a_dangling_link_stays_when_its_data_came_meanwhile(sample: Sample) -> None:
    data = b"pushed meanwhile"
    sample.writer.layer_link("app", images.digest_of(data))
    registry, result = open_registry(str(sample.root)), check(sample)
    options = fsck.RepairOptions(prune=True, grace=0.0)
    plan = fsck.plan_repair(registry, result, options)
    assert len(plan.steps) == 1
    sample.writer.blob(data)

    done = fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options())

    assert (sum(done.done.values()), done.skipped_count) == (0, 1)
    assert layer_link_key("app", images.digest_of(data)) in sample.contents


def test_what_a_registry_wrote_meanwhile_wins(sample: Sample) -> None:
    tag, link = tag_link_key("app", "moved"), layer_link_key("app", sample.shared)
    sample.put(tag, "")
    sample.drop(link)
    options = fsck.RepairOptions(accept_proposals=True)
    registry, result = open_registry(str(sample.root)), check(sample)
    plan = fsck.plan_repair(registry, result, options)
    assert {step.key for step in plan.steps} == {tag, link}
    sample.put(tag, sample.v1.digest)
    sample.writer.layer_link("app", sample.shared)

    done = fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options())

    assert (sum(done.done.values()), done.skipped_count, done.left.findings) == (0, 2, [])
    assert Path(sample.path(tag)).read_text() == sample.v1.digest


def test_a_blob_that_was_healed_meanwhile_stays(sample: Sample) -> None:
    sample.flip(sample.shared)
    registry, result = open_registry(str(sample.root)), check(sample, data=True)
    options = fsck.RepairOptions()
    plan = fsck.plan_repair(registry, result, options)
    assert [step.verb for step in plan.steps] == [fsck.Verb.QUARANTINE]
    sample.flip(sample.shared)

    done = fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options(data=True))

    assert (done.skipped_count, done.left.findings) == (1, [])


def test_an_undo_leaves_a_link_that_was_written_since(sample: Sample) -> None:
    link = layer_link_key("app", sample.shared)
    sample.drop(link)
    repair(sample)
    os.utime(sample.path(link), (os.stat(sample.path(link)).st_mtime + 60,) * 2)

    undone = fsck.undo_repair(open_registry(str(sample.root)))

    assert (undone.withdrawn_count, undone.kept_count) == (0, 1)
    assert link in sample.contents


def test_data_in_the_quarantine_of_a_collection_heal(sample: Sample) -> None:
    registry = open_registry(str(sample.root))
    os.unlink(sample.path(tag_link_key("other", "v1")))
    shutil.rmtree(os.path.dirname(os.path.dirname(sample.path(tag_link_key("other", "v1")))))
    collected = gc.collect(
        registry,
        gc.Options(offline=True, grace=0.0, delete_untagged=True, max_delete_percent=None),
        settle_seconds=0.0,
    )
    assert collected.removed[gc.Kind.BLOB][0] > 0
    for key in (sample.other.digest, sample.other.config, sample.other.layers[1]):
        assert key is not None
        assert blob_key(key) not in sample.contents
    sample.writer.revision_link("other", sample.other.digest)
    sample.writer.tag("other", "v1", sample.other.digest)
    result, options = check(sample), fsck.RepairOptions()
    assert bad(result) == ["manifest-missing"]
    sources = [fsck.QuarantineSource(registry)]

    done = fsck.repair_registry(
        registry,
        result,
        fsck.plan_repair(registry, result, options, sources),
        options,
        sources,
        check_options=fsck.Options(),
    )

    assert bad(done.left) == []
    assert done.done[fsck.Verb.FETCH] == 3


def planned(driver: Faulty, *sources: fsck.Source) -> tuple[Registry, fsck.CheckResult, fsck.RepairPlan]:
    """Check what lies behind a driver with faults, and plan."""
    registry = Registry(driver)
    result = fsck.check_registry(registry, fsck.Options())
    return registry, result, fsck.plan_repair(registry, result, fsck.RepairOptions(), sources)


def test_a_step_that_is_not_permitted_is_told_and_the_rest_goes_on(sample: Sample) -> None:
    links = [layer_link_key("app", sample.shared), layer_link_key("other", sample.shared)]
    for link in links:
        sample.drop(link)
    driver = Faulty(FilesystemDriver(str(sample.root)))
    registry, result, plan = planned(driver)
    driver.fail("write", links[0], PermissionDenied("not for you"), times=None)

    done = fsck.repair_registry(registry, result, plan, fsck.RepairOptions(), check_options=fsck.Options())

    assert done.done[fsck.Verb.WRITE] == 1
    assert bad(done.left) == ["layer-link-missing", "storage-error"]
    assert "not for you" in next(found.detail for found in done.left.findings if found.id == "storage-error")


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_storage_that_fails_ends_it_with_what_was_done(sample: Sample, *, is_begun: bool) -> None:
    links = [layer_link_key("app", sample.shared), layer_link_key("other", sample.shared)]
    for link in links:
        sample.drop(link)
    driver = Faulty(FilesystemDriver(str(sample.root)))
    registry, result, plan = planned(driver)
    driver.fail("write", links[1] if is_begun else "regstore/*", Unavailable("tired"), times=None)

    with pytest.raises(DriverError) as error:
        fsck.repair_registry(registry, result, plan, fsck.RepairOptions(), check_options=fsck.Options())

    notes = [
        "done until then: 1 write; run it again to go on, or take it back with fsck undo",
    ]
    assert getattr(error.value, "__notes__", []) == (notes if is_begun else [])


def test_a_request_to_stop(sample: Sample) -> None:
    sample.drop(layer_link_key("app", sample.shared))
    registry, result, plan = planned(Faulty(FilesystemDriver(str(sample.root))))
    cancel = Cancel()
    cancel.request()
    before = sample.contents

    with pytest.raises(InterruptedRunError):
        fsck.repair_registry(registry, result, plan, fsck.RepairOptions(), check_options=fsck.Options(), cancel=cancel)
    assert sample.contents == before


def test_what_no_source_gives_is_told_with_the_reason(sample: Sample, tmp_path: Path) -> None:
    backup = sample.copy(tmp_path / "backup")
    sample.drop(blob_key(sample.shared))
    Path(backup / blob_key(sample.shared)).write_bytes(b"rotten there too")

    done = repair(sample, backup)

    found = next(found for found in done.left.findings if found.id == "blob-missing")
    assert "it could not be fetched: file://" in found.detail
    assert not os.path.exists(sample.path(blob_key(sample.shared)))


def test_what_a_registry_writes_into_a_link_that_is_moved_away_is_kept(sample: Sample) -> None:
    tag = tag_link_key("app", "moved")
    sample.put(tag, "")
    driver = Faulty(FilesystemDriver(str(sample.root)))
    registry = Registry(driver)
    result, options = fsck.check_registry(registry, fsck.Options()), fsck.RepairOptions(accept_proposals=True)
    plan = fsck.plan_repair(registry, result, options)

    def write_late() -> None:
        moved = next((sample.root / "regstore/repairs").rglob("moved/current/link"))
        moved.write_text(sample.v1.digest)  # through the descriptor that the registry had opened

    driver.call_after("move", tag, write_late)
    fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options())

    assert Path(sample.path(tag)).read_text() == sample.v1.digest

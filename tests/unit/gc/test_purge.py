"""Deleting what was quarantined, and the status of it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore import gc
from regstore.errors import InterruptedRunError
from regstore.registry import open_registry
from regstore.state import State
from regstore.work import Cancel
from regstore_drivers.base import HasVersions
from regstore_drivers.errors import Unavailable
from regstore_drivers.wrappers import Faulty
from support import images
from support.memory_registry import GARBAGE, NOW_OFFLINE, MemoryRegistry, registry_with_garbage
from support.random_volumes import DAY, HOUR, NOW
from support.volume import VolumeWriter, blob_key, layer_link_key

DIGEST = images.digest_of(GARBAGE)


@pytest.fixture
def bench() -> MemoryRegistry:
    return registry_with_garbage()


def purge(bench: MemoryRegistry, retention: float = 0.0) -> gc.PurgeResult:
    """Purge."""
    return gc.purge(bench.registry, retention, state=bench.state)


def test_nothing_to_purge(bench: MemoryRegistry) -> None:
    result = purge(bench)

    assert (result.run_ids, result.deleted_count, result.freed_bytes) == ([], 0, 0)


@pytest.mark.parametrize(("age", "is_due"), [(7 * DAY, True), (7 * DAY - 20, False), (0.0, False)])
def test_the_retention_counts_from_the_end_of_the_run(bench: MemoryRegistry, age: float, is_due: bool) -> None:
    run = bench.collect(**NOW_OFFLINE)
    bench.time = NOW + age

    result = purge(bench, 7 * DAY)

    assert result.run_ids == ([run.run_id] if is_due else [])
    assert (result.deleted_count, result.freed_bytes) == ((2, 71 + len(GARBAGE)) if is_due else (0, 0))
    assert not [key for key in bench.everything if key.startswith("regstore/runs/")] or not is_due
    assert result.findings == []


def test_no_retention_is_due_at_once_and_only_the_due_go(bench: MemoryRegistry) -> None:
    old = bench.collect(**NOW_OFFLINE)
    bench.time += DAY
    bench.writer.layer("app", b"more")
    young = bench.collect(**NOW_OFFLINE)

    assert purge(bench, HOUR).run_ids == [old.run_id]
    assert [run.id for run in gc.read_status(bench.registry).runs] == [young.run_id]
    assert purge(bench).run_ids == [young.run_id]


def test_what_is_needed_again_is_put_back_first(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    bench.writer.layer_link("other", DIGEST)

    result = purge(bench)

    assert result.restored_count == 1
    assert [(finding.id, finding.subject) for finding in result.findings] == [("restored", blob_key(DIGEST))]
    assert bench.contents[blob_key(DIGEST)] == GARBAGE
    assert result.deleted_count == 1  # the link in the other repository


def test_links_that_a_kept_manifest_needs_are_put_back_first(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    layer = images.descriptor(images.OCI_LAYER, GARBAGE)
    manifest = images.image_manifest(images.descriptor(images.OCI_CONFIG, b"{}"), [layer], "oci")
    bench.writer.manifest("app", manifest, "late")

    result = purge(bench)

    assert result.restored_count == 2
    assert {blob_key(DIGEST), layer_link_key("app", DIGEST)} <= bench.keys
    assert bench.plan().findings == []


def test_a_storage_error_while_looking_deletes_nothing(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    before = bench.everything
    bench.faults.fail("list*", "docker/*", Unavailable, times=None)

    with pytest.raises(Unavailable):
        purge(bench)

    assert bench.everything == before


def test_a_key_that_cannot_be_deleted_is_a_finding_and_the_next_purge_goes_on(bench: MemoryRegistry) -> None:
    run = bench.collect(**NOW_OFFLINE)
    victim = f"regstore/runs/{run.run_id}/quarantine/{blob_key(DIGEST)}"
    bench.faults.fail_key(victim)

    first = purge(bench)

    assert [(finding.id, finding.subject) for finding in first.findings] == [("removal-failed", victim)]
    assert (first.deleted_count, first.freed_bytes) == (1, 71)
    assert [run.state for run in gc.read_status(bench.registry).runs] == ["purging"]
    second = purge(bench, 99 * DAY)  # what was begun is ended whatever its age
    assert (second.run_ids, second.deleted_count, second.freed_bytes) == ([run.run_id], 1, len(GARBAGE))
    assert gc.read_status(bench.registry).runs == []


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_purge_that_dies_is_taken_up_again(bench: MemoryRegistry, nth: int) -> None:
    bench.collect(**NOW_OFFLINE)
    before = bench.contents
    bench.faults.fail("delete", "regstore/runs/*", Unavailable, nth=nth, times=None)
    try:
        purge(bench)
    except Unavailable:
        bench.registry = type(bench.registry)(bench.memory, bench.registry.config)
        purge(bench, 99 * DAY)

    assert [key for key in bench.everything if key.startswith("regstore/runs/")] == []
    assert bench.contents == before


def test_a_request_to_stop_is_heard_between_runs(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    cancel = Cancel()
    cancel.request()

    with pytest.raises(InterruptedRunError):
        gc.purge(bench.registry, 0.0, state=bench.state, cancel=cancel)

    assert bench.undo().restored_count == 2


def test_undone_runs_go_too_without_a_survey(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    bench.undo()
    bench.faults.fail("list*", "docker/*", Unavailable, times=None)

    result = purge(bench)

    assert len(result.run_ids) == 1
    assert (result.deleted_count, result.restored_count) == (0, 0)
    assert gc.read_status(bench.registry).runs == []


def test_what_a_purged_run_condemned_can_still_be_collected(bench: MemoryRegistry) -> None:
    bench.time = NOW + 2 * DAY
    assert bench.removed(bench.collect()) == {"layer-link": 1}
    bench.time = NOW + 4 * DAY
    purge(bench)

    assert bench.removed(bench.collect()) == {"blob": 1}


def test_a_versioned_bucket_gives_nothing_back() -> None:
    class Versioned(Faulty):
        def is_versioned(self) -> bool:
            return True

    bench = MemoryRegistry(wrap=Versioned)
    assert isinstance(bench.driver, HasVersions)
    bench.writer.layer("app", GARBAGE)
    bench.collect(**NOW_OFFLINE)

    result = purge(bench)

    assert (result.deleted_count, result.freed_bytes) == (2, 0)
    bench.writer.layer("app", GARBAGE)
    assert bench.collect(**NOW_OFFLINE, no_quarantine=True).freed_bytes == 0


def test_directories_go_with_what_was_in_them(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    writer.push_image("app", "latest", [b"layer"], b"{}")
    writer.layer("app", GARBAGE)
    registry, state = open_registry(str(tmp_path)), State(None)
    gc.collect(registry, gc.Options(offline=True, grace=0.0, max_delete_percent=None), state=state)

    result = gc.purge(registry, 0.0, state=state)

    assert result.freed_bytes == 71 + len(GARBAGE)
    assert {path.name for path in (tmp_path / "regstore").rglob("*")} == {"lock", "runs"}


def test_the_status_of_a_fresh_registry(bench: MemoryRegistry) -> None:
    status = gc.read_status(bench.registry)

    assert (status.location, status.runs, status.quarantined_bytes) == ("memory://test", [], 0)
    assert (status.condemned_count, status.oldest_condemned_at, status.holder) == (0, None, None)


def test_the_status_tells_runs_quarantine_and_what_waits(bench: MemoryRegistry) -> None:
    bench.writer.blob(b"no link")
    offline = bench.collect(**NOW_OFFLINE, repository="app")
    online = bench.collect(grace=0.0)

    status = gc.read_status(bench.registry)

    assert [(run.id, run.state, run.item_count, run.blob_count, run.blob_bytes) for run in status.runs] == sorted(
        [
            (offline.run_id, "quarantined", 2, 1, len(GARBAGE)),
            (online.run_id, "quarantined", 0, 0, 0),
        ]
    )
    assert status.quarantined_bytes == len(GARBAGE)
    assert status.condemned_count == 1
    assert status.oldest_condemned_at == pytest.approx(NOW, abs=5)
    bench.undo(offline.run_id)
    undone = gc.read_status(bench.registry)
    assert undone.quarantined_bytes == 0
    assert {run.state for run in undone.runs} == {"quarantined", "undone"}


def test_reading_the_status_writes_nothing(bench: MemoryRegistry) -> None:
    before = bench.everything

    gc.read_status(bench.registry)

    assert bench.everything == before

"""Taking runs back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regstore import gc
from regstore.errors import InterruptedRunError, UsageError
from regstore.registry import open_registry
from regstore.state import State
from regstore.work import Cancel
from regstore_drivers.errors import PermissionDenied, Unavailable
from support import images
from support.memory_registry import GARBAGE, NOW_OFFLINE, MemoryRegistry, registry_with_garbage
from support.random_volumes import DAY
from support.volume import VolumeWriter, blob_key, layer_link_key, write_file

DIGEST = images.digest_of(GARBAGE)


@pytest.fixture
def bench() -> MemoryRegistry:
    return registry_with_garbage()


def test_the_newest_run_first_then_the_one_before(bench: MemoryRegistry) -> None:
    before = bench.contents
    first = bench.collect(**NOW_OFFLINE)
    bench.time += DAY
    bench.writer.layer("app", b"more")
    middle = bench.contents
    second = bench.collect(**NOW_OFFLINE)

    assert bench.undo().run_id == second.run_id
    assert bench.contents == middle
    assert bench.undo().run_id == first.run_id
    assert bench.contents.items() >= before.items()
    nothing = bench.undo()
    assert (nothing.run_id, nothing.restored_count) == ("", 0)
    assert [run.state for run in gc.read_status(bench.registry).runs] == ["undone", "undone"]


def test_a_run_by_its_name(bench: MemoryRegistry) -> None:
    first = bench.collect(**NOW_OFFLINE)
    bench.time += DAY
    bench.writer.layer("app", b"more")
    second = bench.collect(**NOW_OFFLINE)

    result = bench.undo(first.run_id)

    assert (result.run_id, result.restored_count, result.restored_bytes) == (first.run_id, 2, 71 + len(GARBAGE))
    assert bench.undo(first.run_id).run_id == ""
    assert bench.undo().run_id == second.run_id


def test_an_unknown_or_purged_run_is_a_usage_error(bench: MemoryRegistry) -> None:
    run = bench.collect(**NOW_OFFLINE)
    with pytest.raises(UsageError, match="there is no run other") as caught:
        bench.undo("other")
    assert run.run_id in caught.value.hint

    gc.purge(bench.registry, 0.0, state=bench.state)
    with pytest.raises(UsageError, match=f"there is no run {run.run_id}"):
        bench.undo(run.run_id)
    assert bench.undo().run_id == ""


def test_a_run_whose_purge_died_cannot_be_undone(bench: MemoryRegistry) -> None:
    run = bench.collect(**NOW_OFFLINE)
    bench.faults.fail("delete", "*/quarantine/*", Unavailable, times=None)
    with pytest.raises(Unavailable):
        gc.purge(bench.registry, 0.0, state=bench.state)

    with pytest.raises(UsageError, match="was purged"):
        bench.undo(run.run_id)
    assert bench.undo().run_id == ""


def test_what_was_written_meanwhile_stays_when_it_is_right(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    bench.writer.layer("app", GARBAGE)

    result = bench.undo()

    assert (result.restored_count, result.kept_count) == (0, 2)
    assert bench.contents[blob_key(DIGEST)] == GARBAGE


def test_a_rotten_blob_in_its_place_gives_way(bench: MemoryRegistry) -> None:
    run = bench.collect(**NOW_OFFLINE)
    bench.put(blob_key(DIGEST), b"rotten")

    result = bench.undo()

    assert result.restored_count == 2
    assert bench.contents[blob_key(DIGEST)] == GARBAGE
    replaced = f"regstore/runs/{run.run_id}/quarantine/{blob_key(DIGEST)}.replaced"
    assert bench.everything[replaced] == b"rotten"


def test_a_link_that_the_quarantine_lost_is_written_anew(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    link = layer_link_key("app", DIGEST)
    bench.drop(next(key for key in bench.everything if key.endswith(f"quarantine/{link}")))

    bench.undo()

    assert bench.contents[link] == DIGEST.encode()


def test_data_that_the_quarantine_lost_are_not_counted(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    bench.drop(next(key for key in bench.everything if key.endswith(f"quarantine/{blob_key(DIGEST)}")))

    result = bench.undo()

    assert (result.restored_count, result.kept_count) == (1, 1)


def test_what_cannot_be_put_back_is_a_finding_and_the_undo_can_go_on_later(bench: MemoryRegistry) -> None:
    before = bench.contents
    run = bench.collect(**NOW_OFFLINE)
    bench.faults.fail("move", f"*/quarantine/{blob_key(DIGEST)}", PermissionDenied)

    first = bench.undo()

    assert [(finding.id, finding.subject) for finding in first.findings] == [("removal-failed", blob_key(DIGEST))]
    assert first.restored_count == 1
    again = bench.undo()
    assert (again.run_id, again.restored_count, again.findings) == (run.run_id, 1, [])
    assert bench.contents == before


@pytest.mark.parametrize("nth", [1, 2])
def test_an_undo_that_dies_is_taken_up_again(bench: MemoryRegistry, nth: int) -> None:
    before = bench.contents
    run = bench.collect(**NOW_OFFLINE)
    bench.faults.fail("move", "*/quarantine/*", Unavailable, nth=nth)
    with pytest.raises(Unavailable):
        bench.undo()

    assert bench.undo().run_id == run.run_id
    assert bench.contents == before


def test_a_request_to_stop_is_heard_between_items(bench: MemoryRegistry) -> None:
    before = bench.contents
    bench.collect(**NOW_OFFLINE)
    cancel = Cancel()
    bench.faults.call_after("move", "*", cancel.request)

    with pytest.raises(InterruptedRunError):
        gc.undo(bench.registry, cancel=cancel)
    bench.undo()

    assert bench.contents == before


def test_data_come_before_the_links_to_them(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    order: list[str] = []
    original = bench.memory.move

    def move(src: str, dst: str) -> None:
        order.append(dst)
        original(src, dst)

    bench.memory.move = move  # type: ignore[method-assign]
    bench.undo()

    assert order == [blob_key(DIGEST), layer_link_key("app", DIGEST)]


def test_after_an_undo_the_next_run_decides_anew(bench: MemoryRegistry) -> None:
    bench.collect()  # condemns nothing yet: all is young
    bench.time += 2 * DAY
    bench.collect()
    bench.undo()
    bench.time += 2 * DAY

    plan = bench.plan()

    assert {action.kind for action in plan.actions} == {
        gc.Kind.LAYER_LINK
    }  # not the data: what condemned them is undone


def test_files_come_back_with_bytes_mode_and_time(tmp_path: Path) -> None:
    root = tmp_path / "data"
    writer = VolumeWriter(root)
    writer.push_image("app", "latest", [b"layer"], b"{}")
    writer.layer("app", GARBAGE)
    writer.upload("app", b"bytes", started_at="")
    write_file(root, f"{blob_key(DIGEST)}.1.tmp", b"half")
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        os.utime(path, ns=(1_000_000_000_123_456_789 + number, 1_000_000_000_123_456_789 + number))
        path.chmod(0o600 + number % 8)

    def snapshot() -> dict[str, tuple[bytes, int, int, int]]:
        return {
            str(path.relative_to(root)): (path.read_bytes(), s.st_mode, s.st_uid, s.st_mtime_ns)
            for path in (root / "docker").rglob("*")
            if path.is_file() and (s := path.stat())
        }

    before = snapshot()
    registry, state = open_registry(str(root)), State(None)
    options = gc.Options(offline=True, grace=0.0, upload_age=0.0, max_delete_percent=None)
    result = gc.collect(registry, options, state=state)
    assert {kind.value for kind in result.removed} == {"blob", "layer-link", "upload", "leftover"}

    assert gc.undo(registry, state=state).restored_count == 5

    assert snapshot() == before
    assert gc.undo(registry, state=state).run_id == ""

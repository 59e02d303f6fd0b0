"""Applying a plan: faults on the way, what is needed meanwhile, and requests to stop."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable

import pytest

from regstore import gc
from regstore.digest import pack_digest
from regstore.errors import InterruptedRunError
from regstore.gc import Kind
from regstore.work import Cancel
from regstore_drivers.errors import AlreadyExists, DriverError, PermissionDenied, Unavailable
from regstore_drivers.wrappers import Faulty
from support import images
from support.memory_registry import FREE, NOW_OFFLINE, MemoryRegistry
from support.random_volumes import DAY, NOW
from support.volume import blob_key, layer_link_key, revision_link_key, tag_link_key, upload_prefix

GARBAGE = [f"garbage {number}".encode() for number in range(4)]


def make(wrap: Callable[..., Faulty] = Faulty) -> MemoryRegistry:
    """Make a registry with one image and garbage in two repositories."""
    bench = MemoryRegistry(wrap=wrap)
    bench.time = NOW - 10 * DAY
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    for number, data in enumerate(GARBAGE):
        bench.writer.layer("app" if number % 2 else "web", data)
    bench.writer.upload("app", b"x", started_at="", identity="stale")
    bench.time = NOW
    return bench


@pytest.fixture
def bench() -> MemoryRegistry:
    """A registry behind a driver with faults."""
    return make()


def faults(bench: MemoryRegistry) -> Faulty:
    """Return its driver."""
    assert isinstance(bench.driver, Faulty)
    return bench.driver


ALL = {"layer-link": 4, "blob": 4, "upload": 1}


def test_a_run_removes_what_its_plan_says(bench: MemoryRegistry) -> None:
    result = bench.collect(**NOW_OFFLINE)

    assert bench.removed(result) == ALL
    assert result.removed[Kind.BLOB] == (4, sum(map(len, GARBAGE)))
    assert (result.freed_bytes, result.purged_bytes) == (0, 0)
    assert (result.condemned_count, result.restored_count, result.skipped_count) == (0, 0, 0)
    assert result.findings == []
    assert re.fullmatch(r"20270115T0800\d\dZ-[0-9a-f]{6}", result.run_id)
    assert not [key for key in bench.keys if any(images.digest_of(data)[7:] in key for data in GARBAGE)]


def test_a_run_with_nothing_to_do_writes_nothing_but_its_lock(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    before = bench.everything

    result = bench.collect(**NOW_OFFLINE)

    assert (result.run_id, result.removed) == ("", {})
    assert bench.everything == before


@pytest.mark.parametrize("error", [PermissionDenied, AlreadyExists])
def test_an_item_that_cannot_be_removed_is_a_finding_and_not_counted(
    bench: MemoryRegistry, error: type[DriverError]
) -> None:
    victim = blob_key(images.digest_of(GARBAGE[0]))
    faults(bench).fail("move", victim, error, times=None)

    result = bench.collect(**NOW_OFFLINE)

    assert bench.removed(result) == {**ALL, "blob": 3}
    assert result.removed[Kind.BLOB] == (3, sum(map(len, GARBAGE[1:])))
    assert [(finding.id, finding.subject) for finding in result.findings] == [("removal-failed", victim)]
    assert victim in bench.keys


def test_an_upload_that_cannot_be_removed_whole_is_a_finding(bench: MemoryRegistry) -> None:
    faults(bench).fail("move", f"{upload_prefix('app', 'stale')}hashstates*", PermissionDenied, times=None)

    result = bench.collect(**NOW_OFFLINE)

    assert "upload" not in bench.removed(result)
    assert [finding.id for finding in result.findings] == ["removal-failed"]
    assert result.findings[0].subject == upload_prefix("app", "stale").rstrip("/")


def test_a_multipart_upload_is_aborted_and_frees_its_bytes(bench: MemoryRegistry) -> None:
    bench.memory.begin_multipart(f"{upload_prefix('app', 'id')}data", size=70, initiated=NOW - 9 * DAY)

    result = bench.collect(**NOW_OFFLINE)

    assert result.removed[Kind.MULTIPART] == (1, 70)
    assert result.freed_bytes == 70
    assert list(bench.memory.list_multipart("")) == []
    assert bench.undo().lost_count == 1


def test_what_is_gone_already_is_skipped(bench: MemoryRegistry) -> None:
    victim = blob_key(images.digest_of(GARBAGE[0]))
    faults(bench).call_before("move", victim, lambda: bench.drop(victim))

    result = bench.collect(**NOW_OFFLINE)

    assert bench.removed(result) == {**ALL, "blob": 3}
    assert result.skipped_count == 1
    assert result.findings == []


@pytest.mark.parametrize("jobs", [1, 16])
@pytest.mark.parametrize("nth", [1, 2, 4, 5, 7, 9, 10])
def test_a_storage_error_stops_the_run_and_says_what_was_done(bench: MemoryRegistry, nth: int, jobs: int) -> None:
    faults(bench).fail("move", "docker/*", Unavailable, nth=nth, times=None)

    with pytest.raises(Unavailable) as caught:
        bench.collect(**NOW_OFFLINE, jobs=jobs)

    notes = " ".join(caught.value.__notes__)
    assert "can be undone" in notes
    status = gc.read_status(bench.registry)
    assert [run.state for run in status.runs] == ["killed"]
    assert status.runs[0].id in notes
    counts = sum(int(count) for count in re.findall(r"(\d+) [a-z-]+(?:,|;)", notes))
    # Objects of an upload are moved one by one, and it counts when all are.
    assert counts in (nth - 1, nth - 2, nth - 3)
    bench.driver = bench.memory
    bench.registry = type(bench.registry)(bench.memory, bench.registry.config)
    assert bench.undo().restored_count == nth - 1
    assert bench.contents == make().contents


def test_an_error_before_anything_was_removed_says_so(bench: MemoryRegistry) -> None:
    faults(bench).fail("write", "regstore/runs/*", Unavailable, times=None)

    with pytest.raises(Unavailable) as caught:
        bench.collect(**NOW_OFFLINE)

    assert caught.value.__notes__ == ["nothing was removed"]


def test_a_request_to_stop_is_heard_after_the_item(bench: MemoryRegistry) -> None:
    cancel = Cancel()
    faults(bench).call_after("move", "docker/*", lambda: cancel.request(143), nth=3)  # in the midst of the upload
    before = bench.contents

    with pytest.raises(InterruptedRunError) as caught:
        gc.collect(
            bench.registry,
            gc.Options(**{**FREE, **NOW_OFFLINE}, jobs=1),
            state=bench.state,
            cancel=cancel,
            settle_seconds=0.0,
        )

    assert caught.value.exit_code == 143
    assert len(before) - len(bench.contents) == 4
    assert "removed until then: 2 layer-link, 1 upload" in caught.value.__notes__[0]
    rest = bench.collect(**NOW_OFFLINE)
    assert bench.removed(rest) == {"layer-link": 2, "blob": 4}
    assert bench.undo().run_id == rest.run_id
    bench.undo()
    assert bench.contents == before


def test_what_is_linked_while_blobs_are_moved_comes_back(bench: MemoryRegistry) -> None:
    """A registry's commit found the data present, and wrote its link after they were gone."""
    digest = images.digest_of(GARBAGE[0])
    faults(bench).call_after("move", blob_key(digest), lambda: bench.writer.layer_link("new", digest))

    result = bench.collect(**NOW_OFFLINE)

    assert result.restored_count == 1
    assert [(finding.id, finding.subject) for finding in result.findings] == [("restored", blob_key(digest))]
    assert bench.contents[blob_key(digest)] == GARBAGE[0]
    assert layer_link_key("new", digest) in bench.keys


def test_what_is_linked_before_blobs_are_moved_stays(bench: MemoryRegistry) -> None:
    digest = images.digest_of(GARBAGE[0])
    faults(bench).call_after("move", layer_link_key("web", digest), lambda: bench.writer.layer_link("new", digest))

    result = bench.collect(offline=True)

    assert bench.removed(result) == {**ALL, "blob": 3}
    assert result.skipped_count == 1
    assert blob_key(digest) in bench.keys


def test_a_manifest_written_after_its_layers_link_went_gets_the_link_back(bench: MemoryRegistry) -> None:
    digest = images.digest_of(GARBAGE[1])
    layer = images.descriptor(images.OCI_LAYER, GARBAGE[1])
    manifest = images.image_manifest(images.descriptor(images.OCI_CONFIG, b"{}"), [layer], "oci")
    faults(bench).call_after(
        "move", layer_link_key("app", digest), lambda: bench.writer.manifest("app", manifest, "late")
    )

    result = bench.collect(offline=True)

    assert bench.contents[layer_link_key("app", digest)] == digest.encode()
    assert bench.contents[blob_key(digest)] == GARBAGE[1]
    assert "restored" in {finding.id for finding in result.findings}
    assert {finding.id for finding in bench.plan().findings} == set()


def test_a_tag_moved_to_a_revision_that_went_gets_it_back(bench: MemoryRegistry) -> None:
    bench.time = NOW - 5 * DAY
    image = bench.writer.push_image("app", "", [b"untagged"], b'{"u": 1}')
    bench.time = NOW
    before = bench.contents
    faults(bench).call_after(
        "move", revision_link_key("app", image.digest), lambda: bench.writer.tag("app", "late", image.digest)
    )

    bench.collect(offline=True, delete_untagged=True)

    after = bench.contents
    assert after[revision_link_key("app", image.digest)] == image.digest.encode()
    for digest in image.digests:
        assert after[blob_key(digest)] == before[blob_key(digest)]
    for digest in (*image.layers, str(image.config)):
        assert layer_link_key("app", digest) in after
    assert bench.plan().findings == []


def test_each_repository_is_looked_at_again_just_before(bench: MemoryRegistry) -> None:
    """A tag pushed between the plan and the removal in its repository saves what it names."""
    bench.time = NOW - 5 * DAY
    image = bench.writer.push_image("web", "", [b"untagged"], b'{"u": 1}')
    bench.time = NOW
    faults(bench).call_before("write", "*/ledger/000001.jsonl", lambda: bench.writer.tag("web", "late", image.digest))

    result = bench.collect(offline=True, delete_untagged=True)

    assert result.skipped_count >= 3
    assert revision_link_key("web", image.digest) in bench.keys
    assert result.restored_count == 0


def test_online_the_volume_settles_before_the_last_look(bench: MemoryRegistry) -> None:
    class Waiting(Cancel):
        waited: list[float] = []  # noqa: RUF012 - one object

        def wait(self, seconds: float) -> None:
            self.waited.append(seconds)
            bench.writer.layer_link("app", images.digest_of(b"layer"))

    cancel = Waiting()
    gc.collect(bench.registry, gc.Options(**FREE), state=bench.state, cancel=cancel, settle_seconds=7.0)
    assert cancel.waited == [7.0]
    gc.collect(bench.registry, gc.Options(**FREE, offline=True), state=bench.state, cancel=cancel, settle_seconds=7.0)
    assert cancel.waited == [7.0]


def test_the_next_run_puts_back_what_was_linked_later(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    digest = images.digest_of(GARBAGE[0])
    bench.writer.layer_link("app", digest)

    planned = bench.plan(**NOW_OFFLINE)
    result = bench.collect(offline=True)

    assert [(action.verb.value, action.key) for action in planned.actions][:1] == [("restore", blob_key(digest))]
    assert result.restored_count == 1
    assert bench.contents[blob_key(digest)] == GARBAGE[0]
    assert bench.plan().findings == []


def test_data_pushed_anew_win_over_those_in_the_quarantine(bench: MemoryRegistry) -> None:
    bench.collect(**NOW_OFFLINE)
    digest = bench.writer.layer("app", GARBAGE[0])
    at = bench.memory.stat(blob_key(digest)).mtime

    result = bench.collect(offline=True)

    assert result.restored_count == 0
    assert bench.memory.stat(blob_key(digest)).mtime == at
    assert bench.removed(result) == {}  # and no run that could be taken back
    undone = bench.undo()
    assert undone.kept_count == 1
    assert bench.contents[blob_key(digest)] == GARBAGE[0]


def test_more_steps_than_a_segment_holds(bench: MemoryRegistry) -> None:
    bench.time = NOW - 9 * DAY
    for number in range(1200):
        data = f"many {number}".encode()
        digest = images.digest_of(data)
        bench.put(blob_key(digest), data)
        bench.put(layer_link_key("many", digest), digest.encode())
    bench.time = NOW
    before = bench.contents

    result = bench.collect(**NOW_OFFLINE)

    assert bench.removed(result) == {"layer-link": 1204, "blob": 1204, "upload": 1}
    segments = [data for key, data in bench.everything.items() if "/ledger/" in key]
    assert len(segments) >= 6
    assert max(data.count(b"\n") for data in segments) <= 500
    assert bench.undo().restored_count == 1204 * 2 + 2
    assert bench.contents == before


def test_without_a_quarantine_the_bytes_are_free_at_once(bench: MemoryRegistry) -> None:
    result = bench.collect(**NOW_OFFLINE, no_quarantine=True)

    assert bench.removed(result) == ALL
    expected = sum(size for _, size in result.removed.values())
    assert result.freed_bytes == result.purged_bytes == expected
    assert not [key for key in bench.everything if "/quarantine/" in key]
    assert bench.undo().run_id == ""


def test_a_run_never_purges_itself(bench: MemoryRegistry) -> None:
    """The retention counts for earlier runs; this one can be undone until the next."""
    before = bench.contents
    result = bench.collect(**NOW_OFFLINE, quarantine_retention=0.0)

    assert result.purged_bytes == 0
    assert bench.undo().run_id == result.run_id
    assert bench.contents == before


def test_a_later_run_purges_what_is_old_enough(bench: MemoryRegistry) -> None:
    first = bench.collect(**NOW_OFFLINE)
    bench.time = NOW + 7 * DAY - 20
    assert bench.collect(**NOW_OFFLINE).purged_bytes == 0
    bench.time = NOW + 7 * DAY

    last = bench.collect(**NOW_OFFLINE)

    assert last.purged_bytes == last.freed_bytes == sum(size for _, size in first.removed.values())
    assert gc.read_status(bench.registry).runs == []


def test_steps_stand_in_the_order_of_the_safety_argument(bench: MemoryRegistry) -> None:
    bench.time = NOW - 9 * DAY
    bench.writer.push_image("app", "", [b"untagged"], b'{"u": 1}')
    bench.time = NOW
    result = bench.collect(**NOW_OFFLINE, delete_untagged=True)

    kinds = []
    for key, data in sorted(bench.everything.items()):
        if f"{result.run_id}/ledger/" in key:
            kinds += [json.loads(line)["kind"] for line in data.splitlines()]
    first_blob = kinds.index("blob")
    assert set(kinds[first_blob:]) == {"blob"}
    app = [kind for kind, _ in itertools.groupby(kinds[:first_blob])]
    assert app.index("revision-link") < app.index("layer-link")


@pytest.mark.parametrize("jobs", [1, 4])
def test_every_step_is_told_to_progress(bench: MemoryRegistry, jobs: int) -> None:
    class Told:
        phases: dict[str, int]

        def __init__(self) -> None:
            self.phases = {}
            self.phase = ""

        def start(self, phase: str, total: int | None = None) -> None:
            self.phase = phase
            self.phases[phase] = 0

        def advance(self, count: int = 1) -> None:
            self.phases[self.phase] += count

        def finish(self) -> None:
            pass

    told = Told()
    options = gc.Options(**{**FREE, **NOW_OFFLINE}, jobs=jobs)
    gc.collect(bench.registry, options, state=bench.state, progress=told, settle_seconds=0.0)

    assert told.phases["removing links and uploads"] == 5
    assert told.phases["removing blobs"] == 4


def test_a_plan_of_nothing_that_fits_does_nothing(bench: MemoryRegistry) -> None:
    plan = bench.plan(**NOW_OFFLINE)
    bench.collect(**NOW_OFFLINE)
    after = bench.contents

    result = bench.apply(plan)

    assert (result.removed, result.skipped_count) == ({}, len(plan.actions))
    assert bench.contents == after


def test_a_plan_cannot_make_more_go_than_its_options_allow(bench: MemoryRegistry) -> None:
    """Steps that were added to the file, with their right keys, are not right by the survey: they are skipped."""
    plan = bench.plan(**NOW_OFFLINE)
    tag = gc.Action(gc.Verb.REMOVE, Kind.TAG_LINK, "app", None, "latest", 71, "because")
    live = next(key.split("/")[-2] for key in bench.keys if "/revisions/" in key)
    revision = gc.Action(gc.Verb.REMOVE, Kind.REVISION_LINK, "app", pack_digest("sha256", live), "", 71, "x")
    plan.actions += [tag, revision, revision._replace(kind=Kind.BLOB, repository="")]

    result = bench.apply(plan)

    assert result.skipped_count == 3
    assert bench.removed(result) == ALL
    assert tag_link_key("app", "latest") in bench.keys

"""What a plan removes and what it leaves: ages, scopes, condemned data, findings and numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from regstore import gc
from regstore.digest import parse_digest
from regstore.errors import InterruptedRunError, RefusedError
from regstore.findings import Finding
from regstore.gc import Kind, Verb
from regstore.registry import open_registry
from regstore.state import State
from regstore.work import Cancel
from regstore_drivers.errors import DriverError, PermissionDenied, Unavailable
from regstore_drivers.wrappers import Faulty
from support import images
from support.memory_registry import NOW_OFFLINE, MemoryRegistry
from support.random_volumes import DAY, HOUR, NOW
from support.volume import (
    V2,
    VolumeWriter,
    blob_key,
    delete_image,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
    upload_prefix,
)

LAYER = b"a layer that nobody needs"
DIGEST = images.digest_of(LAYER)


@pytest.fixture
def _listings_have_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two keys more than a page."""
    monkeypatch.setattr("regstore_drivers.memory._PAGE_KEYS", 1)


@pytest.fixture
def bench() -> MemoryRegistry:
    """A registry with one tagged image, pushed long ago."""
    made = MemoryRegistry()
    made.time = NOW - 100 * DAY
    made.writer.push_image("app", "latest", [b"layer"], b"{}")
    made.time = NOW
    return made


def steps(plan: gc.Plan, verb: Verb = Verb.REMOVE) -> dict[str, int]:
    """Count the steps of a plan by kind."""
    counts: dict[str, int] = {}
    for action in plan.actions:
        if action.verb is verb:
            counts[action.kind.value] = counts.get(action.kind.value, 0) + 1
    return counts


def ids(findings: list[Finding]) -> list[str]:
    """Return the ids of findings, sorted."""
    return sorted(finding.id for finding in findings)


def stamp(seconds: float) -> str:
    """Write a time as registries do."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_volume_without_garbage_has_nothing_to_do(bench: MemoryRegistry) -> None:
    plan = bench.plan(**NOW_OFFLINE, delete_untagged=True, delete_orphan_signatures=True)

    assert (plan.actions, plan.findings, plan.refusals) == ([], [], [])
    assert plan.location == "memory://test"
    assert plan.created_at == NOW
    assert plan.config == "/etc/docker/registry/config.yml"


@pytest.mark.parametrize(
    ("written", "grace", "goes"),
    [
        (NOW - DAY, DAY, True),
        (NOW - DAY + 1, DAY, False),
        (NOW - DAY - 1, DAY, True),
        (NOW, 0.0, True),
        (NOW - 1, 0.0, True),
        (NOW + 1, 0.0, False),
        (NOW + 365 * DAY, 0.0, False),
        (NOW, 1.0, False),
    ],
)
def test_old_enough_is_an_age_of_at_least_the_grace_period(
    bench: MemoryRegistry, written: float, grace: float, goes: bool
) -> None:
    bench.time = written
    bench.writer.layer("app", LAYER)
    bench.time = NOW

    plan = bench.plan(offline=True, grace=grace)

    assert steps(plan) == ({"layer-link": 1, "blob": 1} if goes else {})
    assert (plan.summary.unreferenced_count, plan.summary.grace_count) == ((1, 0) if goes else (0, 1))


@pytest.mark.parametrize("young", ["link", "data"])
def test_young_data_stay_without_their_old_link_and_the_other_way_round(bench: MemoryRegistry, young: str) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER)
    bench.time = NOW
    if young == "link":
        bench.writer.layer_link("app", DIGEST)
    else:
        bench.writer.blob(LAYER)

    plan = bench.plan(offline=True)

    assert steps(plan) == ({} if young == "link" else {"layer-link": 1})


def test_the_clock_is_the_storages_unless_one_is_given(bench: MemoryRegistry) -> None:
    bench.writer.layer("app", LAYER)
    options = gc.Options(offline=True, grace=HOUR)

    assert gc.plan_collection(bench.registry, options, state=bench.state).actions == []
    later = gc.plan_collection(bench.registry, options, state=bench.state, now=NOW + HOUR)

    assert steps(later) == {"layer-link": 1, "blob": 1}
    assert later.created_at == NOW + HOUR


@pytest.mark.parametrize(
    ("started", "files", "goes"),
    [
        (stamp(NOW - 7 * DAY), NOW - 7 * DAY, True),
        (stamp(NOW - 7 * DAY + 1), NOW - 8 * DAY, False),
        (stamp(NOW - 8 * DAY), NOW - 7 * DAY + 1, False),
        (stamp(NOW + DAY), NOW - 8 * DAY, False),
        ("", NOW - 7 * DAY, True),
        ("", NOW - 7 * DAY + 1, False),
        ("yesterday", NOW - 7 * DAY, True),
        ("yesterday", NOW, False),
        ("9999-12-31T23:59:59Z", NOW - 8 * DAY, False),
    ],
)
def test_the_age_of_an_upload_is_its_newest_time(bench: MemoryRegistry, started: str, files: float, goes: bool) -> None:
    bench.time = files
    bench.writer.upload("app", b"bytes", started_at=started, identity="upload")
    bench.time = NOW

    plan = bench.plan(grace=0.0)

    assert steps(plan) == ({"upload": 1} if goes else {})
    if goes:
        assert plan.actions[0].size == len(b"bytes") + 108 + len(started)
        assert plan.actions[0].key == f"{V2}/repositories/app/_uploads/upload"


def test_multipart_uploads_of_uploads_and_of_blobs_have_ages_of_their_own(bench: MemoryRegistry) -> None:
    upload = f"{upload_prefix('app', 'id')}data"
    for key, age in [
        (upload, 7 * DAY),
        (upload, 7 * DAY - 1),
        (blob_key(DIGEST), DAY),
        (blob_key(DIGEST), DAY - 1),
        (f"{V2}/elsewhere", 99 * DAY),
        ("somebody/else", 99 * DAY),
    ]:
        bench.memory.begin_multipart(key, size=5, initiated=NOW - age)

    plan = bench.plan()

    assert sorted(action.name for action in plan.actions) == sorted(
        [f"{upload} upload-00000001", f"{blob_key(DIGEST)} upload-00000003"]
    )
    assert {action.size for action in plan.actions} == {5}
    assert {action.name for action in bench.plan(repository="app").actions} == {f"{upload} upload-00000001"}
    assert bench.plan(repository="other").actions == []


def test_temporary_files_go_when_they_are_old(bench: MemoryRegistry) -> None:
    old, young = (f"{blob_key(DIGEST)}.5ca1ab1e-0000-{n}.tmp" for n in (1, 2))
    link = f"{layer_link_key('app', DIGEST)}.5ca1ab1e.tmp"
    bench.time = NOW - DAY
    bench.writer.put(old, b"half")
    bench.writer.put(link, b"half")
    bench.time = NOW
    bench.writer.put(young, b"half")

    assert {action.key for action in bench.plan().actions} == {old, link}
    assert {action.key for action in bench.plan(repository="app").actions} == {link}
    assert {action.key for action in bench.plan(repository="other").actions} == set()


def test_untagged_manifests_stay_unless_asked_for(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_image("app", "", [LAYER], b'{"other": 1}')
    bench.time = NOW

    assert bench.plan(**NOW_OFFLINE).actions == []
    plan = bench.plan(offline=True, delete_untagged=True)

    assert steps(plan) == {"revision-link": 1, "layer-link": 2, "blob": 3}
    assert {a.key for a in plan.actions if a.kind is Kind.REVISION_LINK} == {revision_link_key("app", image.digest)}


@pytest.mark.parametrize(("age", "goes"), [(3 * DAY, True), (3 * DAY - 1, False)])
def test_untagged_older_than_counts_from_the_revision_link(bench: MemoryRegistry, age: float, goes: bool) -> None:
    bench.time = NOW - 10 * DAY
    image = bench.writer.push_image("app", "", [LAYER], b'{"other": 1}')
    bench.time = NOW - age
    bench.writer.revision_link("app", image.digest)
    bench.time = NOW

    assert ("revision-link" in steps(bench.plan(untagged_older_than=3 * DAY))) is goes


def test_the_grace_period_holds_for_untagged_manifests_too(bench: MemoryRegistry) -> None:
    bench.time = NOW - HOUR
    bench.writer.push_image("app", "", [LAYER], b'{"other": 1}')
    bench.time = NOW

    assert bench.plan(untagged_older_than=0.0).actions == []
    assert steps(bench.plan(untagged_older_than=0.0, grace=0.0)) == {"revision-link": 1, "layer-link": 2}


def test_entries_of_a_tags_history_go_when_their_manifest_is_gone(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    old = bench.writer.push_image("app", "latest", [LAYER], b'{"old": 1}')
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.time = NOW

    assert bench.plan().actions == []
    plan = bench.plan(delete_untagged=True)
    bench.drop(revision_link_key("app", old.digest))

    stale = tag_index_key("app", "latest", old.digest)
    assert {a.key for a in plan.actions if a.kind is Kind.TAG_INDEX} == {stale}
    assert {a.key for a in bench.plan().actions if a.kind is Kind.TAG_INDEX} == {stale}
    bench.writer.tag_index("app", "latest", old.digest)
    assert "tag-index" not in steps(bench.plan())


def test_orphan_signatures_go_on_request(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_image("app", "signed", [b"x"], b'{"x": 1}')
    signature = bench.writer.push_signature("app", image)
    bench.drop(revision_link_key("app", image.digest))
    bench.drop(*[key for key in bench.keys if "/tags/signed/" in key])
    bench.time = NOW

    listed = bench.plan()
    plan = bench.plan(delete_orphan_signatures=True)

    assert ids(listed.findings) == ids(plan.findings) == ["signature-orphan"]
    assert listed.findings[0].subject == f"app:{signature.tag}"
    assert steps(listed) == {"layer-link": 2}  # those of the image itself
    assert steps(plan) == {"tag-link": 1, "tag-index": 1, "revision-link": 1, "layer-link": 4}
    bench.writer.tag("app", signature.tag, signature.digest)
    assert steps(bench.plan(delete_orphan_signatures=True)) == {"layer-link": 2}


def test_replaced_signatures_are_listed_and_go_with_the_untagged(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_image("app", "signed", [b"x"], b'{"x": 1}')
    first = bench.writer.push_signature("app", image, "first")
    bench.writer.push_signature("app", image, "second")
    bench.time = NOW

    plan = bench.plan(delete_untagged=True)

    assert [finding.subject for finding in plan.findings] == [f"app@{first.digest}"]
    assert ids(plan.findings) == ["signature-replaced"]
    assert "revision-link" in steps(plan)
    assert bench.plan(delete_untagged=True, keep_signature_history=True).actions == []
    assert bench.plan().findings == []


def test_online_links_go_first_and_data_a_grace_period_later(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER)
    bench.time = NOW

    first = bench.collect()
    assert bench.removed(first) == {"layer-link": 1}
    assert first.condemned_count == 0
    bench.time = NOW + DAY - 10
    assert bench.removed(bench.collect()) == {}
    bench.time = NOW + DAY
    last = bench.collect()

    assert bench.removed(last) == {"blob": 1}
    assert blob_key(DIGEST) not in bench.keys
    assert last.freed_bytes == 0  # it lies in the quarantine


def test_online_data_without_links_are_condemned_first(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.blob(LAYER)
    bench.time = NOW

    assert steps(bench.plan(), Verb.CONDEMN) == {"blob": 1}
    first = bench.collect()
    assert (bench.removed(first), first.condemned_count) == ({}, 1)
    again = bench.collect()
    assert (bench.removed(again), again.condemned_count) == ({}, 0)
    bench.time = NOW + DAY

    assert bench.removed(bench.collect()) == {"blob": 1}


def test_condemned_data_stay_when_they_were_linked_again(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER)
    bench.time = NOW
    bench.collect()
    bench.time = NOW + HOUR
    bench.writer.layer_link("other", DIGEST)
    bench.time = NOW + DAY

    assert bench.removed(bench.collect()) == {}
    bench.time = NOW + 3 * DAY
    assert bench.removed(bench.collect()) == {"layer-link": 1}
    assert bench.removed(bench.collect()) == {}  # condemned anew by the last link


@pytest.mark.parametrize("purges", [False, True])
def test_a_link_in_between_ends_a_condemnation(bench: MemoryRegistry, *, purges: bool) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER)
    bench.time = NOW
    bench.collect()
    bench.time = NOW + 20 * HOUR
    bench.writer.layer_link("other", DIGEST)
    seen = bench.collect()
    bench.drop(layer_link_key("other", DIGEST))  # by a client's DELETE
    bench.time = NOW + 30 * HOUR
    if purges:
        for retention in (9 * HOUR, 0.0):  # first the run that condemned, then the one that spared
            gc.purge(bench.registry, retention, state=bench.state)

    assert (seen.plan.spared, bench.removed(seen)) == ([parse_digest(DIGEST)], {})
    anew = bench.collect()
    assert (bench.removed(anew), anew.condemned_count) == ({}, 1)
    bench.time = NOW + 53 * HOUR
    assert bench.removed(bench.collect()) == {}
    bench.time = NOW + 54 * HOUR
    assert bench.removed(bench.collect()) == {"blob": 1}


def test_a_run_that_removes_one_of_two_links_condemns_nothing(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER)
    bench.writer.layer_link("other", DIGEST)
    bench.time = NOW

    first = bench.collect(repository="app")
    assert (bench.removed(first), first.plan.spared) == ({"layer-link": 1}, [parse_digest(DIGEST)])
    bench.time = NOW + 2 * DAY
    bench.drop(layer_link_key("other", DIGEST))
    anew = bench.collect()

    assert (bench.removed(anew), anew.condemned_count) == ({}, 1)


def test_data_of_manifests_go_offline_only(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_image("app", "", [LAYER], b'{"other": 1}')
    large = bench.writer.blob(b'{"schemaVersion": 2' + b" " * (5 << 20) + b"}")  # no manifest is that large
    odd = bench.writer.blob(b'{"schemaVersion": 9, "mediaType": "application/vnd.example"}')
    bench.time = NOW
    for day in range(4):
        bench.time = NOW + day * DAY
        bench.collect(delete_untagged=True)

    assert blob_key(image.digest) in bench.keys
    assert blob_key(odd) in bench.keys
    assert blob_key(large) not in bench.keys
    assert blob_key(DIGEST) not in bench.keys
    assert bench.removed(bench.collect(offline=True)) == {"blob": 2}


def test_a_pattern_limits_what_loses_and_not_what_is_marked(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    for repository in ("app", "app/web", "other"):
        bench.writer.layer(repository, b"shared")
        bench.writer.layer(repository, repository.encode())
    bench.writer.blob(b"nobody's")
    bench.time = NOW

    plan = bench.plan(offline=True, repository="app*")

    assert steps(plan) == {"layer-link": 4, "blob": 2}
    assert {action.repository for action in plan.actions} == {"app", "app/web", ""}
    assert {a.key for a in plan.actions if a.kind is Kind.BLOB} == {
        blob_key(images.digest_of(name)) for name in (b"app", b"app/web")
    }
    assert bench.plan(offline=True, repository="nothing").actions == []
    assert steps(bench.plan(offline=True, repository="*")) == {"layer-link": 6, "blob": 4}


def test_a_pattern_collects_online_what_it_condemned(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", b"mine")
    bench.writer.layer("other", b"theirs")
    bench.writer.blob(b"nobody's")
    bench.time = NOW
    bench.collect()
    bench.time = NOW + DAY + 1

    plan = bench.plan(repository="app")

    assert {action.key for action in plan.actions} == {blob_key(images.digest_of(b"mine"))}


def test_a_pull_through_cache_keeps_links_for_a_week_and_misses_no_child() -> None:
    bench = MemoryRegistry()
    bench.time = NOW - 6 * DAY
    bench.writer.put("scheduler-state.json", b"{}")
    child = bench.writer.push_image("library/base", "", [b"layer"], b"{}", flavour="oci")
    absent = {"mediaType": images.OCI_MANIFEST, "size": 9, "digest": images.digest_of(b"absent")}
    bench.writer.push_index("library/base", "latest", [child, absent])
    bench.writer.layer("library/base", LAYER)
    bench.time = NOW

    assert bench.plan(grace=0.0, offline=True).actions == []
    assert bench.plan(grace=0.0, offline=True).findings == []
    bench.time = NOW + DAY
    assert steps(bench.plan(grace=0.0, offline=True)) == {"layer-link": 1, "blob": 1}
    bench.drop("scheduler-state.json")
    assert ids(bench.plan(grace=0.0, offline=True).findings) == ["child-missing"]


def test_strays_are_counted_and_stay(bench: MemoryRegistry) -> None:
    strays = [
        f"{V2}/blobs/sha256/zz/zzzz/data",
        f"{V2}/blobs/md5/aa/aaaa/data",
        f"{V2}/repositories/app/_layers/sha256/zz/link",
        f"{V2}/repositories/app/_other/file",
    ]
    for key in strays:
        bench.writer.put(key, b"stray")

    result = bench.collect(**NOW_OFFLINE)

    assert ids(result.findings) == ["stray"]
    assert "4 keys" in result.findings[0].detail
    assert set(strays) <= bench.keys


def test_an_absent_foreign_layer_is_no_damage_and_an_absent_layer_is(bench: MemoryRegistry) -> None:
    foreign = images.foreign_layer(b"windows")
    bench.writer.push_image("app", "windows", [b"x"], b"{}", foreign=[foreign])
    assert ids(bench.plan().findings) == ["foreign-absent"]

    bench.drop(blob_key(images.digest_of(b"x")))

    plan = bench.plan()
    assert ids(plan.findings) == ["blob-missing", "foreign-absent"]
    assert {finding.subject for finding in plan.findings} == {foreign["digest"], images.digest_of(b"x")}


def test_a_damaged_repository_is_frozen_and_the_others_are_collected(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_image("broken", "latest", [b"b"], b'{"b": 1}')
    bench.writer.layer("broken", LAYER)
    bench.writer.layer("app", b"garbage")
    bench.writer.upload("broken", b"x", started_at="")
    bench.put(blob_key(image.digest), image.data[:-1])
    bench.time = NOW + 10 * DAY

    plan = bench.plan(offline=True)

    assert ids(plan.findings) == ["manifest-corrupt"]
    assert {action.repository for action in plan.actions} == {"app", ""}
    assert steps(plan) == {"layer-link": 1, "blob": 1}


def test_the_numbers_of_a_plan(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", b"garbage!")
    bench.writer.layer("team/base", b"garbage!")
    bench.writer.layer("team/base", b"only here")
    bench.time = NOW
    bench.writer.blob(b"young")

    plan = bench.plan(offline=True)
    summary = plan.summary

    live = sum(len(d) for k, d in bench.contents.items() if "/blobs/" in k) - 8 - 9 - 5
    assert (summary.repository_count, summary.tag_count, summary.revision_count) == (2, 1, 1)
    assert summary.blob_count == 3 + 2 + 1
    assert (summary.live_count, summary.live_bytes) == (3, live)
    assert (summary.grace_count, summary.grace_bytes) == (1, 5)
    assert (summary.unreferenced_count, summary.unreferenced_bytes, summary.removable_bytes) == (2, 17, 17)
    assert summary.stored_bytes == live + 5 + 17
    assert [(entry.name, entry.reclaimable_bytes) for entry in summary.largest] == [("team/base", 17), ("app", 8)]
    assert [action.kind for action in plan.actions] == [Kind.LAYER_LINK] * 3 + [Kind.BLOB] * 2
    assert all(action.reason for action in plan.actions)


def test_the_limit_counts_what_a_run_condemns_too(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", b"g" * 10_000)
    bench.time = NOW

    for offline in (True, False):
        plan = bench.plan(offline=offline, max_delete_percent=50.0)
        assert [refusal.code for refusal in plan.refusals] == ["max-delete"]
        assert bench.plan(offline=offline, max_delete_bytes=10_000).refusals == []
        assert [r.code for r in bench.plan(offline=offline, max_delete_bytes=9_999).refusals] == ["max-delete"]


def test_a_sha512_layer_without_need_goes_with_both_links(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", LAYER, "sha512")
    bench.writer.push_image("app", "strong", [b"strong"], b"{}", algorithm="sha512")
    bench.time = NOW

    plan = bench.plan(offline=True)

    assert {action.key for action in plan.actions} == {
        layer_link_key("app", DIGEST),
        layer_link_key("app", images.digest_of(LAYER, "sha512")),
        blob_key(DIGEST),
    }


def test_detached_signatures_go_with_their_revision(bench: MemoryRegistry) -> None:
    bench.time = NOW - 2 * DAY
    image = bench.writer.push_schema1("app", "old", [b"old layer"])
    signature = bench.writer.signature_link("app", image.digest, b"signature")
    bench.time = NOW

    assert bench.plan(**NOW_OFFLINE).actions == []
    bench.drop(tag_link_key("app", "old"), tag_index_key("app", "old", image.digest))
    assert bench.plan(**NOW_OFFLINE).actions == []
    plan = bench.plan(**NOW_OFFLINE, delete_untagged=True)

    assert steps(plan) == {"revision-link": 2, "layer-link": 1, "blob": 3}
    assert blob_key(signature) in {action.key for action in plan.actions}


def test_empty_repositories_go_offline_from_a_directory_and_take_no_nested_one_along(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    writer.push_image("app/nested", "latest", [b"layer"], b"{}")
    gone = writer.push_image("app", "latest", [b"gone"], b'{"gone": 1}')
    delete_image(tmp_path, gone)
    writer.push_image("busy", "latest", [b"busy"], b"{}")
    (tmp_path / V2 / "repositories/void/_uploads").mkdir(parents=True)
    registry, state = open_registry(str(tmp_path)), State(None)
    options = {"grace": 0.0, "max_delete_percent": None, "offline": True}

    kept = gc.plan_collection(registry, gc.Options(**options), state=state)
    plan = gc.plan_collection(registry, gc.Options(**options, empty_repositories=True), state=state)
    result = gc.collect(registry, gc.Options(**options, empty_repositories=True), state=state)

    assert "repository" not in steps(kept)
    assert {action.repository for action in plan.actions if action.kind is Kind.REPOSITORY} == {"app", "void"}
    assert result.removed[Kind.REPOSITORY] == (2, 0)
    names = {path.name for path in (tmp_path / V2 / "repositories").iterdir()}
    assert names == {"app", "busy"}
    assert [path.name for path in (tmp_path / V2 / "repositories/app").iterdir()] == ["nested"]
    assert gc.plan_collection(registry, gc.Options(**options, empty_repositories=True), state=state).actions == []
    assert gc.undo(registry).restored_count == 2 + 2 + 1  # links, blobs, and the data of the manifest


def test_signature_tags_alone_are_no_tags_for_the_harbor_guard() -> None:
    bench = MemoryRegistry()
    image = bench.writer.push_image("app", "", [b"layer"], b"{}")
    bench.writer.push_signature("app", image)

    for options in ({"delete_untagged": True}, {"untagged_older_than": DAY}):
        with pytest.raises(RefusedError) as caught:
            bench.plan(**NOW_OFFLINE, **options)
        assert caught.value.code == "harbor"
        with pytest.raises(RefusedError):
            bench.collect(**NOW_OFFLINE, **options)
    assert not [key for key in bench.everything if key.startswith("regstore/runs")]


def test_what_is_remembered_saves_reads_and_changes_no_plan(bench: MemoryRegistry) -> None:
    bench.writer.push_multi_arch("app", "multi", "seed", attested=True)
    bench.writer.layer("app", LAYER)

    cold = bench.plan(**NOW_OFFLINE)
    reads = []
    original = bench.memory.read
    bench.memory.read = lambda key, limit=0: (reads.append(key), original(key))[1]  # type: ignore[method-assign]
    warm = bench.plan(**NOW_OFFLINE)

    assert warm.actions == cold.actions
    assert [key for key in reads if "/blobs/" in key] == []


@pytest.mark.parametrize("operation", ["list", "list_dir", "list_small", "read", "stat", "now"])
@pytest.mark.parametrize("error", [Unavailable, PermissionDenied, DriverError])
@pytest.mark.usefixtures("_listings_have_pages")
def test_a_storage_error_stops_a_plan_and_a_run(operation: str, error: type[DriverError]) -> None:
    bench = MemoryRegistry(wrap=Faulty)
    bench.time = NOW - 9 * DAY
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.layer("app", LAYER)
    bench.time = NOW
    before = bench.contents
    assert isinstance(bench.driver, Faulty)
    bench.driver.fail(operation, "*", error, times=None)

    with pytest.raises(error):
        bench.plan(offline=True)
    with pytest.raises(error):
        bench.collect(offline=True)

    assert bench.contents == before


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.usefixtures("_listings_have_pages")
def test_a_listing_that_fails_on_the_way_stops_a_run(nth: int) -> None:
    bench = MemoryRegistry(wrap=Faulty)
    bench.time = NOW - 9 * DAY
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.layer("app", LAYER)
    bench.time = NOW
    before = bench.contents
    assert isinstance(bench.driver, Faulty)
    bench.driver.fail("list", f"{V2}/*", Unavailable, after=nth, times=None)

    with pytest.raises(Unavailable):
        bench.collect(offline=True)

    assert bench.contents == before


def test_a_request_to_stop_stops_a_plan(bench: MemoryRegistry) -> None:
    cancel = Cancel()
    cancel.request(143)

    with pytest.raises(InterruptedRunError) as caught:
        gc.plan_collection(bench.registry, gc.Options(), state=bench.state, cancel=cancel)

    assert caught.value.exit_code == 143


def test_progress_is_told_of_each_phase(bench: MemoryRegistry) -> None:
    class Told:
        def __init__(self) -> None:
            self.events: list[tuple[str, int | None]] = []
            self.count = 0

        def start(self, phase: str, total: int | None = None) -> None:
            self.events.append((phase, total))

        def advance(self, count: int = 1) -> None:
            self.count += count

        def finish(self) -> None:
            self.events.append(("", None))

    told = Told()
    gc.plan_collection(bench.registry, gc.Options(), state=bench.state, progress=told)

    assert told.events == [
        ("blobs", None),
        ("", None),
        ("repositories", 1),
        ("", None),
        ("unreferenced blobs", None),
        ("", None),
    ]
    assert told.count >= 3 + 1 + 3

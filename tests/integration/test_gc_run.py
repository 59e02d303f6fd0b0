"""Planning, running, undoing and purging collections on real volumes: what is removed, and what comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regstore import gc
from support.collection import (
    NOW,
    OFFLINE,
    Volume,
    Whole,
    contents_of,
    directories_of,
    files_of,
    pulled,
    push_garbage,
    read_jsonl,
    run_cli,
    run_killed,
    snapshot,
)
from support.images import Image, digest_of, layer, layers, referrers_tag
from support.volume import (
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
    upload_prefix,
)

pytestmark = pytest.mark.registry

DELETE = ("--delete-untagged", "--upload-age", "0s")
MIXED_KINDS = {"blob", "layer-link", "revision-link", "tag-index", "upload"}


@dataclass
class Mixed:
    """What `fill` pushed: every tag and what it reaches, an image that was deleted, and one that lost its tag."""

    whole: Whole
    deleted: Image
    untagged: Image


def fill(volume: Volume) -> Mixed:
    """Write a volume with something for a collection of each plain kind."""
    with volume.serving() as client:
        base = layers(2, "base")
        kept = [client.push_image("team/app", "v1", [*base, layer("app")])]
        kept.append(client.push_image("team/other", "v1", [*base, layer("other")]))
        kept.append(client.push_multi_arch("team/app", "multi", "multi", attested=True)[0])
        untagged = client.push_image("team/app", "moved", [*base, layer("former")])
        kept.append(client.push_image("team/app", "moved", [*base, layer("latter")]))
        deleted = push_garbage(client, "team/app")
        push_garbage(client, "tools/build")
        client.append_upload(client.begin_upload("team/app"), b"some bytes")
        whole = pulled(client, *kept)
    volume.writer.blob(b"nothing ever linked this")
    return Mixed(whole, deleted, untagged)


# Looking only


def test_plan_and_status_change_nothing(volume: Volume, tmp_path: Path) -> None:
    """Not one byte, time, file or directory below the root, and no state, lock or journal there."""
    fill(volume)
    before = snapshot(volume.root)

    volume.plan().expect(0)
    offline = volume.plan(*OFFLINE, *DELETE, "--empty-repositories", "--out", tmp_path / "plan").expect(0)
    volume.gc("status", volume.root).expect(0)
    again = volume.plan(*OFFLINE, *DELETE, "--empty-repositories").expect(0)

    assert snapshot(volume.root) == before
    assert set(offline.removed) == MIXED_KINDS | {"repository"}
    assert again.json["removed"] == offline.json["removed"]
    assert list(volume.state_home.glob("regstore/*.sqlite"))


def test_json_document_has_the_promised_fields(volume: Volume) -> None:
    """The fields that scripts of operators depend on."""
    mixed = fill(volume)

    plan = volume.plan(*OFFLINE).expect(0).json
    run = volume.collect().json

    for document, command in ((plan, "gc plan"), (run, "gc run")):
        assert document["schema_version"] == 1
        assert document["command"] == command
        assert document["location"] == f"file://{volume.root}"
        assert document["duration_seconds"] >= 0
        assert document["started_at"].endswith("+00:00")
        assert document["findings"] == []
        assert document["freed_bytes"] == 0
        assert all(set(entry) == {"kind", "count", "bytes"} for entry in document["removed"])
    summary = plan["summary"]
    assert summary["repository_count"] == 3
    assert summary["tag_count"] == len(mixed.whole)
    assert summary["blob_count"] == summary["live_count"] + summary["unreferenced_count"] + summary["grace_count"]


def test_summary_for_people(volume: Volume, tmp_path: Path) -> None:
    """Without --json: counts, what would go by kind, and what to do next; then what went, and how to undo it."""
    fill(volume)

    plan = volume.gc("plan", *OFFLINE, "--out", tmp_path / "plan", volume.root).expect(0)
    run = volume.gc("run", *OFFLINE, volume.root).expect(0)
    again = volume.gc("run", *OFFLINE, volume.root).expect(0)
    quiet = volume.gc("run", "-q", *OFFLINE, volume.root).expect(0)

    for word in ("repositories", "live", "in grace", "unreferenced", "would be removed", "blob", "layer-link"):
        assert word in plan.stdout
    assert f"regstore gc apply {tmp_path}/plan" in plan.stdout
    assert "removed" in run.stdout
    assert "regstore gc undo" in run.stdout
    assert again.stdout == "nothing to do\n"
    assert quiet == type(quiet)(0, "", "")


@pytest.mark.parametrize("form", ["/", "/docker", "/docker/registry", "/docker/registry/v2", "/docker/registry/v2/"])
def test_root_may_be_named_in_many_ways(volume: Volume, form: str) -> None:
    """The root directory, the v2 tree below it, what is between; a file URL of any."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("app")])
    volume.writer.blob(b"garbage")

    plain = volume.gc("plan", "--json", *OFFLINE, f"{volume.root}{form}").expect(0)
    url = volume.gc("plan", "--json", *OFFLINE, f"file://{volume.root}{form}").expect(0)

    assert plain.removed == url.removed == {"blob": 1}
    assert plain.json["location"] == url.json["location"] == f"file://{volume.root}"


# The plan and the run


def removed_keys(volume: Volume, lines: list[dict[str, object]]) -> set[str]:
    """Return the keys of the files that the actions of a plan stand for."""
    keys: set[str] = set()
    names = volume.file_keys()
    for line in lines:
        assert line["action"] == "remove"
        if line["kind"] == "repository":
            continue
        key = str(line["key"])
        keys |= {name for name in names if name == key or name.startswith(f"{key}/")}
    return keys


def test_plan_lists_exactly_what_the_run_removes(volume: Volume, tmp_path: Path) -> None:
    """Key by key; everything that went lies in the quarantine as it was, and every tag stays whole."""
    mixed = fill(volume)
    before = files_of(snapshot(volume.root))
    plan = volume.plan(*OFFLINE, *DELETE, "--out", tmp_path / "plan").expect(0)
    header, *lines = read_jsonl(tmp_path / "plan")
    planned = removed_keys(volume, lines)

    run = volume.collect(*DELETE)

    after = files_of(snapshot(volume.root))
    assert header["action_count"] == len(lines)
    assert set(lines[0]) >= {"action", "key", "repository", "digest", "bytes", "reason"}
    assert planned == before.keys() - after.keys()
    assert {key: after[key] for key in before.keys() & after.keys()} == {
        key: before[key] for key in before.keys() - planned
    }
    assert run.json["removed"] == plan.json["removed"]
    assert set(run.removed) == MIXED_KINDS
    quarantine = f"regstore/runs/{run.json['run_id']}/quarantine/"
    assert {key: after[quarantine + key] for key in planned} == {key: before[key] for key in planned}
    assert set(mixed.deleted.digests) & volume.blobs() == set(mixed.deleted.digests) & mixed_digests(mixed)
    volume.assert_whole(mixed.whole)


def mixed_digests(mixed: Mixed) -> set[str]:
    """Return every digest that a tag reaches."""
    return set().union(*mixed.whole.values())


def test_bytes_are_those_of_the_files(volume: Volume, tmp_path: Path) -> None:
    """`removed` counts the bytes of what lay there, kind by kind."""
    fill(volume)
    volume.plan(*OFFLINE, *DELETE, "--out", tmp_path / "plan").expect(0)
    sizes: dict[str, int] = {}
    for line in read_jsonl(tmp_path / "plan")[1:]:
        path = volume.path(line["key"])
        size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
        assert line["bytes"] == size, line
        sizes[line["kind"]] = sizes.get(line["kind"], 0) + size

    assert volume.collect(*DELETE).removed_bytes == sizes


def test_second_run_removes_nothing(volume: Volume) -> None:
    """It says so, ends with 0, and changes nothing."""
    fill(volume)
    volume.collect(*DELETE, "--empty-repositories")
    before = volume.snapshot()

    again = volume.collect(*DELETE, "--empty-repositories")

    assert again.json["removed"] == []
    assert again.json["run_id"] is None
    assert volume.snapshot() == before


def test_young_garbage_stays(volume: Volume) -> None:
    """With the default grace period nothing of today goes, however old its files pretend to be."""
    mixed = fill(volume)
    for path in volume.tree.rglob("*"):
        os.utime(path, (1e9, 1e9))
    before = volume.snapshot()

    done = volume.gc("run", "--json", "--offline", *DELETE[:1], volume.root).expect(0)

    assert done.removed == {}
    assert volume.snapshot() == before
    volume.assert_whole(mixed.whole)


def test_file_dated_into_the_future_makes_nothing_old(volume: Volume) -> None:
    """The clock is the storage's; a wrong time on one file is not."""
    fill(volume)
    future = time.time() + 90 * 86400
    os.utime(volume.path("docker/registry/v2/blobs"), (future, future))
    some = next(path for path in volume.tree.rglob("data"))
    os.utime(some, (future, future))

    assert volume.plan("--offline", "--delete-untagged").expect(0).removed == {}


def test_lost_or_damaged_memory_costs_nothing(volume: Volume) -> None:
    """The state may be rubbish, gone, or nowhere to be written: the same plan, and no word about it."""
    fill(volume)
    expected = volume.plan(*OFFLINE, *DELETE).expect(0).json["removed"]
    [state] = (volume.state_home / "regstore").glob("*.sqlite")

    state.write_bytes(b"no database at all" * 500)
    rubbish = volume.plan(*OFFLINE, *DELETE).expect(0)
    shutil.rmtree(volume.state_home)
    volume.state_home.write_text("no directory")
    nowhere = volume.plan(*OFFLINE, *DELETE).expect(0)

    assert rubbish.json["removed"] == nowhere.json["removed"] == expected
    assert rubbish.stderr == nowhere.stderr == ""


def test_state_of_another_volume_at_the_same_place(volume: Volume, tmp_path: Path) -> None:
    """What is remembered of a volume that was mounted there before hides nothing that is live here."""
    mixed = fill(volume)
    volume.plan(*OFFLINE, *DELETE).expect(0)
    volume.root.rename(tmp_path / "away")
    volume.root.mkdir()
    with volume.serving() as client:
        image = client.push_image("team/app", "v1", [layer("app"), layer("new")])
        index, _ = client.push_multi_arch("team/app", "multi", "other")
        client.push_image("team/app", "", layers(1, "untagged"))
        whole = pulled(client, image, index)

    done = volume.collect(*DELETE)

    assert done.findings == []
    assert done.removed == {"blob": 3, "layer-link": 2, "revision-link": 1}
    volume.assert_whole(whole)
    shutil.rmtree(volume.root)
    (tmp_path / "away").rename(volume.root)
    volume.collect(*DELETE)
    volume.assert_whole(mixed.whole)


# Undo


def give_away(root: Path) -> None:
    """Make a tree somebody else's, with modes and times of its own."""
    for number, path in enumerate(sorted(root.rglob("*"))):
        if path.is_dir():
            path.chmod(0o2750)
        else:
            path.chmod((0o640, 0o644, 0o600)[number % 3])
            os.utime(path, ns=(number, 1_600_000_000_123_456_789 + number))
        if os.geteuid() == 0:
            os.chown(path, 4321, 5432 + number % 2)


def test_undo_restores_bytes_owner_mode_and_times(volume: Volume) -> None:
    """Every file as it was; the directories that went with them have the owner and mode of the tree."""
    mixed = fill(volume)
    give_away(volume.root)
    os.chmod(volume.root, 0o2750)
    if os.geteuid() == 0:
        os.chown(volume.root, 4321, 5432)
        for path in volume.root.rglob("*"):
            if path.is_dir():
                os.chown(path, 4321, 5432)
    before = volume.snapshot()
    run = volume.collect(*DELETE)
    assert set(run.removed) == MIXED_KINDS
    assert files_of(volume.snapshot()) != files_of(before)

    undone = volume.undo()

    assert files_of(volume.snapshot()) == files_of(before)
    assert directories_of(volume.snapshot()) == directories_of(before)
    assert undone.json["run_id"] == run.json["run_id"]
    assert undone.json["kept_count"] == 0
    assert undone.json["restored_count"] > sum(run.removed.values()) - 1
    volume.assert_whole(mixed.whole)
    with volume.serving() as client:
        assert client.pull("team/app", mixed.untagged.digest)


def test_undo_goes_back_run_by_run(volume: Volume) -> None:
    """The newest first, then the one before; with nothing left it says so, changes nothing and ends with 0."""
    with volume.serving() as client:
        whole = pulled(client, client.push_image("app", "v1", layers(2, "app")))
        push_garbage(client, "app", 1)
    states = [contents_of(volume.snapshot())]
    first = volume.collect().json["run_id"]
    with volume.serving() as client:
        push_garbage(client, "app", 2)
    states.append(contents_of(volume.snapshot()))
    second = volume.collect().json["run_id"]

    assert volume.undo().json["run_id"] == second
    assert contents_of(volume.snapshot()) == states[1]
    assert volume.undo().json["run_id"] == first
    assert contents_of(volume.snapshot()) == {**states[1], **states[0]}
    before = volume.snapshot()
    third = volume.undo()

    assert third.json["run_id"] is None
    assert third.json["restored_count"] == 0
    assert "nothing to undo" in volume.gc("undo", volume.root).expect(0).stdout
    assert volume.snapshot() == before
    volume.assert_whole(whole)
    assert volume.collect().removed["blob"] == 8


def test_undo_of_a_named_run(volume: Volume) -> None:
    """RUN chooses; taken back twice changes nothing; an unknown one is a usage error that names those there are."""
    with volume.serving() as client:
        client.push_image("app", "v1", layers(2, "app"))
        one = push_garbage(client, "app", 1)
    first = volume.collect().json["run_id"]
    with volume.serving() as client:
        two = push_garbage(client, "app", 2)
    second = volume.collect().json["run_id"]

    assert volume.undo(first).json["run_id"] == first

    assert set(one.digests) <= volume.blobs()
    assert not set(two.digests) & volume.blobs()
    assert volume.undo(first).json["restored_count"] == 0
    volume.gc("undo", volume.root, "20200101T000000Z-000000").expect_error(2, "there is no run", second)


def test_undo_leaves_what_was_pushed_again(volume: Volume) -> None:
    """An image that came back meanwhile stays as it is."""
    with volume.serving() as client:
        client.push_image("app", "v1", layers(2, "app"))
        gone = push_garbage(client, "app")
    volume.collect()
    with volume.serving() as client:
        again = client.push_image("app", "again", layers(2, "deleted app garbage"))
        whole = pulled(client, again)
    assert again.digest == gone.digest
    before = volume.snapshot()

    undone = volume.undo().json

    assert undone["kept_count"] == 4 + 3
    assert {path: state for path, state in volume.snapshot().items() if path in before} == before
    volume.assert_whole(whole)


def test_collected_once_more_after_an_undo(volume: Volume) -> None:
    """What an undo brought back is garbage again, whatever is remembered."""
    mixed = fill(volume)
    first = volume.collect(*DELETE)
    volume.undo()

    second = volume.collect(*DELETE)

    assert second.removed == first.removed
    volume.assert_whole(mixed.whole)


# Purge


def size_of(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def test_purge_frees_what_the_run_did_not(volume: Volume) -> None:
    """A quarantining run frees nothing; the purge frees exactly the bytes that lay in the quarantine."""
    mixed = fill(volume)
    run = volume.collect(*DELETE)
    quarantined = volume.quarantined()
    expected = size_of(list(quarantined.values()))
    assert run.json["freed_bytes"] == run.json["purged_bytes"] == 0
    assert expected == sum(run.removed_bytes.values())

    early = volume.gc("purge", "--json", volume.root).expect(0)
    assert (early.json["freed_bytes"], early.json["runs"]) == (0, [])
    assert volume.quarantined() == quarantined
    purged = volume.gc("purge", "--json", "--quarantine-retention", "0s", volume.root).expect(0)

    assert purged.json["freed_bytes"] == expected
    assert purged.json["deleted_count"] == len(quarantined)
    assert purged.json["runs"] == [run.json["run_id"]]
    assert volume.quarantined() == {}
    assert list((volume.root / "regstore/runs").iterdir()) == []
    assert "nothing to purge" in volume.gc("purge", volume.root).expect(0).stdout
    assert volume.undo().json["run_id"] is None
    volume.gc("undo", volume.root, run.json["run_id"]).expect_error(2, "there is no run")
    volume.assert_whole(mixed.whole)


def test_run_purges_what_is_old_enough(volume: Volume) -> None:
    """The next run deletes what former ones quarantined longer than the retention ago, and counts it as freed."""
    mixed = fill(volume)
    first = volume.collect(*DELETE)
    expected = size_of(list(volume.quarantined().values()))

    kept = volume.collect("--quarantine-retention", "1h")
    assert kept.json["purged_bytes"] == 0
    second = volume.collect("--quarantine-retention", "0s")

    assert second.json["freed_bytes"] == second.json["purged_bytes"] == expected == sum(first.removed_bytes.values())
    assert second.json["removed"] == []
    assert volume.quarantined() == {}
    volume.assert_whole(mixed.whole)


def test_purge_first_puts_back_what_is_needed_again(volume: Volume) -> None:
    """An image whose links were written around the removal gets its data back before the quarantine goes."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("app")])
        gone = push_garbage(client, "app")
    volume.collect()
    # As a registry that had verified the layers before the run, and wrote manifest and links after it.
    for digest in (*gone.layers, str(gone.config)):
        volume.writer.layer_link("app", digest)
    volume.writer.manifest("app", gone.data, "late")

    purged = volume.gc("purge", "--json", "--quarantine-retention", "0s", volume.root).expect(0)

    assert purged.json["restored_count"] == 3
    assert {finding[0] for finding in purged.findings} == {"restored"}
    with volume.serving() as client:
        assert client.pull("app", "late") == set(gone.digests)


def test_no_quarantine_frees_at_once(volume: Volume) -> None:
    """The bytes are back at the end of the run, and there is nothing to undo."""
    mixed = fill(volume)
    before = contents_of(volume.snapshot())

    run = volume.collect(*DELETE, "--no-quarantine")

    assert run.json["freed_bytes"] == sum(run.removed_bytes.values()) > 0
    assert volume.quarantined() == {}
    after = contents_of(volume.snapshot())
    assert len(before) - len(after) >= sum(run.removed.values())
    assert volume.undo().json["run_id"] is None
    assert contents_of(volume.snapshot()) == after
    volume.assert_whole(mixed.whole)


# What may go


def test_only_repositories_that_match_lose_anything(volume: Volume) -> None:
    """The pattern is for the whole name and `*` crosses `/`; data that another repository links stay."""
    shared = layers(2, "deleted shared")
    with volume.serving() as client:
        kept = client.push_image("team/app/web", "v1", layers(2, "web"))
        mine = push_garbage(client, "team/app/web", "mine")
        other = push_garbage(client, "tools", "other")
        for name in ("team/app/web", "tools"):
            image = client.push_image(name, "both", shared)
            client.delete_manifest(name, image.digest)
        whole = pulled(client, kept)
        client.begin_upload("tools")
    bare = volume.writer.blob(b"nothing links this")

    nothing = volume.collect("--repository", "team/app", "--upload-age", "0s")
    first = volume.collect("--repository", "team/*", "--upload-age", "0s")

    assert nothing.removed == {}
    assert set(first.removed) == {"layer-link", "blob"}
    left = volume.blobs()
    assert not left & {*mine.layers, str(mine.config)}
    assert left >= {*other.digests, *map(digest_of, shared), bare}
    assert not any(volume.path(layer_link_key("team/app/web", d)).exists() for d in map(digest_of, shared))
    assert all(volume.path(layer_link_key("tools", d)).exists() for d in map(digest_of, shared))
    second = volume.collect("--upload-age", "0s")
    assert set(second.removed) == {"layer-link", "blob", "upload"}
    assert not volume.blobs() & {*other.digests, *map(digest_of, shared), bare}
    volume.assert_whole(whole)


def test_untagged_images_stay_unless_asked(volume: Volume) -> None:
    """By default an untagged manifest is kept whole; with --delete-untagged it goes with all that only it needs."""
    mixed = fill(volume)
    only_untagged = set(mixed.untagged.digests) - mixed_digests(mixed)

    volume.collect()
    with volume.serving() as client:
        assert client.pull("team/app", mixed.untagged.digest) == set(mixed.untagged.digests)
    gone = volume.collect("--delete-untagged")

    assert gone.removed == {"blob": 3, "layer-link": 2, "revision-link": 1, "tag-index": 1}
    assert len(only_untagged) == 3
    assert not only_untagged & volume.blobs()
    assert not volume.path(tag_index_key("team/app", "moved", mixed.untagged.digest)).exists()
    volume.assert_whole(mixed.whole)


def planned(plan: gc.Plan) -> set[tuple[str, str]]:
    """Return kind and key of everything that a plan removes."""
    return {(action.kind.value, action.key) for action in plan.removals}


def test_untagged_only_when_old_enough(volume: Volume) -> None:
    """--untagged-older-than implies --delete-untagged and counts from the newest time of the revision's link."""
    with volume.serving() as client:
        kept = client.push_image("app", "v1", layers(2, "kept"))
        old = client.push_image("app", "", layers(2, "old"))
        again = client.push_image("app", "", layers(2, "again"))
        whole = pulled(client, kept, again)
        time.sleep(0.05)
        client.push_image("app", "", layers(2, "again"))
    old_link, again_link = (revision_link_key("app", image.digest) for image in (old, again))
    day = {"grace": 0.0, "untagged_older_than": 86400.0}
    at = volume.newest(old_link) + 86400

    early = volume.plan_at(at - 0.01, **day)
    on_time = volume.plan_at(at + 0.01, **day)
    later = volume.plan_at(volume.newest(again_link) + 86400.01, **day)
    young = volume.plan_at(at + 0.01, grace=86400.0 * 2, untagged_older_than=86400.0)

    assert planned(early) == planned(young) == set()
    expected = {("blob", blob_key(digest)) for digest in old.digests}
    expected |= {("layer-link", layer_link_key("app", digest)) for digest in (*old.layers, str(old.config))}
    assert planned(on_time) == expected | {("revision-link", old_link)}
    assert ("revision-link", again_link) in planned(later)
    assert volume.collect("--untagged-older-than", "1d").removed == {}
    volume.assert_whole(whole)


def test_grace_counts_from_the_newest_time_of_link_and_data(volume: Volume) -> None:
    """A link written again is young, and keeps its data; data alone go by their own time."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("app")])
        gone = push_garbage(client, "app")
        time.sleep(0.05)
        # The data are there, so this writes nothing but the link.
        assert client.push_blob("app", layers(2, "deleted app garbage")[0]) == gone.layers[0]
    at = max(volume.newest(layer_link_key("app", digest)) for digest in (gone.layers[1], str(gone.config))) + 3600.01
    at = max(at, volume.newest(blob_key(gone.digest)) + 3600.01)

    before = volume.plan_at(at - 3600, grace=3600.0)
    on_time = volume.plan_at(at, grace=3600.0)
    later = volume.plan_at(volume.newest(layer_link_key("app", gone.layers[0])) + 3600.01, grace=3600.0)

    assert planned(before) == set()
    assert planned(later) - planned(on_time) == {
        ("blob", blob_key(gone.layers[0])),
        ("layer-link", layer_link_key("app", gone.layers[0])),
    }
    assert len(planned(on_time)) == 5


def test_uploads_go_by_the_newest_of_start_and_files(volume: Volume) -> None:
    """A start long ago does not make an upload old that is still written; one without a readable start goes by its
    files; one that starts in the future is young for ever."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("app")])
        location = client.append_upload(client.begin_upload("app"), b"from a client")
    writer = volume.writer
    writer.upload("app", b"some", started_at="2020-01-01T00:00:00Z", identity="old-start")
    writer.upload("app", b"some", started_at="", identity="no-start")
    writer.upload("app", b"some", started_at="\0\0 rubbish", identity="bad-start")
    writer.upload("app", b"some", started_at="2099-01-01T00:00:00Z", identity="future")
    prefixes = {name: upload_prefix("app", name) for name in ("old-start", "no-start", "bad-start")}
    written = max(volume.newest(f"{prefix}data") for prefix in prefixes.values())
    time.sleep(0.05)
    writer.put(f"{prefixes['old-start']}data", b"some more")

    assert planned(volume.plan_at(written + 3599, upload_age=3600.0)) == set()
    aged = planned(volume.plan_at(written + 3600.03, upload_age=3600.0))
    assert aged >= {("upload", prefixes[name].rstrip("/")) for name in ("no-start", "bad-start")}
    assert not {key for _, key in aged if "old-start" in key or "future" in key}
    assert volume.collect("--upload-age", "1h").removed == {}
    done = volume.collect("--upload-age", "0s")

    assert done.removed == {"upload": 4}
    assert [path.name for path in (volume.tree / "repositories/app/_uploads").iterdir()] == ["future"]
    volume.undo()
    with volume.serving() as client:
        data = b"from a client, who goes on"
        assert client.commit_upload(location, digest_of(data), b", who goes on") == digest_of(data)


def test_tag_history_of_deleted_manifests_goes(volume: Volume) -> None:
    """An index entry goes when its manifest is gone; the tag and its other entries stay."""
    with volume.serving() as client:
        first = client.push_image("app", "v1", [layer(1)])
        second = client.push_image("app", "v1", [layer(2)])
        third = client.push_image("app", "v1", [layer(3)])
        client.delete_manifest("app", first.digest)
        whole = pulled(client, third, second)

    done = volume.collect()

    assert done.removed["tag-index"] == 1
    assert not volume.path(tag_index_key("app", "v1", first.digest)).exists()
    assert volume.path(tag_index_key("app", "v1", second.digest)).exists()
    assert volume.path(tag_index_key("app", "v1", third.digest)).exists()
    volume.assert_whole({("app", "v1"): whole["app", "v1"]})


def test_leftovers_of_half_written_files_go(volume: Volume) -> None:
    """Temporary files of registries from 3.1 on go by the grace period, beside nothing, beside garbage, in uploads."""
    with volume.serving() as client:
        kept = client.push_image("app", "v1", [layer("app")])
        gone = push_garbage(client, "app")
        whole = pulled(client, kept)
    absent = digest_of(b"never written")
    names = [
        blob_key(absent).replace("/data", "/data.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
        blob_key(gone.layers[0]).replace("/data", "/data.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
        layer_link_key("app", absent).replace("/link", "/link.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
        layer_link_key("app", gone.layers[0]).replace("/link", "/link.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
        revision_link_key("app", absent).replace("/link", "/link.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
        tag_link_key("app", "v2").replace("/link", "/link.6a40c1f0-5ef0-4ef4-8d0a-b5a1a7a1f1ad.tmp"),
    ]
    for name in names:
        volume.writer.put(name, b"sha256:")

    assert volume.plan("--offline").expect(0).removed == {}
    done = volume.collect()

    assert done.removed["leftover"] == len(names)
    assert not [name for name in names if volume.path(name).exists()]
    assert volume.collect().removed == {}
    volume.assert_whole(whole)
    volume.undo()
    assert all(volume.path(name).read_bytes() == b"sha256:" for name in names)


def test_empty_repositories_go_one_by_one(volume: Volume) -> None:
    """Offline and on request the empty directories go, never a nested repository, and the catalog forgets them."""
    with volume.serving() as client:
        client.push_image("keep", "v1", [layer("keep")])
        inner = client.push_image("foo/bar/baz", "v1", [layer("inner")])
        for name in ("foo", "foo/bar", "solo/deep/er"):
            push_garbage(client, name)
        push_garbage(client, "open")
        client.begin_upload("open")
        whole = pulled(client, inner)
        assert set(client.catalog()) == {"keep", "foo", "foo/bar", "foo/bar/baz", "solo/deep/er", "open"}

    without = volume.collect()
    assert "repository" not in without.removed
    assert (volume.tree / "repositories/foo/bar/_layers").is_dir()
    done = volume.collect("--empty-repositories")

    assert done.removed == {"repository": 3}
    assert volume.collect("--empty-repositories").removed == {}
    assert not (volume.tree / "repositories/solo").exists()
    with volume.serving() as client:
        assert client.catalog() == ["foo/bar/baz", "keep", "open"]
    volume.assert_whole(whole)


def test_empty_repositories_stay_online(volume: Volume) -> None:
    """A registry may be about to write into a directory: they never go beside a running one."""
    registry = volume.registry()
    with registry, volume.serving() as client:
        client.push_image("keep", "v1", [layer("keep")])
        push_garbage(client, "gone")
    before = {path for path in snapshot(volume.root / "docker") if (volume.root / "docker" / path).is_dir()}

    volume.gc("run", *NOW, "--empty-repositories", registry.config_path).expect(0)

    assert {path for path in snapshot(volume.root / "docker") if (volume.root / "docker" / path).is_dir()} == before


def test_replaced_signatures(volume: Volume) -> None:
    """cosign leaves the former signature untagged: it goes with --delete-untagged, unless its history is kept."""
    with volume.serving() as client:
        image = client.push_image("app", "v1", layers(2, "app"))
        former = client.push_signature("app", image, "former")
        latter = client.push_signature("app", image, "latter")
        whole = pulled(client, image, latter)
        history = client.pull("app", former.digest)

    kept = volume.collect("--delete-untagged", "--keep-signature-history")
    assert kept.removed == {}
    with volume.serving() as client:
        assert client.pull("app", former.digest) == history
    plan = volume.plan(*OFFLINE, "--delete-untagged").expect(0)
    assert plan.findings == [("signature-replaced", "info", f"app@{former.digest}")]
    volume.collect("--delete-untagged")

    assert former.digest not in volume.blobs()
    assert not volume.path(tag_index_key("app", latter.tag, former.digest)).exists()
    volume.assert_whole(whole)


def test_orphan_signatures(volume: Volume) -> None:
    """Tags about a manifest that is gone are told as info, and go only on request."""
    with volume.serving() as client:
        image = client.push_image("app", "v1", layers(2, "app"))
        gone = client.push_image("app", "v2", layers(2, "gone"))
        kept = client.push_signature("app", image)
        orphans = [client.push_signature("app", gone), client.push_signature("app", gone, suffix="att")]
        artifact = client.push_referrer("app", gone, "sbom")
        client.delete_manifest("app", gone.digest)
        whole = pulled(client, image, kept)
        orphaned = pulled(client, *orphans)

    plain = volume.collect("--delete-untagged")
    fallback = referrers_tag(gone.digest)
    tags = sorted([orphans[0].tag, orphans[1].tag, fallback])
    assert plain.findings == [("signature-orphan", "info", f"app:{tag}") for tag in tags]
    volume.assert_whole({**whole, **orphaned})
    done = volume.collect("--delete-orphan-signatures")

    assert done.removed["tag-link"] == 3
    assert artifact.digest in volume.blobs()
    volume.collect("--delete-untagged")
    assert not {orphans[0].digest, orphans[1].digest, artifact.digest} & volume.blobs()
    assert not (volume.tree / f"repositories/app/_manifests/tags/{fallback}").exists()
    assert volume.collect("--delete-untagged", "--delete-orphan-signatures").removed == {}
    volume.assert_whole(whole)


def test_signature_of_a_young_untagged_image_stays(volume: Volume) -> None:
    """An untagged image that the grace period keeps, since it was pushed again, keeps its older signature too."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("other")])
        image = client.push_image("app", "", layers(2, "app"))
        signature = client.push_signature("app", image)
        time.sleep(0.05)
        client.push_image("app", "", layers(2, "app"))
    at = volume.newest(tag_link_key("app", signature.tag)) + 3600.02

    plan = volume.plan_at(at, grace=3600.0, delete_untagged=True, delete_orphan_signatures=True)
    later = volume.plan_at(at + 3600, grace=3600.0, delete_untagged=True, delete_orphan_signatures=True)

    assert planned(plan) == set()
    assert plan.findings == []
    assert ("tag-link", tag_link_key("app", signature.tag)) in planned(later)


# Plan files


def test_apply_needs_nothing_but_the_plan(volume: Volume, tmp_path: Path) -> None:
    """Its head holds location and options; applied, it does what the run would; applied twice it changes nothing."""
    mixed = fill(volume)
    plan = volume.plan(*OFFLINE, *DELETE, "--out", tmp_path / "plan").expect(0)
    header = read_jsonl(tmp_path / "plan")[0]
    assert header["location"] == f"file://{volume.root}"
    assert header["options"] | {"offline": True, "grace": 0.0, "delete_untagged": True} == header["options"]

    done = volume.gc("apply", "--json", tmp_path / "plan").expect(0)
    before = volume.snapshot()
    again = volume.gc("apply", "--json", tmp_path / "plan").expect(0)

    assert done.json["removed"] == plan.json["removed"]
    assert done.json["skipped_count"] == 0
    assert again.json["removed"] == []
    assert again.json["skipped_count"] == header["action_count"]
    assert volume.snapshot() == before
    volume.assert_whole(mixed.whole)


def test_apply_skips_what_a_push_made_wrong(volume: Volume, tmp_path: Path) -> None:
    """A step that is no longer right is skipped, which is no error; the others are taken."""
    mixed = fill(volume)
    volume.plan(*OFFLINE, *DELETE, "--out", tmp_path / "plan").expect(0)
    with volume.serving() as client:
        data = layers(2, "deleted team/app garbage")
        again = client.push_image("team/new", "v1", data[:1])
        back = client.push_image("team/app", "back", data)
        client.push_manifest("team/app", "kept", mixed.untagged.data, mixed.untagged.media_type)
        whole = mixed.whole | pulled(client, again, back)
        whole["team/app", "kept"] = client.pull("team/app", "kept")
    assert back.digest == mixed.deleted.digest

    done = volume.gc("apply", "--json", tmp_path / "plan").expect(0)

    assert done.json["skipped_count"] > 0
    assert done.removed["blob"] == 5
    volume.assert_whole(whole)


def test_apply_takes_nothing_that_was_not_planned(volume: Volume, tmp_path: Path) -> None:
    """Garbage that came later waits for a later plan."""
    mixed = fill(volume)
    volume.plan(*OFFLINE, "--out", tmp_path / "plan").expect(0)
    with volume.serving() as client:
        later = push_garbage(client, "team/app", "later")

    volume.gc("apply", "--json", tmp_path / "plan").expect(0)

    assert set(later.digests) <= volume.blobs()
    assert all(volume.path(layer_link_key("team/app", digest)).exists() for digest in later.layers)
    volume.assert_whole(mixed.whole)


# Guards


def refuse(volume: Volume, code: int, words: tuple[str, ...], *arguments: object) -> None:
    """Fail unless `gc run` refuses with this code and says these words, and the registry's tree stays as it is."""
    before = volume.snapshot()
    volume.gc("run", *arguments, volume.root).expect_error(code, *words)
    assert volume.snapshot() == before
    assert volume.quarantined() == {}


def test_too_large_a_plan_is_refused(volume: Volume) -> None:
    """More than --max-delete of the bytes, or of a size: refused, and the plan says so beforehand."""
    with volume.serving() as client:
        client.push_image("app", "v1", [layer("app")])
        push_garbage(client, "app")
    refuse(volume, 3, ("max-delete", "more than --max-delete 50%", "regstore gc plan"), "--offline", "--grace", "0s")
    refuse(volume, 3, ("max-delete",), "--offline", "--grace", "0s", "--max-delete", "1KiB")

    plan = volume.gc("plan", "--offline", "--grace", "0s", volume.root).expect(0)

    assert "gc run would refuse [max-delete]" in plan.stdout
    assert volume.collect("--max-delete", "90%").removed["blob"] == 4


def test_harbor_shaped_volume_is_refused(volume: Volume) -> None:
    """Manifests and not one tag: with --delete-untagged refused whatever the limit; without it collected."""
    with volume.serving() as client:
        image = client.push_image("project/app", "", layers(2, "harbor"))
        push_garbage(client, "project/app")
    refuse(volume, 3, ("harbor", "not one tag"), *OFFLINE, "--delete-untagged")
    refuse(volume, 3, ("harbor",), *OFFLINE, "--untagged-older-than", "1d")
    volume.plan(*OFFLINE, "--delete-untagged").expect_error(3, "harbor")

    assert volume.collect().removed["blob"] == 4

    with volume.serving() as client:
        assert client.pull("project/app", image.digest)


def test_gitlab_volume_is_always_refused(volume: Volume, tmp_path: Path) -> None:
    """The marker of the metadata database stops every command that decides or writes."""
    fill(volume)
    volume.plan(*OFFLINE, "--out", tmp_path / "plan").expect(0)
    volume.collect()
    volume.writer.put("docker/registry/lockfiles/database-in-use", b"")
    before = snapshot(volume.root)

    for arguments in (
        ("plan", volume.root),
        ("run", *OFFLINE, volume.root),
        ("apply", tmp_path / "plan"),
        ("undo", volume.root),
        ("purge", "--quarantine-retention", "0s", volume.root),
    ):
        volume.gc(*arguments).expect_error(3, "database-in-use", "GitLab")

    assert snapshot(volume.root) == before


def test_online_needs_to_know_about_caches(volume: Volume) -> None:
    """Without a URL and without a configuration a run beside a registry that would touch layers is refused."""
    fill(volume)
    refuse(volume, 3, ("cache", "--registry-url"), *NOW)
    cached = volume.registry(cache="inmemory")
    before = volume.snapshot()

    volume.gc("run", *NOW, cached.config_path).expect_error(3, "inmemory", "--registry-url")

    assert volume.snapshot() == before
    assert "gc run would refuse [cache]" in volume.gc("plan", *NOW, volume.root).expect(0).stdout


def test_pull_through_cache_is_collected(volume: Volume, tmp_path: Path) -> None:
    """Sparse indexes are normal there; links younger than its own seven days stay, with their data."""
    origin = Volume(tmp_path / "origin", tmp_path / "of-origin")
    (tmp_path / "of-origin").mkdir()
    with origin.registry() as upstream:
        with origin.serving() as client:
            index, children = client.push_multi_arch("app", "v1", "multi")
        with volume.serving(proxy=upstream.url) as mirror:
            assert mirror.fetch_manifest("app", "v1")
            mirror.pull("app", children[0].digest)
            # It stores blobs beside its answers, and links them last.
            links = [volume.path(layer_link_key("app", d)) for d in children[0].digests - {children[0].digest}]
            deadline = time.monotonic() + 30
            while not all(link.exists() and link.stat().st_size for link in links):
                assert time.monotonic() < deadline, "the mirror did not store what it served"
                time.sleep(0.05)
    # The registry writes it after some seconds only.
    volume.writer.put("scheduler-state.json", b"{}")
    bare = volume.writer.blob(b"nothing links this")
    unused = volume.writer.layer("app", b"linked, and needed by nothing")
    before = contents_of(volume.snapshot())

    done = volume.collect("--delete-untagged", "--delete-orphan-signatures")

    assert done.findings == []
    assert done.removed == {"blob": 1}
    assert bare not in volume.blobs()
    assert unused in volume.blobs()
    after = contents_of(volume.snapshot())
    assert before.items() - after.items() == {(blob_key(bare).removeprefix("docker/"), bare.removeprefix("sha256:"))}
    volume.assert_whole({("app", index.digest): {index.digest, *children[0].digests}}, sparse=True)


# Locks


HOLD_LOCK = """\
import os, sys
from regstore.lock import hold_lock
from regstore.registry import open_registry

with hold_lock(open_registry(sys.argv[1]).driver, "gc run"):
    print(os.getpid(), flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    os._exit(9)
"""


@pytest.fixture
def holder(volume: Volume) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the volume until its standard input ends."""
    program = [sys.executable, "-c", HOLD_LOCK, str(volume.root), "wait"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(process.pid)
        yield process
        process.communicate("")


def test_another_run_is_named_and_nothing_changes(volume: Volume, tmp_path: Path, request: Any) -> None:
    """Whoever writes waits for the lock (exit 5); plan and status never take it."""
    fill(volume)
    volume.plan(*OFFLINE, "--out", tmp_path / "plan").expect(0)
    process = request.getfixturevalue("holder")
    before = snapshot(volume.root)

    for arguments in (
        ("run", *OFFLINE, volume.root),
        ("apply", tmp_path / "plan"),
        ("undo", volume.root),
        ("purge", volume.root),
    ):
        volume.gc(*arguments).expect_error(5, "locked by gc run", f"pid {process.pid}")
    volume.plan(*OFFLINE).expect(0)
    status = volume.gc("status", "--json", volume.root).expect(0).json

    assert snapshot(volume.root) == before
    assert f"pid {process.pid}" in status["locked_by"]


@pytest.mark.parametrize("command", ["run", "undo", "purge"])
def test_dead_holder_is_mentioned_and_no_obstacle(volume: Volume, command: str) -> None:
    """The lock of a process that was killed is taken over."""
    mixed = fill(volume)
    program = [sys.executable, "-c", HOLD_LOCK, str(volume.root), "die"]
    died = subprocess.run(program, check=False, capture_output=True, text=True)
    assert died.returncode == 9
    assert volume.gc("status", "--json", volume.root).expect(0).json["locked_by"] is None

    arguments = OFFLINE if command == "run" else ()
    done = volume.gc(command, "--json", *arguments, volume.root).expect(0)
    again = volume.gc(command, "--json", *arguments, volume.root).expect(0)

    assert f"pid {died.stdout.strip()}" in done.stderr
    assert "dead" in done.stderr
    assert again.stderr == ""
    volume.assert_whole(mixed.whole)


def test_lock_of_another_host_is_named_and_not_broken(volume: Volume) -> None:
    """Nobody here can tell whether that run lives: it is named, with what to do, whatever its age."""
    fill(volume)
    lock = {"host": "elsewhere", "pid": 1, "started_at": 1.0, "command": "gc run", "token": "00"}
    volume.writer.put("regstore/lock", json.dumps(lock))
    before = snapshot(volume.root)

    for arguments in (("run", *OFFLINE, volume.root), ("undo", volume.root), ("purge", volume.root)):
        volume.gc(*arguments).expect_error(5, "on elsewhere", f"{volume.root}/regstore/lock")

    assert snapshot(volume.root) == before
    volume.path("regstore/lock").unlink()
    assert volume.collect().removed["blob"]


# Killed and interrupted runs


def test_killed_run_can_be_undone(volume: Volume) -> None:
    """What it had moved comes back; what it only meant to move had never left."""
    mixed = fill(volume)
    before = volume.snapshot()
    killed = run_killed(volume, 7, *DELETE)
    assert len(volume.quarantined()) == 7
    [run] = volume.gc("status", "--json", volume.root).expect(0).json["runs"]
    assert run["state"] == "killed"
    volume.assert_whole(mixed.whole)

    undone = volume.undo()

    assert killed.code == 9
    assert undone.json["run_id"] == run["id"]
    assert undone.json["restored_count"] == 7
    assert files_of(volume.snapshot()) == files_of(before)
    assert volume.gc("status", "--json", volume.root).expect(0).json["runs"][0]["state"] == "undone"


def test_run_after_a_killed_one_completes(volume: Volume) -> None:
    """The next run removes the rest and mentions the dead one; undone both, everything is as it was."""
    mixed = fill(volume)
    before = volume.snapshot()
    planned = volume.plan(*OFFLINE, *DELETE).expect(0)
    run_killed(volume, 7, *DELETE)

    done = volume.collect(*DELETE)

    assert "dead run" in done.stderr
    assert volume.collect(*DELETE).removed == {}
    assert sum(done.removed.values()) < sum(planned.removed.values())
    assert done.removed["blob"] == planned.removed["blob"]
    volume.assert_whole(mixed.whole)
    volume.undo()
    volume.undo()
    assert files_of(volume.snapshot()) == files_of(before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_says_what_was_done(volume: Volume, number: signal.Signals, code: int) -> None:
    """It stops between items, says what was done and that it can be undone; the next run goes on."""
    mixed = fill(volume)
    before = volume.snapshot()

    done = run_killed(volume, 7, *DELETE, signal_number=number).expect(code)

    assert "run again to go on" in done.stderr
    assert "layer-link" in done.stderr
    assert len(volume.quarantined()) == 7
    volume.assert_whole(mixed.whole)
    volume.collect(*DELETE)
    assert volume.collect(*DELETE).removed == {}
    volume.assert_whole(mixed.whole)
    volume.undo()
    volume.undo()
    assert files_of(volume.snapshot()) == files_of(before)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "no/such/path"), "there is no"),
        (("run", "no/such/path"), "is its disk mounted?"),
        (("plan", "empty"), "there is no registry at"),
        (("run", "--offline", "empty"), "there is no registry at"),
        (("status", "empty"), "there is no registry at"),
        (("undo", "empty"), "there is no registry at"),
        (("purge", "empty"), "there is no registry at"),
        (("plan", "text"), "has no storage section"),
        (("plan", "file://host/srv"), "names a host"),
        (("plan", "gopher://srv"), "gopher"),
        (("plan",), "Missing argument 'ROOT'"),
        (("run", "--grace", "5x", "."), "'5x' is not a duration: write it as 90m, 24h or 7d"),
        (("run", "--grace", "-1s", "."), "is not a duration"),
        (("run", "--upload-age", "", "."), "is not a duration"),
        (("run", "--untagged-older-than", "99", "."), "is not a duration"),
        (("run", "--max-delete", "half", "."), "'half' is not a limit: write it as 50%, 20GiB or none"),
        (("run", "--max-delete", "101%", "."), "more than everything"),
        (("run", "--jobs", "0", "."), "0 is not in the range"),
        (("run", "--no-such-option", "."), "No such option"),
        (("purge", "--quarantine-retention", "soon", "."), "is not a duration"),
        (("apply", "no/such/plan"), "cannot read the plan no/such/plan"),
        (("apply", "text"), "is no plan of regstore"),
        (("apply", "empty"), "cannot read the plan"),
        (("apply", "image.png"), "is no plan of regstore"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2, one message, no traceback, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("just some words")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\xff\xfe")
    before = snapshot(tmp_path)

    run_cli(tmp_path / "state", "gc", *arguments).expect_error(2, words)

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1:5000", "is no URL of a registry"),
        ("127.0.0.1:5000", "is no URL of a registry"),
        ("http://", "is no URL of a registry"),
        ("http://127.0.0.1:99999", "is no URL of a registry"),
        ("http://127.0.0.1:port", "is no URL of a registry"),
        ("http://user:secret@127.0.0.1:5000", "must not hold credentials"),
    ],
)
@pytest.mark.parametrize("mode", [(), ("--offline",)])
def test_bad_registry_url_is_one_clear_line(volume: Volume, url: str, words: str, mode: tuple[str, ...]) -> None:
    """Exit code 2, and nothing was changed."""
    volume.writer.push_image("app", "v1", [layer("app")])
    volume.writer.blob(b"garbage")
    before = volume.snapshot()

    done = volume.gc("run", *NOW, *mode, "--registry-url", url, volume.root).expect_error(2, words)

    assert "secret" not in done.stderr
    assert volume.snapshot() == before


def test_damaged_plan_file_is_refused(volume: Volume, tmp_path: Path) -> None:
    """A plan that was cut off, or whose key and digest differ, is not applied in part."""
    fill(volume)
    plan = tmp_path / "plan"
    volume.plan(*OFFLINE, "--out", plan).expect(0)
    lines = plan.read_text().splitlines(keepends=True)
    before = volume.snapshot()

    plan.write_text("".join(lines[:-1]))
    volume.gc("apply", plan).expect_error(2, "is cut off")
    plan.write_text("".join(lines)[:-30])
    volume.gc("apply", plan).expect_error(2, "is no plan of regstore")
    action = json.loads(lines[-1])
    action["key"] = blob_key(digest_of(b"something else"))
    plan.write_text("".join([*lines[:-1], json.dumps(action) + "\n"]))
    volume.gc("apply", plan).expect_error(2, "is no plan of regstore")
    plan.write_text("".join([lines[0].replace('"schema_version": 1', '"schema_version": 9'), *lines[1:]]))
    volume.gc("apply", plan).expect_error(2, "another version")

    assert volume.snapshot() == before


def test_plan_that_cannot_be_written_is_one_clear_line(volume: Volume) -> None:
    """--out into a directory that does not exist."""
    volume.writer.push_image("app", "v1", [layer("app")])

    volume.gc("plan", "--out", "no/such/directory/plan", volume.root).expect_error(2, "cannot write the plan")


def test_empty_registry_has_nothing_to_do(volume: Volume) -> None:
    """A registry into which nobody pushed, but for one unfinished upload, or from which all is gone."""
    with volume.serving() as client:
        client.begin_upload("app")
    assert volume.collect().removed == {}
    assert volume.collect("--upload-age", "0s", "--empty-repositories").removed == {"upload": 1, "repository": 1}
    assert volume.collect("--upload-age", "0s", "--empty-repositories").removed == {}
    volume.plan(*OFFLINE).expect(0)

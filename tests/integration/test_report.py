"""Reports on volumes of a real registry: each number is what the registry's own collector frees."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore.registry import Registry as Location
from regstore.registry import open_registry
from regstore.report import Options, measure_capacity, parse_rule
from regstore.state import State
from regstore_drivers.base import Capacity
from regstore_drivers.s3 import S3Driver
from regstore_drivers.wrappers import Counting
from support.collection import Volume, run_cli
from support.images import Image, layers
from support.pusher import Pusher
from support.registry import Registry, garbage_collect
from support.seaweed import SeaweedServer
from support.volume import V2, upload_prefix

pytestmark = pytest.mark.registry
GRACE = ("--grace", "0s")


def push_shared(client: Pusher, repository: str, tag: str, seed: str) -> Image:
    """Push an image on the common base: its layers are two of everybody's and one of its own."""
    return client.push_image(repository, tag, [*layers(2, "base", 5000), *layers(1, seed, 3000)])


@pytest.fixture
def pushed(volume: Volume) -> Volume:
    """Repositories that share layers, with tags that were moved and deleted, and manifests without tags."""
    with volume.serving() as client:
        for number in range(3):
            push_shared(client, "team/app", f"v{number}", f"app {number}")
        push_shared(client, "team/app", "latest", "app 2")
        push_shared(client, "team/web", "latest", "web before")
        push_shared(client, "team/web", "latest", "web")
        push_shared(client, "team/web/admin", "latest", "web")
        client.push_image("alone", "latest", layers(3, "alone", 2000))
        gone = [push_shared(client, "team/app", "gone", "gone"), client.push_image("alone", "gone", layers(2, "gone"))]
        for image in gone:
            client.delete_manifest(image.repository, image.digest)
        location = client.begin_upload("team/app")
        client.append_upload(location, bytes(12345))
    return volume


def report(volume: Volume, *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run `report capacity --json`, which must change nothing."""
    before = volume.snapshot()
    document = run_cli(volume.state_home, "report", "capacity", "--json", *arguments, volume.root).expect(code).json
    assert volume.snapshot() == before
    assert not (volume.root / "regstore").exists()
    return document


@pytest.fixture
def upstream_frees(pushed: Volume, tmp_path: Path) -> Callable[..., int]:
    """A function that says what the registry's own collector frees of a copy of the volume, in bytes of blob data.

    First it deletes what lies at some paths below `repositories/`.
    """
    count = 0

    def free(*deleted: str, options: tuple[str, ...] = ()) -> int:
        nonlocal count
        count += 1
        copy = Volume(tmp_path / f"copy {count}", tmp_path)
        shutil.rmtree(copy.root)
        subprocess.run(["cp", "-a", pushed.root, copy.root], check=True)
        for path in deleted:
            shutil.rmtree(copy.tree / "repositories" / path)
        before = stored(copy)
        registry = copy.registry()
        assert garbage_collect(registry.config_path, *options).returncode == 0
        return before - stored(copy)

    return free


def stored(volume: Volume) -> int:
    """Return the bytes of all blob data."""
    return sum(path.stat().st_size for path in (volume.tree / "blobs").glob("*/*/*/data"))


def test_totals_are_those_of_the_files(pushed: Volume, upstream_frees: Callable[..., int]) -> None:
    document = report(pushed, *GRACE)

    totals = document["totals"]
    data = list((pushed.tree / "blobs").glob("*/*/*/data"))
    below = list(pushed.tree.rglob("*"))
    assert totals["stored_bytes"] == stored(pushed)
    assert totals["allocated_bytes"] == sum(path.stat().st_blocks * 512 for path in data)
    assert totals["blob_count"] == len(data)
    assert totals["inode_count"] == len(below)
    assert totals["link_count"] == sum(path.name == "link" for path in below)
    assert totals["unreferenced_bytes"] == upstream_frees() > 0
    assert totals["live_bytes"] == totals["stored_bytes"] - totals["unreferenced_bytes"]
    assert totals["grace_bytes"] == totals["multipart_bytes"] == totals["quarantined_bytes"] == 0
    assert totals["upload_bytes"] == 12345
    assert (totals["repository_count"], totals["tag_count"]) == (4, 7)
    assert totals["tag_history_count"] == 1
    usage = shutil.disk_usage(pushed.root)
    assert document["volume"]["total_bytes"] == usage.total
    assert document["volume"]["free_bytes"] == pytest.approx(usage.free, rel=0.05)


def test_with_a_grace_period_the_garbage_is_in_it(pushed: Volume) -> None:
    at_once, later = report(pushed, *GRACE)["totals"], report(pushed)["totals"]

    assert (later["unreferenced_bytes"], later["grace_bytes"]) == (0, at_once["unreferenced_bytes"])
    assert later["live_bytes"] == at_once["live_bytes"]


def test_unique_is_what_deleting_a_repository_frees(pushed: Volume, upstream_frees: Callable[..., int]) -> None:
    alone = upstream_frees()

    for row in report(pushed)["repositories"]:
        own = [f"{row['name']}/{part}" for part in ("_layers", "_manifests", "_uploads")]
        assert row["unique_bytes"] == upstream_frees(*own) - alone, row["name"]
        assert row["shared_bytes"] == row["stored_bytes"] - row["unique_bytes"]


def test_reclaimable_is_what_collecting_alone_frees(pushed: Volume, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in report(pushed, *GRACE)["repositories"]}
    registry = pushed.registry()
    before = {path: path.stat().st_size for path in (pushed.tree / "blobs").glob("*/*/*/data")}

    assert garbage_collect(registry.config_path).returncode == 0

    freed = {path.parent.name: size for path, size in before.items() if not path.exists()}
    for name, row in rows.items():
        base = pushed.tree / "repositories" / name
        links = [*base.glob("_layers/sha256/*/link"), *base.glob("_manifests/revisions/sha256/*/link")]
        assert row["reclaimable_bytes"] == sum(freed.get(link.parent.name, 0) for link in links), name
    assert rows["team/app"]["reclaimable_bytes"] > 0


@pytest.mark.parametrize(
    ("rule", "deleted"),
    [
        ("delete team/app:v0", ["team/app:v0"]),
        ("delete team/app:v*", ["team/app:v0", "team/app:v1", "team/app:v2"]),
        ("delete team/*:latest", ["team/app:latest", "team/web:latest", "team/web/admin:latest"]),
        (
            "delete *:*",
            [f"team/app:v{number}" for number in range(3)]
            + ["team/app:latest", "team/web:latest", "team/web/admin:latest", "alone:latest"],
        ),
        ("keep-last 2", ["team/app:v0", "team/app:v1"]),
        ("older-than 1d", []),
    ],
)
def test_what_if_is_what_deletion_and_collection_free(
    pushed: Volume, upstream_frees: Callable[..., int], rule: str, deleted: list[str]
) -> None:
    alone = upstream_frees(options=("--delete-untagged",))
    paths = [f"{repository}/_manifests/tags/{tag}" for repository, tag in (name.split(":") for name in deleted)]

    (answer,) = report(pushed, "--what-if", rule)["what_if"]

    # What upstream frees of the last manifest of a repository it does not count twice.
    assert answer == {
        "rule": rule,
        "tag_count": len(deleted),
        "freed_bytes": upstream_frees(*paths, options=("--delete-untagged",)) - alone,
    }


def test_a_tags_unique_bytes_are_the_what_if_of_it_alone(pushed: Volume) -> None:
    tags = report(pushed, "--tags")["tags"]
    rules = [part for row in tags for part in ("--what-if", f"delete {row['repository']}:{row['tag']}")]

    answers = report(pushed, *rules)["what_if"]

    assert [row["unique_bytes"] for row in tags] == [answer["freed_bytes"] for answer in answers]
    assert {row["platforms"][0] for row in tags} == {"linux/amd64"}
    assert all(row["layer_count"] == 3 for row in tags)
    sums = {row["name"]: row["logical_bytes"] for row in report(pushed)["repositories"]}
    for name, logical in sums.items():
        assert logical == sum(row["size_bytes"] for row in tags if row["repository"] == name)


def test_growth_and_history_grow_with_each_report(pushed: Volume) -> None:
    assert [row["growth_bytes"] for row in report(pushed)["repositories"]] == [None] * 4
    with pushed.serving() as client:
        client.push_image("alone", "more", layers(1, "more", 4000))

    document = report(pushed, "--history", "--sort", "growth")

    assert document["repositories"][0]["name"] == "alone"
    assert document["repositories"][0]["growth_bytes"] > 4000
    assert [row["growth_bytes"] for row in document["repositories"][1:]] == [0, 0, 0]
    assert len(document["history"]) == 2
    assert document["history"][-1]["totals"] == document["totals"]
    assert document["forecast"]["state"] == "not-enough-data"


def test_a_broken_manifest_is_a_warning_and_the_rest_is_weighed(pushed: Volume) -> None:
    before = {row["name"]: row for row in report(pushed, *GRACE)["repositories"]}
    link = pushed.path(f"{V2}/repositories/alone/_manifests/tags/latest/current/link")
    link.write_bytes(b"")

    document = report(pushed, *GRACE, code=1)

    after = {row["name"]: row for row in document["repositories"]}
    assert [finding["id"] for finding in document["findings"] if finding["severity"] != "info"] == ["link-malformed"]
    assert after["alone"]["reclaimable_bytes"] == 0 < before["alone"]["reclaimable_bytes"]
    assert {name: row["stored_bytes"] for name, row in after.items() if name != "alone"} == {
        name: row["stored_bytes"] for name, row in before.items() if name != "alone"
    }


def test_a_directory_that_cannot_be_read_is_4_with_its_path(pushed: Volume) -> None:
    closed = pushed.tree / "repositories/team/web/_layers"
    for path in pushed.root.parents:
        if path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o011)
    closed.chmod(0)

    done = run_cli(pushed.state_home, "report", "capacity", "--json", pushed.root, user=65534)

    done.expect_error(4, str(closed))


def test_layers_that_repositories_share(pushed: Volume) -> None:
    document = run_cli(pushed.state_home, "report", "dedup", "--json", pushed.root).expect(0).json

    base = document["layers"][0]
    assert base["repositories"] == ["team/app", "team/web", "team/web/admin"]
    totals = document["totals"]
    assert totals["stored_bytes"] == sum(layer["size_bytes"] for layer in document["layers"])
    assert totals["logical_bytes"] == sum(
        layer["size_bytes"] * len(layer["repositories"]) for layer in document["layers"]
    )
    assert totals["saved_bytes"] == totals["logical_bytes"] - totals["stored_bytes"] > 0
    assert document["pairs"][0].items() >= {"a": "team/web", "b": "team/web/admin"}.items()


@pytest.mark.s3
def test_a_bucket_weighs_what_the_same_directory_weighs(
    start: Callable[..., Registry], driver: S3Driver, tmp_path: Path
) -> None:
    """With few requests; what a bucket does not have is null, and open parts count as uploads."""
    volume = Volume(tmp_path / "volume", tmp_path)
    for server in (start(), volume.registry()):
        with server as registry, Pusher(registry.url) as client:
            for number in range(3):
                push_shared(client, "team/app", f"v{number}", f"app {number}")
            push_shared(client, "team/web", "latest", "web")
            gone = push_shared(client, "team/app", "gone", "gone")
            client.delete_manifest("team/app", gone.digest)
    counting = Counting(driver)
    options = Options(grace=0.0, with_tags=True, what_if=(parse_rule("keep-last 1"),))

    found = measure_capacity(Location(counting), options, state=State(None))
    manifest_reads = counting.counts["read"]
    here = measure_capacity(open_registry(str(volume.root)), options, state=State(None))

    assert counting.counts["stat"] <= 2
    assert manifest_reads < 30
    same = set(found.totals) - {"allocated_bytes", "inode_count", "upload_bytes", "multipart_bytes"}
    assert {name: found.totals[name] for name in same} == {name: here.totals[name] for name in same}
    assert found.totals["allocated_bytes"] is found.totals["inode_count"] is None
    assert found.room == Capacity(None, None, None, None)
    assert [row.stored_bytes for row in found.repositories] == [row.stored_bytes for row in here.repositories]
    assert [(row.tag, row.size_bytes, row.unique_bytes) for row in found.tags] == [
        (row.tag, row.size_bytes, row.unique_bytes) for row in here.tags
    ]
    assert found.what_if == here.what_if


@pytest.mark.s3
def test_open_parts_in_a_bucket_are_uploads(
    start: Callable[..., Registry], driver: S3Driver, seaweed: SeaweedServer, s3_bucket: str
) -> None:
    with start() as registry, Pusher(registry.url) as client:
        client.push_image("app", "latest", layers(1, "app"))
    key = f"company/registry/{upload_prefix('app', 'upload-a')}data"
    s3 = seaweed.client()
    upload = s3.create_multipart_upload(Bucket=s3_bucket, Key=key)["UploadId"]
    for number in (1, 2):
        body = bytes(5 * 1024 * 1024)
        s3.upload_part(Bucket=s3_bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)

    totals = measure_capacity(Location(driver), Options(), state=State(None)).totals

    assert totals["multipart_bytes"] == totals["upload_bytes"] == 10 * 1024 * 1024

"""Collections on a bucket: a real registry wrote it through a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore import gc
from regstore.registry import Registry as Location
from regstore.state import State
from regstore_drivers.s3 import S3Driver
from regstore_drivers.wrappers import Counting
from support import images
from support.pusher import Pusher
from support.registry import Registry
from support.seaweed import SeaweedServer

pytestmark = [pytest.mark.s3, pytest.mark.registry]
MakeRegistry = Callable[..., Registry]
OpenS3 = Callable[..., S3Driver]
NOW = gc.Options(offline=True, grace=0.0, upload_age=0.0, max_delete_percent=None)


def push_image(client: Pusher, repository: str, tag: str, seed: object) -> images.Image:
    """Push an image of two layers of its own."""
    return client.push_image(repository, tag, images.layers(2, seed))


def test_collects_and_every_tag_stays_whole(start: Callable[..., Registry], driver: S3Driver) -> None:
    """Exactly the garbage goes; the siblings of a removed tag stay, in whatever order the storage lists."""
    with start() as registry, Pusher(registry.url) as client:
        kept = [push_image(client, "team/app", tag, tag) for tag in ("v1-alpine", "v10", "v1.2")]
        gone = push_image(client, "team/app", "v1", "gone")
        client.push_multi_arch("team/app", "multi", "multi")
        assert client.delete_manifest("team/app", gone.digest) == 202
        client.begin_upload("team/app")
        tags = ("v1-alpine", "v10", "v1.2", "multi")
        expected = [client.pull("team/app", tag) for tag in tags]
    before = {entry.key for entry in driver.list("docker/")}

    result = gc.collect(Location(driver), NOW, state=State(None))

    assert result.removed[gc.Kind.BLOB][0] == len(gone.digests)
    assert result.removed[gc.Kind.UPLOAD][0] == 1
    assert result.freed_bytes == 0
    removed = before - {entry.key for entry in driver.list("docker/")}
    assert not [key for key in removed if "/tags/" in key and "/tags/v1/" not in key]
    with start() as registry, Pusher(registry.url) as client:
        assert [client.pull("team/app", tag) for tag in tags] == expected
        assert all(client.has_manifest("team/app", image.digest) for image in kept)
    assert gc.collect(Location(driver), NOW, state=State(None)).removed == {}


def test_undo_brings_back_keys_bytes_and_tags(start: Callable[..., Registry], driver: S3Driver) -> None:
    """After an undo the bucket holds what it held."""
    with start() as registry, Pusher(registry.url) as client:
        image = push_image(client, "app", "v1", 1)
        push_image(client, "app", "v2", 2)
        client.delete_manifest("app", image.digest)
    before = {entry.key: driver.read(entry.key) for entry in driver.list("docker/")}
    assert gc.collect(Location(driver), NOW, state=State(None)).removed
    result = gc.undo(Location(driver))
    assert result.restored_count > 0
    assert {entry.key: driver.read(entry.key) for entry in driver.list("docker/")} == before


def test_purge_deletes_the_quarantine(start: Callable[..., Registry], driver: S3Driver) -> None:
    """A purge gives the bytes back and leaves nothing of the run."""
    with start() as registry, Pusher(registry.url) as client:
        image = push_image(client, "app", "v1", 1)
        push_image(client, "app", "v2", 2)
        client.delete_manifest("app", image.digest)
    removed = gc.collect(Location(driver), NOW, state=State(None)).removed
    result = gc.purge(Location(driver), 0.0, state=State(None))
    assert result.freed_bytes == sum(size for _, size in removed.values())
    assert list(driver.list("regstore/runs/")) == []


def test_online_condemns_then_collects(start: Callable[..., Registry], driver: S3Driver) -> None:
    """With a cached registry: links go through its API, the data in a later run, manifest data never."""
    with start(cache="inmemory") as registry, Pusher(registry.url) as client:
        push_image(client, "app", "v2", 2)
        image = push_image(client, "app", "v1", 1)
        client.delete_manifest("app", image.digest)
        options = gc.Options(grace=0.0, registry_urls=(registry.url,), max_delete_percent=None)
        first = gc.collect(Location(driver), options, state=State(None), settle_seconds=0.1)
        assert set(first.removed) == {gc.Kind.LAYER_LINK, gc.Kind.TAG_INDEX} or set(first.removed) == {
            gc.Kind.LAYER_LINK
        }
        assert not client.has_blob("app", image.layers[0])
        second = gc.collect(Location(driver), options, state=State(None), settle_seconds=0.1)
        assert second.removed[gc.Kind.BLOB][0] == len(image.digests) - 1
        again = push_image(client, "app", "v1", 1)
        assert again.digest == image.digest
        client.pull_all()
    with start() as registry, Pusher(registry.url) as client:
        client.pull_all()


def test_requests_are_few(start: Callable[..., Registry], driver: S3Driver) -> None:
    """About a listing per thousand keys, one read per distinct manifest, none for links; a second plan reads none."""
    with start() as registry, Pusher(registry.url) as client:
        for number in range(8):
            push_image(client, f"team/app{number % 2}", f"v{number}", number)
        client.push_multi_arch("team/app0", "multi", "multi")
        manifests = {entry.key for entry in driver.list("docker/") if "/revisions/" in entry.key}
    counting = Counting(driver)
    state = State(None)
    gc.plan_collection(Location(counting), gc.Options(), state=state)
    first = dict(counting.counts)
    assert first["read"] == len(manifests)
    assert sum(count for operation, count in first.items() if operation.startswith("list")) <= 8
    gc.plan_collection(Location(counting), gc.Options(), state=state)
    assert counting.counts["read"] == first["read"]


def test_old_multipart_uploads_are_aborted(
    seaweed: SeaweedServer, s3_bucket: str, start: Callable[..., Registry], driver: S3Driver
) -> None:
    """Old ones go, young ones stay."""
    with start() as registry, Pusher(registry.url) as client:
        push_image(client, "app", "v1", 1)
    key = "docker/registry/v2/repositories/app/_uploads/8b6a/data"
    seaweed.client().create_multipart_upload(Bucket=s3_bucket, Key=f"company/registry/{key}")
    young = gc.collect(Location(driver), gc.Options(offline=True), state=State(None))
    assert gc.Kind.MULTIPART not in young.removed
    old = gc.collect(Location(driver), NOW, state=State(None))
    assert old.removed[gc.Kind.MULTIPART][0] == 1
    assert list(driver.list_multipart("docker/")) == []


def test_the_command_line_reads_the_registrys_config(
    start: Callable[..., Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_regstore: Any
) -> None:
    """ROOT may be the config.yml: bucket, prefix and credentials come from it and are never shown."""
    with start() as registry, Pusher(registry.url) as client:
        image = push_image(client, "app", "v1", 1)
        push_image(client, "app", "v2", 2)
        client.delete_manifest("app", image.digest)
        config = registry.config_path
    plan = tmp_path / "plan"
    done = run_regstore("gc", "plan", "--offline", "--grace", "0s", "--max-delete", "none", "--out", plan, config)
    assert done.returncode == 0, done.stderr
    secret = registry.config["storage"]["s3"]["secretkey"]
    assert secret not in done.stdout + done.stderr + plan.read_text()
    applied = run_regstore("gc", "apply", "--json", plan)
    assert applied.returncode == 0, applied.stderr
    assert {entry["kind"] for entry in json.loads(applied.stdout)["removed"]} >= {"blob", "layer-link"}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"secretkey": "wrong"}, 4, "credentials"),
        ({"bucket": "no-such-bucket"}, 4, "bucket"),
        ({"regionendpoint": "http://127.0.0.1:1"}, 4, "endpoint"),
        ({"rootdirectory": "/elsewhere"}, 2, "no registry"),
    ],
)
def test_bad_storage_is_one_clear_line(
    start: Callable[..., Registry], tmp_path: Path, run_regstore: Any, change: dict[str, str], code: int, words: str
) -> None:
    """Wrong credentials, bucket, endpoint, prefix: the right exit code, and no traceback."""
    with start() as registry, Pusher(registry.url) as client:
        push_image(client, "app", "v1", 1)
        section = {**registry.config["storage"]["s3"], **change}
    config = tmp_path / "other.yml"
    config.write_text(json.dumps({"version": 0.1, "storage": {"s3": section}}))
    done = run_regstore("gc", "plan", config)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr

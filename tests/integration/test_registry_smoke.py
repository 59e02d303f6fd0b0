"""The test support itself: what is pushed to a real registry comes back, and what is broken is noticed."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from fixtures_registry import MakeRegistry
from support.images import (
    DOCKER_MANIFEST,
    ImageSink,
    descriptor,
    digest_of,
    foreign_layer,
    image_config,
    image_manifest,
    layer,
    layers,
)
from support.programs import require_program
from support.pusher import BrokenImage, Pusher
from support.registry import Registry, garbage_collect, registry_version
from support.volume import VolumeWriter, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key

pytestmark = pytest.mark.registry


def keys(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def push_everything(sink: ImageSink) -> None:
    """Store an image of every kind that both a registry and the layout writer can."""
    base = layers(2, "base")
    app = sink.push_image("team/app", "v1", [*base, layer("app")])
    sink.push_image("team/app/nested", "v1", [*base, layer("nested")], flavour="oci")
    index, children = sink.push_multi_arch("team/multi", "latest", "multi", attested=True)
    sink.push_index("team/multi", "outer", [index, *children[:1]])
    sink.push_index("team/multi", "list", [sink.push_image("team/multi", "", base)], flavour="docker")
    sink.push_referrer("team/app", app, "sbom")
    sink.push_signature("team/app", app)
    sink.push_build_cache("team/app", "cache", layers(2, "cache"))
    sink.push_image("team/app", "wide", [layer("wide")], algorithm="sha512")


def test_image_of_every_kind_comes_back_whole(make_registry: MakeRegistry) -> None:
    registry = make_registry(foreign_urls=True, schema1=True)
    with Pusher(registry.url) as client:
        push_everything(client)
        foreign = client.push_image("team/windows", "v1", [layer("own")], foreign=[foreign_layer(layer("absent"))])
        old = client.push_schema1("team/old", "v1", layers(2, "old"))
        registry.restart()

        pulled = client.pull_all()

        assert registry_version() == "2.8.2"
        assert client.catalog() == ["team/app", "team/app/nested", "team/multi", "team/old", "team/windows"]
        assert len(client.pull("team/multi", "latest")) == 1 + 4 + 4 * 1 + 2 * 2 + 2
        assert len(client.pull("team/multi", "outer")) == 1 + 1 + 4 + 4 * 1 + 2 * 2 + 2
        assert pulled["team/windows", "v1"] == set(foreign.digests) - {digest_of(layer("absent"))}
        assert pulled["team/old", "v1"] == set(old.digests)
        assert len(pulled["team/app", "cache"]) == 1 + 2 + 1
        assert digest_of(layer("wide"), "sha512") in pulled["team/app", "wide"]


def test_missing_and_rotten_blobs_are_named(registry: Registry) -> None:
    with Pusher(registry.url) as client:
        image = client.push_image("app", "v1", layers(2, "app"))
        (registry.root / blob_key(image.layers[0])).unlink()
        (registry.root / blob_key(image.layers[1])).write_bytes(layer("else"))

        with pytest.raises(BrokenImage, match=r"app:v1 is not whole") as broken:
            client.pull("app", "v1")

        assert broken.value.missing == image.layers[:1]
        assert broken.value.rotten == image.layers[1:]


def test_manifest_of_missing_layer_is_refused(registry: Registry) -> None:
    with Pusher(registry.url) as client:
        config = image_config([])
        client.push_blob("app", config)
        data = image_manifest(descriptor("x", config), [descriptor("y", b"absent")])

        status, digest = client.push_manifest("app", "v1", data, DOCKER_MANIFEST)

        assert (status, digest) == (400, digest_of(data))


def test_delete_mount_and_upload(cached_registry: Registry) -> None:
    with Pusher(cached_registry.url) as client:
        image = client.push_image("app", "v1", [layer("app")])
        assert client.mount("other", image.layers[0], "app")
        assert not client.mount("other", digest_of(b"absent"), "app")
        assert client.has_blob("other", image.layers[0])
        location = client.append_upload(client.begin_upload("app"), b"some")

        assert client.delete_manifest("app", image.digest) == 202
        assert client.delete_manifest("app", image.digest) == 404
        assert client.delete_blob("app", image.layers[0]) == 202
        assert client.delete_blob("app", image.layers[0]) == 404
        assert not client.has_blob("app", image.layers[0])
        assert not client.has_manifest("app", image.digest)
        assert client.tags("app") == []
        assert client.tags("absent") == []
        assert client.commit_upload(location, digest_of(b"some more"), b" more") == digest_of(b"some more")


def test_readonly_answers_405(registry: Registry) -> None:
    with Pusher(registry.url) as client:
        client.push_image("app", "v1")
        registry.restart(maintenance={"readonly": {"enabled": True}})

        with pytest.raises(AssertionError, match="answered 405"):
            client.begin_upload("app")

        assert client.pull("app", "v1")


def test_pull_through_cache(registry: Registry, make_registry: MakeRegistry) -> None:
    with Pusher(registry.url) as client:
        client.push_multi_arch("app", "v1", "multi")
    mirror = make_registry(proxy=registry.url)
    with Pusher(mirror.url) as client:
        client.pull("app", "v1")
    mirror.stop()

    assert list(mirror.root.glob("**/_manifests/revisions/*/*/link"))


def test_killed_registry_starts_again(registry: Registry) -> None:
    with Pusher(registry.url) as client:
        client.push_image("app", "v1")
        registry.kill()
        assert not registry.is_running
        registry.start()

        assert client.tags("app") == ["v1"]


def test_layout_writer_writes_what_a_registry_writes(registry: Registry, tmp_path: Path) -> None:
    root = tmp_path / "written"
    with Pusher(registry.url) as client:
        push_everything(client)
    push_everything(VolumeWriter(root))

    assert keys(root) == keys(registry.root)
    assert all((root / key).read_bytes() == (registry.root / key).read_bytes() for key in keys(root))


def test_written_volume_is_served_and_collected(make_registry: MakeRegistry, tmp_path: Path) -> None:
    root = tmp_path / "written"
    writer = VolumeWriter(root)
    push_everything(writer)
    old = writer.push_schema1("team/old", "v1", layers(2, "old"))
    signature = writer.signature_link("team/old", old.digest, b"signature")
    writer.upload("team/old", b"some", age=timedelta(days=9))
    unlinked = writer.blob(b"unlinked")
    registry = make_registry(root, schema1=True)
    with Pusher(registry.url) as client:
        pulled = client.pull_all()

    dry_run = garbage_collect(registry.config_path, "--dry-run")

    assert pulled["team/old", "v1"] == set(old.digests)
    assert dry_run.returncode == 0
    eligible = {line.rpartition(" ")[2] for line in dry_run.stdout.splitlines() if "eligible for deletion: " in line}
    # The last one is in use: the manifest knows it by its sha512 digest, of which this collector knows nothing.
    assert eligible == {unlinked, signature, digest_of(layer("wide"))}


def test_volume_with_artifact_stops_the_registrys_collector(make_registry: MakeRegistry, tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path / "written")
    writer.push_artifact("app", "sbom", [b"{}"])
    registry = make_registry(tmp_path / "written")

    assert garbage_collect(registry.config_path, "--dry-run").returncode == 1


def test_volume_through_a_function() -> None:
    stored: dict[str, bytes] = {}
    writer = VolumeWriter(stored.__setitem__)
    image = writer.push_image("app", "v1", [layer("app")])
    other = writer.push_image("app", "", [layer("other")])
    writer.tag("app", "v1", other.digest)

    assert stored[tag_link_key("app", "v1")] == other.digest.encode()
    assert {tag_index_key("app", "v1", item.digest) for item in (image, other)} <= stored.keys()
    assert stored[revision_link_key("app", image.digest)] == image.digest.encode()
    assert stored[layer_link_key("app", image.layers[0])] == image.layers[0].encode()
    assert stored[blob_key(image.layers[0])] == layer("app")


def test_skopeo_copies_what_was_pushed(registry: Registry, tmp_path: Path) -> None:
    skopeo = require_program("skopeo", "skopeo")
    with Pusher(registry.url) as client:
        client.push_image("app", "v1", layers(2, "app"))

    done = subprocess.run(
        [
            skopeo,
            "copy",
            "-q",
            "--src-tls-verify=false",
            f"docker://{registry.address}/app:v1",
            f"dir:{tmp_path}/copy",
        ],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr

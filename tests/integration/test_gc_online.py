"""Collections beside running registries: two phases, replicas, caches, and every race that the mode is built for.

What a registry accepted with 201 must be whole in a freshly started one, whatever happened at the same moment. Races
are made certain, not likely: a client acts at a given step of a run, told by its progress or by a hook on its driver.
"""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from regstore import gc
from regstore.registry import open_registry
from regstore.state import State
from regstore.work import NoProgress
from regstore_drivers.filesystem import FilesystemDriver
from support.collection import NOW, OFFLINE, Done, Volume, Whole, files_of, pulled, push_garbage, snapshot
from support.images import (
    OCI_LAYER,
    OCI_MANIFEST,
    Image,
    descriptor,
    digest_of,
    image_config,
    image_manifest,
    layer,
    layers,
)
from support.pusher import Pusher
from support.registry import Registry, free_port
from support.volume import blob_key, layer_link_key, revision_link_key

pytestmark = pytest.mark.registry


def online(volume: Volume, *registries: Registry, arguments: tuple[str, ...] = NOW, code: int = 0) -> Done:
    """Run `gc run` beside some replicas."""
    urls = [argument for registry in registries for argument in ("--registry-url", registry.url)]
    return volume.gc("run", "--json", *arguments, *urls, volume.root).expect(code)


def layer_digests(image: Image) -> set[str]:
    """Return what an image has layer links for: its layers and its configuration."""
    return {*image.layers, str(image.config)}


class Session:
    """A running registry over a volume and a client of it, with an image that must stay whole to the end."""

    def __init__(self, volume: Volume, registry: Registry) -> None:
        self.volume = volume
        self.registry = registry
        self.client = Pusher(registry.url)
        self.kept = self.client.push_image("app", "kept", layers(2, "kept"))
        self.whole: Whole = pulled(self.client, self.kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def accept(self, *images: Image) -> None:
        """Count on images that the registry accepted."""
        for image in images:
            self.whole[image.repository, image.tag or image.digest] = set(image.digests)

    def put(self, image: Image, tag: str) -> int:
        """Put the manifest of an image under a tag, and count on it when that is accepted; return the status."""
        status, _ = self.client.push_manifest(image.repository, tag, image.data, image.media_type)
        if status == 201:
            self.whole[image.repository, tag] = set(image.digests)
        return status

    def collect(self, *arguments: str, code: int = 0) -> Done:
        """Run a collection by the command line."""
        return online(self.volume, self.registry, arguments=(*NOW, *arguments), code=code)

    def collect_here(self, progress: NoProgress | None = None, **options: Any) -> gc.Result:
        """Run a collection in this process, where its steps can be hooked."""
        selected = {"grace": 0.0, "max_delete_percent": None, "registry_urls": (self.registry.url,), **options}
        return gc.collect(
            open_registry(str(self.volume.root)),
            gc.Options(**selected),
            state=State(None),
            progress=progress,
            settle_seconds=0.5,
        )

    def assert_whole(self) -> None:
        """Fail unless everything that was accepted is whole, here and in a fresh registry."""
        for repository, reference in self.whole:
            self.client.pull(repository, reference)
        self.volume.assert_whole(self.whole)


@pytest.fixture(params=[None, "inmemory"], ids=["plain", "cached"])
def session(volume: Volume, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A registry that runs, once without and once with its cache."""
    with volume.registry(cache=request.param) as registry, Session(volume, registry) as running:
        yield running


@pytest.fixture
def cached(volume: Volume) -> Iterator[Session]:
    """A registry that runs with its cache, the packaged default."""
    with volume.registry(cache="inmemory") as registry, Session(volume, registry) as running:
        yield running


# Two phases


def test_condemned_first_collected_later(session: Session) -> None:
    """The links go through the API, so that the registry forgets; the data a grace period later; manifests never."""
    gone = push_garbage(session.client, "app")

    young = session.collect("--grace", "1h")
    first = session.collect()
    forgotten = [session.client.has_blob("app", digest) for digest in layer_digests(gone)]
    early = session.collect("--grace", "1h")
    second = session.collect()
    third = session.collect()

    assert young.removed == early.removed == third.removed == {}
    assert first.removed == {"layer-link": 3}
    assert forgotten == [False] * 3
    assert second.removed == {"blob": 3}
    assert set(gone.digests) & session.volume.blobs() == {gone.digest}
    again = session.client.push_image("app", "again", layers(2, "deleted app garbage"))
    assert again.digest == gone.digest
    session.accept(again)
    session.assert_whole()


def test_nothing_of_a_grace_period_is_collected(session: Session) -> None:
    """Run by run with a real grace: not when pushed, not when condemned just now."""
    gone = push_garbage(session.client, "app")
    assert session.collect("--grace", "1h").removed == {}
    time.sleep(1.1)
    assert session.collect("--grace", "1s").removed == {"layer-link": 3}
    assert session.collect("--grace", "1h").removed == {}
    time.sleep(1.1)
    assert session.collect("--grace", "1s").removed == {"blob": 3}
    assert layer_digests(gone) & session.volume.blobs() == set()
    session.assert_whole()


def test_blobs_without_any_link_are_noted_first(session: Session) -> None:
    """Nobody saw their last link go: the first run notes them, a later one takes them."""
    session.volume.writer.blob(layer("no link"))
    first = session.collect()
    early = session.collect("--grace", "1h")
    second = session.collect()

    assert (first.removed, first.json["condemned_count"]) == ({}, 1)
    assert (early.removed, early.json["condemned_count"]) == ({}, 0)
    assert second.removed == {"blob": 1}
    session.assert_whole()


@pytest.mark.parametrize("option", [("--no-quarantine",), ("--quarantine-retention", "0s")])
def test_collected_also_when_nothing_is_kept_for_long(cached: Session, option: tuple[str, ...]) -> None:
    """What was condemned is not forgotten with the quarantine of the run that did it."""
    gone = push_garbage(cached.client, "app")
    cached.volume.writer.blob(layer("no link"))

    first = cached.collect(*option)
    early = cached.collect(*option, "--grace", "1h")
    second = cached.collect(*option)
    third = cached.collect(*option)

    assert first.removed == {"layer-link": 3}
    assert early.removed == third.removed == {}
    assert second.removed == {"blob": 4}
    # What a run quarantined itself is the next one's to purge.
    purging = second if "--no-quarantine" in option else third
    assert purging.json["freed_bytes"] == second.removed_bytes["blob"]
    assert not layer_digests(gone) & cached.volume.blobs()
    assert cached.volume.quarantined() == {}
    cached.assert_whole()


def test_untagged_images_beside_a_registry(session: Session) -> None:
    """--delete-untagged: revision and layer links go, then layer data; the manifest's own data stay."""
    untagged = session.client.push_image("app", "", layers(2, "untagged"))

    first = session.collect("--delete-untagged")
    second = session.collect("--delete-untagged")

    assert first.removed == {"layer-link": 3, "revision-link": 1}
    assert second.removed == {"blob": 3}
    assert not session.client.has_manifest("app", untagged.digest)
    again = session.client.push_image("app", "again", layers(2, "untagged"))
    assert again.digest == untagged.digest
    session.accept(again)
    session.assert_whole()


def test_undo_beside_a_registry(session: Session) -> None:
    """Both phases taken back: the registry serves the image by digest again, without a restart."""
    before = files_of(session.volume.snapshot())
    untagged = session.client.push_image("app", "", layers(2, "untagged"))
    pushed = files_of(session.volume.snapshot())
    session.collect("--delete-untagged")
    session.collect("--delete-untagged")

    session.volume.undo()
    session.volume.undo()

    assert files_of(session.volume.snapshot()) == pushed != before
    assert session.client.pull("app", untagged.digest) == set(untagged.digests)
    session.assert_whole()


def test_offline_run_after_it_takes_the_manifests(session: Session) -> None:
    """What the online mode leaves (manifest data, empty directories) goes when the registry is stopped."""
    gone = push_garbage(session.client, "app")
    session.collect()
    session.collect()
    session.registry.stop()

    done = session.volume.collect("--empty-repositories")

    assert done.removed == {"blob": 1}
    assert gone.digest not in session.volume.blobs()
    session.volume.assert_whole(session.whole)


def test_configuration_without_cache_needs_no_url(volume: Volume) -> None:
    """ROOT may be the config.yml: without a cache links may be removed behind the registry's back."""
    with volume.registry() as registry, Session(volume, registry) as session:
        gone = push_garbage(session.client, "app")
        run = ("run", "--json", *NOW, registry.config_path)
        first = volume.gc(*run).expect(0)
        assert [session.client.has_blob("app", digest) for digest in gone.layers] == [False, False]
        assert session.put(gone, "early") == 400
        second = volume.gc(*run).expect(0)

        assert (first.removed, second.removed) == ({"layer-link": 3}, {"blob": 3})
        assert session.put(gone, "late") == 400
        session.accept(session.client.push_image("app", "again", layers(2, "deleted app garbage")))
        session.assert_whole()


# Replicas


@pytest.fixture
def replicas(volume: Volume) -> Iterator[list[Registry]]:
    """Two registries over one volume, each with a cache of its own."""
    with volume.registry(cache="inmemory") as one, volume.registry(cache="inmemory") as other:
        yield [one, other]


def test_every_replica_forgets(volume: Volume, replicas: list[Registry]) -> None:
    """A second replica that finds the link gone already forgets the blob too; neither accepts a broken image."""
    with Session(volume, replicas[0]) as session, Pusher(replicas[1].url) as other:
        gone = push_garbage(session.client, "app")
        assert all(other.has_blob("app", digest) for digest in layer_digests(gone))

        first = online(volume, *replicas)

        for client in (session.client, other):
            assert not any(client.has_blob("app", digest) for digest in layer_digests(gone))
            assert client.push_manifest("app", "broken", gone.data, gone.media_type)[0] == 400
        second = online(volume, *replicas)
        assert (first.removed, second.removed) == ({"layer-link": 3}, {"blob": 3})
        assert other.push_manifest("app", "broken", gone.data, gone.media_type)[0] == 400
        session.accept(other.push_image("app", "again", layers(2, "deleted app garbage")))
        session.assert_whole()


def refused(volume: Volume, code: int, words: tuple[str, ...], *arguments: object) -> None:
    """Fail unless a run ends with a code and words, and not a byte or time of the registry's tree is other."""
    before = snapshot(volume.root / "docker")
    volume.gc("run", *NOW, *arguments, volume.root).expect_error(code, *words)
    assert snapshot(volume.root / "docker") == before
    assert volume.quarantined() == {}


def test_replica_that_does_not_answer_stops_the_run(cached: Session) -> None:
    """Its cache would go on answering: exit 4, nothing removed, whichever of the replicas it is."""
    push_garbage(cached.client, "app")
    dead = f"http://127.0.0.1:{free_port()}"
    for urls in ([dead], [cached.registry.url, dead], [dead, cached.registry.url]):
        arguments = [argument for url in urls for argument in ("--registry-url", url)]
        refused(cached.volume, 4, (dead, "does not answer"), *arguments)
    cached.assert_whole()


class NotFoundHandler(http.server.BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_url_of_no_registry_stops_the_run(cached: Session) -> None:
    """A web server that is none."""
    push_garbage(cached.client, "app")
    with http.server.HTTPServer(("127.0.0.1", 0), NotFoundHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        refused(cached.volume, 4, (url, "no registry"), "--registry-url", url)
        server.shutdown()


def test_url_of_another_registry_is_refused(cached: Session, tmp_path: Path) -> None:
    """It would lose its links, and the right one go on answering: exit 3, and both volumes stay as they are."""
    push_garbage(cached.client, "app")
    other = Volume(tmp_path / "other", tmp_path)
    with other.registry() as registry, Pusher(registry.url) as client:
        refused(cached.volume, 3, (registry.url, "does not serve the volume"), "--registry-url", registry.url)
        client.push_image("app", "kept", layers(2, "another image under the same name"))
        client.push_image("app", "gone", layers(2, "deleted app garbage"))
        before = other.snapshot()
        refused(cached.volume, 3, (registry.url, "does not serve the volume"), "--registry-url", registry.url)
        both = ("--registry-url", cached.registry.url, "--registry-url", registry.url)
        refused(cached.volume, 3, (registry.url, "does not serve the volume"), *both)
        assert other.snapshot() == before


def test_url_of_another_registry_is_refused_without_tags(volume: Volume, tmp_path: Path) -> None:
    """A volume without a single tag is told apart by its manifests: the other registry must not lose its links."""
    other = Volume(tmp_path / "other", tmp_path)
    with volume.serving() as client:
        client.push_image("app", "", layers(2, "untagged"))
        push_garbage(client, "app")
    with other.registry(cache="inmemory") as registry, Session(other, registry) as session:
        session.accept(session.client.push_image("app", "same", layers(2, "deleted app garbage")))
        refused(volume, 3, (registry.url, "does not serve the volume"), "--registry-url", registry.url)
        session.assert_whole()
    with volume.registry(cache="inmemory") as registry:
        assert online(volume, registry).removed == {"layer-link": 3}


def test_registry_without_deletion_is_refused(volume: Volume) -> None:
    """The API does not delete by default: exit 3 says what to set."""
    with volume.registry(cache="inmemory") as registry, Session(volume, registry) as session:
        push_garbage(session.client, "app")
        session.registry.restart(delete={"enabled": False})
        refused(volume, 3, ("does not let clients delete", "storage.delete.enabled"), "--registry-url", registry.url)
        session.assert_whole()


def test_readonly_registry_is_refused_online(volume: Volume) -> None:
    """In maintenance mode nothing can be deleted through the API either: the offline mode is the right one."""
    with volume.registry(cache="inmemory") as registry, Session(volume, registry) as session:
        push_garbage(session.client, "app")
        session.registry.restart(maintenance={"readonly": {"enabled": True}})
        refused(volume, 3, (registry.url, "--offline"), "--registry-url", registry.url)


# Offline, proven


def test_offline_mode_is_proven_by_a_closed_port(volume: Volume) -> None:
    """Nothing listens there: nobody can push."""
    with volume.serving() as client:
        whole = pulled(client, client.push_image("app", "v1", layers(2, "app")))
        push_garbage(client, "app")
    done = volume.collect("--registry-url", f"http://127.0.0.1:{free_port()}")

    assert done.removed == {"blob": 4, "layer-link": 3}
    volume.assert_whole(whole)


def test_offline_mode_is_proven_by_a_readonly_registry(volume: Volume) -> None:
    """An upload is answered by 405: nobody can push, and images are served all the while."""
    with volume.registry(cache="inmemory") as registry, Session(volume, registry) as session:
        push_garbage(session.client, "app")
        registry.restart(maintenance={"readonly": {"enabled": True}})

        done = volume.collect("--registry-url", registry.url)

        assert done.removed == {"blob": 4, "layer-link": 3}
        session.assert_whole()


def test_offline_mode_is_refused_beside_a_registry_that_takes_uploads(cached: Session) -> None:
    """Exit 3, nothing changed, and what was asked to see that left nothing behind."""
    push_garbage(cached.client, "app")
    before = files_of(cached.volume.snapshot())

    done = cached.volume.gc("run", *OFFLINE, "--registry-url", cached.registry.url, cached.volume.root)

    done.expect_error(3, "is running and takes pushes")
    assert files_of(cached.volume.snapshot()) == before
    cached.registry.stop()
    dead = f"http://127.0.0.1:{free_port()}"
    with cached.volume.registry() as replica:
        arguments = ("--registry-url", dead, "--registry-url", replica.url)
        cached.volume.gc("run", *OFFLINE, *arguments, cached.volume.root).expect_error(3, replica.url)
    cached.volume.assert_whole(cached.whole)


# Races


class At(NoProgress):
    """Does something once, when a phase of a run begins."""

    def __init__(self, phase: str, act: Callable[[], object]) -> None:
        self._phase = phase
        self._act = act
        self.is_done = False

    def start(self, phase: str, total: int | None = None) -> None:
        """Act, if it is the phase."""
        if phase == self._phase and not self.is_done:
            self.is_done = True
            self._act()


Before = Callable[[str, str, Callable[[], object]], list[str]]


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    """A function that makes this process act once, just before its driver does something to a key."""

    def hook(method: str, key: str, act: Callable[[], object]) -> list[str]:
        original = getattr(FilesystemDriver, method)
        done: list[str] = []

        def hooked(self: FilesystemDriver, first: str, *rest: Any) -> Any:
            if first == key and not done:
                done.append(first)
                act()
            return original(self, first, *rest)

        monkeypatch.setattr(FilesystemDriver, method, hooked)
        return done

    return hook


def test_blob_is_committed_and_not_yet_named(session: Session) -> None:
    """Its link is young: a root for the grace period. Without any grace the manifest is refused, not broken."""
    data = layers(2, "late")
    config = image_config(data)
    for blob in (*data, config):
        session.client.push_blob("app", blob)
    manifest = image_manifest(
        descriptor("application/x", config), [descriptor(OCI_LAYER, blob) for blob in data], "oci"
    )
    late = Image("app", "", digest_of(manifest), OCI_MANIFEST, manifest, digest_of(config), tuple(map(digest_of, data)))

    assert session.collect("--grace", "1h").removed == {}
    assert session.put(late, "late") == 201
    session.collect()
    session.assert_whole()
    session.client.delete_manifest("app", late.digest)
    del session.whole["app", "late"]
    session.collect()
    assert session.put(late, "later") == 400
    session.assert_whole()


def test_head_then_put_of_an_old_blob(session: Session) -> None:
    """The client saw every blob; then they are condemned, or even collected; its manifest is refused, not broken."""
    old = push_garbage(session.client, "app")
    assert all(session.client.has_blob("app", digest) for digest in layer_digests(old))
    session.collect()
    assert session.put(old, "one") == 400
    assert not any(session.client.has_blob("app", digest) for digest in layer_digests(old))
    session.collect()
    assert session.put(old, "two") == 400
    assert not layer_digests(old) & session.volume.blobs()

    with Pusher(session.registry.url, head_first=True) as client:
        session.accept(client.push_image("app", "three", layers(2, "deleted app garbage")))
    session.collect()
    session.assert_whole()


def test_blob_is_pushed_again_between_condemn_and_collect(session: Session) -> None:
    """The data are there, so the commit writes nothing but the link: that alone must keep them."""
    old = push_garbage(session.client, "app")
    session.collect()
    ours = layers(2, "deleted app garbage")
    for data in ours:
        session.client.push_blob("app", data)

    assert session.collect("--grace", "1h").removed == {}
    session.accept(session.client.push_image("app", "again", ours))
    done = session.collect()

    assert done.removed == {}
    assert layer_digests(old) <= session.volume.blobs()
    session.assert_whole()


def test_blob_is_mounted_while_the_volume_is_read(session: Session) -> None:
    """A link that appears in a repository that was read already keeps the data; the manifest is accepted and whole."""
    old = push_garbage(session.client, "zoo")
    session.client.push_image("app", "first", layers(1, "first"))

    def mount() -> None:
        for digest in layer_digests(old):
            assert session.client.mount("app", digest, "zoo")
        moved = Image("app", "", old.digest, old.media_type, old.data, old.config, old.layers)
        assert session.put(moved, "mounted") == 201

    progress = At("unreferenced blobs", mount)
    first = session.collect_here(progress)
    second = session.collect_here()

    assert progress.is_done
    assert {kind.value: count for kind, (count, _) in first.removed.items()} == {"layer-link": 3}
    assert second.removed == {}
    session.assert_whole()


def test_blob_is_mounted_after_its_source_was_unlinked(session: Session) -> None:
    """A cross-repository mount of what was condemned becomes an upload."""
    old = push_garbage(session.client, "zoo")
    mounted: list[bool] = []

    def mount() -> None:
        mounted.extend(session.client.mount("app", digest, "zoo") for digest in sorted(layer_digests(old)))

    session.collect_here()
    session.collect_here(At("blobs", mount))

    assert mounted == [False] * 3
    assert not layer_digests(old) & session.volume.blobs()
    session.assert_whole()


def test_tag_is_moved_to_a_revision_that_is_being_removed(session: Session, before: Before) -> None:
    """The manifest is put again just before its link goes: the last look puts the link back."""
    untagged = session.client.push_image("app", "", layers(2, "untagged"))
    key = revision_link_key("app", untagged.digest)
    done = before("move", key, lambda: session.put(untagged, "moved"))

    result = session.collect_here(delete_untagged=True)

    assert done == [key]
    assert ("app", "moved") in session.whole
    assert result.restored_count > 0
    assert "restored" in {finding.id for finding in result.findings}
    session.assert_whole()
    assert session.collect_here(delete_untagged=True).removed == {}


def test_tag_is_moved_to_a_revision_that_was_just_removed(session: Session, before: Before) -> None:
    """The same a moment later, when its layers are about to be unlinked: 201 and whole, or 400."""
    untagged = session.client.push_image("app", "", layers(2, "untagged"))
    key = layer_link_key("app", untagged.layers[0])
    statuses: list[int] = []
    done = before("copy", key, lambda: statuses.append(session.put(untagged, "moved")))

    session.collect_here(delete_untagged=True)
    session.collect_here(delete_untagged=True)

    assert done == [key]
    assert statuses in ([201], [400])
    session.assert_whole()


def test_layer_is_needed_again_while_its_link_is_being_removed(session: Session, before: Before) -> None:
    """A manifest is verified and written just before one of its links goes: the last look heals it."""
    old = push_garbage(session.client, "app")
    key = layer_link_key("app", old.layers[0])
    statuses: list[int] = []
    done = before("copy", key, lambda: statuses.append(session.put(old, "verified")))

    result = session.collect_here()

    assert done == [key]
    if statuses == [201]:
        assert result.restored_count > 0
    session.assert_whole()
    session.collect_here()
    session.assert_whole()


def test_commit_finds_the_data_that_are_being_moved(session: Session, before: Before) -> None:
    """The blob is committed (data present, so only the link is written) just before its data go: they come back."""
    old = push_garbage(session.client, "app")
    session.collect_here()
    statuses: list[int] = []

    def push() -> None:
        for data in layers(2, "deleted app garbage"):
            session.client.push_blob("app", data)
        session.client.push_blob("app", image_config(layers(2, "deleted app garbage")))
        statuses.append(session.put(old, "again"))

    key = blob_key(sorted(layer_digests(old))[0])
    done = before("move", key, push)
    result = session.collect_here()

    assert done == [key]
    assert statuses == [201]
    assert result.restored_count > 0
    session.assert_whole()
    assert gc.Kind.BLOB not in session.collect_here().removed
    session.assert_whole()


def test_manifest_is_written_after_its_data_were_moved(session: Session, before: Before) -> None:
    """Links are written before the move, the manifest after it. With a cache the registry accepts it: it is healed."""
    old = push_garbage(session.client, "app")
    session.collect_here()
    ours = [*layers(2, "deleted app garbage"), image_config(layers(2, "deleted app garbage"))]
    statuses: list[int] = []
    first, *_, last = sorted(layer_digests(old))
    linked = before("move", blob_key(first), lambda: [session.client.push_blob("app", data) for data in ours])
    put = before("move", blob_key(last), lambda: statuses.append(session.put(old, "again")))

    session.collect_here()

    assert (linked, put) == ([blob_key(first)], [blob_key(last)])
    assert statuses in ([201], [400])
    session.assert_whole()
    for data in ours:
        assert session.client.fetch_digest("app", digest_of(data)) == digest_of(data)


def test_api_deletes_directories_under_the_survey(session: Session) -> None:
    """Tags, revisions and uploads that come and go at the same moment are no finding and lose nothing."""
    is_over = threading.Event()
    turns = 0

    def churn() -> None:
        nonlocal turns
        with Pusher(session.registry.url) as client:
            while not is_over.is_set():
                image = client.push_image("app", f"turn-{turns % 3}", layers(1, turns % 5))
                client.begin_upload("app")
                client.delete_manifest("app", image.digest)
                turns += 1

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        plans = [session.volume.plan().expect(0) for _ in range(4)]
        runs = [session.collect("--grace", "1h", "--delete-untagged") for _ in range(4)]
    finally:
        is_over.set()
        worker.join()

    assert turns > 10
    assert [plan.findings for plan in plans] + [run.findings for run in runs] == [[]] * 8
    assert all(plan.json["summary"]["tag_count"] >= 1 for plan in plans)
    session.assert_whole()


def test_interrupted_while_it_waits(cached: Session) -> None:
    """A signal during the pause before the last look ends the run; the next one makes up for it."""
    push_garbage(cached.client, "app")
    command = [sys.executable, "-m", "regstore", "gc", "run", *NOW, "--registry-url", cached.registry.url]
    process = subprocess.Popen(
        [*command, str(cached.volume.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(cached.volume.quarantined()) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "3 layer-link" in errors
    assert "Traceback" not in errors
    assert cached.collect().removed == {"blob": 3}
    cached.assert_whole()

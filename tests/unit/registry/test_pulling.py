"""Images pulled from a registry that answers as it should, and as it should not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from regstore.digest import Digest, parse_digest
from regstore.errors import InterruptedRunError
from regstore.registry.http import RegistryClient, RegistryFailedError
from regstore.registry.pulling import Pulled, Puller
from regstore.work import Cancel, NoProgress
from support.fake_registry import FakeRegistry, Reply, fake_registry
from support.images import Descriptor, descriptor, digest_of, foreign_layer, image_manifest, index_manifest

CONFIG, LAYER, SHARED = b"{}", b"layer" * 100_000, b"shared"
MANIFEST = image_manifest(
    descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
    [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", data) for data in (LAYER, SHARED)],
)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry with one image, app:v1."""
    with fake_registry() as fake:
        serve_manifest(fake, "v1", MANIFEST)
        for data in (CONFIG, LAYER, SHARED):
            fake.serve(f"/v2/app/blobs/{digest_of(data)}", data)
        yield fake


def serve_manifest(fake: FakeRegistry, tag: str, data: bytes) -> None:
    for reference in (tag, digest_of(data)):
        fake.serve(f"/v2/app/manifests/{reference}", data)


def pull(
    fake: FakeRegistry,
    data: bytes = MANIFEST,
    tag: str = "v1",
    may_lack: Callable[[Digest], bool] = lambda _: False,
    cancel: Cancel | None = None,
) -> Pulled:
    client = RegistryClient(fake.url, timeout_seconds=0.5)
    try:
        puller = Puller(client, NoProgress(), cancel or Cancel())
        return puller.pull("app", tag, parse_digest(digest_of(data)), may_lack)
    finally:
        client.close()


def test_every_byte_is_fetched(fake: FakeRegistry) -> None:
    assert pull(fake) == (len(MANIFEST) + len(CONFIG) + len(LAYER) + len(SHARED), ())


def test_children_of_an_index_are_pulled(fake: FakeRegistry) -> None:
    cache = descriptor("application/vnd.buildkit.cacheconfig.v0", b"cache")  # an entry that is no manifest
    index = index_manifest([descriptor("application/vnd.oci.image.manifest.v1+json", MANIFEST), cache])
    serve_manifest(fake, "multi", index)
    fake.serve(f"/v2/app/blobs/{digest_of(b'cache')}", b"cache")

    total, problems = pull(fake, index, "multi")

    assert problems == ()
    assert total == len(index) + len(MANIFEST) + len(CONFIG) + len(LAYER) + len(SHARED) + len(b"cache")


def test_what_was_pulled_is_not_pulled_again(fake: FakeRegistry) -> None:
    client = RegistryClient(fake.url)
    puller = Puller(client, NoProgress(), Cancel())
    wanted = parse_digest(digest_of(MANIFEST))
    serve_manifest(fake, "v2", MANIFEST)

    first = puller.pull("app", "v1", wanted, lambda _: False)
    second = puller.pull("app", "v2", wanted, lambda _: False)

    client.close()
    assert first.total_bytes > len(LAYER)
    assert second == (len(MANIFEST), ())


def test_a_tag_that_means_another_manifest(fake: FakeRegistry) -> None:
    assert "do not hash to" in pull(fake, b"another").problems[0]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404), "does not know it"),
        (Reply(500), "answers 500"),
        (Reply(200, body=b"x" * len(LAYER)), "do not hash"),
        (Reply(200, body=LAYER + b"x"), "do not hash"),
        (Reply(200, body=LAYER, sent=1000), "stopped after 1000"),
        (Reply(200, body=LAYER, sent=1000, is_silent=True), "nothing more came in time"),
        (Reply(200, body=LAYER, sent=1000, has_length=False), "stopped after"),
    ],
    ids=["404", "500", "rotten", "longer", "cut", "silent", "cut without length"],
)
def test_a_bad_layer_does_not_hide_the_rest(fake: FakeRegistry, reply: Reply, words: str) -> None:
    fake.answers["GET", f"/v2/app/blobs/{digest_of(LAYER)}"] = reply
    fake.answers["GET", f"/v2/app/blobs/{digest_of(SHARED)}"] = Reply(404)

    problems = pull(fake).problems

    assert [digest_of(data) in problem for data, problem in zip((LAYER, SHARED), problems, strict=True)] == [True, True]
    assert words in problems[0]


@pytest.mark.parametrize(
    "layer", [foreign_layer(LAYER), descriptor("application/x", LAYER)], ids=["foreign", "lacking"]
)
def test_what_may_be_missing(fake: FakeRegistry, layer: Descriptor) -> None:
    data = image_manifest(descriptor("application/vnd.oci.image.config.v1+json", CONFIG), [layer])
    serve_manifest(fake, "v2", data)
    fake.answers["GET", f"/v2/app/blobs/{digest_of(LAYER)}"] = Reply(404)
    is_foreign = "urls" in layer

    assert len(pull(fake, data, "v2").problems) == (0 if is_foreign else 1)
    assert pull(fake, data, "v2", lambda digest: digest == parse_digest(digest_of(LAYER))).problems == ()
    fake.answers["GET", f"/v2/app/blobs/{digest_of(LAYER)}"] = Reply(200, body=b"rot")
    assert len(pull(fake, data, "v2", lambda _: True).problems) == 1


def test_a_tag_without_its_manifest_is_never_whole(fake: FakeRegistry) -> None:
    fake.answers["GET", "/v2/app/manifests/v1"] = Reply(404)
    assert "does not know it" in pull(fake, may_lack=lambda _: True).problems[0]


def test_indexes_within_indexes_to_any_depth(fake: FakeRegistry) -> None:
    """Anybody who may push can make hundreds."""
    data = MANIFEST
    for _ in range(600):
        data = index_manifest([descriptor("application/vnd.oci.image.index.v1+json", data)])
        fake.serve(f"/v2/app/manifests/{digest_of(data)}", data)
    fake.serve("/v2/app/manifests/deep", data)
    assert pull(fake, data, "deep").problems == ()


def test_a_manifest_of_an_unknown_kind_is_served(fake: FakeRegistry) -> None:
    data = b'{"schemaVersion": 7}'
    serve_manifest(fake, "v7", data)
    assert pull(fake, data, "v7") == (len(data), ())


def test_a_registry_that_is_gone_ends_it(fake: FakeRegistry) -> None:
    fake.answers["GET", f"/v2/app/blobs/{digest_of(LAYER)}"] = Reply(200, body=LAYER, sent=10)
    fake.answers["GET", "/v2/"] = Reply(503)
    with pytest.raises(RegistryFailedError):
        pull(fake)


def test_it_stops_on_request(fake: FakeRegistry) -> None:
    cancel = Cancel()
    cancel.request()
    with pytest.raises(InterruptedRunError):
        pull(fake, cancel=cancel)

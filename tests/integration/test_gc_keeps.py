"""Everything that a tag needs is kept, of every kind that clients push; and the ways in which upstream loses it.

Each collection is offline, with no grace and all that may go going, so that nothing but the rules keeps anything.
Afterwards a freshly started registry serves every tag, each digest fetched and hashed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.collection import NOW, Volume, Whole, pulled, push_garbage
from support.images import (
    BUILDKIT_CACHE_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Image,
    descriptor,
    digest_of,
    encode,
    foreign_layer,
    image_config,
    image_manifest,
    index_manifest,
    layer,
    layers,
)
from support.programs import require_program
from support.pusher import BrokenImage, Pusher
from support.registry import garbage_collect
from support.volume import blob_key, layer_link_key, revision_link_key

pytestmark = pytest.mark.registry

EVERYTHING = ("--delete-untagged", "--delete-orphan-signatures", "--upload-age", "0s")


# What clients push: each pushes to "app" and returns what must stay, tagged or not.


def multi_arch(client: Pusher) -> list[Image]:
    """A manifest list and an OCI index, whose children have no tags."""
    children = [client.push_image("app", "", layers(2, name), architecture=name) for name in ("amd64", "arm64")]
    listed = client.push_index("app", "list", children, flavour="docker")
    return [listed, client.push_multi_arch("app", "index", "multi")[0]]


def nested_index(client: Pusher) -> list[Image]:
    """An index over an index over an index, none of the inner ones tagged."""
    inner, children = client.push_multi_arch("app", "", "multi")
    middle = client.push_index("app", "", [inner, *children[:1], client.push_image("app", "", layers(1, "middle"))])
    return [client.push_index("app", "outer", [middle])]


def attestations(client: Pusher) -> list[Image]:
    """Provenance of buildx: children of an unknown platform whose layer is a JSON document."""
    index, children = client.push_multi_arch("app", "v1", "attested", attested=True)
    assert len(children) == 4
    return [index]


def referrers_with_fallback_tag(client: Pusher) -> list[Image]:
    """An SBOM that refers to a tagged image, found by the tag that clients keep for registries without referrers."""
    image = client.push_image("app", "v1", layers(2, "app"))
    return [image, client.push_referrer("app", image, "sbom")]


def referrers_without_tag(client: Pusher) -> list[Image]:
    """Referrers known by nothing but their subject: of an image, of a child of an index, and of a referrer."""
    image = client.push_image("app", "v1", layers(2, "app"), flavour="oci")
    index, children = client.push_multi_arch("app", "multi", "multi")
    kept = [client.push_referrer("app", subject, subject.digest, fallback=False) for subject in (image, *children)]
    chained = client.push_referrer("app", kept[0], "signature of the SBOM", fallback=False)
    about_index = client.push_index(
        "app", "", [client.push_image("app", "", layers(1, "x"))], subject=index.descriptor()
    )
    return [image, index, *kept, chained, about_index]


def cosign_tags(client: Pusher) -> list[Image]:
    """Signatures, attestations and SBOMs by tag: of an image, of a child of an index, and of a signature."""
    image = client.push_image("app", "v1", layers(2, "app"))
    index, children = client.push_multi_arch("app", "multi", "multi")
    kept = [client.push_signature("app", image, suffix=suffix) for suffix in ("sig", "att", "sbom")]
    kept += [client.push_signature("app", subject) for subject in (index, *children, kept[0])]
    return [image, index, *kept]


def sha512_aliases(client: Pusher) -> list[Image]:
    """Layers that a manifest names by their SHA-512 digest; the data lie under the SHA-256 one."""
    wide = client.push_image("app", "wide", layers(2, "wide"), algorithm="sha512")
    both = layers(1, "both")
    return [
        wide,
        client.push_image("app", "by-512", both, algorithm="sha512"),
        client.push_image("app", "by-256", both),
    ]


def foreign_layers(client: Pusher) -> list[Image]:
    """Layers with URLs: one that is not here, and one that somebody pushed all the same."""
    absent = client.push_image("app", "absent", [layer("own")], foreign=[foreign_layer(layer("elsewhere"))])
    client.push_blob("app", layer("pushed"))
    return [absent, client.push_image("app", "pushed", [layer("own")], foreign=[foreign_layer(layer("pushed"))])]


def schema1(client: Pusher) -> list[Image]:
    """An image of the first kind, stored as its payload without media type and signatures."""
    return [client.push_schema1("app", "v1", layers(3, "old"))]


def build_caches(client: Pusher) -> list[Image]:
    """A BuildKit cache: an index whose entries are layers, which no manifest names."""
    return [client.push_build_cache("app", "cache", layers(3, "cache"))]


def artifacts(client: Pusher) -> list[Image]:
    """An OCI artifact with an empty configuration, such as a Helm chart or a policy bundle."""
    return [
        client.push_image(
            "app",
            "chart",
            [b"chart"],
            b"{}",
            flavour="oci",
            config_type=OCI_EMPTY,
            layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            artifact_type="application/vnd.cncf.helm.config.v1+json",
        )
    ]


def no_media_types(client: Pusher) -> list[Image]:
    """An OCI image and an OCI index that do not say what they are."""
    data = layer("app")
    config = image_config([data])
    for blob in (data, config):
        client.push_blob("app", blob)
    document = json.loads(image_manifest(descriptor("c", config), [descriptor(OCI_LAYER, data)], "oci"))
    del document["mediaType"]
    manifest = encode(document)
    status, digest = client.push_manifest("app", digest_of(manifest), manifest, OCI_MANIFEST)
    assert status == 201
    index = json.loads(index_manifest([descriptor(OCI_MANIFEST, manifest)]))
    del index["mediaType"]
    status, digest = client.push_manifest("app", "v1", encode(index), OCI_INDEX)
    assert status == 201
    return [Image("app", "v1", digest, OCI_INDEX, encode(index))]


def manifests_as_layers(client: Pusher) -> list[Image]:
    """An image one of whose layers has the bytes of a manifest, and a layer of no bytes at all."""
    inner = client.push_image("app", "inner", layers(1, "inner"))
    return [
        inner,
        client.push_image("app", "v1", [inner.data, b""], b"{}", flavour="oci", layer_type="application/x-thing"),
    ]


def strange_names(client: Pusher) -> list[Image]:
    """Tags and repositories that are called as parts of the layout are."""
    tags = ["_layers", "_manifests", "_uploads", "current", "index", "link", "sha256", "v1", "v1-alpine", "v10", "V.1_"]
    kept = [client.push_image("app", tag, layers(1, f"tag {tag}")) for tag in tags]
    names = ["tags", "blobs/sha256", "app/tags/current", "app/revisions/sha256", "a-b.c_d__e", "repositories/app"]
    return kept + [client.push_image(name, "v1", layers(1, f"repository {name}")) for name in names]


KINDS: list[Callable[[Pusher], list[Image]]] = [
    multi_arch,
    nested_index,
    attestations,
    referrers_with_fallback_tag,
    referrers_without_tag,
    cosign_tags,
    sha512_aliases,
    foreign_layers,
    schema1,
    build_caches,
    artifacts,
    no_media_types,
    manifests_as_layers,
    strange_names,
]


@pytest.mark.parametrize("push", KINDS, ids=lambda push: push.__name__)
def test_kept(volume: Volume, push: Callable[[Pusher], list[Image]]) -> None:
    """Only the garbage beside it goes, and every tag stays whole; once more, and nothing goes."""
    with volume.serving(schema1=True, foreign_urls=True) as client:
        kept = push(client)
        whole = pulled(client, *kept)
        before = volume.file_keys()
        garbage = push_garbage(client, "app")
        client.begin_upload("app")

    done = volume.collect(*EVERYTHING)

    assert volume.file_keys() == before
    assert done.removed == {"blob": len(garbage.digests), "layer-link": 3, "upload": 1}
    assert [finding[1] for finding in done.findings if finding[0] != "foreign-absent"] == []
    assert volume.collect(*EVERYTHING).removed == {}
    volume.assert_whole(whole, schema1=True)


def test_artifact_manifests_are_kept(volume: Volume) -> None:
    """A kind that registries refuse by now and that volumes still hold: tagged, and as a referrer."""
    with volume.serving() as client:
        image = client.push_image("app", "v1", layers(2, "app"))
        whole = pulled(client, image)
        garbage = push_garbage(client, "app")
    before = volume.file_keys() - {blob_key(digest) for digest in garbage.digests}
    tagged = volume.writer.push_artifact("app", "bundle", [b"one", b"two"])
    referrer = volume.writer.push_artifact("app", "", [b"sbom"], subject=image.descriptor())
    orphan = volume.writer.push_artifact("app", "", [b"of nothing"], subject=garbage.descriptor())

    done = volume.collect(*EVERYTHING)

    assert {*tagged.digests, *referrer.digests} <= volume.blobs()
    for artifact in (tagged, referrer):
        assert volume.path(revision_link_key("app", artifact.digest)).exists()
        assert all(volume.path(layer_link_key("app", digest)).exists() for digest in artifact.layers)
    assert not {*orphan.digests, *garbage.digests} & volume.blobs()
    assert done.removed["revision-link"] == 1
    assert {key for key in before if "/blobs/" in key} <= volume.file_keys()
    volume.assert_whole(whole, others=False)


def test_detached_signatures_of_schema1_are_kept(volume: Volume) -> None:
    """Registries up to 2.4 kept them as blobs linked below the revision; upstream collects them."""
    with volume.serving(schema1=True) as client:
        image = client.push_schema1("app", "v1", layers(2, "old"))
        other = client.push_schema1("app", "v2", layers(2, "other"))
        client.push_image("app", "new", layers(1, "new"))
        whole = pulled(client, image)
    kept = volume.writer.signature_link("app", image.digest, b"signature")
    gone = volume.writer.signature_link("app", other.digest, b"signature of what goes")
    shutil.rmtree(volume.tree / "repositories/app/_manifests/tags/v2")
    upstream = after_upstream(volume, "-m")

    assert volume.collect().removed == {}
    done = volume.collect(*EVERYTHING)

    assert kept in volume.blobs()
    assert not {gone, other.digest} & volume.blobs()
    assert done.removed["revision-link"] == 2
    assert kept not in upstream.blobs()
    assert volume.collect(*EVERYTHING).removed == {}
    volume.assert_whole(whole, schema1=True)


def test_layers_shared_across_repositories_stay(volume: Volume) -> None:
    """Pushed, mounted, or pushed twice: data stay as long as any repository needs them, and links one by one."""
    base, own = layers(2, "base"), layers(1, "own")
    with volume.serving() as client:
        origin = client.push_image("origin", "v1", [*base, *own])
        for digest in origin.layers[:2]:
            assert client.mount("mounted", digest, "origin")
        mounted = client.push_image("mounted", "v1", [])
        mounted = client.push_image("mounted", "v1", base)
        again = client.push_image("again/and/again", "v1", base)
        whole = pulled(client, mounted, again)
        client.delete_manifest("origin", origin.digest)

    done = volume.collect(*EVERYTHING)

    assert not any(volume.path(layer_link_key("origin", digest)).exists() for digest in origin.layers)
    assert set(origin.layers[:2]) <= volume.blobs()
    assert not {origin.digest, origin.layers[2], str(origin.config)} & volume.blobs()
    assert done.removed["revision-link"] == 1
    volume.assert_whole(whole)


def test_nested_repositories_are_apart(volume: Volume) -> None:
    """`foo`, `foo/bar` and `foo/bar/baz` share directories and nothing else: each loses only its own."""
    names = ["foo", "foo/bar", "foo/bar/baz"]
    with volume.serving() as client:
        kept = [client.push_image(name, "v1", layers(2, name)) for name in names]
        client.push_image("foo/bar", "shared", layers(2, "foo"))
        gone = client.push_image("foo", "v2", layers(2, "foo/bar/baz"))
        client.delete_manifest("foo", gone.digest)
        whole = pulled(client, *kept)
        whole["foo/bar", "shared"] = client.pull("foo/bar", "shared")
        push_garbage(client, "foo/bar")

    done = volume.collect(*EVERYTHING, "--empty-repositories")

    assert done.removed == {"blob": 4, "layer-link": 3 + 3}
    with volume.serving() as client:
        assert client.catalog() == names
    volume.assert_whole(whole)


def test_same_index_whole_here_and_sparse_there(volume: Volume) -> None:
    """Marking is by repository: an index that is sparse in one, which is damage, is kept whole in another."""
    with volume.serving() as client:
        index, children = client.push_multi_arch("zzz", "v1", "multi")
        whole = pulled(client, index)
        garbage = push_garbage(client, "zzz")
    volume.writer.manifest("aaa", index.data, "v1")
    volume.writer.manifest("mmm", index.data, "v1")
    volume.writer.revision_link("mmm", children[0].digest)

    done = volume.collect(*EVERYTHING, code=1)

    assert {finding[0] for finding in done.findings} == {"child-missing", "layer-link-missing"}
    assert {("child-missing", "warning", f"{name}@{index.digest}") for name in ("aaa", "mmm")} <= set(done.findings)
    assert not set(garbage.digests) & volume.blobs()
    volume.assert_whole(whole, others=False)


def test_skopeo_copies_what_is_left(volume: Volume, tmp_path: Path) -> None:
    """Pushed by skopeo with all architectures, collected, and fetched by it again: the same bytes."""
    skopeo = require_program("skopeo", "skopeo")

    def copy(*arguments: str) -> None:
        program = [skopeo, "--insecure-policy", "copy", "-q", "--all", "--preserve-digests", *arguments]
        subprocess.run(program, check=True, capture_output=True)

    source = Volume(tmp_path / "source", tmp_path)
    with source.registry() as origin, volume.registry() as registry:
        with Pusher(origin.url) as client:
            client.push_multi_arch("app", "multi", "multi", attested=True)
            client.push_image("app", "v1", layers(2, "app"))
            client.push_image("app", "gone", layers(2, "gone"))
        for tag in ("multi", "v1", "gone"):
            plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
            copy(*plain, f"docker://{origin.address}/app:{tag}", f"docker://{registry.address}/app:{tag}")
        with Pusher(registry.url) as client:
            gone = client.pull("app", "gone")
            data = client.fetch_manifest("app", "gone")
            assert data is not None
            client.delete_manifest("app", digest_of(data[0]))
            whole = {("app", tag): client.pull("app", tag) for tag in ("multi", "v1")}
        copy("--src-tls-verify=false", f"docker://{registry.address}/app:multi", f"dir:{tmp_path}/before")

    volume.collect(*EVERYTHING)

    assert not gone & volume.blobs()
    with volume.registry() as registry:
        copy("--src-tls-verify=false", f"docker://{registry.address}/app:multi", f"dir:{tmp_path}/after")
    before, after = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("before", "after"))
    assert before == after
    volume.assert_whole(whole)


# The ways in which the registry's own collector destroys images that are tagged, with exit code 0


def after_upstream(volume: Volume, *arguments: str) -> Volume:
    """Copy a volume, and let the registry's own collector loose on the copy. It must end with 0."""
    workdir = volume.root.parent / f"upstream{len(list(volume.root.parent.glob('upstream*')))}"
    shutil.copytree(volume.root, workdir / "volume", symlinks=True)
    other = Volume(workdir / "volume", workdir)
    done = garbage_collect(other.registry().config_path, *arguments)
    assert done.returncode == 0, done.stderr
    return other


def broken(volume: Volume, whole: Whole) -> set[tuple[str, str]]:
    """Return what a fresh registry does not serve whole."""
    found = set()
    with volume.serving() as client:
        for repository, reference in whole:
            try:
                client.pull(repository, reference)
            except BrokenImage:
                found.add((repository, reference))
    return found


def compare(volume: Volume, whole: Whole, lost: set[tuple[str, str]], *arguments: str) -> None:
    """See upstream destroy exactly some images, and ours none while it takes the garbage."""
    assert broken(after_upstream(volume, *arguments), whole) == lost
    with volume.serving() as client:
        garbage = push_garbage(client, next(iter(whole))[0])

    done = volume.collect(*EVERYTHING)

    assert done.findings == []
    assert not set(garbage.digests) & volume.blobs()
    volume.assert_whole(whole)


def test_upstream_destroys_multi_arch_images(volume: Volume) -> None:
    """(1) `garbage-collect -m` of 2.8 takes the children of an index, which have no tag, for untagged."""
    with volume.serving() as client:
        index, _ = client.push_multi_arch("app", "multi", "multi")
        whole = pulled(client, index, client.push_image("app", "v1", layers(2, "app")))
    compare(volume, whole, {("app", "multi")}, "-m")


def test_upstream_destroys_nested_indexes(volume: Volume) -> None:
    """(2) The same with an index in an index, also where the innermost images have tags."""
    with volume.serving() as client:
        inner, children = client.push_multi_arch("app", "", "multi")
        for number, child in enumerate(children):
            client.push_manifest("app", f"child-{number}", child.data, child.media_type)
        whole = pulled(client, client.push_index("app", "outer", [inner]))
    compare(volume, whole, {("app", "outer")}, "-m")


def test_upstream_destroys_repositories_without_layers_directory(volume: Volume) -> None:
    """(3) 2.8 finds repositories by `_layers`: one that lost it is not marked, and its images go.

    Here the links are damage: the repository is frozen, and whole again once they are written.
    """
    with volume.serving() as client:
        lost = client.push_image("lost", "v1", layers(2, "lost"))
        whole = pulled(client, lost, client.push_image("app", "v1", layers(2, "app")))
        garbage = push_garbage(client, "app")
    links = volume.tree / "repositories/lost/_layers"
    links.rename(volume.root / "links")
    upstream = after_upstream(volume)
    shutil.copytree(volume.root / "links", upstream.tree / "repositories/lost/_layers")

    done = volume.collect(*EVERYTHING, code=1)

    assert {finding[0] for finding in done.findings} == {"layer-link-missing"}
    assert not set(garbage.digests) & volume.blobs()
    (volume.root / "links").rename(links)
    volume.assert_whole(whole)
    assert broken(upstream, whole) == {("lost", "v1")}


def test_upstream_destroys_layers_pushed_by_sha512(volume: Volume) -> None:
    """(4) The manifest names a layer by one digest, the data lie under another: 2.8 does not look at the link."""
    with volume.serving() as client:
        wide = client.push_image("app", "wide", layers(2, "wide"), algorithm="sha512")
        whole = pulled(client, wide, client.push_image("app", "v1", layers(2, "app")))
    compare(volume, whole, {("app", "wide")})


def test_upstream_destroys_an_index_that_is_sparse_elsewhere(volume: Volume) -> None:
    """(5) An index whole in one repository and sparse in an earlier one (3.1; here 2.8 does so for its own reason)."""
    with volume.serving() as client:
        index, _ = client.push_multi_arch("zzz", "v1", "multi")
        whole = pulled(client, index)
    volume.writer.manifest("aaa", index.data, "v1")
    upstream = after_upstream(volume, "-m")

    done = volume.collect(*EVERYTHING, code=1)

    assert ("child-missing", "warning", f"aaa@{index.digest}") in done.findings
    assert not any("zzz" in finding[2] for finding in done.findings)
    volume.assert_whole(whole, others=False)
    assert broken(upstream, whole) == {("zzz", "v1")}


def push_blobs(client: Pusher, seed: object) -> bytes:
    """Push what an image needs, and return the manifest that is still to come."""
    data = layers(2, seed)
    config = image_config(data)
    for blob in (*data, config):
        client.push_blob("app", blob)
    return image_manifest(
        descriptor("application/x-config", config), [descriptor(OCI_LAYER, blob) for blob in data], "oci"
    )


def test_upstream_destroys_a_push_interleaved_with_it(volume: Volume) -> None:
    """(6) Blobs are pushed, the collector runs, the manifest is put: with a cache the registry accepts a broken image.

    Ours, through the registry's own API: with the default grace the image is whole, with none it is refused and the
    client pushes again.
    """
    upstream = Volume(volume.root.parent / "other", volume.root.parent)
    with upstream.registry(cache="inmemory") as registry, Pusher(registry.url) as client:
        manifest = push_blobs(client, "push")
        assert garbage_collect(registry.config_path).returncode == 0
        assert client.push_manifest("app", "v1", manifest, OCI_MANIFEST)[0] == 201
    assert broken(upstream, {("app", "v1"): set()}) == {("app", "v1")}

    with volume.registry(cache="inmemory") as registry, Pusher(registry.url) as client:
        client.push_image("app", "other", layers(1, "other"))
        kept = push_blobs(client, "kept")
        url = ("--registry-url", registry.url)
        volume.gc("run", "--json", "--max-delete", "none", *url, volume.root).expect(0)
        assert client.push_manifest("app", "v1", kept, OCI_MANIFEST)[0] == 201
        lost = push_blobs(client, "lost")
        volume.gc("run", "--json", *NOW, *url, volume.root).expect(0)
        volume.gc("run", "--json", *NOW, *url, volume.root).expect(0)
        assert client.push_manifest("app", "v2", lost, OCI_MANIFEST)[0] == 400
        assert push_blobs(client, "lost") == lost
        assert client.push_manifest("app", "v2", lost, OCI_MANIFEST)[0] == 201
        whole = {("app", tag): client.pull("app", tag) for tag in ("v1", "v2", "other")}
    volume.assert_whole(whole)


def test_build_cache_config_alone_is_kept(volume: Volume) -> None:
    """A cache index whose layers another image has too: nothing of it is taken for a manifest, nothing goes."""
    data = layers(2, "shared")
    with volume.serving() as client:
        image = client.push_image("app", "v1", data)
        cache = client.push_build_cache("app", "cache", data)
        config = json.loads(cache.data)["manifests"][-1]
        assert config["mediaType"] == BUILDKIT_CACHE_CONFIG
        whole = pulled(client, cache)
        client.delete_manifest("app", image.digest)

    done = volume.collect(*EVERYTHING)

    assert done.removed == {"blob": 2, "layer-link": 1}
    assert config["digest"] in volume.blobs()
    volume.assert_whole(whole)

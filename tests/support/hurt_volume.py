"""Damage to a volume that a real registry wrote, in one repository for each damage, so that one check sees all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from support.collection import Volume, Whole
from support.damaged import Files
from support.images import Image, digest_of, encode, foreign_layer, image_config, layer, layers
from support.pusher import Pusher
from support.volume import V2, VolumeWriter, blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key

OTHER = digest_of(b"another digest")
UNKNOWN = encode({"schemaVersion": 2, "mediaType": "application/vnd.example.thing.v1+json", "layers": []})


@dataclass(frozen=True)
class Pushed:
    """What one repository holds: what its tag `v1` means, and what else a damage is about."""

    name: str
    app: Image
    others: Sequence[Image] = ()

    @property
    def layer(self) -> str:
        """The digest of the first layer."""
        return self.app.layers[0]

    @property
    def config(self) -> str:
        """The digest of the configuration."""
        return cast("str", self.app.config)

    @property
    def manifest(self) -> str:
        """How a finding calls the manifest."""
        return f"{self.name}@{self.app.digest}"


# What is pushed, under the tag v1 of a repository


def plain(client: Pusher, name: str) -> Pushed:
    """An image of two layers."""
    return Pushed(name, client.push_image(name, "v1", layers(2, name)))


def moved_tag(client: Pusher, name: str) -> Pushed:
    """A tag that meant another image before."""
    before = client.push_image(name, "v1", layers(1, f"{name} before"))
    return Pushed(name, client.push_image(name, "v1", layers(2, name)), [before])


def shared_layer(client: Pusher, name: str) -> Pushed:
    """Two repositories and an index with the same layers."""
    index = client.push_index(name, "multi", [client.push_image(name, "", layers(1, name), architecture="arm64")])
    app = client.push_image(name, "v1", layers(1, name))
    return Pushed(name, app, [client.push_image(f"{name}/also", "v1", layers(1, name)), index])


def index_in_two(client: Pusher, name: str) -> Pushed:
    """The same index over two images, in two repositories."""
    client.push_multi_arch(f"{name}/whole", "v1", name)
    index, children = client.push_multi_arch(name, "v1", name)
    return Pushed(name, index, children)


def nested_index(client: Pusher, name: str) -> Pushed:
    """An index over an index with attestations."""
    inner, children = client.push_multi_arch(name, "", name, attested=True)
    return Pushed(name, client.push_index(name, "v1", [inner]), [inner, *children])


def signed(client: Pusher, name: str) -> Pushed:
    """An image with a signature of cosign."""
    app = client.push_image(name, "v1", layers(2, name), flavour="oci")
    return Pushed(name, app, [client.push_signature(name, app)])


def referred(client: Pusher, name: str) -> Pushed:
    """An image with an SBOM that refers to it, and the tag by which clients find that."""
    app = client.push_image(name, "v1", layers(2, name), flavour="oci")
    return Pushed(name, app, [client.push_referrer(name, app, name)])


def schema1(client: Pusher, name: str) -> Pushed:
    """An image of the first kind."""
    return Pushed(name, client.push_schema1(name, "v1", layers(2, name)))


def build_cache(client: Pusher, name: str) -> Pushed:
    """An index whose entries are layers."""
    return Pushed(name, client.push_build_cache(name, "v1", layers(2, name)))


def foreign(client: Pusher, name: str) -> Pushed:
    """An image with a layer that lies elsewhere, and one of its own."""
    elsewhere, own = layer(f"{name} elsewhere"), layers(1, name)
    config = image_config([elsewhere, *own])
    return Pushed(name, client.push_image(name, "v1", own, config, foreign=[foreign_layer(elsewhere)]))


def sha512(client: Pusher, name: str) -> Pushed:
    """An image whose layers have SHA-512 digests."""
    return Pushed(name, client.push_image(name, "v1", layers(1, name), algorithm="sha512"))


def canonical(pushed: Pushed) -> str:
    """The digest under which the data of the first of the layers of `sha512` lie."""
    return digest_of(layers(1, pushed.name)[0])


def repositories_in_one(client: Pusher, name: str) -> Pushed:
    """A repository in a repository in a repository."""
    client.push_image(name, "v1", layers(1, name))
    client.push_image(f"{name}/app/sub", "v1", layers(1, f"{name} sub"))
    return plain(client, f"{name}/app")


# What is done to it, and what is found


def image(pushed: Pushed) -> list[str]:
    """The image itself is hurt, and no other."""
    return [f"{pushed.name}:v1"]


@dataclass(frozen=True)
class Case:
    """One damage.

    Attributes:
        inflict: what does it.
        finds: id and subject of the findings of severity warning or worse that a check of structure and data makes.
        push: what is there before.
        hurts: the images that each of them names.
        left: the ids that are left after a repair without sources; those of bad data stand for missing ones.
        left_with_backup: the ids that are left after a repair from a copy of the whole volume.
    """

    inflict: Callable[[Files, Pushed], object]
    finds: Callable[[Pushed], list[tuple[str, str]]]
    push: Callable[[Pusher, str], Pushed] = plain
    hurts: Callable[[Pushed], list[str]] = image
    left: tuple[str, ...] = ()
    left_with_backup: tuple[str, ...] = ()


def tag_key(pushed: Pushed) -> str:
    return tag_link_key(pushed.name, "v1")


def layer_key(pushed: Pushed) -> str:
    return layer_link_key(pushed.name, pushed.layer)


def revision_key(pushed: Pushed) -> str:
    return revision_link_key(pushed.name, pushed.app.digest)


def index_entry_key(pushed: Pushed) -> str:
    return tag_index_key(pushed.name, "v1", pushed.app.digest)


def _links(words: str, key: Callable[[Pushed], str], digest: Callable[[Pushed], str]) -> dict[str, Case]:
    """Return the damages of a link that its path is enough to repair."""

    def content(data: Callable[[Pushed], str], kind: str) -> Case:
        return Case(lambda files, p: files.put(key(p), data(p)), lambda p: [(kind, key(p))])

    return {
        f"{words}-empty": content(lambda _: "", "link-malformed"),
        f"{words}-short": content(lambda p: digest(p)[:30], "link-malformed"),
        f"{words}-newline": content(lambda p: digest(p) + "\n", "link-malformed"),
        f"{words}-mismatch": content(lambda _: OTHER, "link-mismatch"),
    }


def _bad_manifest(inflict: Callable[[Files, Pushed], object]) -> Case:
    return Case(inflict, lambda p: [("manifest-corrupt", p.manifest)], left=("manifest-missing",))


def _missing(digest: Callable[[Pushed], str], **more: object) -> Case:
    return Case(
        lambda files, p: files.drop(blob_key(digest(p))),
        lambda p: [("blob-missing", digest(p))],
        left=("blob-missing",),
        **more,  # type: ignore[arg-type]
    )


def _flipped(digest: Callable[[Pushed], str], **more: object) -> Case:
    return Case(
        lambda files, p: files.flip(digest(p)),
        lambda p: [("blob-corrupt", digest(p))],
        left=("blob-missing",),
        **more,  # type: ignore[arg-type]
    )


CASES: dict[str, Case] = {
    "layer-flipped": _flipped(lambda p: p.layer),
    "config-flipped": _flipped(lambda p: p.config),
    "layer-cut": Case(
        lambda files, p: files.cut(p.layer, 50), lambda p: [("blob-corrupt", p.layer)], left=("blob-missing",)
    ),
    "layer-missing": _missing(lambda p: p.layer),
    "layer-directory-missing": Case(
        lambda files, p: files.drop(blob_key(p.layer).removesuffix("/data")),
        lambda p: [("blob-missing", p.layer)],
        left=("blob-missing",),
    ),
    "config-missing": _missing(lambda p: p.config),
    "shared-layer-missing": _missing(
        lambda p: p.layer,
        push=shared_layer,
        hurts=lambda p: [f"{p.name}/also:v1", f"{p.name}:multi", f"{p.name}:v1"],
    ),
    "manifest-flipped": _bad_manifest(lambda files, p: files.flip(p.app.digest)),
    "manifest-empty": _bad_manifest(lambda files, p: files.cut(p.app.digest, 0)),
    "manifest-cut": _bad_manifest(lambda files, p: files.cut(p.app.digest, 200)),
    "manifest-rotten-json": _bad_manifest(
        lambda files, p: files.put(blob_key(p.app.digest), p.app.data.replace(b'"size": ', b'"size":1'))
    ),
    "manifest-missing": Case(
        lambda files, p: files.drop(blob_key(p.app.digest)),
        lambda p: [("manifest-missing", p.manifest)],
        left=("manifest-missing",),
    ),
    "manifest-unknown": Case(
        lambda files, p: VolumeWriter(files.root).manifest(p.name, UNKNOWN, "odd"),
        lambda p: [("manifest-unknown", f"{p.name}@{digest_of(UNKNOWN)}")],
        hurts=lambda p: [f"{p.name}:odd"],
        left=("manifest-unknown",),
        left_with_backup=("manifest-unknown",),
    ),
    **_links("layer-link", layer_key, lambda p: p.layer),
    **_links("revision-link", revision_key, lambda p: p.app.digest),
    "layer-link-missing": Case(
        lambda files, p: files.drop(layer_key(p)), lambda p: [("layer-link-missing", layer_key(p))]
    ),
    "revision-link-missing": Case(
        lambda files, p: files.drop(revision_key(p)), lambda p: [("revision-missing", f"{p.name}:v1")]
    ),
    "index-entry-empty": Case(
        lambda files, p: files.put(index_entry_key(p), ""),
        lambda p: [("link-malformed", index_entry_key(p))],
        hurts=lambda _: [],
    ),
    "without-layers": Case(
        lambda files, p: files.drop(f"{V2}/repositories/{p.name}/_layers"),
        lambda p: [("layer-link-missing", layer_link_key(p.name, d)) for d in (*p.app.layers, p.config)],
    ),
    "nested": Case(
        lambda files, p: files.drop(f"{V2}/repositories/{p.name}/_layers"),
        lambda p: [("layer-link-missing", layer_link_key(p.name, d)) for d in (*p.app.layers, p.config)],
        push=repositories_in_one,
    ),
    "child-link-missing": Case(
        lambda files, p: files.drop(revision_link_key(p.name, p.others[0].digest)),
        lambda p: [("child-missing", p.manifest)],
        push=index_in_two,
    ),
    "attestation-flipped": Case(
        lambda files, p: files.flip(p.others[3].digest),
        lambda p: [("manifest-corrupt", f"{p.name}@{p.others[3].digest}")],
        push=nested_index,
        left=("manifest-missing",),
    ),
    "inner-index-flipped": Case(
        lambda files, p: files.flip(p.others[0].digest),
        lambda p: [("manifest-corrupt", f"{p.name}@{p.others[0].digest}")],
        push=nested_index,
        left=("manifest-missing",),
    ),
    "statement-missing": _missing(lambda p: p.others[3].layers[0], push=nested_index),
    "signature-missing": _missing(
        lambda p: p.others[0].layers[0], push=signed, hurts=lambda p: [f"{p.name}:{p.others[0].tag}"]
    ),
    "sbom-flipped": Case(
        lambda files, p: files.flip(p.others[0].layers[0], 3),
        lambda p: [("blob-corrupt", p.others[0].layers[0])],
        push=referred,
        hurts=lambda p: [f"{p.name}:{p.app.digest.replace(':', '-')}"],
        left=("blob-missing",),
    ),
    "schema1-layer-missing": _missing(lambda p: p.layer, push=schema1),
    "schema1-flipped": Case(
        lambda files, p: files.flip(p.app.digest),
        lambda p: [("manifest-corrupt", p.manifest)],
        push=schema1,
        left=("manifest-missing",),
    ),
    "cache-layer-missing": _missing(lambda p: p.app.children[0], push=build_cache),
    "foreign-own-layer-flipped": _flipped(lambda p: p.app.layers[1], push=foreign),
    "sha512-data-flipped": _flipped(canonical, push=sha512),
    "sha512-canonical-link-missing": Case(
        lambda files, p: files.drop(layer_link_key(p.name, canonical(p))),
        lambda p: [("layer-link-missing", layer_link_key(p.name, canonical(p)))],
        push=sha512,
    ),
    "tag-empty": Case(
        lambda files, p: files.put(tag_key(p), ""),
        lambda p: [("link-malformed", tag_key(p))],
        push=moved_tag,
        left=("link-malformed",),
        left_with_backup=("link-malformed",),
    ),
    "tag-missing": Case(
        lambda files, p: files.drop(tag_key(p)),
        lambda p: [("tag-link-missing", tag_key(p))],
        push=moved_tag,
        left=("tag-link-missing",),
        left_with_backup=("tag-link-missing",),
    ),
    "tag-newline": Case(
        lambda files, p: files.put(tag_key(p), p.app.digest + "\n"), lambda p: [("link-malformed", tag_key(p))]
    ),
}
"""Repository to damage."""


@dataclass(frozen=True)
class HurtVolume:
    """A volume and what was pushed to it.

    Attributes:
        volume: whose registry is stopped.
        pushed: repository to what it holds.
        whole: what each tag reaches.
    """

    volume: Volume
    pushed: dict[str, Pushed]
    whole: Whole

    @property
    def expected(self) -> list[tuple[str, str, list[str]]]:
        """Id, subject and images of each finding of severity warning or worse once all is damaged."""
        return sorted(
            (kind, subject, sorted(case.hurts(self.pushed[name])))
            for name, case in CASES.items()
            for kind, subject in case.finds(self.pushed[name])
        )

    def damage(self) -> None:
        """Inflict everything."""
        files = Files(self.volume.root)
        for name, case in CASES.items():
            case.inflict(files, self.pushed[name])


def push_cases(volume: Volume, names: Sequence[str] = tuple(CASES)) -> HurtVolume:
    """Push what the cases are about through a real registry."""
    with volume.serving(schema1=True, foreign_urls=True) as client:
        pushed = {name: CASES[name].push(client, name) for name in names}
        return HurtVolume(volume, pushed, client.pull_all())

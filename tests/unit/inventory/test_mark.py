"""Marking against a naive model: plain recursion over the manifests' own JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import Digest, format_digest, parse_digest
from regstore.inventory.manifests import ManifestReader, Trouble
from regstore.inventory.mark import Marks, Policy, mark_repository, signature_subject
from regstore.registry.scan import Damage, Repository
from regstore.state import State
from regstore_drivers.errors import NotFound, Unavailable
from support import images
from support.examples import examples
from support.volume import layer_link_key, revision_link_key, tag_link_key

NAME = "team/app"
BLOBS = [f"blob {number}".encode() for number in range(6)]
NOWHERE = images.digest_of(b"nowhere")


class Store:
    """The part of a volume that marking reads: manifests, from a dictionary."""

    jobs = 1

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.read_count = 0

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the bytes stored under a digest, whatever they hash to."""
        self.read_count += 1
        try:
            return self.data[format_digest(digest)]
        except KeyError:
            raise NotFound("there is no such object") from None


@dataclass
class Graph:
    """A repository and its manifests, as texts."""

    store: Store = field(default_factory=Store)
    layers: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    histories: dict[str, list[str]] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    signatures: dict[str, list[str]] = field(default_factory=dict)
    young: set[str] = field(default_factory=set)
    restorable: set[str] = field(default_factory=set)

    def add(self, data: bytes, *tags: str) -> str:
        """Store and link a manifest."""
        digest = images.digest_of(data)
        self.store.data[digest] = data
        self.revisions.add(digest)
        self.tags |= dict.fromkeys(tags, digest)
        return digest

    def link(self, data: bytes, algorithm: str = "sha256") -> str:
        """Link a blob as a registry does."""
        canonical, digest = images.digest_of(data), images.digest_of(data, algorithm)
        self.layers |= {canonical, digest}
        if digest != canonical:
            self.aliases[digest] = canonical
        return digest

    def image(self, *layers: bytes, tag: str = "", **fields: Any) -> str:
        """Store and link an image with its layers."""
        config = images.encode({"layers": [images.digest_of(layer) for layer in layers]})
        for data in (config, *layers):
            self.link(data)
        described = [images.descriptor(images.OCI_LAYER, layer) for layer in layers]
        data = images.image_manifest(images.descriptor(images.OCI_CONFIG, config), described, "oci", **fields)
        return self.add(data, *([tag] if tag else []))

    def describe(self, digest: str, media_type: str = images.OCI_MANIFEST) -> images.Descriptor:
        """Describe a manifest of this graph."""
        return {"mediaType": media_type, "size": len(self.store.data.get(digest, b"")), "digest": digest}

    def index(self, *children: str, tag: str = "", **fields: Any) -> str:
        """Store and link an index over manifests."""
        data = images.index_manifest([self.describe(child) for child in children], **fields)
        return self.add(data, *([tag] if tag else []))

    def repository(self) -> Repository:
        """Return what a scan would see."""
        return Repository(
            NAME,
            layers=set(map(parse_digest, self.layers)),
            aliases={parse_digest(path): parse_digest(named) for path, named in self.aliases.items()},
            revisions=set(map(parse_digest, self.revisions)),
            tags={tag: parse_digest(digest) for tag, digest in self.tags.items()},
            tag_indexes={tag: [parse_digest(d) for d in history] for tag, history in self.histories.items()},
            damage=list(self.damage),
        )

    def policy(self, **options: Any) -> Policy:
        """Return a policy with this graph's ages, quarantine and detached signatures."""
        return Policy(
            is_young=self.young.__contains__,
            is_restorable=self.restorable.__contains__,
            signatures_of=lambda d: [parse_digest(s) for s in self.signatures.get(format_digest(d), [])],
            **options,
        )

    def mark(self, **options: Any) -> Marks:
        """Mark it."""
        reader = ManifestReader(self.store, State(None))  # type: ignore[arg-type]
        return mark_repository(self.repository(), reader, self.policy(**options))


def texts(digests: Any) -> set[str]:
    """Return digests as text."""
    return set(map(format_digest, digests))


def tag_subject(tag: str) -> str | None:
    """Say which digest a signature tag is about."""
    head, _, rest = tag.partition("-")
    digits, dot, suffix = rest.partition(".")
    is_one = head == "sha256" and len(digits) == 64 and set(digits) <= set("0123456789abcdef")
    return f"sha256:{digits}" if is_one and (suffix.isalnum() if dot else not suffix) else None


class Model:
    """What marking must find in a graph without damage, by the rules of docs/what-is-live.md, without any cunning."""

    def __init__(self, graph: Graph, *, keep_untagged: bool, history: bool, orphans: bool) -> None:
        self.graph = graph
        self.documents = {digest: json.loads(data) for digest, data in graph.store.data.items()}
        self.kept: set[str] = set()
        self.needed: set[str] = set()
        self.live: set[str] = set()
        signed = {tag: s for tag, digest in graph.tags.items() if (s := tag_subject(tag)) and s != digest}
        before = -1
        while before != len(self.kept):
            before = len(self.kept)
            for tag, digest in graph.tags.items():
                is_young = tag_link_key(NAME, tag) in graph.young
                if tag not in signed or signed[tag] in self.kept or orphans or is_young:
                    self.keep(digest)
                    if tag in signed and history:
                        for former in graph.histories.get(tag, []):
                            if former in graph.revisions:
                                self.keep(former)
            for digest in graph.revisions:
                named_by_signature = digest in {graph.tags[tag] for tag in signed}
                is_young = revision_link_key(NAME, digest) in graph.young
                if (keep_untagged and not named_by_signature) or is_young:
                    self.keep(digest)
        self.orphan_tags = {
            tag
            for tag, subject in signed.items()
            if subject not in self.kept and (orphans or tag_link_key(NAME, tag) not in graph.young)
        }
        for digest in list(self.needed):
            self.needed.add(graph.aliases.get(digest, digest))
        self.live |= {graph.aliases.get(digest, digest) for digest in self.needed}

    def keep(self, digest: str) -> None:
        """Keep a manifest and all that it reaches."""
        if digest in self.kept:
            return
        self.kept.add(digest)
        self.live.add(digest)
        graph, document = self.graph, self.documents[digest]
        for other in graph.revisions:
            if (self.documents[other].get("subject") or {}).get("digest") == digest:
                self.keep(other)
        for entry in document.get("manifests") or []:
            child = entry["digest"]
            if child in graph.revisions:
                self.keep(child)
            elif entry["mediaType"] in images.MANIFEST_TYPES:
                self.live.add(child)
                if child in graph.layers:
                    self.needed.add(child)
            else:
                self.needed.add(child)
        if document.get("config"):
            self.needed.add(document["config"]["digest"])
        for entry in (document.get("layers") or []) + (document.get("blobs") or []):
            self.needed.add(entry["digest"])
        for entry in document.get("fsLayers") or []:
            self.needed.add(entry["blobSum"])
        if document.get("schemaVersion") == 1:
            self.live.update(graph.signatures.get(digest, []))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Repositories without damage: images, nested and shared indexes, artifacts, referrers, signatures, aliases."""
    graph = Graph()
    made: list[str] = []
    for number in range(draw(st.integers(1, 9))):
        _add_manifest(draw, graph, made, number)
    manifests = st.sampled_from(made)
    for tag in draw(st.lists(st.sampled_from(["latest", "1.0", "_layers", "sha256-abc"]), max_size=3, unique=True)):
        graph.tags[tag] = draw(manifests)
    for suffix in draw(st.lists(st.sampled_from(["", ".sig", ".att"]), max_size=4)):
        subject = draw(st.sampled_from([*made, NOWHERE]))
        tag = images.referrers_tag(subject) + suffix
        graph.tags[tag] = draw(manifests)
        graph.histories[tag] = draw(st.lists(st.sampled_from([*made, NOWHERE]), min_size=2, max_size=3, unique=True))
    for blob in draw(st.lists(st.sampled_from(BLOBS), max_size=2)):
        graph.link(blob, draw(st.sampled_from(["sha256", "sha512"])))
    links = [revision_link_key(NAME, digest) for digest in made] + [tag_link_key(NAME, tag) for tag in graph.tags]
    graph.young = draw(st.sets(st.sampled_from(links), max_size=2))
    return graph


def _add_manifest(draw: st.DrawFn, graph: Graph, made: list[str], number: int) -> None:
    fields: dict[str, Any] = {"annotations": {"number": str(number)}}
    if draw(st.integers(0, 3)) == 0:
        fields["subject"] = graph.describe(draw(st.sampled_from([*made, NOWHERE])))
    blobs = draw(st.lists(st.sampled_from(BLOBS), max_size=3))
    algorithm = draw(st.sampled_from(["sha256", "sha256", "sha512"]))
    described = [images.descriptor(images.OCI_LAYER, blob, algorithm) for blob in blobs]
    kind = draw(st.sampled_from(["image", "image", "index", "artifact", "schema1"] if made else ["image", "schema1"]))
    if kind != "index" or draw(st.booleans()):
        for blob in blobs:
            graph.link(blob, algorithm)
    match kind:
        case "image":
            graph.link(BLOBS[0])
            config = images.descriptor(images.OCI_CONFIG, BLOBS[0])
            data = images.image_manifest(config, described, draw(st.sampled_from(["oci", "docker"])), **fields)
        case "artifact":
            data = images.artifact_manifest(described, **fields)
        case "schema1":
            data = images.schema1_manifest(NAME, f"tag-{number}", [entry["digest"] for entry in described])
        case _:
            children = draw(st.lists(st.sampled_from(made), max_size=4))
            plain = [entry for entry in described if entry["digest"] in graph.layers]
            entries = [graph.describe(child) for child in children] + plain
            if draw(st.booleans()):
                entries.append({"mediaType": images.OCI_MANIFEST, "size": 7, "digest": NOWHERE})  # sparse
            data = images.index_manifest(entries, draw(st.sampled_from(["oci", "docker"])), **fields)
    digest = graph.add(data)
    if kind == "schema1" and draw(st.booleans()):
        graph.signatures[digest] = [images.digest_of(f"signature {number}".encode())]
    made.append(digest)


POLICIES = st.fixed_dictionaries(
    {"keep_untagged": st.booleans(), "keep_signature_history": st.booleans(), "keep_orphan_signatures": st.booleans()}
)


@examples(200)
@given(graphs(), POLICIES)
def test_marks_what_the_model_marks(graph: Graph, options: dict[str, bool]) -> None:
    marks = graph.mark(sparse_is_normal=True, **options)

    model = Model(
        graph,
        keep_untagged=options["keep_untagged"],
        history=options["keep_signature_history"],
        orphans=options["keep_orphan_signatures"],
    )
    assert marks.troubles == []
    assert not marks.is_frozen
    assert texts(marks.kept) == model.kept
    assert texts(marks.needed) == model.needed
    assert texts(marks.live) == model.live
    assert set(marks.orphan_tags) == model.orphan_tags
    assert not marks.former_signatures & marks.kept


@examples(60)
@given(graphs(), POLICIES)
def test_sizes_are_those_of_the_data_or_unknown(graph: Graph, options: dict[str, bool]) -> None:
    marks = graph.mark(sparse_is_normal=True, **options)

    sizes = {images.digest_of(data): len(data) for data in [*BLOBS, *graph.store.data.values()]}
    sizes |= {images.digest_of(data, "sha512"): len(data) for data in BLOBS}
    for digest, size in marks.live.items():
        assert size in (-1, sizes.get(format_digest(digest), 7))
    assert all(marks.live[digest] >= 0 for digest in marks.kept)


def _spoil(draw: st.DrawFn, graph: Graph) -> None:
    revisions, layers = sorted(graph.revisions), sorted(graph.layers)
    kinds = ["missing", "corrupt", "truncated", "unknown", "no revision link", "damage"] + ["no layer link"] * bool(
        layers
    )
    match draw(st.sampled_from(kinds)):
        case "missing":
            graph.store.data.pop(draw(st.sampled_from(revisions)), None)
        case "corrupt":
            graph.store.data[draw(st.sampled_from(revisions))] = b'{"schemaVersion": 2}'
        case "truncated":
            victim = draw(st.sampled_from(revisions))
            graph.store.data[victim] = graph.store.data.get(victim, b"")[:-1]
        case "unknown":
            graph.add(images.encode({"mediaType": "application/vnd.example", "blobs": [graph.describe(NOWHERE)]}))
        case "no revision link":
            victim = draw(st.sampled_from(revisions))
            graph.revisions.discard(victim)
            graph.tags["broken"] = victim
        case "no layer link":
            victim = draw(st.sampled_from(layers))
            graph.layers.discard(victim)
            graph.aliases.pop(victim, None)
            config = images.descriptor(images.OCI_CONFIG, BLOBS[0])
            layer = {"mediaType": images.OCI_LAYER, "size": 1, "digest": victim}
            graph.link(BLOBS[0])
            graph.layers.discard(victim)
            graph.add(images.image_manifest(config, [layer], "oci"), "broken")
        case _:
            graph.damage.append(Damage("link-malformed", layer_link_key(NAME, NOWHERE), "holds nothing"))


@st.composite
def damaged_graphs(draw: st.DrawFn) -> Graph:
    """Graphs with one to three kinds of damage."""
    graph = draw(graphs())
    for _ in range(draw(st.integers(1, 3))):
        if graph.revisions:
            _spoil(draw, graph)
    return graph


@examples(150)
@given(damaged_graphs(), POLICIES)
def test_anything_damaged_freezes_all_that_is_linked(graph: Graph, options: dict[str, bool]) -> None:
    marks = graph.mark(**options)

    assert marks.is_frozen
    assert marks.troubles
    assert texts(marks.live) >= graph.revisions | set(graph.tags.values())
    assert texts(marks.live) >= {graph.aliases.get(digest, digest) for digest in graph.layers}
    assert texts(marks.live) >= {digest for history in graph.histories.values() for digest in history}
    assert texts(marks.kept) >= graph.revisions | set(graph.tags.values())
    whole = Graph(**{**vars(graph), "damage": []})
    assert texts(marks.live) >= _reached(whole)


def _reached(graph: Graph) -> set[str]:
    """Return everything that any manifest that can be read names, aliases resolved."""
    named = set()
    for digest in graph.revisions:
        data = graph.store.data.get(digest, b"")
        if images.digest_of(data) != digest:
            continue
        document = json.loads(data)
        if document.get("mediaType") == "application/vnd.example":
            continue
        entries = [entry for field in ("manifests", "layers", "blobs") for entry in document.get(field) or []]
        named |= {entry["digest"] for entry in entries} | {e["blobSum"] for e in document.get("fsLayers") or []}
        if document.get("config"):
            named.add(document["config"]["digest"])
    return {graph.aliases.get(digest, digest) for digest in named}


@examples(60)
@given(graphs(), POLICIES)
def test_a_remembered_manifest_is_not_read_again(graph: Graph, options: dict[str, bool]) -> None:
    state = State(None)
    reader = ManifestReader(graph.store, state)  # type: ignore[arg-type]
    policy = graph.policy(sparse_is_normal=True, **options)
    first = mark_repository(graph.repository(), reader, policy)
    reader.remember()
    reads = graph.store.read_count
    graph.store.data.clear()

    second = mark_repository(graph.repository(), ManifestReader(graph.store, state), policy)  # type: ignore[arg-type]

    assert second == first
    assert reads <= len(graph.revisions) + 1
    assert graph.store.read_count <= reads + 1  # only the absent child of sparse indexes is looked for again


def troubles(marks: Marks) -> list[tuple[str, str]]:
    """Return kind and subject of each trouble, sorted."""
    return sorted((kind, subject) for kind, subject, _ in marks.troubles)


def test_an_empty_repository_has_nothing() -> None:
    assert Graph().mark() == Marks()


def test_untagged_children_of_nested_indexes_stay_without_their_untagged_siblings() -> None:
    graph = Graph()
    child, loose = graph.image(b"one"), graph.image(b"two")
    inner = graph.index(child)
    outer = graph.index(inner, tag="latest")

    marks = graph.mark(keep_untagged=False)

    assert texts(marks.kept) == {child, inner, outer}
    assert loose not in texts(marks.live)


def test_a_build_cache_keeps_its_layers_and_none_is_taken_for_a_manifest() -> None:
    graph = Graph()
    layer, config = graph.link(b"layer"), graph.link(b"{}")
    entries = [images.descriptor(images.OCI_LAYER, b"layer"), images.descriptor(images.BUILDKIT_CACHE_CONFIG, b"{}")]
    index = graph.add(images.index_manifest(entries), "cache")

    marks = graph.mark(keep_untagged=False)

    assert marks.troubles == []
    assert texts(marks.needed) == {layer, config}
    assert texts(marks.live) == {layer, config, index}


def test_a_manifest_linked_as_a_layer_only_keeps_that_link() -> None:
    graph = Graph()
    child = graph.image(b"layer")
    graph.revisions.remove(child)
    graph.layers.add(child)
    graph.index(child, tag="latest")

    marks = graph.mark()

    assert child in texts(marks.needed)
    assert [kind for kind, _ in troubles(marks)] == ["child-missing"]


def test_a_missing_child_is_damage_and_what_its_data_name_is_needed_here() -> None:
    graph = Graph()
    child = graph.image(b"layer")
    graph.revisions.remove(child)
    index = graph.index(child, tag="latest")
    graph.layers.remove(images.digest_of(b"layer"))

    marks = graph.mark()

    assert troubles(marks) == [
        ("child-missing", f"{NAME}@{index}"),
        ("layer-link-missing", layer_link_key(NAME, images.digest_of(b"layer"))),
    ]
    assert images.digest_of(b"layer") in texts(marks.live)


def test_a_cache_does_not_miss_what_another_repository_holds_of_a_sparse_index() -> None:
    graph = Graph()
    elsewhere = Graph(graph.store).image(b"layer of another repository")
    index = graph.index(elsewhere, tag="latest")

    marks = graph.mark(sparse_is_normal=True)

    assert marks.troubles == []
    assert texts(marks.live) == {index, elsewhere}


def test_an_old_signature_of_a_young_untagged_manifest_is_no_orphan() -> None:
    graph = Graph()
    image = graph.image(b"layer")
    graph.young.add(revision_link_key(NAME, image))
    signature = graph.image(b"signature", tag=f"{images.referrers_tag(image)}.sig")

    marks = graph.mark(keep_untagged=False, keep_orphan_signatures=False)

    assert marks.orphan_tags == {}
    assert texts(marks.kept) == {image, signature}


def test_a_signature_of_a_young_orphan_signature_is_no_orphan() -> None:
    graph = Graph()
    young_tag = f"{images.referrers_tag(NOWHERE)}.sig"
    signature = graph.image(b"signature", tag=young_tag)
    graph.young.add(tag_link_key(NAME, young_tag))
    of_signature = graph.image(b"signature of it", tag=f"{images.referrers_tag(signature)}.sig")

    marks = graph.mark(keep_untagged=False, keep_orphan_signatures=False)

    assert marks.orphan_tags == {}
    assert texts(marks.kept) == {signature, of_signature}


def test_a_tag_that_names_its_own_digest_is_no_signature() -> None:
    graph = Graph()
    image = graph.image(b"layer")
    graph.tags[f"{images.referrers_tag(image)}.imgpkg"] = image

    marks = graph.mark(keep_untagged=False, keep_orphan_signatures=False)

    assert texts(marks.kept) == {image}
    assert marks.orphan_tags == {}


def test_an_orphan_signature_goes_on_request_only() -> None:
    graph = Graph()
    tag = f"{images.referrers_tag(NOWHERE)}.sig"
    signature = graph.image(b"signature", tag=tag)

    assert texts(graph.mark().kept) == {signature}
    assert set(graph.mark().orphan_tags) == {tag}
    assert texts(graph.mark(keep_untagged=False).kept) == {signature}
    assert texts(graph.mark(keep_orphan_signatures=False).kept) == set()


def test_a_replaced_signature_is_named_and_stays_with_its_history() -> None:
    graph = Graph()
    image = graph.image(b"layer", tag="latest")
    tag = f"{images.referrers_tag(image)}.sig"
    old, new = graph.image(b"old"), graph.image(b"new", tag=tag)
    graph.histories[tag] = [old, new]

    dropped = graph.mark(keep_untagged=False)
    kept = graph.mark(keep_untagged=False, keep_signature_history=True)

    assert texts(dropped.former_signatures) == {old}
    assert texts(dropped.kept) == {image, new}
    assert texts(kept.kept) == {image, new, old}
    assert kept.former_signatures == set()
    assert graph.mark().former_signatures == set()


def test_a_referrer_stays_with_its_subject_at_any_depth() -> None:
    graph = Graph()
    image = graph.image(b"layer", tag="latest")
    sbom = graph.image(b"sbom", subject=graph.describe(image))
    signature = graph.image(b"signature", subject=graph.describe(sbom))
    graph.image(b"of nothing", subject=graph.describe(NOWHERE))

    marks = graph.mark(keep_untagged=False)

    assert texts(marks.kept) == {image, sbom, signature}


def test_the_detached_signatures_of_schema1_stay() -> None:
    graph = Graph()
    layer = graph.link(b"layer")
    image = graph.add(images.schema1_manifest(NAME, "old", [layer]), "old")
    graph.signatures[image] = [images.digest_of(b"signature")]

    assert texts(graph.mark().live) == {image, layer, images.digest_of(b"signature")}


def test_a_sha512_layer_keeps_both_links_and_the_canonical_data() -> None:
    graph = Graph()
    alias = graph.link(b"layer", "sha512")
    canonical = images.digest_of(b"layer")
    config = images.descriptor(images.OCI_CONFIG, b"{}")
    graph.link(b"{}")
    layer = images.descriptor(images.OCI_LAYER, b"layer", "sha512")
    image = graph.add(images.image_manifest(config, [layer], "oci"), "latest")

    marks = graph.mark()

    assert texts(marks.needed) == {alias, canonical, config["digest"]}
    assert texts(marks.live) == {canonical, config["digest"], image}
    graph.layers.remove(canonical)
    assert troubles(graph.mark()) == [("layer-link-missing", layer_link_key(NAME, canonical))]


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_foreign_layer_may_be_absent_and_is_kept_when_it_is_there(is_linked: bool) -> None:
    graph = Graph()
    graph.link(b"{}")
    if is_linked:
        graph.link(b"windows")
    config = images.descriptor(images.OCI_CONFIG, b"{}")
    graph.add(images.image_manifest(config, [images.foreign_layer(b"windows")]), "latest")

    marks = graph.mark()

    assert marks.troubles == []
    assert images.digest_of(b"windows") in texts(marks.needed.keys() & marks.live.keys() & marks.foreign)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda data: None, "manifest-missing"),
        (lambda data: data[:-1], "manifest-corrupt"),
        (lambda data: b"", "manifest-corrupt"),
        (lambda data: data.replace(b"2", b"3", 1), "manifest-corrupt"),
    ],
    ids=["missing", "truncated", "empty", "rotten"],
)
def test_a_manifest_that_cannot_be_believed_is_named(spoil: Callable[[bytes], bytes | None], kind: str) -> None:
    graph = Graph()
    image = graph.image(b"layer", tag="latest")
    spoiled = spoil(graph.store.data.pop(image))
    if spoiled is not None:
        graph.store.data[image] = spoiled

    marks = graph.mark()

    assert troubles(marks) == [(kind, f"{NAME}@{image}")]
    assert marks.is_frozen


def test_a_manifest_of_an_unknown_kind_and_one_too_large_are_named() -> None:
    graph = Graph()
    unknown = graph.add(images.encode({"schemaVersion": 2, "mediaType": "application/vnd.example"}))
    large = graph.add(images.image_manifest(images.descriptor(images.OCI_CONFIG, b"{}"), [], pad="x" * (4 << 20)))

    marks = graph.mark()

    assert troubles(marks) == sorted(
        [("manifest-unknown", f"{NAME}@{unknown}"), ("manifest-unknown", f"{NAME}@{large}")]
    )


def test_a_tag_without_a_revision_link_is_damage_and_its_data_stay() -> None:
    graph = Graph()
    image = graph.image(b"layer", tag="latest")
    graph.revisions.clear()

    marks = graph.mark(keep_untagged=False)

    assert troubles(marks) == [("revision-missing", f"{NAME}:latest")]
    assert texts(marks.live) >= {image, images.digest_of(b"layer")}


def test_links_in_the_quarantine_are_put_back_and_are_no_damage() -> None:
    graph = Graph()
    image = graph.image(b"layer")
    index = graph.index(image, tag="latest")
    other = graph.image(b"other", tag="other")
    layer = images.digest_of(b"layer")
    graph.layers.remove(layer)
    graph.revisions -= {image, other}
    missing = {layer_link_key(NAME, layer), revision_link_key(NAME, image), revision_link_key(NAME, other)}
    graph.restorable = missing | {layer_link_key(NAME, NOWHERE)}

    marks = graph.mark(keep_untagged=False)

    assert marks.troubles == []
    assert {link.key for link in marks.restores} == missing
    assert len(marks.restores) == 3
    assert texts(marks.kept) == {image, index, other}


def test_a_storage_error_is_raised_and_never_taken_for_damage() -> None:
    graph = Graph()
    graph.image(b"layer", tag="latest")

    class Broken(Store):
        def read_manifest(self, digest: Digest) -> bytes:
            raise Unavailable("no answer", operation="read", key=format_digest(digest))

    reader = ManifestReader(Broken(), State(None))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        mark_repository(graph.repository(), reader, graph.policy())


def test_on_an_object_store_a_manifest_is_read_once_for_all_repositories() -> None:
    graph, other = Graph(), Graph()
    other.store = graph.store
    graph.store.jobs = 2
    image = graph.image(b"layer", tag="latest")
    state = State(None)
    reader = ManifestReader(graph.store, state)  # type: ignore[arg-type]

    for _ in range(3):
        mark_repository(graph.repository(), reader, graph.policy())
        reader.remember()
    again = ManifestReader(graph.store, state)  # type: ignore[arg-type]

    assert graph.store.read_count == 1
    assert not isinstance(again.get(parse_digest(image)), Trouble)
    assert graph.store.read_count == 1


@pytest.mark.parametrize(
    ("tag", "is_signature"),
    [
        (f"sha256-{'a' * 64}", True),
        (f"sha256-{'a' * 64}.sig", True),
        (f"sha256-{'0' * 64}.att", True),
        (f"sha256-{'a' * 64}.", False),
        (f"sha256-{'a' * 64}.sig.sig", False),
        (f"sha256-{'A' * 64}.sig", False),
        (f"sha256-{'a' * 63}", False),
        (f"sha512-{'a' * 64}", False),
        (f"sha256-{'a' * 64}-sig", False),
        ("latest", False),
    ],
)
def test_signature_tags(tag: str, is_signature: bool) -> None:
    subject = signature_subject(tag)

    assert (subject is not None) is is_signature
    assert (tag_subject(tag) is not None) is is_signature
    if subject is not None:
        assert format_digest(subject) == f"sha256:{tag[7:71]}"

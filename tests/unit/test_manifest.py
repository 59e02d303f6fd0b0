"""What a manifest reaches, and that doubt is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import format_digest
from regstore.manifest import Kind, ManifestError, Role, decode_manifest
from regstore.record import encode_record, parse_record, record_of
from support import images

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
LONG = "sha512:" + "d" * 128
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def described(digest: str, media_type: str = LAYER, **fields: Any) -> dict[str, Any]:
    """Return a descriptor."""
    return {"mediaType": media_type, "size": 7, "digest": digest, **fields}


def decode(content: Any) -> Any:
    """Decode a document."""
    return decode_manifest(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("content", "kind", "reached"),
    [
        ({"schemaVersion": 1, "fsLayers": [{"blobSum": A}, {"blobSum": A}]}, Kind.SCHEMA1, [A, A]),
        ({"mediaType": SCHEMA2, "config": described(A), "layers": [described(B)]}, Kind.SCHEMA2, [A, B]),
        ({"mediaType": OCI, "config": described(A), "layers": None}, Kind.OCI_MANIFEST, [A]),
        ({"schemaVersion": 2, "config": described(A), "layers": [described(LONG)]}, Kind.OCI_MANIFEST, [A, LONG]),
        ({"mediaType": LIST, "manifests": [described(A, SCHEMA2)]}, Kind.LIST, [A]),
        ({"mediaType": INDEX, "manifests": None}, Kind.OCI_INDEX, []),
        ({"schemaVersion": 2, "manifests": [described(A, OCI), described(B)]}, Kind.OCI_INDEX, [A, B]),
        ({"mediaType": ARTIFACT, "blobs": [described(A)], "subject": described(C)}, Kind.OCI_ARTIFACT, [A]),
    ],
)
def test_every_kind_names_what_it_reaches(content: dict[str, Any], kind: Kind, reached: list[str]) -> None:
    """The digests come in order, with duplicates; the packed form keeps them."""
    manifest = decode(content)
    assert manifest.kind is kind
    assert [format_digest(digest) for digest in manifest.digests] == reached
    record = parse_record(encode_record(record_of(manifest, 99)))
    assert record == record_of(manifest, 99)
    assert sorted(format_digest(digest) for digest, _, _ in record.iter_references()) == sorted(reached)


def test_references_say_role_size_and_kind() -> None:
    """Config, layers, foreign ones by type and by URL, children that are manifests."""
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    manifest = decode(
        {
            "mediaType": SCHEMA2,
            "config": described(A),
            "layers": [described(B, foreign), described(C, urls=["https://x"]), described(A)],
            "subject": described(LONG),
        }
    )
    assert [(r.role, r.size, r.is_foreign, r.is_manifest) for r in manifest.references] == [
        (Role.CONFIG, 7, False, False),
        (Role.LAYER, 7, True, False),
        (Role.LAYER, 7, True, False),
        (Role.LAYER, 7, False, False),
    ]
    assert manifest.subject is not None
    assert format_digest(manifest.subject) == LONG
    index = decode({"mediaType": INDEX, "manifests": [described(A, OCI), described(B)]})
    assert [(r.role, r.is_manifest) for r in index.references] == [(Role.CHILD, True), (Role.CHILD, False)]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"mediaType": "application/vnd.example"},
        {"mediaType": 7},
        {"schemaVersion": 1, "mediaType": OCI},
        {"schemaVersion": 1, "fsLayers": [{}]},
        {"manifests": "many"},
        {"manifests": [7]},
        {"mediaType": OCI, "layers": []},
        {"mediaType": OCI, "config": described("sha256:short"), "layers": []},
        {"mediaType": OCI, "config": described(A, size="7"), "layers": []},
        {"mediaType": OCI, "config": described(A, size=-2), "layers": []},
        {"mediaType": OCI, "config": described(A, size=True), "layers": []},
        {"mediaType": OCI, "config": {**described(A), "mediaType": 7}, "layers": []},
        {"mediaType": OCI, "config": described(A), "layers": [], "manifests": [described(B)]},
        {"mediaType": INDEX, "manifests": [], "layers": [described(B)]},
        {"mediaType": OCI, "config": described(A), "layers": [], "subject": 7},
        {"mediaType": OCI, "config": described(A), "layers": [], "subject": {"digest": None}},
    ],
    ids=str,
)
def test_doubt_is_an_error(content: Any) -> None:
    """Unknown kinds, two kinds at once, wrong types: nobody can say what these reach."""
    with pytest.raises(ManifestError):
        decode(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([A, OCI, INDEX, SCHEMA2]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mediaType", "schemaVersion", "config", "layers", "manifests", "digest", "size", "subject"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(lambda content: json.dumps(content).encode()))
def test_nothing_but_manifest_error_is_raised(data: bytes) -> None:
    """Whatever the bytes are; and what is understood is kept whole by the packed form."""
    try:
        manifest = decode_manifest(data)
    except ManifestError as error:
        message = str(error)
    else:
        assert parse_record(encode_record(record_of(manifest, len(data)))) == record_of(manifest, len(data))
        message = manifest.kind.name
    assert message


MANIFESTS = [
    images.image_manifest(images.descriptor(images.OCI_CONFIG, b"{}"), [images.descriptor(images.OCI_LAYER, b"x")]),
    images.index_manifest([images.descriptor(images.OCI_MANIFEST, b"{}")], subject={"digest": A, "size": 1}),
    images.artifact_manifest([images.descriptor(images.OCI_LAYER, b"x")]),
    images.schema1_manifest("app", "v1", [A, B]),
]


@given(st.sampled_from(MANIFESTS), st.integers(0, 600), st.binary(max_size=3))
def test_a_spoiled_manifest_raises_manifest_error_or_is_still_one(data: bytes, position: int, patch: bytes) -> None:
    """One to three bytes replaced anywhere."""
    spoiled = data[:position] + patch + data[position + len(patch) :]
    try:
        kind = decode_manifest(spoiled).kind
    except ManifestError:
        return
    assert kind in Kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schemaVersion": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"schemaVersion": true, "fsLayers": []}', "schemaVersion"),
        (b'{"schemaVersion": 1.0, "fsLayers": []}', "schemaVersion"),
        (b'{"schemaVersion": "2", "layers": []}', "schemaVersion"),
    ],
    ids=range(10),
)
def test_what_is_no_document_is_named(data: bytes, words: str) -> None:
    """The message says why."""
    with pytest.raises(ManifestError, match=words):
        decode_manifest(data)


@pytest.mark.parametrize("extra", ["manifests", "config", "layers", "blobs", "fsLayers"])
@pytest.mark.parametrize("kind", range(len(MANIFESTS)))
def test_two_kinds_at_once_are_none(kind: int, extra: str) -> None:
    """A field by which another kind reaches blobs may be there, and empty."""
    content = json.loads(MANIFESTS[kind])
    if extra in content:
        return

    with pytest.raises(ManifestError, match=extra):
        decode({**content, extra: [described(C)]})
    assert decode({**content, extra: None}) == decode({**content, extra: []}) == decode(content)


@pytest.mark.parametrize(
    "field", ["Layers", "LAYERS", "layer\u017f", "Config", "mediatype", "Manifests", "fslayers", "Subject"]
)
def test_a_field_in_another_case_is_an_error(field: str) -> None:
    """Go, in which registries and clients are written, takes it for the right one."""
    content = json.loads(MANIFESTS[0])

    with pytest.raises(ManifestError, match="another case"):
        decode({**content, field: [described(C)]})


def test_unknown_fields_are_ignored() -> None:
    """Annotations and what is to come say nothing about reachability."""
    content = json.loads(MANIFESTS[0])

    assert decode({**content, "annotations": {"a": "b"}, "artifactType": "x", "sbom": [described(C)]}) == decode(
        content
    )


@pytest.mark.parametrize("variant", [{}, {"mediaType": ""}, {"mediaType": None}])
@pytest.mark.parametrize("version", [{}, {"schemaVersion": 2}])
def test_kinds_without_a_media_type(variant: dict[str, Any], version: dict[str, Any]) -> None:
    """OCI made the media type optional: `manifests` tells an index."""
    image = {**variant, **version, "config": described(A), "layers": [described(B)]}
    index = {**variant, **version, "manifests": [described(A, OCI)]}

    assert decode(image).kind is Kind.OCI_MANIFEST
    assert decode(index).kind is Kind.OCI_INDEX
    assert decode({**index, "manifests": []}).kind is Kind.OCI_INDEX
    with pytest.raises(ManifestError):
        decode({**image, **index})


def test_signed_and_unsigned_schema1() -> None:
    """Both media types, and the payload without one; other media types are none of schema1."""
    payload = json.loads(images.schema1_manifest("app", "v1", [A, B]))

    for media_type in (images.DOCKER_SCHEMA1, images.DOCKER_SCHEMA1_SIGNED, "", None):
        manifest = decode({**payload, "mediaType": media_type})
        assert manifest.kind is Kind.SCHEMA1
        assert [(format_digest(r.digest), r.size, r.role) for r in manifest.references] == [
            (B, -1, Role.LAYER),
            (A, -1, Role.LAYER),
        ]
    for media_type in (OCI, SCHEMA2, "application/vnd.example"):
        with pytest.raises(ManifestError):
            decode({**payload, "mediaType": media_type})


@pytest.mark.parametrize(
    ("media_type", "urls", "is_foreign"),
    [
        (images.DOCKER_FOREIGN_LAYER, ["https://example.org/x"], True),
        (images.DOCKER_FOREIGN_LAYER, None, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", [], True),
        (images.OCI_LAYER, ["https://example.org/x"], True),
        (images.OCI_LAYER, [], False),
        (images.OCI_LAYER, None, False),
    ],
)
def test_foreign_layers(media_type: str, urls: list[str] | None, is_foreign: bool) -> None:
    """By their type, or by their URLs."""
    layer = described(B, media_type, urls=urls)

    references = decode({"mediaType": SCHEMA2, "config": described(A), "layers": [layer]}).references

    assert [reference.is_foreign for reference in references] == [False, is_foreign]


def test_entries_of_a_build_cache_are_no_manifests() -> None:
    """The layers and the configuration of BuildKit's cache stand where an index has manifests."""
    entries = [images.descriptor(images.OCI_LAYER, b"x"), images.descriptor(images.BUILDKIT_CACHE_CONFIG, b"{}")]

    references = decode_manifest(images.index_manifest(entries)).references

    assert [(r.role, r.is_manifest) for r in references] == [(Role.CHILD, False)] * 2


def test_sizes_may_be_left_out() -> None:
    """Then they are -1; nothing larger than a file can be is one."""

    def sized(**fields: Any) -> Any:
        return decode({"mediaType": OCI, "config": {"mediaType": LAYER, "digest": A, **fields}, "layers": []}).sizes

    assert sized() == (-1,)
    assert sized(size=0) == (0,)
    assert sized(size=(1 << 63) - 1) == ((1 << 63) - 1,)
    for wrong in (1 << 63, -2, 1.5, "1", None):
        with pytest.raises(ManifestError, match="size"):
            sized(size=wrong)

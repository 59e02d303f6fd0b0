"""What a manifest reaches, and that doubt is an error."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import format_digest
from regstore.manifest import Kind, ManifestError, Role, decode_manifest
from regstore.record import encode_record, parse_record, record_of

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
    """Whatever the bytes are."""
    with suppress(ManifestError):
        decode_manifest(data)

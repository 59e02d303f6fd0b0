"""Keys and specs lead to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import layout
from regstore.digest import Digest, format_digest, pack_digest, parse_digest, parse_digests

DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda data: pack_digest("sha256", data.hex())),
    st.binary(min_size=64, max_size=64).map(lambda data: pack_digest("sha512", data.hex())),
)
COMPONENTS = st.sampled_from(["a", "team", "0", "a.b", "a_b", "a__b", "a--b", "x1-y2"])
NAMES = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)
TAGS = st.sampled_from(["v1", "v1-alpine", "A.b_c", "_layers", "_manifests", "_uploads", "current", "index", "tags"])
LINKS = st.one_of(
    st.builds(layout.BlobData, DIGESTS),
    st.builds(layout.LayerLink, NAMES, DIGESTS),
    st.builds(layout.RevisionLink, NAMES, DIGESTS),
    st.builds(layout.TagLink, NAMES, TAGS),
    st.builds(layout.TagIndexLink, NAMES, TAGS, DIGESTS),
)
SPECS = st.one_of(
    LINKS,
    st.builds(layout.SignatureLink, NAMES, DIGESTS, DIGESTS),
    st.builds(layout.UploadFile, NAMES, st.uuids().map(str), st.sampled_from(["startedat", "data"])),
    st.builds(layout.UploadFile, NAMES, st.uuids().map(str), st.integers(0).map("hashstates/sha256/{}".format)),
    st.builds(layout.SchedulerState),
    st.builds(layout.LockFile, st.just("database-in-use")),
    st.builds(layout.SoftDeleted, st.just("x/y")),
    st.builds(
        lambda of, uuid: layout.Leftover(of, f"{'data' if isinstance(of, layout.BlobData) else 'link'}.{uuid}.tmp"),
        LINKS,
        st.uuids(),
    ),
)


@given(SPECS)
def test_a_spec_is_what_its_key_says(spec: layout.Spec) -> None:
    """Every spec survives the way to its key and back, nested names and tags like `_layers` too."""
    assert layout.parse_key(spec.key) == spec


@given(st.text("ab/_.-0Z", max_size=40) | SPECS.map(lambda spec: spec.key[:-1]))
def test_a_key_is_never_lost(key: str) -> None:
    """Whatever a key is, its spec has that key."""
    assert layout.parse_key(key).key == key


@pytest.mark.parametrize(
    "key",
    [
        "docker/registry/v2/blobs/sha256/zz/zzzz/data",
        "docker/registry/v2/blobs/sha256/ab/" + "cd" * 32 + "/data",
        "docker/registry/v2/blobs/md5/ab/" + "ab" * 16 + "/data",
        "docker/registry/v2/repositories/Upper/_layers/sha256/" + "ab" * 32 + "/link",
        "docker/registry/v2/repositories/app/_layers/sha256/" + "AB" * 32 + "/link",
        "docker/registry/v2/repositories/_layers/sha256/" + "ab" * 32 + "/link",
        "docker/registry/v2/repositories/" + "a" * 256 + "/_layers/sha256/" + "ab" * 32 + "/link",
        "docker/registry/v2/repositories/app/_manifests/tags/-bad/current/link",
        "docker/registry/v2/repositories/app/_manifests/tags/v1/current/link.tmp",
        "docker/registry/v2",
        "other",
    ],
)
def test_what_fits_no_pattern_is_a_stray(key: str) -> None:
    """Unknown algorithms, wrong shards, upper case, names that are too long."""
    assert layout.parse_key(key) == layout.Stray(key)


@given(st.lists(DIGESTS, max_size=6))
def test_digests_have_a_text(digests: list[Digest]) -> None:
    """Packing and formatting are inverse, one by one and all at once."""
    texts = [format_digest(digest) for digest in digests]
    assert [parse_digest(text) for text in texts] == digests
    assert list(parse_digests(texts)) == digests


@pytest.mark.parametrize(
    "texts",
    [
        ["sha256:" + "AB" * 32],
        ["sha256:" + "ab" * 31],
        ["sha256:" + "ab" * 32 + "\n"],
        ["sha256:" + "a" * 63 + " "],
        ["sha256:" + "ab" * 32 + "sha256:" + "cd" * 32, ""],
        ["x" + "sha256:" + "ab" * 31 + "a", "sha256:" + "ab" * 32],
        ["md5:" + "ab" * 16],
        ["sha512:" + "ab" * 32],
        [""],
    ],
)
def test_what_is_no_digest_is_refused(texts: list[str]) -> None:
    """Nothing is trimmed, and joining many does not hide a wrong one."""
    with pytest.raises(ValueError, match="not"):
        parse_digests(texts)

"""Keys and specs lead to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import layout
from regstore.digest import Digest, format_digest, pack_digest, parse_digest, parse_digests
from support import volume

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


SHA256 = "sha256:" + "ab" * 32
SHA512 = "sha512:" + "cd" * 64
D256, D512 = parse_digest(SHA256), parse_digest(SHA512)
UUID = "0d9c4c8e-95e8-4b0a-a2a3-6a7a1e4c2f10"
UPLOAD = volume.upload_prefix("team/app", UUID)

REAL_KEYS: list[tuple[str, layout.Spec]] = [
    (volume.blob_key(SHA256), layout.BlobData(D256)),
    (volume.blob_key(SHA512), layout.BlobData(D512)),
    (volume.layer_link_key("team/app", SHA256), layout.LayerLink("team/app", D256)),
    (volume.layer_link_key("a/b/c-d/e__f.g", SHA512), layout.LayerLink("a/b/c-d/e__f.g", D512)),
    (volume.revision_link_key("app", SHA256), layout.RevisionLink("app", D256)),
    (volume.tag_link_key("app", "latest"), layout.TagLink("app", "latest")),
    (volume.tag_link_key("app", "_layers"), layout.TagLink("app", "_layers")),
    (volume.tag_link_key("app", "_manifests"), layout.TagLink("app", "_manifests")),
    (volume.tag_link_key("app", "T_1.0-x"), layout.TagLink("app", "T_1.0-x")),
    (volume.tag_link_key("app", "t" * 128), layout.TagLink("app", "t" * 128)),
    (volume.tag_index_key("app", "current", SHA256), layout.TagIndexLink("app", "current", D256)),
    (f"{UPLOAD}startedat", layout.UploadFile("team/app", UUID, "startedat")),
    (f"{UPLOAD}data", layout.UploadFile("team/app", UUID, "data")),
    (f"{UPLOAD}hashstates/sha256/0", layout.UploadFile("team/app", UUID, "hashstates/sha256/0")),
    (f"{UPLOAD}hashstates/sha512/104857600", layout.UploadFile("team/app", UUID, "hashstates/sha512/104857600")),
    (
        volume.revision_link_key("app", SHA256).removesuffix("link") + f"signatures/sha512/{'cd' * 64}/link",
        layout.SignatureLink("app", D256, D512),
    ),
    (f"{volume.blob_key(SHA256)}.{UUID}.tmp", layout.Leftover(layout.BlobData(D256), f"data.{UUID}.tmp")),
    (
        f"{volume.tag_link_key('app', 'latest')}.{UUID}.tmp",
        layout.Leftover(layout.TagLink("app", "latest"), f"link.{UUID}.tmp"),
    ),
    (
        f"{UPLOAD}startedat.{UUID}.tmp",
        layout.Leftover(layout.UploadFile("team/app", UUID, "startedat"), f"startedat.{UUID}.tmp"),
    ),
    ("scheduler-state.json", layout.SchedulerState()),
    ("docker/registry/lockfiles/database-in-use", layout.LockFile("database-in-use")),
    ("docker/registry/lockfiles/filesystem-in-use", layout.LockFile("filesystem-in-use")),
    (
        f"docker-backup/registry/v2/backup/2024/{volume.blob_key(SHA256)}",
        layout.SoftDeleted(f"2024/{volume.blob_key(SHA256)}"),
    ),
]


@pytest.mark.parametrize(
    ("key", "spec"), REAL_KEYS, ids=[f"{type(spec).__name__}-{i}" for i, (_, spec) in enumerate(REAL_KEYS)]
)
def test_keys_as_registries_write_them(key: str, spec: layout.Spec) -> None:
    """The keys are those of an independent writer of volumes."""
    assert layout.parse_key(key) == spec
    assert spec.key == key


@pytest.mark.parametrize(
    ("key", "spec"), REAL_KEYS, ids=[f"{type(spec).__name__}-{i}" for i, (_, spec) in enumerate(REAL_KEYS)]
)
@pytest.mark.parametrize("change", ["{}/", "{}/link", "/{}", " {}", "{}\n", "{}x/"])
def test_a_key_with_something_more_is_a_stray(key: str, spec: layout.Spec, change: str) -> None:
    """Nothing is trimmed, and nothing may come before or after."""
    if isinstance(spec, (layout.SoftDeleted, layout.LockFile)) and change in ("{}/link", "{}x/", "{}/", "{}\n"):
        return  # any path may follow, any name may stand there
    assert layout.parse_key(change.format(key)) == layout.Stray(change.format(key))


def test_names_have_a_limit() -> None:
    """A registry accepts 255 characters, slashes included."""
    longest = "a" * 127 + "/" + "b" * 127

    assert layout.is_repository_name(longest)
    assert layout.parse_key(volume.tag_link_key(longest, "v1")) == layout.TagLink(longest, "v1")
    assert not layout.is_repository_name(f"{longest}b")
    key = volume.tag_link_key(f"{longest}b", "v1")
    assert layout.parse_key(key) == layout.Stray(key)
    assert layout.is_tag_name("t" * 128)
    assert not layout.is_tag_name("t" * 129)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("app", True),
        ("a.b/c_d/e__f/g-h/i--j", True),
        ("library/ubuntu", True),
        ("0", True),
        ("", False),
        ("App", False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        ("a..b", False),
        ("a___b", False),
        ("_a", False),
        ("a_", False),
        ("a.-b", False),
        ("\u00e9", False),
        ("a\n", False),
    ],
)
def test_repository_names(name: str, is_one: bool) -> None:
    """As distribution's own expression has it."""
    assert layout.is_repository_name(name) is is_one
    assert layout.is_name_component(name) is (is_one and "/" not in name)
    key = f"docker/registry/v2/repositories/{name}/_manifests/tags/v1/current/link"
    assert isinstance(layout.parse_key(key), layout.TagLink) is is_one


@given(st.text(max_size=60))
def test_any_text_is_a_key_of_its_spec(key: str) -> None:
    """Nothing raises, nothing changes."""
    assert layout.parse_key(key).key == key
    assert layout.parse_key(f"docker/registry/v2/blobs/{key}").key == f"docker/registry/v2/blobs/{key}"
    key = f"docker/registry/v2/repositories/{key}"
    assert layout.parse_key(key).key == key


@given(SPECS, st.integers(0, 300), st.characters())
def test_a_changed_key_is_another_one(spec: layout.Spec, position: int, character: str) -> None:
    """No two keys have the same spec."""
    key = spec.key[:position] + character + spec.key[position + 1 :]
    assert (layout.parse_key(key) == spec) is (key == spec.key)

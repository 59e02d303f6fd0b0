"""Steps as data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import layout
from regstore.digest import Digest, pack_digest, parse_digest
from regstore.gc import Action, Kind, Verb
from support.volume import blob_key, layer_link_key, revision_link_key, tag_index_key, tag_link_key

SHA256, SHA512 = "sha256:" + "ab" * 32, "sha512:" + "cd" * 64
NAMES = st.sampled_from(["app", "app/web", "a-b/c_d"])
TAGS = st.sampled_from(["latest", "_layers", "v1.0"])
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest) | st.binary(min_size=64, max_size=64).map(
    lambda raw: pack_digest("sha512", raw.hex())
)
REST = {"size": st.integers(0, 1 << 50), "reason": st.text(max_size=20)}


def of_kind(kind: Kind, **parts: st.SearchStrategy[object]) -> st.SearchStrategy[Action]:
    """Draw actions of one kind."""
    fields = {"repository": st.just(""), "digest": st.none(), "name": st.just(""), **parts, **REST}
    return st.builds(Action, verb=st.sampled_from(Verb), kind=st.just(kind), **fields)


ACTIONS = st.one_of(
    of_kind(Kind.BLOB, digest=DIGESTS),
    of_kind(Kind.LAYER_LINK, repository=NAMES, digest=DIGESTS),
    of_kind(Kind.REVISION_LINK, repository=NAMES, digest=DIGESTS),
    of_kind(
        Kind.REVISION_LINK,
        repository=NAMES,
        digest=DIGESTS,
        name=DIGESTS.map(lambda digest: f"signatures/{layout.digest_path(digest)}/link"),
    ),
    of_kind(Kind.TAG_LINK, repository=NAMES, name=TAGS),
    of_kind(Kind.TAG_INDEX, repository=NAMES, name=TAGS, digest=DIGESTS),
    of_kind(Kind.UPLOAD, repository=NAMES, name=st.uuids().map(str)),
    of_kind(Kind.MULTIPART, repository=NAMES, name=st.just(f"{layout.BLOBS}x upload id")),
    of_kind(Kind.LEFTOVER, repository=NAMES, name=st.just(f"{blob_key(SHA256)}.1.tmp")),
    of_kind(Kind.REPOSITORY, repository=NAMES),
)


@given(ACTIONS)
def test_the_json_form_keeps_every_step(action: Action) -> None:
    assert Action.from_json(json.loads(json.dumps(action.to_json()))) == action


@given(ACTIONS, ACTIONS)
def test_the_identity_leaves_out_size_and_reason(one: Action, other: Action) -> None:
    assert one._replace(size=1, reason="x").identity == one.identity
    assert (one.identity == other.identity) is (one[:5] == other[:5])


@pytest.mark.parametrize(
    ("action", "key"),
    [
        (Action(Verb.REMOVE, Kind.BLOB, "", parse_digest(SHA256), "", 0, ""), blob_key(SHA256)),
        (Action(Verb.REMOVE, Kind.BLOB, "", parse_digest(SHA512), "", 0, ""), blob_key(SHA512)),
        (Action(Verb.REMOVE, Kind.LAYER_LINK, "a/b", parse_digest(SHA512), "", 0, ""), layer_link_key("a/b", SHA512)),
        (Action(Verb.REMOVE, Kind.REVISION_LINK, "a", parse_digest(SHA256), "", 0, ""), revision_link_key("a", SHA256)),
        (
            Action(Verb.REMOVE, Kind.REVISION_LINK, "a", parse_digest(SHA256), "signatures/x/y/link", 0, ""),
            revision_link_key("a", SHA256).removesuffix("link") + "signatures/x/y/link",
        ),
        (Action(Verb.REMOVE, Kind.TAG_LINK, "a", None, "v1", 0, ""), tag_link_key("a", "v1")),
        (Action(Verb.REMOVE, Kind.TAG_INDEX, "a", parse_digest(SHA256), "v1", 0, ""), tag_index_key("a", "v1", SHA256)),
        (Action(Verb.REMOVE, Kind.UPLOAD, "a", None, "id", 0, ""), "docker/registry/v2/repositories/a/_uploads/id"),
        (Action(Verb.REMOVE, Kind.REPOSITORY, "a/b", None, "", 0, ""), "docker/registry/v2/repositories/a/b"),
        (Action(Verb.REMOVE, Kind.MULTIPART, "a", None, "the/key and id", 0, ""), "the/key"),
        (Action(Verb.REMOVE, Kind.LEFTOVER, "a", None, "the/key.1.tmp", 0, ""), "the/key.1.tmp"),
    ],
)
def test_keys_of_steps(action: Action, key: str) -> None:
    assert action.key == key


TAMPERED = [
    {"key": layer_link_key("other", SHA256)},
    {"key": ""},
    {"repository": "other"},
    {"repository": "../../../etc"},
    {"digest": SHA512},
    {"digest": "sha256:short"},
    {"digest": 7},
    {"action": "destroy"},
    {"kind": "everything"},
    {"bytes": "many"},
    {"kind": "blob"},
]


@pytest.mark.parametrize("change", TAMPERED, ids=range(len(TAMPERED)))
def test_a_tampered_line_is_an_error(change: dict[str, object]) -> None:
    line = Action(Verb.REMOVE, Kind.LAYER_LINK, "app", parse_digest(SHA256), "", 71, "why").to_json()

    with pytest.raises((ValueError, TypeError)):
        Action.from_json({**line, **change})


@pytest.mark.parametrize("name", Action(Verb.REMOVE, Kind.UPLOAD, "app", None, "id", 71, "why").to_json())
def test_a_line_that_lacks_something_is_an_error(name: str) -> None:
    line = Action(Verb.REMOVE, Kind.UPLOAD, "app", None, "id", 71, "why").to_json()
    del line[name]

    with pytest.raises(KeyError):
        Action.from_json(line)

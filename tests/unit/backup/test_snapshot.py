"""Snapshot files: there and back, and every damage is noticed."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.backup.snapshot import Head, Snapshot, SnapshotDamagedError, encode_blobs, parse_snapshot
from regstore.digest import Digest, parse_digest
from regstore.transfer.contents import Contents, Tag, encode_contents
from support.examples import examples

DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32).map(Digest),
    st.binary(min_size=64, max_size=64).map(lambda raw: parse_digest(f"sha512:{raw.hex()}")),
)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)


@st.composite
def contents(draw: st.DrawFn, name: str) -> Contents:
    """The links of a repository."""
    layers = draw(st.lists(DIGESTS, max_size=4, unique=True))
    tags = draw(st.dictionaries(TAGS, st.builds(Tag, DIGESTS, st.integers(0, 2**62)), max_size=3))
    return Contents(
        name,
        layers={path: draw(st.sampled_from([path, *layers])) for path in layers},
        revisions=draw(st.lists(DIGESTS, max_size=3)),
        signatures=draw(st.dictionaries(DIGESTS, st.lists(DIGESTS, min_size=1, max_size=2), max_size=1)),
        tags=tags,
        indexes={tag: draw(st.lists(DIGESTS, min_size=1, max_size=3)) for tag in tags},
    )


def head_of(**fields: object) -> Head:
    """Make a head."""
    head = Head(
        "1a2b3c4d", 7, 1_700_000_000.25, "file:///srv", True, 1, 2, 3, 4, 5, 6, 7, 8, {"uid": 1}, [], [], "1.0", "host"
    )
    return dataclasses.replace(head, **fields)  # type: ignore[arg-type]


SNAPSHOT = Snapshot(
    head_of(),
    {"app": encode_contents(Contents("app", revisions=[Digest(bytes(32))], tags={"v1": Tag(Digest(bytes(32)), 5)}))},
    encode_blobs({Digest(bytes(32)): 10}),
)


@given(st.data(), st.dictionaries(DIGESTS, st.integers(0, 2**40), max_size=5))
@examples(60)
def test_a_snapshot_comes_back(data: st.DataObject, blobs: dict[Digest, int]) -> None:
    stored = {name: data.draw(contents(name)) for name in ("app", "app/web", "z")}
    lines = {name: encode_contents(one) for name, one in stored.items()}

    found = parse_snapshot(Snapshot(head_of(findings=[{"id": "x"}]), lines, encode_blobs(blobs)).encode())

    assert found.head == head_of(findings=[{"id": "x"}])
    assert found.blobs() == blobs
    assert list(found.iter_contents()) == [stored[name] for name in sorted(stored)]
    assert found.has("app/web")
    assert not found.has("app/we")


def test_an_empty_snapshot_comes_back() -> None:
    found = parse_snapshot(Snapshot(head_of(), {}, b"").encode())

    assert found.repositories == []
    assert found.blobs() == {}


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    data = SNAPSHOT.encode()
    for position in range(len(data)):
        for bit in (1, 128):
            spoilt = bytearray(data)
            spoilt[position] ^= bit
            try:
                found = parse_snapshot(bytes(spoilt))
            except SnapshotDamagedError:
                continue
            # Some bits of a frame's header mean nothing.
            assert (found.head, found.blobs()) == (SNAPSHOT.head, SNAPSHOT.blobs())
            assert list(found.iter_contents()) == list(SNAPSHOT.iter_contents())


def test_a_truncated_snapshot_is_noticed() -> None:
    data = SNAPSHOT.encode()
    for length in range(len(data)):
        with pytest.raises(SnapshotDamagedError):
            parse_snapshot(data[:length])


def test_a_snapshot_of_another_version_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore.backup.snapshot.VERSION", 2)
    data = SNAPSHOT.encode()
    monkeypatch.undo()

    with pytest.raises(SnapshotDamagedError, match="version 2"):
        parse_snapshot(data)


def test_plain_tools_read_it() -> None:
    done = subprocess.run(["zstd", "-dc"], input=SNAPSHOT.encode(), capture_output=True, check=True)

    lines = done.stdout.decode().splitlines()
    assert lines[1:-1] == [
        '["repository", "app"]',
        f'["revision", "sha256:{"0" * 64}"]',
        f'["tag", "v1", "sha256:{"0" * 64}", 5]',
        f'["blob", "sha256:{"0" * 64}", 10]',
    ]


def test_names_of_files_sort_in_the_order_made_whatever_the_clock_says() -> None:
    late, early = head_of(sequence=9, created_at=2e9), head_of(sequence=10, created_at=1e9)

    assert late.name < early.name

"""The packed form of what a manifest reaches."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import Digest, pack_digest
from regstore.manifest import FOREIGN, IS_MANIFEST, Kind, Manifest, Role
from regstore.record import Record, encode_record, parse_record, record_of

SHORT = st.binary(min_size=32, max_size=32).map(Digest)
LONG = st.binary(min_size=64, max_size=64).map(lambda raw: pack_digest("sha512", raw.hex()))
DIGESTS = SHORT | LONG
FLAGS = st.tuples(st.sampled_from(Role), st.sampled_from([0, FOREIGN]), st.sampled_from([0, IS_MANIFEST])).map(sum)
ROWS = st.lists(st.tuples(DIGESTS, st.integers(-1, (1 << 63) - 1), FLAGS), max_size=8)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests with references of every kind of digest."""
    rows = draw(ROWS)
    columns = tuple(zip(*rows, strict=True)) if rows else ((), (), ())
    return Manifest(draw(st.sampled_from(Kind)), *columns, draw(st.none() | DIGESTS))


@given(manifests(), st.integers(0, 4 << 20))
def test_a_record_keeps_all_and_survives_being_stored(manifest: Manifest, size: int) -> None:
    record = record_of(manifest, size)

    rows = list(zip(manifest.digests, manifest.sizes, manifest.flags, strict=True))
    assert sorted(record.iter_references()) == sorted(rows)
    assert (record.kind, record.size, record.subject) == (manifest.kind, size, manifest.subject)
    assert parse_record(encode_record(record)) == record


@given(manifests(), st.integers(0, 4 << 20), st.data())
def test_damaged_bytes_are_an_error_or_another_record(manifest: Manifest, size: int, data: st.DataObject) -> None:
    encoded = encode_record(record_of(manifest, size))
    position = data.draw(st.integers(0, len(encoded) - 1))
    for damaged in (encoded[:position], encoded[:position] + b"\xff" + encoded[position + 1 :]):
        try:
            parsed = parse_record(damaged)
        except (struct.error, ValueError):
            continue
        assert isinstance(parsed, Record)


@given(st.lists(st.tuples(SHORT, st.integers(-1, 99), FLAGS), max_size=8), st.data())
def test_a_cut_record_of_short_digests_is_an_error(rows: list[tuple[Digest, int, int]], data: st.DataObject) -> None:
    columns = tuple(zip(*rows, strict=True)) if rows else ((), (), ())
    encoded = encode_record(record_of(Manifest(Kind.OCI_MANIFEST, *columns, None), 1))
    cut = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises((struct.error, ValueError)):
        parse_record(encoded[:cut])


def test_the_stored_form_is_as_documented() -> None:
    digest = Digest(bytes(range(32)))
    record = record_of(Manifest(Kind.SCHEMA2, (digest,), (7,), (Role.LAYER.value,), None), 99)

    encoded = encode_record(record)

    assert len(encoded) == 14 + 41
    assert encoded == bytes([2, 0]) + struct.pack(">III", 1, 99, 0) + digest + struct.pack(">qB", 7, 1)

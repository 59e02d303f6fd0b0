"""Packs: there and back, by plain tools too, and every damage is noticed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.backup.pack import (
    MAX_COUNT,
    TAIL_BYTES,
    Pack,
    PackDamagedError,
    PackIndex,
    PackWriter,
    iter_index,
    parse_tail,
    read_frame,
    read_member,
)
from regstore.digest import Digest
from support.examples import examples


def pack_of(blobs: list[bytes]) -> Pack:
    """Make a pack."""
    writer = PackWriter()
    for data in blobs:
        writer.add(Digest(hashlib.sha256(data).digest()), data)
    return writer.finish()


def blobs_of(pack: Pack) -> dict[bytes, bytes]:
    """Read every blob of a pack through its index."""
    found = {}
    for digest, place in iter_index(parse_tail(pack.data[-TAIL_BYTES:])):
        frame = pack.data[place.frame_offset : place.frame_offset + place.frame_length]
        found[bytes(digest)] = read_member(read_frame(frame), place)
    return found


@given(st.lists(st.binary(max_size=3000), max_size=40, unique=True))
@examples(50)
def test_blobs_come_back(blobs: list[bytes]) -> None:
    pack = pack_of(blobs)

    assert blobs_of(pack) == {hashlib.sha256(data).digest(): data for data in blobs}
    assert pack.name == hashlib.sha256(pack.data).hexdigest()


def test_a_pack_of_many_frames_comes_back() -> None:
    blobs = [bytes([number % 251]) * (number * 200) + number.to_bytes(4, "big") for number in range(300)]
    pack = pack_of(blobs)

    assert len({place.frame_offset for _, place in iter_index(pack.rows)}) > 5
    assert blobs_of(pack) == {hashlib.sha256(data).digest(): data for data in blobs}


@pytest.mark.parametrize("blobs", [[], [b""], [b"a", b"", b"x" * 512, b"y" * 60_000]], ids=["none", "empty", "several"])
def test_plain_tools_unpack_it(tmp_path: Path, blobs: list[bytes]) -> None:
    (tmp_path / "pack").write_bytes(pack_of(blobs).data)

    subprocess.run("zstd -dc pack | tar -x", shell=True, cwd=tmp_path, check=True, capture_output=True)

    found = {path.name: path.read_bytes() for path in tmp_path.glob("sha256/*/*")}
    assert found == {hashlib.sha256(data).hexdigest(): data for data in blobs}
    assert all(path.parent.name == path.name[:2] for path in tmp_path.glob("sha256/*/*"))


def test_a_flipped_bit_anywhere_is_noticed_by_the_name() -> None:
    pack = pack_of([b"one", b"two" * 100])
    for position in range(len(pack.data)):
        spoilt = bytearray(pack.data)
        spoilt[position] ^= 1

        assert hashlib.sha256(spoilt).hexdigest() != pack.name
        damaged = pack._replace(data=bytes(spoilt))
        try:
            found = blobs_of(damaged)
        except PackDamagedError:
            continue
        assert all(hashlib.sha256(data).digest() == digest for digest, data in found.items())


@pytest.mark.parametrize("length", [0, 1, 15, 16, 100])
def test_a_truncated_pack_has_no_index(length: int) -> None:
    with pytest.raises(PackDamagedError):
        parse_tail(pack_of([b"one", b"two"]).data[:length])


def test_a_pack_is_full_after_so_many_blobs() -> None:
    writer = PackWriter()
    assert writer.is_empty
    for number in range(MAX_COUNT):
        assert not writer.is_full
        data = number.to_bytes(4, "big")
        writer.add(Digest(hashlib.sha256(data).digest()), data)
    assert writer.is_full

    pack = writer.finish()

    assert writer.is_empty
    assert len(parse_tail(pack.data[-TAIL_BYTES:])) == 48 * MAX_COUNT


def test_an_index_over_several_packs() -> None:
    first, second = pack_of([b"a", b"b"]), pack_of([b"b", b"ccc"])
    index = PackIndex()
    for pack in (first, second):
        index.add(pack.name, pack.rows)
    a, b, c = (Digest(hashlib.sha256(data).digest()) for data in (b"a", b"b", b"ccc"))

    assert index.digests() == {a, b, c}
    assert index.sizes() == {a: 1, b: 1, c: 3}
    assert (index.get(a).pack, index.get(c).pack) == (first.name, second.name)  # type: ignore[union-attr]
    assert set(index.digests_of(second.name)) == {b, c}
    assert index.get(Digest(bytes(32))) is None

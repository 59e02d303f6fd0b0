"""What a manifest reaches, packed: the form in which references are marked through and remembered.

A record is 14 bytes of header (kind, length of the subject, count of references, size of the manifest in bytes, count
of other references), the subject, and 41 bytes a reference (digest, size, flags). References that are not SHA-256
follow as length, text, size, flags. Big endian. `FORMAT` changes with the form; the state database drops records of
another.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import Digest
from regstore.manifest import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.manifest import Manifest

FORMAT = 1

_HEADER = struct.Struct(">BBIII")
_REFERENCE = struct.Struct(">32sqB")
_LONG = struct.Struct(">BqB")


class Record(NamedTuple):
    """A manifest's references in packed form."""

    kind: Kind
    size: int
    subject: Digest | None
    packed: bytes
    others: tuple[tuple[Digest, int, int], ...]

    def iter_references(self) -> Iterator[tuple[Digest, int, int]]:
        """Yield (digest, size in bytes or -1, flags) of each reference."""
        yield from _REFERENCE.iter_unpack(self.packed)
        yield from self.others


def record_of(manifest: Manifest, size: int) -> Record:
    """Pack a decoded manifest of `size` bytes."""
    rows = zip(manifest.digests, manifest.sizes, manifest.flags, strict=True)
    if not set(map(len, manifest.digests)) - {32}:
        packed = _references(len(manifest.digests)).pack(*chain.from_iterable(rows))
        return Record(manifest.kind, size, manifest.subject, packed, ())
    short = bytearray()
    others = []
    for row in rows:
        if len(row[0]) == 32:
            short += _REFERENCE.pack(*row)
        else:
            others.append(row)
    return Record(manifest.kind, size, manifest.subject, bytes(short), tuple(others))


@lru_cache(maxsize=128)
def _references(count: int) -> struct.Struct:
    return struct.Struct(">" + _REFERENCE.format[1:] * count)


def encode_record(record: Record) -> bytes:
    """Return the stored form."""
    subject = record.subject or b""
    count = len(record.packed) // _REFERENCE.size
    parts = [_HEADER.pack(record.kind, len(subject), count, record.size, len(record.others)), subject, record.packed]
    for digest, size, flags in record.others:
        parts += [_LONG.pack(len(digest), size, flags), digest]
    return b"".join(parts)


def parse_record(data: bytes) -> Record:
    """Read the stored form.

    Raises:
        struct.error, ValueError: it is damaged.
    """
    kind, subject_length, count, size, other_count = _HEADER.unpack_from(data)
    start = _HEADER.size + subject_length
    end = start + count * _REFERENCE.size
    subject = Digest(data[_HEADER.size : start]) if subject_length else None
    others: list[tuple[Digest, int, int]] = []
    position = end
    for _ in range(other_count):
        length, other_size, flags = _LONG.unpack_from(data, position)
        position += _LONG.size
        others.append((Digest(data[position : position + length]), other_size, flags))
        position += length
    if position != len(data):
        raise ValueError("a record of the wrong length")
    return Record(Kind(kind), size, subject, data[start:end], tuple(others))

"""What a manifest reaches, packed: the form in which references are marked through and remembered.

A record is 14 bytes of header (kind, length of the subject, count of references, size of the manifest in bytes, count
of other references), the subject, and 41 bytes a reference (digest, size, flags). References that are not SHA-256
follow as length, text, size, flags. Big endian. `FORMAT` changes with the form; the state database drops records of
another.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import Digest
from regstore.manifest import Kind, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
FOREIGN = 0x10
IS_MANIFEST = 0x20

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
    packed = bytearray()
    others: list[tuple[Digest, int, int]] = []
    for digest, length, role, is_foreign, is_manifest in manifest.references:
        flags = role | (FOREIGN if is_foreign else 0) | (IS_MANIFEST if is_manifest else 0)
        if len(digest) == 32:
            packed += _REFERENCE.pack(digest, length, flags)
        else:
            others.append((digest, length, flags))
    return Record(manifest.kind, size, manifest.subject, bytes(packed), tuple(others))


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
    others: tuple[tuple[Digest, int, int], ...] = ()
    if other_count:
        position = end
        for _ in range(other_count):
            length, other_size, flags = _LONG.unpack_from(data, position)
            position += _LONG.size
            others += ((Digest(data[position : position + length]), other_size, flags),)
            position += length
    elif len(data) != end:
        raise ValueError("a record of the wrong length")
    return Record(Kind(kind), size, subject, data[start:end], others)

"""The file that remembers what is in a layer.

Magic and version; a zstd frame of blocks, each a count, the size of its names, fixed records, then the names; four sums
and an XXH3-64 of all before it.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash
import zstandard

from regstore.report.chunks import iter_chunks
from regstore.report.tarstream import Kind, iter_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PATH_BYTES = 4096
"""Of a path that are remembered: no system opens a longer one."""
_MAGIC = b"rscont\0\x02"
"""With the version as its last byte."""
_BLOCK = struct.Struct("<II")
RECORD = struct.Struct("<24sQ")
"""A content (XXH3-128 and size: what makes it another one) and the hash of its directory."""
_NAME = struct.Struct("<H")
_SUMS = struct.Struct("<QQQQ")
_CHECKSUM = struct.Struct("<Q")
_BLOCK_RECORDS = 4096
_BLOCK_NAME_BYTES = 1 << 20


class Sums(NamedTuple):
    """What a layer's file says in total: files with hard links, their bytes, and the contents recorded.

    `fingerprint` is the same for layers with the same paths and contents, in whatever order and with whatever times.
    """

    item_count: int
    size_bytes: int
    record_count: int
    fingerprint: int


class LayerFileWriter:
    """Writes the file of a layer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hasher = xxhash.xxh3_64()
        self._compressor = zstandard.ZstdCompressor(level=1).compressobj()
        self._put(_MAGIC)
        self._fixed = bytearray()
        self._names = bytearray()
        self._count = self._size_bytes = self._record_count = self._fingerprint = 0

    def __enter__(self) -> LayerFileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write_files(self, pieces: Iterable[bytes]) -> None:
        """Record the files of a tar archive."""
        for path, kind, size, digest in iter_entries(pieces):
            if kind is Kind.REGULAR:
                name = path[:_PATH_BYTES]
                self._record(digest, size, xxhash.xxh3_64_intdigest(name.rpartition(b"/")[0]), name)
            elif kind is Kind.HARD_LINK:
                self._count += 1

    def write_chunks(self, pieces: Iterable[bytes]) -> None:
        """Record the chunks of any bytes."""
        for size, digest in iter_chunks(pieces):
            self._record(digest, size, 0, b"")

    def _record(self, digest: bytes, size: int, directory: int, name: bytes) -> None:
        self._count += 1
        self._size_bytes += size
        self._record_count += 1
        self._fingerprint += xxhash.xxh3_64_intdigest(name + digest)
        self._fixed += RECORD.pack(digest + size.to_bytes(8, "little"), directory)
        self._names += _NAME.pack(len(name)) + name
        if len(self._fixed) >= _BLOCK_RECORDS * RECORD.size or len(self._names) >= _BLOCK_NAME_BYTES:
            self._flush()

    def _flush(self) -> None:
        head = _BLOCK.pack(len(self._fixed) // RECORD.size, len(self._names))
        self._put(self._compressor.compress(b"".join((head, self._fixed, self._names))))
        self._fixed.clear()
        self._names.clear()

    def finish(self) -> None:
        """Complete the file."""
        if self._fixed:
            self._flush()
        self._flush()  # an empty block ends the frame: its reader would try to read on in what follows
        fingerprint = self._fingerprint % (1 << 64)
        self._put(self._compressor.flush())
        self._put(_SUMS.pack(self._count, self._size_bytes, self._record_count, fingerprint))
        self._file.write(_CHECKSUM.pack(self._hasher.intdigest()))
        self._file.close()

    def _put(self, data: bytes) -> None:
        self._hasher.update(data)
        self._file.write(data)


def load_sums(path: Path) -> Sums | None:
    """Return the sums of a layer's file when it is whole; None when it is not, or not there."""
    hasher = xxhash.xxh3_64()
    try:
        with path.open("rb") as file:
            left = file.seek(0, os.SEEK_END) - _CHECKSUM.size
            if left < len(_MAGIC) + _SUMS.size:
                return None
            file.seek(0)
            tail = b""
            while left:
                data = file.read(min(left, 1 << 20))
                if not data:
                    return None
                if not tail and not data.startswith(_MAGIC):
                    return None
                left -= len(data)
                hasher.update(data)
                tail = (tail + data)[-_SUMS.size :]
            if file.read() != _CHECKSUM.pack(hasher.intdigest()):
                return None
    except OSError:
        return None
    return Sums(*_SUMS.unpack(tail))


def iter_blocks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fixed records and the names of each block of a layer's file that was found whole."""
    with path.open("rb") as file:
        file.seek(len(_MAGIC))
        reader = zstandard.ZstdDecompressor().stream_reader(file, closefd=False)
        while (head := _BLOCK.unpack(_read_exactly(reader, _BLOCK.size))) != (0, 0):
            count, name_bytes = head
            yield _read_exactly(reader, count * RECORD.size), _read_exactly(reader, name_bytes)


def iter_files(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield path and size of the files of a layer's file that was found whole."""
    for fixed, names in iter_blocks(path):
        at = 0
        for content, _ in RECORD.iter_unpack(fixed):
            start = at + _NAME.size
            at = start + _NAME.unpack_from(names, at)[0]
            yield names[start:at], int.from_bytes(content[16:], "little")


def _read_exactly(reader: Any, size: int) -> bytes:
    parts = []
    while size and (data := reader.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def read_names(path: Path, wanted: set[int]) -> dict[int, bytes]:
    """Return the names of some records of a layer's file by their numbers."""
    found: dict[int, bytes] = {}
    number = 0
    for fixed, names in iter_blocks(path):
        count = len(fixed) // RECORD.size
        if any(number <= one < number + count for one in wanted):
            at = 0
            for index in range(number, number + count):
                start = at + _NAME.size
                at = start + _NAME.unpack_from(names, at)[0]
                if index in wanted:
                    found[index] = names[start:at]
        number += count
        if len(found) == len(wanted):
            break
    return found

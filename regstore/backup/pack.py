"""Packs: many small blobs in one immutable object that plain tools can unpack.

A pack is a tar archive, compressed as a row of zstd frames of about 256 KiB each; a member is `sha256/ab/<hex>`, as a
blob lies below `blobs/`. After the frame with the end of the archive comes a skippable frame (RFC 8878, 3.1.2), which
decompressors pass over: 48 bytes a blob (digest, offset and length of its frame in the pack, offset and size in the
decompressed frame) and a trailer (count, CRC-32 of the rows, mark). `zstd -dc PACK | tar -x` needs none of that. The
name of a pack is the SHA-256 of its bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

import zstandard

from regstore.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView

SMALL_BYTES = 64 * 1024
"""Blobs up to that size are packed."""
MAX_COUNT = 4096
MAX_BYTES = 16 * 1024 * 1024
"""A pack ends at that many blobs, or compressed bytes."""
TAIL_BYTES = 64 + MAX_COUNT * 48
"""The index and trailer of a pack lie in its last bytes, so many at most."""

_FRAME_BYTES = 256 * 1024
_LEVEL = 3
_ROW = struct.Struct("<32sIIII")
_TRAILER = struct.Struct("<II8s")
_MARK = b"regstore"
_SKIPPABLE = struct.Struct("<II")
_SKIPPABLE_MAGIC = 0x184D2A5E
_BLOCK = 512
_END_OF_ARCHIVE = bytes(2 * _BLOCK)
_DIRECTORY = "sha256"


class PackDamagedError(ValueError):
    """The bytes are no pack, or not what they were."""


class Place(NamedTuple):
    """Where a blob lies in a pack: the compressed frame (offset and length in bytes), and in what it decompresses to
    the offset and size."""

    frame_offset: int
    frame_length: int
    offset: int
    size: int


class Pack(NamedTuple):
    """A finished pack: its name (64 hexadecimal digits), its bytes, and its packed index (`rows`)."""

    name: str
    data: bytes
    rows: bytes


class PackWriter:
    """Collects blobs until a pack is full."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, write_checksum=True)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._begin()

    def _begin(self) -> None:
        self._done = bytearray()
        self._frame = bytearray()
        self._in_frame: list[tuple[Digest, int, int]] = []
        self._rows: list[bytes] = []

    @property
    def is_full(self) -> bool:
        """Whether the pack should be finished."""
        return len(self._rows) + len(self._in_frame) >= MAX_COUNT or len(self._done) >= MAX_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added."""
        return not self._rows and not self._in_frame

    def add(self, digest: Digest, data: bytes) -> None:
        """Add a blob whose bytes were found to hash to its SHA-256 digest."""
        self._frame += _member_header(digest.hex(), len(data))
        self._in_frame.append((digest, len(self._frame), len(data)))
        self._frame += data
        self._frame += bytes(-len(data) % _BLOCK)
        if len(self._frame) >= _FRAME_BYTES:
            self._end_frame()

    def finish(self) -> Pack:
        """Return the pack; the next one is begun."""
        self._end_frame()
        self._done += self._compressor.compress(_END_OF_ARCHIVE)
        rows = b"".join(self._rows)
        payload = rows + _TRAILER.pack(len(self._rows), zlib.crc32(rows), _MARK)
        self._done += _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(payload)) + payload
        data = bytes(self._done)
        self._begin()
        return Pack(hashlib.sha256(data).hexdigest(), data, rows)

    def _end_frame(self) -> None:
        if not self._in_frame:
            return
        compressed = self._compressor.compress(bytes(self._frame))
        for digest, offset, size in self._in_frame:
            self._rows.append(_ROW.pack(digest, len(self._done), len(compressed), offset, size))
        self._done += compressed
        self._frame.clear()
        self._in_frame.clear()


def parse_tail(tail: bytes) -> bytes:
    """Return the packed index from the last `TAIL_BYTES` (or all) bytes of a pack.

    Raises:
        PackDamagedError: they are not the end of a pack.
    """
    if len(tail) < _TRAILER.size:
        raise PackDamagedError("it is too short for a pack")
    count, checksum, mark = _TRAILER.unpack(tail[-_TRAILER.size :])
    length = count * _ROW.size
    rows = tail[-_TRAILER.size - length : -_TRAILER.size]
    if mark != _MARK or len(rows) != length or zlib.crc32(rows) != checksum:
        raise PackDamagedError("its index is damaged")
    return rows


def iter_index(index: bytes) -> Iterator[tuple[Digest, Place]]:
    """Yield digest and place of each blob of a packed index."""
    for digest, *place in _ROW.iter_unpack(index):
        yield Digest(digest), Place(*place)


class Packed(NamedTuple):
    """Where a packed blob lies: the name of the pack, and the place in it."""

    pack: str
    place: Place


class PackIndex:
    """Where packed blobs lie: the indexes of many packs, without an object for each blob."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[bytes] = []
        self._where: dict[Digest, int] = {}

    def add(self, name: str, rows: bytes) -> None:
        """Take the packed index of a pack."""
        base = len(self._names) * MAX_COUNT
        self._names.append(name)
        self._rows.append(rows)
        self._where.update(zip(_digests_of(rows), range(base, base + len(rows) // _ROW.size), strict=True))

    def __contains__(self, digest: object) -> bool:
        return digest in self._where

    def __len__(self) -> int:
        return len(self._where)

    def digests(self) -> KeysView[Digest]:
        """Return all digests."""
        return self._where.keys()

    def digests_of(self, name: str) -> list[Digest]:
        """Return the digests in a pack."""
        return _digests_of(self._rows[self._names.index(name)])

    def sizes(self) -> dict[Digest, int]:
        """Return digest to bytes of all blobs."""
        sizes: dict[Digest, int] = {}
        for rows in self._rows:
            sizes.update(zip(_digests_of(rows), [row[4] for row in _ROW.iter_unpack(rows)], strict=True))
        return sizes

    def get(self, digest: Digest) -> Packed | None:
        """Return where a blob lies, or None."""
        where = self._where.get(digest)
        if where is None:
            return None
        pack, row = divmod(where, MAX_COUNT)
        _, *place = _ROW.unpack_from(self._rows[pack], row * _ROW.size)
        return Packed(self._names[pack], Place(*place))


def _digests_of(rows: bytes) -> list[Digest]:
    return cast("list[Digest]", [rows[i : i + 32] for i in range(0, len(rows), _ROW.size)])


def read_frame(data: bytes) -> bytes:
    """Return what a compressed frame holds.

    Raises:
        PackDamagedError: it is damaged.
    """
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=4 * _FRAME_BYTES)
    except zstandard.ZstdError as error:
        raise PackDamagedError(f"a frame cannot be decompressed: {error}") from error


def read_member(plain: bytes, place: Place) -> bytes:
    """Return a blob from what its frame holds. The caller hashes it.

    Raises:
        PackDamagedError: the frame is shorter than the index says.
    """
    data = plain[place.offset : place.offset + place.size]
    if len(data) != place.size:
        raise PackDamagedError("a frame is shorter than its index says")
    return data


def _member_header(digits: str, size: int) -> bytes:
    """Return a ustar header (POSIX.1-2017, pax, "ustar Interchange Format") of a regular file of mode 0644."""
    header = bytearray(_BLOCK)
    name = f"{_DIRECTORY}/{digits[:2]}/{digits}".encode()
    header[: len(name)] = name
    header[100:156] = b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00        " % size
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header)

"""Layers as the plain bytes of their archives, in pieces of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

try:
    from isal import isal_zlib as codec  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    import zlib as codec

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 1024 * 1024
_PACKED_BYTES = 64 * 1024
"""Compressed bytes at once: what follows a gzip member is copied at its end, and seekable layers have many members."""
WINDOW_BYTES = 1 << 29
"""The largest zstd window that containerd takes; a decoder needs as much memory."""
LAYER_TYPES = frozenset(
    base + packing
    for base, packings in (
        ("application/vnd.docker.image.rootfs.diff.tar", ("", ".gzip", ".zstd")),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", ("", ".gzip", ".zstd")),
        ("application/vnd.oci.image.layer.v1.tar", ("", "+gzip", "+zstd")),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", ("", "+gzip", "+zstd")),
    )
    for packing in packings
)
"""The media types of tar archives, packed or not. Exactly these: an encrypted layer (`...tar+gzip+encrypted`) is none
that can be decompressed."""
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16))


class UndecodableError(Exception):
    """The bytes cannot be decompressed. The message says why."""


def iter_plain(stream: BinaryIO, window_bytes: int = WINDOW_BYTES) -> Iterator[bytes]:
    """Yield the decompressed bytes of a layer in pieces of bounded size, gzip and zstd told by their first bytes.

    Args:
        stream: the stored bytes.
        window_bytes: zstd data that need a larger window, and so more memory, are not decompressed.

    Raises:
        UndecodableError: damaged, or (of gzip data; cut zstd data are just other ones) cut off, or of too large a
            window.
    """
    first = stream.read(_PACKED_BYTES)
    if first.startswith(_GZIP):
        yield from _iter_gzip(stream, first)
    elif first.startswith((_ZSTD, *_ZSTD_SKIPPABLE)):
        yield from _iter_zstd(stream, first, window_bytes)
    else:
        while first:
            yield first
            first = stream.read(_PIECE_BYTES)


def _iter_gzip(stream: BinaryIO, data: bytes) -> Iterator[bytes]:
    decoder = codec.decompressobj(31)
    try:
        while data:
            yield decoder.decompress(data, _PIECE_BYTES)
            data = decoder.unconsumed_tail
            if decoder.eof:
                data = _next_member(stream, decoder.unused_data)
                if not data:
                    return
                decoder = codec.decompressobj(31)
            elif not data:
                data = stream.read(_PACKED_BYTES)
    except codec.error as error:
        raise UndecodableError(f"no gzip data: {error}") from error
    raise UndecodableError("the gzip data are cut off")


def _next_member(stream: BinaryIO, rest: bytes) -> bytes:
    """Return what follows a member: members on end are one layer. Zeros after the last are what tapes leave."""
    rest = rest.lstrip(b"\0")
    while not rest:
        piece = stream.read(_PACKED_BYTES)
        if not piece:
            return b""
        rest = piece.lstrip(b"\0")
    return rest


def _iter_zstd(stream: BinaryIO, data: bytes, window_bytes: int) -> Iterator[bytes]:
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=window_bytes).stream_reader(
            cast("BinaryIO", _Rest(data, stream)), read_across_frames=True, closefd=False
        )
        while piece := reader.read(_PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise UndecodableError(f"no zstd data: {error}") from error


class _Rest:
    """A stream whose first bytes were read already."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int) -> bytes:
        if self._first:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return self._stream.read(size)

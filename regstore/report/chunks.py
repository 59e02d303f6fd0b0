"""Content-defined chunks: where a chunking backup or store would cut a layer. Needs the extra `chunk`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xxhash

from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AVERAGE_BYTES = 64 * 1024
"""The size that FastCDC aims at; chunks are between a quarter and four times of it."""


def iter_chunks(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield size in bytes and XXH3-128 of each chunk.

    Args:
        pieces: the plain bytes, in pieces of any size.

    Raises:
        UsageError: the extra is not installed.
    """
    cutter = load_cutter()(AVERAGE_BYTES)
    for chunk in cutter.cut_stream(_Stream(pieces)):
        yield chunk.length, xxhash.xxh3_128_digest(chunk.data)


def load_cutter() -> Any:
    """Return the class that cuts.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        from pyfastcdc import FastCDC  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise UsageError(
            "chunks need the package pyfastcdc, which is not installed", hint="pip install 'regstore[chunk]'"
        ) from None
    return FastCDC


class _Stream:
    """Pieces as a stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; return how many bytes came, 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

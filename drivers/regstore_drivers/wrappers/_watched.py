"""Streams and sources whose bytes are reported as they pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, cast

from regstore_drivers.content import open_source
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore_drivers.base import Source


class _Watched(PieceStream):
    """Hands reads on one for one, so that nothing is read ahead that nobody asked for."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stream = stream
        self._on_bytes = on_bytes

    def read_piece(self, size: int) -> bytes:
        piece = self._stream.read(size)
        if piece:
            self._on_bytes(len(piece))
        return piece

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def watch_stream(stream: BinaryIO, on_bytes: Callable[[int], None]) -> BinaryIO:
    """Return a stream that gives what `stream` gives, and calls `on_bytes` with the size of every read."""
    return cast("BinaryIO", _Watched(stream, on_bytes))


def watch_source(source: Source, on_bytes: Callable[[int], None]) -> Source:
    """Return a source that gives what `source` gives, and calls `on_bytes` with the size of every read."""
    return lambda: watch_stream(open_source(source), on_bytes)

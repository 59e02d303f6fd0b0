"""Streams and sources whose bytes are reported as they pass."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore_drivers.base import Source


class _Watched(io.RawIOBase):
    """Hands reads on one for one, so that nothing is read ahead that nobody asked for."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stream = stream
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        if data:
            self._on_bytes(len(data))
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view:
            data = self.read(len(view))
            view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def watch_stream(stream: BinaryIO, on_bytes: Callable[[int], None]) -> BinaryIO:
    """Return a stream that gives what `stream` gives, and calls `on_bytes` with the size of every read."""
    return cast("BinaryIO", _Watched(stream, on_bytes))


def watch_source(source: Source, on_bytes: Callable[[int], None]) -> Source:
    """Return a source that gives what `source` gives, and calls `on_bytes` with the size of every read."""
    return lambda: watch_stream(io.BytesIO(source) if isinstance(source, bytes) else source(), on_bytes)

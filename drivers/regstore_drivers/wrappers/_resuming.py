"""A stream that is opened again where it broke."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from regstore_drivers.errors import DriverError
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from regstore_drivers.wrappers._patience import Patience

PIECE_BYTES = 256 * 1024
"""How much is asked for at a time, and so lost at most when a stream breaks."""


class Resuming(PieceStream):
    """The bytes of an object from streams that may break.

    Args:
        stream: the first stream, which it closes.
        open_at: opens another one at an offset, over so many bytes (None: to the end).
        offset: where the first one began.
        length: how many bytes it has, or None.
        new_patience: makes the patience of one read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        open_at: Callable[[int, int | None], BinaryIO],
        offset: int,
        length: int | None,
        new_patience: Callable[[], Patience],
    ) -> None:
        self._stream: BinaryIO | None = stream
        self._open_at = open_at
        self._offset = offset
        self._left = length
        self._new_patience = new_patience

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            DriverError: the storage did not recover.
        """
        if self._left == 0:
            return b""
        piece = self._read(min(size, PIECE_BYTES))
        self._offset += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def _read(self, size: int) -> bytes:
        patience = self._new_patience()
        while True:
            try:
                if self._stream is None:
                    self._stream = self._open_at(self._offset, self._left)
                return self._stream.read(size)
            except DriverError as error:
                self._drop()
                patience.wait(error)

    def _drop(self) -> None:
        if self._stream is not None:
            with suppress(DriverError):
                self._stream.close()
            self._stream = None

    def close(self) -> None:
        """Close the stream that is open now."""
        if not self.closed:
            self._drop()
        super().close()

"""A stream that is opened again where it broke."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from regstore_drivers.errors import DriverError
from regstore_drivers.streams import IntoStream, read_into

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from regstore_drivers.wrappers._patience import Patience

PIECE_BYTES = 256 * 1024
"""How much is asked for at a time, and so lost at most when a stream breaks."""


class Resuming(IntoStream):
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

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as one piece goes, and return how many bytes came; 0 only at the end.

        Raises:
            DriverError: the storage did not recover.
        """
        if self._left == 0:
            return 0
        with memoryview(buffer) as view:
            size = PIECE_BYTES if self._left is None else min(self._left, PIECE_BYTES)
            count = self._read(view[:size])
        self._offset += count
        if self._left is not None:
            self._left -= count
        return count

    def _read(self, view: memoryview) -> int:
        patience = self._new_patience()
        while True:
            try:
                if self._stream is None:
                    self._stream = self._open_at(self._offset, self._left)
                return read_into(self._stream, view)
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

"""Reading into a buffer, and the base of raw streams that are made of pieces."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

_READALL_PIECE_BYTES = 1024 * 1024


def read_into(stream: BinaryIO, buffer: memoryview) -> int:
    """Fill a buffer, or a part of it, and return how many bytes came; 0 only at the end.

    Every binary stream of the module `io` has `readinto`; the type BinaryIO does not know it.
    """
    count: int = stream.readinto(buffer)  # type: ignore[attr-defined]
    return count


class IntoStream(io.RawIOBase):
    """A readable raw stream made of one method, `readinto`."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readall(self) -> bytes:
        """Return all that is left."""
        return b"".join(iter(lambda: self.read(_READALL_PIECE_BYTES), b""))


class PieceStream(IntoStream):
    """A readable raw stream made of one method, `read_piece`."""

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            DriverError: the storage failed; ShortRead when it ended too early.
        """
        raise NotImplementedError

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes; all that is left when it is negative or None."""
        if self.closed:
            raise ValueError("read of a closed stream")
        if size is None or size < 0:
            return self.readall()
        return self.read_piece(size) if size else b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as one piece goes, and return how many bytes came."""
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

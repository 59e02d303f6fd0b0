"""Reading what a caller hands to `write`, while counting and hashing it."""

from __future__ import annotations

import hashlib
import io
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO

from regstore_drivers.errors import DigestMismatch
from regstore_drivers.streams import read_into

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from regstore_drivers.base import Source

PIECE_BYTES = 256 * 1024


def open_source(source: Source) -> BinaryIO:
    """Open what `write` was given as a stream; the caller closes it."""
    return io.BytesIO(source) if isinstance(source, bytes) else source()


def iter_promised(
    source: Source, size: int, digest: str | None, *, key: str, location: str
) -> Iterator[bytes | memoryview]:
    """Yield the content in pieces of at most 256 KiB, and raise at the end unless all of it is what was promised.

    A piece is there until the next one is asked for. Nothing beyond the promised size is yielded. An error of the
    source itself passes through unchanged.

    Args:
        source: the content.
        size: how many bytes it has.
        digest: `algorithm:hex`, or None to count only.
        key: where it is written to, for the error.
        location: the driver's location, for the error.

    Raises:
        DigestMismatch: more, fewer or other bytes came.
        ValueError: the digest is malformed or its algorithm unknown.
    """
    algorithm, _, expected = (digest or "").partition(":")
    if digest is not None and not expected:
        raise ValueError(f"not a digest: {digest!r}")
    hasher = hashlib.new(algorithm) if algorithm else None

    def mismatch(reason: str) -> DigestMismatch:
        return DigestMismatch(reason, operation="write", key=key, location=location)

    count = 0
    pieces = _pieces_of_bytes(source) if isinstance(source, bytes) else _pieces_of_stream(source(), size)
    with closing(pieces):
        for piece in pieces:
            count += len(piece)
            if count > size:
                raise mismatch(f"more than the promised {size} bytes came")
            if hasher:
                hasher.update(piece)
            yield piece
    if count < size:
        raise mismatch(f"{count} bytes came instead of {size}")
    if hasher and hasher.hexdigest() != expected:
        raise mismatch(f"the bytes that came have the digest {algorithm}:{hasher.hexdigest()} instead of {digest}")


def check_promised(content: bytes, size: int, digest: str | None, *, key: str, location: str) -> None:
    """Raise unless content that is in memory is what was promised. See `iter_promised`."""
    for _ in iter_promised(content, size, digest, key=key, location=location):
        pass


def _pieces_of_bytes(content: bytes) -> Generator[memoryview, None, None]:
    view = memoryview(content)
    for start in range(0, len(content), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


def _pieces_of_stream(stream: BinaryIO, size: int) -> Generator[memoryview, None, None]:
    # One buffer for all pieces: to allocate one for each costs the kernel more than to copy it.
    buffer = memoryview(bytearray(min(PIECE_BYTES, size + 1)))
    with stream:
        while count := read_into(stream, buffer):
            yield buffer[:count]

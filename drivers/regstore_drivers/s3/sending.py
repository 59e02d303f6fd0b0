"""The body of a PUT that is read while it is sent."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from botocore.handlers import add_expect_header  # noqa: TID251

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from mypy_boto3_s3 import S3Client

Piece = bytes | memoryview

_HAS_KNOWN_HASH = "regstore_has_known_hash"


class PromisedBody:
    """Content whose SHA-256 is known before it is read; the request is signed with that, and the server checks it.

    Besides, the last piece is held back until all of it was found to be what was promised: of anything else the server
    gets too little, and stores nothing.

    Args:
        open_pieces: begins to read the content from its start; raises at the end unless it is what was promised.
        size: its bytes, one at least.
        sha256: its SHA-256 in hexadecimal.
    """

    def __init__(self, open_pieces: Callable[[], Generator[Piece]], size: int, sha256: str) -> None:
        self._open_pieces = open_pieces
        self._size = size
        self._pieces: Generator[Piece] | None = None
        self._first: Piece = b""
        self.sha256 = sha256

    def __len__(self) -> int:
        return self._size

    def read(self, _: int = -1) -> Piece:
        """Return the next piece, however much was asked for: whoever sends asks for 16 KiB at a time."""
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return next(self._begun(), b"")
        except Exception as error:
            raise _SourceFailedError(error) from error

    def begin(self) -> None:
        """Read the first piece anew, before a request is begun that may not wait for long.

        Raises:
            DigestMismatch: it is all there is, and not what was promised; or what reading raises.
        """
        self.close()
        self._first = next(self._begun())

    def _begun(self) -> Generator[Piece]:
        if self._pieces is None:
            self._pieces = self._hold_last()
        return self._pieces

    def tell(self) -> int:
        """Return the start, which is where a request begins."""
        return 0

    def seek(self, *_: int) -> int:
        """Go back to the start, for another try of the request."""
        self.close()
        return 0

    def close(self) -> None:
        """Close what is being read."""
        self._first = b""
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None

    def _hold_last(self) -> Generator[Piece]:
        left = self._size
        last: Piece = b""
        with closing(self._open_pieces()) as pieces:
            for piece in pieces:
                left -= len(piece)
                if left:
                    yield piece
                else:
                    last = bytes(piece)  # which is there only until the next one is asked for
        yield last


class _SourceFailedError(BaseException):
    """Reading failed. No Exception: boto3 would take it for a failure of the connection, and try again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def raising_source_errors() -> Iterator[None]:
    """Raise what reading a body raised, out of a request."""
    try:
        yield
    except _SourceFailedError as failed:
        raise failed.error from failed.error.__cause__


def use_known_hashes(client: S3Client) -> None:
    """Let a client sign the PUT of a `PromisedBody` with the hash that it tells. Its key must be plain: `is_plain_key`.

    boto3's signer for S3 reads a body to hash it, or, behind TLS, leaves its hash out. The general one takes a hash
    from the headers, and would write keys that are not plain in another way.
    """
    events = client.meta.events
    events.register("before-call.s3.PutObject", _add_hash)
    events.register_first("choose-signer.s3.PutObject", _choose_signer)  # type: ignore[arg-type]
    # With Expect: 100-continue a server that does not know it costs a second for each object.
    events.unregister("before-call.s3", add_expect_header)


def _choose_signer(context: dict[str, Any], **_: Any) -> str | None:
    return "v4" if context.get(_HAS_KNOWN_HASH) else None


def _add_hash(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    if isinstance(params["body"], PromisedBody):
        params["headers"]["X-Amz-Content-SHA256"] = params["body"].sha256
        context[_HAS_KNOWN_HASH] = True

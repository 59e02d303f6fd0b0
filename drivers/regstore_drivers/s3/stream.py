"""The body of an answer as a stream that never ends early without an error."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ReadTimeoutError  # noqa: TID251
from botocore.httpsession import URLLib3SSLError  # type: ignore[attr-defined]  # noqa: TID251

from regstore_drivers.errors import DriverError, ShortRead, Unavailable

if TYPE_CHECKING:
    from botocore.response import StreamingBody  # noqa: TID251

BUFFER_BYTES = 256 * 1024

MakeError = Callable[[type[DriverError], str], DriverError]
"""Makes an error of the given class and reason that names the operation and the key."""


class Body(io.RawIOBase):
    """The next `size` bytes of an answer; reading raises ShortRead or Unavailable (both retryable) when they stop."""

    def __init__(self, body: StreamingBody, size: int, make_error: MakeError) -> None:
        self.size = size
        self._body: Any = body
        self._left = size
        self._make_error = make_error

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as one read goes; 0 only after the last byte."""
        if not self._left:
            return 0
        with memoryview(buffer) as view, view[: self._left] as wanted:
            try:
                count: int = self._body.readinto(wanted)
            except ReadTimeoutError as error:
                raise self._make_error(Unavailable, f"the storage stopped sending: {error}") from error
            except (BotoCoreError, URLLib3SSLError, OSError) as error:
                raise self._short(f": {error}") from error
        if not count:
            raise self._short("")
        self._left -= count
        return count

    def close(self) -> None:
        """Give the connection back, or drop it when there is more to come."""
        if not self.closed:
            self._body.close()
        super().close()

    def _short(self, why: str) -> DriverError:
        return self._make_error(ShortRead, f"the data ended after {self.size - self._left} of {self.size} bytes{why}")

"""What can go wrong in a storage driver.

Every error names the driver, the operation and the key, and says by its traits what a caller may do:
`retryable` (the same call may succeed in a moment) and `retry_after` (seconds the storage asked for).
"""

from __future__ import annotations


class DriverError(Exception):
    """The root of all driver errors: a storage failure that no retry cures unless a subclass says so.

    Args:
        reason: what the storage said, in words for an operator, without credentials.
        operation: the driver method, such as `read`.
        key: the key or prefix concerned.
        location: the driver's `location`, without credentials.
        retry_after: seconds to wait before a retry, when the storage named them.
    """

    retryable = False

    def __init__(
        self,
        reason: str,
        *,
        operation: str = "",
        key: str = "",
        location: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.operation = operation
        self.key = key
        self.location = location
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = f"{self.location.rstrip('/')}/{self.key}" if self.location else self.key
        return f"cannot {self.operation or 'access'} {where!r}: {self.reason}"


class NotFound(DriverError, FileNotFoundError):  # noqa: N818 - the word of the field
    """There is no object of that key (a directory is not an object)."""


class AlreadyExists(DriverError, FileExistsError):  # noqa: N818
    """The destination exists and must not be overwritten."""


class InvalidKey(DriverError, ValueError):  # noqa: N818
    """The key is empty, absolute, or has an empty, `.` or `..` component or a NUL."""


class TooLarge(DriverError):  # noqa: N818
    """The object is larger than the limit of `read`."""


class DigestMismatch(DriverError):  # noqa: N818
    """The bytes that arrived do not have the promised digest or size; nothing took the final name."""


class CopyRefused(DriverError):  # noqa: N818
    """The server may not or cannot copy from the other place by itself; the bytes can still be read and written."""


class PermissionDenied(DriverError, PermissionError):  # noqa: N818
    """The storage refused access (EACCES, EPERM, EROFS, HTTP 401 and 403)."""


class Unreachable(DriverError):  # noqa: N818
    """The endpoint cannot be reached at all: no such host, connection refused, no such bucket."""


class ShortRead(DriverError):  # noqa: N818
    """The stream ended before the promised size."""

    retryable = True


class Unavailable(DriverError):  # noqa: N818
    """The storage is busy or failed for the moment (HTTP 429, 500, 503, time-out, reset)."""

    retryable = True


class ReadOnlyDriver(DriverError):  # noqa: N818
    """A write reached a driver that was opened for reading only: a defect of the caller."""

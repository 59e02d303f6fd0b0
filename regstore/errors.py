"""The errors of regstore: each says what failed, where, why and what to do, and carries its exit code.

Storage failures themselves are `regstore_drivers.errors.DriverError`; the command line ends with 4 on them.
"""

from __future__ import annotations


class RegstoreError(Exception):
    """The root of all errors of this package.

    Attributes:
        code: a stable slug for scripts.
        exit_code: how the command line ends.
        hint: what the operator can do now, or empty.
    """

    code = "error"
    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if code:
            self.code = code


class UsageError(RegstoreError):
    """A wrong argument or configuration: no such path, no registry there, a duration that cannot be parsed."""

    code = "usage"
    exit_code = 2


class RefusedError(RegstoreError):
    """A safety guard refused; nothing was changed."""

    code = "refused"
    exit_code = 3


class StorageFailedError(RegstoreError):
    """The storage or a tool failed; the command stopped and destroyed nothing after it."""

    code = "storage-failed"
    exit_code = 4


class LockedError(RegstoreError):
    """Another run holds the lock of this registry."""

    code = "locked"
    exit_code = 5


class InterruptedRunError(RegstoreError):
    """The operator or the system asked to stop; the journal is flushed and the work can be resumed."""

    code = "interrupted"
    exit_code = 130

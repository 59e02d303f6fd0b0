"""How a run of borg ended, and what that means.

Return codes alone do not tell: 1.2 ends with 1 for a changed file, a missing file and for errors found by `check`
alike. Messages carry ids; whatever is not known is a failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from regstore.errors import LockedError, RefusedError, StorageFailedError, UsageError

_ERRORS = ("ERROR", "CRITICAL")
_MISSING = {"Repository.DoesNotExist", "Repository.InvalidRepository", "Repository.ParentPathDoesNotExist"}
_WRONG_KEY = {
    "PassphraseWrong",
    "NoPassphraseFailure",
    "PasswordRetriesExceeded",
    "PasscommandFailure",
    "KeyfileNotFoundError",
    "RepoKeyNotFoundError",
}
_LOCKED = {"LockTimeout", "LockError"}
_FULL = {"Repository.InsufficientFreeSpaceError", "Repository.StorageQuotaExceeded"}
_FULL_WORDS = ("No space left", "Disk quota exceeded")
_UNREACHABLE = {"ConnectionClosed", "ConnectionClosedWithHint"}
_DAMAGE = {
    "IntegrityError",
    "FileIntegrityError",
    "DecompressionError",
    "ArchiveTAMInvalid",
    "Archive.DoesNotExist",
    "Repository.ObjectNotFound",
}
_DAMAGE_WORDS = re.compile(
    r"integrity error|Object with key|Input/output error|No such file or directory: '[^']*/data/\d+/\d+'", re.IGNORECASE
)
"""Of messages without an id: a segment that is gone is told as a file that is missing, a bad disk as EIO."""

_MODERN = {
    10: "Repository.AlreadyExists",
    13: "Repository.DoesNotExist",
    14: "Repository.InsufficientFreeSpaceError",
    15: "Repository.InvalidRepository",
    17: "Repository.ObjectNotFound",
    18: "Repository.ParentPathDoesNotExist",
    19: "Repository.PathAlreadyExists",
    20: "Repository.StorageQuotaExceeded",
    30: "Archive.AlreadyExists",
    31: "Archive.DoesNotExist",
    42: "KeyfileNotFoundError",
    44: "RepoKeyNotFoundError",
    50: "NoPassphraseFailure",
    51: "PasscommandFailure",
    52: "PassphraseWrong",
    53: "PasswordRetriesExceeded",
    70: "LockError",
    72: "LockFailed",
    73: "LockTimeout",
    80: "ConnectionClosed",
    81: "ConnectionClosedWithHint",
    90: "IntegrityError",
    91: "FileIntegrityError",
    92: "DecompressionError",
    95: "ArchiveTAMInvalid",
}
"""What the codes of borg 1.4 say (docs/internals/frontends.rst, "Message IDs"), for a message that was lost."""


class Message(NamedTuple):
    """One line of borg's log: level, id (or empty) and text."""

    level: str
    id: str
    text: str


@dataclass(slots=True)
class Outcome:
    """How a run of borg ended.

    Attributes:
        code: its return code; negative: the signal that ended it.
        messages: its log.
        output: what it wrote to stdout, unless that was streamed.
    """

    code: int
    messages: list[Message] = field(default_factory=list)
    output: bytes = b""

    @property
    def ids(self) -> set[str]:
        """The ids of its error messages, and what its code says."""
        found = {message.id for message in self.messages if message.id and message.level in _ERRORS}
        if self.code in _MODERN:
            found.add(_MODERN[self.code])
        return found

    @property
    def is_warning(self) -> bool:
        """Whether it ended with a warning, by old codes or new ones."""
        return self.code == 1 or 100 <= self.code <= 127

    @property
    def is_damage(self) -> bool:
        """Whether it ended since data in the repository are damaged or gone."""
        if self.code == 0 or self.is_warning:
            return False
        return bool(self.ids & _DAMAGE or _DAMAGE_WORDS.search(self._log))

    @property
    def text(self) -> str:
        """The messages of errors, or else the last ones; of a traceback the line that says what happened."""
        errors = [_shorten(message.text) for message in self.messages if message.level in _ERRORS]
        last = errors or [_shorten(message.text) for message in self.messages[-3:]]
        return "; ".join(last) or f"it ended with {self.code}"

    @property
    def warnings(self) -> list[str]:
        """The texts of its warnings."""
        return [message.text for message in self.messages if message.level == "WARNING"]

    @property
    def is_full(self) -> bool:
        """Whether it ended since the target is full."""
        return bool(self.ids & _FULL) or any(word in self._log for word in _FULL_WORDS)

    @property
    def _log(self) -> str:
        return "\n".join(message.text for message in self.messages)


def raise_error(outcome: Outcome, location: str, what: str, holders: list[str] | None = None) -> NoReturn:
    """Raise what a failed run means.

    Args:
        outcome: of a run that did not do what it should.
        location: the repository, for the message.
        what: what was tried, such as `list the archives of`.
        holders: who holds its lock, where that can be told.

    Raises:
        UsageError, RefusedError, LockedError, StorageFailedError: as the messages say.
    """
    ids, text = outcome.ids, outcome.text
    if ids & _MISSING:
        raise UsageError(
            f"there is no store at {location}: {text}",
            hint="is its disk mounted? regstore backup init --key-export FILE makes a new one",
            code="store-missing",
        )
    if "Repository.AlreadyExists" in ids:
        raise UsageError(f"there is a store at {location} already", code="store-exists")
    if "Repository.PathAlreadyExists" in ids:
        raise RefusedError(
            f"{location} is not empty", hint="name a directory of the store's own", code="store-not-empty"
        )
    if ids & _WRONG_KEY:
        raise StorageFailedError(
            f"cannot {what} {location}: {text}", hint="see where the passphrase comes from", code="key-wrong"
        )
    if ids & _LOCKED:
        whose = f" ({', '.join(holders)})" if holders else ""
        raise LockedError(
            f"cannot {what} {location}: another run of borg holds its lock{whose}",
            hint=f"wait for it (--lock-wait); if it is dead: regstore backup unlock {location}",
        )
    if outcome.is_full:
        raise StorageFailedError(
            f"cannot {what} {location}: the target is full", hint="prune, or make room; then run again", code="full"
        )
    hint = "see the message of borg"
    if ids & _UNREACHABLE:
        hint = "try ssh to that host by hand, as this user: it must log in without asking, and find borg there"
    elif "access aborted" in text:
        hint = "borg knows it at another place: if it was moved, set BORG_RELOCATED_REPO_ACCESS_IS_OK=yes once"
    raise StorageFailedError(f"cannot {what} {location}: {text}", hint=hint, code="borg-failed")


def _shorten(text: str) -> str:
    """Return the line of a traceback that says what happened; other texts as they are."""
    if "Traceback (most recent call last)" not in text:
        return text
    # borg appends a description of the system; before it the traceback ends with the error.
    lines = [line for line in text.partition("\nPlatform: ")[0].splitlines() if line and not line.startswith(" ")]
    return lines[-1] if lines else text

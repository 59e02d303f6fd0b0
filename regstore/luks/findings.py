"""What a check says, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad it is. Other than those of the registry's checks, these also tell what is well and what nobody knows.

    The order is that of a table with the worst first; UNKNOWN is worse than INFO, because it hides what it could be.
    """

    OK = 0
    INFO = 1
    UNKNOWN = 2
    WARNING = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        """The word of JSON documents and tables."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's word on one subject.

    Attributes:
        id: the check, as in `regstore.luks.catalogue`.
        severity: how bad.
        subject: the device, file, `keyslot N`, `first copy` or `second copy` concerned.
        detail: the evidence.
        repair: the advice; never empty for a warning or worse.
    """

    id: str
    severity: Severity
    subject: str
    detail: str
    repair: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "severity": self.severity.word,
            "subject": self.subject,
            "detail": self.detail,
            "repair": self.repair,
        }

"""Findings: what is not as it should be, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Severity(IntEnum):
    """How bad it is. Warning or worse makes a command end with 1."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """The word of JSON documents and tables."""
        return self.name.lower()


class FindingKind(NamedTuple):
    """One id of a catalogue: how bad it is, what it means, and what the operator can do."""

    severity: Severity
    meaning: str
    repair: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        id: a stable slug from a catalogue such as `regstore.gc.catalogue`.
        severity: how bad.
        subject: the key, digest or `repository:tag` concerned.
        detail: what was seen.
        repair: what the operator can do.
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


def is_clean(findings: Sequence[Finding], threshold: Severity = Severity.WARNING) -> bool:
    """Tell whether no finding is of the threshold's severity or worse."""
    return all(finding.severity < threshold for finding in findings)

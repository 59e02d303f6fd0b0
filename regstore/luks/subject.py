"""The header that is checked, and what must be known beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.luks.findings import Finding, Severity
from regstore.luks.policy import Policy

if TYPE_CHECKING:
    from regstore.luks.header import Reading


@dataclass(frozen=True, slots=True)
class Memory:
    """What can be used to open a volume, in bytes; None where nobody knows or nothing limits it."""

    total: int | None = None
    limit: int | None = None
    rescue: int | None = None


@dataclass(frozen=True, slots=True)
class HeaderSubject:
    """One header under check.

    Attributes:
        name: how findings call the device or file.
        path: how commands call it.
        reading: what was read of it.
        policy: the demands.
        is_open: a mapping of it is in use, so that data can still be saved when the header is lost.
        held_header: the size of the open mapping proves that the device had its header on it.
        data_path: how commands call the device with the data, when the header is detached; or empty.
        is_detached: it is a file of its own, with the data elsewhere.
        data_bytes: the size of the device that holds the data; None when that is not known.
        physical_block_bytes: of the disk; None for files and where nobody knows.
        is_being_reencrypted: a process that reencrypts is running.
        memory: of this host.
    """

    name: str
    path: str
    reading: Reading
    policy: Policy = field(default_factory=Policy)
    is_open: bool = False
    held_header: bool = False
    data_path: str = ""
    is_detached: bool = False
    data_bytes: int | None = None
    physical_block_bytes: int | None = None
    is_being_reencrypted: bool = False
    memory: Memory = field(default_factory=Memory)

    def ok(self, check: str, detail: str, subject: str = "") -> Finding:
        """Say that a check is content."""
        return Finding(check, Severity.OK, subject or self.name, detail)

    def rescue(self, advice: str) -> str:
        """Return the advice for a header that is lost or nearly so."""
        if self.is_open:
            return f"do not reboot, and do not close or unmount the volume: {advice}; or copy the data away first"
        return advice

"""All that is to be said of one header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.luks.checks import cipher, header, slots
from regstore.luks.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.subject import HeaderSubject

_CHECKS = (*header.CHECKS, *slots.CHECKS, *cipher.CHECKS)
_OF_BYTES = ("hdr.read", "hdr.copies", "hdr.schema", "hdr.foreign", "hdr.version")
_OF_CONTENT = (
    "hdr.require",
    "hdr.space",
    "slot.count",
    "slot.area",
    "slot.kdf",
    "slot.null",
    "ciph.mode",
    "ciph.sector",
)


def judge_header(on: HeaderSubject) -> Iterator[Finding]:
    """Run every check of a header that was read."""
    for check in _CHECKS:
        yield from check(on)
    reading = on.reading
    if reading.metadata is None and (reading.version or reading.copies or reading.failure):
        for name in _OF_CONTENT:
            yield Finding(name, Severity.UNKNOWN, on.name, "there is no valid header to read it from")


def judge_unread(name: str, reason: str) -> Iterator[Finding]:
    """Say of every check of a header that nobody knows, because it could not be looked at."""
    for check in (*_OF_BYTES, *_OF_CONTENT):
        yield Finding(check, Severity.UNKNOWN, name, reason)

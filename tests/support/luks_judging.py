"""What the checks say of a header in a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from regstore.luks.findings import Finding, Severity
from regstore.luks.header import Reading, read_header
from regstore.luks.judgement import judge_header
from regstore.luks.source import Source
from regstore.luks.subject import HeaderSubject, Memory

MEMORY = Memory(total=8 * 1024**3)


def read(path: Path) -> Reading:
    before = hashlib.sha256(path.read_bytes()).digest()
    with Source(path) as source:
        reading = read_header(source, Path("/nonexistent"), lambda _: None)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    return reading


def judge(path: Path, **facts: Any) -> list[Finding]:
    facts = {"memory": MEMORY, "data_bytes": path.stat().st_size, **facts}
    return list(judge_header(HeaderSubject("vdb", "/dev/vdb", read(path), **facts)))


def bad(path: Path, **facts: Any) -> set[tuple[str, str]]:
    """Return (id, severity) of what is a warning or worse, and see that each has evidence and advice."""
    found = [finding for finding in judge(path, **facts) if finding.severity >= Severity.WARNING]
    assert all(finding.detail and finding.repair and finding.subject for finding in found)
    return {(finding.id, finding.severity.word) for finding in found}


def one(path: Path, check: str, **facts: Any) -> Finding:
    (found,) = [
        finding for finding in judge(path, **facts) if finding.id == check and finding.severity is not Severity.OK
    ]
    return found


def put(path: str, value: Any) -> Any:
    """Return a change of a document; of no value, a removal."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            document = document[name]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change

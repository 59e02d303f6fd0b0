"""A page of documentation as commands that can be run: its blocks of `sh`, section by section."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_ENDS_WITH = re.compile(r"\s+# ends with (\d+)$")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Command:
    """One command, and the exit code that the page gives it: 0 unless a comment says `ends with N`."""

    text: str
    exit_code: int


@dataclass
class Section:
    """What stands below one heading.

    Attributes:
        title: the heading.
        commands: in order.
        not_run: the commands of blocks that are marked as such, with the reason.
    """

    title: str
    commands: list[Command] = field(default_factory=list)
    not_run: list[tuple[str, str]] = field(default_factory=list)


def read_runbook(path: Path) -> dict[str, Section]:
    """Return the sections of a page that have commands, by title. A line ends a command unless it ends with `\\`."""
    sections: dict[str, Section] = {}
    current = Section("")
    reason, pending, is_block = "", "", False
    for line in path.read_text().splitlines():
        if is_block and line == "```":
            assert not pending, f"{current.title}: a command ends with a backslash"
            is_block, reason = False, ""
        elif is_block:
            pending += line
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            _take(current, pending, reason)
            pending = ""
        elif line == "```sh":
            is_block = True
            sections.setdefault(current.title, current)
        elif match := re.match(r"#+ (.*)", line):
            current = Section(match[1])
        elif line:
            found = _NOT_RUN.fullmatch(line)
            reason = found[1] if found else ""
    return sections


def _take(section: Section, line: str, reason: str) -> None:
    match = _ENDS_WITH.search(line)
    text = line[: match.start()] if match else line
    if not text.strip():
        return
    if reason:
        section.not_run.append((text, reason))
    else:
        section.commands.append(Command(text.strip(), int(match[1]) if match else 0))

"""The pages of the documentation, as what is to be run in them.

A comment right above a block says what a reader need not see, one note a line:

    <!-- not run: WHY -->                   it is not run
    <!-- first: COMMAND -->                 the sandbox does this before the block
    <!-- file: PATH -->                     the block is not run but written to this file
    <!-- exit 1: COMMAND (WHY) -->          the command that begins so ends with 1
    <!-- with COMMAND for: TEXT -->         TEXT, which is an example, stands for what COMMAND prints
    <!-- answer y: COMMAND (WHY) -->        the command that begins so asks on a terminal, and is told y
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"(?:^<!--((?:(?!-->).)*)-->\n+)?^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"(not run|first|file|exit \d+|answer \w+|with .+ for): (.+)")
_CRON = re.compile(r"(?:[\d*][\d*/,-]* +){5}root +(\S.*)")
# Another test runs such a page whole, and says which.
_TESTED = re.compile(r"^<!-- tested: ", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its path below the checkout.
        line: the number of its first line.
        notes: kinds and texts.
    """

    page: str
    line: int
    language: str
    text: str
    notes: tuple[tuple[str, str], ...]

    def note(self, kind: str) -> str:
        """Return the text of a note, or nothing."""
        return next((text for name, text in self.notes if name == kind), "")


@dataclass
class Step:
    """One command of a page, as the sandbox takes it."""

    where: str
    command: str
    exit_code: int = 0
    is_silent: bool = False
    answer: str = ""
    file: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self)


def pages() -> list[Path]:
    """Return README and the pages of docs/ that no other test runs."""
    found = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    return [page for page in found if not _TESTED.search(page.read_text())]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page.

    Raises:
        ValueError: a note is none of those above, or stands elsewhere.
    """
    text = page.read_text()
    name = str(page.relative_to(CHECKOUT))
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    found = list(_BLOCK.finditer(text))
    if fences != 2 * len(found):
        raise ValueError(f"{name}: a fenced block is indented or not closed: this test cannot see it")
    comments = re.findall(rf"^<!--\s*{_NOTE.pattern}", text, re.MULTILINE)
    if len(comments) != sum(1 for match in found if match[1]):
        raise ValueError(f"{name}: a comment with notes does not stand right above a block")
    for match in found:
        line = text.count("\n", 0, match.start(3)) + 1
        notes = []
        for written in filter(None, map(str.strip, (match[1] or "").splitlines())):
            note = _NOTE.fullmatch(written)
            if note is None:
                raise ValueError(f"{name}:{line}: no such note: {written}")
            notes.append((note[1], note[2]))
        yield Block(name, line, match[2], match[3], tuple(notes))


def steps_of(page: Path) -> list[Step]:
    """Return what is to be done for a page, in order.

    Raises:
        ValueError: a block is of a kind that cannot be run and does not say why, or a note names no command.
    """
    steps: list[Step] = []
    for block in blocks_of(page):
        where = f"{block.page}:{block.line}"
        if block.note("not run"):
            continue
        steps += [Step(where, text) for kind, text in block.notes if kind == "first"]
        if file := block.note("file"):
            steps.append(Step(where, block.text, file=file))
        elif block.language == "sh":
            steps += _shell_steps(block)
        elif block.language == "python":
            steps.append(Step(where, f"python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"))
        elif block.language == "":
            steps += _cron_steps(block)
        elif block.language != "toml":
            raise ValueError(f"{where}: nothing can be done with {block.language}: add <!-- not run: WHY -->")
    return steps


def _shell_steps(block: Block) -> list[Step]:
    steps = [Step(f"{block.page}:{line}", command) for line, command in _commands(block)]
    for kind, text in block.notes:
        verb, _, value = kind.partition(" ")
        if verb == "with":
            for step in steps:
                step.command = step.command.replace(text, f'"$({value.removesuffix(" for")})"')
        if verb not in ("exit", "answer"):
            continue
        begin, why = re.fullmatch(r"(.*?)(?: \((.+)\))?", text).groups()  # type: ignore[union-attr]
        meant = [step for step in steps if step.command.startswith(begin)]
        if not why or len(meant) != 1:
            raise ValueError(f"{block.page}:{block.line}: the note {text!r} must name one command, and (why)")
        if verb == "exit":
            meant[0].exit_code = int(value)
        else:
            meant[0].answer = value
    return steps


def _commands(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the commands of a block, and the line where each begins."""
    pending = ""
    start = block.line
    for number, line in enumerate(block.text.splitlines(keepends=True), block.line):
        start = start if pending else number
        pending += line
        whole = subprocess.run(["sh", "-n", "-c", pending], capture_output=True, check=False).returncode == 0
        if whole and not line.endswith("\\\n"):
            if pending.strip() and not pending.lstrip().startswith("#"):
                yield start, pending.rstrip("\n")
            pending = ""
    if pending:
        raise ValueError(f"{block.page}:{start}: no command of a shell: {pending}")


def _cron_steps(block: Block) -> Iterator[Step]:
    """Yield the commands of lines for /etc/cron.d; blocks that are data have none."""
    for number, line in enumerate(block.text.splitlines(), block.line):
        match = _CRON.fullmatch(line)
        if match is not None:
            command = match[1].replace(r"\%", "%")
            yield Step(f"{block.page}:{number}", command, is_silent=" -q " in command)
        elif "regstore " in line:
            raise ValueError(f"{block.page}:{number}: neither a line for /etc/cron.d nor a block of sh: {line}")

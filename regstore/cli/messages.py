"""All that is said on stderr: text for people, lines with a priority for the journal, or JSON Lines for programs.

JSON has one object a line with `type`, `time`, `levelname`, `message` and, where there is one, `msgid`, as borg's
`--log-json` has it (borg, docs/internals/frontends.rst).
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import click

from regstore.findings import Severity
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOG_FORMATS = ("text", "json")
_STDERR = 2
_SHOWN_FINDINGS = 20
_SHOWN_IMAGES = 5
_OF_LOGGING = {
    logging.WARNING: Severity.WARNING,
    logging.ERROR: Severity.ERROR,
    logging.CRITICAL: Severity.CRITICAL,
}
# sd-daemon(3): the priorities of syslog.
_PRIORITIES = {Severity.INFO: 6, Severity.WARNING: 4, Severity.ERROR: 3, Severity.CRITICAL: 2}
_LABELS = {Severity.WARNING: "warning: "}


class Form(Enum):
    """How stderr is written."""

    TEXT = "text"
    JOURNAL = "journal"
    JSON = "json"


class _Found(Protocol):
    """A finding of any command."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""


class _Stderr:
    """The form of this process; threads of a server write too, so that it belongs to no context of click."""

    form = Form.TEXT


def choose_form(log_format: str | None, environment: Mapping[str, str]) -> None:
    """Choose how this process writes: `json`, or text with priorities where stderr is a stream of the journal."""
    if log_format == "json":
        _Stderr.form = Form.JSON
    else:
        _Stderr.form = Form.JOURNAL if _is_journal(environment.get("JOURNAL_STREAM", "")) else Form.TEXT


def current_form() -> Form:
    """Return how this process writes."""
    return _Stderr.form


def _is_journal(stream: str) -> bool:
    """Tell whether `$JOURNAL_STREAM` means our stderr (systemd.exec(5)): children with a pipe inherit it too."""
    with suppress(OSError):
        found = os.fstat(_STDERR)
        return stream == f"{found.st_dev}:{found.st_ino}"
    return False


def tell(severity: Severity, message: str, *, hints: Sequence[str] = (), msgid: str = "", **fields: Any) -> None:
    """Say one thing.

    Args:
        severity: how bad it is.
        message: what happened, where and why.
        hints: what to do now.
        msgid: a stable slug for scripts, or empty.
        fields: more for programs.
    """
    click.echo(format_message(severity, message, hints=hints, msgid=msgid, **fields), err=True)


def warn(message: str, *, hint: str = "", msgid: str = "") -> None:
    """Say what the operator should know, and what is no reason to end."""
    tell(Severity.WARNING, message, hints=[hint] if hint else [], msgid=msgid)


def note(message: str, **fields: Any) -> None:
    """Say what is going on."""
    tell(Severity.INFO, message, **fields)


def format_message(
    severity: Severity, message: str, *, hints: Sequence[str] = (), msgid: str = "", **fields: Any
) -> str:
    """Return what `tell` writes, without the last newline; a handler of signals must not write through a buffer."""
    if _Stderr.form is Form.JSON:
        more: dict[str, Any] = {"msgid": msgid} if msgid else {}
        if hints:
            more["hints"] = [plain(line) for line in hints]
        return _json_line("log_message", severity, plain(message), {**more, **fields})
    lines = [f"regstore: {_LABELS.get(severity, '')}{plain(message)}" + (f" [{msgid}]" if msgid else "")]
    return _with_priority([*lines, *(f"  -> {plain(line)}" for line in hints)], severity)


def tell_progress(message: str, **numbers: Any) -> None:
    """Say how far it is; numbers are for programs."""
    if _Stderr.form is Form.JSON:
        click.echo(_json_line("progress", Severity.INFO, message, numbers), err=True)
    else:
        click.echo(_with_priority([message], Severity.INFO), err=True)


def show(text: str = "", *, err: bool, severity: Severity = Severity.INFO) -> None:
    """Print a part of a result, with `err` on stderr; in JSON each line of it is a message."""
    if not err:
        click.echo(text)
    elif _Stderr.form is Form.TEXT:
        click.echo(text, err=True)
    else:
        for line in filter(str.strip, click.unstyle(text).splitlines()):
            is_json = _Stderr.form is Form.JSON
            said = _json_line("log_message", severity, line.strip()) if is_json else _with_priority([line], severity)
            click.echo(said, err=True)


def tell_findings(findings: Sequence[_Found]) -> None:
    """Say findings as JSON objects, the worst first, not more than people would be shown."""
    for found in sorted(findings, key=lambda found: -found.severity)[:_SHOWN_FINDINGS]:
        fields = found.to_json()
        if "images" in fields:
            fields["image_count"] = len(fields["images"])
            fields["images"] = fields["images"][:_SHOWN_IMAGES]
        message = f"{fields['id']}: {plain(str(fields['subject']))}: {plain(str(fields['detail']))}"
        click.echo(_json_line("finding", found.severity, message, {"msgid": fields["id"], **fields}), err=True)
    if len(findings) > _SHOWN_FINDINGS:
        note(f"{len(findings) - _SHOWN_FINDINGS} more findings: see --json")


def _json_line(kind: str, severity: Severity, message: str, fields: Mapping[str, Any] = MappingProxyType({})) -> str:
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    return json.dumps({"type": kind, "time": now, "levelname": severity.name, "message": message, **fields})


def _with_priority(lines: Sequence[str], severity: Severity) -> str:
    prefix = f"<{_PRIORITIES[severity]}>" if _Stderr.form is Form.JOURNAL else ""
    return "\n".join(f"{prefix}{line}" for line in lines)


class _LibraryHandler(logging.Handler):
    """Says what drivers and the packages that they use log."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(_OF_LOGGING.get(record.levelno, Severity.WARNING), record.getMessage(), logger=record.name)


def take_over_logging() -> None:
    """Let warnings of libraries come as messages too: they are written to stderr as they are otherwise."""
    handler = _LibraryHandler(logging.WARNING)
    logging.lastResort = handler
    logging.captureWarnings(True)
    logger = logging.getLogger("py.warnings")
    if not logger.handlers:  # or logging gives it one that says nothing
        logger.addHandler(handler)

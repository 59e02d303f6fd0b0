"""How results are shown: tables for people, one JSON document for scripts."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import click

from regstore._version import __version__
from regstore.cli import messages
from regstore.findings import Severity
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.findings import Finding
    from regstore.lock import Holder
    from regstore.transfer import ImageFinding

SCHEMA_VERSION = 1
_SHOWN_FINDINGS = 20
_SHOWN_IMAGES = 5
_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}


def human_time(seconds: float) -> str:
    """Return a time in the local zone, to the minute."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    except (ValueError, OverflowError, OSError):
        return "?"  # a file may be dated as no calendar goes


def json_time(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def render_table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Align columns; those whose cells are all numbers or sizes, after a heading, to the right."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [i > 0 and all(row[i][:1].isdigit() or row[i] in ("", "-") for row in rows[1:]) for i in range(len(widths))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return click.style(word, fg=colour) if colour else word


def show_findings(findings: Sequence[Finding], *, err: bool = False) -> None:
    """Print findings, the worst first, not more than a screen of them."""
    if not findings:
        return
    if err and messages.current_form() is messages.Form.JSON:
        messages.tell_findings(findings)
        return
    messages.show(f"\nfindings: {len(findings)}", err=err)
    for finding in sorted(findings, key=lambda finding: -finding.severity)[:_SHOWN_FINDINGS]:
        lines = [
            f"  {_coloured(finding.severity.word)} {finding.id}: {plain(finding.subject)}",
            f"    {plain(finding.detail)}",
        ]
        if finding.repair:
            lines.append(f"    -> {finding.repair}")
        messages.show("\n".join(lines), err=err, severity=finding.severity)
    if len(findings) > _SHOWN_FINDINGS:
        messages.show(f"  ... and {len(findings) - _SHOWN_FINDINGS} more: see --json", err=err)


def show_image_findings(findings: Sequence[ImageFinding], *, err: bool = False) -> None:
    """Print findings, the worst first, with the images that they hurt; not more than a screen of them."""
    shown = sorted(findings, key=lambda found: (-found.severity, found.id, found.subject))
    if err and messages.current_form() is messages.Form.JSON:
        messages.tell_findings(shown)
        return
    if shown:
        messages.show(f"\nfindings: {len(shown)}", err=err)
    for found in shown[:_SHOWN_FINDINGS]:
        lines = [f"  {_coloured(found.severity.word)} {found.id}: {plain(found.subject)}", f"    {plain(found.detail)}"]
        if found.images:
            names = ", ".join(map(plain, found.images[:_SHOWN_IMAGES]))
            more = len(found.images) - _SHOWN_IMAGES
            snapshots = getattr(found, "snapshots", ())
            where = f" in {', '.join(snapshots[:_SHOWN_IMAGES])}" if snapshots else ""
            lines.append(f"    hurts {names}" + (f" and {more} more" if more > 0 else "") + where)
        if found.severity > Severity.INFO:
            lines.append(f"    -> {found.repair}")
        messages.show("\n".join(lines), err=err, severity=found.severity)
    if len(shown) > _SHOWN_FINDINGS:
        messages.show(f"  ... and {len(shown) - _SHOWN_FINDINGS} more: see --json", err=err)


def mention_dead(holder: Holder | None, *, quiet: bool) -> None:
    """Say whose lock was taken over, if a run died."""
    if holder is not None and not quiet:
        messages.note(f"took over the lock of a dead run, {holder}")


class _Told(Protocol):
    """A finding of any command."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""


def make_document(
    command: str, location: str, started: float, exit_code: int, findings: Sequence[_Told], **fields: Any
) -> dict[str, Any]:
    """Make the one JSON document of a command."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool_version": __version__,
        "command": command,
        "location": location,
        "started_at": json_time(started),
        "duration_seconds": round(time.time() - started, 3),
        "exit_code": exit_code,
        **fields,
        "findings": [finding.to_json() for finding in findings],
    }


def show_json(
    command: str, location: str, started: float, exit_code: int, findings: Sequence[Finding], **fields: Any
) -> None:
    """Print the one JSON document of a command."""
    json.dump(make_document(command, location, started, exit_code, findings, **fields), sys.stdout, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()  # here, where a closed pipe is an error that is handled

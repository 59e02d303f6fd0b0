"""How the health of a volume is shown."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from regstore import findings as findings_of_jobs
from regstore.cli.output import make_document
from regstore.luks.findings import Severity
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.luks.check import Health
    from regstore.luks.findings import Finding
    from regstore.luks.save_header import SavedHeader

FORMATS = ("table", "json", "prom")
_COLOURS = {Severity.WARNING: "yellow", Severity.CRITICAL: "red", Severity.UNKNOWN: "cyan"}
_NAGIOS = {Severity.CRITICAL: 2, Severity.WARNING: 1, Severity.UNKNOWN: 3}
_WORD_WIDTH = 9


def exit_code_of(findings: Sequence[Finding]) -> int:
    """Return 1 when any finding is a warning or worse."""
    return int(any(finding.severity >= Severity.WARNING for finding in findings))


def as_job_findings(findings: Sequence[Finding]) -> list[findings_of_jobs.Finding]:
    """Return what is noted of a job: warnings and worse, in the words of the other commands."""
    severities = {
        Severity.WARNING: findings_of_jobs.Severity.WARNING,
        Severity.CRITICAL: findings_of_jobs.Severity.CRITICAL,
    }
    return [
        findings_of_jobs.Finding(found.id, severities[found.severity], found.subject, found.detail, found.repair)
        for found in findings
        if found.severity in severities
    ]


def nagios_code(findings: Sequence[Finding]) -> int:
    """Return what a monitoring plugin ends with."""
    present = {finding.severity for finding in findings}
    return next((code for severity, code in _NAGIOS.items() if severity in present), 0)


def nagios_line(health: Health) -> str:
    """Return the one line of a monitoring plugin."""
    worst = max((finding.severity for finding in health.findings), default=Severity.UNKNOWN)
    word = worst.word.upper() if worst in _NAGIOS else "OK"
    bad = [finding for finding in health.findings if finding.severity is worst and worst in _NAGIOS]
    said = "; ".join(f"{finding.id} {finding.subject}: {finding.detail}" for finding in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    text = said + more if bad else f"{health.target}: {len(health.findings)} checks"
    return f"LUKS {word} - {plain(text)}\n".replace("|", "/")


def render_health(health: Health, form: str, started: float, code: int, location: str) -> list[str]:
    """Return the health in one of `FORMATS`, as lines."""
    if form == "prom":
        counts = Counter((finding.id, finding.severity.word) for finding in health.findings)
        # The reports import the collections: a check need not wait for that.
        from regstore.report.exposition import luks_samples, render_exposition

        return [render_exposition(luks_samples(plain(location), health.is_header_ok, counts))]
    if form == "json":
        document = make_document(
            "luks check", location, started, code, health.findings,
            target=health.kind.value, device=health.device, uuid=health.uuid, luks_version=health.version,
        )  # fmt: skip
        return [json.dumps(document, indent=2) + "\n"]
    return _render_table(health)


def _render_table(health: Health) -> list[str]:
    header = f"LUKS{health.version} {health.uuid} on {health.device}"
    if not health.version:
        header = "no LUKS header" if health.is_header_ok is False or not health.device else "the header was not read"
    lines = [f"{plain(health.target)}: {plain(header)}\n"]
    bad = [finding for finding in health.findings if finding.severity >= Severity.WARNING]
    for finding in sorted(bad, key=lambda finding: -finding.severity):
        lines.append(f"\n{_word(finding.severity)} {finding.id}: {plain(finding.subject)}\n")
        lines.append(_indented(plain(finding.detail)))
        lines.append(_indented(f"-> {plain(finding.repair)}"))
    lines.append("\n")
    lines += _render_unknown([finding for finding in health.findings if finding.severity is Severity.UNKNOWN])
    for finding in health.findings:
        if finding.severity is Severity.INFO:
            lines.append(f"{_word(Severity.INFO)} {finding.id}: {plain(finding.subject)}: {plain(finding.detail)}\n")
    well = dict.fromkeys(finding.id for finding in health.findings if finding.severity is Severity.OK)
    if well:
        lines.append(f"{_word(Severity.OK)} {_indented(', '.join(well)).lstrip()}")
    return lines


def _indented(text: str) -> str:
    """Return a text beside the word of its severity; on a terminal in lines of its width, in a pipe in one."""
    indent = " " * (_WORD_WIDTH + 1)
    if not sys.stdout.isatty():
        return f"{indent}{text}\n"
    width = max(shutil.get_terminal_size().columns, 60)
    wrapped = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "".join(f"{line}\n" for line in wrapped)


def _render_unknown(findings: Sequence[Finding]) -> list[str]:
    """Say each reason once, with all checks that could not run for it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        reasons.setdefault((finding.subject, finding.detail), []).append(finding.id)
    return [
        f"{_word(Severity.UNKNOWN)} {plain(subject)}: {plain(detail)} ({', '.join(dict.fromkeys(checks))})\n"
        for (subject, detail), checks in reasons.items()
    ]


def _word(severity: Severity) -> str:
    padded = f"{severity.word:{_WORD_WIDTH}}"
    colour = _COLOURS.get(severity)
    return click.style(padded, fg=colour) if colour and sys.stdout.isatty() else padded


def show_saved(saved: SavedHeader, document: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Say what was written, or what is wrong with the header."""
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for finding in saved.findings:
        click.echo(f"{_word(finding.severity)} {finding.id}: {plain(finding.subject)}")
        click.echo(f"{'':{_WORD_WIDTH}} {plain(finding.detail)}")
        click.echo(f"{'':{_WORD_WIDTH}} -> {plain(finding.repair)}")
    if saved.findings:
        click.echo("nothing was written")
    elif not quiet:
        click.echo(f"{saved.file}: {saved.manifest['size_bytes']} bytes, SHA-256 {saved.manifest['header_sha256']}")
        click.echo("keep a copy off this host, as safe as a key; check it with regstore luks check --header-backup")

"""How snapshots and the findings of backups and restores are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regstore.cli.output import json_time
from regstore.findings import Severity
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.backup import BackupFinding, Head

_SHOWN_COUNT = 20
_SHOWN_IMAGES = 5
_COLOURS = {Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.CRITICAL: "red"}


def show_backup_findings(findings: Sequence[BackupFinding], *, err: bool = False) -> None:
    """Print findings, the worst first, with the images that they hurt; not more than a screen of them."""
    shown = sorted(findings, key=lambda found: (-found.severity, found.id, found.subject))
    if shown:
        click.echo(f"\nfindings: {len(shown)}", err=err)
    for found in shown[:_SHOWN_COUNT]:
        word = click.style(found.severity.word, fg=_COLOURS.get(found.severity))
        click.echo(f"  {word} {found.id}: {plain(found.subject)}", err=err)
        click.echo(f"    {plain(found.detail)}", err=err)
        if found.images:
            names = ", ".join(map(plain, found.images[:_SHOWN_IMAGES]))
            more = len(found.images) - _SHOWN_IMAGES
            where = f" in {', '.join(found.snapshots[:_SHOWN_IMAGES])}" if found.snapshots else ""
            click.echo(f"    hurts {names}" + (f" and {more} more" if more > 0 else "") + where, err=err)
        if found.severity > Severity.INFO:
            click.echo(f"    -> {found.repair}", err=err)
    if len(shown) > _SHOWN_COUNT:
        click.echo(f"  ... and {len(shown) - _SHOWN_COUNT} more: see --json", err=err)


def snapshot_json(head: Head) -> dict[str, object]:
    """Return a snapshot's form in documents."""
    return {
        "id": head.id,
        "created_at": json_time(head.created_at),
        "source": head.source,
        "complete": head.is_complete,
        "tags": head.tag_count,
        "bytes": head.total_bytes,
        "repositories": head.repository_count,
        "manifests": head.revision_count,
        "blobs": head.blob_count,
        "new_blobs": head.new_blob_count,
        "new_bytes": head.new_bytes,
        "broken": head.broken,
        "host": head.host,
    }

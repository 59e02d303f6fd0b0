"""`regstore backup list`, `show` and `diff`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

import click

from regstore.cli.backup_output import snapshot_json
from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.completing import complete_snapshot
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS
from regstore.cli.named import STORE
from regstore.cli.output import human_time, render_table, show_image_findings, show_json
from regstore.digest import format_digest
from regstore.findings import is_clean
from regstore.wording import human_bytes, iso_time, plain

if TYPE_CHECKING:
    from regstore import backup
    from regstore.backup import Snapshot
    from regstore.digest import Digest
else:
    backup = Lazily("regstore.backup")

_SHOWN_COUNT = 40


@click.command(
    "list",
    epilog=f"""\b
EXAMPLES
  regstore backup list /backup/registry
  regstore backup list --json s3://backups/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(store: str, passphrase_fd: int | None, passphrase_command: str | None, as_json: bool) -> NoReturn:
    """List the snapshots of STORE, in the order made."""
    started = time.time()
    opened = open_store(store, passphrase_fd, passphrase_command)
    heads, findings = [], []
    for loaded in backup.iter_snapshots(opened):
        if loaded.snapshot is None:
            findings.append(loaded.finding())
        else:
            heads.append(loaded.snapshot.head)
    code = 0 if is_clean(findings) else 1
    if as_json:
        snapshots = [snapshot_json(head) for head in heads]
        show_json("backup list", opened.location, started, code, findings, snapshots=snapshots)
    else:
        if heads:
            rows = [("SNAPSHOT", "MADE", "TAGS", "DATA", "NEW", "STATE", "REGISTRY")]
            rows += [
                (
                    head.id,
                    human_time(head.created_at),
                    str(head.tag_count),
                    human_bytes(head.total_bytes),
                    human_bytes(head.new_bytes),
                    "complete" if head.is_complete else "incomplete",
                    plain(head.source),
                )
                for head in heads
            ]
            click.echo(render_table(rows))
        else:
            click.echo("no snapshots")
        show_image_findings(findings)
    raise click.exceptions.Exit(code)


@click.command(
    "show",
    epilog=f"""\b
EXAMPLES
  regstore backup show /backup/registry latest
  regstore backup show --json /backup/registry 1a2b3c4d

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.argument("snapshot", default="latest", shell_complete=complete_snapshot)
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every tag.")
def show_command(
    store: str, snapshot: str, passphrase_fd: int | None, passphrase_command: str | None, as_json: bool
) -> None:
    """Show what a SNAPSHOT of STORE holds: repositories, tags, sizes, and what was broken."""
    started = time.time()
    opened = open_store(store, passphrase_fd, passphrase_command)
    found = backup.find_snapshot(opened, snapshot)
    if as_json:
        show_json(
            "backup show",
            opened.location,
            started,
            0,
            [],
            snapshot=snapshot_json(found.head),
            repositories=_repositories_json(found),
            damage=found.head.findings,
        )
        return
    head = found.head
    click.echo(
        f"snapshot  {head.id}, {human_time(head.created_at)}, {'complete' if head.is_complete else 'incomplete'}"
    )
    click.echo(f"registry  {plain(head.source)}, stored by {plain(head.host)} with regstore {head.tool_version}")
    click.echo(f"data      {head.blob_count} blobs with {human_bytes(head.total_bytes)}")
    if found.repositories:
        click.echo()
        click.echo(render_table(_table_of(found)))
    broken = [finding for finding in head.findings if finding["severity"] != "info"]
    if broken:
        click.echo(f"\nfound when it was made: {len(broken)}")
        for finding in broken[:_SHOWN_COUNT]:
            click.echo(f"  {finding['severity']} {finding['id']}: {plain(finding['subject'])}")
            click.echo(f"    {plain(finding['detail'])}")
            if finding["images"]:
                click.echo(f"    hurts {', '.join(map(plain, finding['images'][:5]))}")


def _repositories_json(snapshot: Snapshot) -> list[dict[str, object]]:
    stored = snapshot.blobs()
    return [
        {
            "name": contents.name,
            "bytes": _bytes_of(contents, stored),
            "manifests": len(contents.revisions),
            "layer_links": len(contents.layers),
            "tags": [
                {"tag": tag, "digest": format_digest(meant.digest), "pushed_at": iso_time(meant.pushed_ns / 1e9)}
                for tag, meant in contents.tags.items()
            ],
        }
        for contents in snapshot.iter_contents()
    ]


def _table_of(snapshot: Snapshot) -> list[tuple[str, str, str, str, str]]:
    stored = snapshot.blobs()
    rows = [("REPOSITORY", "TAGS", "MANIFESTS", "DATA", "NEWEST TAG")]
    for contents in snapshot.iter_contents():
        newest = max(contents.tags, key=lambda tag: contents.tags[tag].pushed_ns, default="-")
        size = human_bytes(_bytes_of(contents, stored))
        rows.append((plain(contents.name), str(len(contents.tags)), str(len(contents.revisions)), size, newest))
    return rows


def _bytes_of(contents: backup.Contents, stored: dict[Digest, int]) -> int:
    """Return the bytes of the distinct data that a repository links."""
    return sum(stored.get(digest, 0) for digest in backup.iter_data(contents))


@click.command(
    "diff",
    epilog=f"""\b
EXAMPLES
  regstore backup diff /backup/registry 1a2b3c4d latest

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.argument("old", shell_complete=complete_snapshot)
@click.argument("new", default="latest", shell_complete=complete_snapshot)
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def diff_command(
    store: str, old: str, new: str, passphrase_fd: int | None, passphrase_command: str | None, as_json: bool
) -> None:
    """Say what changed from the snapshot OLD to the snapshot NEW: tags, and data."""
    started = time.time()
    opened = open_store(store, passphrase_fd, passphrase_command)
    before, after = backup.find_snapshot(opened, old), backup.find_snapshot(opened, new)
    difference = backup.compare_snapshots(before, after)
    added_bytes, deleted_bytes = sum(difference.added_blobs.values()), sum(difference.deleted_blobs.values())
    if as_json:
        show_json(
            "backup diff",
            opened.location,
            started,
            0,
            [],
            old=snapshot_json(before.head),
            new=snapshot_json(after.head),
            added={image: format_digest(digest) for image, digest in difference.added.items()},
            moved={
                image: {"old": format_digest(was), "new": format_digest(now)}
                for image, (was, now) in difference.moved.items()
            },
            deleted={image: format_digest(digest) for image, digest in difference.deleted.items()},
            added_blobs=len(difference.added_blobs),
            added_bytes=added_bytes,
            deleted_blobs=len(difference.deleted_blobs),
            deleted_bytes=deleted_bytes,
        )
        return
    for image, digest in difference.added.items():
        click.echo(f"+ {plain(image)}  {format_digest(digest)}")
    for image, (was, now) in difference.moved.items():
        click.echo(f"* {plain(image)}  {format_digest(was)} -> {format_digest(now)}")
    for image, digest in difference.deleted.items():
        click.echo(f"- {plain(image)}  {format_digest(digest)}")
    click.echo(
        f"{len(difference.added)} tags new, {len(difference.moved)} moved, {len(difference.deleted)} deleted; "
        f"{len(difference.added_blobs)} blobs with {human_bytes(added_bytes)} new, "
        f"{len(difference.deleted_blobs)} with {human_bytes(deleted_bytes)} gone"
    )

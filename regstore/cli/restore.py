"""`regstore restore`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli import messages
from regstore.cli.backup_output import snapshot_json
from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.completing import complete_repository, complete_snapshot
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import NEW_REGISTRY, STORE
from regstore.cli.output import human_time, mention_dead, show_image_findings, show_json
from regstore.cli.parameters import BANDWIDTH, parse_attributes, safety_option
from regstore.cli.progress import choose_progress
from regstore.digest import format_digest
from regstore.errors import UsageError
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from regstore import backup
    from regstore import registry as registries
    from regstore.backup import BackupFinding, RestorePlan, RestoreResult
else:
    backup = Lazily("regstore.backup")
    registries = Lazily("regstore.registry")

_SHOWN_COUNT = 20


@click.command(
    "restore",
    epilog=f"""\b
EXAMPLES
  regstore restore /backup/registry /srv/registry
  regstore restore --at '2026-11-20 03:00' /backup/registry s3://bucket/registry
  regstore restore --merge --repository team/app --tag 'v1.*' /backup/registry /var/lib/registry
  regstore restore --dry-run --snapshot 1a2b3c4d /backup/registry /srv/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.argument("root", type=NEW_REGISTRY)
@click.option(
    "--snapshot",
    default="latest",
    show_default=True,
    metavar="ID",
    help="Which snapshot.",
    shell_complete=complete_snapshot,
)
@click.option("--at", metavar="TIME", help="The newest snapshot made by then: 2026-11-20 03:00 in local time.")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="GLOB",
    help="Only these repositories (* crosses /).",
    shell_complete=complete_repository,
)
@click.option("--tag", "tags", multiple=True, metavar="GLOB", help="Only these tags, with what they need.")
@click.option(
    "--digest", "digests", multiple=True, metavar="DIGEST", help="Only these manifests, with what they need; no tag."
)
@safety_option("--merge", is_flag=True, help="Restore into a registry that has repositories.")
@safety_option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@passphrase_options()
@click.option("--owner", metavar="UID:GID", help="Owner of what is written (default: as recorded).")
@click.option("--mode", metavar="MODE", help="Mode of directories, such as 0755; files get it without x.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Blobs at once (default: what suits the storage).")
@click.option("--bandwidth", type=BANDWIDTH, metavar="SIZE", help="Write no more than that a second.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def command(session: Session, /, store: str, root: str, **arguments: Any) -> NoReturn:
    """Restore a snapshot of STORE to the registry ROOT: a directory, an s3:// URL, or a registry's config.yml.

    ROOT must be empty, or --merge given. Data are hashed on the way, and tags are written last, so that a registry on
    ROOT serves only whole images at every moment. What cannot be restored whole is named and left out, and the command
    ends with 1. One that died goes on when it is run again.
    """
    started = time.time()
    as_json, quiet = arguments["as_json"], arguments["quiet"]
    at = _parse_at(arguments["at"], arguments["snapshot"])
    options = backup.RestoreOptions(
        backup.Selection(arguments["repositories"], arguments["tags"], arguments["digests"]),
        arguments["merge"],
        arguments["jobs"],
        arguments["bandwidth"],
        parse_attributes(arguments["owner"], arguments["mode"]),
    )
    source = open_store(store, arguments["passphrase_fd"], arguments["passphrase_command"], jobs=arguments["jobs"])
    snapshot = backup.find_snapshot(source, arguments["snapshot"], at)
    target = registries.open_target(root, arguments["jobs"] or 16)
    progress = choose_progress(quiet=quiet or as_json)
    restore = backup.Restore(source, snapshot, target, options, progress=progress, cancel=session.cancel)
    result: RestoreResult | None = None
    try:
        plan = restore.plan()
        progress.finish()
        if not (as_json or quiet):
            _show_plan(plan, target.location, err=not arguments["dry_run"])
        if not arguments["dry_run"]:
            result = restore.apply(plan)
    finally:
        progress.finish()
    _report(plan, result, started, target.location, as_json=as_json, quiet=quiet)


def _report(
    plan: RestorePlan, result: RestoreResult | None, started: float, location: str, *, as_json: bool, quiet: bool
) -> NoReturn:
    findings: list[BackupFinding] = result.findings if result else [*plan.findings, *plan.losses]
    code = 0 if is_clean(findings) else 1
    if result:
        mention_dead(result.dead_holder, quiet=quiet)
    if as_json:
        show_json(
            "restore",
            location,
            started,
            code,
            findings,
            snapshot=snapshot_json(plan.snapshot.head),
            is_dry_run=result is None,
            repositories=len(plan.chosen.contents),
            tags=result.tag_count if result else plan.tag_count,
            blobs=len(plan.chosen.blobs),
            bytes=plan.total_bytes,
            written_blobs=result.written_count if result else 0,
            written_bytes=result.written_bytes if result else 0,
            kept_blobs=result.kept_count if result else 0,
            lost=dict(sorted(plan.chosen.lost.items())),
        )
    else:
        if result and not quiet:
            _show_result(result)
        if not quiet or code:
            show_image_findings(findings, err=quiet)
    raise click.exceptions.Exit(code)


def _show_plan(plan: RestorePlan, location: str, *, err: bool) -> None:
    head = plan.snapshot.head
    messages.show(f"snapshot  {head.id} of {plain(head.source)}, {human_time(head.created_at)}", err=err)
    messages.show(f"target    {plain(location)}" + (", gone on with" if plan.is_resumed else ""), err=err)
    messages.show(f"restores  {len(plan.chosen.contents)} repositories, {plan.tag_count} tags", err=err)
    messages.show(f"data      {len(plan.chosen.blobs)} blobs with {human_bytes(plan.total_bytes)}", err=err)
    if plan.replaced:
        messages.show(f"\ntags that mean something else there now: {len(plan.replaced)}", err=err)
        for image, digest in sorted(plan.replaced.items())[:_SHOWN_COUNT]:
            messages.show(f"  {plain(image)}  {format_digest(digest)}", err=err)


def _show_result(result: RestoreResult) -> None:
    click.echo(f"wrote     {result.written_count} blobs with {human_bytes(result.written_bytes)}, all hashed")
    if result.kept_count:
        click.echo(f"kept      {result.kept_count} blobs that were there, all whole")
    click.echo(f"restored  {len(result.plan.chosen.contents)} repositories, {result.tag_count} tags")


def _parse_at(text: str | None, snapshot: str) -> float | None:
    if text is None:
        return None
    if snapshot != "latest":
        raise UsageError("--at and --snapshot name two snapshots", hint="give one of them")
    try:
        return backup.parse_time(text)
    except ValueError as error:
        raise UsageError(str(error)) from error

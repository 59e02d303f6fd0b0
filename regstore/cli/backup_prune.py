"""`regstore backup prune`, `unlock` and `export`."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli.backup_output import snapshot_json
from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.completing import complete_snapshot
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import STORE
from regstore.cli.output import human_time, mention_dead, render_table, show_image_findings, show_json
from regstore.cli.parameters import DURATION, F, safety_option
from regstore.cli.progress import choose_progress
from regstore.errors import UsageError
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain
from regstore_drivers.bulk import Attributes

if TYPE_CHECKING:
    from regstore import backup
    from regstore import registry as registries
    from regstore.backup import AnyStore, PrunePlan
    from regstore.work import Cancel, Progress
else:
    backup = Lazily("regstore.backup")
    registries = Lazily("regstore.registry")

_PERIODS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def _keep_options(function: F) -> F:
    for name in reversed(_PERIODS):
        words = "the newest snapshots" if name == "last" else f"the newest of each of so many {name} periods"
        option = safety_option(
            f"--keep-{name}", f"keep_{name}", type=click.IntRange(0), default=0, metavar="N", help=f"Keep {words}."
        )
        function = option(function)
    return function


@click.command(
    "prune",
    epilog=f"""\b
EXAMPLES
  regstore backup prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 /backup/registry
  regstore backup prune --dry-run --keep-within 30d --keep-tag 'team/app:v*' /backup/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@_keep_options
@safety_option(
    "--keep-within", type=DURATION, metavar="AGE", help="Keep all made in that time before the newest complete one."
)
@safety_option("--keep-tag", "keep_tags", multiple=True, metavar="GLOB", help="Keep those with such a REPOSITORY:TAG.")
@safety_option(
    "--grace", type=DURATION, default="24h", show_default=True, metavar="AGE", help="Data stay condemned that long."
)
@passphrase_options()
@safety_option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@safety_option(
    "--lock-wait", type=DURATION, default="0s", show_default=True, metavar="TIME", help="Wait for another run."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def prune_command(session: Session, /, store: str, **arguments: Any) -> NoReturn:
    """Remove the snapshots of STORE that no rule keeps, and in two steps the data that none needs any more.

    Rules count for each registry by itself, and only complete snapshots. The newest complete one is never removed.
    Data that no snapshot needs are condemned; a later run deletes them when they have been so for the grace period.
    """
    started = time.time()
    as_json, quiet = arguments["as_json"], arguments["quiet"]
    counts = {name: arguments[f"keep_{name}"] for name in _PERIODS}
    rules = backup.Rules(**counts, within=arguments["keep_within"], tags=arguments["keep_tags"])
    options = backup.PruneOptions(rules, arguments["grace"], arguments["lock_wait"])
    opened = open_store(store, arguments["passphrase_fd"], arguments["passphrase_command"], lock_wait=options.lock_wait)
    progress = choose_progress(quiet=quiet or as_json)
    job = None if arguments["dry_run"] else session.begin_job("backup prune", opened.location)
    try:
        result = _prune(opened, options, progress, session.cancel, is_dry_run=arguments["dry_run"])
    finally:
        progress.finish()
    plan, findings, dead = result.plan, result.findings, result.dead_holder
    if job is not None:
        job.findings = findings
    code = 0 if is_clean(findings) else 1
    mention_dead(dead, quiet=quiet)
    if as_json:
        show_json(
            "backup prune",
            opened.location,
            started,
            code,
            findings,
            is_dry_run=arguments["dry_run"],
            kept={id_: list(reasons) for id_, reasons in plan.kept.items()},
            removed=[file.id for file in plan.removed],
            condemned_files=len(plan.condemned) - len(plan.deleted),
            condemned_bytes=plan.condemned_bytes,
            deleted_files=len(plan.deleted),
            deleted_bytes=plan.deleted_bytes,
        )
    else:
        if not quiet:
            _show_plan(plan, is_dry_run=arguments["dry_run"], has_data=isinstance(opened, backup.Store))
        if not quiet or code:
            show_image_findings(findings, err=quiet)
    raise click.exceptions.Exit(code)


def _prune(
    store: AnyStore, options: backup.PruneOptions, progress: Progress, cancel: Cancel, *, is_dry_run: bool
) -> backup.PruneResult:
    if not isinstance(store, backup.Store):
        from regstore.backup.borg.maintain import prune_borg_store

        return prune_borg_store(store, options, is_dry_run=is_dry_run, progress=progress, cancel=cancel)
    if is_dry_run:
        plan = backup.plan_prune(store, options, progress=progress, cancel=cancel)
        return backup.PruneResult(plan, plan.findings)
    return backup.prune_store(store, options, progress=progress, cancel=cancel)


def _show_plan(plan: PrunePlan, *, is_dry_run: bool, has_data: bool) -> None:
    rows = [("SNAPSHOT", "MADE", "", "")]
    for head in plan.heads:
        reasons = ", ".join(plan.kept.get(head.id, ()))
        rows.append((head.id, human_time(head.created_at), "keep" if reasons else "remove", reasons))
    if plan.heads:
        click.echo(render_table(rows))
    would = "would be " if is_dry_run else ""
    condemned = len(plan.condemned) - len(plan.deleted)
    click.echo(f"{len(plan.removed)} snapshots {would}removed, {len(plan.kept)} kept")
    if not has_data:
        return
    click.echo(f"{condemned} files with {human_bytes(plan.condemned_bytes)} {would or 'are '}condemned")
    click.echo(f"{len(plan.deleted)} files with {human_bytes(plan.deleted_bytes)} {would}deleted")


@click.command(
    "unlock",
    epilog=f"""\b
EXAMPLES
  regstore backup unlock /backup/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def unlock_command(store: str, passphrase_fd: int | None, passphrase_command: str | None, as_json: bool) -> None:
    """Remove the lock of STORE, whoever holds it, and say whose it was. Be sure that no backup runs."""
    started = time.time()
    if backup.is_borg(store):
        options = backup.PassphraseOptions(passphrase_fd, passphrase_command)
        repository = backup.open_repository(store, options)
        holders = repository.break_lock()
        if as_json:
            # Behind ssh nobody can tell whether there was one.
            removed = None if repository.local_path is None else bool(holders)
            show_json("backup unlock", repository.location, started, 0, [], removed=removed, holder=holders or None)
        elif holders:
            click.echo(f"removed the lock of borg: {plain(', '.join(holders))}")
        else:
            click.echo("there is no lock" if repository.local_path else "removed the lock of borg, if there was one")
        return
    opened = backup.open_store(store)
    is_removed, holder = opened.unlock()
    if as_json:
        whose = asdict(holder) if holder else None
        show_json("backup unlock", opened.location, started, 0, [], removed=is_removed, holder=whose)
    elif not is_removed:
        click.echo("there is no lock")
    else:
        click.echo(f"removed the lock of {plain(str(holder)) if holder else 'somebody who cannot be told'}")


@click.command(
    "export",
    epilog=f"""\b
EXAMPLES
  regstore backup export --plain /backup/registry latest /mnt/disk/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.argument("snapshot", shell_complete=complete_snapshot)
@click.argument("directory")
@passphrase_options()
@click.option("--plain", "is_plain", is_flag=True, help="As a registry's own tree, for use without regstore.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def export_command(
    session: Session,
    store: str,
    snapshot: str,
    directory: str,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    is_plain: bool,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Write a SNAPSHOT of STORE to a new or empty DIRECTORY as plain files, owned by whoever runs this."""
    started = time.time()
    if not is_plain:
        raise UsageError("say in which form to export", hint="--plain writes a registry's own tree")
    opened = open_store(store, passphrase_fd, passphrase_command)
    found = backup.find_snapshot(opened, snapshot)
    target = registries.open_target(directory)
    progress = choose_progress(quiet=quiet or as_json)
    owner = Attributes(os.geteuid(), os.getegid(), 0o755, 0o644)
    options = backup.RestoreOptions(attributes=owner)
    try:
        restore = backup.Restore(opened, found, target, options, progress=progress, cancel=session.cancel)
        result = restore.apply(restore.plan())
    finally:
        progress.finish()
    code = 0 if is_clean(result.findings) else 1
    if as_json:
        show_json(
            "backup export",
            target.location,
            started,
            code,
            result.findings,
            snapshot=snapshot_json(found.head),
            tags=result.tag_count,
            written_bytes=result.written_bytes,
        )
    else:
        if not quiet:
            click.echo(f"exported  {found.head.id} to {plain(target.location)}")
            click.echo(f"wrote     {result.tag_count} tags, {human_bytes(result.written_bytes)}")
        if not quiet or code:
            show_image_findings(result.findings, err=quiet)
    raise click.exceptions.Exit(code)

"""`regstore backup`: the group, and what writes snapshots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from regstore.cli.backup_inspect import diff_command, list_command, show_command
from regstore.cli.backup_output import snapshot_json
from regstore.cli.backup_prune import export_command, prune_command, unlock_command
from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.backup_verify import test_restore_command, verify_command
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import NEW_STORE, REGISTRY, STORE
from regstore.cli.output import mention_dead, show_image_findings, show_json
from regstore.cli.parameters import BANDWIDTH, DURATION, safety_option
from regstore.cli.progress import choose_progress
from regstore.errors import UsageError
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from typing import NoReturn

    from regstore import backup
    from regstore import registry as registries
    from regstore.backup import AnyStore
    from regstore.bandwidth import Bandwidth
    from regstore.registry import Registry
    from regstore.work import Cancel, Progress
else:
    backup = Lazily("regstore.backup")
    registries = Lazily("regstore.registry")


@click.group(
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore backup init /backup/registry
  regstore backup create /var/lib/registry /backup/registry
  regstore backup list /backup/registry
  regstore backup verify --subset 1/7 /backup/registry
  regstore restore /backup/registry /srv/new-registry

{EXIT_STATUS}""",
)
def command() -> None:
    """Keep snapshots of a registry that may be live, and see that they can be restored.

    Every image of a snapshot is whole; only what a store does not have yet is read and copied.
    """


@command.command(
    "init",
    epilog=f"""\b
EXAMPLES
  regstore backup init /backup/registry
  regstore backup init 's3://backups/registry?endpoint=http://127.0.0.1:9000'
  regstore backup init --key-export /mnt/safe/registry.key borg:ssh://backup@host/./registry

{EXIT_STATUS}""",
)
@click.argument("store", type=NEW_STORE)
@safety_option("--key-export", metavar="FILE", help="For borg, which needs it: where its key is exported to.")
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
def init_command(
    store: str,
    key_export: str | None,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make an empty store: a directory, a prefix in a bucket, or a borg repository.

    The directory or prefix is made; its parent directory or bucket must exist, so that a disk that is not mounted is
    noticed here and later. A borg repository (borg:PATH, borg:ssh://user@host/path) is encrypted; its key is exported,
    since a repository whose key is damaged is lost.
    """
    started = time.time()
    if backup.is_borg(store):
        if key_export is None:
            raise UsageError(
                "a borg repository is only made with its key exported", hint="add --key-export FILE, and keep that file"
            )
        repository = backup.open_repository(store, backup.PassphraseOptions(passphrase_fd, passphrase_command))
        location, identity = repository.location, repository.init(key_export)
    else:
        made = backup.init_store(store)
        location, identity = made.location, made.id
    if as_json:
        show_json("backup init", location, started, 0, [], store_id=identity)
    elif not quiet:
        click.echo(f"made the store {plain(location)}")
        if key_export:
            click.echo(f"its key is in {plain(key_export)}: keep it, and the passphrase, somewhere else")


@command.command(
    "create",
    epilog=f"""\b
EXAMPLES
  regstore backup create /var/lib/registry /backup/registry
  regstore backup create -q --lock-wait 30m /etc/docker/registry/config.yml s3://backups/registry

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.argument("store", type=STORE)
@click.option("--jobs", type=click.IntRange(1, 256), help="Blobs at once (default: what suits the storage).")
@click.option("--bandwidth", type=BANDWIDTH, metavar="SIZE", help="Read no more than that of the registry a second.")
@passphrase_options()
@safety_option(
    "--lock-wait", type=DURATION, default="0s", show_default=True, metavar="TIME", help="Wait for another run."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def create_command(
    session: Session,
    root: str,
    store: str,
    jobs: int | None,
    bandwidth: Bandwidth | None,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    lock_wait: float,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Store a snapshot of the registry ROOT in STORE. The registry may run; nothing is written to its volume.

    Damage of the registry does not stop the rest: it is listed, the snapshot counts as incomplete, and the command
    ends with 1.
    """
    started = time.time()
    registry = registries.open_registry(root, jobs or 16)
    target = open_store(store, passphrase_fd, passphrase_command, jobs=jobs, lock_wait=lock_wait, warns=not quiet)
    job = session.begin_job("backup", registry.location)
    progress = choose_progress(quiet=quiet or as_json)
    options = backup.CreateOptions(jobs, bandwidth, lock_wait)
    try:
        result = _create(registry, target, options, progress, session.cancel)
    finally:
        progress.finish()
    job.findings = result.findings
    head = result.head
    job.numbers = {"snapshot_bytes": head.total_bytes, "new_bytes": head.new_bytes, "broken_tags": len(head.broken)}
    code = 0 if is_clean(result.findings) else 1
    mention_dead(result.dead_holder, quiet=quiet)
    if as_json:
        show_json(
            "backup create",
            registry.location,
            started,
            code,
            result.findings,
            store=target.location,
            snapshot=snapshot_json(head),
        )
    elif not quiet or code:
        if not quiet:
            _show_created(head, target.location)
        show_image_findings(result.findings, err=quiet)
    raise click.exceptions.Exit(code)


def _create(
    registry: Registry, store: AnyStore, options: backup.CreateOptions, progress: Progress, cancel: Cancel
) -> backup.CreateResult:
    if isinstance(store, backup.Store):
        return backup.create_backup(registry, store, options, progress=progress, cancel=cancel)
    from regstore.backup.borg.create import create_borg_backup

    return create_borg_backup(registry, store, options, progress=progress, cancel=cancel)


def _show_created(head: backup.Head, store: str) -> None:
    click.echo(f"snapshot  {head.id} in {plain(store)}" + ("" if head.is_complete else ", incomplete"))
    click.echo(f"registry  {plain(head.source)}")
    click.echo(
        f"holds     {head.repository_count} repositories, {head.tag_count} tags, {head.revision_count} manifests"
    )
    click.echo(f"data      {head.blob_count} blobs with {human_bytes(head.total_bytes)}")
    click.echo(f"new       {head.new_blob_count} blobs with {human_bytes(head.new_bytes)}")


for _command in (
    list_command,
    show_command,
    diff_command,
    verify_command,
    test_restore_command,
    prune_command,
    unlock_command,
    export_command,
):
    command.add_command(_command)

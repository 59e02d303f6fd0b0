"""`regstore backup verify` and `test-restore`."""

from __future__ import annotations

import time
from random import SystemRandom
from typing import TYPE_CHECKING, NoReturn

import click

from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import STORE
from regstore.cli.output import show_image_findings, show_json
from regstore.cli.progress import choose_progress
from regstore.errors import UsageError
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from regstore import backup
    from regstore.backup import AnyStore, BackupFinding
    from regstore.work import Cancel, Progress
else:
    backup = Lazily("regstore.backup")


@click.command(
    "verify",
    epilog=f"""\b
EXAMPLES
  regstore backup verify /backup/registry
  regstore backup verify --subset 1/7 /backup/registry
  regstore backup verify --full s3://backups/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.option("--quick", is_flag=True, help="Snapshots are read, all else is only listed (the default).")
@click.option("--subset", metavar="N/T", help="Also hash part N of T of the data.")
@click.option("--full", is_flag=True, help="Also hash all data.")
@passphrase_options()
@click.option("--jobs", type=click.IntRange(1, 256), help="Files at once (default: what suits the storage).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def verify_command(
    session: Session,
    store: str,
    quick: bool,
    subset: str | None,
    full: bool,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Say whether STORE has everything that its snapshots need, and whether that is what it was.

    Whatever is lost is named with every image that it hurts, in which snapshots. Reads only, and takes no lock.
    """
    started = time.time()
    if quick + full + (subset is not None) > 1:
        raise UsageError("--quick, --subset and --full exclude each other", hint="give one of them")
    try:
        part = None if subset is None else backup.parse_subset(subset)
    except ValueError as error:
        raise UsageError(str(error)) from error
    opened = open_store(store, passphrase_fd, passphrase_command, jobs=jobs, warns=not quiet)
    job = session.begin_job("backup verify", opened.location)
    progress = choose_progress(quiet=quiet or as_json)
    try:
        options = backup.VerifyOptions(full, part, jobs)
        result = _verify(opened, options, progress, session.cancel)
    finally:
        progress.finish()
    job.findings = result.findings
    code = 0 if is_clean(result.findings) else 1
    if as_json:
        show_json(
            "backup verify",
            opened.location,
            started,
            code,
            result.findings,
            snapshots=result.snapshot_count,
            blobs=result.blob_count,
            bytes=result.total_bytes,
            hashed_files=result.hashed_count,
            hashed_bytes=result.hashed_bytes,
        )
    else:
        if not quiet:
            click.echo(f"store     {plain(opened.location)}")
            click.echo(f"snapshots {result.snapshot_count}, all hashed")
            click.echo(f"data      {result.blob_count} blobs with {human_bytes(result.total_bytes)}")
            if options.reads_data:
                click.echo(f"hashed    {result.hashed_count} files with {human_bytes(result.hashed_bytes)}")
        _show(result.findings, quiet=quiet)
    raise click.exceptions.Exit(code)


def _verify(store: AnyStore, options: backup.VerifyOptions, progress: Progress, cancel: Cancel) -> backup.VerifyResult:
    if isinstance(store, backup.Store):
        return backup.verify_store(store, options, progress=progress, cancel=cancel)
    from regstore.backup.borg.maintain import verify_borg_store

    if options.subset is not None:
        raise UsageError("borg cannot verify a slice", hint="--quick checks the repository, --full all data")
    return verify_borg_store(store, is_full=options.is_full, progress=progress, cancel=cancel)


@click.command(
    "test-restore",
    epilog=f"""\b
EXAMPLES
  regstore backup test-restore /backup/registry
  TMPDIR=/scratch regstore backup test-restore --count 20 s3://backups/registry

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many images.")
@passphrase_options()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def test_restore_command(
    session: Session,
    store: str,
    count: int,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Restore random images of random snapshots of STORE for a trial, look at them, and throw them away.

    They are written below the directory for temporary files (TMPDIR), one at a time.
    """
    started = time.time()
    opened = open_store(store, passphrase_fd, passphrase_command)
    job = session.begin_job("backup test-restore", opened.location)
    progress = choose_progress(quiet=quiet or as_json)
    try:
        result = backup.try_restore(opened, count, SystemRandom(), progress=progress, cancel=session.cancel)
    finally:
        progress.finish()
    job.findings = result.findings
    code = 0 if is_clean(result.findings) else 1
    if as_json:
        tried = [
            {"snapshot": one.snapshot, "image": one.image, "bytes": one.total_bytes, "whole": not one.problem}
            for one in result.tried
        ]
        show_json("backup test-restore", opened.location, started, code, result.findings, tried=tried)
    else:
        for one in result.tried if not quiet else ():
            word = "whole" if not one.problem else "LOST"
            click.echo(f"{word}  {one.snapshot}  {plain(one.image)}, {human_bytes(one.total_bytes)}")
        if not result.tried and not quiet:
            click.echo("there is no image to restore")
        _show(result.findings, quiet=quiet)
    raise click.exceptions.Exit(code)


def _show(findings: list[BackupFinding], *, quiet: bool) -> None:
    if not quiet or not is_clean(findings):
        show_image_findings(findings, err=quiet)

"""`regstore drill`."""

from __future__ import annotations

import time
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli.backup_output import snapshot_json
from regstore.cli.backup_store import open_store, passphrase_options
from regstore.cli.completing import complete_repository, complete_snapshot
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import STORE
from regstore.cli.output import human_time, show_image_findings, show_json
from regstore.cli.parameters import safety_option
from regstore.cli.progress import choose_progress
from regstore.errors import StorageFailedError
from regstore.findings import is_clean
from regstore.wording import human_bytes, human_seconds, plain

if TYPE_CHECKING:
    from regstore.backup import drill
    from regstore.backup.drill import DrillResult
else:
    drill = Lazily("regstore.backup.drill")

_SHOWN_COUNT = 20


@click.command(
    "drill",
    epilog=f"""\b
EXAMPLES
  regstore drill /backup/registry
  regstore drill --count 20 --scratch /srv/scratch s3://backups/registry
  regstore drill --repository team/app --tag 'v2.*' /backup/registry
  regstore drill --repository '*' --scratch /srv/scratch /backup/registry   (everything)
  regstore drill -q --require-registry nas                                  (weekly, from cron or a timer)

{EXIT_STATUS}""",
)
@click.argument("store", type=STORE)
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="How many images, drawn at random (default: 5, or all named)."
)
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="GLOB",
    help="Only of these (* crosses /).",
    shell_complete=complete_repository,
)
@click.option("--tag", "tags", multiple=True, metavar="GLOB", help="Only these tags.")
@click.option(
    "--snapshot",
    default="latest",
    metavar="ID",
    help="Which snapshot (default: the newest complete one).",
    shell_complete=complete_snapshot,
)
@click.option("--scratch", metavar="DIR", help="Make the scratch directory in DIR (default: TMPDIR).")
@click.option("--keep", is_flag=True, help="Do not remove the scratch directory.")
@safety_option(
    "--registry-program", metavar="FILE", help="The registry to start (default: docker-registry or registry on PATH)."
)
@click.option("--require-registry", is_flag=True, help="Fail when there is none, before anything is restored.")
@passphrase_options()
@click.option("--jobs", type=click.IntRange(1, 256), help="Blobs at once (default: what suits the storage).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def command(session: Session, /, store: str, **arguments: Any) -> NoReturn:
    """Restore images of STORE for a trial, pull them, say how long it took.

    They are written to a scratch directory, which is removed again. A registry of its own, read-only and on a free port
    of 127.0.0.1, serves them; every byte that is pulled is hashed. The times are noted for status and metrics. Where no
    registry is installed the images are looked at on disk only, which is said.
    """
    started = time.time()
    as_json, quiet = arguments["as_json"], arguments["quiet"]
    program = drill.find_program(arguments["registry_program"])
    opened = open_store(store, arguments["passphrase_fd"], arguments["passphrase_command"], jobs=arguments["jobs"])
    job = session.begin_job("drill", opened.location)
    if program is None and arguments["require_registry"]:
        raise StorageFailedError(
            "there is no registry to pull from: neither docker-registry nor registry is on PATH",
            hint="install docker-registry, name one with --registry-program, or leave out --require-registry",
            code="registry-missing",
        )
    options = drill.DrillOptions(
        drill.DrillSelection(arguments["snapshot"], arguments["count"], arguments["repositories"], arguments["tags"]),
        program,
        arguments["scratch"],
        arguments["keep"],
        arguments["jobs"],
    )
    progress = choose_progress(quiet=quiet or as_json)
    try:
        result = drill.run_drill(opened, options, SystemRandom(), progress=progress, cancel=session.cancel)
    finally:
        progress.finish()
    job.source = result.snapshot.head.source
    job.findings = result.findings
    job.numbers |= {f"regstore_drill_{name}": value for name, value in _times(result).items() if value is not None}
    _report(result, opened.location, started, as_json=as_json, quiet=quiet)


def _report(result: DrillResult, location: str, started: float, *, as_json: bool, quiet: bool) -> NoReturn:
    code = 0 if is_clean(result.findings) else 1
    if as_json:
        show_json(
            "drill",
            location,
            started,
            code,
            result.findings,
            snapshot=snapshot_json(result.snapshot.head),
            registry_program=result.program,
            images=[
                {"image": one.image, "whole": not one.problem, "pulled_bytes": one.pulled_bytes}
                for one in result.images
            ],
            restored_blobs=result.restored_count,
            **_times(result),
            scratch=result.scratch or None,
        )
    else:
        if not quiet:
            _show(result)
        if not quiet or code:
            show_image_findings(result.findings, err=quiet)
    raise click.exceptions.Exit(code)


def _times(result: DrillResult) -> dict[str, float | None]:
    """Return the numbers of a recovery, as documents and metrics call them."""
    first, full = result.first_pull_seconds, result.full_restore_seconds
    return {
        "restored_bytes": result.restored_bytes,
        "restore_seconds": round(result.restore_seconds, 3),
        "first_pull_seconds": None if first is None else round(first, 3),
        "recovery_seconds": round(result.recovery_seconds, 3),
        "full_restore_seconds": None if full is None else round(full, 3),
    }


def _show(result: DrillResult) -> None:
    head = result.snapshot.head
    click.echo(f"snapshot  {head.id} of {plain(head.source)}, {human_time(head.created_at)}")
    rate = f"{human_bytes(result.bytes_per_second)}/s"
    click.echo(
        f"restored  {human_bytes(result.restored_bytes)} in {human_seconds(result.restore_seconds)}, {rate}, all hashed"
    )
    pulled = sum(one.pulled_bytes for one in result.images)
    click.echo(
        f"pulled    {human_bytes(pulled)} from {plain(result.program)}, all hashed"
        if result.program
        else "pulled    nothing"
    )
    for one in result.images[:_SHOWN_COUNT]:
        click.echo(f"{'LOST ' if one.problem else 'whole'}     {plain(one.image)}")
    if len(result.images) > _SHOWN_COUNT:
        click.echo(f"... and {len(result.images) - _SHOWN_COUNT} more: see --json")
    if result.first_pull_seconds is not None:
        click.echo(
            f"recovery  the first image after {human_seconds(result.first_pull_seconds)}, "
            f"all after {human_seconds(result.recovery_seconds)}"
        )
    if result.full_restore_seconds is not None:
        full = human_seconds(result.full_restore_seconds)
        click.echo(f"          all of the snapshot, {human_bytes(head.total_bytes)}, would take {full} at that rate")
    if result.scratch:
        click.echo(f"kept      {plain(result.scratch)}")

"""`regstore status`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY, find_store
from regstore.cli.output import human_time, make_document
from regstore.durations import parse_duration
from regstore.errors import RegstoreError, UsageError
from regstore.wording import human_bytes, human_seconds, plain
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regstore import registry as registries
    from regstore import status as statuses
    from regstore.configuration import Configuration
    from regstore.jobs import JobNote
    from regstore.status import Status, Timer
else:
    statuses = Lazily("regstore.status")
    registries = Lazily("regstore.registry")

_OF_REGISTRY = ("gc", "fsck", "backup", "report", "luks check")
_NIGHT = "nightly"
_OF_STORE = ("backup verify", "backup test-restore", "backup prune")
_DRILL = "drill"


@click.command(
    "status",
    epilog=f"""\b
EXAMPLES
  regstore status
  regstore status main
  regstore status --json /var/lib/registry

{EXIT_STATUS}""",
)
@click.argument("names", nargs=-1, metavar="[NAME|ROOT]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when every objective is met.")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Say on one screen how registries and their backups are: all that are configured, or those that are named.

    It tells what the last runs of jobs on this host noted, and reads nothing of the registry's data. The exit code is 1
    when an objective is missed (rpo in [nightly.NAME]), a job failed, or one found damage.
    """
    started = time.time()
    configuration = (context.find_object(Session) or Session()).configuration
    chosen = names or tuple(configuration.registries)
    if not chosen:
        raise UsageError("no registry is configured", hint="name its directory, or run regstore config init")
    for name in names:
        REGISTRY.convert(name, None, context)  # a word that is neither name nor path is an error
    found: dict[str, Status | str] = {name: _read(configuration, name, started) for name in chosen}
    timers = statuses.read_timers()
    problems = {name: [status] if isinstance(status, str) else status.problems for name, status in found.items()}
    code = int(any(problems.values()))
    if as_json:
        document = make_document(
            "status", "", started, code, [],
            registries={name: {"problem": s} if isinstance(s, str) else s.to_json() for name, s in found.items()},
            timers=[{"unit": timer.unit, "next_at": timer.next_at} for timer in timers],
        )  # fmt: skip
        click.echo(json.dumps(document, indent=2))
    elif code or not quiet:
        for name, status in found.items():
            _show(name, status, started)
        _show_timers(timers)
    raise click.exceptions.Exit(code)


def _read(configuration: Configuration, name: str, now: float) -> Status | str:
    """Read the status of one; a registry that does not answer must not hide the others."""
    place, night = configuration.registries.get(name), configuration.nights.get(name)
    try:
        rpo = parse_duration(night.rpo) if night and night.rpo else None
        registry = registries.open_registry(place.location if place else name)
        return statuses.read_status(registry, find_store(configuration, night.store if night else ""), rpo, now)
    except (RegstoreError, DriverError, OSError) as error:
        return str(error)


def _show(name: str, status: Status | str, now: float) -> None:
    if isinstance(status, str):
        click.echo(f"{plain(name)}\n  {_mark(status)}\n")
        return
    click.echo(f"{plain(name)}  {plain(status.location)}")
    for job in _OF_REGISTRY:
        click.echo(f"  {job:20}  {_job_line(status.jobs, job, now)}")
    if _NIGHT in status.jobs:
        click.echo(f"  {_NIGHT:20}  {_job_line(status.jobs, _NIGHT, now)}")
    for job in _OF_STORE:
        if job in status.of_store:
            click.echo(f"  {job:20}  {_job_line(status.of_store, job, now)}")
    click.echo(f"  {'last drill':20}  {_drill_line({**status.jobs, **status.of_store}, now)}")
    fraction = status.verified_fraction
    said = "unknown before the first report" if fraction is None else f"{fraction:.0%} of all blobs within 30 days"
    click.echo(f"  {'verified':20}  {said}")
    click.echo(f"  {'free':20}  {_room_line(status)}")
    for problem in status.problems:
        click.echo(f"  {_mark(problem)}")
    if not status.jobs:
        click.echo("  nothing is known yet: no job has run on this host")
    elif not status.problems:
        click.echo("  all well")
    click.echo()


def _mark(problem: str) -> str:
    return click.style(f"! {plain(problem)}", fg="red")


def _job_line(jobs: Mapping[str, JobNote], job: str, now: float) -> str:
    note = jobs.get(job)
    if note is None:
        return "never"
    line = f"{human_time(note.last_run_at)}, {_ago(now - note.last_run_at)} ago"
    if note.exit_code:
        line += ", with findings" if note.exit_code == 1 else f", failed ({note.exit_code})"
    if note.exit_code > 1 and note.last_success_at is not None:
        line += f"; the last that came to its end {_ago(now - note.last_success_at)} ago"
    return line


def _drill_line(jobs: Mapping[str, JobNote], now: float) -> str:
    """Say when images were last restored for a trial, and how long it took."""
    line = _job_line(jobs, _DRILL, now)
    numbers = jobs[_DRILL].numbers if _DRILL in jobs else {}
    if (first := numbers.get("regstore_drill_first_pull_seconds")) is not None:
        line += f"; first image after {human_seconds(first)}"
    if (whole := numbers.get("regstore_drill_full_restore_seconds")) is not None:
        line += f"; everything would take {human_seconds(whole)}"
    return line


def _room_line(status: Status) -> str:
    if status.free_bytes is None or not status.total_bytes:
        return "unknown"
    line = f"{human_bytes(status.free_bytes)} of {human_bytes(status.total_bytes)}"
    line += f" ({status.free_bytes / status.total_bytes:.0%})"
    if status.forecast.full_at is not None:
        line += f", full about {human_time(status.forecast.full_at)[:10]}"
    return line


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _show_timers(timers: Sequence[Timer]) -> None:
    for timer in timers:
        at = "never" if timer.next_at is None else human_time(timer.next_at)
        click.echo(f"{timer.unit}  next {at}")

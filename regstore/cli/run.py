"""`regstore run`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.output import render_table, show_json
from regstore.errors import UsageError
from regstore.lock import hold_lock
from regstore.nightly import Outcome, plan_steps, run_command, run_steps
from regstore.ping import Ping
from regstore.state import state_directory
from regstore.wording import plain
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.configuration import Nightly
    from regstore.nightly import Step
    from regstore.work import Cancel

_JOB = "nightly"


@click.group(
    "run",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore run nightly main

{EXIT_STATUS}""",
)
def command() -> None:
    """Do what is configured for a registry, step by step."""


@command.command(
    "nightly",
    epilog=f"""\b
EXAMPLES
  regstore run nightly main
  regstore run nightly --dry-run main     the commands, without running them
  regstore run nightly -q main            (from cron or a timer)

{EXIT_STATUS}""",
)
@click.argument("name")
@click.option("--dry-run", is_flag=True, allow_from_autoenv=False, help="Show the commands, and run none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_context
def nightly_command(context: click.Context, name: str, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Run the steps that the configuration has in [nightly.NAME] for the registry NAME.

    fsck of what was not verified for 30 days, backup, verification of a thirtieth of the store, retention, collection,
    report, the encrypted disk, metrics: each a command of its own, as --dry-run shows it. After a failed step the rest
    goes on. The exit code is 4 when a step failed, else 1 when one has findings.
    """
    session = context.find_object(Session) or Session()
    configuration = session.configuration
    if name not in configuration.nights:
        known = ", ".join(configuration.nights)
        hint = f"configured: {known}" if known else f"regstore config init writes one; add [nightly.{name}] to it"
        raise UsageError(f"there is no [nightly.{name}] in the configuration", hint=hint)
    night = configuration.nights[name]
    started = time.time()
    steps = plan_steps(night, configuration, datetime.fromtimestamp(started, UTC).date())
    if dry_run:
        for step in steps:
            click.echo(f"{step.name:8}  regstore {' '.join(step.words)}")
        return
    config = ("--config", str(configuration.path))
    outcomes = _run(night, steps, config, session.cancel)
    code = _code_of(outcomes)
    if as_json:
        entries = [outcome.to_json() for outcome in outcomes]
        show_json("run nightly", configuration.registries[name].location, started, code, [], steps=entries)
    elif code or not quiet:
        click.echo(_summary(night, outcomes))
    session.cancel.check()
    raise click.exceptions.Exit(code)


def _run(night: Nightly, steps: Sequence[Step], config: Sequence[str], cancel: Cancel) -> list[Outcome]:
    def run(words: Sequence[str], cancel: Cancel) -> tuple[int, str]:
        return run_command((*config, *words), cancel)

    directory = state_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with hold_lock(open_driver(str(directory)), f"regstore run nightly {night.name}", key=f"{_JOB}-{night.name}.lock"):
        ping = Ping(night.ping_url)
        _warn(ping.start())
        outcomes = list(run_steps(steps, cancel, stop_on_failure=night.stop_on_failure, run=run))
        _warn(ping.end(_code_of(outcomes), _summary(night, outcomes)))
    return outcomes


def _warn(problem: str) -> None:
    if problem:
        click.echo(f"regstore: warning: the monitor was not told: {plain(problem)}", err=True)


def _code_of(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.is_failed for outcome in outcomes):
        return 4
    return int(any(outcome.exit_code for outcome in outcomes))


def _summary(night: Nightly, outcomes: Sequence[Outcome]) -> str:
    rows = [("step", "outcome", "seconds")]
    rows += [(outcome.step.name, outcome.word, f"{outcome.duration_seconds:.0f}") for outcome in outcomes]
    reports = [
        f"{outcome.step.name}: regstore {' '.join(outcome.step.words)}\n{outcome.output.rstrip()}"
        for outcome in outcomes
        if outcome.exit_code and outcome.output.strip()
    ]
    return "\n\n".join([f"regstore run nightly {night.name}\n{render_table(rows)}", *reports])

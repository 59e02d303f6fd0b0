"""`regstore run`."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.night_notes import JOB, NightNotes
from regstore.cli.notifications import begin_report, open_and_begin, tell, test_command
from regstore.cli.output import render_table, show_json
from regstore.errors import RegstoreError
from regstore.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore import lock as locks
    from regstore import nightly
    from regstore import state as states
    from regstore.configuration import Configuration, Nightly
    from regstore.nightly import Outcome, Step
    from regstore.work import Cancel
    from regstore_drivers import url as urls
else:
    locks = Lazily("regstore.lock")
    nightly = Lazily("regstore.nightly")
    states = Lazily("regstore.state")
    urls = Lazily("regstore_drivers.url")

_TOLD_CHARACTERS = 10_000


@click.group(
    "run",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore run nightly main
  regstore run test-notifications main

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

    A monitor, a webhook and mail are told how it ended, where [nightly.NAME] names them.
    """
    session = context.find_object(Session) or Session()
    configuration = session.configuration
    night = configuration.find_night(name)
    started = time.time()
    if dry_run:
        for step in _plan(night, configuration, started):
            click.echo(f"{step.name:8}  regstore {' '.join(step.words)}")
        return
    channels = open_and_begin(night)
    report = begin_report(configuration, name, started)
    notes = NightNotes(configuration, night, started)
    try:
        outcomes = _run(night, configuration, started, notes, session.cancel)
    except Exception as error:
        # Whatever kept it from beginning, such as another night that still runs: who waits for it is told.
        code = error.exit_code if isinstance(error, RegstoreError) else 4
        notes.end(code, time.time() - started)
        tell(channels, replace(report, exit_code=code, error=str(error)))
        raise
    code = session.cancel.exit_code if session.cancel.is_requested else _code_of(outcomes)
    notes.end(code, time.time() - started)
    entries = [outcome.to_json() for outcome in outcomes]
    report = replace(report, exit_code=code, steps=entries, text=_summary(night, outcomes, _TOLD_CHARACTERS))
    tell(channels, report)
    if as_json:
        show_json("run nightly", configuration.registries[name].location, started, code, [], steps=entries)
    elif code or not quiet:
        click.echo(_summary(night, outcomes))
    session.cancel.check()
    if code:
        messages.tell(Severity.ERROR if code > 1 else Severity.WARNING, report.title)
    raise click.exceptions.Exit(code)


def _plan(night: Nightly, configuration: Configuration, started: float) -> list[Step]:
    return nightly.plan_steps(night, configuration, datetime.fromtimestamp(started, UTC).date())


def _run(
    night: Nightly, configuration: Configuration, started: float, notes: NightNotes, cancel: Cancel
) -> list[Outcome]:
    # What steps print is read by people, in mail or at a monitor.
    options = ("--config", str(configuration.path), "--log-format", "text")

    def run(words: Sequence[str], cancel: Cancel) -> tuple[int, str]:
        return nightly.run_command((*options, *words), cancel)

    steps = _plan(night, configuration, started)
    directory = states.state_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locks.hold_lock(
        urls.open_driver(str(directory)), f"regstore run nightly {night.name}", key=f"{JOB}-{night.name}.lock"
    ):
        outcomes = []
        for outcome in nightly.run_steps(steps, cancel, stop_on_failure=night.stop_on_failure, run=run):
            notes.add(outcome)
            outcomes.append(outcome)
        return outcomes


def _code_of(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.is_failed for outcome in outcomes):
        return 4
    return int(any(outcome.exit_code for outcome in outcomes))


def _summary(night: Nightly, outcomes: Sequence[Outcome], characters: int | None = None) -> str:
    """Return the steps, and what those printed that did not end well: all, or so much of the end of each."""
    rows = [("step", "outcome", "seconds")]
    rows += [(outcome.step.name, outcome.word, f"{outcome.duration_seconds:.0f}") for outcome in outcomes]
    reports = [
        f"{outcome.step.name}: regstore {' '.join(outcome.step.words)}\n{_tail(outcome.output.rstrip(), characters)}"
        for outcome in outcomes
        if outcome.exit_code and outcome.output.strip()
    ]
    return "\n\n".join([f"regstore run nightly {night.name}\n{render_table(rows)}", *reports])


def _tail(text: str, characters: int | None) -> str:
    return text if characters is None or len(text) <= characters else f"...{text[-characters:]}"


command.add_command(test_command)

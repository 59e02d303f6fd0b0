"""Telling the channels of a night, and `regstore run test-notifications`."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from regstore.cli import messages
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.output import make_document, render_table
from regstore.errors import UsageError
from regstore.notify import Report, open_channels
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regstore.configuration import Configuration, Nightly
    from regstore.notify import Channel


def begin_report(configuration: Configuration, name: str, started: float) -> Report:
    """Return the report of a night that has just begun."""
    return Report(socket.gethostname(), name, configuration.registries[name].location, started, 0.0, 0)


def open_and_begin(night: Nightly) -> list[Channel]:
    """Open the channels of a night and tell those that want it that it begins; what goes wrong is a warning."""
    channels = open_channels(night, os.environ)
    for channel in channels:
        _ask(channel, channel.begin)
    return channels


def tell(channels: Sequence[Channel], report: Report) -> None:
    """Tell how a night ended; what goes wrong is a warning."""
    report = replace(report, duration_seconds=time.time() - report.started_at)
    for channel in channels:
        _ask(channel, partial(channel.end, report))


def _ask(channel: Channel, call: Callable[[], str]) -> None:
    try:
        problem = call()
    except Exception as error:  # noqa: BLE001 - of a host without memory or threads: the night matters more
        problem = type(error).__name__
    if problem:
        messages.warn(f"{channel.name} was not told: {problem}", hint="regstore run test-notifications tries it again")


@click.command(
    "test-notifications",
    epilog=f"""\b
EXAMPLES
  regstore run test-notifications
  regstore run test-notifications main

{EXIT_STATUS}""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def test_command(session: Session, names: tuple[str, ...], as_json: bool) -> NoReturn:
    """Send a harmless message to every channel of [nightly.NAME], or of all nights, and say whether it was taken.

    A monitor gets a line in its log, which leaves the check as it is; a webhook a document whose outcome is `test`.
    Mail is given to sendmail, which delivers it later or not: look into the mailbox. The exit code is 4 when one
    failed.
    """
    started = time.time()
    configuration = session.configuration
    nights = [configuration.find_night(name) for name in names] or list(configuration.nights.values())
    results = [
        (night.name, channel, channel.test(_test_report(configuration, night.name, started)))
        for night in nights
        for channel in open_channels(night, os.environ)
    ]
    if not results:
        where = ", ".join(f"[nightly.{night.name}]" for night in nights) or "the configuration"
        raise UsageError(f"no channel stands in {where}", hint="add ping_url, webhook_url or mail_to")
    code = 4 if any(problem for _, _, problem in results) else 0
    if as_json:
        entries = [
            {"night": name, "channel": channel.name, "target": channel.target, "problem": problem or None}
            for name, channel, problem in results
        ]
        document = make_document("run test-notifications", "", started, code, [], channels=entries)
        click.echo(json.dumps(document, indent=2))
    else:
        rows = [("night", "channel", "target", "result")]
        rows += [
            (name, channel.name, plain(channel.target), f"failed: {plain(problem)}" if problem else "ok")
            for name, channel, problem in results
        ]
        click.echo(render_table(rows))
    raise click.exceptions.Exit(code)


def _test_report(configuration: Configuration, name: str, started: float) -> Report:
    report = begin_report(configuration, name, started)
    return replace(report, is_test=True, text="Nothing was run: somebody tries whether messages arrive.")

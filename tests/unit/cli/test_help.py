"""`--help` of every command: what it must say, and that it does not wait for what it does not need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from regstore.cli.main import _COMMANDS, Session, cli

# Seconds of processor time. A processor that is shared is slower, so the best of some runs counts.
START_SECONDS = 0.2
TRIES = 10

# Help needs neither what they do nor what regstore does with them.
HEAVY_MODULES = (
    "boto3", "botocore", "borg", "obstore", "psutil", "tqdm", "yaml",
    "regstore.backup", "regstore.fsck", "regstore.gc", "regstore.lock", "regstore.luks.check", "regstore.migrate",
    "regstore.nightly", "regstore.registry", "regstore.report.capacity", "regstore.state", "regstore.transfer",
)  # fmt: skip

_PROGRAM = f"""
import sys
from regstore.cli.main import main
try:
    main()
finally:
    sys.stderr.write(" ".join(name for name in {HEAVY_MODULES} if name in sys.modules))
"""


def commands(command: click.Command, context: click.Context, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group that is not hidden."""
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from commands(inner, click.Context(inner, context, name), *words, name)


ALL = list(commands(cli, click.Context(cli, info_name="regstore", obj=Session())))


def run(*arguments: str) -> tuple[str, str]:
    """Return stdout, and the heavy modules that were imported."""
    # Coverage, when it follows into other processes, takes time there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def processor_seconds(*arguments: str) -> float:
    """Return what one run takes."""
    before = os.times()
    run(*arguments)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_the_commands_are_found() -> None:
    assert {("gc", "run"), ("backup", "create"), ("luks", "check"), ("config",), ()} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "regstore")
def test_help(words: tuple[str, ...]) -> None:
    out, heavy = run(*words, "--help")

    assert "EXAMPLES\n" in out
    assert "EXIT STATUS\n" in out
    assert " ".join(("regstore", *words)) in out.partition("EXAMPLES\n")[2]
    assert heavy == ""


@pytest.mark.parametrize(
    "arguments", [("--version",), *((*words, "--help") for words in ALL if len(words) < 2)], ids=" ".join
)
def test_time(arguments: tuple[str, ...]) -> None:
    seconds = [processor_seconds(*arguments)]
    while min(seconds) > START_SECONDS and len(seconds) < TRIES:
        seconds.append(processor_seconds(*arguments))

    assert min(seconds) <= START_SECONDS, seconds


def test_the_first_help_names_every_command() -> None:
    out, _ = run("--help")

    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [f"{name} {text}" for name, (_, text) in _COMMANDS.items() if f"{name} {text}" not in lines] == []

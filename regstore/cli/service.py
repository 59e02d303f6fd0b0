"""`regstore service`."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.errors import RefusedError, UsageError
from regstore.service import CRON_FILE, UNIT_DIRECTORY, ServiceFile, make_cron, make_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.configuration import Configuration
    from regstore.registry import location as locations
else:
    locations = Lazily("regstore.registry.location")


class TimeOfDay(click.ParamType[tuple[int, int]]):
    """`02:30`; as hour and minute."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", value)
        if match is None:
            self.fail(f"{value!r} is no time: write it as 02:30", param, ctx)
        return int(match[1]), int(match[2])


@click.group(
    "service",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore service install

{EXIT_STATUS}""",
)
def command() -> None:
    """Let systemd or cron run the nights of the configuration."""


@command.command(
    "install",
    epilog=f"""\b
EXAMPLES
  regstore service install --dry-run
  regstore service install --at 02:30
  regstore service install --cron

{EXIT_STATUS}""",
)
@click.option("--at", "time", type=TimeOfDay(), default="02:30", show_default=True, metavar="TIME", help="When.")
@click.option("--cron", is_flag=True, help="Write /etc/cron.d/regstore instead of units of systemd.")
@click.option("--root", default="/", metavar="DIR", hidden=True)
@click.option("--dry-run", is_flag=True, allow_from_autoenv=False, help="Print the files instead.")
@click.pass_obj
def install_command(session: Session, time: tuple[int, int], cron: bool, root: str, dry_run: bool) -> None:
    """Write a service and a timer, or a file for cron.d, that run `regstore run nightly` for each [nightly.NAME].

    A file that was written by this command is replaced, another one never.
    """
    configuration = session.configuration
    if configuration.path is None or not configuration.nights:
        hint = "add [nightly.NAME], with the name of a registry; regstore config init writes an example"
        raise UsageError("the configuration has no [nightly.NAME]", hint=hint)
    program = _find_program()
    config = str(configuration.path.resolve())
    names = list(configuration.nights)
    if cron:
        files = [make_cron(program, config, names, time)]
    else:
        has_mail = any(night.mail_to for night in configuration.nights.values())
        files = make_units(program, config, _written(configuration), time, has_mail=has_mail)
    if dry_run:
        for file in files:
            click.echo(f"# {file.path}\n{file.text}")
        return
    for file in files:
        _write(Path(root, file.path.lstrip("/")), file)
    for file in files:
        click.echo(file.path)
    _warn_of_other_timers(root, UNIT_DIRECTORY if cron else CRON_FILE, names)
    if not cron:
        timers = " ".join(f"regstore-nightly@{name}.timer" for name in names)
        click.echo(f"next: systemctl daemon-reload; systemctl enable --now {timers}")


def _find_program() -> str:
    """Return the path of regstore as a program.

    Raises:
        UsageError: there is none: it was started as a module.
    """
    program = shutil.which("regstore") or shutil.which(os.path.abspath(sys.argv[0]))
    if program is None:
        raise UsageError(
            "there is no program regstore on PATH, which systemd or cron could start",
            hint="install regstore, or put the directory of its program on PATH",
        )
    return os.path.abspath(program)


def _warn_of_other_timers(root: str, other: str, names: Iterable[str]) -> None:
    """Say what was installed before, the other way, and runs every night a second time."""
    file = Path(root, other.lstrip("/"))
    if other == CRON_FILE:
        remedy = f"rm {CRON_FILE}"
    else:
        file /= "regstore-nightly@.timer"
        timers = " ".join(f"regstore-nightly@{name}.timer" for name in names)
        remedy = f"systemctl disable --now {timers}; rm {other}/regstore-nightly@.*"
    if file.exists():
        messages.warn(f"{file} is still there, and runs each night a second time", hint=remedy)


def _written(configuration: Configuration) -> Iterator[str]:
    """Yield the directories that the nights write to."""
    for name, night in configuration.nights.items():
        root = _directory_of(locations.settled_location(configuration.registries[name].location))
        store = _directory_of(configuration.stores[night.store].location) if night.store else ""
        data = os.path.join(root, "docker")
        if root and os.path.islink(data):  # to another disk
            yield os.path.realpath(data)
        yield from filter(None, (root, store))
        scratches = [configuration.commands.get("drill", {})]
        if night.store:
            scratches.insert(0, configuration.stores[night.store].options)
        scratch = next((options["scratch"] for options in scratches if "scratch" in options), "")
        if "drill" in night.steps and scratch:
            yield scratch
        if night.textfile:
            yield os.path.dirname(night.textfile)


def _directory_of(location: str) -> str:
    """Return the directory that a location of a registry or store means; empty for one elsewhere."""
    path = location.removeprefix("borg:")
    if "://" in path and not path.startswith("file:"):
        return ""
    path = os.path.expanduser(locations.path_of_location(path))
    return path if os.path.isabs(path) else ""


def _write(path: Path, file: ServiceFile) -> None:
    try:
        if path.exists() and "regstore service install" not in path.read_text(encoding="utf-8", errors="replace"):
            raise RefusedError(f"{path} is not regstore's", code="service-exists", hint="move it away first")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(file.text, encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="run as root, or use --dry-run") from error

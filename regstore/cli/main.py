"""The entry point: global options, signals, and the mapping of errors to messages and exit codes."""

from __future__ import annotations

import ctypes
import errno
import gc as collector
import importlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore._version import __version__
from regstore.cli import messages
from regstore.cli.listing import ListingGroup
from regstore.cli.option_names import OPTION_NAMES
from regstore.configuration import Configuration, find_file, read_configuration
from regstore.errors import RegstoreError, UsageError
from regstore.findings import Severity
from regstore.work import Cancel
from regstore_drivers.errors import DriverError, PermissionDenied, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from regstore.findings import Finding

_COMMANDS = {
    "completion": ("regstore.cli.completion", "Print a shell's completion."),
    "config": ("regstore.cli.config", "Show, check and write regstore's configuration."),
    "backup": ("regstore.cli.backup", "Keep snapshots of a registry that may be live."),
    "drill": ("regstore.cli.drill", "Restore images for a trial, pull them, say how long it took."),
    "fsck": ("regstore.cli.fsck", "Say whether every image is whole, and repair."),
    "gc": ("regstore.cli.gc", "Collect garbage, never a live image."),
    "luks": ("regstore.cli.luks", "Check the encrypted disk under a registry."),
    "metrics": ("regstore.cli.metrics", "Export the numbers of a volume for Prometheus."),
    "migrate": ("regstore.cli.migrate", "Move a registry to another disk or bucket, with proof."),
    "restore": ("regstore.cli.restore", "Bring a registry back from a snapshot."),
    "report": ("regstore.cli.report", "Say what fills a volume and what can be freed."),
    "run": ("regstore.cli.run", "Do what is configured for a registry, every night."),
    "service": ("regstore.cli.service", "Let systemd or cron run the nights."),
    "status": ("regstore.cli.status", "Say on one screen how registries and their backups are."),
}

_M_MMAP_THRESHOLD = -3
_LOG_FORMAT = "REGSTORE_LOG_FORMAT"

EXIT_STATUS = """\b
EXIT STATUS
  0  done and clean
  1  done, with findings of severity warning or worse, or failed items
  2  usage or configuration: no such path, no registry there
  3  refused by a safety guard, nothing changed
  4  storage or tool failure: stopped, nothing destroyed after it
  5  another run holds the lock
  130, 143  interrupted: the journal is flushed, run again to go on"""


@dataclass(slots=True)
class Session:
    """What every command is given."""

    debug: bool = False
    configuration: Configuration = field(default_factory=Configuration)
    cancel: Cancel = field(default_factory=Cancel)
    job: Job | None = None

    def begin_job(self, name: str, location: str) -> Job:
        """Say which job this is: how it ends is noted beside the state."""
        self.job = Job(name, location, time.time())
        return self.job


@dataclass(slots=True)
class Job:
    """A job under way.

    Attributes:
        name: of the job.
        location: of the registry or store.
        started: when it began, in seconds since the epoch.
        source: of a job on a store: the registry that it is about, where it is noted too.
        numbers, findings: what it counted and found.
    """

    name: str
    location: str
    started: float
    source: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    findings: Sequence[Finding] = ()

    def end(self, exit_code: int) -> None:
        """Note how it ended."""
        from regstore.jobs import note_job

        counts = Counter((found.id, found.severity.word) for found in self.findings)
        findings = {check: (severity, count) for (check, severity), count in counts.items()}
        duration = time.time() - self.started
        for location in {self.location, self.source or self.location}:
            note_job(location, self.name, self.started, duration, exit_code, self.numbers, findings)


class LazyGroup(ListingGroup):
    """A group whose commands are imported when they are used: `--version` must not wait for boto3."""

    def iter_summaries(self, context: click.Context) -> Iterator[tuple[str, str]]:
        """Yield what is said of each command here, without importing it."""
        yield from ((name, _COMMANDS[name][1]) for name in self.list_commands(context))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for an unknown one, those that it may have been meant to be."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
@click.version_option(__version__, prog_name="regstore")
@click.option(
    "--config",
    metavar="FILE",
    help="Read this configuration (default: regstore/config.toml in $XDG_CONFIG_HOME, else in /etc).",
)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.option(
    "--log-format",
    type=click.Choice(messages.LOG_FORMATS),
    default="text",
    show_default=True,
    help="How messages, findings and progress are written to stderr; json is one object a line.",
)
@click.pass_context
def cli(context: click.Context, config: str | None, debug: bool, log_format: str) -> None:
    """The storage toolkit for the data volume of a Docker/OCI registry.

    It works on the tree docker/registry/v2 itself, in a directory or in an S3 bucket.

    \b
    EXAMPLES
      regstore gc plan /var/lib/registry
      regstore gc run --offline /var/lib/registry
      regstore gc run --registry-url http://127.0.0.1:5000 s3://bucket/prefix
    """
    messages.choose_form(log_format, os.environ)
    context.obj.debug = debug
    file = find_file(config, os.environ)
    # `config` itself must be able to say what is wrong with the file.
    if file is None or context.invoked_subcommand in (None, "config"):
        return
    context.obj.configuration = read_configuration(file, OPTION_NAMES, _COMMANDS)
    command = context.invoked_subcommand
    table = context.obj.configuration.commands.get(command)
    found = cli.get_command(context, command)
    if table and found is not None:
        context.default_map = {command: translate(found, table, f"{file}: [{command}")}


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by the names that the configuration has for them."""
    return {
        word[2:].replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for word in option.opts
        if word.startswith("--")
    }


def default_of(option: click.Option, value: Any) -> dict[str, Any]:
    """Return a value of the configuration as click's default: one value of an option that takes several is a list."""
    return {str(option.name): [value] if option.multiple and not isinstance(value, list) else value}


def translate(command: click.Command, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a table of the configuration as click's defaults.

    Raises:
        UsageError: the command has no such command or option.
    """
    options = options_of(command)
    subcommands = command.commands if isinstance(command, click.Group) else {}
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key in subcommands:
            defaults[key] = translate(subcommands[key], value, f"{where}.{key}")
        elif isinstance(value, dict) or key not in options:
            raise UsageError(f"{where}] has no {key}", hint="regstore COMMAND --help names the options")
        else:
            defaults |= default_of(options[key], value)
    return defaults


def main() -> NoReturn:
    """Run the command line and exit."""
    # A survey makes millions of short-lived tuples and next to no cycles: walking them costs a tenth of the run.
    collector.set_threshold(100_000, 20, 20)
    _give_memory_back()
    # Before the options are read, which may be wrong.
    messages.choose_form(os.environ.get(_LOG_FORMAT), os.environ)
    messages.take_over_logging()
    session = Session()
    _handle_signals(session.cancel)
    try:
        code = cli.main(prog_name="regstore", obj=session, standalone_mode=False, auto_envvar_prefix="REGSTORE")
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        _show_usage(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            raise  # a shell has been told how to complete
        # The reader of our output went away; there is nobody to tell. click itself would end with 1 then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except RegstoreError as error:
        code = error.exit_code
        _show_error(error, error.hint, error.code, session)
    except DriverError as error:
        code = 4
        _show_error(error, _hint_of(error), "storage-failed", session)
    except OSError as error:
        code = 4
        _show_error(error, _hint_of(error), "storage-failed", session)
    except BaseException as error:  # noqa: BLE001 - a panic of Rust too: Python's own 1 would say: done, with findings
        code = 4
        hint = "" if session.debug else "this is a defect of regstore: please report what --debug shows"
        _show_error(error, hint, f"internal-error: {type(error).__name__}", session)
    if session.job is not None:
        session.job.end(code or 0)
    sys.exit(code or 0)


def _show_error(error: BaseException, hint: str, slug: str, session: Session) -> None:
    fields = {}
    if session.debug:
        trace = "".join(traceback.format_exception(error))
        if messages.current_form() is messages.Form.JSON:
            fields["traceback"] = trace
        else:
            messages.show(trace.rstrip(), err=True, severity=Severity.ERROR)
    hints = [line for line in (*getattr(error, "__notes__", ()), hint) if line]
    messages.tell(Severity.ERROR, _say(error), hints=hints, msgid=slug, **fields)


def _show_usage(error: click.ClickException) -> None:
    """Say how a command is to be written: as click does for people, as one message else."""
    if messages.current_form() is messages.Form.TEXT:
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    is_bare = isinstance(error, click.exceptions.NoArgsIsHelpError)
    message = "a command is missing" if is_bare else error.format_message()
    hints = [f"see {context.command_path} --help"] if context else []
    messages.tell(Severity.ERROR, message, hints=hints, msgid=UsageError.code)


def _say(error: BaseException) -> str:
    """Return what an error says; one of the system names its file first, and not its number."""
    if isinstance(error, OSError) and not isinstance(error, DriverError) and error.filename and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _hint_of(error: DriverError | OSError) -> str:
    if isinstance(error, PermissionDenied):
        return "run as the registry's user or as root; on S3 check credentials and the bucket's policy"
    if isinstance(error, PermissionError):
        return "run as the registry's user or as root"
    if isinstance(error, Unreachable):
        return "check the endpoint, the bucket's name and the network"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that disk, then run again"
    return "nothing was removed after this error; see the system log for the disk, then run again"


def _give_memory_back() -> None:
    """Let glibc return large buffers at once: it learns to keep them, in every thread (mallopt(3), M_MMAP_THRESHOLD).

    Uploads by 16 threads held 500 MiB that way instead of 113, and took twice as long.
    """
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)


def _handle_signals(cancel: Cancel) -> None:
    def handle(number: int, _: FrameType | None) -> None:
        if cancel.is_requested:
            os._exit(128 + number)
        cancel.request(128 + number)
        said = messages.format_message(Severity.INFO, "stopping after this item; once more to stop at once")
        line_end = "\n" if messages.current_form() is messages.Form.TEXT else ""  # behind a bar, or a ^C
        # Not through a buffer: the signal may come in the midst of writing to it.
        with suppress(OSError):
            os.write(2, f"{line_end}{said}\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)

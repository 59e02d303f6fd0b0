"""The entry point: exit codes, messages, signals, help, and what environment variables may set."""

from __future__ import annotations

import gc as collector
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from regstore.cli import gc as gc_module
from regstore.cli import main as main_module
from regstore.cli.main import Session, main
from regstore.errors import (
    InterruptedRunError,
    LockedError,
    RefusedError,
    RegstoreError,
    StorageFailedError,
    UsageError,
)
from regstore_drivers.errors import DriverError, NotFound, PermissionDenied, Unavailable, Unreachable
from support.volume import VolumeWriter

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _process_settings() -> Iterator[None]:
    """Keep what the entry point sets for its process."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    thresholds = collector.get_threshold()
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    collector.set_threshold(*thresholds)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command line in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["regstore", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, output.out, output.err

    return call


@pytest.fixture
def boom(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Session], object]], None]:
    """A function that adds a command `boom`."""

    def add(body: Callable[[Session], object]) -> None:
        @click.command()
        @click.pass_obj
        def command(session: Session) -> None:
            body(session)

        module = ModuleType("a_command_of_the_tests")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(main_module._COMMANDS, "boom", (module.__name__, "Fails."))

    return add


def raising(error: BaseException) -> Callable[[Session], object]:
    """Return a command's body that raises."""

    def body(_: Session) -> None:
        raise error

    return body


def interrupted(code: int) -> InterruptedRunError:
    """Return the error of a run that a signal stopped."""
    error = InterruptedRunError("stopped on request")
    error.exit_code = code
    return error


class Panic(BaseException):
    """What a library in Rust raises when it panics: no Exception."""


ERRORS: list[tuple[BaseException, int, str]] = [
    (RegstoreError("x"), 4, "error"),
    (UsageError("x"), 2, "usage"),
    (UsageError("x", code="no-registry"), 2, "no-registry"),
    (RefusedError("x", code="harbor"), 3, "harbor"),
    (StorageFailedError("x"), 4, "storage-failed"),
    (LockedError("x"), 5, "locked"),
    (interrupted(130), 130, "interrupted"),
    (interrupted(143), 143, "interrupted"),
    (DriverError("x", operation="read", key="k"), 4, "storage-failed"),
    (NotFound("x"), 4, "storage-failed"),
    (Unavailable("x"), 4, "storage-failed"),
    (OSError("x"), 4, "storage-failed"),
    (KeyError("x"), 4, "internal-error: KeyError"),
    (RecursionError("x"), 4, "internal-error: RecursionError"),
    (Panic("x"), 4, "internal-error: Panic"),
]


@pytest.mark.parametrize(("error", "code", "slug"), ERRORS, ids=range(len(ERRORS)))
def test_errors_have_exit_codes_and_one_line(
    run: Run, boom: Callable[..., None], error: BaseException, code: int, slug: str
) -> None:
    boom(raising(error))

    result, out, err = run("boom")

    assert (result, out) == (code, "")
    assert err.splitlines()[0] == f"regstore: {error} [{slug}]"
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=["interrupt", "abort"])
def test_an_interrupt_is_130(run: Run, boom: Callable[..., None], error: BaseException) -> None:
    boom(raising(error))

    assert run("boom")[0] == 130


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_may_say_its_exit_code(run: Run, boom: Callable[..., None], code: int) -> None:
    boom(raising(click.exceptions.Exit(code)))

    assert run("boom") == (code, "", "")


def test_a_command_that_returns_is_0(run: Run, boom: Callable[..., None]) -> None:
    boom(lambda _: None)

    assert run("boom") == (0, "", "")


def test_hints_and_notes_follow_the_message(run: Run, boom: Callable[..., None]) -> None:
    error = RefusedError("no\x1b[2J", hint="do\nthis")
    error.add_note("nothing was removed")
    boom(raising(error))

    assert run("boom")[2].splitlines() == [
        "regstore: no\\x1b[2J [refused]",
        "  -> nothing was removed",
        "  -> do\\nthis",
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionDenied("x"), "bucket's policy"),
        (Unreachable("x"), "endpoint"),
        (DriverError("x"), "nothing was removed"),
        (PermissionError(13, "Permission denied", "/x"), "as root"),
        (OSError(28, "No space left on device", "/x"), "make room"),
        (OSError(5, "Input/output error", "/x"), "system log"),
    ],
    ids=["denied", "unreachable", "other", "file-denied", "full", "disk"],
)
def test_storage_errors_say_what_to_do(run: Run, boom: Callable[..., None], error: DriverError, words: str) -> None:
    boom(raising(error))

    assert words in run("boom")[2].splitlines()[-1]


def test_an_error_of_the_system_names_the_file(run: Run, boom: Callable[..., None]) -> None:
    boom(raising(PermissionError(13, "Permission denied", "/srv/lock")))

    assert run("boom")[2].splitlines()[0] == "regstore: /srv/lock: Permission denied [storage-failed]"


@pytest.mark.parametrize(
    "error", [UsageError("x"), Unavailable("x"), KeyError("x")], ids=["usage", "storage", "defect"]
)
def test_debug_shows_a_traceback(run: Run, boom: Callable[..., None], error: BaseException) -> None:
    boom(raising(error))

    code, _, err = run("--debug", "boom")

    assert code in (2, 4)
    assert "Traceback" in err
    assert any(line.startswith("regstore: ") for line in err.splitlines()[-2:])


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["gc", "frobnicate"], ["gc", "plan"], ["gc", "plan", "--grace", "soon", "/"], ["--frobnicate"]],
    ids=range(5),
)
def test_wrong_usage_is_2_and_says_why(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert "Error: " in err
    assert "Usage: regstore" in err


@pytest.mark.parametrize(
    ("arguments", "meant"), [(["gcc"], "'gc'"), (["statsu"], "'status'"), (["gc", "plann"], "'plan'")], ids=range(3)
)
def test_a_mistyped_command_is_told_the_one_that_was_meant(run: Run, arguments: list[str], meant: str) -> None:
    code, _, err = run(*arguments)

    assert code == 2
    assert f"Did you mean {meant}?" in err


def test_the_url_of_a_registry_is_no_location(run: Run) -> None:
    code, _, err = run("gc", "plan", "http://127.0.0.1:5000")

    assert code == 2
    assert "name the registry's data" in err


@pytest.mark.parametrize("command", ["plan", "run", "status", "undo", "purge", "apply"])
def test_no_such_path_is_2(run: Run, tmp_path: Path, command: str) -> None:
    code, out, err = run("gc", command, tmp_path / "absent")

    assert (code, out) == (2, "")
    assert str(tmp_path / "absent") in err
    assert len(err.splitlines()) in (1, 2)


def test_the_version(run: Run) -> None:
    code, out, _ = run("--version")

    assert code == 0
    assert out.startswith("regstore, version ")


HELP = """
import sys
import click
from regstore.cli.main import cli, Session

def shown(command, context):
    formatter = context.make_formatter()
    command.format_help(context, formatter)
    yield context.command_path, formatter.getvalue()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from shown(below, click.Context(below, info_name=name, parent=context))

for path, text in shown(cli, click.Context(cli, info_name="regstore", obj=Session())):
    print("=====", path)
    print(text)
print("===== loaded:", *sorted({"boto3", "botocore", "yaml"} & set(sys.modules)))
"""


def test_every_help_shows_examples_and_exit_codes_and_loads_no_large_package() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, check=True, env={**environment, "COLUMNS": "100"}
    )
    _, *pages, loaded = done.stdout.split("===== ")

    helps = {page.partition("\n")[0]: page for page in pages}
    assert set(helps) >= {f"regstore gc {name}" for name in ("plan", "run", "apply", "status", "undo", "purge")}
    for path, page in helps.items():
        assert "EXIT STATUS" in page, path
        assert "130, 143  interrupted" in page, path
        assert "EXAMPLES\n" in page, path
        assert f"  {path} " in page, path
        assert "..." not in page.partition("Commands:")[2].partition("EXAMPLES")[0], path
    assert loaded.strip() == "loaded:"


ALLOWED = {"as_json", "quiet", "jobs", "out", "help"}
"""What an environment variable may set: nothing that decides what is removed."""


def options() -> Iterator[tuple[str, click.Option]]:
    """Yield every option with the name of its command."""
    for name, command in gc_module.command.commands.items():
        yield from ((name, option) for option in command.params if isinstance(option, click.Option))


def test_safety_options_do_not_ask_the_environment() -> None:
    askers = {option.name for _, option in options() if option.allow_from_autoenv}

    assert askers <= ALLOWED
    assert all(option.envvar is None for _, option in options())
    assert len(list(options())) > 20


def test_the_environment_makes_no_collection_less_careful(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = VolumeWriter(tmp_path / "data")
    writer.push_image("app", "latest", [b"layer"], b"{}")
    writer.push_image("app", "", [b"untagged"], b"{}")
    writer.upload("app", b"x", started_at="")
    before = {path for path in (tmp_path / "data").rglob("*") if path.is_file()}
    extremes = {"max_delete": "none", "grace": "0s", "upload_age": "0s", "untagged_older_than": "0s", "retention": "0s"}
    for command, option in options():
        assert option.name is not None
        if option.name in ALLOWED:
            continue
        for name in {option.name, *(flag.lstrip("-").replace("-", "_") for flag in option.opts)}:
            value = extremes.get(option.name, "http://127.0.0.1:1" if "url" in name else "1")
            for prefix in ("REGSTORE", f"REGSTORE_GC_{command.upper()}", "REGSTORE_GC"):
                monkeypatch.setenv(f"{prefix}_{name.upper()}", value)

    for command in ("plan", "run"):
        code, out, err = run("gc", command, tmp_path / "data")
        assert code == 0, err
        assert "nothing to do" in out
    assert {path for path in (tmp_path / "data/docker").rglob("*") if path.is_file()} == before


def test_the_environment_sets_what_is_harmless(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    VolumeWriter(tmp_path / "data").push_image("app", "latest", [b"layer"], b"{}")
    monkeypatch.setenv("REGSTORE_GC_PLAN_QUIET", "1")

    assert run("gc", "plan", tmp_path / "data") == (0, "", "")


WAIT = """
import signal, sys, time, types, click
from regstore.cli import main as module

@click.command()
@click.pass_obj
def command(session):
    print("ready", flush=True)
    for _ in range(3000):
        session.cancel.wait(0.01)

module._COMMANDS["wait"] = ("waiting", "")
sys.modules["waiting"] = types.SimpleNamespace(command=command)
sys.argv = ["regstore", "wait"]
module.main()
"""

STUBBORN = WAIT.replace("session.cancel.wait(0.01)", "time.sleep(0.01)")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_the_first_signal_stops_after_the_item(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(30) == code

    assert "stopping after this item; once more to stop at once" in errors
    assert "[interrupted]" in errors
    assert "Traceback" not in errors


def test_the_second_signal_stops_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        while "stopping" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


@pytest.mark.parametrize("form", [[], ["--json"], ["-h"]], ids=["table", "json", "help"])
def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path, form: list[str]) -> None:
    VolumeWriter(tmp_path / "data").push_image("app", "latest", [b"layer"], b"{}")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "regstore", "gc", "plan", *form, str(tmp_path / "data")],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")

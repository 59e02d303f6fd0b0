"""What is said on stderr: text, lines for the journal, JSON Lines; and that nothing goes around it."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import regstore.cli
from regstore.cli import messages
from regstore.cli.progress import LineProgress, choose_progress
from regstore.findings import Severity
from support.images import layers
from support.volume import VolumeWriter

JSON = ("--log-format", "json")
ERROR = "regstore: there is no docker/registry/v2"


@pytest.fixture(autouse=True)
def _form_of_this_process() -> Iterator[None]:
    yield
    messages.choose_form(None, {})


def run(
    tmp_path: Path, *words: object, program: str = "", stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run regstore, or a program that does, with a state directory of its own."""
    start = ["-c", program] if program else ["-m", "regstore"]
    clean = {name: value for name, value in os.environ.items() if name not in ("JOURNAL_STREAM", "REGSTORE_LOG_FORMAT")}
    return subprocess.run(
        [sys.executable, *start, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
        env={**clean, "XDG_STATE_HOME": str(tmp_path / "state"), **environment},
        timeout=60,
    )


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return JSON Lines, each with what every one has."""
    entries: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for entry in entries:
        assert entry["type"] in ("log_message", "progress", "finding")
        assert entry["levelname"] in ("INFO", "WARNING", "ERROR", "CRITICAL")
        assert isinstance(entry["message"], str)
        assert abs(datetime.now(UTC) - datetime.fromisoformat(entry["time"])) < timedelta(minutes=2)
    return entries


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A volume of which every file of data is rotten."""
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", layers(1, "app"))
    for data in (tmp_path / "volume").rglob("data"):
        data.write_bytes(b"rot")
    return tmp_path / "volume"


class TestJson:
    def test_an_error(self, tmp_path: Path) -> None:
        done = run(tmp_path, *JSON, "gc", "plan", tmp_path)
        (entry,) = lines_of(done.stderr)
        assert done.returncode == 2
        assert (entry["type"], entry["levelname"], entry["msgid"]) == ("log_message", "ERROR", "no-registry")
        assert str(tmp_path) in entry["message"]
        assert "[no-registry]" not in entry["message"]
        assert all(isinstance(hint, str) for hint in entry["hints"])

    @pytest.mark.parametrize(
        "words", [["frobnicate"], ["gc"], ["gc", "plan", "--grace", "soon", "/"], ["--frobnicate"]]
    )
    def test_wrong_usage_by_the_environment(self, tmp_path: Path, words: list[str]) -> None:
        done = run(tmp_path, *words, REGSTORE_LOG_FORMAT="json")
        (entry,) = lines_of(done.stderr)
        assert (done.returncode, entry["levelname"], entry["msgid"]) == (2, "ERROR", "usage")
        assert "--help" in entry["hints"][0]

    def test_a_flag_goes_before_the_environment(self, tmp_path: Path) -> None:
        done = run(tmp_path, "--log-format", "text", "gc", "plan", tmp_path, REGSTORE_LOG_FORMAT="json")
        assert done.stderr.startswith("regstore: ")

    def test_no_such_format(self, tmp_path: Path) -> None:
        for done in (run(tmp_path, "--log-format", "xml", "gc"), run(tmp_path, "gc", REGSTORE_LOG_FORMAT="xml")):
            assert done.returncode == 2
            assert "'xml' is not one of 'text', 'json'" in done.stderr

    @pytest.mark.parametrize("words", [["fsck", "--data"], ["gc", "plan"]])
    def test_findings(self, tmp_path: Path, damaged: Path, words: list[str]) -> None:
        done = run(tmp_path, *JSON, *words, "-q", damaged)
        entries = lines_of(done.stderr)
        assert done.returncode == 1
        assert entries
        for entry in entries:
            assert entry["type"] == "finding"
            assert entry["msgid"] == entry["id"]
            assert entry["levelname"] == entry["severity"].upper()
            assert entry["subject"] in entry["message"]
        levels = [Severity[entry["levelname"]] for entry in entries]
        assert levels == sorted(levels, reverse=True)

    def test_not_more_findings_than_people_are_shown(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        from regstore.transfer import ImageFinding

        messages.choose_form("json", {})
        images = tuple(f"app:v{number}" for number in range(1000))
        messages.tell_findings([ImageFinding("x", Severity.ERROR, f"s{n}", "d", "r", images) for n in range(50)])
        *entries, last = lines_of(capsys.readouterr().err)
        assert len(entries) == 20
        assert (len(entries[0]["images"]), entries[0]["image_count"]) == (5, 1000)
        assert last["message"] == "30 more findings: see --json"

    def test_a_traceback_is_a_field(self, tmp_path: Path) -> None:
        (entry,) = lines_of(run(tmp_path, "--debug", *JSON, "gc", "plan", tmp_path).stderr)
        assert entry["traceback"].startswith("Traceback")

    def test_progress(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("regstore.cli.progress._LINE_SECONDS", 0.0)
        messages.choose_form("json", {})
        progress = LineProgress()
        progress.start("blobs", 1000, "B")
        progress.advance(600)
        (entry,) = lines_of(capsys.readouterr().err)
        assert (entry["type"], entry["levelname"]) == ("progress", "INFO")
        assert (entry["phase"], entry["current"], entry["total"], entry["unit"]) == ("blobs", 600, 1000, "B")
        assert entry["message"].startswith("blobs: 600 B of 1000 B")

    def test_a_terminal_gets_no_bars(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stderr", Terminal())
        messages.choose_form("json", {})
        assert type(choose_progress(quiet=False)) is LineProgress

    def test_nobody_is_asked(self, tmp_path: Path, damaged: Path) -> None:
        """A question is no JSON: a repair is refused as where there is no terminal."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "regstore", *JSON, "fsck", "--data", "--repair", str(damaged)],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        ) as process:
            os.close(theirs)
            said = b""
            while not said.endswith(b"\n"):
                said += os.read(ours, 65536)
            assert process.wait(60) == 3
        os.close(ours)
        assert [entry["msgid"] for entry in lines_of(said.decode())] == ["not-confirmed"]


class TestJournal:
    """A stream of the journal is told by device and inode; a file has those too."""

    def said(self, tmp_path: Path, *words: object, is_ours: bool = True, **environment: str) -> list[str]:
        with open(tmp_path / "journal", "w+") as file:
            found = os.fstat(file.fileno())
            stream = f"{found.st_dev}:{found.st_ino if is_ours else found.st_ino + 1}"
            run(tmp_path, *words, stderr=file.fileno(), JOURNAL_STREAM=stream, **environment)
            file.seek(0)
            return file.read().splitlines()

    def test_every_line_has_a_priority(self, tmp_path: Path, damaged: Path) -> None:
        assert self.said(tmp_path, "gc", "plan", tmp_path)[0].startswith("<3>regstore: ")
        assert self.said(tmp_path, "gc", "frobnicate")[0].startswith("<3>regstore: No such command")
        lines = self.said(tmp_path, "fsck", "--data", "-q", damaged)
        assert len(lines) > 4
        assert {line[:3] for line in lines} <= {"<2>", "<3>", "<4>", "<6>"}
        at = next(number for number, line in enumerate(lines) if "manifest-corrupt" in line)
        assert lines[at].startswith("<2>" if "critical" in "".join(lines[:at]) else "<3>")
        assert lines[at + 1][:3] == lines[at][:3]

    def test_a_stream_that_is_not_ours(self, tmp_path: Path) -> None:
        """As of a child whose output somebody else reads."""
        assert self.said(tmp_path, "gc", "plan", tmp_path, is_ours=False)[0].startswith("regstore: ")

    def test_json_goes_before(self, tmp_path: Path) -> None:
        assert len(lines_of("\n".join(self.said(tmp_path, *JSON, "gc", "plan", tmp_path)))) == 1


LIBRARY = """
import logging, sys, types, warnings, click
from regstore.cli import main as module

@click.command()
def command():
    logging.getLogger("a.driver").warning("cannot abort %s", "x")
    logging.getLogger("a.driver").error("worse")
    logging.getLogger("a.driver").info("not this")
    warnings.warn("old python", UserWarning)

module._COMMANDS["log"] = ("logs", "")
sys.modules["logs"] = types.SimpleNamespace(command=command)
module.main()
"""


def test_what_libraries_log_comes_the_same_way(tmp_path: Path) -> None:
    first, second, third = lines_of(run(tmp_path, *JSON, "log", program=LIBRARY).stderr)
    assert (first["levelname"], first["message"], first["logger"]) == ("WARNING", "cannot abort x", "a.driver")
    assert (second["levelname"], second["message"]) == ("ERROR", "worse")
    assert "old python" in third["message"]
    assert run(tmp_path, "log", program=LIBRARY).stderr.startswith(
        "regstore: warning: cannot abort x\nregstore: worse\n"
    )


STOPPED = """
import os, signal, sys, types, click
from regstore.cli import main as module

@click.command()
@click.pass_obj
def command(session):
    os.kill(os.getpid(), signal.SIGTERM)
    session.cancel.wait(10)

module._COMMANDS["wait"] = ("waiting", "")
sys.modules["waiting"] = types.SimpleNamespace(command=command)
module.main()
"""


def test_a_signal(tmp_path: Path) -> None:
    done = run(tmp_path, *JSON, "wait", program=STOPPED)
    first, last = lines_of(done.stderr)
    assert done.returncode == 128 + signal.SIGTERM
    assert (first["levelname"], first["message"].split()[0]) == ("INFO", "stopping")
    assert (last["levelname"], last["msgid"]) == ("ERROR", "interrupted")


def test_nothing_goes_around_it() -> None:
    """No other module of the command line writes to stderr; click's questions are for terminals only."""
    wrong = []
    for path in sorted(Path(regstore.cli.__file__).parent.glob("*.py")):
        if path.name == "messages.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = ast.unparse(node.func)
            to_stderr = any(keyword.arg == "err" for keyword in node.keywords)
            if (named in ("click.echo", "click.secho") and to_stderr) or "sys.stderr.write" in named:
                wrong.append(f"{path.name}:{node.lineno}: {named}: use regstore.cli.messages")
    assert wrong == []

"""Bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from regstore.cli import progress
from regstore.cli.progress import BarProgress, LineProgress, QuietProgress, choose_progress


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Be one."""
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_a_terminal_gets_bars_and_a_file_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert type(choose_progress(quiet=False)) is BarProgress
    assert type(choose_progress(quiet=True)) is QuietProgress
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(choose_progress(quiet=False)) is LineProgress
    assert type(choose_progress(quiet=True)) is QuietProgress


def test_a_bar_shows_its_phase_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bars = BarProgress()

    bars.advance()
    bars.start("repositories", 10)
    bars.advance(3)
    bars.start("blobs")
    bars.advance(5)
    bars.finish()
    bars.finish()

    shown = terminal.getvalue()
    assert "repositories" in shown
    assert "blobs" in shown
    assert shown.endswith("\r")


def test_a_line_a_minute(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    lines.start("blobs", 6000)
    for _ in range(59):
        clock.now += 1
        lines.advance(10)
    assert capsys.readouterr() == ("", "")

    clock.now += 1
    lines.advance(10)
    lines.advance(10)

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "blobs: 600 of 6000, 10/s, 9 min left\n"
    clock.now += 60
    lines.advance(0)
    assert capsys.readouterr().err.startswith("blobs: 610 of 6000, 5/s")


def test_a_phase_of_unknown_length(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineProgress()
    clock.now += 3600
    lines.start("blobs")
    lines.advance(0)  # in the same instant
    lines.finish()

    assert capsys.readouterr().err == "blobs: 0, 0/s\n"


def test_quiet_is_quiet(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = QuietProgress()
    quiet.start("blobs", 3)
    clock.now += 3600
    quiet.advance(3)
    quiet.finish()

    assert capsys.readouterr() == ("", "")

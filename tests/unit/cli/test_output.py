"""How results are shown."""

from __future__ import annotations

import json
import time

import pytest

from regstore.cli.output import human_time, json_time, render_table, show_findings, show_json
from regstore.findings import Finding, Severity


def test_times_are_local_for_people_and_utc_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert human_time(1_800_000_000.0) == "2027-01-15 17:00 JST"
        assert json_time(1_800_000_000.5) == "2027-01-15T08:00:00.500000+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_table_aligns_words_left_and_numbers_right() -> None:
    rows = [["kind", "count", "bytes"], ["blob", "5", "1.0 KiB"], ["layer-link", "12345", "-"], ["upload", "7", ""]]

    assert render_table(rows).splitlines() == [
        "kind        count    bytes",
        "blob            5  1.0 KiB",
        "layer-link  12345        -",
        "upload          7",
    ]
    assert render_table([["kind", "12"], ["x", "3"]], indent="  ") == "  kind  12\n  x      3"
    assert render_table([]) == ""


def test_words_in_a_column_keep_it_left() -> None:
    rows = [["id", "state"], ["1", "9 lives"], ["2", "undone"]]

    assert render_table(rows).splitlines() == ["id  state", "1   9 lives", "2   undone"]


def findings(count: int) -> list[Finding]:
    """Make findings of all severities."""
    return [
        Finding(f"id-{number}", list(Severity)[number % 4], f"subject {number}", f"detail {number}", "do this")
        for number in range(count)
    ]


def test_findings_come_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(findings(4))

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["", "findings: 4"]
    assert [line.split()[0] for line in lines[2::3]] == ["critical", "error", "warning", "info"]
    assert lines[2:5] == ["  critical id-3: subject 3", "    detail 3", "    -> do this"]


def test_no_findings_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings([])

    assert capsys.readouterr() == ("", "")


def test_not_more_than_a_screen_of_findings(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(findings(50), err=True)

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("-> do this") == 20
    assert output.err.splitlines()[-1] == "  ... and 30 more: see --json"


def test_names_from_the_volume_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings([Finding("stray", Severity.INFO, "a\x1b[2Jb", "c\nd")])

    assert "\x1b" not in capsys.readouterr().out


def test_the_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.time() - 2
    show_json("gc plan", "file:///srv", started, 1, findings(2), removed=[], odd="\x1b\u202e\udce9")

    document = json.loads(capsys.readouterr().out)
    assert list(document)[:7] == [
        "schema_version",
        "tool_version",
        "command",
        "location",
        "started_at",
        "duration_seconds",
        "exit_code",
    ]
    assert (document["schema_version"], document["command"], document["exit_code"]) == (1, "gc plan", 1)
    assert document["started_at"] == json_time(started)
    assert 2 <= document["duration_seconds"] < 60
    assert document["findings"][1]["severity"] == "warning"
    assert (document["removed"], document["odd"]) == ([], "\x1b\u202e\udce9")

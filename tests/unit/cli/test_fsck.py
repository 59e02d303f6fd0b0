"""`regstore fsck`: what it prints, for people and for scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest

from regstore.cli import fsck as module
from regstore.errors import LockedError, RefusedError, UsageError
from regstore.lock import hold_lock
from regstore_drivers.filesystem import FilesystemDriver
from support.damaged import Sample
from support.shell import Shell
from support.volume import blob_key, layer_link_key, tag_link_key


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember nothing of other tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """A function that runs `regstore fsck ...`."""
    return Shell(capfd, "fsck")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A whole volume."""
    return Sample(tmp_path / "volume")


def test_a_whole_volume(shell: Shell, sample: Sample) -> None:
    out = shell(sample.root)

    assert f"registry  file://{sample.root}" in out
    assert "2 repositories, 5 tags, 6 manifests" in out
    assert "no findings: every image is whole" in out
    assert shell("-q", sample.root) == ""
    assert shell.err == ""


def test_a_check_of_damage_for_people(shell: Shell, sample: Sample) -> None:
    sample.drop(blob_key(sample.shared))
    sample.put(layer_link_key("other", sample.other.layers[1]), "")

    out = shell(sample.root, code=1)

    assert out.index("critical: 1") < out.index("error: 1") < out.index("1 critical, 1 error")
    assert f"blob-missing  {sample.shared}" in out
    assert "hurts app:moved, app:v1, app:v2, other:v1" in out
    assert "-> regstore fsck --repair --from SOURCE" in out
    assert shell("-q", sample.root, code=1) == ""
    assert "blob-missing" in shell.err


def test_a_check_of_damage_for_scripts(shell: Shell, sample: Sample, tmp_path: Path) -> None:
    sample.drop(blob_key(sample.other.digest))
    details, combined = tmp_path / "details", tmp_path / "combined"

    document = shell.json(sample.root, "--details", details, "--combined", combined, code=1)

    found = document["findings"][0]
    assert (found["id"], found["severity"], found["images"]) == ("manifest-missing", "critical", ["other:v1"])
    assert [json.loads(line) for line in details.read_text().splitlines()] == document["findings"]
    assert document["summary"]["blob_count"] + 1 == len(combined.read_text().splitlines())
    assert document["repair"] is None


def test_signs_of_blobs(shell: Shell, sample: Sample, tmp_path: Path) -> None:
    sample.drop(blob_key(sample.shared))
    sample.cut(sample.other.layers[1], 3)
    loose = sample.writer.blob(b"nobody needs it")
    collected = sample.writer.blob(b"its directory is left")
    sample.drop(blob_key(collected))

    shell(sample.root, "--combined", tmp_path / "combined", code=1)

    signs = dict(line.split(" ")[::-1] for line in (tmp_path / "combined").read_text().splitlines())
    assert signs[sample.shared] == "-"
    assert signs[sample.other.layers[1]] == "*"
    assert signs[loose] == "+"
    assert collected not in signs
    assert signs[sample.v1.digest] == "="


@pytest.mark.parametrize(("threshold", "code"), [("info", 1), ("warning", 0), ("critical", 0)])
def test_what_counts_as_failure(shell: Shell, sample: Sample, threshold: str, code: int) -> None:
    sample.writer.blob(b"nobody needs it")

    assert "blob-unreferenced" in shell("--fail-on", threshold, sample.root, code=code)


def test_a_repair_that_is_only_shown(shell: Shell, sample: Sample) -> None:
    sample.drop(layer_link_key("app", sample.shared))
    before = sample.contents

    out = shell("--repair", "--dry-run", sample.root, code=1)

    assert "would be repaired: 1" in out
    assert f"write  {layer_link_key('app', sample.shared)}" in out
    assert sample.contents == before
    assert not (sample.root / "regstore").exists()
    steps = shell.json("--repair", "--dry-run", sample.root, code=1)["repair"]["steps"]
    assert [(step["action"], step["digest"]) for step in steps] == [("write", sample.shared)]


def test_a_repair_without_a_word_is_refused(shell: Shell, sample: Sample) -> None:
    sample.drop(layer_link_key("app", sample.shared))
    before = sample.contents

    with pytest.raises(RefusedError, match="no terminal"):
        shell("--repair", sample.root)
    assert sample.contents == before


@pytest.mark.parametrize("answer", [True, False])
def test_a_terminal_is_asked(shell: Shell, sample: Sample, monkeypatch: pytest.MonkeyPatch, *, answer: bool) -> None:
    sample.drop(layer_link_key("app", sample.shared))
    damaged = sample.contents
    monkeypatch.setattr("regstore.cli.fsck._Run._can_ask", lambda _: True)
    read, write = os.pipe()
    os.write(write, b"y\n" if answer else b"n\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        if answer:
            assert "repaired: 1 links written" in shell("--repair", sample.root)
        else:
            with pytest.raises(click.Abort):
                shell("--repair", sample.root)
    assert (sample.contents == damaged) is not answer


def test_a_repair_and_its_undo(shell: Shell, sample: Sample, tmp_path: Path) -> None:
    backup = sample.copy(tmp_path / "backup")
    sample.drop(blob_key(sample.shared))
    sample.drop(layer_link_key("app", sample.shared))

    out = shell("--repair", "--yes", "--from", backup, sample.root)

    assert "repaired: 1 blobs fetched, 1 links written" in out
    assert "no findings" in out
    assert f"regstore fsck undo {sample.root}" in out
    assert "1 links set aside" in shell("undo", sample.root)
    assert "nothing to undo" in shell("undo", sample.root)
    document = shell.json("--repair", "--yes", sample.root)
    assert document["repair"]["done"] == {"write": 1}
    assert shell.json("undo", sample.root)["withdrawn_count"] == 1


def test_a_proposal_is_taken_only_when_it_is_accepted(shell: Shell, sample: Sample) -> None:
    sample.put(tag_link_key("app", "moved"), "")

    out = shell("--repair", "--yes", sample.root, code=1)

    assert "proposed, not determined (--accept-proposals): 1" in out
    assert "nothing can be repaired" in out
    assert Path(sample.path(tag_link_key("app", "moved"))).read_bytes() == b""
    shell("--repair", "--yes", "--accept-proposals", sample.root)
    assert Path(sample.path(tag_link_key("app", "moved"))).read_text() == sample.v2.digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subset", "1/7"], "--subset needs --data"),
        (["--older-than", "30d"], "--older-than needs --data"),
        (["--bandwidth", "1MiB"], "--bandwidth needs --data or --layers"),
        (["--yes"], "--yes needs --repair"),
        (["--from", "/backup"], "--from needs --repair"),
    ],
)
def test_options_that_need_others(shell: Shell, sample: Sample, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shell(*arguments, sample.root)


@pytest.mark.parametrize(
    "arguments",
    [["--subset", "0/7"], ["--subset", "8/7"], ["--sample", "5"], ["--sample", "101%"], ["--bandwidth", "0"]],
)
def test_values_that_make_no_sense(shell: Shell, sample: Sample, arguments: list[str]) -> None:
    with pytest.raises(click.BadParameter):
        shell("--data", *arguments, sample.root)


def test_values_that_are_parsed_already_are_taken_as_they_are() -> None:
    assert module.Subset().convert((1, 7), None, None) == (1, 7)
    assert module.Share().convert(0.5, None, None) == 0.5


def test_one_at_a_time(shell: Shell, sample: Sample) -> None:
    sample.drop(layer_link_key("app", sample.shared))
    with hold_lock(FilesystemDriver(str(sample.root)), "gc run"):
        shell(sample.root, code=1)
        with pytest.raises(LockedError):
            shell("--repair", "--yes", sample.root)
        with pytest.raises(LockedError):
            shell("undo", sample.root)


def test_a_directory_called_undo(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Sample(tmp_path / "undo")
    monkeypatch.chdir(tmp_path)

    assert "no findings" in shell("./undo")


def test_more_findings_than_a_screen(shell: Shell, sample: Sample) -> None:
    for number in range(25):
        sample.writer.put(f"docker/registry/v2/repositories/app/_layers/sha256/{number:064x}/link", "")

    assert "and 5 link-malformed: see --details" in shell(sample.root, code=1)

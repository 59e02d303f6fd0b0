"""fs.*: does the registry's file system work, and is there room?"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from regstore.luks.checks import filesystem
from regstore.luks.devices import Device
from regstore.luks.facts import Facts, Options
from regstore.luks.findings import Finding, Severity
from regstore.luks.stack import Kind, Stack, find_stack
from regstore.luks.sysroot import Sysroot
from regstore.luks.system import CHECKS
from support.luks_trees import ROOT, luks2, machine, plainfs, told, xfs

SUSPENDED = Device("dm-0", dm_name="registry", is_suspended=True)


@pytest.fixture
def here(tmp_path: Path) -> Stack:
    return find_stack(Sysroot(), tmp_path, Kind.ROOT)


def ask_here(check: str, stack: Stack, **options: bool) -> list[Finding]:
    findings = list(CHECKS[check](Facts(Sysroot(), stack, None, Options(**options))))
    assert all(finding.repair or finding.severity < Severity.WARNING for finding in findings)
    return findings


def test_no_errors(tree_directory: Path, ask) -> None:
    assert told(ask("fs.errors", luks2(tree_directory))) == [("ok", "dm-0")]


def test_a_file_system_with_errors(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.write("sys/fs/ext4/dm-0/errors_count", "7\n")
    tree.write("sys/fs/ext4/dm-0/first_error_time", "1795489218\n")

    (finding,) = ask("fs.errors", tree)

    assert finding.severity.word == "critical"
    assert "7 errors, the first at 2026-11-24" in finding.detail


def test_errors_that_nobody_tells(tree_directory: Path, ask) -> None:
    assert told(ask("fs.errors", plainfs(tree_directory))) == [("unknown", "vdb")]


def test_xfs_counts_none(tree_directory: Path, ask) -> None:
    assert ask("fs.errors", xfs(tree_directory)) == []
    assert ask("fs.errors", xfs(tree_directory / "2"), target="/dev/vdb", kind=Kind.DEVICE) == []


@pytest.mark.parametrize(
    ("stats", "severity"),
    [("write_errs 0\nread_errs 0\n", "ok"), ("write_errs 2\nread_errs 0\n", "critical"), ("nothing\n", "unknown")],
)
def test_btrfs(tree_directory: Path, ask, stats: str, severity: str) -> None:
    tree = machine(tree_directory)
    tree.mount("0:40", rest="rw - btrfs /dev/vdb rw")
    tree.write("sys/fs/btrfs/features/x", "")
    tree.write("sys/fs/btrfs/1234/devices/vdb", "")
    tree.write("sys/fs/btrfs/1234/devinfo/1/error_stats", stats)

    assert told(ask("fs.errors", tree.finish())) == [(severity, "vdb")]


@pytest.mark.parametrize("check", ["fs.write", "fs.space", "fs.inodes"])
def test_another_system_is_not_touched(tree_directory: Path, ask, check: str) -> None:
    assert told(ask(check, luks2(tree_directory), write_probe=True)) == [("unknown", ROOT)]


@pytest.mark.parametrize("check", ["fs.write", "fs.space", "fs.inodes"])
def test_a_suspended_volume_is_not_touched(here: Stack, check: str) -> None:
    (finding,) = ask_here(check, replace(here, devices=(SUSPENDED,)), write_probe=True)

    assert (finding.severity.word, finding.detail) == ("unknown", "suspended: dm-0 (registry)")


def test_writing_is_tried_only_when_allowed(here: Stack, tmp_path: Path) -> None:
    assert ask_here("fs.write", here) == []
    assert told(ask_here("fs.write", here, write_probe=True)) == [("ok", str(tmp_path))]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "severity"),
    [
        (errno.EROFS, "critical"),
        (errno.EIO, "critical"),
        (errno.ENOSPC, "critical"),
        (errno.EACCES, "unknown"),
        (errno.ENOENT, "unknown"),
    ],
)
def test_writing_fails(here: Stack, monkeypatch: pytest.MonkeyPatch, number: int, severity: str) -> None:
    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filesystem, "_write", fail)

    (finding,) = ask_here("fs.write", here, write_probe=True)

    assert finding.severity.word == severity
    assert os.strerror(number) in finding.detail


def test_writing_hangs(here: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_write", lambda path: time.sleep(60))
    monkeypatch.setattr(Facts, "patience", lambda facts: 0.3)
    started = time.monotonic()

    (finding,) = ask_here("fs.write", here, write_probe=True)

    assert finding.severity.word == "critical"
    assert "does not end" in finding.detail
    assert time.monotonic() - started < 10


def room(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    """Have a file system of 1,000 blocks and 1,000 inodes, of which 100 blocks are kept for root."""
    usual = {"bsize": 4096, "frsize": 4096, "blocks": 1000, "bfree": 1000, "bavail": 900}
    usual |= {"files": 1000, "ffree": 1000, "favail": 1000} | values
    answer = SimpleNamespace(**{f"f_{name}": value for name, value in usual.items()})
    monkeypatch.setattr(filesystem.os, "statvfs", lambda path: answer)


@pytest.mark.parametrize(
    ("free", "severity"), [(900, "ok"), (250, "ok"), (230, "warning"), (140, "critical"), (0, "critical")]
)
def test_space(here: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, severity: str) -> None:
    """What is kept for root counts as neither."""
    room(monkeypatch, bfree=free, bavail=max(free - 100, 0))

    assert told(ask_here("fs.space", here)) == [(severity, str(tmp_path))]


@pytest.mark.parametrize(("free", "severity"), [(500, "ok"), (150, "warning"), (50, "critical")])
def test_inodes(here: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, severity: str) -> None:
    room(monkeypatch, ffree=free, favail=free)

    assert told(ask_here("fs.inodes", here)) == [(severity, str(tmp_path))]


def test_inodes_that_are_made_as_needed(here: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, files=0, ffree=0, favail=0)

    assert ask_here("fs.inodes", here) == []


def test_a_file_system_that_does_not_answer(here: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(filesystem.os, "statvfs", lambda path: time.sleep(60))
    monkeypatch.setattr(Facts, "patience", lambda facts: 0.3)

    assert told(ask_here("fs.space", here)) == [("unknown", str(tmp_path))]


@pytest.fixture
def loop(here: Stack, tmp_path: Path) -> Stack:
    """A loop device over a file of 1 MiB, none of it allocated."""
    with open(tmp_path / "image", "wb") as file:
        file.truncate(1 << 20)
    return replace(here, devices=(Device("loop3", backing_file=str(tmp_path / "image")),))


@pytest.mark.parametrize(("free", "severity"), [(300, "ok"), (256, "ok"), (255, "warning"), (49, "critical")])
def test_backing(loop: Stack, monkeypatch: pytest.MonkeyPatch, free: int, severity: str) -> None:
    room(monkeypatch, bavail=free)

    assert told(ask_here("fs.backing", loop)) == [(severity, "loop3")]


def test_backing_that_is_all_there(loop: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x" * (1 << 20))
    room(monkeypatch, bavail=60)

    assert told(ask_here("fs.backing", loop)) == [("ok", "loop3")]


def test_backing_that_is_gone(loop: Stack, tmp_path: Path) -> None:
    (tmp_path / "image").unlink()

    assert told(ask_here("fs.backing", loop)) == [("unknown", "loop3")]


def test_backing_is_of_files_only(here: Stack) -> None:
    assert (
        ask_here("fs.backing", replace(here, devices=(Device("vdb"), Device("loop1", backing_file="/dev/vdb")))) == []
    )


def test_backing_of_a_suspended_volume(loop: Stack) -> None:
    assert told(ask_here("fs.backing", replace(loop, devices=(SUSPENDED, *loop.devices)))) == [("unknown", "loop3")]

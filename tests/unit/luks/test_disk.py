"""dev.*: are the disks healthy, by themselves and by the kernel's word?"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.luks.kernel_log import LogError, parse_messages, read_log
from regstore.luks.stack import Kind
from regstore.luks.sysroot import Sysroot
from support.luks_trees import Tree, closed, fake_program, luks2, nvme, suspended, told

# As smartctl 7.3 printed them: an NVMe disk with a critical warning, a SATA disk, a virtio disk, a SCSI disk.
NVME = {
    "smartctl": {"exit_status": 8},
    "smart_status": {"passed": False, "nvme": {"value": 12}},
    "nvme_smart_health_information_log": {"critical_warning": 12},
}
SATA = {"smartctl": {"exit_status": 0}, "smart_status": {"passed": True}}
VIRTIO = {
    "smartctl": {
        "messages": [{"string": "/dev/vdb: Unable to detect device type", "severity": "error"}],
        "exit_status": 1,
    }
}
SCSI = {"smartctl": {"exit_status": 4}, "device_type": {"name": "disk"}}


@pytest.mark.parametrize(
    ("document", "code", "severity", "word"),
    [
        (NVME, 8, "critical", "critical warning 12"),
        (NVME, 0, "critical", "failing"),
        (SATA, 0, "ok", "well"),
        (SATA, 0x10, "warning", "at its limit now"),
        (SATA, 0x20, "warning", "before"),
        (SATA, 0xC0, "warning", "error log"),
        (SATA, 0x48, "critical", "failing"),
        (VIRTIO, 1, "unknown", "Unable to detect device type"),
        (SCSI, 4, "unknown", "no SMART"),
        ({}, 2, "unknown", "cannot be opened"),
        ({}, 0, "unknown", "no verdict"),
        ([], 0, "unknown", "told nothing"),
        ({"smart_status": 5, "smartctl": 6}, 0, "unknown", "no verdict"),
        ({"smartctl": {"messages": [5]}}, 1, "unknown", "kind of device"),
    ],
)
def test_what_smartctl_says(
    tree_directory: Path, programs: Path, ask, document: object, code: int, severity: str, word: str
) -> None:
    fake_program(programs, "smartctl", json.dumps(document), code)

    (finding,) = ask("dev.smart", nvme(tree_directory))

    assert (finding.severity.word, finding.subject) == (severity, "nvme0n1")
    assert word in finding.detail
    assert (programs / "smartctl.calls").read_text() == f"-j -H -A {tree_directory}/dev/nvme0n1\n"


def test_smartctl_is_missing(tree_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask) -> None:
    monkeypatch.setattr("regstore.luks.isolation.SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    (finding,) = ask("dev.smart", luks2(tree_directory))

    assert finding.severity.word == "unknown"
    assert "smartctl cannot be run" in finding.detail


def test_a_smartctl_that_hangs_under_a_suspended_volume(tree_directory: Path, programs: Path, ask) -> None:
    fake_program(programs, "smartctl", then="sleep 60")
    started = time.monotonic()

    assert told(ask("dev.smart", suspended(tree_directory))) == [("unknown", "vdb")]
    assert time.monotonic() - started < 30  # smartctl would take 60


def test_an_image_has_no_disk(tree_directory: Path, tmp_path: Path, ask) -> None:
    tree = luks2(tree_directory)

    assert ask("dev.smart", tree, target=str(tmp_path / "image"), kind=Kind.FILE) == []
    assert ask("dev.log", tree, target=str(tmp_path / "image"), kind=Kind.FILE) == []


def with_log(tree: Tree, *lines: str) -> Tree:
    tree.write("dev/kmsg", "".join(f"[{n:5}.000001] {line}\n" for n, line in enumerate(("started", *lines))))
    return tree


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("I/O error, dev vdb, sector 3808 op 0x0:(READ) flags 0x80700 phys_seg 11 prio class 2", "vdb"),
        ("Buffer I/O error on dev dm-0, logical block 1, lost sync page write", "dm-0"),
        ("EXT4-fs error (device dm-0): ext4_dirty_inode:6199: inode #18: comm cat: mark_inode_dirty error", "dm-0"),
        ("EXT4-fs error (device dm-0) in ext4_dirty_inode:6200: Journal has aborted", "dm-0"),
        ("EXT4-fs (dm-0): Remounting filesystem read-only", "dm-0"),
        ('XFS (dm-0): metadata I/O error in "xfs_read_agi+0x96/0x140 [xfs]" at daddr 0x2 len 1 error 5', "dm-0"),
        (
            "XFS (dm-0): Metadata I/O Error (0x1) detected at xfs_trans_read_buf_map+0x15c/0x2f0 [xfs].  Shutting down",
            "dm-0",
        ),
        ("BTRFS error (device dm-0): bdev /dev/dm-0 errs: wr 1, rd 0", "dm-0"),
    ],
)
def test_what_the_kernel_says(tree_directory: Path, ask, line: str, device: str) -> None:
    (finding,) = ask("dev.log", with_log(luks2(tree_directory), line, line))

    assert (finding.severity.word, finding.subject) == ("critical", device)
    assert "2 errors" in finding.detail
    assert line in finding.detail


@pytest.mark.parametrize(
    "line",
    [
        "I/O error, dev vda, sector 1",
        "Buffer I/O error on dev dm-01, logical block 1",
        "EXT4-fs (dm-0): mounted filesystem with ordered data mode",
        "XFS (dm-0): Ending clean mount",
    ],
)
def test_what_the_kernel_says_of_others(tree_directory: Path, ask, line: str) -> None:
    assert told(ask("dev.log", with_log(luks2(tree_directory), line))) == [("ok", "dm-0")]


def test_control_characters_are_shown_as_escapes(tree_directory: Path, ask) -> None:
    (finding,) = ask("dev.log", with_log(luks2(tree_directory), "I/O error, dev vdb, \x1b[31m"))

    assert "\\x1b" in finding.detail


def test_no_log(tree_directory: Path, programs: Path, ask) -> None:
    fake_program(programs, "journalctl", code=1, stderr="No journal files were found.")

    (finding,) = ask("dev.log", luks2(tree_directory))

    assert finding.severity.word == "unknown"
    assert "No journal files" in finding.detail


def test_an_empty_log_tells_nothing(tree_directory: Path, ask) -> None:
    tree = closed(tree_directory)
    tree.write("dev/kmsg", "")

    assert told(ask("dev.log", tree)) == [("unknown", "vda")]


def test_the_journal_of_another_system(tree_directory: Path, programs: Path, ask) -> None:
    line = "[   18.547748] host kernel: I/O error, dev vdb, sector 3808"
    fake_program(programs, "journalctl", f"{line}\n")

    assert told(ask("dev.log", luks2(tree_directory))) == [("critical", "vdb")]
    assert f"--root={tree_directory}" in (programs / "journalctl.calls").read_text()


def test_only_what_was_said_since(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    started = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    tree.write("dev/kmsg", "6,1,1000000,-;old\n SUBSYSTEM=block\n6,2,5000000,-;new\n")

    assert read_log(tree.sysroot, None, 5) == ["old", "new"]
    assert read_log(tree.sysroot, started + 3, 5) == ["new"]
    assert read_log(tree.sysroot, started + 9, 5) == []
    with pytest.raises(LogError):
        read_log(Tree(tree_directory / "empty").sysroot, None, 0.1)


def test_the_log_of_this_system() -> None:
    """It is there, or nobody may read it."""
    with suppress(LogError):
        assert read_log(Sysroot(), None, 5)


@given(st.lists(st.text()))
def test_any_lines_are_read(lines: list[str]) -> None:
    list(parse_messages(lines))

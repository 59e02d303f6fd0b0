"""All checks of the system side together."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from regstore.luks.findings import Severity
from regstore.luks.stack import Kind
from regstore.luks.sysroot import Sysroot
from regstore.luks.system import CHECKS, check_stack
from support.luks_trees import (
    INTEGRITY_STATUS,
    LUKS2_TABLE,
    PROFILES,
    ROOT,
    closed,
    fake_dmsetup,
    fake_program,
    header,
    luks2,
    suspended,
)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_answered(tree_directory: Path, programs: Path, profile: str) -> None:
    fake_dmsetup(programs, LUKS2_TABLE, INTEGRITY_STATUS)
    fake_program(programs, "journalctl", code=1)
    fake_program(programs, "smartctl", code=1)
    tree = PROFILES[profile](tree_directory)

    findings = list(check_stack(tree.sysroot, tree.stack(), header()))

    assert {finding.id for finding in findings} <= set(CHECKS)
    assert all(finding.repair for finding in findings if finding.severity >= Severity.WARNING)


def test_a_healthy_volume_has_no_warning(tree_directory: Path, programs: Path) -> None:
    fake_dmsetup(programs, LUKS2_TABLE)
    tree = luks2(tree_directory)

    findings = list(check_stack(tree.sysroot, tree.stack(), header()))

    assert [finding for finding in findings if finding.severity >= Severity.WARNING] == []


def test_an_image_has_nothing_to_be_checked(tree_directory: Path, tmp_path: Path) -> None:
    tree = luks2(tree_directory)

    assert list(check_stack(tree.sysroot, tree.stack(str(tmp_path / "image"), Kind.FILE), header())) == []


def test_a_closed_device_is_checked_for_what_can_be(tree_directory: Path, programs: Path) -> None:
    fake_program(programs, "smartctl", code=1)
    tree = closed(tree_directory)

    findings = check_stack(tree.sysroot, tree.stack("/dev/vdb", Kind.DEVICE), header())

    assert {finding.id for finding in findings} == {"place.duplicate", "conf.crypttab", "dev.smart", "dev.log"}


def test_a_suspended_volume_is_answered_soon(tree_directory: Path, programs: Path) -> None:
    for name in ("dmsetup", "smartctl", "journalctl"):
        fake_program(programs, name, then="trap '' TERM\nsleep 60")
    tree = suspended(tree_directory)
    started = time.monotonic()

    findings = list(check_stack(tree.sysroot, tree.stack(), header()))

    assert time.monotonic() - started < 30  # each of the three would take 60
    assert "map.suspended" in {finding.id for finding in findings if finding.severity is Severity.CRITICAL}


def test_a_file_that_cannot_be_read_is_unknown(tree_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = luks2(tree_directory)
    stack, text = tree.stack(), Sysroot.text

    def refuse(sysroot: Sysroot, name: str) -> str | None:
        if name == "/etc/crypttab":
            raise PermissionError(13, os.strerror(13), name)
        return text(sysroot, name)

    monkeypatch.setattr(Sysroot, "text", refuse)

    findings = {finding.id: finding for finding in check_stack(tree.sysroot, stack, None)}

    assert findings["conf.crypttab"].severity is Severity.UNKNOWN
    assert "Permission denied" in findings["conf.crypttab"].detail
    assert findings["place.crypt"].severity is Severity.OK
    assert findings["place.crypt"].subject == ROOT

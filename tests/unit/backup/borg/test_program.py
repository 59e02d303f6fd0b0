"""Finding the borg program and its version."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore.backup.borg.program import Program, find_program
from regstore.errors import StorageFailedError


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_variable_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "borg", "echo borg 1.2.8")
    write_program(tmp_path / "other", "echo borg 1.4.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("REGSTORE_BORG", raising=False)
    assert find_program() == Program(str(tmp_path / "borg"), (1, 2, 8))

    monkeypatch.setenv("REGSTORE_BORG", str(tmp_path / "other"))
    assert find_program() == Program(str(tmp_path / "other"), (1, 4, 1))


def test_a_relative_name_holds_in_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "mine", "echo borg.exe 1.4.0b1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGSTORE_BORG", "./mine")

    assert find_program() == Program(str(tmp_path / "mine"), (1, 4, 0))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo borg 1.1.18", "borg-version"),
        ("echo borg 2.0.0b14", "borg-version"),
        ("echo borg 1.4.0; exit 3", "borg-missing"),
        ("echo something else", "borg-missing"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: str
) -> None:
    write_program(tmp_path / "mine", script)
    monkeypatch.setenv("REGSTORE_BORG", str(tmp_path / "mine"))

    with pytest.raises(StorageFailedError, match="mine") as caught:
        find_program()

    assert caught.value.code == code
    assert "borgbackup" in caught.value.hint
    assert "regstore[borg]" in caught.value.hint


def test_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGSTORE_BORG", str(tmp_path / "none"))

    with pytest.raises(StorageFailedError) as caught:
        find_program()
    assert caught.value.code == "borg-missing"


@pytest.mark.parametrize(("version", "is_safe"), [((1, 2, 4), False), ((1, 2, 5), True), ((1, 4, 0), True)])
def test_an_old_one_is_warned_of(version: tuple[int, ...], is_safe: bool) -> None:
    warning = Program("/usr/bin/borg", version).warning

    assert ("CVE-2023-36811" not in warning) is is_safe

"""Where a passphrase comes from."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from regstore.backup import PassphraseOptions
from regstore.backup.borg.passphrase import read_passphrase, without_passphrase
from regstore.errors import StorageFailedError

NOTHING = PassphraseOptions()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BORG_PASSPHRASE", "BORG_PASSCOMMAND", "BORG_PASSPHRASE_FD", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def pipe_with(data: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = pipe_with(b"a b \nsecond line")
    assert read_passphrase(PassphraseOptions(fd=fd)) == b"a b "
    os.close(fd)
    fd = pipe_with(b"of borg")
    monkeypatch.setenv("BORG_PASSPHRASE_FD", str(fd))
    assert read_passphrase(NOTHING) == b"of borg"
    os.close(fd)


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_passphrase(PassphraseOptions(command="printf 'a b\\n'")) == b"a b"
    monkeypatch.setenv("BORG_PASSCOMMAND", "echo of borg")
    assert read_passphrase(NOTHING) == b"of borg"


def test_what_was_said_comes_before_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "regstore-borg-passphrase").write_bytes(b"credential\n")
    monkeypatch.setenv("BORG_PASSPHRASE", "of borg")
    assert read_passphrase(NOTHING) == b"of borg"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_passphrase(NOTHING) == b"credential"
    assert read_passphrase(PassphraseOptions(command="echo said")) == b"said"


def test_a_command_that_fails_is_told_without_what_it_printed() -> None:
    for command in ("sh -c 'echo s3cret; exit 1'", "/no/such/program s3cret", "unclosed 's3cret"):
        with pytest.raises(StorageFailedError) as caught:
            read_passphrase(PassphraseOptions(command=command))
        assert caught.value.code == "key-wrong"
        assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_descriptor_that_is_closed_and_one_that_is_a_terminal() -> None:
    with pytest.raises(StorageFailedError, match="99") as caught:
        read_passphrase(PassphraseOptions(fd=99))
    assert caught.value.code == "key-wrong"

    leader, follower = os.openpty()
    with pytest.raises(StorageFailedError, match="terminal") as caught:
        read_passphrase(PassphraseOptions(fd=follower))
    assert caught.value.code == "key-wrong"
    os.close(leader)
    os.close(follower)


def test_a_credential_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "regstore-borg-passphrase").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with pytest.raises(StorageFailedError, match="regstore-borg-passphrase") as caught:
        read_passphrase(NOTHING)
    assert caught.value.code == "key-wrong"


def test_none_at_all_is_said_with_every_way_to_give_it() -> None:
    with pytest.raises(StorageFailedError) as caught:
        read_passphrase(NOTHING)

    assert caught.value.code == "key-wrong"
    for way in ("--passphrase-command", "--passphrase-fd", "regstore-borg-passphrase", "BORG_PASSCOMMAND"):
        assert way in caught.value.hint


def test_borg_itself_finds_none_in_its_variables() -> None:
    names = ("BORG_PASSPHRASE", "BORG_PASSCOMMAND", "BORG_PASSPHRASE_FD", "BORG_NEW_PASSPHRASE")
    environment = dict.fromkeys((*names, "BORG_RSH"), shlex.quote("x"))

    assert without_passphrase(environment).keys() == {"BORG_RSH"}

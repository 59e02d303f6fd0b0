"""Tables and states of device-mapper devices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.luks.table import Crypt, TableError, Target, parse_crypt, parse_lines, read_status, read_table
from support.luks_trees import (
    DISCARDS_TABLE,
    INTEGRITY_TABLE,
    LUKS1_TABLE,
    LUKS2_TABLE,
    REENCRYPT_TABLE,
    UUID,
    fake_program,
)


def crypt_of(text: str) -> Crypt:
    crypt = parse_crypt(parse_lines(text, "registry")[0])
    assert crypt is not None
    return crypt


def test_a_crypt_line() -> None:
    crypt = crypt_of(LUKS2_TABLE)

    assert (crypt.cipher, crypt.key_bytes, crypt.keyring) == ("aes-xts-plain64", 64, f"logon:cryptsetup:{UUID}-d0")
    assert (crypt.iv_offset, crypt.device, crypt.offset, crypt.options) == (0, "254:16", 32768, ())
    assert crypt.sector_bytes == 512


def test_options_and_sector_size() -> None:
    crypt = crypt_of(DISCARDS_TABLE)

    assert "allow_discards" in crypt.options
    assert crypt.sector_bytes == 4096


def test_a_line_without_its_name_is_that_of_the_asked_mapping() -> None:
    assert parse_lines(LUKS2_TABLE.removeprefix("registry: "), "registry") == parse_lines(LUKS2_TABLE, "registry")


def test_lines_of_others_are_left_out() -> None:
    assert [target.type for target in parse_lines(INTEGRITY_TABLE, "registry_dif")] == ["integrity"]
    assert parse_lines("No devices found\n", "registry") == []


def test_two_lines_while_reencrypting() -> None:
    assert [(target.start, target.sectors) for target in parse_lines(REENCRYPT_TABLE, "registry")] == [
        (0, 49152),
        (49152, 180224),
    ]


def test_a_key_is_not_kept() -> None:
    text = LUKS1_TABLE.replace("0" * 128, "5a" * 64)

    target = parse_lines(text, "registry")[0]

    assert "5a5a" not in repr(target)
    assert crypt_of(text).key_bytes == 64
    assert crypt_of(text).keyring == ""


def test_a_key_that_is_none_of_the_known_forms_is_not_kept_either() -> None:
    target = parse_lines("0 8 crypt aes secretsecret 0 1:1 0", "registry")[0]

    assert "secret" not in repr(target)
    assert parse_crypt(target) is None


def test_dmsetup_is_never_asked_for_keys(programs: Path) -> None:
    fake_program(programs, "dmsetup", LUKS2_TABLE)

    assert read_table("registry", 5)[0].type == "crypt"
    with pytest.raises(TableError):
        read_status("-odd", 5)

    assert (programs / "dmsetup.calls").read_text() == "table registry\nstatus --noflush /dev/mapper/-odd\n"


@pytest.mark.parametrize(
    ("stdout", "code", "stderr", "reason"),
    [
        ("", 1, "\nPermission denied\nCommand failed.", "dmsetup failed: Permission denied"),
        ("No devices found", 0, "", "told nothing"),
        ("", 3, "", "exit code 3"),
    ],
)
def test_dmsetup_does_not_tell(programs: Path, stdout: str, code: int, stderr: str, reason: str) -> None:
    fake_program(programs, "dmsetup", stdout, code, stderr)

    with pytest.raises(TableError, match=reason):
        read_table("registry", 5)


def test_dmsetup_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("regstore.luks.isolation.SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(TableError, match="dmsetup cannot be run"):
        read_table("registry", 5)


def test_dmsetup_hangs(programs: Path) -> None:
    fake_program(programs, "dmsetup", then="sleep 60")

    with pytest.raises(TableError, match="did not end within"):
        read_table("registry", 0.3)


@given(
    st.text() | st.lists(st.sampled_from(["0", "8", "crypt", ":64:logon:a", "00", "1:1", "\n", "x: "])).map(" ".join)
)
def test_any_text_is_read(text: str) -> None:
    for target in parse_lines(text, "x"):
        parse_crypt(target)


@given(st.lists(st.text(alphabet="0123456789:abcdeflogn-", max_size=12), max_size=9))
def test_any_arguments_are_read(arguments: list[str]) -> None:
    parse_crypt(Target(0, 8, "crypt", tuple(arguments)))

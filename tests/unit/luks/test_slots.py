"""What the checks say of key slots, tokens and ciphers."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regstore.luks.findings import Severity
from regstore.luks.material import chi_square
from regstore.luks.policy import PROFILES, Policy
from regstore.luks.subject import Memory
from support.luks_headers import COPY_BYTES, Image, healthy
from support.luks_judging import bad, judge, one, put


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "disk.img")


def material(number: int) -> int:
    return 2 * COPY_BYTES + number * 258048


class TestCount:
    def test_one_slot(self, tmp_path: Path) -> None:
        image = Image(tmp_path / "disk.img", healthy(1))
        assert bad(image.path) == {("slot.count", "warning")}
        assert bad(image.path, policy=PROFILES["legacy"]) == set()
        assert bad(image.path, policy=replace(Policy(), min_keyslots=1)) == set()

    def test_none(self, tmp_path: Path) -> None:
        image = Image(tmp_path / "disk.img", healthy(0))
        assert bad(image.path) == {("slot.count", "critical")}
        assert "do not reboot" in one(image.path, "slot.count", is_open=True).repair

    def test_what_does_not_count(self, image: Image) -> None:
        image.change(put("keyslots.0.priority", 0))
        assert bad(image.path) == {("slot.count", "warning")}
        image.change(put("digests.0.segments", []))
        assert bad(image.path) == {("slot.count", "critical")}
        assert {f.subject for f in judge(image.path) if f.id == "slot.unbound"} == {"keyslot 0", "keyslot 1"}


class TestArea:
    @pytest.mark.parametrize("length", [128, 512, 4096, 256000])
    @pytest.mark.parametrize("where", [0, 255000])
    def test_zeroes(self, image: Image, length: int, where: int) -> None:
        image.put(material(1) + min(where, 256000 - length), bytes(length))
        assert bad(image.path) == {("slot.area", "critical"), ("slot.count", "warning")}
        assert one(image.path, "slot.area").subject == "keyslot 1"

    def test_text(self, image: Image) -> None:
        image.put(material(0) + 8192, b"some log line with a date 2026-11-29\n" * 100)
        assert ("slot.area", "critical") in bad(image.path)

    def test_padding_does_not_matter(self, image: Image) -> None:
        image.put(material(0) + 256000, bytes(2048)).put(material(1) + 256000, b"x" * 2048)
        assert bad(image.path) == set()

    def test_a_slot_in_the_part_that_is_cut(self, image: Image) -> None:
        with image.path.open("r+b") as file:
            file.truncate(material(1) + 1000)
        assert ("slot.area", "critical") in bad(image.path)

    def test_healthy_blocks_are_far_from_the_limit(self) -> None:
        rng = random.Random(7)
        assert max(chi_square(rng.randbytes(4096)) for _ in range(3000)) < 400


class TestKdf:
    @pytest.mark.parametrize(
        ("kdf", "severity"),
        [
            ({"type": "pbkdf2", "hash": "sha256", "iterations": 1_000_000}, None),
            ({"type": "pbkdf2", "hash": "sha256", "iterations": 999_999}, "warning"),
            ({"type": "pbkdf2", "hash": "sha256", "iterations": 99_999}, "critical"),
            ({"type": "pbkdf2", "hash": "sha1", "iterations": 2_000_000}, "warning"),
            ({"type": "argon2id", "time": 4, "memory": 65536, "cpus": 1}, None),
            ({"type": "argon2id", "time": 3, "memory": 65536, "cpus": 1}, "warning"),
            ({"type": "argon2id", "time": 4, "memory": 65535, "cpus": 1}, "warning"),
            ({"type": "argon2i", "time": 4, "memory": 65536, "cpus": 1}, None),
        ],
    )
    def test_the_limits(self, image: Image, kdf: dict[str, Any], severity: str | None) -> None:
        salt = image.document["keyslots"]["1"]["kdf"]["salt"]
        image.change(put("keyslots.1.kdf", {**kdf, "salt": salt}))
        assert bad(image.path) == ({("slot.kdf", severity)} if severity else set())
        if kdf["type"] == "argon2i":
            assert one(image.path, "slot.kdf").severity is Severity.INFO

    @pytest.mark.parametrize("token", ["systemd-tpm2", "systemd-fido2", "systemd-pkcs11", "systemd-recovery", "clevis"])
    def test_secrets_of_machines_need_no_stretching(self, image: Image, token: str) -> None:
        weak = {"type": "pbkdf2", "hash": "sha512", "iterations": 1000, "salt": "c2FsdA=="}
        image.change(put("keyslots.1.kdf", weak))
        assert bad(image.path) == {("slot.kdf", "critical")}
        image.change(put("tokens.0", {"type": token, "keyslots": ["1"]}))
        assert bad(image.path) == set()


class TestMemory:
    @pytest.mark.parametrize(
        ("memory", "severity"),
        [
            (Memory(total=128 * 1024**2), None),
            (Memory(total=100 * 1024**2), "warning"),
            (Memory(total=60 * 1024**2), "critical"),
            (Memory(total=2**40, limit=60 * 1024**2), "critical"),
            (Memory(total=2**40, rescue=100 * 1024**2), "warning"),
        ],
    )
    def test_against_what_there_is(self, image: Image, memory: Memory, severity: str | None) -> None:
        assert bad(image.path, memory=memory) == ({("slot.memory", severity)} if severity else set())

    def test_nobody_knows(self, image: Image) -> None:
        assert one(image.path, "slot.memory", memory=Memory()).severity is Severity.UNKNOWN


class TestNull:
    def test_a_slot_without_cipher(self, image: Image) -> None:
        image.change(put("keyslots.0.area.encryption", "cipher_null-ecb"))
        assert bad(image.path) == {("slot.null", "critical")}

    def test_its_alias(self, image: Image) -> None:
        image.change(put("keyslots.0.area.encryption", "null"))
        assert bad(image.path) == {("slot.null", "critical")}

    def test_data_without_cipher(self, image: Image) -> None:
        image.change(put("segments.0.encryption", "cipher_null-ecb"))
        assert bad(image.path) == {("slot.null", "critical"), ("ciph.mode", "critical")}


class TestTokens:
    def test_of_no_slot(self, image: Image) -> None:
        image.change(put("tokens.0", {"type": "clevis", "keyslots": []}))
        assert bad(image.path) == {("token.orphan", "warning")}

    def test_of_a_slot_that_is_gone(self, image: Image) -> None:
        image.change(put("tokens.0", {"type": "clevis", "keyslots": ["5"]}))
        assert bad(image.path) == {("token.orphan", "warning"), ("hdr.schema", "critical")}

    def test_every_way_in_hangs_on_a_machine(self, image: Image) -> None:
        image.change(put("tokens.0", {"type": "clevis", "keyslots": ["0", "1"]}))
        assert bad(image.path) == {("token.orphan", "warning")}
        image.change(put("tokens.0", {"type": "clevis", "keyslots": ["0"]}))
        assert bad(image.path) == set()
        image.change(put("tokens.1", {"type": "systemd-recovery", "keyslots": ["1"]}))
        assert bad(image.path) == set()


class TestCipher:
    @pytest.mark.parametrize(
        ("name", "severity"),
        [
            ("aes-xts-plain64", None),
            ("serpent-xts-plain64", None),
            ("xchacha12,aes-adiantum-plain64", None),
            ("aes-ecb", "critical"),
            ("aes-cbc-plain", "critical"),
            ("aes-cbc-plain64", "critical"),
            ("aes-cbc-essiv:sha256", "warning"),
            ("des-cbc-essiv:sha256", "critical"),
            ("aes-xts-plain", None),
            ("capi:xts(aes)-plain64", None),
            ("capi:authenc(hmac(sha256),xts(aes))-plain64", None),
            ("capi:cbc(aes)-plain64", "critical"),
            ("capi:cbc(des3_ede)-essiv:sha256", "critical"),
        ],
    )
    def test_modes(self, image: Image, name: str, severity: str | None) -> None:
        image.change(put("segments.0.encryption", name))
        assert bad(image.path) == ({("ciph.mode", severity)} if severity else set())

    def test_a_form_that_nobody_understands(self, image: Image) -> None:
        image.change(put("segments.0.encryption", "capi:odd"))
        assert one(image.path, "ciph.mode").severity is Severity.UNKNOWN

    def test_profiles(self, image: Image) -> None:
        image.change(put("segments.0.encryption", "aes-cbc-essiv:sha256"))
        assert bad(image.path, policy=PROFILES["strict"]) == {("ciph.mode", "critical")}
        assert bad(image.path, policy=PROFILES["legacy"]) == set()

    def test_numbers_of_32_bits(self, image: Image) -> None:
        image.change(put("segments.0.encryption", "aes-xts-plain"))
        assert bad(image.path, data_bytes=3 * 1024**4) == {("ciph.mode", "critical")}

    def test_short_keys(self, image: Image) -> None:
        def shorten(document: dict[str, Any]) -> None:
            for slot in document["keyslots"].values():
                slot["key_size"] = 32

        image.change(shorten)
        assert one(image.path, "ciph.mode").severity is Severity.INFO
        assert bad(image.path, policy=PROFILES["strict"]) == {("ciph.mode", "warning")}

    def test_only_these(self, image: Image) -> None:
        policy = replace(Policy(), ciphers=("serpent-*",))
        assert bad(image.path, policy=policy) == {("ciph.mode", "warning")}
        assert bad(image.path, policy=replace(policy, ciphers=("serpent-*", "aes-xts-plain64"))) == set()

    def test_sectors(self, image: Image) -> None:
        assert one(image.path, "ciph.sector", physical_block_bytes=4096).severity is Severity.INFO
        image.change(put("segments.0.sector_size", 4096))
        assert bad(image.path) == set()
        assert bad(image.path, data_bytes=image.path.stat().st_size + 512) == {("ciph.sector", "critical")}

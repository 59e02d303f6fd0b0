"""Headers read from raw bytes, and what the checks say of every kind of damage."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from regstore.luks.findings import Severity
from regstore.luks.header import read_header
from regstore.luks.judgement import judge_header
from regstore.luks.policy import PROFILES
from regstore.luks.reading_apart import read_apart
from regstore.luks.source import ReadFailedError, Source
from regstore.luks.subject import HeaderSubject
from regstore.luks.sysroot import Sysroot
from support.luks_headers import (
    AREA_BYTES,
    COPY_BYTES,
    DATA_OFFSET,
    LUKS1_PAYLOAD,
    Image,
    healthy,
    make_luks1,
    pack_copy,
    slot,
    text64,
)
from support.luks_judging import MEMORY, bad, judge, one, put, read


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "disk.img")


class TestHealthy:
    def test_nothing_is_wrong(self, image: Image) -> None:
        found = judge(image.path)
        assert {finding.severity for finding in found} == {Severity.OK}
        assert {"hdr.copies", "hdr.equal", "slot.count", "slot.area", "ciph.mode"} <= {finding.id for finding in found}

    def test_what_it_says(self, image: Image) -> None:
        metadata = read(image.path).metadata
        assert metadata is not None
        assert (metadata.version, metadata.copy_bytes, metadata.data_offset) == (2, COPY_BYTES, DATA_OFFSET)
        assert metadata.backup_bytes == DATA_OFFSET
        assert [slot.id for slot in metadata.bound_keyslots] == [0, 1]
        assert metadata.keyslots[1].material_bytes == 256000

    def test_every_size_of_a_copy(self, tmp_path: Path) -> None:
        for shift in range(9):
            size = 0x4000 << shift
            document = healthy(0)
            document["config"] = {"json_size": str(size - 4096), "keyslots_size": "0"}
            document["segments"]["0"]["offset"] = str(2 * size)
            path = tmp_path / f"{shift}.img"
            with path.open("wb") as file:
                file.write(pack_copy(document, is_first=True, copy_bytes=size))
                file.write(pack_copy(document, is_first=False, copy_bytes=size))
            assert bad(path) == {("slot.count", "critical")}

    def test_a_detached_header(self, image: Image) -> None:
        image.change(lambda document: document["segments"]["0"].update(offset="0"))
        os.truncate(image.path, DATA_OFFSET)
        assert bad(image.path, is_detached=True, data_bytes=2**30) == set()
        assert any(finding.id == "hdr.detached" for finding in judge(image.path, is_detached=True))


class TestCopies:
    @pytest.mark.parametrize(("offset", "name"), [(4200, "first copy"), (COPY_BYTES + 4200, "second copy")])
    def test_one_damaged(self, image: Image, offset: int, name: str) -> None:
        image.put(offset, b"X")
        assert bad(image.path) == {("hdr.copies", "warning")}
        assert one(image.path, "hdr.copies").subject.startswith(name)
        assert "checksum" in one(image.path, "hdr.copies").detail
        assert bad(image.path, policy=PROFILES["strict"]) == {("hdr.copies", "critical")}

    def test_both_damaged(self, image: Image) -> None:
        image.put(4200, b"X").put(COPY_BYTES + 4200, b"X")
        assert bad(image.path) == {("hdr.copies", "critical")}
        unknown = {finding.id for finding in judge(image.path) if finding.severity is Severity.UNKNOWN}
        assert {"slot.count", "ciph.mode"} <= unknown

    def test_an_open_volume_must_not_be_closed(self, image: Image) -> None:
        image.put(4200, b"X").put(COPY_BYTES + 4200, b"X")
        assert "do not reboot" in one(image.path, "hdr.copies", is_open=True).repair
        assert "do not reboot" not in one(image.path, "hdr.copies").repair

    def test_the_first_without_magic(self, image: Image) -> None:
        image.put(0, b"\0" * 6)
        assert bad(image.path) == {("hdr.copies", "warning"), ("hdr.offset", "critical")}
        assert str(COPY_BYTES) in one(image.path, "hdr.offset").detail

    def test_the_second_without_magic(self, image: Image) -> None:
        image.put(COPY_BYTES, b"\0" * 6)
        assert bad(image.path) == {("hdr.copies", "warning")}

    def test_the_size_in_the_first_is_damaged(self, image: Image) -> None:
        image.put(8, b"\xff" * 8)
        assert bad(image.path) == {("hdr.copies", "warning")}
        assert one(image.path, "hdr.copies").subject == "first copy at byte 0"

    def test_a_checksum_of_no_known_kind(self, image: Image) -> None:
        image.put(72, b"nonsense\0")
        assert "unknown kind" in one(image.path, "hdr.copies").detail

    @pytest.mark.parametrize("algorithm", [b"shake_128\0", b"\xff\xfe\0", b"sha256 \0"])
    def test_hostile_kinds_of_checksum(self, image: Image, algorithm: bytes) -> None:
        image.put(72, algorithm.ljust(32, b"\0"))
        assert bad(image.path) == {("hdr.copies", "warning")}

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_different_sequence_numbers(self, image: Image, newer_first: bool) -> None:
        more = healthy(3)
        image.fill_slot(0)
        image.document = more
        image.fill_slot(2)
        image.copy_of(is_first=newer_first, document=more, seqid=4)
        image.copy_of(is_first=not newer_first, document=healthy(2), seqid=3)
        assert bad(image.path) == {("hdr.seqid", "warning")}
        assert read(image.path).usable_keyslots == [0, 1, 2]
        assert one(image.path, "hdr.seqid").subject.startswith("second" if newer_first else "first")

    def test_the_same_sequence_number_and_other_content(self, image: Image) -> None:
        image.copy_of(is_first=False, document=healthy(1))
        assert bad(image.path) == {("hdr.equal", "critical")}
        image.write().copy_of(is_first=True, label="other")
        assert "label" in one(image.path, "hdr.equal").detail


class TestPlace:
    def test_the_partition_begins_later(self, image: Image) -> None:
        content = image.path.read_bytes()
        image.path.write_bytes(content[COPY_BYTES:])
        assert ("hdr.offset", "critical") in bad(image.path)
        assert "moved" in one(image.path, "hdr.offset").repair

    def test_the_partition_begins_earlier(self, image: Image) -> None:
        content = image.path.read_bytes()
        image.path.write_bytes(bytes(1024 * 1024) + content)
        assert ("hdr.offset", "critical") in bad(image.path)

    def test_a_copy_that_says_another_place(self, image: Image) -> None:
        image.copy_of(is_first=False, offset=0x8000)
        assert bad(image.path) == {("hdr.offset", "critical")}

    def test_no_header_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "zero.img"
        path.write_bytes(bytes(8192))
        assert bad(path) == {("hdr.copies", "critical")}
        path.write_bytes(b"")
        assert bad(path) == {("hdr.copies", "critical")}

    @pytest.mark.parametrize(
        ("offset", "magic", "what"),
        [
            (0x438, b"\x53\xef", "ext"),
            (0, b"XFSB", "XFS"),
            (0x10040, b"_BHRfS_M", "btrfs"),
            (0x200, b"EFI PART", "GPT"),
            (0xFF6, b"SWAPSPACE2", "swap"),
        ],
    )
    def test_something_else_is_there(self, tmp_path: Path, offset: int, magic: bytes, what: str) -> None:
        path = tmp_path / "disk.img"
        path.write_bytes((bytes(offset) + magic).ljust(2**20, b"\0"))
        assert bad(path) == {("hdr.foreign", "critical")}
        assert what in one(path, "hdr.foreign").detail

    def test_a_partition_table(self, tmp_path: Path, image: Image) -> None:
        entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, 4096)
        image.put(446, entry).put(510, b"\x55\xaa")
        found = bad(image.path)
        assert ("hdr.foreign", "critical") in found
        assert ("hdr.copies", "warning") in found

    def test_the_salt_of_luks1_is_no_partition_table(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        with path.open("r+b") as file:
            file.seek(510)
            file.write(b"\x55\xaa")
        assert ("hdr.foreign", "critical") not in bad(path)

    def test_a_device_that_is_shorter_than_its_segment(self, image: Image) -> None:
        image.change(put("segments.0.size", str(2**40)))
        assert bad(image.path) == {("hdr.space", "critical")}
        os.truncate(image.path, DATA_OFFSET)
        assert bad(image.path) == set()  # a header backup

    def test_a_cut_image(self, image: Image) -> None:
        os.truncate(image.path, 2**20)
        assert bad(image.path) == {("hdr.space", "critical")}
        os.truncate(image.path, COPY_BYTES + 100)
        assert ("hdr.copies", "warning") in bad(image.path)


class TestSchema:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("segments", None),
            ("config", None),
            ("segments", {}),
            ("segments.0.sector_size", 511),
            ("segments.0.offset", "0x1000000"),
            ("segments.0.offset", "+16777216"),
            ("segments.0.offset", "\uff11\uff16777216"),
            ("segments.0.offset", str(2**64)),
            ("segments.0.offset", "32768"),
            ("segments.0.size", "1000"),
            ("segments.2", {"type": "linear", "offset": "99999744", "size": "512"}),
            ("keyslots.0.key_size", 0),
            ("keyslots.0.key_size", True),
            ("keyslots.0.key_size", -1),
            ("keyslots.0.area.offset", "0"),
            ("keyslots.0.area.offset", str(2 * COPY_BYTES + AREA_BYTES - 4096)),
            ("keyslots.0.area.offset", str(DATA_OFFSET - 4096)),
            ("keyslots.0.area.size", "4096"),
            ("keyslots.0.af.stripes", 1),
            ("keyslots.0.kdf.type", "scrypt"),
            ("keyslots.0.kdf.salt", "***"),
            ("keyslots.32", slot(2)),
            ("keyslots.01", slot(2)),
            ("keyslots.2", slot(2)),
            ("digests.0.keyslots", ["0", "1", "7"]),
            ("digests.0.segments", ["3"]),
            ("digests.1", {
                "type": "pbkdf2", "keyslots": ["0"], "segments": [], "hash": "sha256", "iterations": 1,
                "salt": text64("s"), "digest": text64("d"),
            }),
            ("tokens.0", {"type": "clevis", "keyslots": ["9"]}),
            ("config.json_size", "4096"),
            ("config.keyslots_size", "100"),
            ("config.requirements", ["x"]),
            ("config.requirements", {"mandatory": ["x"] * 33}),
            ("config.flags", ["x" * 65]),
        ],
    )  # fmt: skip
    def test_a_broken_rule(self, image: Image, path: str, value: Any) -> None:
        image.change(put(path, value))
        assert ("hdr.schema", "critical") in bad(image.path)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{",
            b'{"a":1,"a":1}',
            b'{"a":NaN}',
            b'{"a":1e3}',
            b'{"a":1.0}',
            b'{"a":-1}',
            b'{"a":18446744073709551616}',
            b'{"a":' + b"9" * 5000 + b"}",
            b"[" * 12000,
            b'{"a":[' + b"0," * 6000 + b"0]}",
            b"\xff\xfe",
            b"{}\0trailing",
        ],
    )
    def test_hostile_json(self, image: Image, text: bytes) -> None:
        image.write(first=text, second=text)
        assert ("hdr.schema", "critical") in bad(image.path)

    def test_one_good_copy_is_used(self, image: Image) -> None:
        image.write(first=b"{}")
        assert bad(image.path) == {("hdr.schema", "critical"), ("hdr.equal", "critical")}
        assert read(image.path).usable_keyslots == [0, 1]

    def test_names_from_the_header_are_escaped_where_they_are_shown(self, image: Image) -> None:
        image.change(put("config.requirements", {"mandatory": ["\x1b[2Jnew"]}))
        assert "\x1b" not in one(image.path, "hdr.require").detail


class TestVersion:
    def test_one_that_nobody_knows(self, image: Image) -> None:
        image.write(version=3)
        assert bad(image.path) == {("hdr.version", "critical")}
        assert not [f for f in judge(image.path) if f.id in ("hdr.copies", "hdr.equal") and f.severity is Severity.OK]
        assert all("newer" in finding.detail for finding in judge(image.path) if finding.id == "hdr.version")

    def test_requirements(self, image: Image) -> None:
        require = lambda name: put("config.requirements", {"mandatory": [name]})  # noqa: E731
        assert bad(image.change(require("online-reencrypt-v2")).path) == {("hdr.require", "critical")}
        assert bad(image.path, is_being_reencrypted=True) == {("hdr.require", "warning")}
        assert bad(image.change(require("opal")).path) == set()
        assert bad(image.change(require("quantum")).path) == {("hdr.require", "critical")}

    def test_a_reencryption_that_did_not_end(self, image: Image) -> None:
        def begin(document: dict[str, Any]) -> None:
            segment = document["segments"]["0"]
            document["segments"]["1"] = {**segment, "flags": ["backup-previous"]}
            document["segments"]["2"] = {**segment, "flags": ["backup-final"]}
            document["keyslots"]["2"] = {
                "type": "reencrypt", "key_size": 1, "mode": "encrypt", "direction": "forward", "priority": 0,
                "area": {"type": "none", "offset": str(2 * COPY_BYTES + 2 * AREA_BYTES), "size": "4096"},
            }  # fmt: skip
            document["digests"]["1"] = {**document["digests"]["0"], "keyslots": ["2"], "segments": []}

        image.change(begin)
        assert bad(image.path) == {("hdr.reencrypt", "critical")}
        assert "plaintext" in one(image.path, "hdr.reencrypt").detail
        assert "--resume-only" in one(image.path, "hdr.reencrypt").repair
        assert bad(image.path, is_being_reencrypted=True) == {("hdr.reencrypt", "warning")}

    def test_a_luks1_header_under_reencryption(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        with path.open("r+b") as file:
            file.write(b"LUKS\xde\xad")
        assert bad(path) == {("hdr.reencrypt", "critical")}


class TestLuks1:
    def test_it_is_a_warning(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        assert bad(path) == {("hdr.version", "warning")}
        assert bad(path, policy=PROFILES["legacy"]) == set()
        assert bad(path, policy=PROFILES["strict"]) == {("hdr.version", "critical")}
        metadata = read(path).metadata
        assert metadata is not None
        assert metadata.backup_bytes == 2068480  # what cryptsetup 2.6.1 copies for a key of 512 bits

    @pytest.mark.parametrize(
        ("offset", "value"),
        [
            (208, b"\0\0\0\0"),
            (208 + 7 * 48, b"\0\0\0\1"),
            (208 + 40, b"\0\0\0\0"),
            (208 + 40, struct.pack(">I", LUKS1_PAYLOAD // 512)),
            (208 + 40, struct.pack(">I", 8 + 100)),
            (208 + 44, b"\0\0\0\0"),
            (108, b"\0\0\0\0"),
            (108, struct.pack(">I", 513)),
            (8, b"\x01\x02"),
            (40, b"\0"),
        ],
    )
    def test_a_broken_rule(self, tmp_path: Path, offset: int, value: bytes) -> None:
        path = make_luks1(tmp_path / "one.img")
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(value)
        assert ("hdr.schema", "critical") in bad(path)

    def test_a_backup_of_a_header(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        os.truncate(path, 2068480)
        assert bad(path) == {("hdr.version", "warning")}
        os.truncate(path, 2068480 - 4096)
        assert ("hdr.space", "critical") in bad(path)

    def test_slots_without_end(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        with path.open("r+b") as file:
            file.seek(104)
            file.write(bytes(4))
            file.seek(208 + 44)
            file.write(b"\xff" * 4)
        os.truncate(path, 2**41)
        with Source(path) as source:
            reading = read_header(source, Path("/nonexistent"), lambda _: None)
        assert any("further than any header" in rule for rule in reading.broken_rules)

    def test_few_iterations(self, tmp_path: Path) -> None:
        path = make_luks1(tmp_path / "one.img", iterations=1000)
        assert ("slot.kdf", "critical") in bad(path)
        assert ("slot.kdf", "warning") in bad(path, policy=PROFILES["legacy"])


class TestAdvice:
    """What an operator may do at three in the morning without destroying the last way back."""

    def repairs(self, path: Path, **facts: Any) -> str:
        return " ".join(finding.repair for finding in judge(path, **facts))

    def test_no_header_is_restored_where_none_was(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        path.write_bytes(bytes(65536))
        assert "luksHeaderRestore" not in self.repairs(path, is_open=True)
        assert "detached" in self.repairs(path)
        assert "luksHeaderRestore /dev/vdb" in self.repairs(path, is_open=True, held_header=True)

    def test_a_moved_begin_is_only_set_back(self, image: Image) -> None:
        content = image.path.read_bytes()
        for moved in (bytes(1024 * 1024) + content, content[COPY_BYTES:]):
            image.path.write_bytes(moved)
            text = self.repairs(image.path, is_open=True, held_header=True)
            assert "set it back" in text
            assert "luksHeaderRestore" not in text
            assert "repair /dev" not in text

    def test_a_detached_header_is_not_encrypted_itself(self, image: Image) -> None:
        image.change(put("config.requirements", {"mandatory": ["online-reencrypt-v2"]}))
        image.change(put("segments.0.offset", "0"))
        assert "--header /dev/vdb DATADEVICE" in self.repairs(image.path, is_detached=True)
        assert "--header /dev/vdb /dev/sdc" in self.repairs(image.path, is_detached=True, data_path="/dev/sdc")
        assert "resume-only /dev/vdb" not in self.repairs(image.path)

    def test_a_copy_that_cannot_be_read_is_not_written(self, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.pread

        def pread(file: int, length: int, offset: int) -> bytes:
            if offset <= COPY_BYTES < offset + length:
                raise OSError(5, "Input/output error")
            return real(file, length, offset)

        monkeypatch.setattr(os, "pread", pread)
        with Source(image.path) as source:
            reading = read_header(source, Path("/nonexistent"), lambda _: None)
        found = [f for f in judge_header(HeaderSubject("vdb", "/dev/vdb", reading)) if f.id == "hdr.copies"]
        assert "cannot be read" in found[0].detail
        assert "cryptsetup repair" not in found[0].repair


class TestReading:
    def test_a_bad_sector_in_a_slot_that_nobody_uses(self, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
        hurt = DATA_OFFSET - 8192
        real = os.pread

        def pread(file: int, length: int, offset: int) -> bytes:
            if offset <= hurt < offset + length:
                if offset == hurt:
                    raise OSError(5, "Input/output error")
                length = hurt - offset
            return real(file, length, offset)

        monkeypatch.setattr(os, "pread", pread)
        with Source(image.path) as source:
            reading = read_header(source, Path("/nonexistent"), lambda _: None)
        (found,) = [
            f
            for f in judge_header(HeaderSubject("vdb", "/dev/vdb", reading, memory=MEMORY))
            if f.severity > Severity.INFO
        ]
        assert (found.id, found.severity) == ("hdr.read", Severity.CRITICAL)
        assert f"sector {hurt // 512}" in found.detail
        apart = read_apart(image.path, Sysroot())
        assert str(apart.failure) == str(reading.failure)

    def test_a_bad_sector_at_the_begin(self, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
        def pread(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "pread", pread)
        with Source(image.path) as source:
            reading = read_header(source, Path("/nonexistent"), lambda _: None)
        found = {f.id: f.severity for f in judge_header(HeaderSubject("vdb", "/dev/vdb", reading))}
        assert found["hdr.read"] is Severity.CRITICAL
        assert found["slot.count"] is Severity.UNKNOWN
        assert "hdr.copies" not in found

    def test_what_is_not_sound_is_read_again(self, image: Image) -> None:
        image.put(4200, b"X")
        with Source(image.path) as source:
            reading = read_header(source, Path("/nonexistent"), lambda _: image.write())
        assert reading.is_sound

    def test_reads_only(self, image: Image) -> None:
        os.chmod(image.path, 0o400)
        with Source(image.path) as source, pytest.raises(OSError, match="Bad file descriptor"):
            os.write(source._file, b"x")

    def test_error_text(self) -> None:
        assert str(ReadFailedError(5120, "Input/output error")) == "Input/output error at byte 5120, sector 10"

"""Header backups: how one is made, and what is said of those that are there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from regstore.errors import RefusedError, StorageFailedError, UsageError
from regstore.luks import save_header as saving
from regstore.luks.checks.backup import BackupSubject, check_backup
from regstore.luks.findings import Severity
from regstore.luks.header import Reading
from regstore.luks.header_backup import look_at_backup, manifest_path
from regstore.luks.save_header import SavedHeader, save_header
from regstore.luks.stack import Kind, Stack, find_stack
from regstore.luks.sysroot import Sysroot
from support.luks_headers import DATA_OFFSET, UUID, Image, healthy, make_luks1
from support.luks_judging import put, read

NOW = 1_795_900_000.0


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "disk.img")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as one on another disk."""
    monkeypatch.setattr(saving, "_refuse_same_disk", lambda *_: None)
    place = tmp_path / "usb"
    place.mkdir()
    return place


def save(image: Path, file: Path) -> SavedHeader:
    return save_header(image, file, Sysroot(), NOW)


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


class TestSaving:
    def test_the_header_area_and_a_manifest(self, image: Image, elsewhere: Path) -> None:
        before = image.path.read_bytes()
        saved = save(image.path, elsewhere / "a.hdr")
        content = saved.file.read_bytes()
        assert content == before[:DATA_OFFSET]
        assert image.path.read_bytes() == before
        assert not saved.findings
        manifest = json.loads(manifest_path(saved.file).read_text())
        assert manifest == saved.manifest
        assert manifest == {
            "uuid": image_uuid(image),
            "header_sha256": hashlib.sha256(content).hexdigest(),
            "seqid": 3,
            "created_at": "2026-11-28T21:06:40+00:00",
            "device": str(image.path),
            "size_bytes": DATA_OFFSET,
        }
        assert {path.stat().st_mode & 0o777 for path in elsewhere.iterdir()} == {0o400}
        assert sorted(path.name for path in elsewhere.iterdir()) == ["a.hdr", "a.hdr.json"]

    def test_luks1(self, tmp_path: Path, elsewhere: Path) -> None:
        path = make_luks1(tmp_path / "one.img")
        save(path, elsewhere / "a.hdr")
        assert (elsewhere / "a.hdr").stat().st_size == 2068480

    def test_a_detached_header(self, image: Image, elsewhere: Path) -> None:
        image.change(put("segments.0.offset", "0"))
        save(image.path, elsewhere / "a.hdr")
        assert (elsewhere / "a.hdr").stat().st_size == DATA_OFFSET

    @pytest.mark.parametrize("name", ["a.hdr", "a.hdr.json"])
    @pytest.mark.parametrize("what", ["file", "dangling link"])
    def test_nothing_is_replaced(self, image: Image, elsewhere: Path, name: str, what: str) -> None:
        if what == "file":
            (elsewhere / name).write_text("old")
        else:
            (elsewhere / name).symlink_to("/nonexistent/x")
        with pytest.raises(RefusedError, match="exists"):
            save(image.path, elsewhere / "a.hdr")
        assert len(list(elsewhere.iterdir())) == 1

    @pytest.mark.parametrize("offset", [4200, 0x4000 + 4200, 0, 0x4000])
    def test_a_damaged_copy_is_not_saved(self, image: Image, elsewhere: Path, offset: int) -> None:
        image.put(offset, b"X")
        saved = save(image.path, elsewhere / "a.hdr")
        assert {finding.id for finding in saved.findings} & {"hdr.copies", "hdr.offset"}
        assert list(elsewhere.iterdir()) == []

    def test_copies_that_disagree_are_not_saved(self, image: Image, elsewhere: Path) -> None:
        image.copy_of(is_first=False, seqid=4)
        assert [finding.id for finding in save(image.path, elsewhere / "a.hdr").findings] == ["hdr.seqid"]
        image.write().copy_of(is_first=False, label="x")
        assert [finding.id for finding in save(image.path, elsewhere / "a.hdr").findings] == ["hdr.equal"]
        assert list(elsewhere.iterdir()) == []

    def test_what_is_no_header_is_not_saved(self, tmp_path: Path, elsewhere: Path) -> None:
        path = tmp_path / "zero"
        path.write_bytes(bytes(65536))
        assert [finding.id for finding in save(path, elsewhere / "a.hdr").findings] == ["hdr.copies"]
        assert list(elsewhere.iterdir()) == []

    def test_weak_slots_are_saved(self, image: Image, elsewhere: Path) -> None:
        image.change(put("keyslots.1.kdf.time", 1))
        assert not save(image.path, elsewhere / "a.hdr").findings

    def test_a_header_that_changes_meanwhile(
        self, image: Image, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = saving.read_apart
        seqids = iter(range(10, 20))

        def read_and_change(device: Path, sysroot: Sysroot) -> Reading:
            reading = real(device, sysroot)
            image.write(seqid=next(seqids))
            return reading

        monkeypatch.setattr(saving, "read_apart", read_and_change)
        with pytest.raises(StorageFailedError, match="changes all the time"):
            save(image.path, elsewhere / "a.hdr")
        assert list(elsewhere.iterdir()) == []

    def test_a_full_disk(self, image: Image, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", _full)
        with pytest.raises(StorageFailedError, match="No space left"):
            save(image.path, elsewhere / "a.hdr")
        assert list(elsewhere.iterdir()) == []

    def test_a_disk_that_is_full_for_the_manifest(
        self, image: Image, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fsync
        calls = iter([real])

        def fsync(file: int) -> None:
            next(calls, _full)(file)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageFailedError, match="No space left"):
            save(image.path, elsewhere / "a.hdr")
        assert list(elsewhere.iterdir()) == []

    def test_without_hard_links(self, image: Image, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
        save(image.path, elsewhere / "a.hdr")
        assert sorted(path.name for path in elsewhere.iterdir()) == ["a.hdr", "a.hdr.json"]

    def test_no_such_directory_or_device(self, image: Image, tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            save(image.path, tmp_path / "no" / "a.hdr")
        with pytest.raises(UsageError):
            save(tmp_path / "no", tmp_path / "a.hdr")

    @pytest.mark.parametrize("through_link", [False, True])
    def test_the_same_disk_is_refused(self, image: Image, tmp_path: Path, through_link: bool) -> None:
        place = tmp_path / "place"
        if through_link:
            (tmp_path / "real").mkdir()
            place.symlink_to(tmp_path / "real")
        else:
            place.mkdir()
        with pytest.raises(RefusedError, match="same") as caught:
            save(image.path, place / "a.hdr")
        assert caught.value.exit_code == 3
        assert list(place.iterdir()) == []


def image_uuid(image: Image) -> str:
    metadata = read(image.path).metadata
    assert metadata is not None
    return metadata.uuid


class TestChecks:
    @pytest.fixture
    def backup(self, image: Image, elsewhere: Path) -> Path:
        return save(image.path, elsewhere / "a.hdr").file

    def judge(self, image: Image, backup: Path) -> dict[str, Severity]:
        """Return what is said of the backup; its place is of another test, as it lies beside the image here."""
        stack = find_stack(Sysroot(), image.path, Kind.FILE)
        looked = look_at_backup(backup, stack, Sysroot())
        found = list(check_backup(looked, read(image.path), "disk.img"))
        assert all(finding.repair and finding.detail for finding in found if finding.severity >= Severity.WARNING)
        assert {finding.subject for finding in found} == {str(backup)}
        return {finding.id: finding.severity for finding in found if finding.id != "bak.place"}

    def change_backup(self, backup: Path, offset: int, content: bytes) -> None:
        manifest_path(backup).unlink(missing_ok=True)
        backup.chmod(0o600)
        with backup.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def test_a_good_one(self, image: Image, backup: Path) -> None:
        assert set(self.judge(image, backup).values()) == {Severity.OK}

    def test_absent(self, image: Image, tmp_path: Path) -> None:
        assert self.judge(image, tmp_path / "no") == {"bak.exists": Severity.CRITICAL}
        assert self.judge(image, tmp_path) == {"bak.exists": Severity.CRITICAL}

    def test_no_header_in_it(self, image: Image, tmp_path: Path) -> None:
        path = tmp_path / "text"
        path.write_text("hello")
        found = self.judge(image, path)
        assert (found["bak.valid"], found["bak.match"]) == (Severity.CRITICAL, Severity.UNKNOWN)

    def test_truncated(self, image: Image, backup: Path) -> None:
        manifest_path(backup).unlink()
        os.truncate(backup, DATA_OFFSET - 4096)
        assert self.judge(image, backup)["bak.valid"] is Severity.CRITICAL

    @pytest.mark.parametrize("offset", [4200, 0x4000 + 4200])
    def test_half_damaged(self, image: Image, backup: Path, offset: int) -> None:
        self.change_backup(backup, offset, b"X")
        found = self.judge(image, backup)
        assert (found["bak.valid"], found["bak.match"]) == (Severity.WARNING, Severity.OK)

    def test_not_what_its_manifest_says(self, image: Image, backup: Path) -> None:
        backup.chmod(0o600)
        with backup.open("r+b") as file:
            file.seek(DATA_OFFSET - 1)
            file.write(b"X")
        assert self.judge(image, backup)["bak.valid"] is Severity.CRITICAL

    def test_a_manifest_that_nobody_understands(self, image: Image, backup: Path) -> None:
        manifest_path(backup).unlink()
        manifest_path(backup).write_text("[]")
        assert self.judge(image, backup)["bak.valid"] is Severity.CRITICAL

    def test_of_another_volume(self, image: Image, backup: Path) -> None:
        image.write(uuid="11111111-ef0c-4437-a790-575ee6180f6b")
        assert self.judge(image, backup)["bak.match"] is Severity.CRITICAL

    def test_of_another_key(self, image: Image, backup: Path) -> None:
        image.change(put("digests.0.salt", "b3RoZXI="))
        assert self.judge(image, backup)["bak.match"] is Severity.CRITICAL

    def test_stale(self, image: Image, backup: Path) -> None:
        image.write(seqid=9)
        found = self.judge(image, backup)
        assert (found["bak.match"], found["bak.revoked"]) == (Severity.WARNING, Severity.OK)

    def test_a_slot_of_the_device_is_missing(self, image: Image, backup: Path) -> None:
        image.document = healthy(3)
        image.fill_slot(2).write(seqid=5)
        found = self.judge(image, backup)
        assert (found["bak.match"], found["bak.revoked"]) == (Severity.CRITICAL, Severity.OK)

    def test_a_passphrase_was_removed(self, image: Image, backup: Path) -> None:
        image.document = healthy(1)
        image.write(seqid=5)
        found = self.judge(image, backup)
        assert (found["bak.match"], found["bak.revoked"]) == (Severity.WARNING, Severity.WARNING)

    def test_other_key_material_of_the_same_slot(self, image: Image, backup: Path) -> None:
        image.fill_slot(1, "other")
        assert self.judge(image, backup)["bak.match"] is Severity.CRITICAL

    def test_key_material_that_is_damaged_in_the_backup(self, image: Image, backup: Path) -> None:
        self.change_backup(backup, 2 * 0x4000, bytes(4096))
        assert self.judge(image, backup)["bak.valid"] is Severity.CRITICAL


class TestWhatAdviceMayNotSay:
    """A backup may be all that is left: nobody is told to destroy it, and the right one is not called wrong."""

    def texts(self, image: Image, backup: Path, **facts: object) -> str:
        looked = replace(look_at_backup(backup, find_stack(Sysroot(), image.path, Kind.FILE), Sysroot()), **facts)  # type: ignore[arg-type]
        return " ".join(finding.repair for finding in check_backup(looked, read(image.path), "/dev/vdb"))

    def test_the_header_of_the_open_mapping(self, image: Image, elsewhere: Path) -> None:
        backup = save(image.path, elsewhere / "a.hdr").file
        image.write(uuid="11111111-ef0c-4437-a790-575ee6180f6b")
        text = self.texts(image, backup, open_uuid=UUID)
        assert "do not reboot" in text
        assert "luksHeaderRestore /dev/vdb --header-backup-file" in text
        assert "never" not in text

    def test_a_lost_header(self, image: Image, elsewhere: Path) -> None:
        backup = save(image.path, elsewhere / "a.hdr").file
        image.put(0, bytes(65536))
        assert "destroy" not in self.texts(image, backup)

    def test_a_stale_one_of_a_sound_header(self, image: Image, elsewhere: Path) -> None:
        backup = save(image.path, elsewhere / "a.hdr").file
        image.document = healthy(1)
        image.write(seqid=7)
        assert "then destroy this one" in self.texts(image, backup)
        image.put(4200, b"X")
        assert "then destroy this one" not in self.texts(image, backup)


class TestPlace:
    def judge(self, **facts: object) -> Severity:
        subject = BackupSubject("a.hdr", None, **facts)  # type: ignore[arg-type]
        return max(f.severity for f in check_backup(subject, None, "vdb") if f.id == "bak.place")

    def test_where_it_lies(self) -> None:
        assert self.judge() is Severity.OK
        assert self.judge(is_on_volume=True) is Severity.CRITICAL
        assert self.judge(is_on_disk=True) is Severity.WARNING
        assert self.judge(mode=0o644) is Severity.WARNING
        assert self.judge(mode=0o600) is Severity.OK
        assert self.judge(owner=1000) is Severity.WARNING
        assert self.judge(place_problem="an overlay") is Severity.UNKNOWN

    def test_beside_a_detached_header(self, image: Image, tmp_path: Path) -> None:
        (tmp_path / "a.hdr").write_bytes(b"x")
        stack = Stack(Kind.FILE, "/proc/self/status")
        assert not look_at_backup(tmp_path / "a.hdr", stack, Sysroot()).is_on_disk
        assert look_at_backup(tmp_path / "a.hdr", stack, Sysroot(), image.path).is_on_disk
        assert look_at_backup(image.path, stack, Sysroot(), image.path).is_on_volume

    def test_a_hostile_manifest(self, image: Image, tmp_path: Path) -> None:
        (tmp_path / "a.hdr").write_bytes(b"x")
        (tmp_path / "a.hdr.json").write_text("[" * 60000)
        looked = look_at_backup(tmp_path / "a.hdr", find_stack(Sysroot(), image.path, Kind.FILE), Sysroot())
        assert "cannot be understood" in looked.manifest_problem

    def test_beside_the_image(self, image: Image, tmp_path: Path) -> None:
        (tmp_path / "a.hdr").write_bytes(b"x")
        looked = look_at_backup(tmp_path / "a.hdr", Stack(Kind.FILE, str(image.path)), Sysroot())
        assert looked.is_on_disk

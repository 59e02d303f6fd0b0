"""`regstore luks` on what the real cryptsetup makes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.collection import Done, run_cli
from support.programs import require_program, require_root
from support.watching import watching

CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
ARGON = ("--pbkdf", "argon2id", "--pbkdf-memory", "65536", "--pbkdf-parallel", "1", "--pbkdf-force-iterations", "4")
PBKDF2 = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000000")
SIZE = 18 * 1024 * 1024


class Luks:
    """An image, two keys, and the commands on them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.image = base / "disk.img"
        self.keys = []
        for number in range(3):
            key = base / f"key{number}"
            key.write_text(f"Zwetschgenknoedel {number}")
            self.keys.append(str(key))
        self.clear()

    def clear(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(SIZE)

    def cryptsetup(self, *words: str, fails: bool = False) -> str:
        command = ["cryptsetup", "--batch-mode", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout

    def format(self, *kdf: str, kind: str = "luks2", more: tuple[str, ...] = ()) -> None:
        self.cryptsetup("luksFormat", "--type", kind, *kdf, *more, "--key-file", self.keys[0], str(self.image))

    def add(self, number: int, *kdf: str) -> None:
        self.cryptsetup("luksAddKey", *kdf, "--key-file", self.keys[0], str(self.image), self.keys[number])

    def check(self, *words: object) -> Done:
        """Check, and see that nothing was opened for writing and no byte is another one."""
        before = hashlib.sha256(self.image.read_bytes()).digest()
        with watching(self.image) as seen:
            done = run_cli(self.base / "state", "luks", "check", "--json", *words, self.image)
        assert hashlib.sha256(self.image.read_bytes()).digest() == before
        assert seen <= {"read"}
        return done

    def bad(self, *words: object) -> set[tuple[str, str]]:
        """Return (id, severity) of what is a warning or worse."""
        done = self.check(*words)
        found = {(e["id"], e["severity"]) for e in done.json["findings"] if e["severity"] in ("warning", "critical")}
        done.expect(1 if found else 0)
        return found

    def bad_on(self, device: str) -> set[tuple[str, str]]:
        """Return the same of a block device, and see that nothing opened it for writing."""
        with watching(Path(device)) as seen:
            done = run_cli(self.base / "state", "luks", "check", "--json", device).expect(1)
        assert seen == {"read"}
        return {(e["id"], e["severity"]) for e in done.json["findings"] if e["severity"] in ("warning", "critical")}

    def damage(self, offset: int, content: bytes) -> None:
        with self.image.open("r+b") as file:
            file.seek(offset)
            file.write(content)


@pytest.fixture
def luks(tmp_path: Path) -> Luks:
    """An image and what belongs to it."""
    require_program("cryptsetup", "cryptsetup-bin")
    return Luks(tmp_path)


@pytest.fixture
def elsewhere(luks: Luks) -> Iterator[Path]:
    """A directory on another file system."""
    place = Path("/dev/shm") / f"regstore-test-{os.getpid()}"
    place.mkdir()
    if place.stat().st_dev == luks.base.stat().st_dev:
        pytest.fail("the temporary directory lies in /dev/shm itself")
    yield place
    shutil.rmtree(place)


def test_the_watch_sees_who_opens_for_writing(luks: Luks) -> None:
    luks.format(*CHEAP)
    with watching(luks.image) as seen:
        luks.cryptsetup("luksUUID", str(luks.image))
    assert "written" in seen  # cryptsetup opens even a healthy image for writing, for its lock


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_healthy_images_give_no_warning(luks: Luks, part: int) -> None:
    for number in range(50):
        kdf = ARGON if number % 2 else PBKDF2
        luks.clear()
        luks.format(*kdf, more=("--sector-size", "4096") if number % 4 == 1 else ())
        luks.add(1, *kdf)
        assert luks.bad() == set(), (part, number)


def test_slots_come_and_go(luks: Luks) -> None:
    luks.format(*ARGON)
    assert luks.bad() == {("slot.count", "warning")}
    luks.add(1, *ARGON)
    assert luks.bad() == set()
    luks.add(2, *CHEAP)
    assert luks.bad() == {("slot.kdf", "critical")}
    luks.cryptsetup("luksKillSlot", str(luks.image), "2")
    luks.cryptsetup("luksKillSlot", str(luks.image), "1")
    assert luks.bad() == {("slot.count", "warning")}
    luks.cryptsetup("luksKillSlot", str(luks.image), "0")
    assert luks.bad() == {("slot.count", "critical")}


def test_luks1_and_its_conversion(luks: Luks) -> None:
    luks.format("--pbkdf-force-iterations", "1000", kind="luks1")
    found = luks.bad()
    assert found == {("hdr.version", "warning"), ("slot.count", "warning"), ("slot.kdf", "critical")}
    luks.cryptsetup("convert", "--type", "luks2", str(luks.image))
    assert luks.bad() == {("slot.count", "warning"), ("slot.kdf", "critical")}
    document = luks.check().json
    assert (document["luks_version"], document["command"]) == (2, "luks check")


def test_what_cryptsetup_repairs_silently_is_seen(luks: Luks) -> None:
    luks.format(*ARGON)
    luks.add(1, *ARGON)
    for offset in (4100, 16384 + 4100):
        luks.damage(offset, b"XXXX")
        assert luks.bad() == {("hdr.copies", "warning")}
        assert luks.bad("--policy", "strict") == {("hdr.copies", "critical")}
        luks.cryptsetup("luksUUID", str(luks.image))  # repairs, and says nothing
        assert luks.bad() == set()


def test_a_header_that_is_gone(luks: Luks) -> None:
    luks.format(*CHEAP)
    luks.damage(0, bytes(6))
    assert ("hdr.offset", "critical") in luks.bad()
    luks.damage(16384, bytes(6))
    assert luks.bad() == {("hdr.copies", "critical")}


def test_a_file_system_over_it(luks: Luks) -> None:
    luks.format(*CHEAP)
    subprocess.run(["mkfs.ext4", "-q", "-F", luks.image], check=True)
    assert ("hdr.foreign", "critical") in luks.bad()


def test_a_reencryption_that_was_only_begun(luks: Luks) -> None:
    luks.format(*CHEAP)
    luks.cryptsetup("reencrypt", "--init-only", *CHEAP, "--key-file", luks.keys[0], str(luks.image))
    assert {("hdr.require", "critical"), ("hdr.reencrypt", "critical")} <= luks.bad()


def test_a_block_device(luks: Luks) -> None:
    """A loop device: it is found in sysfs, only read, and a reencryption on it is seen until it has ended."""
    require_root("make loop devices")
    luks.format(*CHEAP)
    program = require_program("losetup", "mount")
    done = subprocess.run([program, "--find", "--show", luks.image], capture_output=True, text=True, check=True)
    device = done.stdout.strip()
    try:
        first = luks.bad_on(device)
        assert {("slot.kdf", "critical"), ("bak.exists", "warning")} <= first
        assert not {name for name, _ in first if name.startswith("hdr.")}
        luks.cryptsetup("reencrypt", "--init-only", *CHEAP, "--key-file", luks.keys[0], device)
        assert {("hdr.require", "critical"), ("hdr.reencrypt", "critical")} <= luks.bad_on(device)
        luks.cryptsetup("reencrypt", "--resume-only", "--key-file", luks.keys[0], device)
        assert not {name for name, _ in luks.bad_on(device) if name.startswith("hdr.")}
        run_cli(luks.base / "state", "luks", "backup-header", device, luks.base / "a.hdr").expect_error(3, "same")
    finally:
        subprocess.run([program, "--detach", device], check=True)


def test_tokens_and_unbound_keys(luks: Luks) -> None:
    luks.format(*ARGON)
    luks.add(1, *ARGON)
    luks.cryptsetup(
        "luksAddKey", "--unbound", "--key-size", "256", *ARGON, str(luks.image), luks.keys[2], "--key-slot", "7"
    )
    luks.cryptsetup("token", "add", "--key-description", "regstore", "--key-slot", "1", str(luks.image))
    assert luks.bad() == set()
    infos = {(e["id"], e["subject"]) for e in luks.check().json["findings"] if e["severity"] == "info"}
    assert ("slot.unbound", "keyslot 7") in infos
    luks.cryptsetup("luksKillSlot", str(luks.image), "1")
    assert ("token.orphan", "warning") in luks.bad()


def test_a_detached_header(luks: Luks) -> None:
    header = luks.base / "disk.hdr"
    luks.format(*ARGON, more=("--header", str(header)))
    assert luks.bad() == {("hdr.copies", "critical")}
    assert luks.bad("--header", header) == {("slot.count", "warning")}
    assert luks.bad("--header", luks.base / "none") == {("hdr.detached", "critical")}
    done = run_cli(luks.base / "state", "luks", "check", header).expect(1)
    assert "slot.count" in done.stdout


class TestKeyFiles:
    def test_the_right_and_the_wrong_one(self, luks: Luks) -> None:
        luks.format(*ARGON)
        luks.add(1, *ARGON)
        assert luks.bad("--test-key-file", luks.keys[1]) == set()
        (opens,) = [e for e in luks.check("--test-key-file", luks.keys[1]).json["findings"] if e["id"] == "slot.opens"]
        assert (opens["severity"], opens["detail"]) == ("ok", "it opens keyslot 1")
        assert luks.bad("--test-key-file", luks.keys[2]) == {("slot.opens", "critical")}

    def test_an_absent_one(self, luks: Luks) -> None:
        luks.format(*CHEAP)
        run_cli(luks.base / "state", "luks", "check", "--test-key-file", luks.base / "no", luks.image).expect_error(
            2, "key file"
        )

    def test_no_secret_is_shown(self, luks: Luks) -> None:
        luks.format(*CHEAP)
        for key in (luks.keys[0], luks.keys[2]):
            done = run_cli(luks.base / "state", "luks", "check", "--json", "--test-key-file", key, luks.image)
            assert "slot.opens" in done.stdout
            assert "Zwetsch" not in done.stdout + done.stderr


class TestHeaderBackups:
    def test_the_same_bytes_as_cryptsetup(self, luks: Luks, elsewhere: Path) -> None:
        for kind, kdf in (("luks1", CHEAP[2:]), ("luks2", CHEAP)):
            luks.clear()
            luks.format(*kdf, kind=kind)
            theirs = luks.base / f"{kind}.theirs"
            ours = elsewhere / f"{kind}.ours"
            with watching(luks.image) as seen:
                run_cli(luks.base / "state", "luks", "backup-header", luks.image, ours).expect(0)
            assert seen == {"read"}
            luks.cryptsetup("luksHeaderBackup", str(luks.image), "--header-backup-file", str(theirs))
            assert ours.read_bytes() == theirs.read_bytes()

    def test_a_backup_brings_the_volume_back(self, luks: Luks, elsewhere: Path) -> None:
        luks.format(*CHEAP)
        run_cli(luks.base / "state", "luks", "backup-header", luks.image, elsewhere / "a.hdr").expect(0)
        luks.damage(0, bytes(65536))
        luks.cryptsetup("luksHeaderRestore", str(luks.image), "--header-backup-file", str(elsewhere / "a.hdr"))
        luks.cryptsetup("open", "--test-passphrase", "--key-file", luks.keys[0], str(luks.image))

    def test_an_old_one_tells_what_it_still_opens(self, luks: Luks, elsewhere: Path) -> None:
        luks.format(*ARGON)
        luks.add(1, *ARGON)
        file = elsewhere / "a.hdr"
        run_cli(luks.base / "state", "luks", "backup-header", luks.image, file).expect(0)
        assert luks.bad("--header-backup", file) == set()
        luks.cryptsetup("luksChangeKey", *ARGON, "--key-file", luks.keys[1], str(luks.image), luks.keys[2])
        assert luks.bad("--header-backup", file) == {("bak.match", "critical"), ("bak.revoked", "warning")}
        luks.cryptsetup("open", "--test-passphrase", "--header", str(file), "--key-file", luks.keys[1], str(luks.image))

    def test_of_a_volume_that_was_formatted_anew(self, luks: Luks, elsewhere: Path) -> None:
        luks.format(*ARGON)
        file = elsewhere / "a.hdr"
        run_cli(luks.base / "state", "luks", "backup-header", luks.image, file).expect(0)
        uuid = luks.cryptsetup("luksUUID", str(luks.image)).strip()
        luks.format(*ARGON)
        assert ("bak.match", "critical") in luks.bad("--header-backup", file)
        luks.cryptsetup("luksUUID", "--uuid", uuid, str(luks.image))
        assert ("bak.match", "critical") in luks.bad("--header-backup", file)

    def test_refusals(self, luks: Luks, elsewhere: Path) -> None:
        luks.format(*CHEAP)
        state = luks.base / "state"
        run_cli(state, "luks", "backup-header", luks.image, luks.base / "a.hdr").expect_error(3, "same")
        (elsewhere / "there").symlink_to(luks.base)
        run_cli(state, "luks", "backup-header", luks.image, elsewhere / "there" / "a.hdr").expect_error(3, "same")
        (elsewhere / "old").write_text("x")
        run_cli(state, "luks", "backup-header", luks.image, elsewhere / "old").expect_error(3, "exists")
        run_cli(state, "luks", "backup-header", luks.base / "none", elsewhere / "a").expect_error(2)
        luks.damage(4100, b"X")
        done = run_cli(state, "luks", "backup-header", "--json", luks.image, elsewhere / "a").expect(1)
        assert [found[0] for found in done.findings] == ["hdr.copies"]
        assert sorted(path.name for path in elsewhere.iterdir()) == ["old", "there"]

"""place.*: is the registry really on the encrypted disk?"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from regstore.luks.checks.place import check_shadow
from regstore.luks.facts import Facts, Options
from regstore.luks.findings import Finding
from regstore.luks.stack import Kind, find_stack
from regstore.luks.sysroot import Sysroot
from support.luks_trees import PROFILES, ROOT, UUID, Tree, closed, dm_uuid, luks2, machine, plainfs, suspended, told
from support.programs import require_root

OTHER = "d3cd59f6-14de-4007-8359-49d7b6bfc16c"


@pytest.mark.parametrize(
    "profile", ["luks1", "luks2", "xfs", "readonly", "suspended", "lvm", "integrity", "detached", "nvme"]
)
def test_encrypted(tree_directory: Path, ask, profile: str) -> None:
    assert told(ask("place.crypt", PROFILES[profile](tree_directory))) == [("ok", ROOT)]


@pytest.mark.parametrize(("profile", "disk"), [("closed", "vda"), ("plainfs", "vdb")])
def test_not_encrypted(tree_directory: Path, ask, profile: str, disk: str) -> None:
    (finding,) = ask("place.crypt", PROFILES[profile](tree_directory))

    assert finding.severity.word == "critical"
    assert "not encrypted" in finding.detail
    assert disk in finding.detail


def test_partly_encrypted(tree_directory: Path, ask) -> None:
    tree = machine(tree_directory)
    tree.block("dm-0", "253:0", slaves=["vdb"], dm=("half", dm_uuid()))
    tree.block("md0", "9:0", slaves=["dm-0", "vda"])
    tree.mount("9:0", rest="rw - ext4 /dev/md0 rw")

    (finding,) = ask("place.crypt", tree.finish())

    assert finding.severity.word == "critical"
    assert "beside the encrypted dm-0" in finding.detail


@pytest.mark.parametrize("rest", ["overlay overlay rw", "9p job rw", "zfs pool rw"])
def test_where_nobody_can_tell(tree_directory: Path, ask, rest: str) -> None:
    tree = machine(tree_directory)
    tree.mount("0:50", rest=f"rw - {rest}")

    assert told(ask("place.crypt", tree.finish())) == [("unknown", ROOT)]
    assert told(ask("place.crypt", Tree(tree_directory / "empty"))) == [("unknown", ROOT)]


def test_a_device_has_no_place(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)

    for check in ("place.crypt", "place.mounted", "place.shadow"):
        assert ask(check, tree, target="/dev/vdb", kind=Kind.DEVICE) == []


def test_mounted_as_fstab_says(tree_directory: Path, ask) -> None:
    assert told(ask("place.mounted", luks2(tree_directory))) == [("ok", ROOT)]


def test_not_mounted_as_fstab_says(tree_directory: Path, ask) -> None:
    (finding,) = ask("place.mounted", closed(tree_directory))

    assert (finding.severity.word, finding.subject) == ("critical", ROOT)
    assert "/etc/fstab" in finding.detail


def test_not_mounted_as_the_configuration_says(tree_directory: Path, ask) -> None:
    found = ask("place.mounted", luks2(tree_directory), mount_point="/data/")

    assert told(found) == [("critical", "/data")]


def test_a_mount_that_waits_for_its_first_use(tree_directory: Path, ask) -> None:
    tree = closed(tree_directory)
    tree.mount("0:60", rest="rw - autofs systemd-1 rw,fd=50")

    assert told(ask("place.mounted", tree.finish())) == [("unknown", ROOT)]
    tree.mount("253:0")
    assert told(ask("place.mounted", tree.finish())) == [("ok", ROOT)]


def test_nothing_says_where_to_mount(tree_directory: Path, ask) -> None:
    assert ask("place.mounted", plainfs(tree_directory)) == []


def test_mounted_without_a_mount_table(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    (tree.directory / "proc/self/mountinfo").unlink()

    assert told(ask("place.mounted", tree)) == [("unknown", ROOT)]


def test_the_expected_volume(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)

    assert told(ask("place.expected", tree)) == [("ok", "dm-0")]
    assert told(ask("place.expected", tree, expected_uuid=UUID.replace("-", "").upper())) == [("ok", "dm-0")]


def test_another_volume_than_expected(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    assert told(ask("place.expected", tree, expected_uuid=OTHER)) == [("critical", "dm-0")]
    tree.write("etc/crypttab", f"registry UUID={OTHER} none luks\n")
    assert told(ask("place.expected", tree)) == [("critical", "dm-0")]


def test_no_volume_where_one_is_expected(tree_directory: Path, ask) -> None:
    assert told(ask("place.expected", closed(tree_directory), expected_uuid=UUID)) == [("critical", ROOT)]


def test_a_mapping_that_does_not_tell_its_uuid(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.write("sys/block/dm-0/dm/uuid", "CRYPT-LUKS2-registry\n")

    assert told(ask("place.expected", tree)) == [("unknown", "dm-0")]


def test_no_volume_is_expected(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.write("etc/crypttab", "registry /dev/vdb none\n")

    assert ask("place.expected", tree) == []


def test_one_header_of_each_uuid(tree_directory: Path, ask) -> None:
    assert told(ask("place.duplicate", luks2(tree_directory))) == [("ok", "vdb")]


def test_two_headers_with_one_uuid(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.block("vdc", "254:32")
    tree.udev("254:32", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=UUID.upper())

    (finding,) = ask("place.duplicate", tree)

    assert (finding.severity.word, finding.subject) == ("critical", "vdb")
    assert "vdb, vdc" in finding.detail
    assert UUID in finding.detail


def test_the_paths_of_one_disk_are_no_duplicates(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.block("dm-5", "253:5", slaves=["vdb"], dm=("mpatha", "mpath-1"))
    tree.udev("253:5", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=UUID)
    tree.block("loop0", "7:0")
    tree.write("sys/block/loop0/loop/backing_file", "/dev/dm-5\n")
    tree.udev("7:0", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=UUID)

    assert told(ask("place.duplicate", tree)) == [("ok", "vdb")]


def without_udev(tree_directory: Path, *images: str) -> Tree:
    tree = luks2(tree_directory)
    for path in (tree.directory / "run/udev/data").iterdir():
        path.unlink()
    (tree.directory / "dev").mkdir()
    for name in images:
        head = b"LUKS\xba\xbe\0\2".ljust(168, b"\0") + UUID.encode()
        (tree.directory / "dev" / name).write_bytes(head.ljust(4096, b"\0"))
    return tree


def test_headers_are_read_where_udev_knows_nothing(tree_directory: Path, ask) -> None:
    tree = without_udev(tree_directory, "vda", "vdb")

    assert told(ask("place.duplicate", tree)) == [("critical", "vdb")]


def test_headers_that_cannot_be_read(tree_directory: Path, ask) -> None:
    assert told(ask("place.duplicate", without_udev(tree_directory))) == [("unknown", "vdb")]


def test_headers_of_some_devices_cannot_be_read(tree_directory: Path, ask) -> None:
    (finding,) = ask("place.duplicate", without_udev(tree_directory, "vdb"))

    assert finding.severity.word == "unknown"
    assert "dm-0, vda" in finding.detail


def test_headers_on_suspended_devices_are_not_read(tree_directory: Path, ask) -> None:
    tree = without_udev(tree_directory, "vda", "vdb")
    (tree.directory / "dev/vda").write_bytes(bytes(4096))
    tree.write("sys/block/dm-0/dm/suspended", "1\n")
    os.mkfifo(tree.directory / "dev/dm-0")  # reading it would hang
    tree.block("dm-1", "253:1", slaves=["dm-0"], dm=("above", "LVM-1"))
    os.mkfifo(tree.directory / "dev/dm-1")

    (finding,) = ask("place.duplicate", tree)

    assert finding.severity.word == "unknown"
    assert "dm-0, dm-1" in finding.detail


@pytest.mark.parametrize(
    ("uuid", "severity", "word"),
    [
        (dm_uuid(), "ok", "LUKS2"),
        (dm_uuid(kind="LUKS1"), "ok", "LUKS1"),
        ("CRYPT-PLAIN-registry", "info", "plain dm-crypt"),
        ("CRYPT-TCRYPT-registry", "info", "VeraCrypt"),
        ("CRYPT-BITLK-registry", "info", "BitLocker"),
        ("CRYPT-NEW-\x1b[31m", "info", "CRYPT-NEW-"),
    ],
)
def test_kinds(tree_directory: Path, ask, uuid: str, severity: str, word: str) -> None:
    tree = luks2(tree_directory)
    tree.write("sys/block/dm-0/dm/uuid", f"{uuid}\n")

    (finding,) = ask("place.kind", tree)

    assert finding.severity.word == severity
    assert word in finding.detail
    assert "\x1b" not in finding.detail


def test_no_kind_without_encryption(tree_directory: Path, ask) -> None:
    assert ask("place.kind", plainfs(tree_directory)) == []


def test_another_systems_shadow_is_unknown(tree_directory: Path, ask) -> None:
    assert told(ask("place.shadow", luks2(tree_directory))) == [("unknown", ROOT)]
    assert ask("place.shadow", closed(tree_directory / "closed")) == []


def shadow_of(place: Path) -> Finding:
    stack = find_stack(Sysroot(), place, Kind.ROOT)
    (finding,) = check_shadow(Facts(Sysroot(), stack, None, Options()))
    return finding


@pytest.fixture
def tmpfs(tmp_path: Path):
    """A directory to be mounted over."""
    require_root("mount")
    place = tmp_path / "registry"
    place.mkdir()

    def mount() -> Path:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
        return place

    yield mount, place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_nothing_lies_under_the_mount_point(tmpfs) -> None:
    mount, _ = tmpfs

    assert shadow_of(mount()).severity.word == "ok"


def test_files_lie_under_the_mount_point(tmpfs) -> None:
    mount, place = tmpfs
    (place / "le\nak").write_text("x")
    before = Path("/proc/self/mountinfo").read_text()
    mount()

    finding = shadow_of(place)

    assert finding.severity.word == "warning"
    assert "le\\nak" in finding.detail
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before.splitlines()) + 1


@pytest.mark.parametrize("inner", [".", "sub"])
def test_blobs_lie_under_the_mount_point(tmpfs, inner: str) -> None:
    mount, place = tmpfs
    blobs = place / inner / "docker/registry/v2/blobs/sha256/aa/aa1"
    blobs.mkdir(parents=True)
    (blobs / "data").write_bytes(b"x" * 10000)
    mount()
    (place / inner).mkdir(exist_ok=True)

    finding = shadow_of(place / inner)

    assert finding.severity.word == "critical"
    assert "1 files" in finding.detail


def test_only_root_looks_under_a_mount_point(tmpfs, monkeypatch: pytest.MonkeyPatch) -> None:
    mount, _ = tmpfs
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    finding = shadow_of(mount())

    assert finding.severity.word == "unknown"
    assert "root" in finding.detail


def test_suspended_shadows_are_not_looked_at(tree_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = suspended(tree_directory)
    facts = Facts(tree.sysroot, tree.stack(), None, Options())
    monkeypatch.setattr(type(tree.sysroot), "is_other", False)

    (finding,) = check_shadow(facts)

    assert (finding.severity.word, finding.detail) == ("unknown", "suspended: dm-0 (registry)")

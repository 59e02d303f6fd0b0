"""The way from a registry or device down to the disks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regstore.luks.devices import BlockDevices, Device
from regstore.luks.nodes import node_of
from regstore.luks.stack import Kind, Stack, find_stack, kind_of
from regstore.luks.sysroot import Sysroot
from regstore.luks.system import find_header
from support.luks_trees import PROFILES, ROOT, UUID, Tree, closed, dm_uuid, luks2, lvm, machine, nvme


def names(stack: Stack) -> list[str]:
    return [device.name for device in stack.devices]


def name_of(device: Device | None) -> str:
    return device.name if device else ""


@pytest.mark.parametrize(
    ("profile", "devices", "crypt", "header"),
    [
        ("luks1", ["dm-0", "vdb"], "dm-0", "vdb"),
        ("luks2", ["dm-0", "vdb"], "dm-0", "vdb"),
        ("suspended", ["dm-0", "vdb"], "dm-0", "vdb"),
        ("closed", ["vda"], "", ""),
        ("plainfs", ["vdb"], "", ""),
        ("lvm", ["dm-1", "dm-0", "vdb"], "dm-0", "vdb"),
        ("integrity", ["dm-1", "dm-0", "vdb"], "dm-1", "vdb"),
        ("nvme", ["dm-0", "nvme0n1p1", "nvme0n1"], "dm-0", "nvme0n1p1"),
    ],
)
def test_the_ways_of_the_profiles(
    tree_directory: Path, profile: str, devices: list[str], crypt: str, header: str
) -> None:
    stack = PROFILES[profile](tree_directory).stack(f"{ROOT}/docker")

    assert names(stack) == devices
    assert name_of(stack.crypt) == crypt
    assert name_of(stack.header_device) == header
    assert [disk.name for disk in stack.disks] == devices[-1:]
    assert stack.gaps == ()


def test_the_facts_of_a_device(tree_directory: Path) -> None:
    device = luks2(tree_directory).stack().devices[0]

    assert (device.number, device.size_bytes, device.is_read_only) == ("253:0", 229376 * 512, False)
    assert (device.dm_name, device.luks_uuid, device.slaves) == ("registry", UUID, ("vdb",))
    assert device.logical_block_bytes == 512


def test_numbers_without_links(tree_directory: Path) -> None:
    """As in a recorded tree without /sys/dev."""
    tree = luks2(tree_directory)
    for link in (tree.directory / "sys/dev/block").iterdir():
        link.unlink()

    assert names(tree.stack()) == ["dm-0", "vdb"]


def test_numbers_with_directories(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    link = tree.directory / "sys/dev/block/253:0"
    link.unlink()
    (tree.directory / "sys/block/dm-0/dev").unlink()
    tree.write("sys/dev/block/253:0/uevent", "MAJOR=253\nDEVNAME=dm-0\n")

    assert names(tree.stack()) == ["dm-0", "vdb"]


def test_names_without_numbers(tree_directory: Path) -> None:
    """As where only the names of the mapper were recorded."""
    tree = luks2(tree_directory)
    (tree.directory / "sys/dev/block/253:0").unlink()
    (tree.directory / "sys/block/dm-0/dev").unlink()

    assert names(tree.stack()) == ["dm-0", "vdb"]


def test_partitions_as_class_entries(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    tree.write("sys/class/block/vdb1/dev", "254:17\n")
    tree.write("sys/class/block/vdb1/partition", "1\n")
    tree.mount("254:17", rest="rw - ext4 /dev/vdb1 rw")

    assert names(tree.finish().stack()) == ["vdb1", "vdb"]


def test_an_error_table_cuts_the_way_and_udev_knows_on(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    (tree.directory / "sys/block/dm-0/slaves/vdb").unlink()

    stack = tree.stack()

    assert names(stack) == ["dm-0", "vdb"]
    assert name_of(stack.header_device) == "vdb"
    assert stack.plain == ()


def test_a_device_whose_mapping_was_cut_off(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    (tree.directory / "sys/block/dm-0/slaves/vdb").unlink()
    (tree.directory / "sys/block/vdb/holders/dm-0").unlink()

    assert name_of(tree.stack("/dev/vdb", Kind.DEVICE).crypt) == "dm-0"


@pytest.mark.parametrize(("suspended", "is_halted"), [("dm-0", True), ("dm-1", False)])
def test_whether_the_header_can_be_read(tree_directory: Path, suspended: str, is_halted: bool) -> None:
    tree = machine(tree_directory)
    tree.block("dm-0", "253:0", slaves=["vdb"], dm=("vg-lv", "LVM-1"), suspended=int(suspended == "dm-0"))
    tree.block("dm-1", "253:1", slaves=["dm-0"], dm=("registry", dm_uuid()), suspended=int(suspended == "dm-1"))
    tree.mount("253:1")

    assert tree.finish().stack().is_header_halted is is_halted
    assert tree.stack("/dev/mapper/vg-lv", Kind.DEVICE).is_header_halted is is_halted


def test_names_that_no_kernel_gives_are_left_out(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    tree.write("sys/block/vdb/slaves/\x1b[31m", "")

    assert names(tree.stack()) == ["dm-0", "vdb"]


def test_a_raid_with_one_encrypted_half_shows_the_other(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    tree.block("vdc", "254:32")
    tree.block("dm-0", "253:0", slaves=["vdb"], dm=("half", dm_uuid()))
    tree.block("md0", "9:0", slaves=["dm-0", "vdc"])
    tree.mount("9:0", rest="rw - ext4 /dev/md0 rw")

    stack = tree.finish().stack()

    assert names(stack) == ["md0", "dm-0", "vdc", "vdb"]
    assert [device.name for device in stack.plain] == ["vdc"]
    assert stack.clear == {"md0", "dm-0", "vdc"}


def test_a_loop_goes_on_below_its_file(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    tree.block("loop3", "7:3")
    tree.write("sys/block/loop3/loop/backing_file", "/data/registry/inner.img\n")
    tree.mount("7:3", "/inner", "rw - ext4 /dev/loop3 rw")

    stack = tree.finish().stack("/inner")

    assert names(stack) == ["loop3", "dm-0", "vdb"]
    assert stack.plain == ()


def test_a_file_on_no_disk_is_a_gap(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    tree.block("loop3", "7:3")
    tree.write("sys/block/loop3/loop/backing_file", "/run/inner.img\n")
    tree.mount("7:3", rest="rw - ext4 /dev/loop3 rw")

    stack = tree.finish().stack()

    assert "tmpfs" in stack.gaps[0]


@pytest.mark.parametrize(
    "rest", ["overlay overlay rw", "tmpfs t rw", "9p job rw", "zfs pool/data rw", "nfs4 host:/x rw"]
)
def test_file_systems_without_disks_are_gaps(tree_directory: Path, rest: str) -> None:
    tree = machine(tree_directory)
    tree.mount("0:50", rest=f"rw - {rest}")

    stack = tree.finish().stack()

    assert names(stack) == []
    assert rest.split()[0] in stack.gaps[0]


def test_all_devices_of_btrfs(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    tree.mounts.pop()
    tree.block("vdc", "254:32")
    tree.mount("0:40", rest="rw - btrfs /dev/mapper/registry rw,subvol=/")
    for name in ("dm-0", "vdc"):
        tree.write(f"sys/fs/btrfs/1234/devices/{name}", "")

    stack = tree.finish().stack()

    assert [device.name for device in stack.tops] == ["dm-0", "vdc"]
    assert [device.name for device in stack.plain] == ["vdc"]


def test_circles_end(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    tree.lay("vdb", "dm-0")
    tree.block("loop1", "7:1")
    tree.write("sys/block/loop1/loop/backing_file", "/loop/file\n")
    tree.lay("vdb", "loop1")
    tree.mount("7:1", "/loop", "rw - ext4 /dev/loop1 rw")

    assert set(names(tree.finish().stack())) == {"dm-0", "vdb", "loop1"}


def test_wide_trees_end(tree_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore.luks.stack.DEVICES_MAX", 20)
    tree = luks2(tree_directory)
    for number in range(50):
        tree.write(f"sys/block/vdb/slaves/x{number}", "")

    stack = tree.stack()

    assert len(stack.devices) <= 20
    assert "more than 20" in stack.gaps[0]


def test_a_missing_mount_table_is_a_gap(tree_directory: Path) -> None:
    assert "mountinfo" in Tree(tree_directory).stack().gaps[0]


def test_a_device_that_sysfs_does_not_know_is_a_gap(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    tree.mount("8:1", rest="rw - ext4 /dev/sda1 rw")

    assert "8:1" in tree.finish().stack().gaps[0]


@pytest.mark.parametrize("path", ["/dev/vdb", "/dev/mapper/registry", "/dev/dm-0"])
def test_from_a_device_up_to_its_mapping(tree_directory: Path, path: str) -> None:
    tree = luks2(tree_directory)

    assert kind_of(tree.sysroot, Path(path)) is Kind.DEVICE
    stack = tree.stack(path, Kind.DEVICE)

    assert names(stack) == ["dm-0", "vdb"]
    assert name_of(stack.header_device) == "vdb"
    assert stack.mount is not None


def test_a_node_in_the_tree_is_its_device(tree_directory: Path) -> None:
    tree = luks2(tree_directory)

    assert names(tree.stack(f"{tree.directory}/dev/vdb", Kind.DEVICE)) == ["dm-0", "vdb"]


def test_a_closed_device_is_its_own_header_device(tree_directory: Path) -> None:
    stack = closed(tree_directory).stack("/dev/vdb", Kind.DEVICE)

    assert names(stack) == ["vdb"]
    assert stack.crypt is None
    assert name_of(stack.header_device) == "vdb"


def test_a_logical_volume_is_no_mapping_of_its_own(tree_directory: Path) -> None:
    stack = lvm(tree_directory).stack("/dev/vgreg/data", Kind.DEVICE)

    assert names(stack) == ["dm-1", "dm-0", "vdb"]


def test_an_image_is_found_by_its_loop_device(tree_directory: Path, tmp_path: Path) -> None:
    tree = machine(tree_directory)
    image = tmp_path / "image"
    image.touch()
    tree.block("loop3", "7:3")
    tree.write("sys/block/loop3/loop/backing_file", f"{image}\n")
    tree.block("dm-0", "253:0", slaves=["loop3"], dm=("registry", dm_uuid()))

    stack = tree.finish().stack(str(image), Kind.FILE)

    assert name_of(stack.crypt) == "dm-0"
    assert name_of(stack.header_device) == "loop3"


def test_an_image_that_is_not_open_has_no_devices(tree_directory: Path, tmp_path: Path) -> None:
    stack = luks2(tree_directory).stack(str(tmp_path / "image"), Kind.FILE)

    assert stack == Stack(Kind.FILE, str(tmp_path / "image"))


def test_an_unknown_device(tree_directory: Path) -> None:
    tree = luks2(tree_directory)

    assert kind_of(tree.sysroot, Path("/dev/vdz")) is None
    assert "vdz" in tree.stack("/dev/vdz", Kind.DEVICE).gaps[0]


def test_kinds_of_this_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")

    assert kind_of(Sysroot(), tmp_path) is Kind.ROOT
    assert kind_of(Sysroot(), tmp_path / "file") is Kind.FILE
    assert kind_of(Sysroot(), tmp_path / "pipe") is None
    assert kind_of(Sysroot(), tmp_path / "absent") is None


def test_a_root_that_is_only_recorded(tree_directory: Path) -> None:
    assert kind_of(luks2(tree_directory).sysroot, Path(ROOT)) is Kind.ROOT


def test_a_root_of_this_system_is_followed_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    stack = find_stack(Sysroot(), tmp_path / "link", Kind.ROOT)

    assert stack.target == os.path.realpath(tmp_path / "real")


def test_the_header_of_a_closed_volume_is_found_by_crypttab(tree_directory: Path) -> None:
    tree = closed(tree_directory)
    tree.write("etc/crypttab", f"registry UUID={UUID} none luks,header=/etc/r.hdr\n")

    place = find_header(tree.sysroot, tree.stack())

    assert (name_of(place.device), place.file) == ("vdb", "/etc/r.hdr")


def test_the_header_of_an_open_volume(tree_directory: Path) -> None:
    tree = nvme(tree_directory)

    place = find_header(tree.sysroot, tree.stack())

    assert (name_of(place.device), place.file) == ("nvme0n1p1", "")


def test_nodes(tree_directory: Path, tmp_path: Path) -> None:
    tree = luks2(tree_directory)
    blocks = BlockDevices(tree.sysroot)
    vdb, vda = blocks.by_name("vdb"), blocks.by_name("vda")
    assert vdb is not None
    assert vda is not None
    node = tree.write("dev/vdb", "")

    assert node_of(tree.sysroot, vdb) == node
    assert node_of(tree.sysroot, vda) is None
    image = tmp_path / "image"
    image.touch()
    assert node_of(tree.sysroot, Device("loop9", backing_file=str(image))) == image
    assert node_of(Sysroot(), Device("no-such-device")) is None

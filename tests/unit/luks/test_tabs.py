"""crypttab and fstab, and the devices that they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.luks.devices import BlockDevices
from regstore.luks.tabs import Spec, parse_crypttab, parse_fstab, parse_spec, resolve
from regstore.luks.udev import NotKnownError
from support.luks_trees import UUID, Tree, luks2, machine


def names(tree: Tree, text: str) -> list[str]:
    return [device.name for device in resolve(tree.sysroot, BlockDevices(tree.sysroot), parse_spec(text))]


def test_an_entry_of_systemd() -> None:
    entry = parse_crypttab(f"registry\tUUID={UUID} /etc/key luks,discard,header=/etc/r.hdr,readonly,tries=3\n")[0]

    assert (entry.name, entry.source, entry.key) == ("registry", Spec("UUID", UUID), "/etc/key")
    assert entry.header == "/etc/r.hdr"
    assert entry.is_read_only
    assert entry.options["discard"] == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [(r"/a\040b", "/a b"), (r"/a\0040b", "/a b"), (r"/a\0134b", "/a\\b"), (r"/a\0401", "/a 1"), (r"/a\xb", r"/a\xb")],
)
def test_both_kinds_of_escapes(text: str, value: str) -> None:
    assert parse_crypttab(f"name {text} none")[0].source.value == value


@pytest.mark.parametrize("key", ["none", "-", "/dev/urandom", ""])
def test_what_is_no_key_file(key: str) -> None:
    assert parse_crypttab(f"name /dev/sdb {key}")[0].key == ""


def test_the_argument_of_a_key_script_is_no_key_file() -> None:
    assert parse_crypttab("name /dev/sdb /dev/sdc luks,keyscript=/lib/passdev")[0].key == ""


def test_comments_and_short_lines_are_left_out() -> None:
    assert parse_crypttab("# a b c\n\n  \nname\nname a\\000b") == []
    assert parse_fstab("# a b c\nUUID=1 none swap sw\n/dev/a /b\n") == []


def test_an_entry_of_fstab() -> None:
    entry = parse_fstab('LABEL="my disk" /srv/a\\040b/ ext4 nofail,ro 0 2')

    assert entry == []
    entry = parse_fstab('LABEL="disk" /srv/a\\040b/ ext4 nofail,ro 0 2')
    assert (entry[0].source, entry[0].target, entry[0].type) == (Spec("LABEL", "disk"), "/srv/a b", "ext4")
    assert entry[0].options == {"nofail", "ro"}


@pytest.mark.parametrize("path", ["/dev/sdb", "/dev/sdb1", "/dev/vdb", "/dev/nvme0n1p2", "/dev/hda3"])
def test_paths_that_change(path: str) -> None:
    assert parse_spec(path).is_unstable


@pytest.mark.parametrize("path", ["/dev/mapper/a", "/dev/vg/lv", "/dev/disk/by-id/x", "/img", "UUID=/dev/sdb"])
def test_paths_that_stay(path: str) -> None:
    assert not parse_spec(path).is_unstable


def test_devices_are_found_by_udevs_database(tree_directory: Path) -> None:
    tree = luks2(tree_directory)

    assert names(tree, f"UUID={UUID.upper()}") == ["vdb"]
    assert names(tree, f"/dev/disk/by-uuid/{UUID}") == ["vdb"]
    assert names(tree, "UUID=00000000-0000-0000-0000-000000000000") == []
    assert names(tree, "/dev/mapper/registry") == ["dm-0"]
    assert names(tree, "/dev/vdb") == ["vdb"]
    assert names(tree, "/dev/vdz") == []


def test_devices_are_found_by_links(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    (tree.directory / "run/udev/data/b254:0").unlink()
    link = tree.write("dev/vdb", "").parent / "disk/by-label/my\\x20disk"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../vdb")

    assert names(tree, "LABEL=my disk") == ["vdb"]
    assert names(tree, "/dev/disk/by-label/my\\x20disk") == ["vdb"]
    assert names(tree, "LABEL=other") == []


def test_links_of_other_kinds_are_found_by_udevs_database(tree_directory: Path) -> None:
    tree = luks2(tree_directory)
    tree.write("run/udev/data/b254:16", "S:disk/by-id/virtio-disk7\nE:ID_FS_TYPE=crypto_LUKS\n")

    assert names(tree, "/dev/disk/by-id/virtio-disk7") == ["vdb"]
    assert names(tree, "/dev/disk/by-id/virtio-disk") == []


@pytest.mark.parametrize("text", [f"UUID={UUID}", f"/dev/disk/by-uuid/{UUID}", "/dev/disk/by-id/x"])
def test_without_udev_nobody_knows(tree_directory: Path, text: str) -> None:
    tree = Tree(tree_directory)

    with pytest.raises(NotKnownError):
        names(tree, text)


def test_a_logical_volume_is_found_without_links(tree_directory: Path) -> None:
    tree = machine(tree_directory)
    tree.block("dm-3", "253:3", dm=("my--vg-data", "LVM-x"))

    assert names(tree, "/dev/my-vg/data") == ["dm-3"]


@given(
    st.text()
    | st.lists(st.sampled_from(["UUID=", "\\0", "\\000", "40", " ", "\t", "\n", "/dev/", ",", "=", '"'])).map("".join)
)
def test_any_text_is_read(text: str) -> None:
    for entry in parse_crypttab(text):
        assert entry.name
    parse_fstab(text)

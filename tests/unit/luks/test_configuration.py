"""conf.*: will the volume be opened and mounted at the next start?"""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore.luks.metadata import Segment
from regstore.luks.stack import Kind
from support.luks_trees import (
    DISCARDS_TABLE,
    LUKS2_TABLE,
    ROOT,
    UUID,
    Tree,
    closed,
    dm_uuid,
    fake_dmsetup,
    header,
    luks2,
    lvm,
    machine,
    plainfs,
    suspended,
    told,
)

CRYPTTAB, FSTAB = "/etc/crypttab", "/etc/fstab"


@pytest.fixture
def tree(tree_directory: Path, programs: Path) -> Tree:
    fake_dmsetup(programs, LUKS2_TABLE)
    return luks2(tree_directory)


def crypttab(tree: Tree, line: str) -> Tree:
    tree.write("etc/crypttab", f"{line}\n")
    return tree


def fstab(tree: Tree, *lines: str) -> Tree:
    tree.write("etc/fstab", "".join(f"{line}\n" for line in lines))
    return tree


def test_opened_at_every_start(tree: Tree, ask) -> None:
    assert told(ask("conf.crypttab", tree, header())) == [("ok", CRYPTTAB)]
    assert told(ask("conf.crypttab", tree, header(), target="/dev/vdb", kind=Kind.DEVICE)) == [("ok", CRYPTTAB)]


def test_the_entry_of_a_closed_volume_counts(tree_directory: Path, ask) -> None:
    assert told(ask("conf.crypttab", closed(tree_directory))) == [("ok", CRYPTTAB)]


def test_crypttab_does_not_apply(tree_directory: Path, ask) -> None:
    assert ask("conf.crypttab", plainfs(tree_directory)) == []
    assert ask("conf.crypttab", plainfs(tree_directory / "2"), target="/dev/vdb", kind=Kind.DEVICE) == []


def test_no_entry_in_crypttab(tree: Tree, ask) -> None:
    (finding,) = ask("conf.crypttab", crypttab(tree, "other UUID=1234 none"))

    assert finding.severity.word == "warning"
    assert f"registry UUID={UUID} none luks" in finding.repair


def test_no_crypttab(tree: Tree, ask) -> None:
    (tree.directory / "etc/crypttab").unlink()

    assert told(ask("conf.crypttab", tree)) == [("warning", CRYPTTAB)]


def test_no_etc(tree_directory: Path, ask) -> None:
    tree = lvm(tree_directory)
    (tree.directory / "etc").rmdir()

    assert told(ask("conf.crypttab", tree)) == [("unknown", CRYPTTAB)]
    assert told(ask("conf.fstab", tree)) == [("unknown", FSTAB)]
    assert ask("conf.keyfile", tree) == []


def test_another_name_at_the_next_start(tree: Tree, ask) -> None:
    (finding,) = ask("conf.crypttab", crypttab(tree, f"other UUID={UUID} none"))

    assert finding.severity.word == "warning"
    assert "other" in finding.detail


@pytest.mark.parametrize("source", ["UUID=00000000-0000-0000-0000-000000000000", "/dev/vdz1", "LABEL=gone"])
def test_the_device_is_not_there(tree: Tree, ask, source: str) -> None:
    assert ("critical", CRYPTTAB) in told(ask("conf.crypttab", crypttab(tree, f"registry {source} none")))


def test_the_header_of_the_open_volume_is_gone(tree: Tree, ask) -> None:
    """As after both copies were overwritten: udev looks again and finds nothing."""
    tree.udev("254:16", ID_PART_TABLE_TYPE="dos")

    (finding,) = ask("conf.crypttab", tree)

    assert finding.severity.word == "critical"
    assert "do not reboot" in finding.repair


def test_another_device(tree: Tree, ask) -> None:
    (finding,) = ask("conf.crypttab", crypttab(tree, "registry UUID=d40e5789-31f8-4a28-8252-d5284a211a6f none"))

    assert finding.severity.word == "critical"
    assert "vda" in finding.detail


def test_a_path_that_may_change(tree: Tree, ask) -> None:
    (finding,) = ask("conf.crypttab", crypttab(tree, "registry /dev/vdb none"))

    assert finding.severity.word == "warning"
    assert f"UUID={UUID}" in finding.repair


def test_nobody_knows_the_devices(tree: Tree, ask) -> None:
    for path in (tree.directory / "run/udev/data").iterdir():
        path.unlink()

    assert told(ask("conf.crypttab", tree)) == [("ok", CRYPTTAB)]
    assert told(ask("conf.crypttab", crypttab(tree, "registry LABEL=a none"))) == [("unknown", CRYPTTAB)]


def test_an_image_of_another_system(tree: Tree, ask) -> None:
    crypttab(tree, "registry /srv/image none")
    assert told(ask("conf.crypttab", tree)) == [("unknown", CRYPTTAB)]
    tree.write("srv/image", "")
    assert told(ask("conf.crypttab", tree)) == [("ok", CRYPTTAB)]


def test_a_detached_header_must_be_named(tree: Tree, ask) -> None:
    apart = header(segments=(Segment(0, "crypt", 0, None, encryption="aes-xts-plain64"),))

    assert told(ask("conf.crypttab", tree, apart)) == [("warning", CRYPTTAB)]
    crypttab(tree, f"registry UUID={UUID} none header=/etc/r.hdr")
    assert told(ask("conf.crypttab", tree, apart)) == [("ok", CRYPTTAB)]
    assert told(ask("conf.crypttab", tree, header())) == [("warning", CRYPTTAB)]


def test_discards_must_be_named(tree_directory: Path, programs: Path, ask) -> None:
    tree = luks2(tree_directory)
    fake_dmsetup(programs, DISCARDS_TABLE)

    assert told(ask("conf.crypttab", tree, header())) == [("warning", CRYPTTAB)]
    assert told(ask("conf.crypttab", tree, header(flags=("allow-discards",)))) == [("ok", CRYPTTAB)]
    crypttab(tree, f"registry UUID={UUID} none discard")
    assert told(ask("conf.crypttab", tree, header())) == [("ok", CRYPTTAB)]


def test_discards_that_are_not_active(tree: Tree, ask) -> None:
    assert told(ask("conf.crypttab", crypttab(tree, f"registry UUID={UUID} none discard"), header())) == [
        ("warning", CRYPTTAB)
    ]


@pytest.mark.parametrize("source", ["/dev/mapper/registry", "UUID=665fd578-25e7-4a11-93bc-60b26a4cf51b", "/dev/dm-0"])
def test_mounted_at_every_start(tree: Tree, ask, source: str) -> None:
    assert told(ask("conf.fstab", fstab(tree, f"{source} {ROOT} ext4 defaults 0 2"))) == [("ok", FSTAB)]


def test_fstab_says_nothing_of_devices(tree: Tree, ask) -> None:
    assert ask("conf.fstab", tree, target="/dev/vdb", kind=Kind.DEVICE) == []


def test_no_entry_in_fstab(tree: Tree, ask) -> None:
    (finding,) = ask("conf.fstab", fstab(tree, "UUID=1 / ext4 defaults 0 1"))

    assert finding.severity.word == "warning"
    assert f"/dev/mapper/registry {ROOT} ext4" in finding.repair


def test_a_unit_of_systemd_mounts_it(tree: Tree, ask) -> None:
    fstab(tree)
    tree.write("etc/systemd/system/data-registry.mount", "[Mount]\n")

    assert told(ask("conf.fstab", tree)) == [("ok", FSTAB)]


@pytest.mark.parametrize("source", ["/dev/vdb", f"UUID={UUID}", f"/dev/disk/by-uuid/{UUID}"])
def test_the_encrypted_device_itself(tree: Tree, ask, source: str) -> None:
    (finding,) = ask("conf.fstab", fstab(tree, f"{source} {ROOT} ext4 defaults 0 2"))

    assert finding.severity.word == "critical"
    assert "/dev/mapper/registry" in finding.repair


@pytest.mark.parametrize("source", ["/dev/vda", "UUID=00000000-0000-0000-0000-000000000000", "/dev/mapper/other"])
def test_another_device_in_fstab(tree: Tree, ask, source: str) -> None:
    assert told(ask("conf.fstab", fstab(tree, f"{source} {ROOT} ext4 defaults 0 2"))) == [("critical", FSTAB)]


def test_nobody_knows_the_devices_of_fstab(tree: Tree, ask) -> None:
    for path in (tree.directory / "run/udev/data").iterdir():
        path.unlink()

    assert told(ask("conf.fstab", fstab(tree, f"LABEL=a {ROOT} ext4 defaults 0 2"))) == [("unknown", FSTAB)]


@pytest.mark.parametrize("option", ["nofail", "noauto"])
def test_the_system_starts_without_the_volume(tree: Tree, ask, option: str) -> None:
    fstab(tree, f"/dev/mapper/registry {ROOT} ext4 defaults,{option} 0 2")
    tree.write("etc/systemd/system/multi-user.target.wants/docker.service", "")

    (finding,) = ask("conf.fstab", tree)

    assert finding.severity.word == "warning"
    assert "docker.service" in finding.detail


def test_a_mount_on_demand(tree: Tree, ask) -> None:
    fstab(tree, f"/dev/mapper/registry {ROOT} ext4 noauto,x-systemd.automount 0 2")

    assert told(ask("conf.fstab", tree)) == [("ok", FSTAB)]


def test_a_bind_mount(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.mounts.append("40 25 253:0 /registry /srv/registry rw - ext4 /dev/mapper/registry rw")
    tree.finish()
    bind = "/data/registry/registry /srv/registry none bind 0 0"

    fstab(tree, f"/dev/mapper/registry {ROOT} ext4 defaults 0 2", bind)
    assert told(ask("conf.fstab", tree, target="/srv/registry")) == [("ok", FSTAB)]
    fstab(tree, f"/dev/vdb {ROOT} ext4 defaults 0 2", bind)
    assert told(ask("conf.fstab", tree, target="/srv/registry")) == [("critical", FSTAB)]


def test_a_volume_between(tree_directory: Path, ask) -> None:
    tree = lvm(tree_directory)

    assert told(ask("conf.fstab", fstab(tree, f"/dev/vgreg/data {ROOT} ext4 defaults 0 2"))) == [("ok", FSTAB)]
    (finding,) = ask("conf.fstab", fstab(tree, f"/dev/mapper/pvcrypt {ROOT} ext4 defaults 0 2"))
    assert "dm-0 (pvcrypt), mounted is dm-1 (vgreg-data)" in finding.detail


KEY = "/etc/keys/registry"


def keyed(tree: Tree, mode: int = 0o400, text: str = "secret", path: str = KEY) -> Tree:
    """Have a key file on an encrypted disk for the system."""
    tree.block("dm-7", "253:7", slaves=["vda"], dm=("system", dm_uuid("0" * 32, "system")))
    tree.mounts.append("41 25 253:7 / /etc rw - ext4 /dev/mapper/system rw")
    tree.finish()
    tree.write(path, text).chmod(mode)
    return crypttab(tree, f"registry UUID={UUID} {path} luks")


def test_a_good_key_file(tree: Tree, ask) -> None:
    assert told(ask("conf.keyfile", keyed(tree))) == [("ok", KEY)]


@pytest.mark.parametrize("key", ["none", "-"])
def test_no_key_file(tree: Tree, ask, key: str) -> None:
    assert ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} {key}")) == []


def test_the_key_file_is_missing(tree: Tree, ask) -> None:
    (keyed(tree).directory / KEY[1:]).unlink()

    assert told(ask("conf.keyfile", tree)) == [("critical", KEY)]


def test_a_key_file_that_was_not_recorded(tree: Tree, ask) -> None:
    assert told(ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} /root/key"))) == [("unknown", "/root/key")]


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o420])
def test_others_can_read_the_key(tree: Tree, ask, mode: int) -> None:
    (finding,) = ask("conf.keyfile", keyed(tree, mode))

    assert finding.severity.word == "critical"
    assert f"{mode:04o}" in finding.detail


def test_a_key_of_somebody_else(tree: Tree, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore.luks.key_file._look", lambda place: (0o400, 1000, False))

    (finding,) = ask("conf.keyfile", keyed(tree))

    assert finding.severity.word == "critical"
    assert "owner 1000" in finding.detail


def test_a_newline_at_the_end(tree: Tree, ask) -> None:
    assert told(ask("conf.keyfile", keyed(tree, text="secret\n"))) == [("info", KEY)]


def test_a_key_that_cannot_be_read(tree: Tree, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore.luks.key_file._look", lambda place: (0o400, 0, None))

    assert ("unknown", KEY) in told(ask("conf.keyfile", keyed(tree)))


def test_the_key_lies_on_the_volume_itself(tree: Tree, ask) -> None:
    (finding,) = ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} {ROOT}/key"))

    assert finding.severity.word == "critical"
    assert "on the volume" in finding.detail


def test_the_key_lies_unencrypted(tree: Tree, ask) -> None:
    tree.write("etc/key", "secret").chmod(0o400)

    assert told(ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} /etc/key"))) == [("warning", "/etc/key")]


def test_the_key_lies_in_memory(tree: Tree, ask) -> None:
    tree.write("run/key", "secret").chmod(0o400)

    assert told(ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} /run/key"))) == [("info", "/run/key")]


def test_a_key_on_a_device_of_its_own(tree: Tree, ask) -> None:
    path = "/key:LABEL=stick"

    assert told(ask("conf.keyfile", crypttab(tree, f"registry UUID={UUID} {path}"))) == [("unknown", path)]


def test_a_key_on_a_suspended_volume_is_not_looked_at(tree_directory: Path, ask) -> None:
    tree = machine(tree_directory)
    tree.block("dm-7", "253:7", slaves=["vda"], dm=("system", dm_uuid("0" * 32, "system")), suspended=1)
    tree.block("dm-0", "253:0", slaves=["vdb"], dm=("registry", dm_uuid()))
    tree.mount("253:7", "/keys")
    tree.mount("253:0")
    crypttab(tree.finish(), f"registry UUID={UUID} /keys/a")

    (finding,) = ask("conf.keyfile", tree)

    assert finding.severity.word == "unknown"
    assert "suspended" in finding.detail
    assert told(ask("conf.keyfile", crypttab(suspended(tree_directory / "2"), f"registry UUID={UUID} {ROOT}/key"))) == [
        ("critical", f"{ROOT}/key")
    ]


def test_the_key_file_that_systemd_takes_by_itself(tree: Tree, ask) -> None:
    path = "/etc/cryptsetup-keys.d/registry.key"
    keyed(tree, 0o644, path=path)
    crypttab(tree, f"registry UUID={UUID} none luks")

    assert told(ask("conf.keyfile", tree)) == [("critical", path)]

"""map.*: does the open mapping work, and is it what the header and the configuration say?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from regstore.luks.findings import Severity
from regstore.luks.metadata import Segment
from regstore.luks.stack import Kind
from support.luks_trees import (
    DETACHED_TABLE,
    DISCARDS_TABLE,
    ERROR_TABLE,
    INTEGRITY_STATUS,
    INTEGRITY_TABLE,
    LUKS1_TABLE,
    LUKS1_UUID,
    LUKS2_TABLE,
    LVM_TABLE,
    REENCRYPT_TABLE,
    ROOT,
    UUID,
    Tree,
    closed,
    detached,
    dm_uuid,
    fake_dmsetup,
    fake_program,
    header,
    integrity,
    luks1,
    luks2,
    lvm,
    machine,
    readonly,
    suspended,
    told,
)

CHECKS = (
    "map.suspended", "map.target", "map.readonly", "map.header", "map.size", "map.flags", "map.keyloc", "map.integrity",
)  # fmt: skip
BY_TABLE = ("map.target", "map.size", "map.flags", "map.keyloc")
AEAD = "trusted_key: device-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 20528"


@pytest.fixture
def tree(tree_directory: Path, programs: Path) -> Tree:
    fake_dmsetup(programs, LUKS2_TABLE)
    return luks2(tree_directory)


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_mapping_no_check_applies(tree_directory: Path, programs: Path, ask, check: str) -> None:
    fake_program(programs, "dmsetup")
    tree = closed(tree_directory)

    assert ask(check, tree) == []
    assert ask(check, tree, target="/dev/vdb", kind=Kind.DEVICE) == []
    assert not (programs / "dmsetup.calls").exists()


@pytest.mark.parametrize(
    "check", ["map.suspended", "map.target", "map.readonly", "map.header", "map.size", "map.flags"]
)
def test_a_healthy_mapping(tree: Tree, ask, check: str) -> None:
    assert told(ask(check, tree, header())) == [("ok", "dm-0")]
    assert told(ask(check, tree, header(), target="/dev/vdb", kind=Kind.DEVICE)) == [("ok", "dm-0")]


@pytest.mark.parametrize("check", BY_TABLE)
def test_dmsetup_does_not_tell(tree_directory: Path, programs: Path, ask, check: str) -> None:
    fake_program(programs, "dmsetup", code=1, stderr="Permission denied")

    (finding,) = ask(check, luks2(tree_directory), header())

    assert finding.severity.word == "unknown"
    assert "Permission denied" in finding.detail


def test_suspended(tree_directory: Path, programs: Path, ask) -> None:
    fake_program(programs, "dmsetup")
    tree = suspended(tree_directory)

    (finding,) = ask("map.suspended", tree)

    assert finding.severity.word == "critical"
    assert "cryptsetup luksResume registry" in finding.repair
    for check in (*BY_TABLE, "map.header"):
        (finding,) = ask(check, tree, header())
        assert finding.severity.word == "unknown"
        assert "suspended" in finding.detail
    assert not (programs / "dmsetup.calls").exists()


def test_a_suspended_volume_above(tree_directory: Path, ask) -> None:
    tree = lvm(tree_directory)
    tree.write("sys/block/dm-1/dm/suspended", "1\n")

    findings = ask("map.suspended", tree)

    assert told(findings) == [("critical", "dm-1"), ("ok", "dm-0")]
    assert "dmsetup resume vgreg-data" in findings[0].repair


@pytest.mark.parametrize(
    "table",
    [
        ERROR_TABLE,
        "registry: 0 229376 flakey 254:16 0 1 1",
        "registry: 0 229376 zero ",
        "registry: 0 229376 linear 254:16 0",
        f"{LUKS2_TABLE}\nregistry: 229376 8 error ",
    ],
)
def test_targets_that_lead_nowhere(tree_directory: Path, programs: Path, ask, table: str) -> None:
    fake_dmsetup(programs, table)

    assert told(ask("map.target", luks2(tree_directory))) == [("critical", "dm-0")]


def test_an_error_target_leaves_the_rest_unknown(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, ERROR_TABLE)
    tree = luks2(tree_directory)

    for check in ("map.header", "map.size", "map.flags", "map.keyloc"):
        assert told(ask(check, tree, header())) == [("unknown", "dm-0")]


def test_a_volume_above_leads_nowhere(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, LVM_TABLE.replace("linear 253:0 2048", "error "))

    assert told(ask("map.target", lvm(tree_directory))) == [("critical", "dm-1"), ("ok", "dm-0")]


def test_two_lines_while_reencrypting(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, REENCRYPT_TABLE)
    segments = (
        Segment(0, "crypt", 16777216, 25165824, encryption="aes-xts-plain64"),
        Segment(1, "crypt", 41943040, 92274688, iv_tweak=49152, encryption="aes-xts-plain64"),
    )
    metadata = header(segments=segments, requirements=("online-reencrypt-v2",))
    tree = luks2(tree_directory)

    for check in ("map.target", "map.header", "map.size"):
        assert told(ask(check, tree, metadata)) == [("ok", "dm-0")]


def test_a_reencryption_that_moved_on(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, REENCRYPT_TABLE)
    tree, metadata = luks2(tree_directory), header(requirements=("online-reencrypt-v2",))

    assert told(ask("map.header", tree, metadata)) == [("unknown", "dm-0")]
    assert told(ask("map.header", tree, header())) == [("critical", "dm-0")]


def test_a_plain_part_is_only_there_while_encrypting(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, f"{LUKS2_TABLE}\nregistry: 229376 8 linear 254:16 0")
    tree = luks2(tree_directory)

    assert told(ask("map.target", tree, header())) == [("critical", "dm-0")]
    assert told(ask("map.target", tree, header(requirements=("online-reencrypt",)))) == [("ok", "dm-0")]


@pytest.fixture
def moved(tree_directory: Path) -> Tree:
    """The volume while a reencryption runs: helpers lie between, and one is suspended at the moment."""
    tree = machine(tree_directory)
    tree.block("dm-2", "253:2", slaves=["vdb"], dm=("registry-overlay", "CRYPT-SUBDEV-1-registry-overlay"), suspended=1)
    tree.block("dm-0", "253:0", slaves=["dm-2"], dm=("registry", dm_uuid()))
    tree.mount("253:0")
    return tree.finish()


def test_a_running_reencryption(moved: Tree, programs: Path, ask) -> None:
    fake_dmsetup(programs, "registry: 0 229376 linear 253:2 0")
    moved.write("proc/77/cmdline", "/usr/sbin/cryptsetup\0reencrypt\0/dev/vdb\0")

    assert told(ask("map.suspended", moved)) == [("ok", "dm-0"), ("info", "dm-2")]
    assert told(ask("map.target", moved)) == [("ok", "dm-0"), ("unknown", "dm-2")]
    assert not moved.stack().is_header_halted


def test_a_reencryption_that_died(moved: Tree, ask) -> None:
    assert told(ask("map.suspended", moved)) == [("ok", "dm-0"), ("critical", "dm-2")]


def test_read_only(tree_directory: Path, ask) -> None:
    tree = readonly(tree_directory)
    (finding,) = ask("map.readonly", tree)

    assert finding.severity.word == "critical"
    assert "the mapping and the mount" in finding.detail
    tree.write("etc/crypttab", f"registry UUID={UUID} none luks,read-only\n")
    assert told(ask("map.readonly", tree)) == [("ok", "dm-0")]


def test_only_the_mount_is_read_only(tree_directory: Path, ask) -> None:
    tree = luks2(tree_directory)
    tree.mounts.pop()
    tree.mount("253:0", rest="ro - ext4 /dev/mapper/registry rw")

    assert told(ask("map.readonly", tree.finish())) == [("critical", "dm-0")]
    tree.write("etc/fstab", f"/dev/mapper/registry {ROOT} ext4 ro 0 2\n")
    assert told(ask("map.readonly", tree)) == [("ok", "dm-0")]


def test_nobody_tells_whether_it_is_read_only(tree: Tree, ask) -> None:
    (tree.directory / "sys/block/dm-0/ro").unlink()

    assert told(ask("map.readonly", tree)) == [("unknown", "dm-0")]


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        (header(uuid=LUKS1_UUID), LUKS1_UUID),
        (header(version=1), "LUKS1"),
        (header(key_bytes=32), "key bits 512"),
        (header(segments=(Segment(0, "crypt", 8388608, None, encryption="aes-xts-plain64"),)), "offset"),
        (header(segments=(Segment(0, "crypt", 16777216, None, encryption="serpent-xts-plain64"),)), "serpent"),
        (
            header(segments=(Segment(0, "crypt", 16777216, None, encryption="aes-xts-plain64", sector_bytes=4096),)),
            "sector size 512",
        ),
        (header(segments=(Segment(0, "crypt", 16777216, None, 8, encryption="aes-xts-plain64"),)), "IV offset"),
    ],
)
def test_another_header_than_the_mappings(tree: Tree, ask, metadata, word: str) -> None:
    (finding,) = ask("map.header", tree, metadata)

    assert finding.severity.word == "critical"
    assert word in finding.detail
    assert "do not close" in finding.repair


def test_another_header_is_seen_without_dmsetup(tree_directory: Path, programs: Path, ask) -> None:
    fake_program(programs, "dmsetup", code=1)
    tree = luks2(tree_directory)

    assert told(ask("map.header", tree, header(uuid=LUKS1_UUID))) == [("critical", "dm-0")]
    assert told(ask("map.header", tree, header())) == [("unknown", "dm-0")]


def test_a_header_that_was_not_read(tree: Tree, ask) -> None:
    assert told(ask("map.header", tree)) == [("unknown", "dm-0")]


def test_headers_of_other_forms(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, LUKS1_TABLE)
    old = header(1, LUKS1_UUID, (Segment(0, "crypt", 2097152, None, encryption="aes-xts-plain64"),))
    assert told(ask("map.header", luks1(tree_directory / "1"), old)) == [("ok", "dm-0")]
    fake_dmsetup(programs, DETACHED_TABLE)
    apart = header(segments=(Segment(0, "crypt", 0, None, encryption="aes-xts-plain64"),))
    assert told(ask("map.header", detached(tree_directory / "2"), apart)) == [("ok", "dm-0")]
    fake_dmsetup(programs, INTEGRITY_TABLE)
    segment = Segment(0, "crypt", 16777216, None, encryption="aes-xts-plain64", integrity="hmac(sha256)")
    safe = header(segments=(segment,), key_bytes=96)
    assert told(ask("map.header", integrity(tree_directory / "3"), safe)) == [("ok", "dm-1")]
    moved = header(segments=(replace(segment, offset=33554432),), key_bytes=96)
    assert told(ask("map.header", integrity(tree_directory / "4"), moved)) == [("critical", "dm-1")]


def test_a_grown_disk(tree: Tree, ask) -> None:
    tree.write("sys/block/vdb/size", "262152\n")

    (finding,) = ask("map.size", tree)

    assert finding.severity.word == "warning"
    assert "resize pending" in finding.detail
    assert "cryptsetup resize registry" in finding.repair


def test_a_shrunken_disk(tree: Tree, ask) -> None:
    tree.write("sys/block/vdb/size", "262136\n")

    assert told(ask("map.size", tree)) == [("critical", "dm-0")]


def test_less_than_a_sector_of_4096_bytes_is_no_room(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, DISCARDS_TABLE)
    tree = luks2(tree_directory)
    tree.write("sys/block/vdb/size", "262150\n")

    assert told(ask("map.size", tree)) == [("ok", "dm-0")]


@pytest.mark.parametrize(("sectors", "severity"), [(229376, "ok"), (200000, "ok"), (229384, "critical")])
def test_a_segment_of_a_fixed_size(tree: Tree, ask, sectors: int, severity: str) -> None:
    metadata = header(segments=(Segment(0, "crypt", 16777216, sectors * 512, encryption="aes-xts-plain64"),))

    assert told(ask("map.size", tree, metadata)) == [(severity, "dm-0")]


def test_a_disk_of_unknown_size(tree: Tree, ask) -> None:
    (tree.directory / "sys/block/vdb/size").unlink()

    assert told(ask("map.size", tree)) == [("unknown", "dm-0")]


def test_flags_that_the_header_keeps_are_configured(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, DISCARDS_TABLE)
    kept = header(flags=("allow-discards", "no-read-workqueue", "no-write-workqueue"))
    tree = luks2(tree_directory)

    findings = ask("map.flags", tree, kept)

    assert told(findings) == [("info", "dm-0"), ("info", "dm-0")]
    assert "allow_discards" in findings[0].detail
    assert "no_read_workqueue, no_write_workqueue" in findings[1].detail
    assert told(ask("map.flags", tree, kept, discards=Severity.WARNING))[0] == ("warning", "dm-0")


def test_flags_that_are_lost_at_the_next_start(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, DISCARDS_TABLE)
    tree = luks2(tree_directory)
    tree.write("etc/crypttab", f"registry UUID={UUID} none discard,no-read-workqueue\n")

    finding = ask("map.flags", tree, header())[0]

    assert finding.severity.word == "warning"
    assert "no_write_workqueue is active and nowhere configured" in finding.detail
    assert "allow_discards" not in finding.detail


def test_flags_that_come_at_the_next_start(tree: Tree, ask) -> None:
    tree.write("etc/crypttab", f"registry UUID={UUID} none discard\n")

    assert told(ask("map.flags", tree)) == [("warning", "dm-0")]


def test_flags_that_an_unread_header_may_keep(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, DISCARDS_TABLE)

    assert ("unknown", "dm-0") in told(ask("map.flags", luks2(tree_directory)))


def test_where_the_key_lies(tree_directory: Path, programs: Path, ask) -> None:
    tree = luks2(tree_directory)
    fake_dmsetup(programs, LUKS2_TABLE)
    assert told(ask("map.keyloc", tree)) == [("ok", "dm-0")]
    fake_dmsetup(programs, LUKS1_TABLE)
    assert told(ask("map.keyloc", tree)) == [("info", "dm-0")]


def with_log(tree: Tree, *lines: str) -> Tree:
    tree.write("dev/kmsg", "".join(f"6,{n},{n}000000,-;{line}\n" for n, line in enumerate(("started", *lines))))
    return tree


@pytest.mark.parametrize(
    ("table", "status", "lines", "expected"),
    [
        (INTEGRITY_TABLE, INTEGRITY_STATUS, (), ["ok", "ok"]),
        (INTEGRITY_TABLE, INTEGRITY_STATUS, (AEAD, AEAD), ["ok", "critical"]),
        (INTEGRITY_TABLE, INTEGRITY_STATUS, (AEAD.replace("dm-1", "dm-11"),), ["ok", "ok"]),
        (INTEGRITY_TABLE, INTEGRITY_STATUS.replace("integrity 0", "integrity 3"), (), ["critical", "ok"]),
        (INTEGRITY_TABLE.replace(" J ", " D "), INTEGRITY_STATUS, (), ["warning", "ok"]),
        (INTEGRITY_TABLE.replace(" J ", " R "), INTEGRITY_STATUS, (), ["warning", "ok"]),
        (INTEGRITY_TABLE, "", (), ["unknown", "ok"]),
    ],
)
def test_integrity(
    tree_directory: Path, programs: Path, ask, table: str, status: str, lines: tuple[str, ...], expected: list[str]
) -> None:
    fake_dmsetup(programs, table, status)

    findings = ask("map.integrity", with_log(integrity(tree_directory), *lines))

    assert told(findings) == list(zip(expected, ["dm-0", "dm-1"], strict=True))


def test_integrity_without_a_log(tree_directory: Path, programs: Path, ask) -> None:
    fake_dmsetup(programs, INTEGRITY_TABLE, INTEGRITY_STATUS)
    fake_program(programs, "journalctl", code=1)

    assert told(ask("map.integrity", integrity(tree_directory))) == [("ok", "dm-0"), ("unknown", "dm-1")]


def test_integrity_is_of_authenticated_volumes_only(tree: Tree, ask) -> None:
    assert ask("map.integrity", tree, header()) == []

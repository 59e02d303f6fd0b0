"""Trees of `/proc`, `/sys`, `/etc` and `/run` as machines with LUKS volumes showed them, and variations of them.

The facts were recorded with cryptsetup 2.6.1 on Linux 6.1: a machine with the system on vda and the volume on vdb.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regstore.luks.findings import Finding
from regstore.luks.metadata import Digest, Kdf, Keyslot, Metadata, Segment
from regstore.luks.stack import Kind, Stack, find_stack
from regstore.luks.sysroot import Sysroot

ROOT = "/data/registry"
UUID = "8c469436-ef0c-4437-a790-575ee6180f6b"
LUKS1_UUID = "42ac8aed-fb74-4186-aa18-06f96573cd8f"
KEY_ZEROS = "0" * 128
MOUNTS = """\
22 25 0:20 / /proc rw,relatime - proc proc rw
23 25 0:21 / /sys rw,relatime - sysfs sys rw
24 25 0:5 / /dev rw,relatime - devtmpfs dev rw,size=487020k,nr_inodes=121755,mode=755,inode64
25 1 254:0 / / rw,noatime - ext4 /dev/vda rw
26 25 0:22 / /run rw,relatime - tmpfs run rw,mode=755,inode64
"""
FSTAB = f"/dev/mapper/registry {ROOT} ext4 defaults 0 2\n"


@dataclass
class Tree:
    """A tree that is being made in a directory."""

    directory: Path
    mounts: list[str] = field(default_factory=MOUNTS.splitlines)

    @property
    def sysroot(self) -> Sysroot:
        return Sysroot(self.directory)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def mount(self, number: str, target: str = ROOT, rest: str = "rw,relatime - ext4 /dev/mapper/registry rw") -> None:
        """Add a mount, on the one of `/`."""
        self.mounts.append(f"{len(self.mounts) + 27} 25 {number} / {target} {rest}")

    def block(
        self,
        name: str,
        number: str = "",
        sectors: int = 262144,
        slaves: Iterable[str] = (),
        dm: tuple[str, str] | None = None,
        disk: str = "",
        read_only: int = 0,
        suspended: int = 0,
    ) -> None:
        """Add a block device; `dm` is name and UUID, `disk` that of a partition."""
        inner = f"{disk}/{name}" if disk else name
        base = f"sys/block/{inner}"
        self.write(f"{base}/size", f"{sectors}\n")
        self.write(f"{base}/ro", f"{read_only}\n")
        if disk:
            self.write(f"{base}/partition", "1\n")
        else:
            self.write(f"{base}/queue/logical_block_size", "512\n")
        if number:
            self.write(f"{base}/dev", f"{number}\n")
            link = self.directory / "sys/dev/block" / number
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"../../block/{inner}")
        (self.directory / base / "holders").mkdir(exist_ok=True)
        (self.directory / base / "slaves").mkdir(exist_ok=True)
        for slave in slaves:
            self.lay(name, slave)
        if dm:
            self.write(f"{base}/dm/name", f"{dm[0]}\n")
            self.write(f"{base}/dm/uuid", f"{dm[1]}\n")
            self.write(f"{base}/dm/suspended", f"{suspended}\n")

    def lay(self, upper: str, lower: str) -> None:
        """Say that a device lies on another one."""
        (self.directory / f"sys/block/{upper}/slaves/{lower}").symlink_to(f"../../{lower}")
        found = [path for path in self.directory.glob(f"sys/block/**/{lower}/holders") if path.is_dir()]
        if found:
            (found[0] / upper).symlink_to(f"../../{upper}")

    def udev(self, number: str, **properties: str) -> None:
        """Say what udev knows of a device."""
        self.write(f"run/udev/data/b{number}", "".join(f"E:{key}={value}\n" for key, value in properties.items()))

    def finish(self) -> Tree:
        self.write("proc/self/mountinfo", "".join(f"{line}\n" for line in self.mounts))
        return self

    def stack(self, path: str = ROOT, kind: Kind = Kind.ROOT) -> Stack:
        return find_stack(self.sysroot, Path(path), kind)


def dm_uuid(uuid: str = UUID, name: str = "registry", kind: str = "LUKS2") -> str:
    return f"CRYPT-{kind}-{uuid.replace('-', '')}-{name}"


def machine(directory: Path) -> Tree:
    """The machine without a volume."""
    tree = Tree(directory)
    tree.block("vda", "254:0", 1652736)
    tree.udev("254:0", ID_FS_TYPE="ext4", ID_FS_UUID="d40e5789-31f8-4a28-8252-d5284a211a6f")
    tree.block("vdb", "254:16")
    (directory / "etc").mkdir()
    return tree


def _volume(directory: Path, uuid: str = UUID, kind: str = "LUKS2", sectors: int = 229376, **mapping: int) -> Tree:
    tree = machine(directory)
    tree.block("dm-0", "253:0", sectors, ["vdb"], ("registry", dm_uuid(uuid, kind=kind)), **mapping)
    tree.udev("254:16", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=uuid)
    tree.udev("253:0", ID_FS_TYPE="ext4", ID_FS_UUID="665fd578-25e7-4a11-93bc-60b26a4cf51b")
    tree.write("etc/crypttab", f"registry UUID={uuid} none luks\n")
    tree.write("etc/fstab", FSTAB)
    tree.write("sys/fs/ext4/dm-0/errors_count", "0\n")
    return tree


def luks2(directory: Path) -> Tree:
    tree = _volume(directory)
    tree.mount("253:0")
    return tree.finish()


def luks1(directory: Path) -> Tree:
    tree = _volume(directory, LUKS1_UUID, "LUKS1", 258048)
    tree.mount("253:0")
    return tree.finish()


def xfs(directory: Path) -> Tree:
    tree = _volume(directory)
    tree.mount("253:0", rest="rw,relatime - xfs /dev/mapper/registry rw,attr2,inode64,logbufs=8,logbsize=32k,noquota")
    return tree.finish()


def readonly(directory: Path) -> Tree:
    tree = _volume(directory, read_only=1)
    tree.mount("253:0", rest="ro,relatime - ext4 /dev/mapper/registry ro,norecovery")
    return tree.finish()


def suspended(directory: Path) -> Tree:
    tree = _volume(directory, suspended=1)
    tree.mount("253:0")
    return tree.finish()


def closed(directory: Path) -> Tree:
    """The volume is there and not opened; the registry's directory lies on the system's disk."""
    tree = machine(directory)
    tree.udev("254:16", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=UUID)
    tree.write("etc/crypttab", f"registry UUID={UUID} none luks\n")
    tree.write("etc/fstab", FSTAB)
    return tree.finish()


def plainfs(directory: Path) -> Tree:
    tree = machine(directory)
    tree.mount("254:16", rest="rw,relatime - ext4 /dev/vdb rw")
    return tree.finish()


def lvm(directory: Path) -> Tree:
    tree = machine(directory)
    tree.block("dm-0", "253:0", 229376, ["vdb"], ("pvcrypt", dm_uuid(name="pvcrypt")))
    name = "LVM-cBtBoLv17FjJcSRd2h8WuPH6Nkb1g5RrsQNcHXzxqMsNqMRw3IMmNCCBxZVBjrye"
    tree.block("dm-1", "253:1", 196608, ["dm-0"], ("vgreg-data", name))
    tree.udev("254:16", ID_FS_TYPE="crypto_LUKS", ID_FS_UUID=UUID)
    tree.mount("253:1", rest="rw,relatime - ext4 /dev/mapper/vgreg-data rw")
    return tree.finish()


def integrity(directory: Path) -> Tree:
    tree = machine(directory)
    name = "registry_dif"
    tree.block("dm-0", "253:0", 213008, ["vdb"], (name, dm_uuid(name=name, kind="INTEGRITY")))
    tree.block("dm-1", "253:1", 213008, ["dm-0"], ("registry", dm_uuid()))
    tree.mount("253:1")
    return tree.finish()


def detached(directory: Path) -> Tree:
    """The header lies in a file, and udev sees nothing on the disk."""
    tree = machine(directory)
    tree.block("dm-0", "253:0", 262144, ["vdb"], ("registry", dm_uuid()))
    tree.mount("253:0")
    return tree.finish()


def nvme(directory: Path) -> Tree:
    """The volume on a partition of an NVMe disk."""
    tree = machine(directory)
    tree.block("nvme0n1", "259:0", 131072)
    tree.block("nvme0n1p1", "259:1", 129024, disk="nvme0n1")
    tree.block("dm-0", "253:0", 96256, ["nvme0n1p1"], ("registry", dm_uuid()))
    tree.mount("253:0")
    return tree.finish()


PROFILES: dict[str, Callable[[Path], Tree]] = {
    profile.__name__: profile
    for profile in (luks1, luks2, xfs, readonly, suspended, closed, plainfs, lvm, integrity, detached, nvme)
}

LUKS2_TABLE = f"registry: 0 229376 crypt aes-xts-plain64 :64:logon:cryptsetup:{UUID}-d0 0 254:16 32768"
LUKS1_TABLE = f"registry: 0 258048 crypt aes-xts-plain64 {KEY_ZEROS} 0 254:16 4096"
DISCARDS_TABLE = f"{LUKS2_TABLE} 4 allow_discards no_read_workqueue no_write_workqueue sector_size:4096"
DETACHED_TABLE = f"registry: 0 262144 crypt aes-xts-plain64 :64:logon:cryptsetup:{UUID}-d0 0 254:16 0"
ERROR_TABLE = "registry: 0 229376 error "
LVM_TABLE = (
    f"pvcrypt: 0 229376 crypt aes-xts-plain64 :64:logon:cryptsetup:{UUID}-d0 0 254:16 32768\n"
    "vgreg-data: 0 196608 linear 253:0 2048"
)
INTEGRITY_TABLE = (
    f"registry: 0 213008 crypt capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:cryptsetup:{UUID}-d0 "
    "0 253:0 0 1 integrity:32:aead\n"
    "registry_dif: 0 213008 integrity 254:16 32768 32 J 6 journal_sectors:2024 interleave_sectors:32768 "
    "buffer_sectors:128 journal_watermark:50 commit_time:10000 fix_padding"
)
INTEGRITY_STATUS = "registry: 0 213008 crypt \nregistry_dif: 0 213008 integrity 0 213008 -"
REENCRYPT_TABLE = (
    f"registry: 0 49152 crypt aes-xts-plain64 :64:logon:cryptsetup:{UUID}-d1 0 254:16 32768\n"
    f"registry: 49152 180224 crypt aes-xts-plain64 :64:logon:cryptsetup:{UUID}-d0 49152 254:16 81920"
)


def header(
    version: int = 2,
    uuid: str = UUID,
    segments: Sequence[Segment] = (Segment(0, "crypt", 16777216, None, encryption="aes-xts-plain64"),),
    key_bytes: int = 64,
    flags: Iterable[str] = (),
    requirements: tuple[str, ...] = (),
) -> Metadata:
    """What the header of the volume says."""
    return Metadata(
        version=version,
        uuid=uuid,
        copy_bytes=16384,
        slots_offset=32768,
        slots_bytes=16744448,
        data_offset=min(segment.offset for segment in segments),
        keyslots={0: Keyslot(0, "luks2", key_bytes, 32768, 258048, stripes=4000, kdf=Kdf("pbkdf2", b""))},
        segments={segment.id: segment for segment in segments},
        digests={0: Digest(0, frozenset({0}), frozenset(segment.id for segment in segments), b"", b"")},
        flags=frozenset(flags),
        requirements=requirements,
    )


def fake_program(directory: Path, name: str, stdout: str = "", code: int = 0, stderr: str = "", then: str = "") -> Path:
    """Make a program that says what it is told to, and keeps its arguments in NAME.calls beside it."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.out").write_text(stdout)
    (directory / f"{name}.err").write_text(stderr)
    path, base = directory / name, f"{directory}/{name}"
    path.write_text(f'#!/bin/sh\necho "$*" >> {base}.calls\ncat {base}.out\ncat {base}.err >&2\n{then}\nexit {code}\n')
    path.chmod(0o755)
    return path


def fake_dmsetup(directory: Path, table: str, status: str = "") -> None:
    """Make a dmsetup that prints a table and a state, whatever it is asked for besides."""
    directory.mkdir(exist_ok=True)
    for name, text in (("table", table), ("status", status)):
        (directory / f"dmsetup.{name}").write_text(f"{text}\n")
    path = directory / "dmsetup"
    path.write_text(f'#!/bin/sh\necho "$*" >> {directory}/dmsetup.calls\ncat "{directory}/dmsetup.$1"\n')
    path.chmod(0o755)


def first_on_path(directory: Path) -> str:
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Return the severities and subjects."""
    return [(finding.severity.word, finding.subject) for finding in findings]

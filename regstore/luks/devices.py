"""Block devices as sysfs tells them, and the way between them.

Nothing here opens a device: reading a suspended one never returns.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regstore.luks.sysroot import Sysroot

# The kernel counts the sizes of all block devices in these (Documentation/ABI/stable/sysfs-block).
SECTOR_BYTES = 512
# More than any machine has; a tree that says more is not believed.
DEVICES_MAX = 10_000
_NUMBER = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")
_NAME = re.compile(r"[!-~]{1,64}")
_PARTITION = re.compile(r"/sys/block/[^/]+/[^/]+")
_LUKS = "CRYPT-LUKS"
# Device-mapper devices of cryptsetup that do not encrypt what lies on them, or are only helpers of one that does.
_HELPERS = ("CRYPT-INTEGRITY-", "CRYPT-VERITY-", "CRYPT-SUBDEV-", "CRYPT-TEMP-")


@dataclass(frozen=True, slots=True)
class Device:
    """One block device.

    Attributes:
        name: the kernel's, such as `dm-0` or `nvme0n1p2`.
        number: `major:minor`, or empty when the tree does not tell.
        size_bytes: None when the tree does not tell, as the other ones with None.
        dm_name, dm_uuid: of a device-mapper device, or empty.
        slaves: the devices that it lies on; empty after an `error` table was loaded.
        holders: the devices that lie on it.
        disk: of a partition the disk, or empty.
        backing_file: of a loop device, or empty.
    """

    name: str
    number: str = ""
    size_bytes: int | None = None
    is_read_only: bool | None = None
    dm_name: str = ""
    dm_uuid: str = ""
    is_suspended: bool = False
    slaves: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    disk: str = ""
    backing_file: str = ""
    logical_block_bytes: int | None = None
    physical_block_bytes: int | None = None

    @property
    def is_encrypting(self) -> bool:
        """Tell whether what lies on it is encrypted below."""
        return self.dm_uuid.startswith("CRYPT-") and not self.dm_uuid.startswith(_HELPERS)

    @property
    def is_luks(self) -> bool:
        """Tell whether it is an opened LUKS volume."""
        return self.dm_uuid.startswith(_LUKS)

    @property
    def is_reencryption_helper(self) -> bool:
        """Tell whether it is one of those that a reencryption of an opened volume puts under its mapping."""
        return self.dm_uuid.startswith("CRYPT-SUBDEV-")

    @property
    def is_physical(self) -> bool:
        """Tell whether it is a disk, and nothing that the kernel makes of files, memory or other devices."""
        made = self.dm_uuid or self.dm_name or self.slaves or self.disk or self.backing_file
        return not made and not self.name.startswith(("loop", "dm-", "md", "ram", "zram"))

    @property
    def luks_uuid(self) -> str:
        """The UUID of the header that an opened LUKS volume was opened with, as headers write it; else empty."""
        parts = self.dm_uuid.split("-", 3)
        digits = parts[2].lower() if self.is_luks and len(parts) > 2 else ""
        if not re.fullmatch(r"[0-9a-f]{32}", digits):
            return ""
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class BlockDevices:
    """The block devices of a system, read when they are asked for."""

    def __init__(self, sysroot: Sysroot) -> None:
        """Bind to the system whose `/sys` is read."""
        self._sysroot = sysroot
        self._known: dict[str, Device | None] = {}

    def by_name(self, name: str) -> Device | None:
        """Return the device with a kernel name; None when there is none.

        Raises:
            OSError: it is there and cannot be read.
        """
        if name not in self._known:
            base = self._bases.get(name)
            self._known[name] = self._read(name, base) if base else None
        return self._known[name]

    def by_number(self, number: str) -> Device | None:
        """Return the device with a `major:minor`; None when there is none.

        Raises:
            OSError: the tree cannot be read.
        """
        if not _NUMBER.fullmatch(number):
            return None
        link = self._sysroot.path(f"/sys/dev/block/{number}")
        if link.is_symlink():
            device = self.by_name(PurePosixPath(os.readlink(link)).name)
            if device is not None:
                return device
        named = re.search(r"^DEVNAME=(.+)$", self._sysroot.text(f"/sys/dev/block/{number}/uevent") or "", re.MULTILINE)
        if named and (device := self.by_name(named[1].replace("/", "!"))) is not None:
            return device
        device = self._first(lambda other: other.number == number)
        if device is None and link.is_dir():
            return self._read(link.name, f"/sys/dev/block/{number}")
        return device

    def by_path(self, path: str) -> Device | None:
        """Return the device that a path below `/dev` names; None when there is none.

        Links below `/dev` are followed when they are there, and understood without (`/dev/mapper/NAME`, `/dev/VG/LV`).

        Raises:
            OSError: the tree cannot be read.
        """
        if not path.startswith("/dev/"):
            return None
        real = os.path.realpath(self._sysroot.path(path))
        if not self._sysroot.is_other and (number := block_number(Path(real))):
            return self.by_number(number)
        inner = path.removeprefix("/dev/")
        named = self.by_name(inner.replace("/", "!")) or self.by_name(PurePosixPath(real).name)
        return named or self.by_dm_name(_dm_name_of(inner))

    def by_dm_name(self, name: str) -> Device | None:
        """Return the device-mapper device of a name; None when there is none.

        Raises:
            OSError: the tree cannot be read.
        """
        return self._first(lambda device: bool(name) and device.dm_name == name)

    def by_backing_file(self, path: str) -> Device | None:
        """Return the loop device over a file; None when there is none.

        Raises:
            OSError: the tree cannot be read.
        """
        return self._first(lambda device: device.backing_file == path)

    def all(self) -> Iterator[Device]:
        """Yield all disks and partitions.

        Raises:
            OSError: the tree cannot be read.
        """
        for name in self._bases:
            device = self.by_name(name)
            if device is not None:
                yield device

    def _first(self, wanted: Callable[[Device], bool]) -> Device | None:
        return next((device for device in self.all() if wanted(device)), None)

    @cached_property
    def _bases(self) -> dict[str, str]:
        """The directories of all devices by their kernel names; a partition lies in the one of its disk."""
        bases: dict[str, str] = {}
        for disk in self._names("/sys/block"):
            bases[disk] = f"/sys/block/{disk}"
            for name in self._names(f"/sys/block/{disk}"):
                if name.startswith(disk) and self._sysroot.path(f"/sys/block/{disk}/{name}").is_dir():
                    bases[name] = f"/sys/block/{disk}/{name}"
        for name in self._names("/sys/class/block"):
            bases.setdefault(name, f"/sys/class/block/{name}")
        return dict(list(bases.items())[:DEVICES_MAX])

    def _read(self, name: str, base: str) -> Device:
        sectors = self._sysroot.number(f"{base}/size")
        read_only = self._sysroot.number(f"{base}/ro")
        return Device(
            name=name,
            number=self._number_of(name, base),
            size_bytes=None if sectors is None or sectors < 0 else sectors * SECTOR_BYTES,
            is_read_only=None if read_only is None else read_only != 0,
            dm_name=self._text(f"{base}/dm/name"),
            dm_uuid=self._text(f"{base}/dm/uuid"),
            is_suspended=self._sysroot.number(f"{base}/dm/suspended") == 1,
            slaves=tuple(self._names(f"{base}/slaves")),
            holders=tuple(self._names(f"{base}/holders")),
            disk=self._disk_of(name, base),
            backing_file=self._text(f"{base}/loop/backing_file"),
            logical_block_bytes=self._sysroot.number(f"{base}/queue/logical_block_size"),
            physical_block_bytes=self._sysroot.number(f"{base}/queue/physical_block_size"),
        )

    def _names(self, directory: str) -> list[str]:
        """Return the names in a directory that kernel names can be."""
        return [name for name in self._sysroot.names(directory) if _NAME.fullmatch(name)]

    def _text(self, name: str) -> str:
        """Return what a file holds; nothing of a text with a zero byte, which is no name."""
        text = self._sysroot.text(name) or ""
        return "" if "\x00" in text else text

    def _number_of(self, name: str, base: str) -> str:
        number = self._sysroot.text(f"{base}/dev")
        if number is None:
            for entry in self._numbered:
                if self._numbered[entry] == name:
                    return entry
        return number if number and _NUMBER.fullmatch(number) else ""

    @cached_property
    def _numbered(self) -> dict[str, str]:
        """The kernel names that the links of `/sys/dev/block` point to."""
        directory = self._sysroot.path("/sys/dev/block")
        links = [name for name in self._sysroot.names("/sys/dev/block") if (directory / name).is_symlink()]
        return {name: PurePosixPath(os.readlink(directory / name)).name for name in links}

    def _disk_of(self, name: str, base: str) -> str:
        """Return the disk of a partition: the directory that its own one lies in."""
        if _PARTITION.fullmatch(base):
            return base.split("/")[3]
        if self._sysroot.text(f"{base}/partition") is None:
            return ""
        parent = PurePosixPath(os.path.realpath(self._sysroot.path(base))).parent.name
        candidates = (parent, re.sub(r"p?[0-9]+$", "", name))
        return next((disk for disk in candidates if disk in self._bases and disk != name), "")


def block_number(path: Path) -> str:
    """Return the `major:minor` of a node of this system; empty when it is no block device or not there."""
    try:
        status = path.stat()
    except OSError:
        return ""
    if not stat.S_ISBLK(status.st_mode):
        return ""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _dm_name_of(path: str) -> str:
    """Return the device-mapper name of a path below /dev: `mapper/NAME`, or `VG/LV`, which LVM writes with hyphens."""
    parts = path.split("/")
    if len(parts) != 2:
        return ""
    if parts[0] == "mapper":
        return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), parts[1])
    return "-".join(part.replace("-", "--") for part in parts)

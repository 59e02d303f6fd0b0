"""What a registry or device lies on: the devices from the file system down to the disks."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from stat import S_ISBLK, S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from regstore.luks.devices import BlockDevices, Device
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.mounts import Mount, find_mount, read_mounts
from regstore.luks.tabs import read_fstab
from regstore.luks.udev import luks_device, luks_devices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regstore.luks.sysroot import Sysroot

LOOK_SECONDS = 1.0
# What no volume of one machine can tell about: memory, other machines, and file systems that keep their disks to
# themselves or show files of others.
OPAQUE_TYPES = frozenset({
    "overlay", "tmpfs", "ramfs", "9p", "zfs", "nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "virtiofs", "aufs",
})  # fmt: skip
# Wide and deep stacks exist; one of this size does not.
DEVICES_MAX = 1_000


class Kind(Enum):
    """What a target is."""

    ROOT = "directory"
    DEVICE = "block device"
    FILE = "regular file"


@dataclass(frozen=True, slots=True)
class Stack:
    """The devices below a target.

    Attributes:
        kind: of the target.
        target: its absolute path, of a ROOT without symbolic links.
        mount: what a ROOT lies on, or where an opened DEVICE is mounted.
        devices: all from the file system's device (or DEVICE, or the mapping that is open on it) down; each once.
        crypt: the topmost opened LUKS volume.
        header_device: the device below `crypt` that holds its header, or the data of a detached one; of a DEVICE
            that is not open itself.
        tops: those of `devices` that hold the file system itself; btrfs may have several.
        clear: the names of the devices that show what is not encrypted, or no longer: the tops down to the mappings.
        plain: the disks that are reached without passing through encryption.
        gaps: why the way down could not be followed everywhere.
    """

    kind: Kind
    target: str
    mount: Mount | None = None
    devices: tuple[Device, ...] = ()
    crypt: Device | None = None
    header_device: Device | None = None
    tops: tuple[Device, ...] = ()
    clear: frozenset[str] = frozenset()
    plain: tuple[Device, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def suspended(self) -> tuple[Device, ...]:
        """The devices that every read and write would wait for."""
        return tuple(device for device in self.devices if device.is_suspended)

    @property
    def is_header_halted(self) -> bool:
        """Tell whether reading the header would wait too: its device or one below is suspended."""
        known = {device.name: device for device in self.devices}
        waiting = [self.header_device.name] if self.header_device else []
        for name in waiting:
            device = known.get(name, Device(name))
            if device.is_suspended:
                return True
            below = [device.disk, *device.slaves]
            if device.backing_file:
                below += [other.name for other in self.devices[self.devices.index(device) + 1 :]]
            waiting += [other for other in below if other not in waiting]
        return False

    @property
    def disks(self) -> tuple[Device, ...]:
        """The physical disks at the bottom."""
        return tuple(device for device in self.devices if device.is_physical)

    @property
    def encryption(self) -> Device | None:
        """The topmost encrypted mapping of any kind."""
        return next((device for device in self.devices if device.is_encrypting), None)


def kind_of(sysroot: Sysroot, path: Path) -> Kind | None:
    """Tell what a target is; None for what is not there, and for what is no target.

    Below another sysroot a place where something is or should be mounted is a ROOT, and a path below `/dev` is a
    device of the tree, whether or not it exists on this host.

    Raises:
        OSError: the tree cannot be read.
    """
    name = os.path.abspath(path)
    if sysroot.is_other:
        mounted = [mount.target for mount in read_mounts(sysroot) or ()]
        if name in mounted or name in [entry.target for entry in read_fstab(sysroot) or ()]:
            return Kind.ROOT
        if BlockDevices(sysroot).by_path(name):
            return Kind.DEVICE
    try:
        mode = call(lambda: os.stat(name).st_mode, LOOK_SECONDS)
    except DeadlineError:
        return Kind.ROOT  # only a directory below a file system that does not answer gets here
    except IsolatedError:
        return None
    kinds = ((S_ISDIR, Kind.ROOT), (S_ISBLK, Kind.DEVICE), (S_ISREG, Kind.FILE))
    return next((kind for test, kind in kinds if test(mode)), None)


def find_stack(sysroot: Sysroot, path: Path, kind: Kind) -> Stack:
    """Return what a target lies on. Nothing of it is opened.

    Raises:
        OSError: the system's tree cannot be read.
    """
    blocks = BlockDevices(sysroot)
    mounts = read_mounts(sysroot)
    if kind is Kind.ROOT:
        return _stack_of_root(sysroot, blocks, mounts, _real(sysroot, path))
    return _stack_of_device(sysroot, blocks, mounts or (), path, kind)


def stack_below(sysroot: Sysroot, path: str) -> Stack:
    """Return what any file or directory of the system lies on.

    Raises:
        OSError: the system's tree cannot be read.
    """
    return _stack_of_root(sysroot, BlockDevices(sysroot), read_mounts(sysroot), _real(sysroot, Path(path)))


def _real(sysroot: Sysroot, path: Path) -> str:
    """Return the path without symbolic links; as it is when it is another system's or nobody answers."""
    name = os.path.abspath(path)
    if sysroot.is_other:
        return name
    try:
        return call(lambda: os.path.realpath(name), LOOK_SECONDS)
    except (DeadlineError, IsolatedError):
        return name


def _stack_of_root(sysroot: Sysroot, blocks: BlockDevices, mounts: Sequence[Mount] | None, path: str) -> Stack:
    if mounts is None:
        return Stack(Kind.ROOT, path, gaps=("there is no /proc/self/mountinfo",))
    mount = find_mount(mounts, path)
    if mount is None:
        return Stack(Kind.ROOT, path, gaps=(f"the mount table has nothing at {path}",))
    walk = _Walk(blocks, mounts)
    walk.enter_mount(sysroot, mount)
    return walk.stack(sysroot, Kind.ROOT, path, mount)


def _stack_of_device(sysroot: Sysroot, blocks: BlockDevices, mounts: Sequence[Mount], path: Path, kind: Kind) -> Stack:
    name = os.path.abspath(path)
    device = _file_loop(sysroot, blocks, name) if kind is Kind.FILE else _block(sysroot, blocks, name)
    if device is None:
        gaps = (f"/sys does not know {name}",) if kind is Kind.DEVICE else ()
        return Stack(kind, name, gaps=gaps)
    mapping = _open_mapping(blocks, device) or _cut_mapping(sysroot, blocks, device)
    walk = _Walk(blocks, mounts)
    walk.enter(mapping or device, is_encrypted=False)
    numbers = {holder.number for holder in _upwards(blocks, mapping or device)} - {""}
    mount = next((mount for mount in mounts if mount.number in numbers), None)
    stack = walk.stack(sysroot, kind, name, mount)
    if stack.crypt is None:
        return replace(stack, header_device=device)
    return stack


def _block(sysroot: Sysroot, blocks: BlockDevices, name: str) -> Device | None:
    if sysroot.is_other:
        inside = f"{sysroot.directory}/dev/"
        return blocks.by_path(f"/dev/{name.removeprefix(inside)}" if name.startswith(inside) else name)
    try:
        number = call(lambda: os.stat(name).st_rdev, LOOK_SECONDS)
    except (DeadlineError, IsolatedError):
        return blocks.by_path(name)
    return blocks.by_number(f"{os.major(number)}:{os.minor(number)}")


def _file_loop(sysroot: Sysroot, blocks: BlockDevices, name: str) -> Device | None:
    """Return the loop device over an image file."""
    real = _real(sysroot, Path(name))
    return blocks.by_backing_file(real) or blocks.by_backing_file(name)


def _open_mapping(blocks: BlockDevices, device: Device) -> Device | None:
    """Return the opened LUKS volume that a device is or carries; other layers of cryptsetup may lie between."""
    for holder in _upwards(blocks, device):
        if holder.is_luks:
            return holder
        if holder is not device and not holder.dm_uuid.startswith("CRYPT-"):
            return None
    return None


def _cut_mapping(sysroot: Sysroot, blocks: BlockDevices, device: Device) -> Device | None:
    """Return the opened volume of a device whose connection an `error` table cut: only the UUID still tells."""
    uuids = {uuid for uuid, other in luks_devices(sysroot, blocks) if other.name == device.name}
    return next((other for other in blocks.all() if other.luks_uuid in uuids and not other.slaves), None)


def _upwards(blocks: BlockDevices, device: Device) -> Iterable[Device]:
    """Yield a device and what lies on it, nearest first."""
    queue, seen = deque([device]), {device.name}
    while queue:
        current = queue.popleft()
        yield current
        for name in current.holders:
            holder = blocks.by_name(name) if name not in seen and len(seen) < DEVICES_MAX else None
            if holder is not None:
                seen.add(name)
                queue.append(holder)


class _Walk:
    """The way down, breadth first: each device once for what is above its encryption and once for what is below."""

    def __init__(self, blocks: BlockDevices, mounts: Sequence[Mount]) -> None:
        self._blocks = blocks
        self._mounts = mounts
        self._queue: deque[tuple[Device, bool]] = deque()
        self._seen: set[tuple[str, bool]] = set()
        self._found: dict[str, Device] = {}
        self._plain: dict[str, Device] = {}
        self._gaps: dict[str, None] = {}

    def enter_mount(self, sysroot: Sysroot, mount: Mount, *, is_encrypted: bool = False) -> None:
        """Go on with the devices of a file system."""
        devices = _devices_of(sysroot, self._blocks, mount)
        if not devices:
            self._gaps[_reason(mount)] = None
        for device in devices:
            self.enter(device, is_encrypted=is_encrypted)

    def enter(self, device: Device, *, is_encrypted: bool) -> None:
        """Go on with a device, unless that was done."""
        if (device.name, is_encrypted) in self._seen:
            return
        if len(self._seen) >= DEVICES_MAX:
            self._gaps[f"there are more than {DEVICES_MAX:,} devices"] = None
            return
        self._seen.add((device.name, is_encrypted))
        self._found.setdefault(device.name, device)
        self._queue.append((device, is_encrypted))

    def stack(self, sysroot: Sysroot, kind: Kind, target: str, mount: Mount | None) -> Stack:
        """Go all ways to their ends, and return what lay there."""
        tops = tuple(self._found.values())
        while self._queue:
            device, is_encrypted = self._queue.popleft()
            self._descend(sysroot, device, is_encrypted=is_encrypted or device.is_encrypting)
        devices = tuple(self._found.values())
        crypt = next((device for device in devices if device.is_luks), None)
        header = _header_device(sysroot, self._blocks, crypt) if crypt else None
        return Stack(
            kind,
            target,
            mount,
            devices=devices,
            crypt=crypt,
            header_device=header,
            tops=tops,
            clear=frozenset(name for name, is_encrypted in self._seen if not is_encrypted),
            plain=tuple(self._plain.values()),
            gaps=tuple(self._gaps),
        )

    def _descend(self, sysroot: Sysroot, device: Device, *, is_encrypted: bool) -> None:
        names = [*device.slaves, *([device.disk] if device.disk else [])]
        below = [self._blocks.by_name(name) or Device(name) for name in names[:DEVICES_MAX]]
        if device.is_luks and not below:  # as after an `error` table was loaded
            below = [lost] if (lost := luks_device(sysroot, self._blocks, device.luks_uuid)) else []
        for other in below:
            self.enter(other, is_encrypted=is_encrypted)
        if device.backing_file:
            self._descend_into_file(sysroot, device.backing_file, is_encrypted=is_encrypted)
        elif not below and not is_encrypted:
            self._plain[device.name] = device

    def _descend_into_file(self, sysroot: Sysroot, file: str, *, is_encrypted: bool) -> None:
        """Go on below the file system that a loop device's file lies on; losetup takes block devices too."""
        device = self._blocks.by_path(file)
        if device is not None:
            self.enter(device, is_encrypted=is_encrypted)
            return
        mount = find_mount(self._mounts, file)
        if mount is None:
            self._gaps[f"the mount table has nothing at {file}"] = None
        else:
            self.enter_mount(sysroot, mount, is_encrypted=is_encrypted)


def _devices_of(sysroot: Sysroot, blocks: BlockDevices, mount: Mount) -> list[Device]:
    """Return the devices of a file system: one, or several of btrfs, whose mounts have a number of no device."""
    if mount.type in OPAQUE_TYPES or mount.type.startswith("fuse"):
        device = blocks.by_path(mount.source) if mount.type == "fuseblk" else None
        return [device] if device else []
    first = None if mount.is_anonymous else blocks.by_number(mount.number)
    first = first or blocks.by_path(mount.source)
    if first is None or mount.type != "btrfs":
        return [first] if first else []
    for uuid in sysroot.names("/sys/fs/btrfs"):
        names = sysroot.names(f"/sys/fs/btrfs/{uuid}/devices")
        if first.name in names:
            return [first, *(blocks.by_name(name) or Device(name) for name in names if name != first.name)]
    return [first]


def _reason(mount: Mount) -> str:
    if mount.type in OPAQUE_TYPES or mount.type.startswith("fuse") or mount.is_anonymous:
        return f"{mount.target} is {mount.type} ({mount.source}), which has no block device here"
    return f"/sys does not know the device {mount.number} ({mount.source}) of {mount.target}"


def _header_device(sysroot: Sysroot, blocks: BlockDevices, crypt: Device) -> Device | None:
    """Return the device under an opened volume, also when an `error` table cut the way down to it."""
    current = crypt
    for _ in range(DEVICES_MAX):
        if not current.slaves:
            break
        current = blocks.by_name(current.slaves[0]) or Device(current.slaves[0])
        if not current.dm_uuid.startswith(("CRYPT-INTEGRITY-", "CRYPT-SUBDEV-")):
            return current
    return luks_device(sysroot, blocks, crypt.luks_uuid) if crypt.luks_uuid else None

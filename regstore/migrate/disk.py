"""The disk below a directory, as fstab and crypttab name it. Read from /proc, /sys and /dev only."""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil


class Disk(NamedTuple):
    """A mounted disk.

    Attributes:
        name: `UUID=...` of its file system, or the device where none is known.
        mount_point, file_system: where it is mounted, and its type.
        mapping: the name of its opened LUKS volume, or empty.
        backing: `UUID=...` of the LUKS volume, or its device.
    """

    name: str
    mount_point: str
    file_system: str
    mapping: str = ""
    backing: str = ""


def find_disk(path: str, dev: str = "/dev", sys: str = "/sys") -> Disk | None:
    """Return the disk that a directory lies on; None for the root file system, and for what is no disk.

    Args:
        path: the directory.
        dev, sys: where /dev and /sys are.
    """
    path = os.path.realpath(path)
    mounts = [part for part in psutil.disk_partitions(all=True) if _lies_below(path, part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    if mount is None or mount.mountpoint == "/" or not mount.device.startswith("/dev/"):
        return None
    device = os.path.realpath(mount.device)
    mapping, backing = _find_luks(os.path.basename(device), dev, sys)
    return Disk(_uuid_of(device, dev) or mount.device, mount.mountpoint, mount.fstype, mapping, backing)


def _lies_below(path: str, mount_point: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _uuid_of(device: str, dev: str) -> str:
    directory = f"{dev}/disk/by-uuid"
    try:
        names = os.listdir(directory)
    except OSError:
        return ""
    for name in names:
        if os.path.basename(os.path.realpath(f"{directory}/{name}")) == os.path.basename(device):
            return f"UUID={name}"
    return ""


def _find_luks(device: str, dev: str, sys: str) -> tuple[str, str]:
    """Return the name of an opened LUKS volume and what it lies on; empty for any other device."""
    base = f"{sys}/class/block/{device}"
    try:
        with open(f"{base}/dm/uuid", encoding="ascii") as file:
            if not file.read().startswith("CRYPT-LUKS"):
                return "", ""
        with open(f"{base}/dm/name", encoding="utf-8") as file:
            name = file.read().strip()
        slave = os.listdir(f"{base}/slaves")[0]
    except (OSError, IndexError):
        return "", ""
    return name, _uuid_of(slave, dev) or f"/dev/{slave}"

"""What udev knows of block devices: the tags by which files such as crypttab name them."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from regstore.luks.devices import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import BlockDevices
    from regstore.luks.sysroot import Sysroot

_DATABASE = "/run/udev/data"
_ENTRY = re.compile(r"b([0-9]{1,9}:[0-9]{1,9})")
# The properties behind a tag (systemd's 60-persistent-storage.rules), and the links that it makes of them.
_TAGS = {
    "UUID": ("ID_FS_UUID", "by-uuid"),
    "LABEL": ("ID_FS_LABEL_ENC", "by-label"),
    "PARTUUID": ("ID_PART_ENTRY_UUID", "by-partuuid"),
    "PARTLABEL": ("ID_PART_ENTRY_NAME", "by-partlabel"),
}
_NOBODY_KNOWS = "neither /run/udev/data nor /dev/disk tells which devices there are"
_HEX = re.compile(r"\\x([0-9a-fA-F]{2})")


class NotKnownError(Exception):
    """Neither udev's database nor its links are there, so nobody knows which devices there are."""


def properties(sysroot: Sysroot) -> dict[str, dict[str, str]]:
    """Return udev's properties of all block devices by `major:minor`; nothing without its database.

    Raises:
        OSError: it cannot be read.
    """
    found = {}
    for name in sysroot.names(_DATABASE):
        entry = _ENTRY.fullmatch(name)
        if entry:
            found[entry[1]] = _parse(sysroot.text(f"{_DATABASE}/{name}") or "")
    return found


def find_tag(sysroot: Sysroot, blocks: BlockDevices, tag: str, value: str) -> list[Device]:
    """Return the devices with a `UUID`, `LABEL`, `PARTUUID` or `PARTLABEL`.

    Raises:
        NotKnownError: nobody knows.
        OSError: the tree cannot be read.
    """
    key, links = _TAGS[tag]
    database = properties(sysroot)
    wanted = _folded(tag, value)
    found = [
        blocks.by_number(number) or Device(number, number)
        for number, known in database.items()
        if _folded(tag, _decoded(known.get(key, ""))) == wanted
    ]
    if found:
        return found
    directory = sysroot.path(f"/dev/disk/{links}")
    names = sysroot.names(f"/dev/disk/{links}")
    for name in names:
        if _folded(tag, _decoded(name)) == wanted:
            target = PurePosixPath(os.path.realpath(directory / name)).name
            device = blocks.by_name(target)
            return [device] if device else []
    if not database and not sysroot.names("/dev/disk"):
        raise NotKnownError(_NOBODY_KNOWS)
    return []


def find_link(sysroot: Sysroot, blocks: BlockDevices, path: str) -> list[Device]:
    """Return the device that a link below `/dev` leads to by udev's word, where the link itself is not there.

    Raises:
        NotKnownError: nobody knows.
        OSError: the tree cannot be read.
    """
    line = f"S:{path.removeprefix('/dev/')}"
    names = [name for name in sysroot.names(_DATABASE) if _ENTRY.fullmatch(name)]
    for name in names:
        if line in (sysroot.text(f"{_DATABASE}/{name}") or "").split("\n"):
            return [blocks.by_number(name[1:]) or Device(name[1:], name[1:])]
    if not names and not sysroot.names("/dev/disk"):
        raise NotKnownError(_NOBODY_KNOWS)
    return []


def luks_devices(sysroot: Sysroot, blocks: BlockDevices) -> Iterator[tuple[str, Device]]:
    """Yield the UUID and device of every LUKS header that udev knows.

    Raises:
        OSError: the tree cannot be read.
    """
    for number, known in sorted(properties(sysroot).items()):
        if known.get("ID_FS_TYPE") == "crypto_LUKS" and known.get("ID_FS_UUID"):
            yield known["ID_FS_UUID"].lower(), blocks.by_number(number) or Device(number, number)


def luks_device(sysroot: Sysroot, blocks: BlockDevices, uuid: str) -> Device | None:
    """Return the device with a LUKS header's UUID; None when udev knows none.

    Raises:
        OSError: the tree cannot be read.
    """
    return next((device for known, device in luks_devices(sysroot, blocks) if known == uuid), None)


def _parse(text: str) -> dict[str, str]:
    lines = (line[2:].partition("=") for line in text.split("\n") if line.startswith("E:"))
    return {key: value for key, _, value in lines}


def _decoded(text: str) -> str:
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def _folded(tag: str, value: str) -> str:
    return value.lower() if tag.endswith("UUID") else value

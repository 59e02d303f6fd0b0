"""The LUKS headers of all block devices, where udev keeps no database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.nodes import node_of

if TYPE_CHECKING:
    from pathlib import Path

    from regstore.luks.devices import BlockDevices, Device
    from regstore.luks.sysroot import Sysroot

# Both versions have the same magic at the begin and the UUID at the same place (facts: offsets 0 and 168, 40 bytes).
_MAGIC = b"LUKS\xba\xbe"
_UUID = slice(168, 208)
_HEAD_BYTES = 512


class ScanError(Exception):
    """The headers cannot be looked at."""


def scan_headers(sysroot: Sysroot, blocks: BlockDevices, seconds: float) -> tuple[list[tuple[str, Device]], list[str]]:
    """Return the UUIDs and devices of all first headers, and the names of the devices that could not be read.

    A suspended device, and one that lies on a suspended one, is not read.

    Raises:
        ScanError: the answer took too long, or no device could be read.
        OSError: the system's tree cannot be read.
    """
    devices = [device for device in blocks.all() if device.size_bytes != 0]
    halted = _halted(blocks, devices)
    nodes = {device.name: node_of(sysroot, device) for device in devices if device.name not in halted}
    try:
        uuids = call(lambda: {name: _read_uuid(node) for name, node in nodes.items()}, seconds)
    except (DeadlineError, IsolatedError) as error:
        raise ScanError(f"the headers of the block devices could not be read: {error}") from error
    unread = sorted(halted | {name for name, uuid in uuids.items() if uuid is None})
    if len(unread) == len(devices):
        raise ScanError("udev keeps no database here, and no block device could be read (are you root?)")
    return [(uuid, device) for device in devices if (uuid := uuids.get(device.name))], unread


def _read_uuid(node: Path | None) -> str | None:
    """Return the UUID of a header; empty when there is none, and None when it cannot be read."""
    if node is None:
        return None
    try:
        with node.open("rb", buffering=0) as file:
            head = os.pread(file.fileno(), _HEAD_BYTES, 0)
    except OSError:
        return None
    if not head.startswith(_MAGIC):
        return ""
    return head[_UUID].split(b"\0", 1)[0].decode("utf-8", "replace").lower()


def _halted(blocks: BlockDevices, devices: list[Device]) -> set[str]:
    """Return the names of all devices that are suspended or lie on one that is."""
    halted = {device.name for device in devices if device.is_suspended}
    waiting = list(halted)
    while waiting:
        device = blocks.by_name(waiting.pop())
        for holder in device.holders if device else ():
            if holder not in halted:
                halted.add(holder)
                waiting.append(holder)
    return halted

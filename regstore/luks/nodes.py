"""Where a block device can be opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from regstore.luks.devices import block_number

if TYPE_CHECKING:
    from regstore.luks.devices import Device
    from regstore.luks.sysroot import Sysroot


def node_of(sysroot: Sysroot, device: Device) -> Path | None:
    """Return the node or image file of a device; None when there is none that is surely this device.

    Below another sysroot its own `/dev` comes first. This system's node counts only when it has the number and the size
    that the tree tells: `/dev/vdb` of a recorded tree is another disk here. A loop device's file comes last.
    """
    own = sysroot.path(f"/dev/{device.name.replace('!', '/')}")
    if sysroot.is_other:
        if own.is_file() or own.is_block_device():
            return own
        here = Path("/dev", device.name.replace("!", "/"))
        if _is_same(here, device):
            return here
    elif block_number(own):
        return own
    backing = Path(device.backing_file) if device.backing_file else None
    return backing if backing is not None and backing.is_file() else None


def _is_same(node: Path, device: Device) -> bool:
    if not device.number or block_number(node) != device.number or device.size_bytes is None:
        return False
    try:
        handle = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.lseek(handle, 0, os.SEEK_END) == device.size_bytes
    except OSError:
        return False
    finally:
        os.close(handle)

"""The memory of this host, which opening a volume takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.subject import Memory

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot


def read_memory(sysroot: Sysroot, rescue_bytes: int | None = None) -> Memory:
    """Return what can be used to open a volume here; of what cannot be read, None."""
    return Memory(_meminfo(sysroot, "MemTotal"), _control_group_limit(sysroot), rescue_bytes)


def available_bytes(sysroot: Sysroot) -> int | None:
    """Return how much memory could be used just now; None when nobody knows."""
    return _meminfo(sysroot, "MemAvailable")


def _meminfo(sysroot: Sysroot, name: str) -> int | None:
    try:
        text = sysroot.text("/proc/meminfo") or ""
    except OSError:
        return None
    match = re.search(rf"^{name}:\s*([0-9]{{1,15}}) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _control_group_limit(sysroot: Sysroot) -> int | None:
    """Return the lowest limit on the way up from this process's control group (version 2), or version 1's."""
    try:
        own = sysroot.text("/proc/self/cgroup") or ""
        match = re.search(r"^0::(/.*)$", own, re.MULTILINE)
        place = match[1].rstrip("/") if match else ""
        limits = []
        while True:
            limits.append(sysroot.number(f"/sys/fs/cgroup{place}/memory.max"))
            if not place:
                break
            place = place.rpartition("/")[0]
        limits.append(sysroot.number("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    except OSError:
        return None
    return min((limit for limit in limits if limit), default=None)

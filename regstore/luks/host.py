"""What this host has and does that matters to a volume: memory, and processes that reencrypt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.subject import Memory

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot

_REENCRYPTING = (b"cryptsetup", b"cryptsetup-reencrypt")


def read_memory(sysroot: Sysroot, rescue_bytes: int | None = None) -> Memory:
    """Return what can be used to open a volume here; of what cannot be read, None."""
    return Memory(_meminfo(sysroot, "MemTotal"), _control_group_limit(sysroot), rescue_bytes)


def available_bytes(sysroot: Sysroot) -> int | None:
    """Return how much memory could be used just now; None when nobody knows."""
    return _meminfo(sysroot, "MemAvailable")


def is_reencrypting(sysroot: Sysroot) -> bool:
    """Tell whether a process is at work that reencrypts a volume."""
    for name in sysroot.names("/proc"):
        if not name.isdigit():
            continue
        try:
            words = (sysroot.path(f"/proc/{name}/cmdline")).read_bytes().split(b"\0")
        except OSError:
            continue
        program = words[0].rpartition(b"/")[2]
        if program in _REENCRYPTING and (b"reencrypt" in words or program.endswith(b"-reencrypt")):
            return True
    return False


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

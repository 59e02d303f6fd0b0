"""Which programs run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot


def is_running(sysroot: Sysroot, program: str) -> bool:
    """Tell whether a program runs, by the name that the kernel keeps (proc_pid_comm(5), 15 characters).

    Raises:
        OSError: /proc cannot be read.
    """
    numbers = (name for name in sysroot.names("/proc") if name.isascii() and name.isdigit())
    return any(_name_of(sysroot, number) == program[:15] for number in numbers)


def _name_of(sysroot: Sysroot, number: str) -> str:
    try:
        return sysroot.text(f"/proc/{number}/comm") or ""
    except ProcessLookupError:  # it ended between
        return ""

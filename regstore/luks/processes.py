"""Which programs run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot


def is_reencrypting(sysroot: Sysroot) -> bool:
    """Tell whether a process is at work that reencrypts a volume.

    Raises:
        OSError: /proc cannot be read.
    """
    numbers = (name for name in sysroot.names("/proc") if name.isascii() and name.isdigit())
    return any(_is_reencrypting(_command_of(sysroot, number)) for number in numbers)


def _is_reencrypting(words: list[str]) -> bool:
    program = words[0].rpartition("/")[2]
    return program == "cryptsetup-reencrypt" or (program == "cryptsetup" and "reencrypt" in words[1:])


def _command_of(sysroot: Sysroot, number: str) -> list[str]:
    try:
        return (sysroot.text(f"/proc/{number}/cmdline") or "").split("\0")
    except OSError:  # it ended between, or is hidden from us
        return [""]

"""Running when nobody else wants the machine."""

from __future__ import annotations

import psutil

_NICEST = 19


def be_idle() -> None:
    """Give this process the lowest priority, and on Linux the idle class of the disk."""
    process = psutil.Process()
    process.nice(_NICEST)
    if hasattr(process, "ionice"):
        process.ionice(psutil.IOPRIO_CLASS_IDLE)

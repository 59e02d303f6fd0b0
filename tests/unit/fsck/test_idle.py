"""Running when nobody else wants the machine."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_becomes_idle() -> None:
    """In a process of its own: there is no way back."""
    program = """
import psutil
from regstore.fsck.idle import be_idle
be_idle()
process = psutil.Process()
print(process.nice(), process.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout == "19 True\n"

"""Running regstore where a disk is full, or to see how much memory it takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from support.collection import Done


def run_limited(limit: int, *arguments: object, state: Path) -> Done:
    """Run regstore where no file may grow beyond a limit, as on a disk that is full."""

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # Measurements of coverage are files that grow, too.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}
    program = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from regstore.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "XDG_STATE_HOME": str(state)},
        preexec_fn=limit_files,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_weighed(*arguments: object, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Run regstore, and return its exit code and the most bytes that it held."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regstore", *map(str, arguments)], env={**os.environ, **(environment or {})}
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak_memory(process.pid))
        time.sleep(0.02)
    return process.returncode, peak


def _peak_memory(pid: int) -> int:
    """Return the most bytes that a process held so far; 0 when it is gone.

    What the kernel tells at its end counts what its parent held before it became another program.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

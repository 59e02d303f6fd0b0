"""What the benches of whole commands share: costs by table and name, and large layers for a synthetic volume."""

from __future__ import annotations

import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
LAYER_MIB = 24
V2 = "docker/registry/v2"
REGSTORE = [sys.executable, "-m", "regstore"]


class Cost(NamedTuple):
    """What one process took, with the processes that it waited for; `disk_seconds` until all of it was on the disk."""

    cpu_seconds: float
    wall_seconds: float
    disk_seconds: float
    peak_mib: float


def cost_of(command: list[str], environment: dict[str, str], directory: Path | None = None) -> Cost:
    """Run a command, and ask the kernel what it took."""
    os.sync()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    os.sync()
    disk = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, wall, disk, usage.ru_maxrss / 1024)


def add_large_layers(root: Path, mebibytes: int) -> None:
    """Add layers that do not compress, as compressed layers are, linked in one repository."""
    dice = random.Random(7)
    for _ in range(max(1, mebibytes // LAYER_MIB)):
        data = dice.randbytes(LAYER_MIB * MIB)
        digits = sha256(data).hexdigest()
        write(root / V2 / f"blobs/sha256/{digits[:2]}/{digits}/data", data)
        write(root / V2 / f"repositories/large/_layers/sha256/{digits}/link", f"sha256:{digits}".encode())


def write(path: Path, data: bytes) -> None:
    """Write a file and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class Bench:
    """The volume, a scratch directory beside it, and the costs by table and name."""

    def __init__(self, volume: Path, scratch: Path, **environment: str) -> None:
        self.volume = volume
        self.scratch = scratch
        self.costs: dict[str, dict[str, list[Cost]]] = {}
        self.environment = {**os.environ, "XDG_STATE_HOME": str(scratch / "state"), **environment}

    def run(self, table: str, name: str, *command: object, directory: Path | None = None) -> None:
        """Take the cost of a command."""
        cost = cost_of([str(word) for word in command], self.environment, directory)
        self.costs.setdefault(table, {}).setdefault(name, []).append(cost)

    def place(self, name: str) -> Path:
        """Return a path in the scratch directory."""
        return self.scratch / name

    def clear(self) -> None:
        """Remove everything from the scratch directory."""
        for path in list(self.scratch.iterdir()):
            shutil.rmtree(path, ignore_errors=True)

    def show(self) -> None:
        """Print each table, with ratios to regstore."""
        for table, rows in self.costs.items():
            base = median_of(rows["regstore"])
            print(
                f"\n{table:18} {'CPU s':>8} {'wall s':>8} {'disk s':>8} {'MiB':>6} {'CPU':>7} {'wall':>7} {'disk':>7}"
            )
            for name, costs in rows.items():
                cost = median_of(costs)
                seconds = zip(cost[:3], base[:3], strict=True)
                print(
                    f"{name:18} {cost.cpu_seconds:8.2f} {cost.wall_seconds:8.2f} {cost.disk_seconds:8.2f} "
                    f"{cost.peak_mib:6.0f} {' '.join(f'{theirs / ours:6.1f}x' for theirs, ours in seconds)}",
                    flush=True,
                )


def has(program: str) -> bool:
    """Tell whether a program is installed."""
    return shutil.which(program) is not None


def median_of(costs: list[Cost]) -> Cost:
    """Return the medians of all figures."""
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def make_volume(root: Path, tags: int, mebibytes: int) -> None:
    """Write a synthetic volume with large layers besides, and say how many links it has."""
    if not root.exists():
        counts = ["--repositories", str(min(400, tags // 5)), "--tags", str(tags), "--blobs", str(3 * tags)]
        subprocess.run([str(HERE / "make-volume"), *counts, str(root)], check=True, stdout=subprocess.DEVNULL)
        add_large_layers(root, mebibytes)
    print(f"{sum(name == 'link' for _, _, names in os.walk(root) for name in names)} links")


def rclone_environment(endpoint: str) -> dict[str, str]:
    """Return the variables that make an endpoint rclone's remote `B`."""
    return {
        "RCLONE_CONFIG_B_TYPE": "s3",
        "RCLONE_CONFIG_B_PROVIDER": "Other",
        "RCLONE_CONFIG_B_ENDPOINT": endpoint,
        "RCLONE_CONFIG_B_ENV_AUTH": "true",
    }

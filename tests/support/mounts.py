"""File systems of their own, in files that are mounted for a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.programs import require_program, require_root

PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}


@contextmanager
def mounted(directory: Path, file_system: str, size_mib: int = 400) -> Iterator[Path]:
    """Mount a new file system below a directory, and yield where."""
    require_root("mount")
    program = require_program(f"mkfs.{file_system}", PACKAGES[file_system])
    image, place = directory / f"{file_system}.img", directory / file_system
    with open(image, "wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run([program, "-q", str(image)], check=True, capture_output=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        image.unlink()

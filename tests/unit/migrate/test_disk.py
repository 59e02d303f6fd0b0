"""The lines for fstab and crypttab."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from regstore.migrate.disk import Disk, find_disk


class Mount(NamedTuple):
    """A mounted file system."""

    device: str
    mountpoint: str
    fstype: str


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a root disk, a plain disk, and an opened LUKS volume."""
    dev, block = tmp_path / "dev", tmp_path / "sys/class/block"
    (dev / "disk/by-uuid").mkdir(parents=True)
    for name, uuid in {"sdb1": "11-11", "dm-0": "22-22", "sdc1": "33-33"}.items():
        (dev / name).touch()
        (dev / "disk/by-uuid" / uuid).symlink_to(f"../../{name}")
        (block / name).mkdir(parents=True)
    (block / "dm-0/dm").mkdir()
    (block / "dm-0/dm/uuid").write_text("CRYPT-LUKS2-abc-registry\n")
    (block / "dm-0/dm/name").write_text("registry\n")
    (block / "dm-0/slaves/sdc1").mkdir(parents=True)
    mounts = [
        Mount("/dev/sda1", "/", "ext4"),
        Mount("/dev/sdb1", "/mnt/plain", "xfs"),
        Mount("/dev/dm-0", "/mnt/plain/secret", "ext4"),
        Mount("tmpfs", "/mnt/memory", "tmpfs"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/registry", None),
        ("/mnt/memory/registry", None),
        ("/mnt/plain", Disk("UUID=11-11", "/mnt/plain", "xfs")),
        ("/mnt/plainer", None),
        ("/mnt/plain/secret/r", Disk("UUID=22-22", "/mnt/plain/secret", "ext4", "registry", "UUID=33-33")),
    ],
)
def test_the_disk_below_a_directory(tree: Path, path: str, expected: Disk | None) -> None:
    assert find_disk(path, str(tree / "dev"), str(tree / "sys")) == expected

"""A volume of somebody without privileges, for what root is never refused."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.collection import Done, Volume, run_cli

NOBODY = 65534


@dataclass
class Foreign:
    """A volume that somebody without privileges owns, in a directory that everybody may pass."""

    volume: Volume
    user: int | None

    def deny(self, path: Path) -> None:
        """Make a file or directory unreadable for its owner."""
        if self.user is not None:
            os.chown(path, 0, 0)
        path.chmod(0)

    def run(self, *arguments: object) -> Done:
        """Run `regstore` as its owner."""
        return run_cli(self.volume.state_home, *arguments, user=self.user)


@contextmanager
def foreign_copy(volume: Volume) -> Iterator[Foreign]:
    """Copy a volume so that uid 65534 owns it (the tests' own user, when that is not root)."""
    user = NOBODY if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="regstore-test-") as name:
        top = Path(name)
        top.chmod(0o755)
        shutil.copytree(volume.root, top / "volume", symlinks=True)
        copy = Volume(top / "volume", top)
        copy.state_home.mkdir()
        if user is not None:
            for path in (copy.state_home, copy.root, *copy.root.rglob("*")):
                os.chown(path, user, user)
        yield Foreign(copy, user)
        for path in top.rglob("*"):
            if path.is_dir() and not path.is_symlink() and not path.stat().st_mode & 0o700:
                path.chmod(0o700)

"""Small programs in the place of borg."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore.backup.borg.program import Program
from regstore.backup.borg.run import Borg

MakeBorg = Callable[[str], Borg]


@pytest.fixture
def make_borg(tmp_path: Path) -> MakeBorg:
    """Return what makes a `Borg` that runs some lines of Python; its passphrase is `secret`."""

    def make(lines: str) -> Borg:
        path = tmp_path / "fake-borg"
        path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{lines}\n")
        path.chmod(0o755)
        return Borg(Program(str(path), (1, 4, 0)), b"secret", 7.4)

    return make

"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunRegstore = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_regstore(tmp_path: Path) -> RunRegstore:
    """A function that runs `regstore` with some arguments and a state directory of the test's own."""

    def run(*arguments: object, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        command = [sys.executable, "-m", "regstore", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)

    return run

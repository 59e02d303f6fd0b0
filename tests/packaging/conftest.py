"""The wheel, built and installed once for all tests of a process, away from the checkout."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from support.packaging import CHECKOUT, Program, run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    directory = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, "."], CHECKOUT)
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel and what it depends on."""
    directory = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(directory)
    pip = [sys.executable, "-m", "pip", "--python", directory / "bin" / "python"]
    run([*pip, "install", "--quiet", "--disable-pip-version-check", wheel], directory)
    return directory


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Program:
    """The installed command, with a home of the test's own."""
    return Program([str(environment / "bin" / "regstore")], tmp_path, variables={"XDG_STATE_HOME": str(tmp_path)})

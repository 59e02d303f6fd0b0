"""Programs that tests run: missing ones skip a test on a developer's machine and fail it in CI."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import NoReturn

import pytest


def require_root(what: str) -> None:
    """Skip the test unless it is run by root (in CI: fail it), saying what root is needed for."""
    if os.geteuid() != 0:
        _refuse(f"only root can {what}")


def require_program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test (in CI: fail it), naming the package to install."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed (apt-get install {package})"
        _refuse(reason)
    return path


def require_module(name: str, package: str) -> None:
    """Skip the test unless a Python module is installed (in CI: fail it), naming the package to install."""
    if find_spec(name) is None:
        _refuse(f"{name} is not installed (pip install {package})")


def _refuse(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

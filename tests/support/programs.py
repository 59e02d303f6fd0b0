"""Programs that tests run: missing ones skip a test on a developer's machine and fail it in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test (in CI: fail it), naming the package to install."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed (apt-get install {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

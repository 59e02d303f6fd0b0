"""Finding the borg program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from typing import NamedTuple

from regstore.errors import StorageFailedError

VARIABLE = "REGSTORE_BORG"
OLDEST = (1, 2)
SAFE = (1, 2, 5)
"""Older ones can be made to lose archives in a repository that somebody tampered with (CVE-2023-36811)."""

_INSTALL = "install it: apt-get install borgbackup, or pip install 'regstore[borg]' where compilers and headers are"


class Program(NamedTuple):
    """The borg program: its path and version."""

    path: str
    version: tuple[int, ...]

    @property
    def warning(self) -> str:
        """What its operator should know of it, or empty."""
        if self.version >= SAFE:
            return ""
        shown = ".".join(map(str, self.version))
        return f"borg {shown} at {self.path} is older than 1.2.5, which fixes CVE-2023-36811: use a newer one"


def find_program() -> Program:
    """Find the program that `REGSTORE_BORG` names, or else `borg` in `PATH`.

    Raises:
        StorageFailedError: there is none, or it is too old.
    """
    name = os.environ.get(VARIABLE) or "borg"
    path = shutil.which(name)
    if path is None:
        raise StorageFailedError(f"there is no program {name}", hint=_INSTALL, code="borg-missing")
    return _examine(os.path.abspath(path))  # it runs in other directories too


@lru_cache(maxsize=4)
def _examine(path: str) -> Program:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageFailedError(f"{path} cannot be run: {error}", hint=_INSTALL, code="borg-missing") from error
    match = re.search(r"borg[^0-9]*([0-9]+(?:\.[0-9]+)+)", done.stdout)
    if done.returncode or match is None:
        raise StorageFailedError(f"{path} is no borg: {done.stdout[:100]!r}", hint=_INSTALL, code="borg-missing")
    version = tuple(map(int, match[1].split(".")))
    if not OLDEST <= version < (2,):
        raise StorageFailedError(
            f"{path} is borg {match[1]}; regstore needs 1.2 to 1.4", hint=_INSTALL, code="borg-version"
        )
    return Program(path, version)

"""Directories with regstore and everything that it needs, for hosts where nothing can be installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Of the 400 services that botocore describes, those that the S3 driver and the ways to find credentials call.
_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}


def make_directory(wheel: Path, directory: Path, python: str) -> None:
    """Install a wheel and its dependencies into a new directory that `python3 -I DIRECTORY` runs.

    Args:
        wheel: of regstore.
        directory: it must not exist.
        python: the version that will run it, such as `3.11`; the machine is one as this.
    """
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={python}"),
            *("--target", str(directory), str(wheel)),
        ],
        check=True,
    )
    shutil.copy(HERE / "app_main.py", directory / "__main__.py")
    _trim(directory)


def _trim(directory: Path) -> None:
    """Remove what is never read here: 60 MB of 75."""
    shutil.rmtree(directory / "bin", ignore_errors=True)
    for path in (directory / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in _SERVICES:
            shutil.rmtree(path)
    # For other Pythons than CPython; the loader in C, of which only a registry's config.yml would profit.
    for path in (*directory.glob("zstandard/_cffi*.so"), *directory.glob("yaml/_yaml*.so")):
        path.unlink()
    # Where the wheel lay on this host, and a list of files that is no longer true.
    for path in (*directory.glob("*.dist-info/direct_url.json"), *directory.glob("*.dist-info/RECORD")):
        path.unlink()
    libraries = [str(path) for path in directory.rglob("*.so")]
    if libraries and shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)

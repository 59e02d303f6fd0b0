"""The bill of materials: what regstore needs when it runs, as CycloneDX JSON."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from runtime import HERE

_CHECKOUT = HERE.parents[1]


def write_bill(wheel: Path, file: Path) -> None:
    """Install a wheel into an environment of its own, and write down what is there.

    Args:
        wheel: of regstore.
        file: where.
    """
    with tempfile.TemporaryDirectory() as work:
        venv.create(Path(work, "venv"))
        python = str(Path(work, "venv/bin/python"))
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(wheel)], check=True)
        # The version is dynamic, and the generator reads the file alone.
        text = (_CHECKOUT / "pyproject.toml").read_text()
        project = Path(work, "pyproject.toml")
        project.write_text(text.replace('dynamic = ["version"]', f'version = "{wheel.name.split("-")[1]}"'))
        generator = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(project)]
        options = ["--mc-type=application", "--output-reproducible", "--of=JSON", f"--output-file={file}"]
        subprocess.run([*generator, *options, python], check=True)

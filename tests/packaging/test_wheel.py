"""What is shipped works away from the checkout: the wheel, installed into an empty environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.images import layer
from support.volume import VolumeWriter, blob_key, tag_link_key

CHECKOUT = Path(__file__).resolve().parents[2]


def run(
    command: list[str], directory: Path, expect: int = 0, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= extra or {}
    done = subprocess.run(command, cwd=directory, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == expect, f"{command}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    directory = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), "."], CHECKOUT)
    (built,) = directory.iterdir()
    return built


def test_wheel_has_both_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    tops = {name.split("/")[0] for name in names}
    assert {"regstore/__init__.py", "regstore/py.typed", "regstore/cli/main.py"} <= names
    assert {
        "regstore_drivers/__init__.py",
        "regstore_drivers/py.typed",
        "regstore_drivers/testing/__init__.py",
    } <= names
    assert {name for name in tops if not name.endswith(".dist-info")} == {"regstore", "regstore_drivers"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    run([str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel)], tmp_path)
    root = tmp_path / "volume"
    writer = VolumeWriter(root)
    image = writer.push_image("team/app", "v1", [layer("app", 5000)])
    lost = writer.blob(layer("lost", 2000))
    program = "import regstore, regstore_drivers; print(regstore.__file__, regstore_drivers.__file__)"
    collect = [str(programs / "regstore"), "gc", "run", "--offline", "--grace", "0s", "--json", str(root)]

    version = run([str(programs / "regstore"), "--version"], tmp_path).stdout
    modules = run([str(programs / "python"), "-c", program], tmp_path).stdout.split()
    document = json.loads(run(collect, tmp_path, extra={"XDG_STATE_HOME": str(tmp_path / "state")}).stdout)

    assert wheel.name.split("-")[1] in version
    assert all(path.startswith(str(tmp_path)) for path in modules)
    assert document["exit_code"] == 0
    assert {item["kind"]: item["count"] for item in document["removed"]}["blob"] == 1
    assert not (root / blob_key(lost)).exists()
    assert all((root / blob_key(digest)).is_file() for digest in image.digests)
    assert (root / tag_link_key("team/app", "v1")).read_text() == image.digest

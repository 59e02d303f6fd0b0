"""The first thing that anybody runs: `scripts/quickstart`, in a copy of the checkout where nothing is prepared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_registry import MakeRegistry
from support.pusher import Pusher

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE_VOLUME = CHECKOUT / "scripts" / "sample-volume"


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["XDG_STATE_HOME"] = str(directory / "state")
    return subprocess.run(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True
    )


@pytest.mark.registry
def test_sample_volume_is_whole(make_registry: MakeRegistry, tmp_path: Path) -> None:
    root = tmp_path / "sample"
    done = run([sys.executable, str(SAMPLE_VOLUME), str(root)], tmp_path)
    registry = make_registry(root)

    with Pusher(registry.url) as client:
        pulled = client.pull_all()

    assert done.returncode == 0, done.stderr
    assert {repository for repository, _ in pulled} == {"ci/nightly", "shop/api", "shop/api/worker", "shop/web"}


def test_sample_volume_replaces_only_a_sample(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    (root / "file").write_text("precious")

    refused = run([sys.executable, str(SAMPLE_VOLUME), str(root)], tmp_path)

    assert refused.returncode == 2
    assert "nothing was changed" in refused.stderr
    assert [path.name for path in root.iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.registry
def test_quickstart(make_registry: MakeRegistry, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for name in ("regstore", "drivers", "scripts", "tests/support"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)

    done = run(["./scripts/quickstart"], copy)
    again = run(["./scripts/quickstart", "sample-volume"], copy)

    assert done.returncode == 0, done.stdout + done.stderr
    assert again.returncode == 0, again.stdout + again.stderr
    assert " MiB freed." in done.stdout
    assert " 0 MiB freed." not in done.stdout
    registry = make_registry(copy / "sample-volume")
    with Pusher(registry.url) as client:
        assert ("shop/api", "2.1") in client.pull_all()


def test_quickstart_refuses_what_is_no_option(tmp_path: Path) -> None:
    done = run([str(CHECKOUT / "scripts" / "quickstart"), "--grace"], tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr
    assert list(tmp_path.iterdir()) == []

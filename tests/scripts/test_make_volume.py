"""The synthetic volume: the counts it promises, and that a registry can read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures_registry import MakeRegistry
from support.pusher import Pusher
from support.registry import garbage_collect

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make-volume"
SMALL = ["--repositories", "30", "--tags", "300", "--blobs", "900", "--uploads", "3", "--json"]


def make_volume(root: Path, *arguments: str, expect: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root), *SMALL, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout) if expect == 0 else {"error": done.stderr}


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.registry
def test_registry_serves_it_and_its_collector_ends(make_registry: MakeRegistry, tmp_path: Path) -> None:
    root = tmp_path / "volume"
    counts = make_volume(root)
    registry = make_registry(root)
    with Pusher(registry.url) as client:
        repositories = client.catalog()
        pulled = client.pull_all()

    dry_run = garbage_collect(registry.config_path, "--dry-run")

    assert dry_run.returncode == 0
    assert f"{counts['unreferenced_blobs']} blobs and 0 manifests eligible for deletion" in dry_run.stdout
    assert len(repositories) == counts["repositories"] == 30
    assert len(pulled) == counts["tags"] == 300


def test_counts_are_what_is_there(tmp_path: Path) -> None:
    root = tmp_path / "volume"

    counts = make_volume(root)

    v2 = root / "docker/registry/v2"
    blobs = list(v2.glob("blobs/sha256/*/*/data"))
    assert counts["blobs"] == len(blobs) == 900
    assert counts["blob_bytes"] == sum(path.stat().st_size for path in blobs)
    assert counts["tags"] == len(list(v2.glob("repositories/**/_manifests/tags/*/current/link"))) == 300
    assert counts["tag_index_entries"] == len(list(v2.glob("repositories/**/index/sha256/*/link")))
    assert counts["manifests"] == len(list(v2.glob("repositories/**/revisions/sha256/*/link"))) == 285
    assert counts["layer_links"] == len(list(v2.glob("repositories/**/_layers/sha256/*/link")))
    assert counts["uploads"] == len(list(v2.glob("repositories/**/startedat"))) == 3


def test_same_seed_makes_the_same_volume(tmp_path: Path) -> None:
    make_volume(tmp_path / "a", "--jobs", "1")
    make_volume(tmp_path / "b", "--jobs", "3")
    make_volume(tmp_path / "c", "--seed", "other")

    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    assert snapshot(tmp_path / "a").keys() != snapshot(tmp_path / "c").keys()


def test_sparse_layers_have_sizes_and_take_no_space(tmp_path: Path) -> None:
    counts = make_volume(tmp_path, "--sparse")

    stored = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("data"))
    assert counts["blob_bytes"] > 100_000_000
    assert stored < 10_000_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tags", "10"], "too few for 30 repositories"),
        (["--manifests", "400"], "tags are too few"),
        (["--blobs", "500"], "leave no layers"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    assert words in make_volume(tmp_path / "volume", *arguments, expect=2)["error"]
    assert not (tmp_path / "volume").exists()


def test_existing_data_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")

    assert "not empty" in make_volume(tmp_path, expect=2)["error"]
    assert snapshot(tmp_path) == {"file": b"precious"}

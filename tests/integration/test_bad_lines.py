"""Backups, restores and migrations by the command line, with a real S3 server behind a bad line."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from support.backup import contents_of
from support.bad_line import Fault, Hangs, Lies, bad_line, cuts_often, fails_often, is_old
from support.collection import Done, run_cli
from support.images import layers
from support.s3_server import REGION
from support.seaweed import SeaweedServer
from support.volume import VolumeWriter

pytestmark = pytest.mark.s3


def make_volume(root: Path, large: int) -> None:
    """Images with blobs of all sizes: some too small to be alone, one that goes in parts."""
    writer = VolumeWriter(root)
    dice = random.Random(5)
    for number in range(6):
        writer.push_image("app", f"v{number}", [dice.randbytes(300_000), *layers(2, number)])
    writer.push_image("large", "v1", [dice.randbytes(large)])


@pytest.mark.parametrize(
    ("make_fault", "met"),
    [
        pytest.param(lambda: fails_often, {"500", "503", "503 done"}, marks=pytest.mark.slow),
        (lambda: cuts_often, {"cut", "drop", "drop done"}),
        (lambda: is_old, {"501"}),
        (Lies, {"200"}),
        pytest.param(Hangs, {"hang"}, marks=pytest.mark.slow),
    ],
    ids=["500 and 503", "cut off", "neither checksums nor conditions", "errors in a 200", "hanging"],
)
def test_everything_arrives(
    tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str, make_fault: Callable[[], Fault], met: set[str]
) -> None:
    make_volume(tmp_path / "old", 66 << 20)
    expected = contents_of(tmp_path / "old")
    credentials = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
    with ExitStack() as stack:
        line = stack.enter_context(bad_line(seaweed.endpoint, make_fault()))

        def place(prefix: str) -> str:
            return f"s3://{s3_bucket}/{prefix}?endpoint={quote(line.endpoint, safe=':/')}&region={REGION}"

        def run(*words: object) -> Done:
            return run_cli(tmp_path / "state", *words, environment=credentials)

        run("backup", "init", place("store")).expect(0)
        created = run("backup", "create", "--json", tmp_path / "old", place("store")).expect(0).json["snapshot"]
        assert created["complete"]
        run("backup", "verify", "--full", place("store")).expect(0)
        again = run("backup", "create", "--json", tmp_path / "old", place("store")).expect(0).json["snapshot"]
        assert again["new_blobs"] == 0
        run("restore", place("store"), place("restored")).expect(0)
        run("migrate", "run", "--cut-over", place("restored"), tmp_path / "new").expect(0)
        assert contents_of(tmp_path / "new") == expected
        run("migrate", "run", "--multipart-threshold", "5MiB", tmp_path / "new", place("moved")).expect(0)
        run("migrate", "run", place("moved"), place("second")).expect(0)
        run("migrate", "verify", "--readback", place("moved"), place("second")).expect(0)
        run("restore", place("store"), tmp_path / "back").expect(0)
        assert contents_of(tmp_path / "back") == expected
        assert met <= set(line.met)

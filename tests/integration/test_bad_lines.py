"""Backups, restores and migrations by the command line, with a real S3 server behind a bad line."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from support.backup import contents_of
from support.bad_line import Asked, Fault, Hangs, Lies, bad_line, cuts_often, fails_often, is_old
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


class StopsAtPart:
    """One part of an upload never gets an answer; all that come are noted."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.came: list[int] = []
        self.reached = threading.Event()

    def __call__(self, dice: random.Random, asked: Asked) -> str:
        if not (found := re.search(r"partNumber=(\d+)", asked.query)):
            return ""
        self.came.append(int(found[1]))
        if self.came.count(self._number) > 1 or self.came[-1] != self._number:
            return ""
        self.reached.set()
        return "hang"


@pytest.mark.parametrize("command", ["backup", "restore", "migrate"])
def test_a_killed_upload_goes_on_with_its_parts(
    tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str, command: str
) -> None:
    make_volume(tmp_path / "old", 70 << 20)
    credentials = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
    fault = StopsAtPart(3)
    with bad_line(seaweed.endpoint, fault) as line:
        place = f"s3://{s3_bucket}/x?endpoint={quote(line.endpoint, safe=':/')}&region={REGION}"

        def run(*words: object) -> Done:
            return run_cli(tmp_path / "state", *words, environment=credentials)

        words: list[object] = [command, "run", tmp_path / "old", place]
        if command == "backup":
            run("backup", "init", place).expect(0)
            words = ["backup", "create", tmp_path / "old", place]
        elif command == "restore":
            run("backup", "init", tmp_path / "store").expect(0)
            run("backup", "create", tmp_path / "old", tmp_path / "store").expect(0)
            words = ["restore", tmp_path / "store", place]
        process = subprocess.Popen(
            [sys.executable, "-m", "regstore", *map(str, words)],
            env={**os.environ, **credentials, "XDG_STATE_HOME": str(tmp_path / "state")},
        )
        assert fault.reached.wait(60)
        process.kill()
        process.wait()
        assert sorted(fault.came) == [1, 2, 3]

        run(*words).expect(0)

        assert sorted(fault.came) == [1, 2, 3, 3, 4, 5]
        if command == "backup":
            run("restore", place, tmp_path / "new").expect(0)
        else:
            run("migrate", "run", place, tmp_path / "new").expect(0)
        assert contents_of(tmp_path / "new") == contents_of(tmp_path / "old")
        assert "Uploads" not in seaweed.client().list_multipart_uploads(Bucket=s3_bucket)

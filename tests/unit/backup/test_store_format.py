"""The day when regstore is gone: the script of the documentation restores a store."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from regstore import backup
from support.backup import back_up, contents_of
from support.images import layers
from support.volume import VolumeWriter

PAGE = Path(__file__).parents[3] / "docs/store-format.md"


def script() -> str:
    """Return the script of the page."""
    (found,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def test_the_script_is_short() -> None:
    lines = [line for line in script().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 20


def test_the_script_restores_every_key_and_byte(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path / "volume")
    first = writer.push_image("app", "v1", [b"large" * 30_000, *layers(2, "app")])
    writer.push_index("app", "multi", [first])
    writer.push_image("app/nested/web", "v1", layers(1, "web"), algorithm="sha512")
    moved = writer.push_image("app", "moved", layers(1, "former"))
    writer.push_image("app", "moved", layers(1, "latter"))
    schema1 = writer.push_schema1("old", "v1", layers(1, "old"))
    writer.signature_link("old", schema1.digest, b"a signature")
    writer.blob(b"nobody's")
    store = backup.init_store(str(tmp_path / "store"))
    back_up(tmp_path / "volume", store)
    writer.push_image("app", "v2", layers(2, "later"))
    assert back_up(tmp_path / "volume", store).head.is_complete
    (tmp_path / "restore.sh").write_text(script())

    subprocess.run(["sh", "restore.sh", "store", "new"], cwd=tmp_path, check=True)

    assert contents_of(tmp_path / "new") == contents_of(tmp_path / "volume")
    assert moved.digest in str(contents_of(tmp_path / "new").values())

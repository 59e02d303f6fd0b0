"""The Dockerfile, without a daemon: its instructions, and its steps done in a scratch directory."""

from __future__ import annotations

import json
import re
import shutil
import sys
import venv
from pathlib import Path

import pytest

from support.images import layers
from support.packaging import CHECKOUT, Program, run
from support.programs import require_root
from support.volume import VolumeWriter

FROM = re.compile(r"python:3\.[0-9]+-slim-[a-z]+( AS [a-z]+)?")


def instructions() -> list[tuple[str, str]]:
    """Return words and arguments, with lines that go on put together."""
    text = re.sub(r"^#.*\n", "", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def test_instructions() -> None:
    found = instructions()
    last_stage = found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]

    assert all(FROM.fullmatch(arguments) for word, arguments in found if word == "FROM")
    assert ("USER", "65532:65532") in last_stage
    assert json.loads(dict(last_stage)["ENTRYPOINT"]) == ["regstore"]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in found} <= known


def test_what_is_copied_is_sent_to_the_daemon() -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    sources = [
        source
        for word, arguments in instructions()
        if word == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]

    assert ignored[0] == "*"
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}


@pytest.mark.slow
def test_its_steps(tmp_path: Path) -> None:
    """What is copied is enough to install, and a report needs no right to write anywhere."""
    require_root("become another user")
    source = tmp_path / "source"
    source.mkdir()
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = CHECKOUT / line[1:]
            (shutil.copytree if path.is_dir() else shutil.copy)(path, source / path.name)
    venv.create(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", tmp_path / "venv/bin/python"]
    run([*pip, "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", source], tmp_path)
    VolumeWriter(tmp_path / "volume").push_image("team/app", "v1", layers(1, "app"))
    # Only root can read the directories of tests, so its rights to write are taken instead of its name.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--securebits=+noroot"]
    read_only = f'mount --make-rprivate / && mount -o bind,ro {tmp_path} {tmp_path} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", read_only, "sh", *drop, str(tmp_path / "venv/bin/regstore")]
    program = Program(command, tmp_path, variables={"XDG_STATE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})

    done = program.run("report", "capacity", "--json", tmp_path / "volume", expect=0)

    assert json.loads(done.stdout)["totals"]["tag_count"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "venv", "volume"]

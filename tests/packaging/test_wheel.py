"""What is shipped works away from the checkout: the wheel, installed into an empty environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.images import layer
from support.packaging import Program, command_paths, run
from support.volume import VolumeWriter, blob_key, tag_link_key


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


def test_installed_wheel_works_away_from_the_checkout(
    wheel: Path, environment: Path, installed: Program, tmp_path: Path
) -> None:
    root = tmp_path / "volume"
    writer = VolumeWriter(root)
    image = writer.push_image("team/app", "v1", [layer("app", 5000)])
    lost = writer.blob(layer("lost", 2000))
    program = "import regstore, regstore_drivers; print(regstore.__file__, regstore_drivers.__file__)"

    version = installed.run("--version", expect=0).stdout
    modules = run([environment / "bin" / "python", "-c", program], tmp_path).stdout.split()
    document = json.loads(installed.run("gc", "run", "--offline", "--grace", "0s", "--json", root, expect=0).stdout)

    assert wheel.name.split("-")[1] in version
    assert all(path.startswith(str(environment)) for path in modules)
    assert document["exit_code"] == 0
    assert {item["kind"]: item["count"] for item in document["removed"]}["blob"] == 1
    assert not (root / blob_key(lost)).exists()
    assert all((root / blob_key(digest)).is_file() for digest in image.digests)
    assert (root / tag_link_key("team/app", "v1")).read_text() == image.digest


def test_half_an_upgrade_is_a_failure(environment: Path, tmp_path: Path) -> None:
    """Python's own exit code would say that all is done, with findings."""
    (tmp_path / "click.py").write_text("raise ImportError('being upgraded')")
    done = subprocess.run(
        [environment / "bin" / "regstore", "gc", "run", "main"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 4
    assert "being upgraded" in done.stderr


def test_every_command_has_help(environment: Path, installed: Program, tmp_path: Path) -> None:
    paths = command_paths(environment, tmp_path)

    assert len(paths) > 30
    for path in paths:
        shown = installed.run(*path.split()[1:], "--help", expect=0)
        assert shown.stdout.startswith(f"Usage: {path} "), path
        assert "EXIT STATUS" in shown.stdout, path
        assert shown.stderr == "", path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(installed: Program, shell: str) -> None:
    shown = installed.run("completion", shell, expect=0)

    assert "_REGSTORE_COMPLETE" in shown.stdout
    assert shown.stderr == ""


MISTAKES: list[tuple[list[str], int, str, str]] = [
    (["gcc"], 2, "", "Did you mean 'gc'?"),
    (["gc", "plan", "--gracee", "1h", "{base}"], 2, "", "Did you mean '--grace'?"),
    (["gc", "plan", "--grace", "soon", "{base}"], 2, "", "write it as 90m, 24h or 7d"),
    (["gc", "plan", "mian"], 2, "no-such-name", "do you mean main?"),
    (["backup", "list", "tape"], 2, "no-such-name", "configured: nas"),
    (["gc", "plan", "{base}/absent"], 2, "usage", "is its disk mounted?"),
    (["gc", "plan", "{base}"], 2, "no-registry", "rootdirectory"),
    (["gc", "plan", "http://127.0.0.1:5000"], 2, "usage", "name the registry's data"),
    (["gc", "run", "--registry-url", "http://127.0.0.1:1", "main"], 4, "registry-unreachable", "use --offline"),
    (["gc", "undo", "main", "20260101"], 2, "usage", "the newest runs are: none"),
    (["gc", "apply", "{base}/config.toml"], 2, "usage", "regstore gc plan --out"),
    (["backup", "create", "main", "nas"], 2, "store-missing", "regstore backup init"),
    (["backup", "init", "{base}/no/store"], 2, "store-missing", "make it, or mount its disk, first"),
    (["restore", "main", "main"], 2, "no-such-name", "configured: nas"),
    (["run", "nightly", "other"], 2, "usage", "configured: main"),
    (["--config", "{base}/none.toml", "status"], 2, "usage", "regstore config init"),
    (["metrics", "--textfile", "{base}/no/x.prom", "main"], 2, "usage", "a directory that you may write to"),
    (["report", "capacity", "--what-if", "keep 10", "main"], 2, "bad-rule", "keep-last 10"),
    (["migrate", "plan", "main", "main"], 3, "nested", "better on another disk"),
    (["luks", "check", "/dev/absent"], 2, "usage", "name the registry's directory, or the device"),
]


@pytest.mark.parametrize(("words", "code", "slug", "hint"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_answered_with_what_to_do(
    installed: Program, tmp_path: Path, words: list[str], code: int, slug: str, hint: str
) -> None:
    VolumeWriter(tmp_path / "volume").push_image("team/app", "v1", [layer("app", 500)])
    (tmp_path / "config.toml").write_text(
        f'[registry.main]\nlocation = "{tmp_path}/volume"\n[store.nas]\nlocation = "{tmp_path}/store"\n'
        '[nightly.main]\nstore = "nas"\n'
    )
    before = sorted((tmp_path / "volume/docker").rglob("*"))

    done = installed.run("--config", tmp_path / "config.toml", *(word.format(base=tmp_path) for word in words))

    assert (done.returncode, done.stdout) == (code, "")
    assert re.search(rf"^regstore: .* \[{slug}\]$" if slug else "^Error: ", done.stderr, re.MULTILINE), done.stderr
    assert hint in done.stderr
    assert sorted((tmp_path / "volume/docker").rglob("*")) == before

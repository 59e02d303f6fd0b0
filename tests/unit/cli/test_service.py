"""`regstore service` and `regstore completion`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore.service import make_cron, make_units
from support.collection import Done, run_cli
from support.images import layers
from support.programs import require_program
from support.volume import VolumeWriter

CONFIG = """
[registry.main]
location = "/srv/registry"
[registry.second]
location = "s3://bucket/x"
[store.nas]
location = "/backup/my registry"
[nightly.main]
store = "nas"
textfile = "/var/lib/node exporter/registry.prom"
[nightly.second]
store = "nas"
steps = ["backup", "drill"]
[drill]
scratch = "/srv/scratch"
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Done]:
    """A function that runs a command with a configuration."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)

    def run(*words: object, **options: Any) -> Done:
        return run_cli(tmp_path / "state", "--config", file, *words, **options)

    return run


def test_units(run: Callable[..., Done], tmp_path: Path) -> None:
    done = run("service", "install", "--at", "4:05", "--root", tmp_path / "root").expect(0)
    assert "enable --now regstore-nightly@main.timer regstore-nightly@second.timer" in done.stdout
    units = tmp_path / "root/etc/systemd/system"
    assert sorted(path.name for path in units.iterdir()) == ["regstore-nightly@.service", "regstore-nightly@.timer"]
    service = (units / "regstore-nightly@.service").read_text()
    assert f"--config {tmp_path}/config.toml run nightly -q %i" in service
    assert "ReadWritePaths=-/srv/registry\n" in service
    assert "ReadWritePaths=-/srv/scratch\n" in service
    assert 'ReadWritePaths=-"/backup/my registry"\n' in service
    assert 'ReadWritePaths=-"/var/lib/node exporter"\n' in service
    assert "s3:" not in service
    assert {"KillMode=mixed", "OOMPolicy=continue"} <= set(service.splitlines())
    assert "OnCalendar=*-*-* 04:05:00" in (units / "regstore-nightly@.timer").read_text()


def test_all_that_a_night_writes_to_may_be_written(run: Callable[..., Done], tmp_path: Path) -> None:
    """However it is named: as a URL, as a directory within it, by the registry's configuration, behind a link."""
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", layers(1, "app"))
    (tmp_path / "second").mkdir()
    (tmp_path / "second/docker").symlink_to(tmp_path / "volume/docker")
    (tmp_path / "config.yml").write_text(f"storage: {{filesystem: {{rootdirectory: {tmp_path}/second}}}}")
    (tmp_path / "config.toml").write_text(
        f"""
[registry.main]
location = "file://{tmp_path}/volume/docker/registry/v2"
[registry.second]
location = "{tmp_path}/config.yml"
[store.nas]
location = "file:///backup/my%20registry"
[store.borg]
location = "borg:/backup/borg"
scratch = "/srv/scratch"
[nightly.main]
store = "nas"
[nightly.second]
store = "borg"
steps = ["backup", "drill"]
"""
    )
    text = run("service", "install", "--dry-run").expect(0).stdout
    assert {line for line in text.splitlines() if line.startswith("ReadWritePaths=")} == {
        'ReadWritePaths=-"/backup/my registry"',
        "ReadWritePaths=-/backup/borg",
        "ReadWritePaths=-/srv/scratch",
        f"ReadWritePaths=-{tmp_path}/second",
        f"ReadWritePaths=-{tmp_path}/volume",
        f"ReadWritePaths=-{tmp_path}/volume/docker",
    }


def test_a_program_that_can_be_started_is_named(run: Callable[..., Done], tmp_path: Path) -> None:
    """Not the file of `python -m regstore`."""
    run("service", "install", "--dry-run", environment={"PATH": "/nowhere"}).expect_error(2, "no program regstore")
    program = tmp_path / "regstore"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = run("service", "install", "--dry-run", environment={"PATH": str(tmp_path)}).expect(0).stdout
    assert f"ExecStart={program} --config" in text


def test_nights_that_run_twice(run: Callable[..., Done], tmp_path: Path) -> None:
    assert run("service", "install", "--root", tmp_path).expect(0).stderr == ""
    done = run("service", "install", "--cron", "--root", tmp_path).expect(0)
    assert "systemctl disable --now regstore-nightly@main.timer" in done.stderr
    assert "rm /etc/cron.d/regstore" in run("service", "install", "--root", tmp_path).expect(0).stderr


@pytest.mark.parametrize("has_mail", [False, True])
def test_systemd_understands_them(tmp_path: Path, has_mail: bool) -> None:
    program = require_program("systemd-analyze", "systemd")
    paths = ["/srv/a b", "/srv/c%d", "/srv/o'brien", '/srv/"x']
    config = "/etc/regstore/50%'/$HOME/config.toml"
    for unit in make_units(sys.executable, config, paths, (2, 30), str(tmp_path), has_mail=has_mail):
        name = unit.path.replace("@.", "@main.")
        Path(name).write_text(unit.text)
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / "regstore-nightly@main.timer")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in done.stderr.splitlines() if "regstore" in line]
    assert complaints == []


def test_a_night_that_sends_mail_may_use_sendmail(run: Callable[..., Done], tmp_path: Path) -> None:
    def unit() -> list[str]:
        run("service", "install", "--root", tmp_path / "root").expect(0)
        text = (tmp_path / "root/etc/systemd/system/regstore-nightly@.service").read_text()
        assert "{" not in text
        return text.splitlines()

    without = unit()
    assert "NoNewPrivileges=yes" in without
    assert not any("/var/spool" in line for line in without)
    (tmp_path / "config.toml").write_text(CONFIG.replace("[nightly.main]\n", '[nightly.main]\nmail_to = "root"\n'))
    with_mail = unit()
    assert "NoNewPrivileges=no" in with_mail
    assert {"ReadWritePaths=-/var/spool/postfix", "ReadWritePaths=-/var/spool/exim4"} <= set(with_mail)
    assert "ProtectSystem=strict" in with_mail
    assert [line for line in with_mail if "spool" not in line and "/var/log" not in line and "#" not in line] == [
        "NoNewPrivileges=no" if line == "NoNewPrivileges=yes" else line for line in without if "#" not in line
    ]


def test_cron(run: Callable[..., Done], tmp_path: Path) -> None:
    run("service", "install", "--cron", "--root", tmp_path / "root").expect(0)
    text = (tmp_path / "root/etc/cron.d/regstore").read_text()
    lines = [line for line in text.splitlines() if line.startswith("30 2 * * *  root ")]
    assert [line.split()[-1] for line in lines] == ["main", "second"]
    assert text.endswith("\n")
    assert "'/a b/c\\%d'" in make_cron("/usr/bin/regstore", "/a b/c%d", ["x"], (1, 2)).text


def test_again_and_over_something_else(run: Callable[..., Done], tmp_path: Path) -> None:
    run("service", "install", "--cron", "--root", tmp_path).expect(0)
    run("service", "install", "--cron", "--at", "03:00", "--root", tmp_path).expect(0)
    file = tmp_path / "etc/cron.d/regstore"
    assert "0 3 * * *" in file.read_text()
    file.write_text("# my own\n")
    run("service", "install", "--cron", "--root", tmp_path).expect_error(3, "not regstore's")
    assert file.read_text() == "# my own\n"


def test_a_dry_run_writes_nothing(run: Callable[..., Done], tmp_path: Path) -> None:
    text = run("service", "install", "--dry-run", "--root", tmp_path / "root").expect(0).stdout
    assert "# /etc/systemd/system/regstore-nightly@.timer" in text
    assert not (tmp_path / "root").exists()


def test_wrong_use(run: Callable[..., Done], tmp_path: Path) -> None:
    assert run("service", "install", "--at", "25:00").code == 2
    (tmp_path / "config.toml").write_text("")
    run("service", "install").expect_error(2, "nightly")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Callable[..., Done], shell: str) -> None:
    assert "_REGSTORE_COMPLETE" in run("completion", shell).expect(0).stdout


BASH = """
eval "$(regstore completion bash)"
compopt() { :; }  # works only where somebody pressed Tab
COMP_WORDS=(regstore gc plan ma)
COMP_CWORD=3
_regstore_completion regstore
echo "${COMPREPLY[@]}"
"""


def test_bash_offers_names(tmp_path: Path) -> None:
    (tmp_path / "regstore").mkdir()
    (tmp_path / "regstore" / "config.toml").write_text(CONFIG)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PATH": path}
    done = subprocess.run(["bash", "-c", BASH], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("main\n", "")


def test_names_are_completed(tmp_path: Path) -> None:
    file = tmp_path / "regstore" / "config.toml"
    file.parent.mkdir()
    file.write_text(CONFIG)
    program = Path(sys.executable).with_name("regstore")

    def complete(*words: str) -> list[str]:
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "_REGSTORE_COMPLETE": "bash_complete"}
        environment |= {"COMP_WORDS": " ".join(("regstore", *words)), "COMP_CWORD": str(len(words))}
        done = subprocess.run([program], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    volume, store = tmp_path / "volume", tmp_path / "store"
    for name in ("team/app", "team/web", "other"):
        VolumeWriter(volume).push_image(name, "v1", [b"x"])
    for words in (["init", store], ["create", volume, store]):
        run_cli(tmp_path / "state", "backup", *words).expect(0)
    listed = run_cli(tmp_path / "state", "backup", "list", "--json", store).json["snapshots"]
    file.write_text(CONFIG.replace("/srv/registry", str(volume)).replace("/backup/my registry", str(store)))
    teams = ["plain,team/app", "plain,team/web"]
    assert complete("gc", "plan", "main", "--repository", "team") == teams
    assert complete("gc", "plan", str(volume), "--repository", "o") == ["plain,other"]
    assert complete("restore", "nas", str(tmp_path / "new"), "--repository", "team/") == teams
    assert complete("migrate", "run", "main", str(tmp_path / "new"), "--repository", "team/") == teams
    assert complete("restore", "nas", "--snapshot", "") == ["plain,latest", f"plain,{listed[0]['id']}"]
    assert complete("backup", "show", "nas", listed[0]["id"][:2]) == [f"plain,{listed[0]['id']}"]
    assert complete("gc", "plan", "nothing", "--repository", "team") == []
    assert complete("drill", "s3://bucket/x", "--repository", "team") == []
    assert "plain,main" in complete("gc", "plan", "ma")
    assert "plain,nas" in complete("backup", "create", "main", "n")
    assert "plain,check" in complete("luks", "c")
    file.write_text("broken")
    assert "plain,main" not in complete("gc", "plan", "ma")

"""`regstore config`, and what a configuration does to other commands."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from regstore.cli.main import _COMMANDS, options_of
from regstore.cli.option_names import OPTION_NAMES
from regstore.registry.host import find_registries
from support.collection import Done, run_cli
from support.images import layers
from support.programs import require_root
from support.volume import VolumeWriter


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", layers(1, "app"))
    return tmp_path / "volume"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """A function that writes a configuration and runs a command with it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    def run(text: str, *words: object, **options: Any) -> Done:
        file = tmp_path / "home" / "regstore" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return run_cli(tmp_path / "state", *words, **options)

    return run


def named(volume: Path, *lines: str) -> str:
    return "\n".join([f'[registry.main]\nlocation = "{volume}"', *lines])


def leaves(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from leaves(inner)
    else:
        yield command


def test_the_list_of_options_is_that_of_the_commands() -> None:
    words = _COMMANDS.keys() - {"config", "service"}  # they serve the configuration itself
    commands = [importlib.import_module(_COMMANDS[word][0]).command for word in words]
    assert {name for command in commands for leaf in leaves(command) for name in options_of(leaf)} == OPTION_NAMES


class TestNames:
    def test_a_registry(self, run: Callable[..., Done], volume: Path) -> None:
        document = run(named(volume), "gc", "plan", "--json", "main").expect(0).json
        assert document["location"] == f"file://{volume}"

    def test_a_registry_and_a_store(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        text = named(volume, f'[store.nas]\nlocation = "{tmp_path / "store"}"')
        run(text, "backup", "init", "nas").expect(0)
        run(text, "backup", "create", "main", "nas").expect(0)
        assert len(run(text, "backup", "list", "--json", "nas").expect(0).json["snapshots"]) == 1
        (tmp_path / "new").mkdir()
        run(text, "restore", "nas", tmp_path / "new").expect(0)

    def test_a_directory_of_that_name(
        self, run: Callable[..., Done], volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "main").mkdir()
        monkeypatch.chdir(tmp_path)
        assert run(named(volume), "gc", "plan", "--json", "main").expect(0).json["location"] == f"file://{volume}"
        run(named(volume), "gc", "plan", "./main").expect_error(2, "registry")

    def test_a_word_that_is_neither_name_nor_path(
        self, run: Callable[..., Done], volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = named(volume, f'[store.nas]\nlocation = "{tmp_path / "store"}"')
        run(text, "fsck", "mian").expect_error(2, "[no-such-name]", "do you mean main?")
        run(text, "backup", "create", "main", "tape").expect_error(2, "no store is called tape", "configured: nas")
        run("", "gc", "plan", "main").expect_error(2, str(tmp_path / "main"), "[registry.main]")
        run(text, "backup", "init", "tape").expect(0)
        assert (tmp_path / "tape").is_dir()

    def test_another_file(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        (tmp_path / "other.toml").write_text(f'[registry.second]\nlocation = "{volume}"')
        run("", "--config", tmp_path / "other.toml", "gc", "plan", "second").expect(0)
        run("", "--config", tmp_path / "none.toml", "gc", "plan", "second").expect_error(2, "none.toml")

    def test_both_ends_of_a_migration(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        text = named(volume, 'registry_url = "http://127.0.0.1:1"', f'[registry.new]\nlocation = "{tmp_path / "new"}"')
        run(text, "migrate", "run", "main", "new").expect(0)
        assert (tmp_path / "new" / "docker").is_dir()

    def test_the_disk_under_a_registry(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        config = tmp_path / "config.yml"
        config.write_text(f"storage: {{filesystem: {{rootdirectory: {volume}}}}}")
        for text in (named(volume), named(config)):
            done = run(text, "luks", "check", "--json", "main")
            assert (done.json["target"], done.json["location"]) == ("directory", str(volume))
        config.write_text("storage: {s3: {bucket: x, region: y}}")
        run(named(config), "luks", "check", "main").expect_error(2, "bucket")


class TestOrder:
    """Flag, environment, name, command, default."""

    def jobs(self, run: Callable[..., Done], text: str, plan: Path, *words: object) -> int:
        run(text, "gc", "plan", "--out", plan, *words, "main").expect(0)
        count: int = json.loads(plan.read_text().splitlines()[0])["options"]["jobs"]
        return count

    def test_each_step(
        self, run: Callable[..., Done], volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = tmp_path / "plan"
        command, name = "[gc.plan]\njobs = 2", "jobs = 3"
        assert self.jobs(run, named(volume), plan) == 16
        assert self.jobs(run, named(volume, command), plan) == 2
        assert self.jobs(run, named(volume, name, command), plan) == 3
        monkeypatch.setenv("REGSTORE_GC_PLAN_JOBS", "4")
        assert self.jobs(run, named(volume, name, command), plan) == 4
        assert self.jobs(run, named(volume, name, command), plan, "--jobs", 5) == 5

    def test_an_option_that_this_command_does_not_have(self, run: Callable[..., Done], volume: Path) -> None:
        run(named(volume, "keep_daily = 7"), "gc", "plan", "main").expect(0)

    @pytest.mark.parametrize("value", ['"http://127.0.0.1:1"', '["http://127.0.0.1:1"]'])
    @pytest.mark.parametrize("table", ["", "[gc.plan]\n"], ids=["of the registry", "of the command"])
    def test_one_value_of_an_option_that_takes_several(
        self, run: Callable[..., Done], volume: Path, tmp_path: Path, table: str, value: str
    ) -> None:
        plan = tmp_path / "plan"
        run(named(volume, f"{table}registry_url = {value}"), "gc", "plan", "--out", plan, "main").expect(0)
        assert json.loads(plan.read_text().splitlines()[0])["options"]["registry_urls"] == ["http://127.0.0.1:1"]

    def test_a_value_of_another_type(self, run: Callable[..., Done], volume: Path) -> None:
        done = run(named(volume, 'upload_age = "soon"'), "gc", "plan", "main")
        assert done.code == 2
        assert "soon" in done.stderr


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[registri.main]", "registry"),
            ("[registry.main]", "no location"),
            ('[registry.main]\nlocation = ""', "no location"),
            ('[registry."a b"]\nlocation = "x"', "no name"),
            ("registry = 3", "no table"),
            ('[registry.main]\nlocation = "x"\nregistri_url = "y"', "registry_url"),
            ("[gc.plan]\nuplod_age = 3", "upload_age"),
            ("[gc.plan]\nkeep_daily = 3", "[gc.plan] has no keep_daily"),
            ("[gc.plann]\njobs = 3", "plann"),
            ("gc = 3", "no table"),
            ("[registry", "no TOML"),
        ],
        ids=str,
    )
    def test_they_are_told(self, run: Callable[..., Done], volume: Path, text: str, words: str) -> None:
        run(text, "gc", "plan", volume).expect_error(2, words)
        run(text, "config", "check").expect_error(2, words)

    def test_a_table_of_another_command_is_seen_by_check(self, run: Callable[..., Done], volume: Path) -> None:
        text = "[fsck]\nkeep_daily = 3"
        run(text, "gc", "plan", volume).expect(0)
        run(text, "config", "check").expect_error(2, "keep_daily")

    def test_a_file_that_others_may_write(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        require_root("be protected from others")
        run(named(volume), "gc", "plan", "main").expect(0)
        (tmp_path / "home/regstore/config.toml").chmod(0o666)
        run(named(volume), "gc", "plan", "main").expect_error(2, "written by others")

    def test_without_any_file(self, run: Callable[..., Done], tmp_path: Path) -> None:
        run("", "config", "show").expect(0)
        (tmp_path / "home/regstore/config.toml").unlink()
        run_cli(tmp_path / "state", "config", "check").expect_error(2, "config init")


class TestShow:
    def test_each_value_and_its_origin(
        self, run: Callable[..., Done], volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = tmp_path / "config.yml"
        config.write_text(f"storage: {{filesystem: {{rootdirectory: {volume}}}}}")
        monkeypatch.setenv("REGSTORE_GC_PLAN_JOBS", "3")
        text = named(config, 'registry_url = ["http://a", "http://b"]', "[gc.run]\njobs = 4")
        lines = run(text, "config", "show", "--origin").expect(0).stdout.splitlines()
        assert any("registry.main.registry_url" in line and "config.toml [registry.main]" in line for line in lines)
        assert any("registry.main.rootdirectory" in line and str(config) in line for line in lines)
        assert any(line.startswith("gc.run.jobs") and "[gc.run]" in line for line in lines)
        assert any(line.startswith("REGSTORE_GC_PLAN_JOBS") and "environment" in line for line in lines)
        values = run(text, "config", "show", "--json").expect(0).json["values"]
        assert {"key": "gc.run.jobs", "value": 4, "origin": f"{tmp_path}/home/regstore/config.toml [gc.run]"} in values

    def test_nights_and_no_secret(self, run: Callable[..., Done], volume: Path) -> None:
        night = '[nightly.main]\nsteps = ["gc"]\nrpo = "26h"\nwebhook_url = "https://hooks.example/T0/hunter2"'
        shown = run(named(volume, "", night), "config", "show", "--origin").expect(0).stdout
        rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("nightly.")}
        assert set(rows) == {"nightly.main.steps", "nightly.main.rpo", "nightly.main.webhook_url"}
        assert "https://hooks.example/..." in rows["nightly.main.webhook_url"]
        assert "[nightly.main]" in rows["nightly.main.rpo"]
        assert "hunter2" not in shown


def test_status_of_a_mistyped_name(run: Callable[..., Done], volume: Path) -> None:
    run(named(volume), "status", "mian").expect_error(2, "no-such-name", "main")


class TestCheck:
    def check(self, run: Callable[..., Done], storage: str, mode: int = 0o640) -> set[str]:
        config = Path(os.environ["XDG_CONFIG_HOME"]).parent / "registry.yml"
        config.write_text(storage)
        config.chmod(mode)
        done = run(named(config), "config", "check", "--json")
        assert done.code == int(any(severity != "info" for _, severity, _ in done.findings))
        assert run("", "config", "check", "--json", config).findings == done.findings
        return {name for name, _, _ in done.findings}

    def test_well(self, run: Callable[..., Done], volume: Path) -> None:
        storage = f"storage: {{filesystem: {{rootdirectory: {volume}}}, delete: {{enabled: true}}}}"
        assert self.check(run, storage) == set()
        assert "nothing to mend" in run(named(volume), "config", "check").expect(0).stdout
        assert run(named(volume), "config", "check", "-q").expect(0).stdout == ""

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            (['[nightly.main]\nsteps = ["fsk"]'], ["[nightly.main]", "fsk"]),
            (['[nightly.main]\nsteps = ["backup"]'], ["backup", "need a store"]),
            (['[nightly.main]\nrpo = "1 day"'], ["[nightly.main] rpo", "1 day"]),
            (['[gc.run]\ngrace = "1 y"'], ["[gc.run] grace", "1 y"]),
            (['jobs = "many"'], ["[registry.main] jobs", "many"]),
            (['[store.nas]\nlocation = "/"\nkeep_daily = "some"'], ["[store.nas] keep_daily", "some"]),
        ],
        ids=["step", "lacking", "rpo", "command", "registry", "store"],
    )
    def test_values_that_would_fail_at_night(
        self, run: Callable[..., Done], volume: Path, lines: list[str], words: list[str]
    ) -> None:
        run(named(volume, *lines), "config", "check").expect_error(2, *words)

    def test_nights_with_one_textfile(self, run: Callable[..., Done], volume: Path) -> None:
        nights = [f'[nightly.{name}]\ntextfile = "{volume}/x.prom"' for name in ("main", "second")]
        text = named(volume, f'[registry.second]\nlocation = "{volume}"', *nights)
        found = run(text, "config", "check", "--json").expect(1).findings
        assert found == [("config-textfile-shared", "warning", "nightly.second")]
        run(text.replace('x.prom"', 'y.prom"', 1), "config", "check").expect(0)

    def test_values_that_may_be_lists(self, run: Callable[..., Done], volume: Path) -> None:
        text = named(
            volume,
            'registry_url = "http://127.0.0.1:1"',
            '[report.capacity]\nwhat_if = ["keep-last 10", "older-than 90d"]\njobs = 2',
        )
        run(text, "config", "check").expect(0)

    def test_places_that_are_not_there(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        text = named(volume, f'[registry.gone]\nlocation = "{tmp_path}/gone"\n[store.s]\nlocation = "borg:/gone"')
        done = run(f'{text}\n[store.far]\nlocation = "s3://bucket/x"', "config", "check", "--json").expect(1)
        assert {name for name, _, _ in done.findings} == {"config-not-there"}
        assert [subject for _, _, subject in done.findings] == ["registry.gone", "store.s"]

    def test_what_makes_trouble_later(self, run: Callable[..., Done], volume: Path) -> None:
        storage = (
            f"storage: {{filesystem: {{rootdirectory: {volume}}}, cache: {{blobdescriptor: inmemory}}, "
            "maintenance: {uploadpurging: {enabled: false}}}"
        )
        assert self.check(run, storage) == {"config-delete-disabled", "config-uploads-kept", "config-cache"}

    def test_a_cache_that_is_made_to_forget(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        file = tmp_path / "config.yml"
        file.write_text(
            f"storage: {{filesystem: {{rootdirectory: {volume}}}, cache: {{blobdescriptor: inmemory}}, "
            "delete: {enabled: true}}"
        )
        assert {name for name, _, _ in run(named(file), "config", "check", "--json").expect(1).findings} == {
            "config-cache"
        }
        run(named(file, 'registry_url = "http://127.0.0.1:5000"'), "config", "check").expect(0)

    @pytest.mark.parametrize("inner", ["docker/registry/v2", "docker/registry/v2/blobs", "none"])
    def test_a_wrong_root(self, run: Callable[..., Done], volume: Path, inner: str) -> None:
        storage = f"storage: {{filesystem: {{rootdirectory: {volume}/{inner}}}, delete: {{enabled: true}}}}"
        assert self.check(run, storage) == {"config-root-wrong"}

    def test_a_bucket(self, run: Callable[..., Done]) -> None:
        storage = "storage: {s3: {bucket: b, region: r, accesskey: k, secretkey: hidden}, delete: {enabled: true}}"
        assert self.check(run, storage) == {"config-redirect"}
        assert self.check(run, storage, 0o644) == {"config-redirect", "config-secret-readable"}
        assert self.check(run, storage[:-1] + ", redirect: {disable: true}}") == set()


class TestInit:
    def host(self, base: Path) -> Path:
        root = base / "host"
        (root / "proc/77").mkdir(parents=True)
        (root / "srv").mkdir()
        (root / "srv/config.yml").write_text("storage: {}")
        (root / "proc/77/cmdline").write_bytes(b"/bin/registry\0serve\0/srv/config.yml\0")
        (root / "etc/docker/registry").mkdir(parents=True)
        (root / "etc/docker/registry/config.yml").write_text("storage: {}")
        return root

    def test_registries_are_found(self, tmp_path: Path) -> None:
        root = self.host(tmp_path)
        found = find_registries(str(root))
        assert [Path(registry.location).relative_to(root).as_posix() for registry in found] == [
            "srv/config.yml",
            "etc/docker/registry/config.yml",
        ]
        volume = tmp_path / "bare/var/lib/docker/volumes/registry/_data"
        (volume / "docker/registry/v2").mkdir(parents=True)
        assert [registry.location for registry in find_registries(str(tmp_path / "bare"))] == [str(volume)]
        assert find_registries(str(tmp_path / "nothing")) == []

    def test_what_is_written_can_be_used(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        out = tmp_path / "etc" / "config.toml"
        run("", "config", "init", "--out", out, volume).expect(0)
        run_cli(tmp_path / "state", "--config", out, "config", "check").expect(0)
        run_cli(tmp_path / "state", "--config", out, "gc", "plan", "main").expect(0)
        run("", "config", "init", "--out", out, volume).expect_error(3, "exists")

    def test_the_url_is_that_of_the_registry(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        own = tmp_path / "config.yml"
        delete = "delete: {enabled: true}"
        own.write_text(f"storage: {{filesystem: {{rootdirectory: {volume}}}, {delete}}}\nhttp: {{addr: ':5001'}}")
        text = run("", "config", "init", "--dry-run", own).expect(0).stdout
        assert 'registry_url = "http://127.0.0.1:5001"' in text.splitlines()

    def test_the_examples_in_it_are_right(self, run: Callable[..., Done], volume: Path, tmp_path: Path) -> None:
        text = run("", "config", "init", "--dry-run", volume).expect(0).stdout
        lines = [line[1:] if re.match("#[^ ]", line) else line for line in text.splitlines()]
        (tmp_path / "all.toml").write_text("\n".join(lines))
        checked = run_cli(tmp_path / "state", "--config", tmp_path / "all.toml", "config", "check", "--json").expect(1)
        assert checked.findings == [("config-not-there", "error", "store.nas")]
        shown = run_cli(tmp_path / "state", "--config", tmp_path / "all.toml", "config", "show").expect(0).stdout
        assert "store.nas.keep_daily" in shown
        assert "gc.run.grace" in shown

"""`regstore run nightly` and `regstore status`: a night on a real volume, and what is known of it in the morning."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from regstore.configuration import Configuration, Nightly, Place
from regstore.errors import UsageError
from regstore.nightly import Outcome, Step, plan_steps, run_command, run_steps
from regstore.work import Cancel
from support.collection import Done, run_cli
from support.images import layers
from support.volume import VolumeWriter

TODAY = date(2026, 11, 29)


class Host:
    """A volume, a store, a configuration with both, and the commands."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.volume, self.store = base / "volume", base / "store"
        VolumeWriter(self.volume).push_image("app", "v1", layers(1, "app"))
        self.file = base / "config.toml"

    def configure(self, *night: str, registry: Sequence[str] = (), store: Sequence[str] = ("keep_last = 3",)) -> None:
        lines = ["[registry.main]", f'location = "{self.volume}"', *registry]
        lines += ["[store.nas]", f'location = "{self.store}"', *store, "[nightly.main]", *night]
        self.file.write_text("\n".join(lines))

    def run(self, *words: object, **options: Any) -> Done:
        return run_cli(self.base / "state", "--config", self.file, *words, **options)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.configure('store = "nas"', 'rpo = "26h"')
    host.run("backup", "init", "nas").expect(0)
    return host


def configuration(
    *, store: bool = True, options: dict[str, Any] | None = None, location: str = "/srv"
) -> Configuration:
    stores = {"nas": Place("nas", "/backup", {"keep_daily": 7})} if store else {}
    return Configuration(None, {"main": Place("main", location, options or {})}, stores)


class TestPlan:
    def names(self, night: Nightly, **facts: Any) -> list[str]:
        return [step.name for step in plan_steps(night, configuration(**facts), TODAY)]

    def test_all_that_can_be_done(self) -> None:
        assert self.names(Nightly("main"), store=False) == ["fsck", "gc", "report"]
        assert self.names(Nightly("main", "nas")) == ["fsck", "backup", "verify", "prune", "gc", "report"]
        everything = Nightly("main", "nas", textfile="/x.prom")
        backup = {"header_backup": "/mnt/x.hdr"}
        assert self.names(everything, options=backup)[-2:] == ["luks", "metrics"]
        assert "luks" not in self.names(everything, options=backup, location="s3://bucket/x")

    def test_only_some_in_another_order(self) -> None:
        assert self.names(Nightly("main", "nas", ("gc", "backup"))) == ["gc", "backup"]
        assert self.names(Nightly("main", "nas", ("backup", "drill"))) == ["backup", "drill"]

    def test_a_month_verifies_every_part_of_a_store(self) -> None:
        def part(day: int) -> str:
            steps = plan_steps(Nightly("main", "nas", ("verify",)), configuration(), TODAY + timedelta(day))
            return steps[0].words[steps[0].words.index("--subset") + 1]

        assert {part(day) for day in range(30)} == {f"{number}/30" for number in range(1, 31)}

    def test_what_cannot_be_done(self) -> None:
        with pytest.raises(UsageError, match="unknown step sleep"):
            plan_steps(Nightly("main", steps=("sleep",)), configuration(), TODAY)
        with pytest.raises(UsageError, match="cannot do the step backup"):
            plan_steps(Nightly("main", steps=("backup",)), configuration(), TODAY)
        with pytest.raises(UsageError, match="cannot do the step drill"):
            plan_steps(Nightly("main", steps=("drill",)), configuration(), TODAY)


class TestRun:
    def outcomes(self, codes: dict[str, int], *, stop: bool = False, cancel_after: str = "") -> list[str]:
        cancel = Cancel()

        def run(words: Sequence[str], cancel: Cancel) -> tuple[int, str]:
            if words[0] == cancel_after:
                cancel.request()
            return codes[words[0]], ""

        steps = [Step(name, (name,)) for name in codes]
        return [outcome.word for outcome in run_steps(steps, cancel, stop_on_failure=stop, run=run)]

    def test_it_goes_on_after_a_failure(self) -> None:
        assert self.outcomes({"a": 0, "b": 4, "c": 1, "d": 5}) == ["ok", "failed", "findings", "locked"]

    def test_unless_told_otherwise(self) -> None:
        assert self.outcomes({"a": 1, "b": 3, "c": 0}, stop=True) == ["findings", "failed", "left out"]

    def test_a_request_to_stop(self) -> None:
        assert self.outcomes({"a": 0, "b": 130, "c": 0}, cancel_after="b") == ["ok", "failed", "left out"]

    def test_the_end_of_a_long_output_is_kept(self) -> None:
        code, output = run_command(["gc", "--help"], Cancel())
        assert code == 0
        assert "EXIT STATUS" in output

    def test_a_request_reaches_the_step_that_runs(self, tmp_path: Path) -> None:
        cancel = Cancel()
        VolumeWriter(tmp_path).push_image("app", "v1", layers(1, "app"))
        threading.Timer(1.5, cancel.request).start()
        code, _ = run_command(["metrics", "--listen", "127.0.0.1:0", str(tmp_path)], cancel)
        assert code == 143

    def test_nothing_is_imported_from_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which may be /tmp, where anybody can put a package of that name."""
        (tmp_path / "regstore").mkdir()
        for name in ("regstore/__init__.py", "click.py", "json.py"):
            (tmp_path / name).write_text("raise SystemExit(77)")
        monkeypatch.chdir(tmp_path)
        code, output = run_command(["--version"], Cancel())
        assert (code, output.split()[0]) == (0, "regstore,")

    def test_half_an_upgrade_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An import that fails ends Python with 1, which would be findings of a step that is done."""
        (tmp_path / "click.py").write_text("raise ImportError('being upgraded')")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        code, output = run_command(["--version"], Cancel())
        assert code == 4
        assert "being upgraded" in output

    def test_json_of_what_was_left_out(self) -> None:
        assert Outcome(Step("gc", ("gc", "run", "x")), None).to_json()["outcome"] == "left out"


class TestNight:
    def test_a_night_and_the_morning_after(self, host: Host) -> None:
        host.run("status").expect(1)
        document = host.run("run", "nightly", "--json", "main").expect(0).json
        words = {step["step"]: step["outcome"] for step in document["steps"]}
        assert words == {"fsck": "ok", "backup": "ok", "verify": "ok", "prune": "ok", "gc": "ok", "report": "ok"}
        assert host.run("run", "nightly", "-q", "main").expect(0).stdout == ""
        lines = host.run("status").expect(0).stdout.splitlines()
        assert any("100% of all blobs within 30 days" in line for line in lines)
        others = ("  luks", "  last drill")  # no step of this night
        assert not any("never" in line for line in lines if not line.startswith(others))

    def test_a_step_that_is_refused(self, host: Host) -> None:
        VolumeWriter(host.volume).layer("app", b"nobody needs this")
        host.configure('store = "nas"', registry=['grace = "0s"', 'max_delete = "0%"'])
        document = host.run("run", "nightly", "--json", "main").expect(4).json
        words = {step["step"]: step["outcome"] for step in document["steps"]}
        assert (words["gc"], words["report"]) == ("failed", "ok")
        assert "the last run of gc ended with 3" in host.run("status").expect(1).stdout

    def test_status_when_all_is_well(self, host: Host) -> None:
        host.configure('store = "nas"', 'rpo = "26h"', 'steps = ["backup"]')
        host.run("run", "nightly", "main").expect(0)
        assert host.run("status", "-q").expect(0).stdout == ""
        text = host.run("status", "main").expect(0).stdout
        assert "all well" in text
        (registry,) = host.run("status", "--json").expect(0).json["registries"].values()
        assert 0 <= registry["backup_age_seconds"] < 600
        assert registry["free_bytes"] > 0

    def test_status_before_the_first_night(self, host: Host) -> None:
        host.configure()
        text = host.run("status").expect(0).stdout
        assert "nothing is known yet" in text
        assert "all well" not in text

    def test_an_objective_that_is_missed(self, host: Host) -> None:
        host.configure('store = "nas"', 'rpo = "0s"', 'steps = ["backup"]')
        host.run("run", "nightly", "main").expect(0)
        assert "older than its objective" in host.run("status").expect(1).stdout

    def test_damage_is_a_problem_in_the_morning(self, host: Host) -> None:
        for data in host.volume.rglob("data"):
            data.write_bytes(b"rot")
        host.configure('steps = ["fsck"]')
        done = host.run("run", "nightly", "main").expect(1)
        assert "manifest-corrupt" in done.stdout
        assert "fsck found" in host.run("status").expect(1).stdout

    def test_what_steps_print_is_text(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REGSTORE_LOG_FORMAT", "json")
        (host.volume / "docker").rename(host.volume / "gone")
        host.configure('steps = ["gc"]')
        document = host.run("run", "nightly", "--json", "main").expect(4).json
        assert document["steps"][0]["output"].startswith("regstore: ")

    def test_a_registry_that_is_gone_does_not_hide_others(self, host: Host) -> None:
        with host.file.open("a") as file:
            file.write(f'\n[registry.gone]\nlocation = "{host.base}/gone"')
        text = host.run("status").expect(1).stdout
        assert str(host.volume) in text
        assert "gone" in text

    def test_a_dry_run(self, host: Host) -> None:
        lines = host.run("run", "nightly", "--dry-run", "main").expect(0).stdout.splitlines()
        assert lines[1].split() == ["backup", "regstore", "backup", "create", "-q", "main", "nas"]
        assert list(host.store.glob("snapshots/*")) == []

    def test_wrong_use(self, host: Host) -> None:
        host.run("run", "nightly", "other").expect_error(2, "[nightly.other]")
        host.configure('store = "tape"')
        host.run("run", "nightly", "main").expect_error(2, "tape")
        host.configure('stor = "nas"')
        host.run("run", "nightly", "main").expect_error(2, "store")
        host.configure("rpo = 3")
        host.run("run", "nightly", "main").expect_error(2, "rpo")
        host.configure('rpo = "soon"')
        host.run("status").expect_error(2, "soon")
        host.file.write_text("")
        host.run("status").expect_error(2, "config init")
        host.run("run", "nightly", "main").expect_error(2, "add [nightly.main]")

    def test_two_nights_at_once(self, host: Host) -> None:
        from regstore.lock import hold_lock
        from regstore_drivers.url import open_driver

        directory = host.base / "state" / "regstore"
        directory.mkdir(parents=True, exist_ok=True)
        with hold_lock(open_driver(str(directory)), "another night", key="nightly-main.lock"):
            host.run("run", "nightly", "main").expect_error(5, "another night")


def test_documents_are_json(host: Host, tmp_path: Path) -> None:
    assert json.loads(host.run("status", "--json").stdout)["command"] == "status"

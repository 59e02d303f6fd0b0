"""What metrics and status show of a night: every step and the night itself, also those that could not say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regstore.jobs import note_job, read_jobs
from regstore.lock import hold_lock
from regstore.nightly import JOBS, Outcome, Step, note_outcome
from regstore.registry import open_registry, settled_location
from regstore_drivers.url import open_driver
from support.collection import Done, run_cli
from support.images import layers
from support.volume import VolumeWriter


class Host:
    """A volume, a store, and a night with a text file."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.volume, self.store, self.textfile = base / "volume", base / "store", base / "registry.prom"
        VolumeWriter(self.volume).push_image("app", "v1", layers(1, "app"))
        self.file = base / "config.toml"
        self.configure()
        self.run("backup", "init", "nas").expect(0)

    def configure(self, *night: str, registry: str = "", store: str = "keep_last = 3") -> None:
        self.file.write_text(
            f"""
[registry.main]
location = "{self.volume}"
{registry}
[store.nas]
location = "{self.store}"
{store}
[nightly.main]
store = "nas"
textfile = "{self.textfile}"
"""
            + "\n".join(night)
        )

    def run(self, *words: object) -> Done:
        return run_cli(self.base / "state", "--config", self.file, *words)

    def metric(self, name: str) -> dict[str, float]:
        """The values of a metric, by the label `job`."""
        pattern = rf'^{name}\{{registry="{re.escape(f"file://{self.volume}")}",job="([^"]*)"[^}}]*\}} (\S+)$'
        return {job: float(value) for job, value in re.findall(pattern, self.textfile.read_text(), re.MULTILINE)}

    @property
    def codes(self) -> dict[str, float]:
        return self.metric("regstore_job_exit_code")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_good_night_shows_every_step_and_itself(host: Host) -> None:
    host.run("run", "nightly", "-q", "main").expect(0)
    steps = set(JOBS) - {"luks", "drill"}
    assert host.codes == dict.fromkeys(["nightly", *(JOBS[step] for step in steps)], 0.0)
    starts = host.metric("regstore_job_last_run_timestamp_seconds")
    assert host.metric("regstore_job_last_success_timestamp_seconds") == starts
    assert min(starts, key=lambda job: starts[job]) == "nightly"
    assert set(host.metric("regstore_job_duration_seconds")) == set(starts)
    assert "regstore_stored_bytes" in host.textfile.read_text()
    assert "nightly" in host.run("status").expect(0).stdout


def test_a_registry_that_is_not_mounted(host: Host) -> None:
    """No command can open it and note that it failed; the file of the night before must not look well."""
    host.run("run", "nightly", "-q", "main").expect(0)
    before = host.metric("regstore_job_last_success_timestamp_seconds")
    host.volume.rename(host.base / "elsewhere")
    host.run("run", "nightly", "-q", "main").expect(4)
    for job in ("fsck", "backup", "gc", "report", "metrics"):
        assert host.codes[job] == 2, job
    assert host.codes["nightly"] == 4
    assert host.codes["backup verify"] == 0
    after = host.metric("regstore_job_last_success_timestamp_seconds")
    assert all(after[job] == before[job] for job in ("fsck", "backup", "gc", "report", "metrics", "nightly"))
    assert after["backup verify"] > before["backup verify"]


def test_stop_on_failure_leaves_the_metrics_out(host: Host) -> None:
    host.run("run", "nightly", "-q", "main").expect(0)
    host.store.rename(host.base / "elsewhere")
    host.configure("stop_on_failure = true")
    host.run("run", "nightly", "-q", "main").expect(4)
    assert (host.codes["nightly"], host.codes["backup"], host.codes["fsck"]) == (4, 2, 0)
    assert host.codes["gc"] == 0  # of the night before
    assert "regstore_stored_bytes" in host.textfile.read_text()


def test_no_metrics_at_all_yet(host: Host) -> None:
    host.configure('steps = ["sleep"]')
    host.run("run", "nightly", "-q", "main").expect(2)
    assert host.codes == {"nightly": 2}


def test_another_night_still_runs(host: Host) -> None:
    with hold_lock(open_driver(str(host.base / "state/regstore")), "another", key="nightly-main.lock"):
        host.run("run", "nightly", "-q", "main").expect(5)
    assert host.codes["nightly"] == 5


def test_findings_of_the_store(host: Host) -> None:
    host.run("run", "nightly", "-q", "main").expect(0)
    for path in host.store.rglob("*"):
        if path.is_file() and path.parts[-2] not in ("snapshots", "store"):
            path.unlink()
    host.configure('steps = ["verify", "metrics"]')
    host.run("run", "nightly", "-q", "main").expect(1)
    assert host.codes["backup verify"] == 1
    findings = host.metric("regstore_findings")
    assert findings["backup verify"] >= 1


def test_a_textfile_that_cannot_be_written(host: Host) -> None:
    host.textfile = host.base / "none" / "registry.prom"
    host.configure('steps = ["gc"]')
    done = host.run("run", "nightly", "-q", "main").expect(0)
    assert "the metrics do not show how this night ended" in done.stderr
    assert str(host.textfile) in done.stderr


def test_a_state_that_cannot_be_written(host: Host) -> None:
    """What cannot be noted is shown all the same."""
    (host.base / "state").write_text("a file")
    host.run("run", "nightly", "-q", "main").expect(4)
    assert host.codes == {"nightly": 4}


class TestNoteOutcome:
    PLACE, STORE = "file:///srv", "file:///backup"

    def outcome(self, name: str, code: int | None, started_at: float) -> Outcome:
        return Outcome(Step(name, (name,)), code, 2.0, "", started_at)

    @pytest.fixture(autouse=True)
    def _state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def test_what_a_command_noted_itself_stays(self) -> None:
        mine = note_job(self.PLACE, "gc", 101.0, 1.0, 3, {"n": 1}, {"stray": ("info", 2)})
        note_outcome(self.outcome("gc", 3, 100.0), self.PLACE, "")
        assert read_jobs(self.PLACE) == {"gc": mine}

    def test_a_command_that_was_killed(self) -> None:
        note_job(self.PLACE, "gc", 50.0, 1.0, 0, {"n": 1}, {"stray": ("info", 2)})
        note_outcome(self.outcome("gc", 137, 100.0), self.PLACE, "")
        note = read_jobs(self.PLACE)["gc"]
        assert (note.last_run_at, note.last_success_at, note.exit_code) == (100.0, 50.0, 137)
        assert (note.numbers, note.findings) == ({}, {})

    def test_a_command_on_the_store(self) -> None:
        note_job(self.STORE, "backup verify", 101.0, 1.0, 1, {}, {"blob-corrupt": ("critical", 1)})
        note_outcome(self.outcome("verify", 1, 100.0), self.PLACE, self.STORE)
        assert read_jobs(self.PLACE)["backup verify"].findings == {"blob-corrupt": ("critical", 1)}
        note_outcome(self.outcome("verify", 4, 200.0), self.PLACE, self.STORE)
        note = read_jobs(self.PLACE)["backup verify"]
        assert (note.findings, note.exit_code, note.last_success_at) == ({}, 4, 100.0)

    def test_what_was_left_out(self) -> None:
        note_outcome(self.outcome("gc", None, 100.0), self.PLACE, "")
        assert read_jobs(self.PLACE) == {}


class TestLocation:
    """Notes are found again only under the same name."""

    def test_it_is_that_of_an_open_registry(self, host: Host) -> None:
        config = host.base / "config.yml"
        config.write_text(f"storage: {{filesystem: {{rootdirectory: {host.volume}}}}}")
        link = host.base / "a link"
        link.symlink_to(host.volume)
        places = [
            host.volume,
            f"file://{host.volume}",
            host.volume / "docker/registry/v2",
            f"{host.volume}/",
            config,
            link,
        ]
        for place in map(str, places):
            assert settled_location(place) == open_registry(place).location

    def test_it_is_the_same_when_the_disk_is_gone(self, host: Host) -> None:
        config = host.base / "config.yml"
        config.write_text(f"storage: {{filesystem: {{rootdirectory: {host.volume}}}}}")
        before = settled_location(str(host.volume))
        host.volume.rename(host.base / "elsewhere")
        assert settled_location(str(host.volume)) == settled_location(str(config)) == before
        host.volume.mkdir()
        assert settled_location(str(host.volume)) == before

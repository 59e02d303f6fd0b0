"""`regstore drill`: images of a backup restored, served by a real registry, and pulled."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from regstore import layout
from regstore.backup import drill, open_store
from regstore.backup.drill import serving
from regstore.backup.drill.scratch import open_scratch
from regstore.errors import InterruptedRunError, StorageFailedError, UsageError
from regstore.work import Cancel, NoProgress
from support.collection import Done, Volume, run_cli
from support.images import digest_of, layer, layers
from support.mounts import mounted
from support.programs import require_program
from support.registry import BINARY
from support.seaweed import SeaweedServer
from support.volume import VolumeWriter, blob_key, delete_image, tag_link_key

pytestmark = pytest.mark.registry

LARGE = random.Random("large").randbytes(100_000)

# A registry that answers as one, until the first manifest is asked for.
_DYING = """\
import http.server, json, os, sys

config = json.load(open(sys.argv[2]))
host, port = config["http"]["addr"].split(":")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/v2/":
            print("out of memory", flush=True)
            os._exit(3)
        self.send_response(200)
        for name, values in config["http"]["headers"].items():
            self.send_header(name, values[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


class Place:
    """A registry, a store, and the commands on them."""

    def __init__(self, base: Path) -> None:
        self.base, self.root, self.store, self.scratch = base, base / "volume", base / "store", base / "scratch"
        self.scratch.mkdir()
        self.run("backup", "init", self.store).expect(0)

    def fill(self, volume: Volume) -> None:
        """Push images of every kind, and make a snapshot."""
        with volume.serving(schema1=True) as client:
            self.image = client.push_image("team/app", "v1", [LARGE, layer("small")])
            client.push_image("team/app", "v2", layers(2, "oci"), flavour="oci")
            client.push_multi_arch("team/multi", "latest", "multi")
            client.push_schema1("old", "v1", layers(2, "schema1"))
        self.run("backup", "create", "-q", self.root, self.store).expect(0)

    def run(self, *words: object, **options: Any) -> Done:
        return run_cli(self.base / "state", *words, **options)

    def drill(self, *words: object, **options: Any) -> Done:
        """Run a drill, and see that it leaves neither a directory nor a process behind."""
        done = self.run("drill", "--scratch", self.scratch, *words, self.store, **options)
        self.assert_nothing_is_left()
        return done

    def assert_nothing_is_left(self) -> None:
        assert list(self.scratch.iterdir()) == []
        assert processes_in(self.scratch) == []
        assert list((self.base / "state").rglob("*.journal")) == []

    def program(self, name: str, *lines: str) -> Path:
        """Write a shell script that is taken for a registry; `$2` is its configuration."""
        path = self.base / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        return path

    def begin(self, program: Path) -> subprocess.Popen[str]:
        """Begin a drill with a registry that never answers, and return when that runs."""
        return self.begin_to("drill", "--scratch", self.scratch, "--registry-program", program, self.store)

    def begin_to(self, *words: object) -> subprocess.Popen[str]:
        """Begin a command in a process group of its own, and return when the registry of its drill runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "regstore", *map(str, words)],
            env={**os.environ, "XDG_STATE_HOME": str(self.base / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        wait_until(lambda: any("sleep" in name for name in processes_in(self.scratch)))
        return process


def processes_in(directory: Path) -> list[str]:
    """Name the processes whose working directory lies below a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something, a minute at most."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path, volume: Volume) -> Place:
    place = Place(tmp_path)
    place.fill(volume)
    return place


class TestWhole:
    def test_images_of_every_kind_are_pulled(self, place: Place) -> None:
        document = place.drill("--json", "--repository", "*").expect(0).json

        assert [(one["image"], one["whole"]) for one in document["images"]] == [
            ("old:v1", True), ("team/app:v1", True), ("team/app:v2", True), ("team/multi:latest", True),
        ]  # fmt: skip
        assert document["findings"] == []
        assert Path(document["registry_program"]).name == BINARY
        # Every blob of the volume but the signatures of the schema1 manifest was restored; all of it was fetched.
        pulled = sum(one["pulled_bytes"] for one in document["images"])
        assert len(LARGE) < pulled <= document["restored_bytes"]
        assert document["restored_bytes"] == document["snapshot"]["bytes"]
        assert 0 < document["restore_seconds"] < document["first_pull_seconds"] <= document["recovery_seconds"]
        assert document["full_restore_seconds"] == pytest.approx(document["restore_seconds"], abs=0.01)

    def test_the_text(self, place: Place) -> None:
        text = place.drill("--count", "2").expect(0).stdout
        assert len([line for line in text.splitlines() if line.startswith("whole")]) == 2
        assert "recovery  the first image after" in text
        done = place.drill("-q").expect(0)
        assert (done.stdout, done.stderr) == ("", "")

    def test_names_choose(self, place: Place) -> None:
        document = place.drill("--json", "--repository", "team/*", "--tag", "v*").expect(0).json
        assert [one["image"] for one in document["images"]] == ["team/app:v1", "team/app:v2"]
        assert len(place.drill("--json", "--repository", "*", "--count", "1").expect(0).json["images"]) == 1
        place.drill("--tag", "none").expect_error(2, "nothing-chosen")

    def test_what_is_kept_is_a_volume(self, place: Place) -> None:
        document = place.run("drill", "--keep", "--json", "--scratch", place.scratch, place.store).expect(0).json
        kept = Path(document["scratch"])
        assert kept.parent == place.scratch
        place.run("fsck", "-q", kept / "volume").expect(0)
        place.run("drill", "-q", "--scratch", place.scratch, place.store).expect(0)
        assert kept.is_dir()
        assert kept.stat().st_mode & 0o777 == 0o700

    def test_a_borg_repository(self, place: Place) -> None:
        require_program("borg", "borgbackup")
        location = f"borg:{place.base}/borg"
        environment = {"BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(place.base / "borg-home")}
        place.run("backup", "init", "--key-export", place.base / "key", location, environment=environment).expect(0)
        place.run("backup", "create", "-q", place.root, location, environment=environment).expect(0)
        done = place.run("drill", "--scratch", place.scratch, "--json", location, environment=environment).expect(0)
        assert len(done.json["images"]) == 4
        place.assert_nothing_is_left()

    @pytest.mark.s3
    def test_a_store_in_a_bucket(self, place: Place, seaweed: SeaweedServer, s3_bucket: str) -> None:
        location = seaweed.url(s3_bucket, "backups")
        environment = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
        place.run("backup", "init", location, environment=environment).expect(0)
        place.run("backup", "create", "-q", place.root, location, environment=environment).expect(0)
        done = place.run("drill", "--scratch", place.scratch, "--json", location, environment=environment).expect(0)
        assert len(done.json["images"]) == 4
        place.assert_nothing_is_left()

    def test_a_pull_through_cache_lacks_parts_of_its_images(self, tmp_path: Path) -> None:
        """Of a multi-arch image such a cache has what somebody pulled."""
        place = Place(tmp_path)
        _, children = VolumeWriter(place.root).push_multi_arch("app", "latest", "multi")
        delete_image(place.root, children[0])
        (place.root / layout.SCHEDULER_STATE).write_text("{}")  # what only such a cache writes
        place.run("backup", "create", "-q", place.root, place.store).expect(0)
        assert place.drill("--json").expect(0).json["images"][0]["whole"]
        assert place.drill("--json", environment={"PATH": ""}).expect(0).json["images"][0]["whole"]
        place.run("backup", "test-restore", place.store).expect(0)


class TestSnapshots:
    def test_the_newest_complete_one_is_taken(self, place: Place) -> None:
        (place.root / tag_link_key("team/app", "v1")).write_bytes(b"")
        place.run("backup", "create", "-q", place.root, place.store).expect(1)
        first, second = place.run("backup", "list", "--json", place.store).expect(0).json["snapshots"]

        document = place.drill("--json").expect(0).json

        assert document["snapshot"]["id"] == first["id"]
        assert [found["id"] for found in document["findings"]] == ["snapshot-incomplete"]
        assert place.drill("--json", "--snapshot", second["id"]).expect(0).json["snapshot"]["id"] == second["id"]
        (path,) = place.store.glob(f"snapshots/*{first['id']}*")
        path.write_bytes(b"rot")
        found = place.drill("--json").expect(1).json["findings"]
        assert [one["id"] for one in found] == ["snapshot-damaged", "snapshot-incomplete"]

    def test_a_store_without_a_snapshot(self, place: Place) -> None:
        shutil.rmtree(place.store / "snapshots")
        place.drill().expect_error(2, "snapshot-missing")

    def test_what_the_store_has_lost(self, place: Place) -> None:
        (path,) = place.store.glob(f"blobs/sha256/*/{digest_of(LARGE)[7:]}")
        path.unlink()
        done = place.drill("--json", "--repository", "*").expect(1)
        assert {one["image"]: one["whole"] for one in done.json["images"]} == {
            "old:v1": True, "team/app:v1": False, "team/app:v2": True, "team/multi:latest": True,
        }  # fmt: skip
        assert {found["id"] for found in done.json["findings"]} == {"store-blob-missing", "image-lost"}
        assert "LOST      team/app:v1" in place.drill("--tag", "v1", "--repository", "team/app").expect(1).stdout
        assert "image-lost: team/app:v1" in place.drill("-q", "--repository", "*").expect(1).stderr


class TestWithoutARegistry:
    def test_images_are_looked_at_on_disk(self, place: Place) -> None:
        document = place.drill("--json", environment={"PATH": ""}).expect(0).json
        assert [found["id"] for found in document["findings"]] == ["registry-absent"]
        assert all(one["whole"] and not one["pulled_bytes"] for one in document["images"])
        assert document["first_pull_seconds"] is None

    def test_it_can_be_required(self, place: Place) -> None:
        place.drill("--require-registry", environment={"PATH": ""}).expect_error(4, "registry-missing")
        place.drill("--registry-program", "no-such-registry").expect_error(2, "no-such-registry")


class TestARegistryThatFails:
    def hurt(self, place: Place, command: str) -> Done:
        """Drill with a registry whose volume is hurt before it starts."""
        data = f'"$(dirname "$2")/volume/{blob_key(place.image.layers[1])}"'
        program = place.program("hurt", f"{command} {data}", f'exec {BINARY} "$@"')
        return place.drill("--json", "--registry-program", program, "--repository", "team/*")

    @pytest.mark.parametrize(
        ("command", "words"),
        [("rm", "does not know it"), ("printf X >", "do not hash"), ("truncate -s 1000000", "do not hash")],
    )
    def test_an_image_that_cannot_be_pulled(self, place: Place, command: str, words: str) -> None:
        document = self.hurt(place, command).expect(1).json
        (found,) = document["findings"]
        assert (found["id"], found["images"]) == ("pull-failed", ["team/app:v1"])
        assert words in found["detail"]
        assert place.image.layers[1] in found["detail"]
        assert [one["whole"] for one in document["images"]] == [False, True, True]

    def test_one_that_does_not_start(self, place: Place) -> None:
        program = place.program("broken", "echo no such option >&2", "exit 7")
        done = place.drill("--registry-program", program).expect(4)
        assert "does not start (it ended with 7)" in done.stderr
        assert "[registry-failed]" in done.stderr
        assert "its log: no such option" in done.stderr

    def test_one_that_dies(self, place: Place) -> None:
        script = place.base / "dying.py"
        script.write_text(_DYING)
        program = place.program("dying", f'exec {sys.executable} {script} "$@"')
        done = place.drill("--registry-program", program).expect(4)
        assert "stopped answering" in done.stderr
        assert "its log: out of memory" in done.stderr

    def test_one_that_never_answers(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serving, "_START_SECONDS", 1.0)
        program = place.program("silent", "sleep 600 & sleep 600")  # the one in the background dies too
        options = drill.DrillOptions(program=str(program), scratch=str(place.scratch))
        monkeypatch.setenv("XDG_STATE_HOME", str(place.base / "state"))
        with pytest.raises(StorageFailedError, match="does not answer 1 s after its start"):
            drill.run_drill(open_store(str(place.store)), options, random.Random(1))
        place.assert_nothing_is_left()

    def test_variables_of_another_registry_do_not_count(self, place: Place) -> None:
        place.drill(environment={"REGISTRY_HTTP_ADDR": "127.0.0.1:1", "REGISTRY_STORAGE": "inmemory"}).expect(0)


class TestStopped:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_on_request(self, place: Place, number: signal.Signals) -> None:
        process = place.begin(place.program("silent", "exec sleep 600"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert "stopped on request" in errors
        place.assert_nothing_is_left()

    def test_a_night_on_request(self, place: Place) -> None:
        """Ctrl-C reaches all of a terminal: a step that is told by the night once more would not clean up."""
        file = place.base / "config.toml"
        file.write_text(
            f'[registry.main]\nlocation = "{place.root}"\n[store.nas]\nlocation = "{place.store}"\n'
            f'[nightly.main]\nstore = "nas"\nsteps = ["drill"]\n'
            f'[drill]\nscratch = "{place.scratch}"\n'
            f'registry_program = "{place.program("silent", "exec sleep 600")}"\n'
        )
        process = place.begin_to("--config", file, "run", "nightly", "main")
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "stopped on request" in output
        place.assert_nothing_is_left()

    def test_in_the_midst_of_the_restore(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(place.base / "state"))
        cancel = Cancel()

        phases = []

        class Stop(NoProgress):
            def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
                phases.append(phase)

            def advance(self, count: int = 1) -> None:
                if phases[-1].endswith("blobs"):
                    cancel.request()

        options = drill.DrillOptions(drill.DrillSelection(repositories=("*",)), scratch=str(place.scratch), jobs=1)
        with pytest.raises(InterruptedRunError):
            drill.run_drill(open_store(str(place.store)), options, random.Random(1), progress=Stop(), cancel=cancel)
        assert phases[-1].endswith("blobs")
        place.assert_nothing_is_left()

    def test_killed(self, place: Place) -> None:
        """The registry goes with regstore, and the next drill removes the directory."""
        process = place.begin(place.program("silent", "exec sleep 600"))
        process.kill()
        process.communicate()
        wait_until(lambda: processes_in(place.scratch) == [])
        assert len(list(place.scratch.iterdir())) == 1
        (place.scratch / "regstore-drill-of-somebody").symlink_to(place.base)

        place.run("drill", "-q", "--scratch", place.scratch, place.store).expect(0)

        assert [path.name for path in place.scratch.iterdir()] == ["regstore-drill-of-somebody"]

    def test_a_drill_that_lives_is_left_alone(self, place: Place) -> None:
        process = place.begin(place.program("silent", "exec sleep 600"))
        (other,) = place.scratch.iterdir()
        place.run("drill", "-q", "--scratch", place.scratch, place.store).expect(0)
        assert list(place.scratch.iterdir()) == [other]
        process.terminate()
        process.communicate()


class TestRoom:
    def test_too_little(self, place: Place, tmp_path: Path) -> None:
        VolumeWriter(place.root).push_image("big", "v1", [random.Random(1).randbytes(30_000_000)])
        place.run("backup", "create", "-q", place.root, place.store).expect(0)
        with mounted(tmp_path, "ext4", size_mib=20) as small:
            words = ("drill", "--scratch", small, place.store)
            place.run(*words, "--repository", "big").expect_error(3, "no-space", "28.7 MiB", "--scratch")
            assert [path.name for path in small.iterdir()] == ["lost+found"]
            place.run(*words, "--repository", "team/*").expect(0)

    def test_no_place(self, place: Place) -> None:
        place.run("drill", "--scratch", place.base / "none", place.store).expect_error(2, "--scratch")
        before = sorted(place.store.rglob("*"))
        place.run("drill", "--scratch", place.store, place.store).expect_error(3, "nested")
        assert sorted(place.store.rglob("*")) == before


class TestAPlaceThatOthersCanChange:
    """There a link, or another directory, could be put in the place of what root writes to and removes."""

    @pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
    def test_the_place_itself(self, place: Place, mode: int) -> None:
        place.scratch.chmod(mode)
        done = place.run("drill", "-q", "--scratch", place.scratch, place.store)
        if mode & 0o1000:
            done.expect(0)
        else:
            done.expect_error(3, "scratch-unsafe", "--scratch")
        place.assert_nothing_is_left()

    def test_a_directory_of_somebody_else_above_it(self, place: Place) -> None:
        home = place.base / "home"
        (home / "scratch").mkdir(parents=True)
        place.scratch.rmdir()
        place.scratch.symlink_to(home / "scratch")
        os.chown(home, 12345, 12345)
        place.run("drill", "-q", "--scratch", place.scratch, place.store).expect_error(3, "scratch-unsafe", str(home))

    def test_one_without_locks(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """As NFS is, where a directory cannot be locked (flock(2), NFS details)."""

        def refuse(_: int, __: int) -> None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(UsageError, match="cannot lock"), open_scratch(str(place.scratch)):
            pass
        place.assert_nothing_is_left()


class TestTheMorningAfter:
    def test_status_and_metrics(self, place: Place) -> None:
        assert "last drill            never" in place.run("status", place.root).stdout
        place.drill("-q").expect(0)
        assert "; first image after 0." in place.run("status", place.root).expect(0).stdout
        (found,) = place.run("status", "--json", place.root).expect(0).json["registries"].values()
        assert found["jobs"]["drill"]["numbers"]["regstore_drill_recovery_seconds"] > 0
        lines = place.run("metrics", place.root).expect(0).stdout.splitlines()
        label = f'registry="file://{place.root}"'
        assert f'regstore_job_exit_code{{{label},job="drill"}} 0' in lines
        assert any(line.startswith(f"regstore_drill_first_pull_seconds{{{label}}} 0.") for line in lines)

    def test_a_drill_that_failed_is_a_problem(self, place: Place) -> None:
        file = place.base / "config.toml"
        file.write_text(
            f'[registry.main]\nlocation = "{place.root}"\n[store.nas]\nlocation = "{place.store}"\n'
            f'[nightly.main]\nstore = "nas"\nsteps = ["drill"]\n'
            f'[drill]\nscratch = "{place.scratch}"\nregistry_program = "{place.program("broken", "exit 7")}"\n'
        )
        done = place.run("--config", file, "run", "nightly", "main").expect(4)
        assert "drill: regstore drill -q nas" in done.stdout
        place.assert_nothing_is_left()
        lines = place.run("--config", file, "metrics", "main").expect(0).stdout.splitlines()
        assert f'regstore_job_exit_code{{registry="file://{place.root}",job="drill"}} 4' in lines
        assert "the last run of drill ended with 4" in place.run("--config", file, "status").expect(1).stdout

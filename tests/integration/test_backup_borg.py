"""Snapshots in a borg repository, by the real borg; and by small programs for what it does not do on demand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from regstore import backup
from regstore.backup import PassphraseOptions, open_any_store
from regstore.backup.borg.create import create_borg_backup
from regstore.backup.borg.repository import Repository
from regstore.errors import UsageError
from regstore.registry import Registry
from regstore_drivers.memory import MemoryDriver
from support.backup import contents_of
from support.collection import Done, run_cli
from support.images import digest_of, layers
from support.programs import require_program, require_root
from support.volume import VolumeWriter, blob_key, tag_link_key

SECRET = "correct horse"
LARGE = [bytes([number]) * 1_000_000 for number in range(3)]


class Place:
    """A volume, a borg repository, and the commands on them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root, self.repository, self.new = base / "volume", base / "repository", base / "new"
        self.location = f"borg:{self.repository}"
        self.writer = VolumeWriter(self.root)
        self.first = self.writer.push_image("app", "v1", [LARGE[0], b"small"])
        self.writer.push_index("app", "multi", [self.first])
        self.writer.push_image("app", "v2", [LARGE[1]])
        self.writer.push_image("team/web", "latest", [LARGE[2], *layers(1, "web")])
        self.environment = {"BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": str(base / "borg")}

    def run(self, *words: object, **environment: str) -> Done:
        return run_cli(self.base / "state", *words, environment={**self.environment, **environment})

    def backup(self, command: str, *words: object, **environment: str) -> Done:
        return self.run("backup", command, *words, **environment)

    def create(self, code: int = 0) -> dict[str, Any]:
        return self.backup("create", "--json", self.root, self.location).expect(code).json

    def begin_create(self) -> subprocess.Popen[bytes]:
        """Begin a backup, and return when borg has written some of the data."""
        process = subprocess.Popen(
            [sys.executable, "-m", "regstore", "backup", "create", "-q", str(self.root), self.location],
            env={**os.environ, **self.environment, "XDG_STATE_HOME": str(self.base / "state")},
        )
        wait_until(lambda: sum(path.stat().st_size for path in self.segments()) > 5_000_000)
        return process

    def segments(self) -> list[Path]:
        """The files of the repository that hold data."""
        return [path for path in (self.repository / "data").rglob("*") if path.is_file()]

    def open(self) -> Repository:
        """Open the repository in this process."""
        return Repository(self.location, SECRET.encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that a backup needs, as another run of borg does."""
        holder = subprocess.Popen(
            ["borg", "with-lock", str(self.repository), "sleep", "600"], env={**os.environ, **self.environment}
        )
        try:
            wait_until((self.repository / "lock.exclusive").exists)
            yield
        finally:
            for pid in (*(child.pid for child in psutil.Process(holder.pid).children()), holder.pid):
                os.kill(pid, signal.SIGKILL)
            holder.wait()

    def archives(self) -> list[str]:
        """The names of the archives, in the order made."""
        return self.borg("list", "--short", "--consider-checkpoints", str(self.repository)).split()

    def lose(self, archive: str, path: str) -> None:
        """Lose the chunks of a file of an archive in the repository."""
        dump = self.base / "dump"
        self.borg("debug", "dump-archive", f"{self.repository}::{archive}", str(dump))
        (item,) = (item for item in json.loads(dump.read_text())["_items"] if item["path"] == path)
        for identity, _, _ in item["chunks"]:
            told = self.borg("debug", "delete-obj", str(self.repository), identity.removeprefix("\x7f"))
            assert "deleted" in told
        dump.unlink()

    def lose_blob(self, data: bytes) -> None:
        """Lose the chunks of a blob of the first snapshot in the repository."""
        self.lose(self.archives()[0], blob_key(digest_of(data)))

    def snapshots(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.backup("list", "--json", self.location).expect(0).json["snapshots"]
        return found

    def borg(self, *words: str) -> str:
        done = subprocess.run(
            ["borg", *words], env={**os.environ, **self.environment}, capture_output=True, text=True, check=True
        )
        return done.stdout


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something, a minute at most."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A volume of a few images, and an empty repository."""
    require_program("borg", "borgbackup")
    made = Place(tmp_path)
    made.backup("init", "--key-export", tmp_path / "key", made.location).expect(0)
    return made


def test_there_and_back(place: Place) -> None:
    key = place.base / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().startswith("BORG_KEY ")
    first = place.create()
    assert first["findings"] == []
    assert first["snapshot"]["new_blobs"] == first["snapshot"]["blobs"]
    place.writer.push_image("app", "v3", [b"later"])
    second = place.create()
    assert second["snapshot"]["new_blobs"] == 3

    assert [one["id"] for one in place.snapshots()] == [first["snapshot"]["id"], second["snapshot"]["id"]]
    place.run("restore", place.location, place.new).expect(0)
    assert contents_of(place.new) == contents_of(place.root)
    difference = place.backup("diff", "--json", place.location, first["snapshot"]["id"]).expect(0).json
    assert list(difference["added"]) == ["app:v3"]
    assert "app" in place.backup("show", place.location).expect(0).stdout
    for words in ((), ("--full",)):
        verified = place.backup("verify", "--json", *words, place.location).expect(0).json
        assert verified["snapshots"] == 2
    tried = place.backup("test-restore", "--json", "--count", "3", place.location).expect(0).json["tried"]
    assert all(one["whole"] for one in tried)
    place.backup("prune", "-q", "--keep-last", "1", place.location).expect(0)
    assert [one["id"] for one in place.snapshots()] == [second["snapshot"]["id"]]
    assert len(place.archives()) == 2


def test_some_tags_bring_exactly_what_they_need(place: Place) -> None:
    place.create()

    place.run("restore", "--tag", "multi", place.location, place.new).expect(0)

    after = contents_of(place.new)
    assert after.items() <= contents_of(place.root).items()
    assert blob_key(digest_of(LARGE[0])) in after
    assert blob_key(digest_of(LARGE[1])) not in after


def test_a_quiet_night_prints_nothing(place: Place) -> None:
    for words in (("create", "-q", place.root), ("verify", "-q"), ("prune", "-q", "--keep-last", "2")):
        done = place.backup(*words, place.location).expect(0)
        assert (done.stdout, done.stderr) == ("", "")


def test_the_data_in_the_repository_cannot_be_read_without_the_key(place: Place) -> None:
    place.writer.push_image("app", "secret", [b"a very secret layer" * 5000])
    place.create()

    stored = b"".join(path.read_bytes() for path in place.repository.rglob("*") if path.is_file())
    assert b"a very secret layer" not in stored


def test_without_an_exported_key_no_repository_is_made(tmp_path: Path) -> None:
    require_program("borg", "borgbackup")
    place = Place(tmp_path)

    place.backup("init", place.location).expect_error(2, "--key-export")
    (tmp_path / "key").touch()
    place.backup("init", "--key-export", tmp_path / "key", place.location).expect_error(2, "File exists")
    place.backup("init", "--key-export", tmp_path / "k", f"borg:{tmp_path}/a/b").expect_error(2, "there is no")

    assert not place.repository.exists()
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"BORG_PASSPHRASE": "wrong"}, []),
        ({"BORG_PASSPHRASE": ""}, []),
        ({}, ["--passphrase-command", "echo wrong"]),
        ({}, ["--passphrase-command", "false"]),
        ({}, ["--passphrase-fd", "99"]),
    ],
    ids=["wrong", "empty", "command", "failing command", "closed descriptor"],
)
def test_a_wrong_passphrase_ends_within_seconds(place: Place, environment: dict[str, str], words: list[str]) -> None:
    started = time.monotonic()

    place.backup("list", *words, place.location, **environment).expect_error(4, "key-wrong")

    assert time.monotonic() - started < 60  # nothing waits for an answer that nobody gives


def test_no_passphrase_at_all_is_said_at_once(place: Place) -> None:
    del place.environment["BORG_PASSPHRASE"]

    place.backup("list", place.location).expect_error(4, "key-wrong", "--passphrase-command")


def test_a_passphrase_from_a_command_a_descriptor_and_a_credential(place: Place) -> None:
    del place.environment["BORG_PASSPHRASE"]
    credentials = place.base / "credentials"
    credentials.mkdir()
    (credentials / "regstore-borg-passphrase").write_text(f"{SECRET}\n")

    place.backup("list", "--passphrase-command", f"echo '{SECRET}'", place.location).expect(0)
    place.backup("list", place.location, CREDENTIALS_DIRECTORY=str(credentials)).expect(0)
    place.backup("list", place.location, BORG_PASSCOMMAND=f"echo '{SECRET}'").expect(0)
    reading, writing = os.pipe()
    os.write(writing, SECRET.encode())
    os.close(writing)
    done = subprocess.run(
        [sys.executable, "-m", "regstore", "backup", "list", "--passphrase-fd", str(reading), place.location],
        env={**os.environ, **place.environment, "XDG_STATE_HOME": str(place.base / "state")},
        pass_fds=(reading,),
        check=False,
    )
    os.close(reading)
    assert done.returncode == 0


def test_a_repository_that_is_not_there_and_one_that_is(place: Place) -> None:
    place.backup("list", f"borg:{place.base}/none").expect_error(2, "store-missing", "mounted")
    place.backup("create", place.root, f"borg:{place.base}/none").expect_error(2, "store-missing")
    place.backup("init", "--key-export", place.base / "other", place.location).expect_error(2, "already")
    assert not (place.base / "other").exists()


def test_a_store_in_its_source_is_refused(place: Place) -> None:
    shutil.move(place.repository, place.root / "repository")

    location = f"borg:{place.root}/repository"
    place.backup("create", "-q", place.root, location).expect_error(4, "BORG_RELOCATED_REPO_ACCESS_IS_OK")

    done = place.backup("create", "-q", place.root, location, BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")

    done.expect_error(3, "nested")


def test_damage_of_the_source_is_named_and_the_rest_comes_back(place: Place) -> None:
    (place.root / blob_key(digest_of(LARGE[1]))).write_bytes(b"rotten")
    (place.root / blob_key(digest_of(b"small"))).unlink()

    created = place.create(1)

    assert {(found["id"], tuple(found["images"])) for found in created["findings"]} == {
        ("blob-corrupt", ("app:v2",)),
        ("blob-missing", ("app:multi", "app:v1")),
    }
    assert created["snapshot"]["complete"] is False
    done = place.run("restore", "--json", place.location, place.new).expect(1)
    assert sorted(done.json["lost"]) == ["app:multi", "app:v1", "app:v2"]
    assert (place.new / tag_link_key("team/web", "latest")).exists()


def test_a_run_that_is_killed_leaves_no_snapshot_and_the_next_completes(place: Place) -> None:
    place.writer.push_image("app", "big", [os.urandom(60_000_000)])
    process = place.begin_create()
    for dying in (process.pid, *(child.pid for child in psutil.Process(process.pid).children())):
        os.kill(dying, signal.SIGKILL)
    process.wait()

    assert place.snapshots() == []
    created = place.create()
    assert created["snapshot"]["complete"] is True
    (dead,) = created["findings"]
    assert (dead["id"], dead["severity"]) == ("dead-run", "info")
    place.run("restore", "-q", place.location, place.new).expect(0)
    assert contents_of(place.new) == contents_of(place.root)


def test_a_run_that_is_told_to_stop_gives_the_lock_away(place: Place) -> None:
    place.writer.push_image("app", "big", [os.urandom(60_000_000)])
    process = place.begin_create()

    process.terminate()

    assert process.wait(60) == 143
    assert not (place.repository / "lock.exclusive").exists()
    assert place.snapshots() == []
    assert place.create()["findings"] == []


def test_data_that_rotted_in_the_repository_are_named_and_the_rest_comes_back(place: Place) -> None:
    place.create()
    segment = max(
        (path for path in (place.repository / "data").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(segment.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0xFF
    segment.write_bytes(data)

    done = place.run("restore", "--json", place.location, place.new)

    done.expect(1)
    assert 1 <= len(done.json["lost"]) <= 3
    lost = [found for found in done.json["findings"] if found["id"].startswith("store-blob")]
    assert [found["subject"] for found in lost] == [digest for digest in map(digest_of, LARGE) if digest in str(lost)]
    after = contents_of(place.new)
    assert after.items() <= contents_of(place.root).items()
    assert sum(blob_key(digest_of(blob)) in after for blob in LARGE) == 2
    verified = place.backup("verify", "--json", place.location).expect(1).json
    assert "repository-damaged" in [found["id"] for found in verified["findings"]]
    told = [found for found in verified["findings"] if found["id"] == "store-blob-corrupt"]
    assert [found["subject"] for found in told] == [found["subject"] for found in lost]
    assert all(found["images"] and found["snapshots"] == [place.snapshots()[0]["id"]] for found in told)


def test_a_locked_repository(place: Place) -> None:
    place.create()
    with place.locked():
        for words in (("create", "-q", place.root), ("prune", "--keep-last", "1")):
            place.backup(*words, place.location).expect_error(5, "lock", "pid ", "unlock")
        place.run("restore", "-q", place.location, place.new).expect(0)
        for command in ("list", "show", "verify"):
            place.backup(command, place.location).expect(0)
        place.backup("unlock", place.location).expect(0)
        place.create()


def test_what_only_reads_works_beside_a_backup(place: Place) -> None:
    place.create()
    place.writer.push_image("app", "big", [os.urandom(60_000_000)])
    process = place.begin_create()
    (borg,) = psutil.Process(process.pid).children()
    borg.suspend()
    try:
        assert len(place.snapshots()) == 1
        place.run("restore", "-q", place.location, place.new).expect(0)
        place.backup("verify", "-q", place.location).expect(0)
        place.backup("create", "-q", place.root, place.location).expect_error(5, f"pid {borg.pid} ")
    finally:
        borg.resume()
    assert process.wait(120) == 0
    assert len(place.snapshots()) == 2


def test_what_only_reads_keeps_no_backup_out(place: Place) -> None:
    """As a restore of hours does: a pipe that nobody reads holds it up."""
    place.writer.push_image("app", "big", [os.urandom(3_000_000)])
    place.create()
    repository = place.open()
    archive = place.archives()[0]

    with repository.export_tar(archive, []) as (stdout, outcome):
        assert stdout.read(1)
        place.create()
        while stdout.read(1_000_000):
            pass
    assert outcome.code == 0


@pytest.mark.parametrize("suffix", ["", ".checkpoint", ".checkpoint.1"])
def test_archives_that_dead_runs_left_go_after_the_grace_period(place: Place, suffix: str) -> None:
    place.create()
    name = f"regstore-00000009-20261127T150000Z-0a1b2c3d{suffix}"
    for archive in (name, "of-somebody-else"):
        place.borg("create", f"{place.repository}::{archive}", str(place.root))

    place.backup("prune", "-q", "--keep-last", "1", place.location).expect(0)
    assert name in place.archives()
    place.backup("prune", "-q", "--keep-last", "1", "--grace", "0s", place.location).expect(0)

    left = place.archives()
    assert name not in left
    assert "of-somebody-else" in left
    assert len(place.snapshots()) == 1


# What borg reads or has, and is not what it should be


def test_data_that_borg_reads_again_are_hashed_again(place: Place) -> None:
    """Another owner, and borg reads all of it: what rotted meanwhile is not taken for what a snapshot has."""
    first = place.create()["snapshot"]["id"]
    rotten = place.root / blob_key(digest_of(LARGE[1]))
    rotten.write_bytes(LARGE[1][:-1] + b"x")

    second = place.create(1)

    (found,) = second["findings"]
    assert (found["id"], found["subject"], found["images"]) == ("blob-corrupt", digest_of(LARGE[1]), ["app:v2"])
    assert list(place.run("restore", "--json", place.location, place.new).expect(1).json["lost"]) == ["app:v2"]
    place.run("restore", "-q", "--snapshot", first, place.location, place.base / "older").expect(0)
    assert (place.base / "older" / blob_key(digest_of(LARGE[1]))).read_bytes() == LARGE[1]


def test_a_second_registry_is_hashed_though_the_first_has_the_same_data(place: Place) -> None:
    place.create()
    other = place.base / "other"
    shutil.copytree(place.root, other)
    (other / blob_key(digest_of(LARGE[2]))).write_bytes(LARGE[2][:-1] + b"x")

    created = place.backup("create", "--json", other, place.location).expect(1).json

    assert [(found["id"], found["images"]) for found in created["findings"]] == [("blob-corrupt", ["team/web:latest"])]
    assert len(place.snapshots()) == 2


def test_a_manifest_that_is_lost_takes_only_its_own_images(place: Place) -> None:
    place.create()
    place.lose_blob(place.first.data)

    restored = place.run("restore", "--json", place.location, place.new).expect(1).json

    assert sorted(restored["lost"]) == ["app:multi", "app:v1"]
    assert (place.new / tag_link_key("app", "v2")).exists()
    assert (place.new / tag_link_key("team/web", "latest")).exists()


def test_what_is_lost_is_named_once_with_images_and_snapshots(place: Place) -> None:
    place.create()
    place.writer.push_image("app", "v3", [LARGE[1]])
    place.create()
    place.lose_blob(LARGE[1])

    findings = place.backup("verify", "--json", "--full", place.location).expect(1).json["findings"]

    (found,) = [found for found in findings if found["subject"] == digest_of(LARGE[1])]
    assert found["images"] == ["app:v2", "app:v3"]
    assert found["snapshots"] == [snapshot["id"] for snapshot in place.snapshots()]


def test_data_that_a_repair_replaced_by_zeros_are_lost(place: Place) -> None:
    place.create()
    place.lose_blob(LARGE[1])
    subprocess.run(
        ["borg", "check", "--repair", str(place.repository)],
        env={**os.environ, **place.environment, "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES"},
        check=False,
    )

    restored = place.run("restore", "--json", place.location, place.new).expect(1).json

    assert list(restored["lost"]) == ["app:v2"]
    assert ("store-blob-corrupt", digest_of(LARGE[1])) in [(one["id"], one["subject"]) for one in restored["findings"]]


def test_a_snapshot_whose_data_somebody_deleted(place: Place) -> None:
    place.create()
    place.borg("delete", f"{place.repository}::{place.archives()[0]}")

    verified = place.backup("verify", "--json", place.location).expect(1).json
    restored = place.run("restore", "--json", place.location, place.new).expect(1).json

    assert {found["id"] for found in verified["findings"]} == {"store-blob-missing"}
    assert sorted(restored["lost"]) == ["app:multi", "app:v1", "app:v2", "team/web:latest"]


def test_a_snapshot_file_that_is_damaged_is_told_and_the_older_one_serves(place: Place) -> None:
    first = place.create()["snapshot"]["id"]
    second = place.create()["snapshot"]["id"]
    shutil.rmtree(place.base / "state" / "regstore" / "stores")
    place.lose(place.archives()[-1], "snapshot.jsonl.zst")

    listed = place.backup("list", "--json", place.location).expect(1).json

    assert [one["id"] for one in listed["snapshots"]] == [first]
    assert [(found["id"], found["subject"]) for found in listed["findings"]] == [("snapshot-damaged", second)]
    place.backup("show", place.location, second).expect_error(4, "corruption")
    place.run("restore", "-q", place.location, place.new).expect(0)


def test_data_that_another_run_deletes_meanwhile_make_no_snapshot(place: Place) -> None:
    """A prune without grace may come between the two archives of a backup."""
    wrapper = place.base / "pruned-borg"
    borg = shutil.which("borg")
    wrapper.write_text(
        f"#!{sys.executable}\n"
        "import subprocess, sys\n"
        "meta = [word for word in sys.argv if word.endswith('.meta') and 'create' in sys.argv]\n"
        "if meta:\n"
        f"    subprocess.run([{borg!r}, 'delete', meta[0].removesuffix('.meta')], check=True, close_fds=False)\n"
        f"    import os; reading, writing = os.pipe(); os.write(writing, {SECRET.encode()!r}); os.close(writing)\n"
        "    os.dup2(reading, int(os.environ['BORG_PASSPHRASE_FD']))\n"
        f"sys.exit(subprocess.run([{borg!r}, *sys.argv[1:]], close_fds=False).returncode)\n"
    )
    wrapper.chmod(0o755)

    place.backup("create", "-q", place.root, place.location, REGSTORE_BORG=str(wrapper)).expect_error(5, "--grace")

    assert place.snapshots() == []


# Places


def test_a_repository_behind_ssh(place: Place) -> None:
    rsh = place.base / "rsh"
    rsh.write_text('#!/bin/sh\n[ "$1" = backup@host ] || exit 255\nshift\nexec "$@"\n')
    rsh.chmod(0o755)
    place.environment["BORG_RSH"] = str(rsh)
    place.location = f"borg:ssh://backup@host{place.base}/far"
    place.backup("init", "--key-export", place.base / "far-key", place.location).expect(0)

    place.create()
    place.run("restore", "-q", place.location, place.new).expect(0)

    assert contents_of(place.new) == contents_of(place.root)
    other = f"borg:ssh://nobody@host{place.base}/far"
    place.backup("list", other).expect_error(4, "borg-failed", "ssh")
    place.backup("list", f"{place.location}/none").expect_error(2, "store-missing")


def test_a_relative_location_means_what_it_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.base)

    place.backup("create", "-q", "volume", "borg:repository").expect(0)

    assert len(place.snapshots()) == 1


def test_a_repository_that_cannot_be_written_can_be_restored(place: Place) -> None:
    """As one on a disk that is mounted read-only: no lock can be taken there."""
    require_root("run as somebody who may not write")
    place.create()
    for path in (place.base, *place.base.parents):
        path.chmod(path.stat().st_mode | 0o055)
    for path in (place.repository, *place.repository.rglob("*"), place.root, *place.root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    own = place.base / "own"
    own.mkdir()
    os.chown(own, 1234, 1234)
    environment = {**place.environment, "BORG_BASE_DIR": str(own / "borg")}

    def run(*words: object) -> Done:
        return run_cli(own / "state", *words, environment=environment, user=1234)

    run("backup", "list", place.location).expect(0)
    run("restore", "-q", place.location, own / "new").expect(0)
    run("backup", "create", "-q", place.root, place.location).expect_error(4, "Permission denied")

    assert contents_of(own / "new") == contents_of(place.root)


def test_a_target_that_is_full_ends_the_backup_and_the_next_goes_on(place: Place) -> None:
    """By borg's own quota; what it says of a full disk is among the messages below."""
    place.borg("config", str(place.repository), "storage_quota", "10000000")
    place.writer.push_image("app", "big", [os.urandom(12_000_000)])

    place.backup("create", "-q", place.root, place.location).expect_error(4, "[full]")

    assert place.snapshots() == []
    place.borg("config", str(place.repository), "storage_quota", "60000000")
    place.create()
    place.run("restore", "-q", place.location, place.new).expect(0)
    assert contents_of(place.new) == contents_of(place.root)


def test_a_limit_holds_for_what_borg_reads(place: Place) -> None:
    started = time.monotonic()

    place.backup("create", "-q", "--bandwidth", "1M", place.root, place.location).expect(0)

    # 3 MB are hashed, then read by borg; each time all but the first second's share waits.
    assert time.monotonic() - started > 3


# What the real one does not do on demand

FAKE = """\
#!{python}
import json, os, sys
words = [word for word in sys.argv[1:] if not word.startswith("--lock")]
if "--version" in sys.argv:
    print("borg {version}")
    sys.exit(0)
print("Enter passphrase: not JSON", file=sys.stderr)
for level, identity, text in {messages!r}:
    line = {{"type": "log_message", "levelname": level, "msgid": identity, "message": text, "name": "borg"}}
    print("prompt " + json.dumps(line) if level == "ERROR" else json.dumps(line), file=sys.stderr)
print(json.dumps({{"type": "a type of the future"}}), file=sys.stderr)
sys.exit({code})
"""


def fake(base: Path, code: int, *messages: tuple[str, str, str], version: str = "1.4.0") -> str:
    """Write a program that answers so to everything, and return its path."""
    path = base / "fake-borg"
    path.write_text(FAKE.format(python=sys.executable, version=version, messages=list(messages), code=code))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "message", "expected", "slug"),
    [
        (13, ("ERROR", "", "no message id"), 2, "store-missing"),
        (2, ("ERROR", "Repository.DoesNotExist", "none there"), 2, "store-missing"),
        (52, ("ERROR", "", "modern"), 4, "key-wrong"),
        (50, ("ERROR", "", "modern"), 4, "key-wrong"),
        (73, ("ERROR", "LockTimeout", "held"), 5, "locked"),
        (2, ("ERROR", "LockTimeout", "held"), 5, "locked"),
        (2, ("ERROR", "Exception", "OSError: [Errno 28] No space left on device"), 4, "full"),
        (2, ("ERROR", "ConnectionClosed", "Connection closed by remote host"), 4, "borg-failed"),
        (99, ("WARNING", "", "whatever"), 4, "borg-failed"),
        (1, ("WARNING", "", "file changed"), 4, "borg-failed"),
    ],
)
def test_codes_old_and_new_and_messages(
    tmp_path: Path, code: int, message: tuple[str, str, str], expected: int, slug: str
) -> None:
    place = Place(tmp_path)

    done = place.backup("list", place.location, REGSTORE_BORG=fake(tmp_path, code, message))

    done.expect_error(expected, f"[{slug}]")


def test_a_key_that_cannot_be_exported_is_said_and_nothing_is_left_that_looks_like_it(tmp_path: Path) -> None:
    require_program("borg", "borgbackup")
    place = Place(tmp_path)
    wrapper = tmp_path / "keyless-borg"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *"key export"*) exit 2;; esac\nexec {shutil.which("borg")} "$@"\n')
    wrapper.chmod(0o755)

    done = place.backup("init", "--key-export", tmp_path / "key", place.location, REGSTORE_BORG=str(wrapper))

    done.expect_error(4, "key-export", "was made", "borg key export")
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("no-such-program", ["regstore[borg]", "borgbackup"]), ("true", ["is no borg"])]
)
def test_a_program_that_is_missing_or_another(tmp_path: Path, name: str, words: list[str]) -> None:
    place = Place(tmp_path)

    place.backup("list", place.location, REGSTORE_BORG=name).expect_error(4, "borg-missing", *words)


@pytest.mark.parametrize("version", ["1.0.9", "2.0.0"])
def test_a_program_of_another_version(tmp_path: Path, version: str) -> None:
    place = Place(tmp_path)

    done = place.backup("list", place.location, REGSTORE_BORG=fake(tmp_path, 0, version=version))

    done.expect_error(4, "borg-version", version)


def test_an_old_program_is_warned_of(place: Place) -> None:
    wrapper = place.base / "old-borg"
    real = shutil.which("borg")
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo borg 1.2.4 && exit 0\nexec {real} "$@"\n')
    wrapper.chmod(0o755)

    done = place.backup("create", place.root, place.location, REGSTORE_BORG=str(wrapper)).expect(0)

    assert "CVE-2023-36811" in done.stderr


def test_a_file_that_borg_left_out_makes_the_snapshot_incomplete(place: Place) -> None:
    """As one that cannot be read or vanished: borg makes the archive without it and ends with 1."""
    wrapper = place.base / "forgetful-borg"
    digits = digest_of(LARGE[1]).partition(":")[2]
    wrapper.write_text(
        f"#!{sys.executable}\n"
        "import os, subprocess, sys\n"
        "data = None\n"
        "if '--paths-from-stdin' in sys.argv:\n"
        f"    data = sys.stdin.buffer.read().replace(b'{digits}/data', b'{digits}/gone')\n"
        f"done = subprocess.run([{shutil.which('borg')!r}, *sys.argv[1:]], input=data, close_fds=False)\n"
        "sys.exit(done.returncode)\n"
    )
    wrapper.chmod(0o755)

    done = place.backup("create", "--json", place.root, place.location, REGSTORE_BORG=str(wrapper)).expect(1)

    (found,) = done.json["findings"]
    assert (found["id"], found["subject"], found["images"]) == ("blob-unreadable", digest_of(LARGE[1]), ["app:v2"])
    assert "Errno 2" in found["detail"]
    restored = place.run("restore", "--json", place.location, place.new).expect(1).json
    assert list(restored["lost"]) == ["app:v2"]


def test_a_registry_in_a_bucket_is_told_where_to_go(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        store = open_any_store(place.location, PassphraseOptions())
    assert not isinstance(store, backup.Store)
    with pytest.raises(UsageError) as caught:
        create_borg_backup(Registry(MemoryDriver()), store)
    assert "native store" in caught.value.hint

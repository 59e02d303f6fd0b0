"""The runbook of the worst day, docs/disaster-recovery.md: volumes are really destroyed, and come back by its commands.

For each section a test makes what there was, destroys it, runs every command of the section as it stands there, with
paths of a sandbox for those of the page, and pulls every image from a real registry. Nothing else recovers anything.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.collection import Whole, run_cli
from support.images import digest_of, layer, layers
from support.programs import require_program
from support.pusher import BrokenImage, Pusher
from support.registry import Registry
from support.runbook import Command, Section, read_runbook
from support.s3_server import REGION
from support.seaweed import SeaweedServer
from support.volume import V2, blob_key

pytestmark = pytest.mark.registry

PAGE = Path(__file__).parents[2] / "docs/disaster-recovery.md"
RUNBOOK = read_runbook(PAGE)
LARGE = random.Random("large").randbytes(200_000)
LUKS_BYTES = 18 * 1024 * 1024

# What the page calls something, to the place in the sandbox; longer names go first.
PLACES = {
    "/etc/docker/registry/config.yml": "server/config.yml",
    "/etc/keys/registry.key": "registry.key",
    "/etc/regstore/config.toml": "config.toml",
    "/var/lib/registry": "volume",
    "/srv/registry": "new/registry",
    "/srv": "new",
    "/backup/registry": "store",
    "/backup/second": "second",
    "/backup/new": "store-new",
    "/backup/borg": "borg",
    "/dev/sdb": "disk.img",
    "/mnt/usb": "usb",
    "/mnt/safe": "safe",
}


class Sandbox:
    """A host: a registry with its volume, a store, and the page's commands on them.

    Attributes:
        before: what every image was when all was well.
        names: what else the page calls something, such as a snapshot.
        log: every command that was run, as the page has it.
    """

    def __init__(self, base: Path, running: ExitStack) -> None:
        self.base = base
        self.root, self.store = base / "volume", base / "store"
        for name in ("server", "new", "usb", "safe", "bin"):
            (base / name).mkdir()
        self._running = running
        self.registry = self.make_registry(self.root)
        self.environment = {"BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(base / "borg-home")}
        self.before: Whole = {}
        self.names: dict[str, str] = {}
        self.log: list[str] = []
        self.program("regstore", f"{sys.executable} -m regstore")

    def program(self, name: str, command: str) -> None:
        """Let the page's commands find a program under a name."""
        path = self.base / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)

    def make_registry(self, root: Path | None, **options: Any) -> Registry:
        """Make a registry that the page's `systemctl` starts and stops."""
        self.registry = self._running.enter_context(Registry(self.base / "server", root, **options))
        return self.registry

    def prepare(self, *words: object, code: int = 0) -> dict[str, Any]:
        """Run regstore for what was done before the worst day."""
        return run_cli(self.base / "state", *words, "--json", environment=self.environment).expect(code).json

    def push(self) -> None:
        """Push images, and remember what a pull of each fetches."""
        with Pusher(self.registry.url) as client:
            client.push_image("team/app", "v1", [LARGE, layer("small")])
            client.push_image("team/app", "v1.1", [LARGE, layer("other")], flavour="oci")
            client.push_image("team/app", "v2", layers(2, "v2"))
            client.push_multi_arch("web", "latest", "multi")
            self.before = client.pull_all()

    def back_up(self, store: str = "store") -> str:
        """Make a snapshot, and return its id."""
        if not (self.base / store).exists():
            self.prepare("backup", "init", self.base / store)
        snapshot: dict[str, Any] = self.prepare("backup", "create", self.root, self.base / store)["snapshot"]
        return str(snapshot["id"])

    # Destroying

    def assert_broken(self) -> None:
        """See that it is really destroyed: not every image can be pulled."""
        with pytest.raises((AssertionError, OSError)):
            assert self.pull() == self.before

    def blob(self, data: bytes) -> Path:
        return self.root / blob_key(digest_of(data))

    # The page

    def recover(self, section: Section) -> None:
        """Run every command of a section."""
        assert section.commands
        for command in section.commands:
            self._run(command)
        assert self.log == [command.text for command in section.commands]

    def _run(self, command: Command) -> None:
        self.log.append(command.text)
        words = command.text.split()
        if words[0] == "systemctl":
            self._control(words[1], words[2:])
            return
        done = subprocess.run(
            ["sh", "-euc", self._place(command.text)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.base,
            env={
                **os.environ,
                **self.environment,
                "PATH": f"{self.base}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
                "XDG_STATE_HOME": str(self.base / "state"),
            },
            timeout=300,
        )
        told = f"{command.text}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == command.exit_code, told

    def _place(self, text: str) -> str:
        """Return a command with the sandbox's names for those of the page."""
        places = {**{name: str(self.base / place) for name, place in PLACES.items()}, **self.names}
        for name in sorted(places, key=len, reverse=True):
            text = text.replace(name, places[name])
        return text

    def _control(self, verb: str, units: list[str]) -> None:
        """Do what systemd would: the registry is the sandbox's, and there are no nights to be stopped."""
        assert set(units) <= {"docker-registry", "regstore-nightly@main.timer"}
        if "docker-registry" in units:
            {"stop": self.registry.stop, "start": self.registry.start, "restart": self.registry.restart}[verb]()

    # The proof

    def pull(self) -> Whole:
        """Pull every tag from the registry, every byte hashed."""
        with Pusher(self.registry.url) as client:
            return client.pull_all()

    def assert_recovered(self) -> None:
        """See that every image is what it was, pulled from a registry that the page has started."""
        assert self.registry.is_running
        assert self.pull() == self.before


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A registry that runs, with images, and a store with a snapshot of them."""
    require_program("docker-registry", "docker-registry")
    with ExitStack() as running:
        sandbox = Sandbox(tmp_path, running)
        sandbox.push()
        sandbox.back_up()
        yield sandbox


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another disk."""
    with tempfile.TemporaryDirectory(prefix="regstore-test-", dir="/dev/shm") as name:
        yield Path(name)


def test_the_disk_is_lost(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.root)
    sandbox.root.mkdir()
    sandbox.assert_broken()

    sandbox.recover(RUNBOOK["The disk is lost"])

    sandbox.assert_recovered()
    assert len(sandbox.prepare("backup", "list", sandbox.store)["snapshots"]) == 2


@pytest.fixture
def in_bucket(tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str) -> Iterator[Sandbox]:
    """A registry that runs over a bucket, and a store with a snapshot of it."""
    require_program("docker-registry", "docker-registry")
    section = {
        "accesskey": seaweed.access_key,
        "secretkey": seaweed.secret_key,
        "region": REGION,
        "regionendpoint": seaweed.endpoint,
        "bucket": s3_bucket,
        "rootdirectory": "/registry",
        "secure": False,
        "v4auth": True,
    }
    with ExitStack() as running:
        sandbox = Sandbox(tmp_path, running)
        sandbox.registry.stop()
        sandbox.make_registry(None, storage={"s3": section})
        sandbox.names["--bucket bucket"] = f"--bucket {s3_bucket}"
        sandbox.environment |= {
            "AWS_ACCESS_KEY_ID": seaweed.access_key,
            "AWS_SECRET_ACCESS_KEY": seaweed.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }
        seaweed.client().put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
        sandbox.push()
        sandbox.prepare("backup", "init", sandbox.store)
        sandbox.prepare("backup", "create", sandbox.registry.config_path, sandbox.store)
        yield sandbox


@pytest.mark.s3
def test_the_bucket_is_lost(in_bucket: Sandbox, seaweed: SeaweedServer, s3_bucket: str) -> None:
    seaweed.delete_bucket(s3_bucket)
    seaweed.create_bucket(s3_bucket)
    assert keys_in(seaweed, s3_bucket) == []
    in_bucket.assert_broken()

    in_bucket.recover(RUNBOOK["The bucket is lost"])

    in_bucket.assert_recovered()


@pytest.mark.s3
def test_a_bucket_with_versions(in_bucket: Sandbox, seaweed: SeaweedServer, s3_bucket: str) -> None:
    in_bucket.program("aws", f"{require_program('aws', 'awscli')} --endpoint-url {seaweed.endpoint}")
    client = seaweed.client()
    client.put_object(Bucket=s3_bucket, Key="registry/deleted-before", Body=b"")
    client.delete_object(Bucket=s3_bucket, Key="registry/deleted-before")
    time.sleep(2)  # the times of deletions are told in seconds
    in_bucket.names["2026-11-20T03:00"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    before = keys_in(seaweed, s3_bucket)
    client.delete_objects(Bucket=s3_bucket, Delete={"Objects": [{"Key": key} for key in before]})
    assert keys_in(seaweed, s3_bucket) == []
    in_bucket.assert_broken()

    in_bucket.recover(RUNBOOK["A bucket with versions"])

    in_bucket.assert_recovered()
    assert keys_in(seaweed, s3_bucket) == before


def keys_in(seaweed: SeaweedServer, bucket: str) -> list[str]:
    """Return the keys of a small bucket."""
    return [entry["Key"] for entry in seaweed.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture
def disk(sandbox: Sandbox, elsewhere: Path) -> Path:
    """An image with a LUKS2 header, two keys, and a backup of the header on another disk."""
    require_program("cryptsetup", "cryptsetup-bin")
    disk, key, second = sandbox.base / "disk.img", sandbox.base / "registry.key", sandbox.base / "second.key"
    with disk.open("wb") as file:
        file.truncate(LUKS_BYTES)
    key.write_text("Zwetschgenknoedel")
    second.write_text("Marillenknoedel")
    kdf = ("--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000000", "--key-file", key)
    subprocess.run(["cryptsetup", "luksFormat", "--type", "luks2", *kdf, disk], check=True)
    subprocess.run(["cryptsetup", "luksAddKey", *kdf, disk, second], check=True)
    sandbox.names["/mnt/usb"] = str(elsewhere)
    sandbox.prepare("luks", "backup-header", disk, elsewhere / "registry.hdr")
    return disk


def test_the_luks_header_is_lost(sandbox: Sandbox, disk: Path, elsewhere: Path) -> None:
    """There is no device mapper here: the key fits again, and every byte of the disk is what it was."""
    before = digest_of(disk.read_bytes())
    with disk.open("r+b") as file:
        file.write(os.urandom(1024 * 1024))  # both copies of the header, and key slots
    test = ["cryptsetup", "open", "--test-passphrase", "--key-file", sandbox.base / "registry.key", disk]
    assert subprocess.run(test, check=False, capture_output=True).returncode != 0

    sandbox.recover(RUNBOOK["The LUKS header is lost"])

    assert digest_of(disk.read_bytes()) == before
    assert (elsewhere / "damaged.hdr").stat().st_size == 16 * 1024 * 1024


@pytest.mark.parametrize("offset", [0, 16384], ids=["first", "second"])
def test_one_copy_of_the_luks_header_is_damaged(sandbox: Sandbox, disk: Path, offset: int) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(4096))

    sandbox.recover(RUNBOOK["One copy of the LUKS header is damaged"])


def test_images_that_a_collection_took(sandbox: Sandbox) -> None:
    with Pusher(sandbox.registry.url) as client:
        image = client.push_image("team/app", "moved", layers(2, "untagged"))
        client.push_image("team/app", "moved", layers(2, "new"))
        whole = client.pull("team/app", image.digest)
        sandbox.before = client.pull_all()
        sandbox.registry.stop()
        sandbox.prepare(
            "gc", "run", "--offline", "--delete-untagged", "--grace", "0s", "--max-delete", "none", sandbox.root
        )
        sandbox.registry.start()
        with pytest.raises(BrokenImage):
            client.pull("team/app", image.digest)

        sandbox.recover(RUNBOOK["Images that a collection took"])

        assert client.pull("team/app", image.digest) == whole
    sandbox.assert_recovered()


def test_tags_that_somebody_deleted(sandbox: Sandbox) -> None:
    (snapshot,) = sandbox.prepare("backup", "list", sandbox.store)["snapshots"]
    sandbox.names["1a2b3c4d"] = snapshot["id"]
    with Pusher(sandbox.registry.url) as client:
        for tag in ("v1", "v1.1"):
            found = client.fetch_manifest("team/app", tag)
            assert found
            assert client.delete_manifest("team/app", digest_of(found[0])) == 202
    sandbox.registry.stop()
    sandbox.prepare("gc", "run", "--offline", "--grace", "0s", "--max-delete", "none", "--no-quarantine", sandbox.root)
    assert not sandbox.blob(LARGE).exists()
    sandbox.registry.start()
    sandbox.back_up()
    sandbox.assert_broken()

    sandbox.recover(RUNBOOK["Tags that somebody deleted"])

    sandbox.assert_recovered()


def test_somebody_destroyed_it_on_purpose(sandbox: Sandbox) -> None:
    (good,) = sandbox.prepare("backup", "list", sandbox.store)["snapshots"]
    sandbox.names["1a2b3c4d"] = good["id"]
    with Pusher(sandbox.registry.url) as client:
        client.push_image("team/app", "v1", layers(1, "evil"))  # and the next night saves that
    sandbox.back_up()
    sandbox.registry.stop()
    shutil.rmtree(sandbox.root / V2)
    sandbox.make_registry(sandbox.base / "new/registry").stop()  # as its configuration has it now
    shutil.rmtree(sandbox.base / "new/registry")

    sandbox.recover(RUNBOOK["Somebody destroyed it on purpose"])

    sandbox.assert_recovered()


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_data(sandbox: Sandbox, how: str) -> None:
    damaged = bytearray(LARGE)
    damaged[1000] ^= 1
    for data in (LARGE, layer("other")):
        path = sandbox.blob(data)
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(bytes(damaged) if how == "flipped" else data[:100])
    sandbox.assert_broken()

    sandbox.recover(RUNBOOK["Damaged data"])

    sandbox.assert_recovered()


def test_nothing_is_left_but_the_backup(sandbox: Sandbox) -> None:
    sandbox.registry.stop()
    shutil.rmtree(sandbox.root)
    shutil.rmtree(sandbox.base / "state")

    sandbox.recover(RUNBOOK["Nothing is left but the backup"])

    sandbox.assert_recovered()
    assert str(sandbox.root) in (sandbox.base / "config.toml").read_text()


def test_the_backup_itself_is_damaged(sandbox: Sandbox) -> None:
    """A blob and a pack that the registry still has are rotten, a blob that only an older snapshot has is missing."""
    with Pusher(sandbox.registry.url) as client:
        old = layer("old", 100_000)
        gone = client.push_image("team/app", "old", [old])
        whole = client.pull("team/app", "old")
        sandbox.back_up()
        client.delete_manifest("team/app", gone.digest)
    shutil.copytree(sandbox.store, sandbox.base / "second")
    sandbox.registry.stop()
    sandbox.prepare("gc", "run", "--offline", "--grace", "0s", "--max-delete", "none", "--no-quarantine", sandbox.root)
    sandbox.registry.start()
    rotten = sandbox.store / "blobs/sha256" / digest_of(LARGE)[7:9] / digest_of(LARGE)[7:]
    rotten.write_bytes(b"rot" + LARGE[3:])
    (sandbox.store / "blobs/sha256" / digest_of(old)[7:9] / digest_of(old)[7:]).unlink()
    pack = min(sandbox.store.glob("packs/*/*"), key=lambda path: path.stat().st_mtime_ns)  # of the first snapshot
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 1
    pack.write_bytes(content)
    sandbox.names["blobs/sha256/ab/abcdef"] = str(rotten.relative_to(sandbox.store))
    sandbox.names["packs/ab/abcdef.tar.zst"] = str(pack.relative_to(sandbox.store))

    sandbox.recover(RUNBOOK["The backup itself is damaged"])

    assert rotten.read_bytes() == LARGE
    shutil.rmtree(sandbox.root)
    sandbox.registry.stop()
    for store in (sandbox.store, sandbox.base / "store-new"):
        sandbox.prepare("restore", store, sandbox.root)
        sandbox.registry.start()
        sandbox.assert_recovered()
        sandbox.registry.stop()
        shutil.rmtree(sandbox.root)
    second = sandbox.prepare("backup", "list", sandbox.store)["snapshots"][1]["id"]
    sandbox.prepare("restore", "--snapshot", second, "--tag", "old", sandbox.store, sandbox.root)
    with sandbox.registry, Pusher(sandbox.registry.url) as client:
        assert client.pull("team/app", "old") == whole


def test_a_borg_repository_without_its_key(sandbox: Sandbox) -> None:
    require_program("borg", "borgbackup")
    location = f"borg:{sandbox.base}/borg"
    sandbox.prepare("backup", "init", "--key-export", sandbox.base / "safe/registry.borg-key", location)
    sandbox.prepare("backup", "create", sandbox.root, location)
    config = sandbox.base / "borg/config"
    lines = config.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("key ="))
    config.write_text("\n".join([*lines[:start], "key = ", ""]))
    assert run_cli(sandbox.base / "state", "backup", "list", location, environment=sandbox.environment).code == 4

    sandbox.recover(RUNBOOK["A borg repository without its key"])

    shutil.rmtree(sandbox.root)
    sandbox.prepare("restore", location, sandbox.root)
    sandbox.assert_recovered()


def test_every_section_is_run() -> None:
    """Each section with commands has a test, and what is not run is marked with a reason."""
    tested = {
        "The disk is lost": test_the_disk_is_lost,
        "The bucket is lost": test_the_bucket_is_lost,
        "A bucket with versions": test_a_bucket_with_versions,
        "The LUKS header is lost": test_the_luks_header_is_lost,
        "One copy of the LUKS header is damaged": test_one_copy_of_the_luks_header_is_damaged,
        "Images that a collection took": test_images_that_a_collection_took,
        "Tags that somebody deleted": test_tags_that_somebody_deleted,
        "Somebody destroyed it on purpose": test_somebody_destroyed_it_on_purpose,
        "Damaged data": test_damaged_data,
        "Nothing is left but the backup": test_nothing_is_left_but_the_backup,
        "The backup itself is damaged": test_the_backup_itself_is_damaged,
        "A borg repository without its key": test_a_borg_repository_without_its_key,
    }
    assert tested.keys() == RUNBOOK.keys()
    assert {reason for section in RUNBOOK.values() for _, reason in section.not_run} == {"needs a device mapper"}
    text = PAGE.read_text()
    commands = [command for section in RUNBOOK.values() for command in (*section.commands, *section.not_run)]
    lines = [line for block in text.split("```sh\n")[1:] for line in block.partition("```")[0].splitlines() if line]
    assert len(commands) == len(lines)


def test_links_to_sections_lead_somewhere() -> None:
    text = PAGE.read_text()
    anchors = {title.lower().replace(" ", "-") for title in RUNBOOK}
    named = {part.partition(")")[0] for part in text.split("](#")[1:]}
    assert named == anchors

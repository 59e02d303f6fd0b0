"""Checks and repairs beside a running registry, and what is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from regstore.lock import hold_lock
from regstore_drivers.filesystem import FilesystemDriver
from support.collection import Volume, run_cli
from support.damaged import Files
from support.images import layers
from support.pusher import Pusher
from support.registry import Registry
from support.volume import V2, layer_link_key

pytestmark = pytest.mark.registry
STRANGER = 4711


class Clients:
    """Pushes, moves tags and deletes, in a loop, until it is left."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.errors: list[BaseException] = []
        self.count = 0
        self.last: dict[str, str] = {}

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            with Pusher(self._registry.url) as client:
                while not self._stop.is_set():
                    number, repository = self.count, f"busy/{self.count % 3}"
                    image = client.push_image(repository, "v1", layers(2, f"busy {number % 7}"))
                    self.last[repository] = image.digest
                    deleted = client.push_image("busy/gone", f"t{number}", layers(1, f"gone {number}"))
                    client.delete_manifest("busy/gone", deleted.digest)
                    self.count += 1
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            self.errors.append(error)


def test_checks_and_a_repair_beside_clients(volume: Volume) -> None:
    """20 checks find nothing wrong; a repair mends what was broken, and touches nothing that clients write."""
    with volume.registry() as registry:
        with Pusher(registry.url) as client:
            quiet = client.push_image("quiet", "v1", layers(2, "quiet"))
        with Clients(registry) as clients:
            for _ in range(20):
                done = volume.fsck("--data").expect(0)
                assert [found for found in done.json["findings"] if found["severity"] != "info"] == []
            Files(volume.root).drop(layer_link_key("quiet", quiet.layers[0]))
            for _ in range(3):
                done = volume.fsck("--repair", "--yes", "--accept-proposals", "--prune").expect(0)
        assert clients.errors == []
        assert clients.count > 10
        repairs = list(volume.path("regstore/repairs").iterdir())
        assert len(repairs) == 1
        assert len((repairs[0] / "ledger/000001.jsonl").read_text().splitlines()) == 1
        with Pusher(registry.url) as client:
            for repository, digest in clients.last.items():
                assert digest in client.pull(repository, "v1")
            client.pull_all()


@pytest.fixture
def broken(volume: Volume) -> Volume:
    """A volume with one link missing, its registry stopped."""
    with volume.serving() as client:
        image = client.push_image("app", "v1", layers(1, "app"))
    Files(volume.root).drop(layer_link_key("app", image.layers[0]))
    return volume


def test_what_is_refused_changes_nothing(broken: Volume, tmp_path: Path) -> None:
    """One clear line, the right code, and not a byte is other."""
    before = broken.snapshot()
    cli, home = run_cli, broken.state_home

    cli(home, "fsck", tmp_path / "nowhere").expect_error(2, "there is no")
    (tmp_path / "empty").mkdir()
    cli(home, "fsck", tmp_path / "empty").expect_error(2, "no registry")
    broken.fsck("--repair").expect_error(3, "no terminal", "--yes")
    broken.fsck("--repair", "--yes", "--from", "http://127.0.0.1:1").expect_error(4, "does not answer")
    broken.fsck("--repair", "--yes", "--from", broken.root).expect_error(2)
    broken.fsck("--repair", "--yes", "--from", tmp_path / "nowhere").expect_error(2, "there is no")
    broken.fsck("--data", "--subset", "9/7").expect(2)
    broken.fsck("--details", tmp_path / "nowhere/file").expect_error(2, "cannot write the details")
    cli(home, "fsck", "s3://bucket/x?endpoint=http://127.0.0.1:1").expect(4)
    assert broken.snapshot() == before
    assert not broken.path("regstore").exists()
    with hold_lock(FilesystemDriver(str(broken.root)), "gc run"):
        broken.fsck("--repair", "--yes").expect_error(5, "gc run")
        broken.fsck().expect(1)
    assert broken.snapshot() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a check as another user")
def test_what_another_user_may_not_read_is_told_and_the_rest_goes_on(broken: Volume) -> None:
    """A directory, a manifest and a blob that are closed."""
    with broken.serving() as client:
        closed = client.push_image("closed", "v1", layers(1, "closed"))
        client.push_image("tags", "v1", layers(1, "tags"))
    for path in broken.root.parents[:-1]:
        path.chmod(path.stat().st_mode | 0o055)
    data = broken.tree / "blobs" / closed.digest.replace("sha256:", f"sha256/{closed.digest[7:9]}/") / "data"
    data.chmod(0)
    (broken.tree / "repositories/tags/_manifests").chmod(0)
    broken.state_home.mkdir(exist_ok=True)
    os.chown(broken.state_home, STRANGER, STRANGER)

    done = broken.fsck("--data", user=STRANGER).expect(1)

    found = {(entry["id"], entry["subject"]) for entry in done.json["findings"]}
    assert ("layer-link-missing", done.json["findings"][0]["subject"]) in found
    unreadable = {subject for kind, subject in found if kind == "storage-error"}
    assert any(f"{V2}/repositories/tags/_manifests" in subject for subject in unreadable)
    assert any(closed.digest in subject for subject in unreadable)

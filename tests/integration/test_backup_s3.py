"""Registries and stores in buckets: a real registry, a real S3 server, and the faults of a bad day."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from regstore import backup
from regstore.backup import Store
from regstore.backup.opening import open_store
from regstore.registry import Registry as Location
from regstore.registry import open_registry, open_target
from regstore_drivers.base import Driver
from regstore_drivers.errors import Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.s3 import S3Driver
from regstore_drivers.wrappers import Counting, Retrying
from regstore_drivers.wrappers._forwarding import Forwarding
from support.backup import contents_of, objects_of
from support.images import digest_of, layers
from support.pusher import Pusher
from support.registry import Registry
from support.seaweed import SeaweedServer
from support.unreliable import Unreliable
from support.volume import VolumeWriter, blob_key, tag_link_key

OpenS3 = Callable[..., S3Driver]
LARGE = b"large" * 30_000


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def store_at(driver: Driver) -> Store:
    """Make a store on a driver, or open the one that is there."""
    if not any(name == "format.json" for name in driver.list_dir("")):
        data = b'{"format": "regstore store", "version": 1, "id": "%032x", "hash": "sha256"}' % random.getrandbits(120)
        driver.write("format.json", data, len(data))
    return Store(driver, "test-store", 8)


def back_up(source: Driver, store: Store) -> backup.CreateResult:
    return backup.create_backup(Location(source), store)


def bring_back(store: Store, target: Driver) -> backup.RestoreResult:
    restore = backup.Restore(store, backup.find_snapshot(store, "latest"), Location(target))
    return restore.apply(restore.plan())


@pytest.mark.s3
@pytest.mark.registry
def test_a_registry_in_a_bucket_is_stored_in_another_and_restored_to_a_third(
    start: Callable[..., Registry],
    driver: S3Driver,
    seaweed: SeaweedServer,
    s3_bucket: str,
    open_s3: OpenS3,
    make_registry: Callable[..., Registry],
) -> None:
    with start() as registry, Pusher(registry.url) as client:
        client.push_multi_arch("team/app", "v1", "seed")
        client.push_image("app", "v1", [LARGE, *layers(2, "app")])
        client.push_image("app", "v1", [LARGE, *layers(2, "moved")])
        client.begin_upload("app")
        expected = client.pull_all()
    store = store_at(open_s3(seaweed, s3_bucket, "backups"))

    created = back_up(driver, store)

    assert created.head.is_complete
    assert created.head.broken == []
    target = open_s3(seaweed, s3_bucket, "new/place")
    bring_back(store, target)
    before = {key: data for key, data in objects_of(driver).items() if "/_uploads/" not in key}
    assert objects_of(target) == before
    assert backup.verify_store(store, backup.VerifyOptions(is_full=True)).findings == []
    section = {
        "accesskey": seaweed.access_key,
        "secretkey": seaweed.secret_key,
        "region": "us-east-1",
        "regionendpoint": seaweed.endpoint,
        "bucket": s3_bucket,
        "rootdirectory": "/new/place",
        "secure": False,
        "v4auth": True,
    }
    with make_registry(storage={"s3": section}) as registry, Pusher(registry.url) as client:
        assert client.pull_all() == expected
    head = seaweed.client().head_object(Bucket=s3_bucket, Key=f"new/place/{tag_link_key('app', 'v1')}")
    assert float(head["Metadata"]["mtime"]) > 1.6e9


@pytest.mark.s3
def test_from_a_directory_to_a_bucket_and_back(
    tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3
) -> None:
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", [LARGE, *layers(3, "app")])
    store = store_at(open_s3(seaweed, s3_bucket, "stores/one"))
    backup.create_backup(open_registry(str(tmp_path / "volume")), store)
    restore = backup.Restore(store, backup.find_snapshot(store, "latest"), open_target(str(tmp_path / "new")))
    restore.apply(restore.plan())

    assert contents_of(tmp_path / "new") == contents_of(tmp_path / "volume")


@pytest.mark.s3
def test_a_run_without_change_only_lists(
    driver: S3Driver, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3
) -> None:
    writer = VolumeWriter(lambda key, data: driver.write(key, data, len(data)))
    for number in range(3):
        writer.push_image("app", f"v{number}", [LARGE, *layers(2, number)])
    plain = open_s3(seaweed, s3_bucket, "backups")
    back_up(driver, store_at(plain))
    source, target = Counting(driver), Counting(plain)

    result = backup.create_backup(Location(source), Store(target, "test-store", 8))

    assert result.head.new_blob_count == 0
    # Beside the lock, the new snapshot, and the question whether this is a pull-through cache.
    assert target.counts == {"list": 20, "list_multipart": 1, "write": 2, "read": 2, "stat": 1, "delete": 1}
    assert target.bytes_read < 1000
    assert {name for name in source.counts if not name.startswith("list")} == {"stat", "now"}


PARTS = {"multipart_threshold": 5 << 20, "part_min": 5 << 20}


class Sending:
    """Notes the numbers of the parts that a driver sends, and may die before one."""

    def __init__(self, driver: S3Driver) -> None:
        self.parts: list[int] = []
        self.dies_at = 0
        driver._connection.client.meta.events.register("before-parameter-build.s3.UploadPart", self._send)

    def _send(self, params: dict[str, Any], **_: object) -> None:
        if params["PartNumber"] == self.dies_at:
            raise Killed
        self.parts.append(params["PartNumber"])

    def die_at(self, number: int, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        """Do something as a process that is killed before it sends a part: nothing is aborted."""
        self.dies_at = number
        with monkeypatch.context() as patch:
            patch.setattr("regstore_drivers.s3.upload.aborting", lambda *_: nullcontext())
            with pytest.raises(Killed):
                act()
        self.dies_at = 0
        self.parts.clear()


@pytest.mark.s3
def test_a_backup_that_was_killed_goes_on_with_the_parts_of_its_upload(
    tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", [random.Random(1).randbytes(23 << 20)])
    driver = open_s3(seaweed, s3_bucket, "stores/one", driver=PARTS)
    store = store_at(driver)
    sending = Sending(driver)

    def create() -> backup.CreateResult:
        return backup.create_backup(open_registry(str(tmp_path / "volume")), Store(Counting(driver), "test-store", 8))

    sending.die_at(4, monkeypatch, create)
    seaweed.client().create_multipart_upload(Bucket=s3_bucket, Key="stores/one/blobs/sha256/ab/of-no-use")

    created = create()

    assert created.head.is_complete
    assert sending.parts == [4, 5]
    assert list(driver.list_multipart("")) == []
    restore = backup.Restore(store, backup.find_snapshot(store, "latest"), open_target(str(tmp_path / "new")))
    restore.apply(restore.plan())
    assert contents_of(tmp_path / "new") == contents_of(tmp_path / "volume")


@pytest.mark.s3
def test_a_restore_that_was_killed_goes_on_with_its_own_uploads_only(
    tmp_path: Path, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry uploads its layers elsewhere, but moves them here in parts, too."""
    data = random.Random(1).randbytes(23 << 20)
    VolumeWriter(tmp_path / "volume").push_image("app", "v1", [data])
    store = backup.init_store(str(tmp_path / "store"))
    backup.create_backup(open_registry(str(tmp_path / "volume")), store)
    driver = open_s3(seaweed, s3_bucket, "new", driver=PARTS)
    sending = Sending(driver)
    foreign = f"new/{blob_key(digest_of(data))}"
    sending.die_at(4, monkeypatch, lambda: bring_back(store, Counting(driver)))
    seaweed.client().create_multipart_upload(Bucket=s3_bucket, Key=foreign)

    bring_back(store, Counting(driver))

    assert sending.parts == [4, 5]
    assert objects_of(driver) == contents_of(tmp_path / "volume")
    assert [f"new/{upload.key}" for upload in driver.list_multipart("")] == [foreign]


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("seed", range(6))
def test_a_store_and_a_registry_that_fail_three_times_in_ten(seed: int) -> None:
    dice = random.Random(seed)
    source, kept, target = MemoryDriver("source"), MemoryDriver("store"), MemoryDriver("target")
    writer = VolumeWriter(lambda key, data: source.write(key, data, len(data)))
    for number in range(4):
        writer.push_image("app", f"v{number}", [LARGE + bytes([number]), *layers(2, number)])

    def patient(driver: Driver) -> Retrying:
        return Retrying(Unreliable(driver, dice), sleep=lambda _: None)

    store = store_at(patient(kept))

    created = back_up(patient(source), store)
    bring_back(store, patient(target))

    assert created.head.is_complete
    assert objects_of(target) == objects_of(source)
    assert backup.verify_store(Store(kept, "x", 1), backup.VerifyOptions(is_full=True)).findings == []


def test_a_store_that_stays_away_is_an_error_and_no_snapshot() -> None:
    source, kept = MemoryDriver("source"), MemoryDriver("store")
    VolumeWriter(lambda key, data: source.write(key, data, len(data))).push_image("app", "v1", [LARGE])
    store_at(kept)

    class Away(Forwarding):
        def _call(self, operation: str, key: str, call: Callable[[], Any]) -> Any:
            if operation == "write" and key.startswith("blobs/"):
                raise Unavailable("busy", operation=operation, key=key)
            return call()

    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    away = Retrying(Away(kept), sleep=sleep, clock=lambda: clock[0])
    with pytest.raises(Unavailable):
        back_up(source, Store(away, "x", 4))

    assert 60 < clock[0] <= 300
    assert list(kept.list("snapshots/")) == []
    assert back_up(source, Store(kept, "x", 4)).head.is_complete


def test_an_object_store_is_named_by_its_url() -> None:
    backup.init_store("memory://named")

    assert open_store("memory://named").location == "memory://named"

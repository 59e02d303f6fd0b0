"""Migrations of registries that clients use, between file systems and buckets, as an operator runs them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from fixtures_s3 import S3Store
from regstore import layout
from regstore.migrate import Migration
from regstore.registry import open_registry, open_target
from regstore.work import NoProgress
from regstore_drivers.base import Driver
from regstore_drivers.errors import DriverError
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.s3 import S3Driver
from regstore_drivers.wrappers import Counting, Retrying
from support.backup import contents_of, objects_of
from support.clients import Worker
from support.collection import Done, run_cli
from support.images import digest_of, layers
from support.limits import run_limited, run_weighed
from support.migration import migrate, verify, worst
from support.mounts import mounted
from support.pusher import Pusher
from support.registry import Registry
from support.s3_server import REGION
from support.seaweed import SeaweedServer
from support.unreliable import Unreliable
from support.volume import VolumeWriter, blob_key, tag_link_key, write_sparse_blob

MakeRegistry = Callable[..., Registry]
OpenS3 = Callable[..., S3Driver]
LARGE = b"large" * 300_000


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where regstore remembers what it learned."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


class Place:
    """One end of a migration: how regstore is told of it, and the options of a registry on it."""

    def __init__(self, location: str, storage: dict[str, Any], environment: dict[str, str] | None = None) -> None:
        self.location = location
        self.storage = storage
        self.environment = environment or {}


def directory_place(path: Path) -> Place:
    """A directory."""
    return Place(str(path), {"filesystem": {"rootdirectory": str(path)}})


def bucket_place(seaweed: SeaweedServer, bucket: str, prefix: str) -> Place:
    """A prefix in a bucket."""
    section = {
        "accesskey": seaweed.access_key,
        "secretkey": seaweed.secret_key,
        "region": REGION,
        "regionendpoint": seaweed.endpoint,
        "bucket": bucket,
        "rootdirectory": f"/{prefix}",
        "secure": False,
        "v4auth": True,
    }
    location = f"s3://{bucket}/{prefix}?endpoint={quote(seaweed.endpoint, safe=':/')}&region={REGION}"
    credentials = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
    return Place(location, {"s3": section}, credentials)


class Move:
    """A migration from one place to another, by the command line and real registries."""

    def __init__(self, source: Place, target: Place, state: Path, make_registry: MakeRegistry) -> None:
        self.source = source
        self.target = target
        self._state = state
        self._make_registry = make_registry

    def command(self, name: str, *options: object) -> Done:
        """Run a command on the two ends."""
        environment = {**self.source.environment, **self.target.environment}
        ends = (self.source.location, self.target.location)
        return run_cli(self._state, "migrate", name, *options, *ends, environment=environment)

    @contextmanager
    def serving(self, place: Place) -> Iterator[Pusher]:
        """Serve a place."""
        with self._make_registry(storage=place.storage) as registry, Pusher(registry.url) as client:
            yield client


@contextmanager
def clients(url: str, count: int = 3) -> Iterator[list[Worker]]:
    """Clients that push, move tags and delete, as long as the block lasts."""
    is_over = threading.Event()
    workers = [Worker([url], f"w{number}", number, is_over) for number in range(count)]
    for worker in workers:
        worker.thread.start()
    try:
        yield workers
    finally:
        is_over.set()
        for worker in workers:
            worker.thread.join()
    assert [worker.failure for worker in workers] == [None] * count


def wait_for(workers: list[Worker], pushes: int) -> None:
    """Wait until they have pushed so many images."""
    while sum(worker.pushes for worker in workers) < pushes:
        assert [worker.failure for worker in workers] == [None] * len(workers)
        time.sleep(0.01)


def pull_all(client: Pusher, place: Place) -> dict[tuple[str, str], set[str]]:
    """Pull every tag that a registry lists. SeaweedFS goes on showing the directory of a tag that was deleted."""
    if "s3" not in place.storage:
        return client.pull_all()
    return {
        (repository, tag): client.pull(repository, tag)
        for repository in client.catalog()
        for tag in client.tags(repository)
        if client.has_manifest(repository, tag)
    }


def move_while_serving(move: Move) -> None:
    """Move a registry while clients use it; what is at the target in between is whole, and in the end the same."""
    with ExitStack() as stack:
        with move._make_registry(storage=move.source.storage) as registry, clients(registry.url) as workers:
            wait_for(workers, 12)
            first = move.command("run", "--json").expect(0)
            assert first.json["copied_blobs"] > 0
            for pushes in (20, 28):
                wait_for(workers, pushes)
                with move.serving(move.target) as client:
                    pull_all(client, move.target)
                move.command("run", "-q").expect(0)
            move.command("run", "--cut-over").expect_error(3, "not-quiet")
        with move.serving(move.source) as client:
            expected = pull_all(client, move.source)
        done = move.command("run", "--cut-over", "--mirror", "--max-delete", "none", "--readback", "--json").expect(0)
        client = stack.enter_context(move.serving(move.target))
        assert pull_all(client, move.target) == expected
    document = done.json
    assert document["verification"]["is_equal"]
    driver, section = next(iter(yaml.safe_load(document["configuration"])["storage"].items()))
    assert driver in move.target.storage
    assert section["rootdirectory"] == move.target.storage[driver]["rootdirectory"]
    for secret in move.target.environment.values():
        assert secret not in done.stdout + done.stderr
    again = move.command("run", "--json").expect(0).json
    assert (again["copied_blobs"], again["written_links"]) == (0, 0)
    report = move.command("verify", "--readback", "--json").expect(0).json
    assert all(count == 0 for counts in report["items"].values() for word, count in counts.items() if word != "same")


@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("file_system", ["ext4", "xfs", "btrfs"])
def test_to_another_disk(file_system: str, tmp_path: Path, state: Path, make_registry: MakeRegistry) -> None:
    with mounted(tmp_path, file_system) as disk:
        source, target = directory_place(tmp_path / "old"), directory_place(disk / "registry")
        (tmp_path / "old").mkdir()
        move = Move(source, target, state, make_registry)
        move_while_serving(move)
        configuration = move.command("run", "--cut-over", "--json").expect(0).json["configuration"]
        assert f"{disk}  {file_system}  defaults,nofail" in configuration


@pytest.mark.registry
@pytest.mark.parametrize("file_system", ["xfs", "btrfs"])
def test_on_one_disk_extents_are_shared(
    file_system: str, tmp_path: Path, state: Path, make_registry: MakeRegistry
) -> None:
    size = 150 << 20
    with mounted(tmp_path, file_system) as disk:
        data = random.Random(1).randbytes(1 << 20) * (size >> 20)
        VolumeWriter(disk / "old").push_image("app", "v1", [data])
        move = Move(directory_place(disk / "old"), directory_place(disk / "new"), state, make_registry)

        move.command("run", "--readback", "-q").expect(0)  # there would be no room for a second copy

        assert contents_of(disk / "new") == contents_of(disk / "old")
        subprocess.run(["sync", "-f", str(disk)], check=True)
        assert blocks_free(disk) > 400 * (1 << 20) - size - (100 << 20)


def blocks_free(disk: Path) -> int:
    """Free bytes of a file system."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.registry
@pytest.mark.parametrize(
    ("source", "target"), [("directory", "bucket"), ("bucket", "directory"), ("bucket", "other bucket")]
)
def test_from_and_to_buckets(
    source: str,
    target: str,
    tmp_path: Path,
    state: Path,
    make_registry: MakeRegistry,
    seaweed: SeaweedServer,
    s3_bucket: str,
) -> None:
    (tmp_path / "old").mkdir()
    places = {
        "directory": directory_place(tmp_path / ("old" if source == "directory" else "new")),
        "bucket": bucket_place(seaweed, s3_bucket, "company/registry"),
        "other bucket": bucket_place(seaweed, s3_bucket, "new/place"),
    }
    move_while_serving(Move(places[source], places[target], state, make_registry))


@pytest.mark.slow
@pytest.mark.registry
def test_a_registry_on_a_half_filled_target_serves_whole_images_only(
    tmp_path: Path, state: Path, make_registry: MakeRegistry
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    writer = VolumeWriter(old)
    for number in range(60):
        writer.push_image(f"team/app{number % 5}", f"v{number}", [LARGE + b"%d" % number, *layers(3, str(number))])
    new.mkdir()
    move = Move(directory_place(old), directory_place(new), state, make_registry)
    seen: list[int] = []
    results: list[Done] = []
    thread = threading.Thread(target=lambda: results.append(move.command("run", "--bandwidth", "3MiB", "--jobs", "1")))
    with move.serving(move.target) as client:
        thread.start()
        while thread.is_alive():
            seen.append(len(client.pull_all()))
        thread.join()
        seen.append(len(client.pull_all()))
    results[0].expect(0)
    assert seen[-1] == 60
    assert seen[0] < 60
    assert seen == sorted(seen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directory", "bucket", "bucket to bucket"])
def test_killed_at_random_moments_it_goes_on(
    kind: str, tmp_path: Path, state: Path, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3
) -> None:
    dice = random.Random(7)
    old = tmp_path / "old"
    writer = VolumeWriter(old)
    for number in range(30):
        writer.push_image("app", f"v{number}", [dice.randbytes(200_000), *layers(3, str(number))])
    big = dice.randbytes(12 << 20)
    writer.push_image("app", "big", [big])
    place = directory_place(tmp_path / "new") if kind == "directory" else bucket_place(seaweed, s3_bucket, "new")
    driver: Driver | None = None if kind == "directory" else open_s3(seaweed, s3_bucket, "new")
    source = directory_place(old)
    if kind == "bucket to bucket":
        source = bucket_place(seaweed, s3_bucket, "old")
        Move(directory_place(old), source, state, pytest.fail).command("run", "-q").expect(0)
    deaths = 0
    command = [sys.executable, "-m", "regstore", "migrate", "run", "-q", "--bandwidth", "4MiB"]
    for _ in range(8):
        process = subprocess.Popen(
            [*command, source.location, place.location],
            env={**os.environ, **place.environment},
        )
        try:
            process.wait(dice.uniform(0.4, 1.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            deaths += 1
        there = contents_of(tmp_path / "new") if driver is None else objects_of(driver)
        for key, data in there.items():
            spec = layout.parse_key(key)
            if isinstance(spec, layout.BlobData):
                assert blob_key(digest_of(data)) == key
            if isinstance(spec, layout.TagLink):
                assert blob_key(data.decode()) in there
    move = Move(source, place, state, pytest.fail)
    move.command("run", "-q").expect(0)
    after = contents_of(tmp_path / "new") if driver is None else objects_of(driver)
    assert after == contents_of(old)
    assert deaths


@pytest.mark.parametrize("seed", range(6))
def test_ends_that_fail_three_times_in_ten(seed: int) -> None:
    dice = random.Random(seed)
    source, target = MemoryDriver(f"source-{seed}"), MemoryDriver(f"target-{seed}")
    writer = VolumeWriter(lambda key, data: source.write(key, data, len(data)))
    for number in range(4):
        writer.push_image("app", f"v{number}", [LARGE + bytes([number]), *layers(2, str(number))])

    def patient(driver: Driver) -> Retrying:
        return Retrying(Unreliable(driver, dice), sleep=lambda _: None)

    result = migrate(patient(source), patient(target), reads_back=True)

    assert worst(result) == set()
    assert objects_of(target) == objects_of(source)
    assert worst(verify(source, target, reads_back=True)) == set()


def test_a_full_disk_is_an_error_and_the_rest_follows_when_there_is_room(
    tmp_path: Path, state: Path, make_registry: MakeRegistry
) -> None:
    with mounted(tmp_path, "ext4", 24) as disk:
        old = tmp_path / "old"
        writer = VolumeWriter(old)
        dice = random.Random(3)
        for number in range(8):
            writer.push_image("app", f"v{number}", [dice.randbytes(1 << 20)])
        move = Move(directory_place(old), directory_place(disk / "new"), state, make_registry)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(14 << 20))

        move.command("run").expect_error(3, "no-space", "are to be copied")
        assert contents_of(disk / "new") == {}

        ballast.unlink()
        move.command("run", "-q").expect(0)
        assert contents_of(disk / "new") == contents_of(old)


def test_a_file_that_may_not_grow_ends_the_run_with_nothing_half_and_the_next_goes_on(
    tmp_path: Path, state: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    writer = VolumeWriter(old)
    for number in range(8):
        writer.push_image("app", f"v{number}", [LARGE + b"%d" % number, b"small%d" % number])
    new.mkdir()

    done = run_limited(100_000, "migrate", "run", old, new, state=state)

    assert "File too large" in done.expect(4).stderr
    assert_prefix_of(new, old)
    run_cli(state, "migrate", "run", "-q", old, new).expect(0)
    assert contents_of(new) == contents_of(old)


def test_a_disk_that_fills_in_the_midst_ends_the_run_and_the_next_goes_on(tmp_path: Path, state: Path) -> None:
    class Filling(NoProgress):
        """Fills the disk when half of the data are there."""

        copied = 0

        def start(self, phase: str, total: int | None = None, unit: str = "") -> None:
            self.unit = unit

        def advance(self, count: int = 1) -> None:
            if self.unit == "B":
                self.copied += count
            if self.copied > 4 << 20 and not ballast.exists():
                with suppress(OSError), open(ballast, "wb") as file:
                    while True:
                        file.write(bytes(1 << 16))
                        file.flush()

    dice = random.Random(3)
    old = tmp_path / "old"
    writer = VolumeWriter(old)
    for number in range(8):
        writer.push_image("app", f"v{number}", [dice.randbytes(1 << 20)])
    with mounted(tmp_path, "ext4", 24) as disk:
        new, ballast = disk / "new", disk / "ballast"
        new.mkdir()
        migrating = Migration(open_registry(str(old)), open_target(str(new)), progress=Filling())

        with pytest.raises(DriverError, match="No space left on device"):
            migrating.run()

        assert_prefix_of(new, old)
        ballast.unlink()
        run_cli(state, "migrate", "run", "-q", old, new).expect(0)
        assert contents_of(new) == contents_of(old)


def assert_prefix_of(new: Path, old: Path) -> None:
    """See that what is at the target is whole, and that no tag is there."""
    there, all_of_it = contents_of(new), contents_of(old)
    assert there.items() < all_of_it.items()
    assert not [key for key in there if "/_manifests/tags/" in key]


@pytest.mark.slow
@pytest.mark.s3
def test_a_very_large_blob_passes_with_little_memory(
    tmp_path: Path, state: Path, seaweed: SeaweedServer, s3_bucket: str
) -> None:
    size = 6 * 1024**3
    old = tmp_path / "old"
    writer = VolumeWriter(old)
    digest = write_sparse_blob(old, size)
    writer.layer_link("app", digest)
    writer.push_image("app", "v1", [b"small"])
    place = bucket_place(seaweed, s3_bucket, "large")

    code, peak = run_weighed("migrate", "run", "-q", "--all", old, place.location, environment=place.environment)

    assert code == 0
    assert 0 < peak < 256 * 1024 * 1024
    head = seaweed.client().head_object(Bucket=s3_bucket, Key=f"large/{blob_key(digest)}")
    assert head["ContentLength"] == size
    assert head["ETag"].strip('"').endswith(f"-{size // (16 << 20)}")


@pytest.mark.s3
def test_a_prefix_with_slashes_is_the_one_that_a_registry_uses(
    tmp_path: Path, state: Path, make_registry: MakeRegistry, seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3
) -> None:
    old = tmp_path / "old"
    VolumeWriter(old).push_image("app", "v1", layers(2, "app"))
    place = bucket_place(seaweed, s3_bucket, "/deep/place/")
    move = Move(directory_place(old), place, state, make_registry)

    move.command("run", "-q").expect(0)

    assert objects_of(open_s3(seaweed, s3_bucket, "deep/place")) == contents_of(old)
    wrong = Move(
        bucket_place(seaweed, s3_bucket, "deep/plaice"), directory_place(tmp_path / "new"), state, make_registry
    )
    wrong.command("run").expect_error(2, "no-registry")
    below = Move(bucket_place(seaweed, s3_bucket, "deep"), directory_place(tmp_path / "new"), state, make_registry)
    below.command("run").expect_error(2, "no-registry")


@pytest.mark.s3
def test_times_of_tags_are_kept_in_metadata_and_come_back(
    tmp_path: Path, state: Path, make_registry: MakeRegistry, seaweed: SeaweedServer, s3_bucket: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    VolumeWriter(old).push_image("app", "v1", layers(2, "app"))
    link = tag_link_key("app", "v1")
    os.utime(old / link, ns=(10**18 + 5, 10**18 + 5))
    bucket = bucket_place(seaweed, s3_bucket, "kept")
    Move(directory_place(old), bucket, state, make_registry).command("run", "-q").expect(0)
    head = seaweed.client().head_object(Bucket=s3_bucket, Key=f"kept/{link}")
    assert head["Metadata"]["mtime"] == "1000000000.000000005"

    Move(bucket, directory_place(new), state, make_registry).command("run", "-q").expect(0)

    assert contents_of(new) == contents_of(old)
    assert (new / link).stat().st_mtime_ns == 10**18 + 5


@pytest.mark.parametrize("s3_store", ["moto", pytest.param("seaweed", marks=pytest.mark.s3)], indirect=True)
def test_from_bucket_to_bucket_the_server_copies(s3_store: S3Store) -> None:
    """SeaweedFS tells no checksums of copies: they are read at the target. moto tells them."""
    old, new = s3_store.driver("old"), s3_store.driver("new")
    writer = VolumeWriter(lambda key, data: old.write(key, data, len(data)))
    for number in range(3):
        writer.push_image("app", f"v{number}", [LARGE + bytes([number]), b""])
    source, target = Counting(old), Counting(new)

    result = migrate(source, target)

    assert worst(result) == set()
    assert objects_of(new) == objects_of(old)
    assert result.plan.copies
    # Small data are streamed where each copy would have to be read.
    large_bytes = 3 * (len(LARGE) + 1)
    assert result.server_bytes == (result.copied_bytes if result.plan.copies.has_checksums else large_bytes)
    assert large_bytes < result.copied_bytes < large_bytes + 10_000
    assert source.bytes_read + target.bytes_written < len(LARGE)
    assert (target.bytes_read < len(LARGE)) is result.plan.copies.has_checksums
    digest = digest_of(LARGE + b"\0")
    old.write(blob_key(digest), bytes(len(LARGE) + 1), len(LARGE) + 1)  # rot of the same size
    third = migrate(old, s3_store.driver("third"))
    assert ("blob-corrupt", digest) in worst(third)
    assert third.server_count == (third.copied_count if result.plan.copies.has_checksums else 2)


@pytest.mark.s3
def test_a_plan_and_a_run_say_what_the_server_copies(
    tmp_path: Path, state: Path, make_registry: MakeRegistry, seaweed: SeaweedServer, s3_bucket: str
) -> None:
    VolumeWriter(tmp_path / "old").push_image("app", "v1", [LARGE])
    first, second = (bucket_place(seaweed, s3_bucket, name) for name in ("first", "second"))
    up = Move(directory_place(tmp_path / "old"), first, state, make_registry)
    features = up.command("plan", "--json").expect(0).json["features"]
    assert features == {
        "checksums": True,
        "conditional_writes": True,
        "copies": True,
        "multipart_copies": True,
        "copy_checksums": False,
        "copies_from_source": False,
    }
    up.command("run", "-q").expect(0)
    move = Move(first, second, state, make_registry)

    planned = move.command("plan").expect(0).stdout
    assert "copies: yes, copies in parts: yes" in planned
    assert "copies data of 1.0 MiB and more from the source itself, without this host" in planned

    document = move.command("run", "--json").expect(0).json
    assert document["server_copied_bytes"] == len(LARGE)
    assert len(LARGE) < document["copied_bytes"] < len(LARGE) + 10_000


@pytest.mark.s3
def test_above_a_threshold_blobs_go_in_parts(
    tmp_path: Path, state: Path, make_registry: MakeRegistry, seaweed: SeaweedServer, s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = random.Random(6).randbytes(6 << 20)
    VolumeWriter(tmp_path / "old").push_image("app", "v1", [data])

    def tag_after(prefix: str, *options: str) -> str | None:
        place = bucket_place(seaweed, s3_bucket, prefix)
        Move(directory_place(tmp_path / "old"), place, state, make_registry).command("run", "-q", *options).expect(0)
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        return open_registry(place.location).driver.stat(blob_key(digest_of(data))).etag

    assert "-" not in (tag_after("whole") or "")
    assert (tag_after("parts", "--multipart-threshold", "5MiB") or "").strip('"').endswith("-1")
    move = Move(directory_place(tmp_path / "old"), bucket_place(seaweed, s3_bucket, "no"), state, make_registry)
    for size in ("1MiB", "6GiB"):
        move.command("run", "--multipart-threshold", size).expect_error(2, "from 5MiB to 5GiB")


@pytest.mark.registry
def test_a_read_only_registry_is_quiet_by_its_own_word(
    tmp_path: Path, state: Path, make_registry: MakeRegistry
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    move = Move(directory_place(old), directory_place(new), state, make_registry)
    with make_registry(root=old) as registry, Pusher(registry.url) as client:
        client.push_image("app", "v1", layers(2, "app"))
        move.command("run", "--cut-over", "--registry-url", registry.url).expect_error(3, "not-quiet", "readonly")
        with clients(registry.url, 1):  # the address that is given is another one
            mistyped = move.command("run", "--cut-over", "--registry-url", "http://127.0.0.1:1")
            mistyped.expect_error(3, "not-quiet", "still changes")
    with make_registry(root=old, readonly=True) as registry:
        started = time.monotonic()
        words = ("--cut-over", "--mirror", "--max-delete", "none", "--registry-url", registry.url, "--json")
        done = move.command("run", *words).expect(0)
        assert time.monotonic() - started < 5
    assert done.json["verification"]["is_equal"]

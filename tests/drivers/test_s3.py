"""The S3 driver against two servers: SeaweedFS, whose order of keys is its own, and moto, which imitates Amazon."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from fixtures_s3 import OpenS3
from regstore_drivers.base import (
    Deleted,
    HasClock,
    HasMultipart,
    HasStoredChecksum,
    HasVersions,
    MultipartUpload,
)
from regstore_drivers.errors import (
    AlreadyExists,
    DigestMismatch,
    DriverError,
    InvalidKey,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unreachable,
)
from regstore_drivers.s3 import S3Driver
from support.moto_s3 import MotoServer
from support.s3_server import S3Server

MIB = 1024 * 1024
PARTS = {"multipart_threshold": 5 * MIB, "part_min": 5 * MIB}


@dataclass(frozen=True)
class Store:
    """An empty part of a bucket of a server, and the way to drivers and a client on it."""

    server: S3Server
    bucket: str
    base: str
    open: OpenS3

    def driver(self, prefix: str = "root", **more: Any) -> S3Driver:
        return self.open(self.server, self.bucket, f"{self.base}/{prefix}", **more)

    def put(self, *keys: str) -> None:
        """Store empty objects without the driver."""
        client = self.server.client()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket=self.bucket, Key=f"{self.base}/{key}", Body=b""), keys))

    def begin_upload(self, key: str) -> str:
        """Leave an incomplete upload behind."""
        return self.server.client().create_multipart_upload(Bucket=self.bucket, Key=f"{self.base}/{key}")["UploadId"]


@pytest.fixture(params=[pytest.param("seaweed", marks=pytest.mark.s3), "moto"])
def store(request: pytest.FixtureRequest, open_s3: OpenS3) -> Store:
    bucket = {"seaweed": "seaweed_shared_bucket", "moto": "moto_bucket"}[request.param]
    server, bucket = request.getfixturevalue(request.param), request.getfixturevalue(bucket)
    return Store(server, bucket, uuid.uuid4().hex, open_s3)


@pytest.fixture
def driver(store: Store) -> S3Driver:
    return store.driver()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(driver: S3Driver, *keys: str) -> None:
    for key in keys:
        driver.write(key, key.encode(), len(key.encode()))


def uploads(driver: S3Driver) -> list[str]:
    return [upload.key for upload in driver.list_multipart("")]


# --- listing ---


def test_listing_is_in_byte_order_of_the_key(driver: S3Driver) -> None:
    # SeaweedFS itself lists v1/ before v1-alpine/.
    put(driver, "tags/v1/link", "tags/v1-alpine/link", "tags/v10/link", "tags/v1.0/link", "tags/v1/index/link")

    assert [entry.key for entry in driver.list("tags/")] == [
        "tags/v1-alpine/link",
        "tags/v1.0/link",
        "tags/v1/index/link",
        "tags/v1/link",
        "tags/v10/link",
    ]
    assert list(driver.list_dir("tags/")) == ["v1-alpine/", "v1.0/", "v1/", "v10/"]


def test_prefix_of_a_listing_need_not_end_with_a_slash(driver: S3Driver) -> None:
    put(driver, "v1/a", "v1-alpine/a", "v2/a")

    assert [entry.key for entry in driver.list("v1")] == ["v1-alpine/a", "v1/a"]
    assert [entry.key for entry in driver.list("v1/")] == ["v1/a"]
    assert list(driver.list("v3/")) == []


def test_listing_starts_after_a_key_in_byte_order(driver: S3Driver) -> None:
    put(driver, "v1/a", "v1-alpine/a", "v1-alpine/b", "v10/a")

    assert [entry.key for entry in driver.list("", "v1-alpine/a")] == ["v1-alpine/b", "v1/a", "v10/a"]
    assert [entry.key for entry in driver.list("v1", "v1/")] == ["v1/a", "v10/a"]
    assert list(driver.list("", "v2")) == []


def test_listing_goes_on_from_page_to_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.listing.PAGE_KEYS", 10)
    monkeypatch.setattr("regstore_drivers.s3.driver.DELETE_BATCH_KEYS", 10)
    driver = store.driver()
    keys = sorted(f"many/{number:04}/{'data' if number % 2 else 'link'}" for number in range(43))
    store.put(*(f"root/{key}" for key in keys))

    assert [entry.key for entry in driver.list("many/")] == keys
    assert [entry.key for entry in driver.list("many/", keys[30])] == keys[31:]
    assert list(driver.list_dir("many/")) == [f"{number:04}/" for number in range(43)]

    assert list(driver.delete(keys)) == [Deleted(key, "gone") for key in keys]
    assert list(driver.list("")) == []


def test_odd_keys_survive(driver: S3Driver) -> None:
    names = ["a b", "a+b", "a%2Fb", "a&b<c>", "\"q'", "ä", "😀", "a?b#c", "~!*()", "x=y", "a:b@c", "\t"]
    keys = [f"odd/{name}/link" for name in names]
    put(driver, *keys)

    assert [entry.key for entry in driver.list("odd/")] == sorted(keys)
    assert [driver.read(key) for key in keys] == [key.encode() for key in keys]
    assert list(driver.list_dir("odd/")) == sorted(f"{name}/" for name in names)
    assert driver.copy(keys[0], f"{keys[1]} copy").size == len(keys[0])
    assert list(driver.delete(keys)) == [Deleted(key, "gone") for key in keys]
    assert [entry.key for entry in driver.list("odd/")] == [f"{keys[1]} copy"]


def test_directory_markers_are_no_objects(store: Store) -> None:
    driver = store.driver()
    put(driver, "dir/file")
    store.put("root/", "root/dir/", "root/empty/")

    assert [entry.key for entry in driver.list("")] == ["dir/file"]
    assert list(driver.list_dir("")) == ["dir/", "empty/"]
    assert list(driver.list_dir("empty/")) == []
    with pytest.raises(NotFound):
        driver.stat("empty")


def test_an_object_and_a_directory_of_the_same_name(driver: S3Driver) -> None:
    put(driver, "both", "both-other", "both/below")

    assert [entry.key for entry in driver.list("")] == ["both", "both-other", "both/below"]
    assert list(driver.list_dir("")) == ["both", "both-other", "both/"]


def test_drivers_see_their_prefix_only(store: Store) -> None:
    put(store.driver("a"), "x")
    put(store.driver("ab"), "y")
    put(store.driver(""), "z")

    assert [entry.key for entry in store.driver("a").list("")] == ["x"]
    assert [entry.key for entry in store.driver("").list("")] == ["a/x", "ab/y", "z"]
    assert list(store.driver("").list_dir("")) == ["a/", "ab/", "z"]


# --- reading ---


def test_stat_and_listing_agree(driver: S3Driver) -> None:
    before = driver.now()
    written = driver.write("a/link", b"hello", 5)

    (listed,) = driver.list("")
    assert listed == written == driver.stat("a/link")
    # The MD5 of the content: what lets a link be verified without being read.
    assert (written.size, written.etag) == (5, hashlib.md5(b"hello").hexdigest())
    assert before - 1 <= written.mtime <= driver.now() + 1
    assert written.newest == written.mtime


def test_a_missing_object_is_not_found(driver: S3Driver) -> None:
    put(driver, "dir/file")

    for operation in (driver.stat, driver.read, driver.open, driver.stored_checksum):
        for key in ("nothing", "dir", "dir/file/below"):
            with pytest.raises(NotFound) as caught:
                operation(key)
            assert caught.value.key == key
            assert caught.value.location == driver.location
    with pytest.raises(NotFound):
        driver.open("nothing", 3)
    with pytest.raises(NotFound):
        driver.open("nothing", 0, 0)


def test_read_has_a_limit(driver: S3Driver) -> None:
    driver.write("a", b"hello", 5)

    assert driver.read("a", 5) == b"hello"
    with pytest.raises(TooLarge):
        driver.read("a", 4)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (0, 10, b"0123456789"),
        (9, 1, b"9"),
        (10, None, b""),
        (10, 0, b""),
        (4, 0, b""),
    ],
)
def test_open_gives_the_range(driver: S3Driver, offset: int, length: int | None, expected: bytes) -> None:
    driver.write("a", b"0123456789", 10)

    with driver.open("a", offset, length) as stream:
        assert stream.read() == expected
        assert stream.read(1) == b""


@pytest.mark.parametrize(("offset", "length"), [(11, None), (11, 0), (0, 11), (9, 2), (10, 1), (-1, None), (0, -1)])
def test_open_refuses_what_lies_outside(driver: S3Driver, offset: int, length: int | None) -> None:
    driver.write("a", b"0123456789", 10)

    with pytest.raises(DriverError, match="range"):
        driver.open("a", offset, length)


def test_empty_objects(driver: S3Driver) -> None:
    driver.write("empty", b"", 0, sha256(b""))

    assert driver.read("empty") == b""
    assert driver.open("empty").read() == b""
    assert driver.copy("empty", "copy").size == 0


def test_streams_read_in_small_pieces(driver: S3Driver) -> None:
    data = bytes(range(256)) * 4096
    driver.write("a", data, len(data))

    with driver.open("a", 7) as stream:
        pieces = iter(lambda: stream.read(99_991), b"")
        assert b"".join(pieces) == data[7:]


# --- writing ---


def test_what_is_not_as_promised_is_not_stored(driver: S3Driver) -> None:
    driver.write("kept", b"former", 6)
    wrong: list[tuple[bytes, int, str | None]] = [
        (b"hello", 4, None),
        (b"hello", 6, None),
        (b"hello", 5, sha256(b"other")),
        (b"hello", 5, f"sha512:{hashlib.sha512(b'other').hexdigest()}"),
        (b"hello", 0, None),
    ]
    for data, size, digest in wrong:
        for source in (data, lambda data=data: io.BytesIO(data)):
            with pytest.raises(DigestMismatch):
                driver.write("kept", source, size, digest)

    assert driver.read("kept") == b"former"


def test_digests_of_other_algorithms(driver: S3Driver) -> None:
    assert driver.write("a", b"hello", 5, f"sha512:{hashlib.sha512(b'hello').hexdigest()}").size == 5


def test_write_if_absent(driver: S3Driver) -> None:
    driver.write("lock", b"first", 5, if_absent=True)
    with pytest.raises(AlreadyExists):
        driver.write("lock", b"second", 6, if_absent=True)

    assert driver.read("lock") == b"first"


def test_of_many_writers_one_wins(driver: S3Driver) -> None:
    def attempt(number: int) -> int | None:
        try:
            driver.write("lock", str(number).encode(), 1, if_absent=True)
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(8)) if number is not None]

    assert [driver.read("lock")] == [str(number).encode() for number in winners]


def test_conditional_writes_are_found_out(driver: S3Driver) -> None:
    before = driver.has_conditional_writes
    assert before is None
    assert driver.probe_conditional_writes("locks/") is True
    assert driver.has_conditional_writes is True
    assert list(driver.list("")) == []


def test_large_objects_go_in_parts(store: Store) -> None:
    driver = store.driver(driver=PARTS)
    data = bytes(range(256)) * (48 * 1024)

    entry = driver.write("big", lambda: io.BytesIO(data), len(data), sha256(data))

    assert entry.size == len(data)
    assert str(entry.etag).endswith("-3")
    assert hashlib.sha256(driver.open("big").read()).hexdigest() == hashlib.sha256(data).hexdigest()
    assert driver.open("big", 5 * MIB - 1, 2).read() == data[5 * MIB - 1 : 5 * MIB + 1]
    assert driver.stored_checksum("big") is None
    with pytest.raises(AlreadyExists):
        driver.write("big", data, len(data), if_absent=True)
    assert driver.write("big-too", data, len(data), if_absent=True).size == len(data)
    assert uploads(driver) == []


@pytest.mark.parametrize("fault", ["digest", "short", "long", "error"])
def test_a_failed_upload_in_parts_leaves_nothing(store: Store, fault: str) -> None:
    driver = store.driver(driver=PARTS)
    data = b"x" * (6 * MIB)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 5 * MIB - 1:
                raise OSError("the source broke")
            return super().read(size)

    expected: type[Exception] = DigestMismatch
    size, digest, source = len(data), sha256(data), lambda: io.BytesIO(data)
    if fault == "digest":
        digest = sha256(b"other")
    elif fault == "error":
        source, expected = lambda: Failing(data), OSError
    else:
        size += 1 if fault == "short" else -1
    with pytest.raises(expected):
        driver.write("big", source, size, digest)

    assert uploads(driver) == []
    with pytest.raises(NotFound):
        driver.stat("big")


def test_copy_replaces_and_keeps_the_source(driver: S3Driver) -> None:
    driver.write("a", b"hello", 5, sha256(b"hello"))
    put(driver, "b")

    assert driver.copy("a", "b") == driver.stat("b")
    assert driver.read("a") == driver.read("b") == b"hello"
    assert driver.stored_checksum("b") in (sha256(b"hello"), None)
    with pytest.raises(NotFound):
        driver.copy("nothing", "b")
    assert driver.read("b") == b"hello"


def test_move_does_not_overwrite(driver: S3Driver) -> None:
    put(driver, "a", "b")

    with pytest.raises(AlreadyExists):
        driver.move("a", "b")
    assert driver.read("b") == b"b"
    driver.move("a", "c/d")
    assert driver.read("c/d") == b"a"
    with pytest.raises(NotFound):
        driver.move("a", "e")
    assert [entry.key for entry in driver.list("")] == ["b", "c/d"]


def test_delete_has_an_outcome_for_each_key(driver: S3Driver) -> None:
    put(driver, "a", "dir/file", "same")

    outcomes = list(driver.delete(["a", "dir", "", "dir/../a", "same", "same", "bell\a"]))

    assert [(found.key, found.outcome) for found in outcomes] == [
        ("a", "gone"),
        ("dir", "gone"),
        ("", "failed"),
        ("dir/../a", "failed"),
        ("same", "gone"),
        ("same", "gone"),
        ("bell\a", "gone"),
    ]
    assert [entry.key for entry in driver.list("")] == ["dir/file"]
    assert list(driver.delete([])) == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\0b", "a\udc80b"])
def test_invalid_keys_are_refused(driver: S3Driver, key: str) -> None:
    put(driver, "a")
    for operation in (
        driver.stat,
        driver.read,
        driver.open,
        lambda key: driver.write(key, b"", 0),
        lambda key: driver.copy("a", key),
        lambda key: driver.copy(key, "b"),
        lambda key: driver.move("a", key),
        lambda key: driver.move(key, "b"),
    ):
        with pytest.raises(InvalidKey):
            operation(key)


def test_invalid_prefixes_are_refused(driver: S3Driver) -> None:
    for prefix in ("/", "a//", "../", "a/../b", "\0"):
        for operation in (driver.list, driver.list_dir, driver.list_multipart):
            with pytest.raises(InvalidKey):
                operation(prefix)
    with pytest.raises(InvalidKey):
        driver.list_dir("a")


# --- powers ---


def test_powers(driver: S3Driver) -> None:
    for power in (HasClock, HasMultipart, HasVersions, HasStoredChecksum):
        assert isinstance(driver, power)


def test_clock_is_the_servers(driver: S3Driver) -> None:
    first = driver.now()
    assert abs(first - time.time()) < 3
    time.sleep(0.05)
    assert driver.now() >= first + 0.05


def test_incomplete_uploads_are_listed_and_aborted(store: Store) -> None:
    driver = store.driver()
    store.begin_upload("other/uploads/x")
    ids = {store.begin_upload(f"root/uploads/{name}") for name in ("x", "y")}
    ids.add(store.begin_upload("root/uploads/y"))

    found = list(driver.list_multipart("uploads/"))

    assert sorted(upload.key for upload in found) == ["uploads/x", "uploads/y", "uploads/y"]
    assert {upload.upload_id for upload in found} == ids
    assert all(upload.size is None for upload in found)
    # In moto every upload began in 2010.
    assert isinstance(store.server, MotoServer) or all(abs(u.initiated - driver.now()) < 60 for u in found)
    assert list(driver.list_multipart("up/")) == []
    assert [driver.abort_multipart(upload) for upload in found] == [True, True, True]
    assert driver.abort_multipart(found[0]) is False
    assert driver.abort_multipart(MultipartUpload("uploads/x", "no-such-id", 0.0)) is False
    assert uploads(driver) == []
    assert uploads(store.driver("other")) == ["uploads/x"]


def test_stored_checksum(store: Store) -> None:
    driver = store.driver()
    driver.write("with", b"hello", 5, sha256(b"hello"))
    store.put("root/without")

    # moto does not show the checksum that came with the object.
    assert driver.stored_checksum("with") == (None if isinstance(store.server, MotoServer) else sha256(b"hello"))
    assert driver.stored_checksum("without") is None


def test_a_bucket_is_not_versioned_by_default(driver: S3Driver) -> None:
    assert driver.is_versioned() is False


# --- what goes wrong ---


def test_a_missing_bucket_is_no_missing_object(store: Store) -> None:
    driver = store.open(store.server, "no-such-bucket", "root")
    operations = [
        lambda: driver.stat("a"),
        lambda: driver.read("a"),
        lambda: driver.write("a", b"", 0),
        lambda: driver.write("a", b"", 0, if_absent=True),
        lambda: driver.move("a", "b"),
        lambda: list(driver.list("")),
        lambda: list(driver.list_dir("")),
        lambda: list(driver.delete(["a"])),
        lambda: list(driver.list_multipart("")),
        driver.is_versioned,
    ]
    for operation in operations:
        with pytest.raises(Unreachable, match="no such bucket"):
            operation()


def test_unreachable_servers_fail_at_once(store: Store) -> None:
    driver = store.open(store.server, store.bucket, endpoint="http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(Unreachable, match="Connection refused"):
        driver.stat("a")
    with pytest.raises(Unreachable, match="Connection refused"):
        list(driver.list(""))
    with pytest.raises(Unreachable, match="Connection refused"):
        driver.now()
    assert time.monotonic() - started < 10
    assert not Unreachable.retryable


def test_no_credentials_is_said_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    driver = store.open(store.server, store.bucket, access_key=None, secret_key=None)

    with pytest.raises(PermissionDenied, match="no credentials found: set AWS_ACCESS_KEY_ID"):
        driver.stat("a")


def test_credentials_of_the_environment_are_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.server.secret_key)
    driver = store.open(store.server, store.bucket, access_key=None, secret_key=None)

    assert driver.write("a", b"", 0).size == 0

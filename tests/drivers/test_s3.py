"""The S3 driver against two servers: SeaweedFS, whose order of keys is its own, and moto, which imitates Amazon."""

from __future__ import annotations

import hashlib
import io
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fixtures_s3 import OpenS3, S3Store
from regstore_drivers.base import (
    Deleted,
    HasClock,
    HasMultipart,
    HasServerCopy,
    HasSmallListing,
    HasStoredChecksum,
    HasVersions,
    MultipartUpload,
    WriteFeatures,
)
from regstore_drivers.errors import (
    AlreadyExists,
    DigestMismatch,
    DriverError,
    InvalidKey,
    NotFound,
    TooLarge,
)
from regstore_drivers.s3 import S3Driver
from support.moto_s3 import MotoServer
from support.seaweed import SeaweedServer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB = 1024 * 1024
PARTS = {"multipart_threshold": 5 * MIB, "part_min": 5 * MIB}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(driver: S3Driver, *keys: str) -> None:
    for key in keys:
        driver.write(key, key.encode(), len(key.encode()))


def uploads(driver: S3Driver) -> list[str]:
    return [upload.key for upload in driver.list_multipart("")]


# --- listing ---


def test_listing_is_in_byte_order_of_the_key(s3_driver: S3Driver) -> None:
    # SeaweedFS itself lists v1/ before v1-alpine/.
    put(s3_driver, "tags/v1/link", "tags/v1-alpine/link", "tags/v10/link", "tags/v1.0/link", "tags/v1/index/link")

    assert [entry.key for entry in s3_driver.list("tags/")] == [
        "tags/v1-alpine/link",
        "tags/v1.0/link",
        "tags/v1/index/link",
        "tags/v1/link",
        "tags/v10/link",
    ]
    assert list(s3_driver.list_dir("tags/")) == ["v1-alpine/", "v1.0/", "v1/", "v10/"]


def test_prefix_of_a_listing_need_not_end_with_a_slash(s3_driver: S3Driver) -> None:
    put(s3_driver, "v1/a", "v1-alpine/a", "v2/a")

    assert [entry.key for entry in s3_driver.list("v1")] == ["v1-alpine/a", "v1/a"]
    assert [entry.key for entry in s3_driver.list("v1/")] == ["v1/a"]
    assert list(s3_driver.list("v3/")) == []


def test_listing_starts_after_a_key_in_byte_order(s3_driver: S3Driver) -> None:
    put(s3_driver, "v1/a", "v1-alpine/a", "v1-alpine/b", "v10/a")

    assert [entry.key for entry in s3_driver.list("", "v1-alpine/a")] == ["v1-alpine/b", "v1/a", "v10/a"]
    assert [entry.key for entry in s3_driver.list("v1", "v1/")] == ["v1/a", "v10/a"]
    assert list(s3_driver.list("", "v2")) == []


def test_listing_goes_on_from_page_to_page(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.listing.PAGE_KEYS", 10)
    monkeypatch.setattr("regstore_drivers.s3.driver.DELETE_BATCH_KEYS", 10)
    driver = s3_store.driver()
    keys = sorted(f"many/{number:04}/{'data' if number % 2 else 'link'}" for number in range(43))
    s3_store.put(*(f"root/{key}" for key in keys))

    assert [entry.key for entry in driver.list("many/")] == keys
    assert [entry.key for entry in driver.list("many/", keys[30])] == keys[31:]
    assert list(driver.list_dir("many/")) == [f"{number:04}/" for number in range(43)]

    assert list(driver.delete(keys)) == [Deleted(key, "gone") for key in keys]
    assert list(driver.list("")) == []


def test_odd_keys_survive(s3_driver: S3Driver) -> None:
    names = ["a b", "a+b", "a%2Fb", "a&b<c>", "\"q'", "ä", "😀", "a?b#c", "~!*()", "x=y", "a:b@c", "\t"]
    keys = [f"odd/{name}/link" for name in names]
    put(s3_driver, *keys)

    assert [entry.key for entry in s3_driver.list("odd/")] == sorted(keys)
    assert [s3_driver.read(key) for key in keys] == [key.encode() for key in keys]
    assert list(s3_driver.list_dir("odd/")) == sorted(f"{name}/" for name in names)
    assert s3_driver.copy(keys[0], f"{keys[1]} copy").size == len(keys[0])
    assert list(s3_driver.delete(keys)) == [Deleted(key, "gone") for key in keys]
    assert [entry.key for entry in s3_driver.list("odd/")] == [f"{keys[1]} copy"]


def test_directory_markers_are_no_objects(s3_store: S3Store) -> None:
    driver = s3_store.driver()
    put(driver, "dir/file")
    s3_store.put("root/", "root/dir/", "root/empty/")

    assert [entry.key for entry in driver.list("")] == ["dir/file"]
    assert list(driver.list_dir("")) == ["dir/", "empty/"]
    assert list(driver.list_dir("empty/")) == []
    with pytest.raises(NotFound):
        driver.stat("empty")


def test_an_object_and_a_directory_of_the_same_name(s3_driver: S3Driver) -> None:
    put(s3_driver, "both", "both-other", "both/below")

    assert [entry.key for entry in s3_driver.list("")] == ["both", "both-other", "both/below"]
    assert list(s3_driver.list_dir("")) == ["both", "both-other", "both/"]


def test_drivers_see_their_prefix_only(s3_store: S3Store) -> None:
    put(s3_store.driver("a"), "x")
    put(s3_store.driver("ab"), "y")
    put(s3_store.driver(""), "z")

    assert [entry.key for entry in s3_store.driver("a").list("")] == ["x"]
    assert [entry.key for entry in s3_store.driver("").list("")] == ["a/x", "ab/y", "z"]
    assert list(s3_store.driver("").list_dir("")) == ["a/", "ab/", "z"]


# --- reading ---


def test_stat_and_listing_agree(s3_driver: S3Driver) -> None:
    before = s3_driver.now()
    written = s3_driver.write("a/link", b"hello", 5)

    (listed,) = s3_driver.list("")
    assert listed == s3_driver.stat("a/link")
    assert replace(written, mtime=listed.mtime, ctime=listed.ctime) == listed
    assert written.mtime == pytest.approx(listed.mtime, abs=1)
    # The MD5 of the content: what lets a link be verified without being read.
    assert (written.size, written.etag) == (5, hashlib.md5(b"hello").hexdigest())
    assert before - 1 <= written.mtime <= s3_driver.now() + 1
    assert written.newest == written.mtime


def test_a_missing_object_is_not_found(s3_driver: S3Driver) -> None:
    put(s3_driver, "dir/file")

    for operation in (s3_driver.stat, s3_driver.read, s3_driver.open, s3_driver.stored_checksum):
        for key in ("nothing", "dir", "dir/file/below"):
            with pytest.raises(NotFound) as caught:
                operation(key)
            assert caught.value.key == key
            assert caught.value.location == s3_driver.location
    with pytest.raises(NotFound):
        s3_driver.open("nothing", 3)
    with pytest.raises(NotFound):
        s3_driver.open("nothing", 0, 0)


def test_read_has_a_limit(s3_driver: S3Driver) -> None:
    s3_driver.write("a", b"hello", 5)

    assert s3_driver.read("a", 5) == b"hello"
    with pytest.raises(TooLarge):
        s3_driver.read("a", 4)


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
def test_open_gives_the_range(s3_driver: S3Driver, offset: int, length: int | None, expected: bytes) -> None:
    s3_driver.write("a", b"0123456789", 10)

    with s3_driver.open("a", offset, length) as stream:
        assert stream.read() == expected
        assert stream.read(1) == b""


@pytest.mark.parametrize(("offset", "length"), [(11, None), (11, 0), (0, 11), (9, 2), (10, 1), (-1, None), (0, -1)])
def test_open_refuses_what_lies_outside(s3_driver: S3Driver, offset: int, length: int | None) -> None:
    s3_driver.write("a", b"0123456789", 10)

    with pytest.raises(DriverError, match="range"):
        s3_driver.open("a", offset, length)


def test_empty_objects(s3_driver: S3Driver) -> None:
    s3_driver.write("empty", b"", 0, sha256(b""))

    assert s3_driver.read("empty") == b""
    assert s3_driver.open("empty").read() == b""
    assert s3_driver.copy("empty", "copy").size == 0


def test_streams_read_in_small_pieces(s3_driver: S3Driver) -> None:
    data = bytes(range(256)) * 4096
    s3_driver.write("a", data, len(data))

    with s3_driver.open("a", 7) as stream:
        pieces = iter(lambda: stream.read(99_991), b"")
        assert b"".join(pieces) == data[7:]


# --- writing ---


def test_what_is_not_as_promised_is_not_stored(s3_driver: S3Driver) -> None:
    s3_driver.write("kept", b"former", 6)
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
                s3_driver.write("kept", source, size, digest)

    assert s3_driver.read("kept") == b"former"


def test_digests_of_other_algorithms(s3_driver: S3Driver) -> None:
    assert s3_driver.write("a", b"hello", 5, f"sha512:{hashlib.sha512(b'hello').hexdigest()}").size == 5


def test_write_if_absent(s3_driver: S3Driver) -> None:
    s3_driver.write("lock", b"first", 5, if_absent=True)
    with pytest.raises(AlreadyExists):
        s3_driver.write("lock", b"second", 6, if_absent=True)

    assert s3_driver.read("lock") == b"first"


@pytest.mark.s3
def test_of_many_writers_one_wins(seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3) -> None:
    """On a real server: moto looks first and writes then."""
    s3_driver = open_s3(seaweed, s3_bucket)

    def attempt(number: int) -> int | None:
        try:
            s3_driver.write("lock", str(number).encode(), 1, if_absent=True)
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(8)) if number is not None]

    assert [s3_driver.read("lock")] == [str(number).encode() for number in winners]


def test_conditional_writes_are_found_out(s3_driver: S3Driver) -> None:
    before = s3_driver.has_conditional_writes
    assert before is None
    assert s3_driver.probe_writes("locks/") == WriteFeatures(has_checksums=True, has_conditions=True)
    assert s3_driver.has_conditional_writes is True
    assert list(s3_driver.list("")) == []


def test_large_objects_go_in_parts(s3_store: S3Store) -> None:
    driver = s3_store.driver(driver=PARTS)
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
@pytest.mark.parametrize("size", [3 * MIB, 6 * MIB], ids=["as it is read", "in parts"])
def test_a_failed_upload_of_a_large_object_leaves_nothing(s3_store: S3Store, size: int, fault: str) -> None:
    driver = s3_store.driver(driver=PARTS)
    data = b"x" * size

    class Failing(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer, /) -> int:
            if self.tell() > size - MIB:
                raise OSError("the source broke")
            return super().readinto(buffer)

    expected: type[Exception] = DigestMismatch
    promised, digest, source = size, sha256(data), lambda: io.BytesIO(data)
    if fault == "digest":
        digest = sha256(b"other")
    elif fault == "error":
        source, expected = lambda: Failing(data), OSError
    else:
        promised += 1 if fault == "short" else -1
    with pytest.raises(expected):
        driver.write("big", source, promised, digest)

    assert uploads(driver) == []
    with pytest.raises(NotFound):
        driver.stat("big")


def test_copy_replaces_and_keeps_the_source(s3_driver: S3Driver) -> None:
    s3_driver.write("a", b"hello", 5, sha256(b"hello"))
    put(s3_driver, "b")

    assert s3_driver.copy("a", "b") == s3_driver.stat("b")
    assert s3_driver.read("a") == s3_driver.read("b") == b"hello"
    assert s3_driver.stored_checksum("b") in (sha256(b"hello"), None)
    with pytest.raises(NotFound):
        s3_driver.copy("nothing", "b")
    assert s3_driver.read("b") == b"hello"


def test_move_does_not_overwrite(s3_driver: S3Driver) -> None:
    put(s3_driver, "a", "b")

    with pytest.raises(AlreadyExists):
        s3_driver.move("a", "b")
    assert s3_driver.read("b") == b"b"
    s3_driver.move("a", "c/d")
    assert s3_driver.read("c/d") == b"a"
    with pytest.raises(NotFound):
        s3_driver.move("a", "e")
    assert [entry.key for entry in s3_driver.list("")] == ["b", "c/d"]


def test_delete_has_an_outcome_for_each_key(s3_driver: S3Driver) -> None:
    put(s3_driver, "a", "dir/file", "same")

    outcomes = list(s3_driver.delete(["a", "dir", "", "dir/../a", "same", "same", "bell\a"]))

    assert [(found.key, found.outcome) for found in outcomes] == [
        ("a", "gone"),
        ("dir", "gone"),
        ("", "failed"),
        ("dir/../a", "failed"),
        ("same", "gone"),
        ("same", "gone"),
        ("bell\a", "gone"),
    ]
    assert [entry.key for entry in s3_driver.list("")] == ["dir/file"]
    assert list(s3_driver.delete([])) == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\0b", "a\udc80b"])
def test_invalid_keys_are_refused(s3_driver: S3Driver, key: str) -> None:
    put(s3_driver, "a")
    for operation in (
        s3_driver.stat,
        s3_driver.read,
        s3_driver.open,
        lambda key: s3_driver.write(key, b"", 0),
        lambda key: s3_driver.copy("a", key),
        lambda key: s3_driver.copy(key, "b"),
        lambda key: s3_driver.move("a", key),
        lambda key: s3_driver.move(key, "b"),
    ):
        with pytest.raises(InvalidKey):
            operation(key)


def test_invalid_prefixes_are_refused(s3_driver: S3Driver) -> None:
    for prefix in ("/", "a//", "../", "a/../b", "\0"):
        for operation in (s3_driver.list, s3_driver.list_dir, s3_driver.list_multipart):
            with pytest.raises(InvalidKey):
                operation(prefix)
    with pytest.raises(InvalidKey):
        s3_driver.list_dir("a")


# --- powers ---


def test_powers(s3_driver: S3Driver) -> None:
    for power in (HasClock, HasMultipart, HasServerCopy, HasSmallListing, HasVersions, HasStoredChecksum):
        assert isinstance(s3_driver, power)


def test_clock_is_the_servers(s3_driver: S3Driver) -> None:
    first = s3_driver.now()
    assert abs(first - time.time()) < 3
    time.sleep(0.05)
    assert s3_driver.now() >= first + 0.05


def begin_parts(driver: S3Driver, monkeypatch: pytest.MonkeyPatch, data: bytes, count: int) -> MultipartUpload:
    """Write as a process that is killed after so many parts."""
    with monkeypatch.context() as patch:
        patch.setattr("regstore_drivers.s3.upload.aborting", lambda *_: nullcontext())
        stream = CutOff(data[: count * 5 * MIB])
        with pytest.raises(Killed):
            driver.write("large", lambda: stream, len(data), sha256(data))
    (upload,) = driver.list_multipart("large")
    return upload


class Killed(Exception):  # noqa: N818
    """Stands for the death of the process."""


class CutOff(io.BytesIO):
    """Ends with a death."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as long as there is something."""
        if not (count := super().readinto(buffer)):
            raise Killed
        return count


def count_parts(driver: S3Driver) -> list[int]:
    """Return the list that the numbers of sent parts are put on from now on."""
    sent: list[int] = []
    events = driver._connection.client.meta.events
    events.register("before-parameter-build.s3.UploadPart", lambda params, **_: sent.append(params["PartNumber"]))
    return sent


@pytest.mark.parametrize("has_checksums", [True, False])
def test_an_upload_is_gone_on_with_and_only_what_is_missing_is_sent(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch, has_checksums: bool
) -> None:
    driver = s3_store.driver(driver=PARTS)
    driver._connection.has_checksums = has_checksums
    data = random.Random(1).randbytes(17 * MIB)
    upload = begin_parts(driver, monkeypatch, data, 2)
    sent = count_parts(driver)

    driver.resume_multipart(upload)
    driver.write("large", data, len(data), sha256(data))

    assert sent == [3, 4]
    assert driver.read("large", len(data)) == data
    assert uploads(driver) == []
    driver.write("large", data, len(data), sha256(data))  # once only
    assert sent == [3, 4, 1, 2, 3, 4]


def test_parts_of_other_data_are_sent_again(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = s3_store.driver(driver=PARTS)
    data = random.Random(1).randbytes(17 * MIB)
    upload = begin_parts(driver, monkeypatch, data[: 5 * MIB] + bytes(12 * MIB), 3)
    sent = count_parts(driver)
    data = data[: 11 * MIB]  # fewer parts than were begun

    driver.resume_multipart(upload)
    driver.write("large", data, len(data), sha256(data))

    assert sent == [2, 3]
    assert driver.read("large", len(data)) == data
    assert uploads(driver) == []


def test_a_write_that_fails_aborts_the_upload_that_it_went_on_with(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = s3_store.driver(driver=PARTS)
    data = random.Random(1).randbytes(17 * MIB)
    driver.resume_multipart(begin_parts(driver, monkeypatch, data, 2))

    with pytest.raises(DigestMismatch):
        driver.write("large", data, len(data), sha256(b"else"))

    assert uploads(driver) == []
    assert list(driver.list("")) == []


@pytest.mark.parametrize("options", [{"encrypt": True}, {"storage_class": "REDUCED_REDUNDANCY"}], ids=str)
def test_an_upload_that_was_begun_for_other_attributes_is_not_used(
    moto: MotoServer, moto_bucket: str, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """SeaweedFS encrypts only with a server of keys beside it."""
    store = S3Store(moto, moto_bucket, uuid.uuid4().hex, open_s3)
    data = random.Random(1).randbytes(11 * MIB)
    upload = begin_parts(store.driver(driver=PARTS), monkeypatch, data, 1)
    driver = store.driver(driver=PARTS, **options)
    sent = count_parts(driver)

    driver.resume_multipart(upload)
    driver.write("large", data, len(data), sha256(data))

    assert sent == [1, 2, 3]
    assert driver.abort_multipart(upload)


def test_an_upload_that_is_gone_is_begun_anew(s3_store: S3Store) -> None:
    driver = s3_store.driver(driver=PARTS)
    data = random.Random(1).randbytes(6 * MIB)
    driver.resume_multipart(MultipartUpload("large", "no-such-id", 0.0))

    driver.write("large", data, len(data), sha256(data))

    assert driver.read("large", len(data)) == data


def test_incomplete_uploads_are_listed_and_aborted(s3_store: S3Store) -> None:
    driver = s3_store.driver()
    s3_store.begin_upload("other/uploads/x")
    ids = {s3_store.begin_upload(f"root/uploads/{name}") for name in ("x", "y")}
    ids.add(s3_store.begin_upload("root/uploads/y"))

    found = list(driver.list_multipart("uploads/"))

    assert sorted(upload.key for upload in found) == ["uploads/x", "uploads/y", "uploads/y"]
    assert {upload.upload_id for upload in found} == ids
    assert all(upload.size is None for upload in found)
    # In moto every upload began in 2010.
    assert isinstance(s3_store.server, MotoServer) or all(abs(u.initiated - driver.now()) < 60 for u in found)
    assert list(driver.list_multipart("up/")) == []
    assert [driver.abort_multipart(upload) for upload in found] == [True, True, True]
    assert driver.abort_multipart(found[0]) is False
    assert driver.abort_multipart(MultipartUpload("uploads/x", "no-such-id", 0.0)) is False
    assert uploads(driver) == []
    assert uploads(s3_store.driver("other")) == ["uploads/x"]


def test_stored_checksum(s3_store: S3Store) -> None:
    driver = s3_store.driver()
    driver.write("with", b"hello", 5, sha256(b"hello"))
    s3_store.put("root/without")

    # moto does not show the checksum that came with the object.
    assert driver.stored_checksum("with") == (None if isinstance(s3_store.server, MotoServer) else sha256(b"hello"))
    assert driver.stored_checksum("without") is None


def test_a_bucket_is_not_versioned_by_default(s3_driver: S3Driver) -> None:
    assert s3_driver.is_versioned() is False

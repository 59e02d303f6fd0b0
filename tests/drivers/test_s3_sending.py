"""Large objects that are read while they are sent, on a fake server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import pytest

from fixtures_s3 import OpenS3, S3Store
from regstore_drivers.errors import AlreadyExists, DigestMismatch, Unavailable
from regstore_drivers.s3 import S3Driver
from support.fake_s3 import ETAG, FakeS3, Reply, Request, error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB = 1024 * 1024
OK = Reply(headers={"ETag": ETAG})
DATA = bytes(range(256)) * (3 * MIB // 256) + b"and a bit"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def driver(fake: FakeS3, open_s3: OpenS3) -> S3Driver:
    """One on the fake server, with the usual threshold of parts."""
    return open_s3(fake, "bucket", "root")


def signature_of(request: Request) -> str:
    """The signature that came."""
    return request.headers["authorization"].rpartition("Signature=")[2]


def computed_signature(request: Request, secret: str) -> str:
    """The signature as S3 computes it: over the path as it came (Signature Version 4, "Canonical URI")."""
    scope = request.headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")[1:]
    names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names.split(";"))
    canonical = f"{request.method}\n{request.path}\n\n{headers}\n{names}\n{request.headers['x-amz-content-sha256']}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{'/'.join(scope)}\n{digest}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class Source:
    """Content that counts how often it was opened, and whether it was closed."""

    def __init__(self, data: bytes = DATA) -> None:
        self._data = data
        self.streams: list[BinaryIO] = []

    def __call__(self) -> BinaryIO:
        self.streams.append(io.BytesIO(self._data))
        return self.streams[-1]


def write(driver: S3Driver, source: Callable[[], BinaryIO], key: str = "a/b", *, if_absent: bool = False) -> None:
    """Store the content under its digest."""
    driver.write(key, source, len(DATA), f"sha256:{SHA256}", if_absent=if_absent)


@pytest.mark.usefixtures("one_try")
def test_the_request_is_signed_with_the_hash_of_what_follows(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(OK)
    source = Source()

    write(driver, source)

    (request,) = fake.requests
    assert request.body == DATA
    assert request.headers["content-length"] == str(len(DATA))
    assert request.headers["x-amz-content-sha256"] == SHA256
    assert base64.b64decode(request.headers["x-amz-checksum-sha256"]).hex() == SHA256
    assert "expect" not in request.headers
    assert signature_of(request) == computed_signature(request, fake.secret_key)
    signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-checksum-sha256", "x-amz-content-sha256", "x-amz-date"} <= set(signed)
    assert [stream.closed for stream in source.streams] == [True]


def test_another_try_reads_the_source_again(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown"), OK)
    source = Source()

    write(driver, source)

    assert [request.body for request in fake.requests] == [DATA, DATA]
    assert [stream.closed for stream in source.streams] == [True, True]


@pytest.mark.usefixtures("one_try")
def test_a_server_that_refuses_the_checksum_gets_none(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(501, "NotImplemented"), OK, OK)

    write(driver, Source())
    write(driver, Source())

    assert ["x-amz-checksum-sha256" in request.headers for request in fake.requests] == [True, False, False]
    assert {request.headers["x-amz-content-sha256"] for request in fake.requests} == {SHA256}


@pytest.mark.usefixtures("one_try")
def test_errors_of_the_server_are_told_as_ever(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown"))
    with pytest.raises(Unavailable):
        write(driver, Source())
    fake.reply(error(404, "NoSuchKey"), error(412, "PreconditionFailed"))
    driver._connection.bucket_seen = True
    with pytest.raises(AlreadyExists):
        write(driver, Source(), if_absent=True)


@pytest.mark.parametrize("data", [DATA[:-1] + b"!", DATA[:-1], DATA + b"!"], ids=["digest", "short", "long"])
def test_other_bytes_than_promised_never_all_arrive_and_are_read_once(
    fake: FakeS3, driver: S3Driver, data: bytes
) -> None:
    fake.reply(OK)
    source = Source(data)

    with pytest.raises(DigestMismatch):
        write(driver, source)

    deadline = time.monotonic() + 10
    while not fake.requests and time.monotonic() < deadline:  # the fake notes it when the connection is closed
        time.sleep(0.01)
    (request,) = fake.requests
    assert MIB < len(request.body) < len(DATA)
    assert [stream.closed for stream in source.streams] == [True]


def test_an_error_of_the_source_is_raised_as_it_is_and_nothing_tried_again(fake: FakeS3, driver: S3Driver) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    class Stream(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer, /) -> int:
            if self.tell() > MIB:
                raise Stopped
            return super().readinto(buffer)

    opened: list[Stream] = []

    def source() -> BinaryIO:
        opened.append(Stream(DATA))
        return opened[-1]

    fake.reply(OK)
    with pytest.raises(Stopped):
        write(driver, source)

    assert [stream.closed for stream in opened] == [True]


@pytest.mark.parametrize("key", ["plain/data", "with space/%41+=:ü"])
@pytest.mark.parametrize("path", ["", "/tenant", "/t%3Aenant", "/a=b"])
def test_the_signature_is_one_that_amazon_computes_too(fake: FakeS3, open_s3: OpenS3, key: str, path: str) -> None:
    driver = open_s3(fake, "bucket", "root", endpoint=fake.endpoint + path)
    fake.reply(OK)

    write(driver, Source(), key)

    (request,) = fake.requests
    assert "/bucket/root/" in request.path
    assert signature_of(request) == computed_signature(request, fake.secret_key)
    assert request.headers["x-amz-content-sha256"] == SHA256


def test_the_source_is_open_before_the_request_begins(fake: FakeS3, driver: S3Driver) -> None:
    def source() -> BinaryIO:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        write(driver, source)

    assert fake.requests == []


def test_a_piece_is_not_used_after_the_next_was_asked_for(fake: FakeS3, driver: S3Driver) -> None:
    class Scribbling(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer, /) -> int:
            if count := super().readinto(buffer):
                return count
            memoryview(buffer)[:] = b"!" * len(memoryview(buffer))  # at the end a stream may leave anything there
            return 0

    fake.reply(OK)

    write(driver, lambda: Scribbling(DATA))

    assert fake.requests[0].body == DATA


@pytest.mark.parametrize("key", ["plain/data", "with space/ü+%41"])
def test_real_servers_take_it_whatever_the_key(s3_store: S3Store, key: str) -> None:
    driver = s3_store.driver()

    write(driver, Source(), key)

    assert driver.read(key, len(DATA)) == DATA
    assert driver.stored_checksum(key) in (None, f"sha256:{SHA256}")

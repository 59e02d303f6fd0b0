"""Small requests by obstore: what they carry, and that boto3 does whatever they do not."""

from __future__ import annotations

import base64
import builtins
import hashlib
from pathlib import Path
from typing import Any

import pytest

from fixtures_s3 import OpenS3, S3Store
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound, PermissionDenied, Unavailable
from regstore_drivers.s3 import S3Driver
from regstore_drivers.s3.address import bucket_url
from regstore_drivers.s3.connection import Connection
from regstore_drivers.s3.fast import FAILURES_MAX, SMALL_BYTES
from regstore_drivers.s3.options import parse_url
from support.fake_s3 import ETAG, HTTP_TIME, FakeS3, Reply, error, running_fake_s3

pytestmark = pytest.mark.usefixtures("one_try")

OK = Reply(headers={"ETag": ETAG})


def body(data: bytes, etag: str = "") -> Reply:
    etag = etag or f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    return Reply(body=data, headers={"ETag": etag, "Last-Modified": HTTP_TIME})


def part(data: bytes, size: int) -> Reply:
    """The first bytes of an object."""
    whole = body(data)
    return Reply(206, data, whole.headers | {"Content-Range": f"bytes 0-{len(data) - 1}/{size}"})


@pytest.fixture
def driver(fake: FakeS3, open_s3: OpenS3) -> S3Driver:
    """One on the fake server that has seen its bucket and knows the server's time."""
    opened = open_s3(fake, "bucket", "root", storage_class="STANDARD_IA", encrypt=True, key_id="key", acl="private")
    opened._connection.bucket_seen = True
    fake.reply(Reply())
    opened.now()
    fake.http.requests.clear()
    return opened


def clients(fake: FakeS3) -> list[str]:
    """Tell for each request whose it was."""
    return ["obstore" if "object_store" in one.headers["user-agent"] else "boto3" for one in fake.requests]


def test_a_small_object_is_written(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(OK)

    entry = driver.write("a/b", b"hello", 5, mtime_ns=1_700_000_000_123_456_789)

    assert (entry.key, entry.size, entry.etag) == ("a/b", 5, ETAG.strip('"'))
    assert abs(entry.mtime - driver.now()) < 2
    (sent,) = fake.requests
    assert clients(fake) == ["obstore"]
    assert (sent.method, sent.path, sent.body) == ("PUT", "/bucket/root/a/b", b"hello")
    expected = {
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(b"hello").digest()).decode(),
        "x-amz-meta-mtime": "1700000000.123456789",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key",
        "x-amz-acl": "private",
    }
    assert {name: sent.headers.get(name) for name in expected} == expected
    assert "if-none-match" not in sent.headers
    assert "fake-secret-key" not in str(fake.requests)


def test_a_small_object_is_read(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(body(b"hello"), part(b"world", 5))

    assert driver.read("a") == b"hello"
    with driver.open("a") as stream:
        assert stream.read() == b"world"

    assert clients(fake) == ["obstore", "obstore"]
    assert [one.headers.get("range") for one in fake.requests] == [None, f"bytes=0-{SMALL_BYTES - 1}"]
    assert not [name for name in fake.requests[0].headers if name in ("x-amz-storage-class", "x-amz-acl")]


def test_the_kept_time_of_a_small_object_comes_with_it(fake: FakeS3, driver: S3Driver) -> None:
    kept = {"x-amz-meta-mtime": "1700000000.5"}
    small, large = body(b"hello"), body(bytes(SMALL_BYTES + 1))
    fake.reply(Reply(body=small.body, headers=small.headers | kept), small)
    assert driver.kept_mtime_ns("a") == 1_700_000_000_500_000_000
    assert driver.kept_mtime_ns("a") is None
    assert clients(fake) == ["obstore", "obstore"]

    fake.reply(large, Reply(headers={"Content-Length": "5", "Last-Modified": HTTP_TIME} | kept))
    assert driver.kept_mtime_ns("a") == 1_700_000_000_500_000_000
    assert [(one.method, client) for one, client in zip(fake.requests, clients(fake), strict=True)][2:] == [
        ("GET", "obstore"),
        ("HEAD", "boto3"),
    ]


def test_a_panic_is_a_failure_and_an_interruption_is_none(
    fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = driver._connection.fast("a", 1)
    assert fast is not None
    raised: list[type[BaseException]] = [type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})]

    def fail(*_: object, **__: object) -> None:
        raise raised[0]

    for name in ("get", "put"):
        monkeypatch.setattr(f"obstore.{name}", fail)
    fake.reply(body(b"hello"), OK)
    assert driver.read("a") == b"hello"
    driver.write("a", b"hello", 5)
    assert clients(fake) == ["boto3", "boto3"]
    raised[0] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        driver.read("a")


def test_a_large_object_is_read_by_boto(fake: FakeS3, driver: S3Driver) -> None:
    data = bytes(SMALL_BYTES + 1)
    fake.reply(body(data), body(data))

    assert driver.read("a") == data
    assert clients(fake) == ["obstore", "boto3"]


def test_of_a_large_object_that_is_opened_only_a_part_is_asked_for_in_vain(fake: FakeS3, driver: S3Driver) -> None:
    data = bytes(SMALL_BYTES + 1)
    fake.reply(part(data[:SMALL_BYTES], len(data)), body(data))

    with driver.open("a") as stream:
        assert stream.read() == data

    assert clients(fake) == ["obstore", "boto3"]


def test_empty_objects_are_no_reason_to_give_obstore_up(s3_store: S3Store) -> None:
    driver = s3_store.driver()
    driver.write("a", b"", 0)

    for _ in range(FAILURES_MAX + 1):
        with driver.open("a") as stream:
            assert stream.read() == b""

    fast = driver._connection.fast("a", 1)
    assert fast is not None
    assert fast._failures["get"] == 0


def test_what_fails_is_asked_again(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown"), OK, Reply(drop=True), body(b"hello"), body(b"hello"))

    driver.write("a", b"hello", 5)
    assert driver.read("a") == b"hello"

    assert clients(fake) == ["obstore", "boto3", "obstore", "boto3"]


def test_a_body_that_is_cut_off_is_asked_for_again(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(body=b"hello", cut_after=2, headers={"Last-Modified": HTTP_TIME, "ETag": ETAG}), body(b"hello"))

    assert driver.read("a") == b"hello"


def test_errors_are_those_of_boto(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(404, "NoSuchKey"), error(404, "NoSuchKey"))
    with pytest.raises(NotFound):
        driver.read("a")
    fake.reply(error(403, "AccessDenied"), error(403, "AccessDenied"))
    with pytest.raises(PermissionDenied, match="check the credentials"):
        driver.write("a", b"hello", 5)


def test_a_refused_checksum_is_left_out_from_then_on(fake: FakeS3, driver: S3Driver) -> None:
    refused = error(501, "NotImplemented")
    fake.reply(refused, refused, OK, OK)

    driver.write("a", b"hello", 5)
    driver.write("b", b"hello", 5)

    assert clients(fake).count("obstore") == 1
    assert "x-amz-checksum-sha256" not in fake.requests[-1].headers


def test_after_some_failures_in_a_row_only_boto_is_asked(fake: FakeS3, driver: S3Driver) -> None:
    for _ in range(FAILURES_MAX):
        fake.reply(error(500, "InternalError"), body(b"hello"))
        driver.read("a")
    fake.http.requests.clear()
    fake.reply(body(b"hello"))

    driver.read("a")

    assert clients(fake) == ["boto3"]


def test_missing_objects_are_no_failures(fake: FakeS3, driver: S3Driver) -> None:
    for _ in range(FAILURES_MAX + 1):
        fake.reply(error(404, "NoSuchKey"), error(404, "NoSuchKey"))
        with pytest.raises(NotFound):
            driver.read("a")
    assert clients(fake)[-2:] == ["obstore", "boto3"]


def test_conditions(fake: FakeS3, driver: S3Driver) -> None:
    absent, exists = error(404, "NoSuchKey"), error(412, "PreconditionFailed")
    fake.reply(absent, OK)
    driver.write("a", b"hello", 5, if_absent=True)
    assert fake.requests[-1].headers["if-none-match"] == "*"
    assert clients(fake)[-1] == "obstore"

    fake.reply(absent, exists, exists)
    with pytest.raises(AlreadyExists):
        driver.write("a", b"hello", 5, if_absent=True)
    assert driver.has_conditional_writes is True

    conflict = error(409, "ConditionalRequestConflict")
    fake.reply(absent, conflict, conflict)
    with pytest.raises(Unavailable):
        driver.write("a", b"hello", 5, if_absent=True)

    fake.reply(absent, Reply(drop=True), exists)
    with pytest.raises(Unavailable, match="whose answer was lost"):
        driver.write("a", b"hello", 5, if_absent=True)


def test_keys_that_clients_write_differently_are_left_to_boto(fake: FakeS3, driver: S3Driver) -> None:
    for key in ("a b", "a%20", "é", "a+b", "a/.b"):
        fake.reply(body(b"hello"))
        assert driver.read(key) == b"hello"
    assert set(clients(fake)) == {"boto3"}


def test_without_the_extra_boto_does_all(fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("obstore"):
            raise ImportError(name)
        return plain(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    fake.reply(body(b"hello"), body(b"hello"))

    assert driver.read("a") + driver.read("a") == b"hellohello"
    assert clients(fake) == ["boto3", "boto3"]


def test_certificates_that_only_boto_knows(open_s3: OpenS3, fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")

    def is_used(endpoint: str) -> bool:
        return open_s3(fake, "bucket", endpoint=endpoint)._connection.fast("a", 1) is not None

    assert is_used("http://127.0.0.1:9")
    assert not is_used("https://127.0.0.1:9")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    assert not is_used("https://127.0.0.1:9")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert is_used("https://127.0.0.1:9")


def test_a_token_of_the_environment_belongs_to_other_credentials(
    fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    fake.reply(body(b"hello"))

    driver.read("a")

    assert clients(fake) == ["obstore"]
    assert "x-amz-security-token" not in fake.requests[0].headers


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket?region=eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("s3://b.ucket?region=eu-west-1", "https://s3.eu-west-1.amazonaws.com/b.ucket"),
        # A host name has no capitals: "bucket" is somebody else's.
        ("s3://Bucket?region=us-east-1", "https://s3.amazonaws.com/Bucket"),
        ("s3://bucket?endpoint=http://host:9000", "http://host:9000/bucket"),
        ("s3://bucket?endpoint=http://host:9000/base", "http://host:9000/base/bucket"),
        ("s3://bucket?endpoint=https://host.example&path_style=false", "https://bucket.host.example"),
        ("s3://Bucket?endpoint=https://host.example&path_style=false", "https://host.example/Bucket"),
        ("s3://bucket?endpoint=http://127.0.0.1:9000&path_style=false", "http://127.0.0.1:9000/bucket"),
        ("s3://bucket?endpoint=http://[::1]:9000&path_style=false", "http://[::1]:9000/bucket"),
    ],
)
def test_where_the_bucket_stands(location: str, expected: str) -> None:
    assert address_of(location) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("use_fips_endpoint = true", "https://bucket.s3-fips.us-east-1.amazonaws.com"),
        ("use_dualstack_endpoint = true", "https://bucket.s3.dualstack.us-east-1.amazonaws.com"),
        ("s3 =\n  use_accelerate_endpoint = true", "https://bucket.s3-accelerate.amazonaws.com"),
    ],
)
def test_settings_of_the_profile(settings: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    file.write_text(f"[default]\n{settings}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    assert address_of("s3://bucket?region=us-east-1") == expected


def address_of(location: str) -> str:
    options = parse_url(location, access_key="access", secret_key="secret")
    return bucket_url(Connection(options).client, options.bucket)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_an_endpoint_of_the_environment_is_not_that_of_the_location(
    fake: FakeS3, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with running_fake_s3() as other:
        monkeypatch.setenv(name, other.endpoint)
        fake.reply(OK, Reply())
        other.reply(OK, OK)

        open_s3(fake, "bucket").write("a", b"hello", 5)

        assert other.requests == []
    assert (fake.requests[0].method, fake.requests[0].path, fake.requests[0].body) == ("PUT", "/bucket/a", b"hello")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SERVER_SIDE_ENCRYPTION", "AES256"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_REQUEST_PAYER", "true"),
        ("AWS_S3_EXPRESS", "true"),
        ("AWS_A_NEW_OPTION", "true"),
    ],
)
def test_a_variable_that_only_obstore_reads(
    fake: FakeS3, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    fake.reply(OK)

    open_s3(fake, "bucket").write("a", b"hello", 5)

    assert clients(fake) == ["boto3"]
    assert "AWS4-HMAC-SHA256" in fake.requests[0].headers["authorization"]
    assert not fake.requests[0].headers.keys() & {"x-amz-server-side-encryption", "x-amz-request-payer"}


def test_a_proxy_that_only_obstore_knows(fake: FakeS3, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with running_fake_s3() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.endpoint)
        fake.reply(OK)
        proxy.reply(OK)

        open_s3(fake, "bucket").write("a", b"hello", 5)

        assert proxy.requests == []
    assert len(fake.requests) == 1


def test_a_page_behind_a_redirect_is_no_object(fake: FakeS3, driver: S3Driver) -> None:
    with running_fake_s3() as other:
        moved = Reply(302, headers={"Location": f"{other.endpoint}/login"})
        other.reply(body(b"<html>please log in</html>", etag='"5f3-6241f"'))
        fake.reply(moved, moved)

        with pytest.raises(DriverError, match="another endpoint"):
            driver.read("a")


@pytest.mark.parametrize(
    "wrong",
    [
        Reply(206, b"hel", {"ETag": ETAG, "Content-Range": "bytes 0-2/5"}),
        Reply(200, b"<html>under maintenance</html>"),
        Reply(200, b"<html>under maintenance</html>", {"ETag": ETAG}),
    ],
)
def test_bytes_that_are_not_those_of_the_entity_tag(fake: FakeS3, driver: S3Driver, wrong: Reply) -> None:
    fake.reply(wrong, body(b"hello"))

    assert driver.read("a") == b"hello"
    assert clients(fake) == ["obstore", "boto3"]


def test_objects_whose_entity_tag_is_no_md5_are_left_to_boto(fake: FakeS3, driver: S3Driver) -> None:
    encrypted = body(b"hello", etag='"00000000000000000000000000000000"')
    for _ in range(FAILURES_MAX):
        fake.reply(encrypted, encrypted, OK)
        assert driver.read("a") == b"hello"
        driver.write("b", b"hello", 5)
    fake.http.requests.clear()
    fake.reply(encrypted, OK)

    driver.read("a")
    driver.write("b", b"hello", 5)

    assert clients(fake) == ["boto3", "obstore"]


def test_the_version_of_an_object_without_one(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(headers={"ETag": ETAG, "x-amz-version-id": "null"}))
    assert driver.write("a", b"hello", 5).version is None
    fake.reply(Reply(headers={"ETag": ETAG, "x-amz-version-id": "abc"}))
    assert driver.write("a", b"hello", 5).version == "abc"


def test_a_server_with_conditions_and_without_checksums(fake: FakeS3, driver: S3Driver) -> None:
    refused = error(501, "NotImplemented")
    fake.reply(refused, refused, OK, error(412, "PreconditionFailed"), Reply(204))

    found = driver.probe_writes()

    assert (found.has_checksums, found.has_conditions) == (False, True)

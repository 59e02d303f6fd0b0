"""The S3 driver on a server's bad days, played by a fake server."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest

from fixtures_s3 import OpenS3
from regstore_drivers.base import Deleted, MultipartUpload
from regstore_drivers.errors import (
    AlreadyExists,
    DigestMismatch,
    DriverError,
    NotFound,
    PermissionDenied,
    ShortRead,
    Unavailable,
    Unreachable,
)
from regstore_drivers.s3 import S3Driver
from regstore_drivers.s3.copying import Copy
from regstore_drivers.s3.upload import part_size
from support.fake_s3 import ETAG, FakeS3, Reply, error, head, listing, running_fake_s3

MIB = 1024 * 1024
CREATED = Reply(body=b"<InitiateMultipartUploadResult><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>")
PART = Reply(headers={"ETag": '"part"'})
PART_COPIED = Reply(body=b"<CopyPartResult><ETag>part</ETag></CopyPartResult>")
COMPLETED = Reply(body=b"<CompleteMultipartUploadResult><ETag>whole-2</ETag></CompleteMultipartUploadResult>")
COPIED = Reply(body=b"<CopyObjectResult><ETag>copy</ETag></CopyObjectResult>")
NO_CONTENT = Reply(204)
OK = Reply(headers={"ETag": ETAG})


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    with running_fake_s3() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try for each request, so that a test sees what one answer does."""
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 1)


@pytest.fixture
def driver(fake: FakeS3, open_s3: OpenS3) -> S3Driver:
    opened = open_s3(fake, "bucket", "root", driver={"multipart_threshold": 8, "part_min": MIB})
    opened._connection.bucket_seen = True
    return opened


def keys(driver: S3Driver, start_after: str = "") -> list[str]:
    return [entry.key for entry in driver.list("", start_after)]


# --- answers that are errors ---


@pytest.mark.parametrize(
    ("reply", "expected", "reason"),
    [
        (error(404, "NoSuchKey"), NotFound, "no such object"),
        (error(404, "NoSuchBucket"), Unreachable, "no such bucket"),
        (error(403, "AccessDenied"), PermissionDenied, "check the credentials"),
        (error(401, "Unauthorized"), PermissionDenied, "check the credentials"),
        (error(400, "ExpiredToken"), PermissionDenied, "check the credentials"),
        (error(403, "RequestTimeTooSkewed"), PermissionDenied, "clock of this host"),
        (error(403, "InvalidObjectState"), DriverError, "restored"),
        (error(500, "InternalError"), Unavailable, "for the moment"),
        (error(503, "SlowDown"), Unavailable, "SlowDown, HTTP 503"),
        (error(429, "TooManyRequests"), Unavailable, "for the moment"),
        (error(400, "RequestTimeout"), Unavailable, "for the moment"),
        (Reply(502, b"<html>Bad Gateway</html>"), Unavailable, "for the moment"),
        (Reply(504), Unavailable, "for the moment"),
        (error(301, "PermanentRedirect"), DriverError, "region="),
        (error(400, "AuthorizationHeaderMalformed"), DriverError, "region="),
        (error(501, "NotImplemented"), DriverError, "NotImplemented, HTTP 501"),
        (error(507, "StorageFull"), DriverError, "HTTP 507"),
    ],
)
def test_error_answers(fake: FakeS3, driver: S3Driver, reply: Reply, expected: type[DriverError], reason: str) -> None:
    fake.reply(reply)

    with pytest.raises(DriverError, match=reason) as caught:
        driver.read("a/link")

    assert type(caught.value) is expected
    assert caught.value.retryable is (expected is Unavailable)
    assert (caught.value.operation, caught.value.key) == ("read", "a/link")
    assert caught.value.location == driver.location


@pytest.mark.parametrize(("header", "low", "high"), [("7", 7, 7), ("-1", 0, 0), ("soon", None, None)])
def test_retry_after_is_passed_on(
    fake: FakeS3, driver: S3Driver, header: str, low: float | None, high: float | None
) -> None:
    fake.reply(error(503, "SlowDown", Retry_After=header))

    with pytest.raises(Unavailable) as caught:
        driver.read("a")

    assert caught.value.retry_after in (low, high)


def test_retry_after_may_be_a_date(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown", Retry_After=formatdate(time.time() + 60, usegmt=True)))

    with pytest.raises(Unavailable) as caught:
        driver.read("a")

    assert caught.value.retry_after == pytest.approx(60, abs=3)


def test_boto_tries_again_by_itself(fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 3)
    fake.reply(error(500, "InternalError"), Reply(drop=True), Reply(body=b"hello"))

    assert driver.read("a") == b"hello"
    assert len(fake.requests) == 3


def test_a_server_that_hangs_is_given_up(fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.READ_TIMEOUT_SECONDS", 0.5)
    fake.reply(Reply(body=b"hello", cut_after=0, hang=True))
    stream = driver.open("a")
    with pytest.raises(Unavailable, match="stopped sending"):
        stream.read()
    stream.close()


def test_a_connection_that_breaks_before_the_answer(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(body=b"x" * 10_000, cut_after=100))
    with pytest.raises(DriverError) as caught:
        keys(driver)
    assert caught.value.retryable


def test_an_unreachable_date_is_an_error(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(headers={"Date": ""}))
    with pytest.raises(DriverError, match="no Date"):
        driver.now()

    fake.reply(Reply(headers={"Date": "yesterday"}))
    with pytest.raises(DriverError, match="no Date"):
        driver.now()


def test_the_clock_takes_any_answer(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(403, "AccessDenied", Date="Mon, 06 May 2024 07:08:09 GMT"))

    first = driver.now()

    assert first == pytest.approx(1714979289, abs=1)
    assert first < driver.now() < first + 1
    assert len(fake.requests) == 1


# --- bodies that end early ---


@pytest.mark.parametrize("how", [{}, {"reset": True}])
@pytest.mark.parametrize("sent", [0, 3, 300_000])
def test_a_short_body_is_an_error(fake: FakeS3, driver: S3Driver, how: dict[str, bool], sent: int) -> None:
    reply = Reply(body=b"x" * 500_000, cut_after=sent, **how)  # type: ignore[arg-type]
    fake.reply(reply, reply, reply)

    with pytest.raises(ShortRead) as caught:
        driver.read("a")
    assert caught.value.retryable
    with driver.open("a") as stream, pytest.raises(ShortRead, match="of 500000 bytes"):
        stream.read()
    with driver.open("a") as stream, pytest.raises(ShortRead):
        list(iter(lambda: stream.read(65_536), b""))


def test_a_stream_may_be_closed_before_its_end(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(body=b"x" * 5_000_000), Reply(body=b"hello"))

    stream = driver.open("a")
    assert stream.read(1) == b"x"
    stream.close()
    stream.close()

    assert driver.read("b") == b"hello"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Range": "bytes 0-3/10"},
        {"Content-Range": "bytes 2-4/10"},
        {"Content-Range": "bytes 2-5/*"},
        {"Content-Range": "nonsense"},
    ],
)
def test_another_range_than_asked_for_is_an_error(fake: FakeS3, driver: S3Driver, headers: dict[str, str]) -> None:
    fake.reply(Reply(206, b"2345", headers))

    with pytest.raises(DriverError, match="range"):
        driver.open("a", 2, 4)


def test_an_answer_without_length_is_an_error(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(Reply(body=b"", headers={"Content-Length": ""}, cut_after=0))

    with pytest.raises(DriverError, match="how much"):
        driver.read("a")


# --- listings that cannot be believed ---


def test_pages_of_an_ordered_server_are_streamed(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(listing(["root/a-b", "root/a/b"], prefix="root/", token="t1"))
    found = driver.list("")

    assert next(found).key == "a-b"
    assert len(fake.requests) == 1
    fake.reply(listing([], prefix="root/", token="t2"), listing(["root/b"], prefix="root/"))
    assert [entry.key for entry in found] == ["a/b", "b"]
    assert [request.query.get("continuation-token") for request in fake.requests] == [None, "t1", "t2"]
    assert not any("start-after" in request.query for request in fake.requests)


def test_start_after_stands_in_the_first_request_only(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(listing(["root/b"], prefix="root/", token="t1"), listing(["root/c"], prefix="root/"))

    assert keys(driver, "a") == ["b", "c"]
    assert [request.query.get("start-after") for request in fake.requests] == ["root/a", None]


def test_other_servers_are_asked_again_without_start_after(open_s3: OpenS3) -> None:
    with running_fake_s3("nginx/1.25.3") as fake:
        fake.reply(listing(["root/v2"]), listing(["root/v1/a", "root/v2"], token="t"), listing(["root/v1-alpine/a"]))

        assert keys(open_s3(fake, "bucket", "root"), "v1-alpine/a") == ["v1/a", "v2"]
        assert [request.query.get("start-after") for request in fake.requests] == ["root/v1-alpine/a", None, None]


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([listing(["root/b", "root/a"])], "out of order"),
        ([listing(["root/a", "root/a"])], "out of order"),
        ([listing(["root/a", "root/b"], token="t"), listing(["root/b"])], "out of order"),
        ([listing(["root/a"], token="t"), listing(["root/0"])], "out of order"),
        ([listing(["root/a"], IsTruncated="true")], "how to go on"),
        ([listing(["root/a"], token="t"), listing(["root/b"], token="t")], "does not go on"),
        ([listing(["root/a"], token="root/\ufffd")], "does not go on"),
        ([listing(["other/a"])], "does not start with"),
        ([listing(["root/a"], KeyCount=2)], "page of 2 keys has 1"),
        ([listing(["root/a"], Prefix="other/")], "one of 'other/'"),
        ([listing(["root/a"], IsTruncated=None)], "not a listing"),
        ([Reply(body=b"<html>Please log in</html>")], "not a listing"),
        ([Reply(body=b"<ListBucketResult><Contents><Key>root/a</Key></Contents>")], "for the moment"),
        ([Reply(body=b"")], "not a listing|not what an S3 server says"),
        (
            [Reply(body=b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>root/a</Key></Contents>"
                   b"</ListBucketResult>")],
            "no size or no time",
        ),
        ([listing(["root/a"], token="t"), error(503, "SlowDown")], "for the moment"),
        ([listing(["root/a"], token="t"), error(404, "NoSuchKey")], "no such object"),
        ([listing(["root/a"], token="t"), error(404, "NoSuchBucket")], "no such bucket"),
    ],
)  # fmt: skip
def test_listings_that_contradict_themselves_are_errors(
    fake: FakeS3, driver: S3Driver, pages: list[Reply], reason: str
) -> None:
    fake.reply(*pages)

    with pytest.raises(DriverError, match=reason):
        keys(driver)


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([listing(["root/a"], token="t"), listing(["root/b", "root/a"])], "'a' came twice"),
        ([listing(["root/a"], token="t"), error(500, "InternalError")], "for the moment"),
    ],
)
def test_listings_of_other_servers_are_checked_too(open_s3: OpenS3, pages: list[Reply], reason: str) -> None:
    with running_fake_s3("Ceph Object Gateway (squid)") as fake:
        fake.reply(*pages)
        found = open_s3(fake, "bucket", "root").list("")

        with pytest.raises(DriverError, match=reason):
            next(found)


def test_names_outside_the_prefix_are_an_error(fake: FakeS3, driver: S3Driver) -> None:
    body = listing([], KeyCount=1).body.replace(
        b"</List", b"<CommonPrefixes><Prefix>elsewhere/</Prefix></CommonPrefixes></List"
    )
    fake.reply(Reply(body=body))

    with pytest.raises(DriverError, match="does not start with"):
        list(driver.list_dir(""))


# --- writing ---


def digest_header(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def extras(fake: FakeS3) -> list[tuple[bool, bool]]:
    """Tell of each PUT whether it had a checksum and a condition."""
    puts = [request.headers for request in fake.requests if request.method == "PUT"]
    return [("x-amz-checksum-sha256" in headers, "if-none-match" in headers) for headers in puts]


def test_a_write_carries_its_checksum(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(OK, head(5))

    driver.write("a", b"hello", 5)

    assert fake.requests[0].headers["x-amz-checksum-sha256"] == digest_header(b"hello")
    assert fake.requests[0].body == b"hello"


def test_a_write_that_boto_tries_again_sends_all_of_it(
    fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 2)
    fake.reply(Reply(drop=True), OK, head(5))

    driver.write("a", b"hello", 5)

    assert [request.body for request in fake.requests] == [b"hello", b"hello", b""]


@pytest.mark.parametrize("refusal", [error(501, "NotImplemented"), error(400, "InvalidArgument")])
def test_a_server_that_refuses_checksums_gets_none(fake: FakeS3, driver: S3Driver, refusal: Reply) -> None:
    fake.reply(refusal, OK, head(5), OK, head(5))

    driver.write("a", b"hello", 5)
    driver.write("b", b"hello", 5)

    assert extras(fake) == [(True, False), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [(1, (False, True)), (2, (True, False)), (3, (False, False))],
)
def test_a_server_may_refuse_checksum_or_condition(
    fake: FakeS3, driver: S3Driver, refusals: int, expected: tuple[bool, bool]
) -> None:
    fake.reply(error(404, "NoSuchKey"), *[error(501, "NotImplemented")] * refusals, OK, head(5))

    driver.write("a", b"hello", 5, if_absent=True)

    assert extras(fake)[-1] == expected
    assert driver.has_conditional_writes is (None if expected[1] else False)


def test_a_write_that_is_refused_for_another_reason_fails(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(400, "InvalidStorageClass"), error(400, "InvalidStorageClass"), OK, head(5))

    with pytest.raises(DriverError, match="InvalidStorageClass"):
        driver.write("a", b"hello", 5)
    driver.write("a", b"hello", 5)

    assert extras(fake) == [(True, False), (False, False), (True, False)]


def test_damage_on_the_way_is_retryable(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(400, "BadDigest"))

    with pytest.raises(Unavailable):
        driver.write("a", b"hello", 5)


def test_of_two_writers_one_wins(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(404, "NoSuchKey"), error(412, "PreconditionFailed"))
    with pytest.raises(AlreadyExists):
        driver.write("a", b"hello", 5, if_absent=True)
    assert driver.has_conditional_writes is True

    fake.reply(error(404, "NoSuchKey"), error(409, "ConditionalRequestConflict"))
    with pytest.raises(Unavailable):
        driver.write("a", b"hello", 5, if_absent=True)


def test_a_server_that_ignores_conditions_is_found_out(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(OK, OK, NO_CONTENT)

    assert driver.probe_conditional_writes("x/") is False
    assert driver.has_conditional_writes is False
    assert [request.method for request in fake.requests] == ["PUT", "PUT", "DELETE"]
    assert len({request.path for request in fake.requests}) == 1

    fake.reply(error(404, "NoSuchKey"), OK, head(5))
    driver.write("a", b"hello", 5, if_absent=True)
    assert extras(fake)[-1] == (True, False)


def write_parts(driver: S3Driver, *, if_absent: bool = False) -> None:
    data = b"x" * (MIB + 1)
    driver.write("a", lambda: io.BytesIO(data), len(data), if_absent=if_absent)


def test_parts_carry_their_checksums(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(CREATED, PART, PART, COMPLETED, head(MIB + 1))

    write_parts(driver)

    created, *parts, completed, _ = fake.requests
    assert created.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert [part.headers["x-amz-checksum-sha256"] for part in parts] == [
        digest_header(b"x" * MIB),
        digest_header(b"x"),
    ]
    assert digest_header(b"x").encode() in completed.body


@pytest.mark.parametrize("late", [False, True])
def test_parts_go_without_checksums_when_they_are_refused(fake: FakeS3, driver: S3Driver, late: bool) -> None:
    refusal = error(501, "NotImplemented")
    fake.reply(*([CREATED, refusal, NO_CONTENT] if late else [refusal]), CREATED, PART, PART, COMPLETED, head(MIB + 1))
    fake.reply(CREATED, PART, PART, COMPLETED, head(MIB + 1))

    write_parts(driver)
    write_parts(driver)

    assert not any("x-amz-checksum-sha256" in request.headers for request in fake.requests[-5:])
    assert not any("x-amz-checksum-algorithm" in request.headers for request in fake.requests[-5:])


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([CREATED, error(503, "SlowDown")], Unavailable),
        ([CREATED, PART, error(500, "InternalError")], Unavailable),
        ([CREATED, PART, Reply(drop=True)], Unavailable),
        ([CREATED, PART, PART, error(500, "InternalError")], Unavailable),
        ([CREATED, PART, PART, Reply(body=error(500, "InternalError").body)], Unavailable),
        ([CREATED, PART, PART, error(404, "NoSuchUpload")], Unavailable),
        ([CREATED, PART, PART, error(400, "InvalidPart")], DriverError),
    ],
)
def test_a_failed_upload_in_parts_is_aborted(
    fake: FakeS3, driver: S3Driver, replies: list[Reply], expected: type[DriverError]
) -> None:
    fake.reply(*replies, NO_CONTENT)

    with pytest.raises(DriverError) as caught:
        write_parts(driver)

    assert type(caught.value) is expected
    assert fake.requests[-1].method == "DELETE"
    assert fake.requests[-1].query["uploadId"] == "upload-1"


def test_the_first_error_counts_when_the_abortion_fails(
    fake: FakeS3, driver: S3Driver, caplog: pytest.LogCaptureFixture
) -> None:
    fake.reply(CREATED, error(403, "AccessDenied"), error(500, "InternalError"))

    with pytest.raises(PermissionDenied):
        write_parts(driver)

    assert "cannot abort the multipart upload of root/a" in caplog.text
    caplog.clear()
    fake.reply(CREATED, error(403, "AccessDenied"), error(404, "NoSuchUpload"))
    with pytest.raises(PermissionDenied):
        write_parts(driver)
    assert caplog.text == ""


def test_parts_are_completed_on_condition(fake: FakeS3, driver: S3Driver) -> None:
    missing = error(404, "NoSuchKey")
    fake.reply(missing, CREATED, PART, PART, error(412, "PreconditionFailed"), NO_CONTENT)
    with pytest.raises(AlreadyExists):
        write_parts(driver, if_absent=True)
    assert fake.requests[4].headers["if-none-match"] == "*"
    assert fake.requests[5].method == "DELETE"

    fake.reply(missing, CREATED, PART, PART, error(501, "NotImplemented"), COMPLETED, head(MIB + 1))
    write_parts(driver, if_absent=True)
    assert driver.has_conditional_writes is False


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 16 * MIB), (160_000 * MIB, 16 * MIB), (160_000 * MIB + 1, 17 * MIB), (5 * 1024 * 1024 * MIB, 525 * MIB)],
)
def test_ten_thousand_parts_are_enough(size: int, expected: int) -> None:
    assert part_size(size, 16 * MIB) == expected
    assert -(-size // part_size(size, 16 * MIB)) <= 10_000


# --- copying and moving ---


def test_a_copy_is_of_what_was_looked_at(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(head(5, x_amz_storage_class="STANDARD_IA"), COPIED, head(5))
    driver.copy("a b", "c")
    assert fake.requests[1].headers["x-amz-copy-source"] == "bucket/root/a%20b"
    assert fake.requests[1].headers["x-amz-copy-source-if-match"] == ETAG
    assert fake.requests[1].headers["x-amz-storage-class"] == "STANDARD_IA"

    fake.reply(head(5), error(412, "PreconditionFailed"))
    with pytest.raises(Unavailable, match="replaced while"):
        driver.copy("a", "b")


@pytest.mark.parametrize("document", [error(500, "InternalError").body, b"", b"<CopyObjectResult>"])
def test_an_error_in_a_good_answer_to_a_copy(fake: FakeS3, driver: S3Driver, document: bytes) -> None:
    fake.reply(head(5), Reply(200, document))

    with pytest.raises(Unavailable):
        driver.copy("a", "b")


def test_a_copy_of_another_size_is_an_error(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(head(5), COPIED, head(4))
    with pytest.raises(DriverError, match="4 of its 5 bytes"):
        driver.copy("a", "b")

    fake.reply(head(5), error(404, "NoSuchKey"), COPIED, head(4))
    with pytest.raises(DriverError, match="4 of its 5 bytes"):
        driver.move("a", "b")
    assert fake.requests[-1].method == "HEAD"


@pytest.mark.parametrize(
    ("source", "copy", "moves"),
    [
        ({}, {}, True),
        ({}, {"ETag": '"00000000000000000000000000000000"'}, False),
        ({"ETag": '"00000000000000000000000000000000-2"'}, {}, True),
        ({"x_amz_server_side_encryption": "aws:kms"}, {"ETag": '"00000000000000000000000000000000"'}, True),
    ],
)
def test_move_compares_entity_tags_that_are_an_md5(
    fake: FakeS3, driver: S3Driver, source: dict[str, str], copy: dict[str, str], moves: bool
) -> None:
    fake.reply(head(5, **source), error(404, "NoSuchKey"), COPIED, head(5, **copy), NO_CONTENT)

    if moves:
        driver.move("a", "b")
    else:
        with pytest.raises(DriverError, match="another entity tag"):
            driver.move("a", "b")

    assert (fake.requests[-1].method == "DELETE") is moves


def test_a_failed_copy_in_parts_is_aborted(fake: FakeS3, driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Callable[..., None] = Copy.run
    monkeypatch.setattr(Copy, "run", lambda self: run(self, single_max=10, part_min=MIB))
    fake.reply(head(MIB + 1), CREATED, PART_COPIED, PART_COPIED, COMPLETED, head(MIB + 1))
    driver.copy("a", "b")
    ranges = [request.headers.get("x-amz-copy-source-range") for request in fake.requests]
    assert ranges == [None, None, f"bytes=0-{MIB - 1}", f"bytes={MIB}-{MIB}", None, None]

    fake.reply(head(MIB + 1), CREATED, PART_COPIED, error(412, "PreconditionFailed"), NO_CONTENT)
    with pytest.raises(Unavailable, match="replaced while"):
        driver.copy("a", "b")
    assert fake.requests[-1].query["uploadId"] == "upload-1"


# --- deleting ---


def test_delete_believes_nothing_that_was_not_said(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(
        Reply(
            body=b"<DeleteResult><Deleted><Key>root/a</Key></Deleted>"
            b"<Error><Key>root/b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            b"<Error><Key>root/c</Key><Code>NoSuchKey</Code></Error></DeleteResult>"
        )
    )

    assert list(driver.delete(["a", "b", "c", "d"])) == [
        Deleted("a", "gone"),
        Deleted("b", "failed", "AccessDenied: no"),
        Deleted("c", "absent"),
        Deleted("d", "failed", "the storage did not say what became of it"),
    ]
    sent = fake.requests[0]
    assert sent.headers["content-md5"] == base64.b64encode(hashlib.md5(sent.body).digest()).decode()
    assert b"<Quiet>false</Quiet>" in sent.body


@pytest.mark.parametrize("document", [b"", b"<DeleteResult/>", b"<html/>"])
def test_an_empty_answer_to_delete_is_no_success(fake: FakeS3, driver: S3Driver, document: bytes) -> None:
    fake.reply(Reply(200, document))

    assert [found.outcome for found in driver.delete(["a", "b"])] == ["failed", "failed"]


def test_delete_raises_when_the_storage_fails(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown"))

    with pytest.raises(Unavailable):
        list(driver.delete(["a"]))


# --- multipart uploads and versions ---


def uploads_page(*names: str, after: str = "", truncated: bool = False) -> Reply:
    items = "".join(
        f"<Upload><Key>{name}</Key><UploadId>id</UploadId><Initiated>2024-05-06T07:08:09.000Z</Initiated></Upload>"
        for name in names
    )
    markers = f"<NextKeyMarker>{after}</NextKeyMarker><NextUploadIdMarker>id</NextUploadIdMarker>" if after else ""
    truth = str(truncated).lower()
    return Reply(
        body=f"<ListMultipartUploadsResult><IsTruncated>{truth}</IsTruncated>{markers}{items}"
        "</ListMultipartUploadsResult>".encode()
    )


def test_uploads_are_listed_page_by_page(fake: FakeS3, driver: S3Driver) -> None:
    fake.reply(uploads_page("root/a", after="root/a", truncated=True), uploads_page("root/b", "elsewhere/c"))

    assert list(driver.list_multipart("")) == [
        MultipartUpload("a", "id", 1714979289.0),
        MultipartUpload("b", "id", 1714979289.0),
    ]
    assert fake.requests[1].query["key-marker"] == "root/a"
    assert fake.requests[1].query["upload-id-marker"] == "id"


@pytest.mark.parametrize(
    "pages",
    [
        [uploads_page("root/a", truncated=True)],
        [uploads_page("root/a", after="root/a", truncated=True)] * 2,
        [Reply(body=b"<html/>")],
    ],
)
def test_a_list_of_uploads_never_just_ends(fake: FakeS3, driver: S3Driver, pages: list[Reply]) -> None:
    fake.reply(*pages)

    with pytest.raises(DriverError, match=r"uploads|no IsTruncated"):
        list(driver.list_multipart(""))


def test_abort_goes_on_when_parts_may_not_be_listed(fake: FakeS3, driver: S3Driver) -> None:
    upload = MultipartUpload("a", "id", 0.0)
    fake.reply(error(403, "AccessDenied"), NO_CONTENT)
    assert driver.abort_multipart(upload) is True

    fake.reply(Reply(body=b"<ListPartsResult/>"), error(404, "NoSuchUpload"))
    assert driver.abort_multipart(upload) is False

    fake.reply(Reply(body=b"<ListPartsResult/>"), error(403, "AccessDenied"))
    with pytest.raises(PermissionDenied):
        driver.abort_multipart(upload)


@pytest.mark.parametrize("code", ["AccessDenied", "MethodNotAllowed", "NotImplemented"])
def test_an_unknown_state_of_versions_counts_as_not_versioned(fake: FakeS3, driver: S3Driver, code: str) -> None:
    fake.reply(error({"AccessDenied": 403, "MethodNotAllowed": 405, "NotImplemented": 501}[code], code))
    assert driver.is_versioned() is False

    fake.reply(error(500, "InternalError"))
    with pytest.raises(Unavailable):
        driver.is_versioned()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_amz_checksum_sha256": digest_header(b"x")}, True),
        ({"x_amz_checksum_sha256": digest_header(b"x"), "x_amz_checksum_type": "FULL_OBJECT"}, True),
        ({"x_amz_checksum_sha256": digest_header(b"x"), "x_amz_checksum_type": "COMPOSITE"}, False),
        ({"x_amz_checksum_sha256": f"{digest_header(b'x')}-2"}, False),
        ({"x_amz_checksum_sha256": digest_header(b"x"), "ETag": '"abc-2"'}, False),
        ({"x_amz_checksum_crc32": "AAAAAA=="}, False),
    ],
)
def test_a_checksum_of_parts_is_none_of_the_object(
    fake: FakeS3, driver: S3Driver, headers: dict[str, str], expected: bool
) -> None:
    fake.reply(head(1, **headers))

    found = driver.stored_checksum("a")

    assert found == (f"sha256:{hashlib.sha256(b'x').hexdigest()}" if expected else None)
    assert fake.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"


# --- what must not be told ---


def test_no_secret_in_any_error(fake: FakeS3, open_s3: OpenS3) -> None:
    driver = open_s3(fake, "bucket", session_token="fake-session-token")
    fake.reply(error(403, "AccessDenied"), error(500, "InternalError"), Reply(502), Reply(drop=True))
    for _ in range(5):
        with pytest.raises(DriverError) as caught:
            driver.read("a")
        shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {driver!r}"
        assert "fake-secret-key" not in shown
        assert "fake-session-token" not in shown


def test_a_mismatch_is_found_before_anything_is_sent(fake: FakeS3, driver: S3Driver) -> None:
    with pytest.raises(DigestMismatch):
        driver.write("a", b"hello", 5, f"sha256:{'0' * 64}")

    assert fake.requests == []

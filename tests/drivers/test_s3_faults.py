"""The S3 driver on a server's bad days, played by a fake server."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from fixtures_s3 import OpenS3
from regstore_drivers.errors import (
    DriverError,
    NotFound,
    PermissionDenied,
    ShortRead,
    Unavailable,
    Unreachable,
)
from regstore_drivers.s3 import S3Driver
from support.fake_s3 import FakeS3, Reply, error, listing, running_fake_s3

pytestmark = pytest.mark.usefixtures("one_try")


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
def test_error_answers(
    fake: FakeS3, fake_driver: S3Driver, reply: Reply, expected: type[DriverError], reason: str
) -> None:
    fake.reply(reply)

    with pytest.raises(DriverError, match=reason) as caught:
        fake_driver.read("a/link")

    assert type(caught.value) is expected
    assert caught.value.retryable is (expected is Unavailable)
    assert (caught.value.operation, caught.value.key) == ("read", "a/link")
    assert caught.value.location == fake_driver.location


@pytest.mark.parametrize(("header", "low", "high"), [("7", 7, 7), ("-1", 0, 0), ("soon", None, None)])
def test_retry_after_is_passed_on(
    fake: FakeS3, fake_driver: S3Driver, header: str, low: float | None, high: float | None
) -> None:
    fake.reply(error(503, "SlowDown", Retry_After=header))

    with pytest.raises(Unavailable) as caught:
        fake_driver.read("a")

    assert caught.value.retry_after in (low, high)


def test_retry_after_may_be_a_date(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown", Retry_After=formatdate(time.time() + 60, usegmt=True)))

    with pytest.raises(Unavailable) as caught:
        fake_driver.read("a")

    assert caught.value.retry_after == pytest.approx(60, abs=3)


def test_boto_tries_again_by_itself(fake: FakeS3, fake_driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 3)
    fake.reply(error(500, "InternalError"), Reply(drop=True), Reply(body=b"hello"))

    assert fake_driver.read("a") == b"hello"
    assert len(fake.requests) == 3


def test_a_server_that_hangs_is_given_up(fake: FakeS3, fake_driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.READ_TIMEOUT_SECONDS", 0.5)
    fake.reply(Reply(body=b"hello", cut_after=0, hang=True))
    stream = fake_driver.open("a")
    with pytest.raises(Unavailable, match="stopped sending"):
        stream.read()
    stream.close()


def test_a_connection_that_breaks_before_the_answer(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(Reply(body=b"x" * 10_000, cut_after=100))
    with pytest.raises(DriverError) as caught:
        keys(fake_driver)
    assert caught.value.retryable


def test_an_unreachable_date_is_an_error(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(Reply(headers={"Date": ""}))
    with pytest.raises(DriverError, match="no Date"):
        fake_driver.now()

    fake.reply(Reply(headers={"Date": "yesterday"}))
    with pytest.raises(DriverError, match="no Date"):
        fake_driver.now()


def test_the_clock_takes_any_answer(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(403, "AccessDenied", Date="Mon, 06 May 2024 07:08:09 GMT"))

    first = fake_driver.now()

    assert first == pytest.approx(1714979289, abs=1)
    assert first < fake_driver.now() < first + 1
    assert len(fake.requests) == 1


# --- bodies that end early ---


@pytest.mark.parametrize("how", [{}, {"reset": True}])
@pytest.mark.parametrize("sent", [0, 3, 300_000])
def test_a_short_body_is_an_error(fake: FakeS3, fake_driver: S3Driver, how: dict[str, bool], sent: int) -> None:
    reply = Reply(body=b"x" * 500_000, cut_after=sent, **how)  # type: ignore[arg-type]
    fake.reply(reply, reply, reply)

    with pytest.raises(ShortRead) as caught:
        fake_driver.read("a")
    assert caught.value.retryable
    with fake_driver.open("a") as stream, pytest.raises(ShortRead, match="of 500000 bytes"):
        stream.read()
    with fake_driver.open("a") as stream, pytest.raises(ShortRead):
        list(iter(lambda: stream.read(65_536), b""))


def test_a_stream_may_be_closed_before_its_end(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(Reply(body=b"x" * 5_000_000), Reply(body=b"hello"))

    stream = fake_driver.open("a")
    assert stream.read(1) == b"x"
    stream.close()
    stream.close()

    assert fake_driver.read("b") == b"hello"


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
def test_another_range_than_asked_for_is_an_error(fake: FakeS3, fake_driver: S3Driver, headers: dict[str, str]) -> None:
    fake.reply(Reply(206, b"2345", headers))

    with pytest.raises(DriverError, match="range"):
        fake_driver.open("a", 2, 4)


def test_an_answer_without_length_is_an_error(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(Reply(body=b"", headers={"Content-Length": ""}, cut_after=0))

    with pytest.raises(DriverError, match="how much"):
        fake_driver.read("a")


# --- listings that cannot be believed ---


def test_pages_of_an_ordered_server_are_streamed(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(listing(["root/a-b", "root/a/b"], prefix="root/", token="t1"))
    found = fake_driver.list("")

    assert next(found).key == "a-b"
    assert len(fake.requests) == 1
    fake.reply(listing([], prefix="root/", token="t2"), listing(["root/b"], prefix="root/"))
    assert [entry.key for entry in found] == ["a/b", "b"]
    assert [request.query.get("continuation-token") for request in fake.requests] == [None, "t1", "t2"]
    assert not any("start-after" in request.query for request in fake.requests)


def test_start_after_stands_in_the_first_request_only(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(listing(["root/b"], prefix="root/", token="t1"), listing(["root/c"], prefix="root/"))

    assert keys(fake_driver, "a") == ["b", "c"]
    assert [request.query.get("start-after") for request in fake.requests] == ["root/a", None]


def test_a_small_listing_takes_one_request_and_a_longer_one_is_none(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(
        listing(["root/b", "root/a"]),
        listing(["root/a", "root/b"], token="t"),
        listing(["root/a", "root/a"]),
        listing(["root/a"], KeyCount=2),
    )

    assert [entry.key for entry in fake_driver.list_small("") or ()] == ["a", "b"]
    assert fake_driver.list_small("") is None
    with pytest.raises(DriverError, match="came twice"):
        fake_driver.list_small("")
    with pytest.raises(DriverError, match="page of 2 keys has 1"):
        fake_driver.list_small("")
    assert len(fake.requests) == 4


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
    fake: FakeS3, fake_driver: S3Driver, pages: list[Reply], reason: str
) -> None:
    fake.reply(*pages)

    with pytest.raises(DriverError, match=reason):
        keys(fake_driver)


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


def test_names_outside_the_prefix_are_an_error(fake: FakeS3, fake_driver: S3Driver) -> None:
    body = listing([], KeyCount=1).body.replace(
        b"</List", b"<CommonPrefixes><Prefix>elsewhere/</Prefix></CommonPrefixes></List"
    )
    fake.reply(Reply(body=body))

    with pytest.raises(DriverError, match="does not start with"):
        list(fake_driver.list_dir(""))


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

"""Writing, copying and deleting on a server's bad days, played by a fake server."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from regstore_drivers.base import Deleted, Entry, MultipartUpload
from regstore_drivers.errors import (
    AlreadyExists,
    DigestMismatch,
    DriverError,
    PermissionDenied,
    Unavailable,
)
from regstore_drivers.s3 import S3Driver
from regstore_drivers.s3.copying import Copy
from regstore_drivers.s3.upload import part_size
from regstore_drivers.wrappers import Retrying
from support.fake_s3 import ETAG, HTTP_TIME, FakeS3, Reply, error, head

pytestmark = pytest.mark.usefixtures("one_try")


MIB = 1024 * 1024
CREATED = Reply(body=b"<InitiateMultipartUploadResult><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>")
PART = Reply(headers={"ETag": '"part"'})
PART_COPIED = Reply(body=b"<CopyPartResult><ETag>part</ETag></CopyPartResult>")
COMPLETED = Reply(body=b"<CompleteMultipartUploadResult><ETag>whole-2</ETag></CompleteMultipartUploadResult>")
COPIED = Reply(body=b"<CopyObjectResult><ETag>copy</ETag></CopyObjectResult>")
NO_CONTENT = Reply(204)
OK = Reply(headers={"ETag": ETAG})


# --- writing ---


def digest_header(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def extras(fake: FakeS3) -> list[tuple[bool, bool]]:
    """Tell of each PUT whether it had a checksum and a condition."""
    puts = [request.headers for request in fake.requests if request.method == "PUT"]
    return [("x-amz-checksum-sha256" in headers, "if-none-match" in headers) for headers in puts]


def test_a_write_is_one_request_and_carries_its_checksum(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(Reply(headers={"ETag": ETAG, "Date": HTTP_TIME, "x-amz-version-id": "v1"}))

    entry = fake_driver.write("a", b"hello", 5)

    assert entry == Entry("a", 5, 1714979289.0, ETAG.strip('"'), "v1", 1714979289.0)
    assert len(fake.requests) == 1
    assert fake.requests[0].headers["x-amz-checksum-sha256"] == digest_header(b"hello")
    assert fake.requests[0].body == b"hello"


@pytest.mark.parametrize("headers", [{"ETag": ""}, {"ETag": ETAG, "Date": ""}, {"ETag": ETAG, "Date": "yesterday"}])
def test_a_write_whose_answer_says_too_little_is_looked_at(
    fake: FakeS3, fake_driver: S3Driver, headers: dict[str, str]
) -> None:
    fake.reply(Reply(headers=headers), head(5))

    assert fake_driver.write("a", b"hello", 5).mtime == 1714979289.0
    assert [request.method for request in fake.requests] == ["PUT", "HEAD"]


def test_a_write_that_boto_tries_again_sends_all_of_it(
    fake: FakeS3, fake_driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 2)
    fake.reply(Reply(drop=True), OK)

    fake_driver.write("a", b"hello", 5)

    assert [request.body for request in fake.requests] == [b"hello", b"hello"]


@pytest.mark.parametrize("refusal", [error(501, "NotImplemented"), error(400, "InvalidArgument")])
def test_a_server_that_refuses_checksums_gets_none(fake: FakeS3, fake_driver: S3Driver, refusal: Reply) -> None:
    fake.reply(refusal, OK, OK)

    fake_driver.write("a", b"hello", 5)
    fake_driver.write("b", b"hello", 5)

    assert extras(fake) == [(True, False), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [(1, (False, True)), (2, (True, False)), (3, (False, False))],
)
def test_a_server_may_refuse_checksum_or_condition(
    fake: FakeS3, fake_driver: S3Driver, refusals: int, expected: tuple[bool, bool]
) -> None:
    fake.reply(error(404, "NoSuchKey"), *[error(501, "NotImplemented")] * refusals, OK)

    fake_driver.write("a", b"hello", 5, if_absent=True)

    assert extras(fake)[-1] == expected
    assert fake_driver.has_conditional_writes is (None if expected[1] else False)


def test_a_write_that_is_refused_for_another_reason_fails(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(400, "InvalidStorageClass"), error(400, "InvalidStorageClass"), OK)

    with pytest.raises(DriverError, match="InvalidStorageClass"):
        fake_driver.write("a", b"hello", 5)
    fake_driver.write("a", b"hello", 5)

    assert extras(fake) == [(True, False), (False, False), (True, False)]


def test_damage_on_the_way_is_retryable(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(400, "BadDigest"))

    with pytest.raises(Unavailable):
        fake_driver.write("a", b"hello", 5)


def test_of_two_writers_one_wins(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(404, "NoSuchKey"), error(412, "PreconditionFailed"))
    with pytest.raises(AlreadyExists):
        fake_driver.write("a", b"hello", 5, if_absent=True)
    assert fake_driver.has_conditional_writes is True

    fake.reply(error(404, "NoSuchKey"), error(409, "ConditionalRequestConflict"))
    with pytest.raises(Unavailable):
        fake_driver.write("a", b"hello", 5, if_absent=True)


def test_what_exists_may_be_of_a_try_whose_answer_was_lost(
    fake: FakeS3, fake_driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 3)
    lost = [error(404, "NoSuchKey"), Reply(drop=True), error(412, "PreconditionFailed")]
    fake.reply(*lost)
    with pytest.raises(Unavailable, match="whose answer was lost"):
        fake_driver.write("a", b"hello", 5, if_absent=True)

    patient = Retrying(fake_driver, sleep=lambda _: None)
    for tag, is_ours in ((ETAG, True), ('"00000000000000000000000000000000"', False)):
        there = head(5, ETag=tag)
        fake.reply(*lost, there, there)
        if is_ours:
            assert patient.write("a", b"hello", 5, if_absent=True).size == 5
        else:
            fake.reply(replace(there, body=b"world"))
            with pytest.raises(AlreadyExists):
                patient.write("a", b"hello", 5, if_absent=True)


def test_a_server_that_ignores_conditions_is_found_out(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(OK, OK, NO_CONTENT)

    assert fake_driver.probe_writes("x/").has_conditions is False
    assert fake_driver.has_conditional_writes is False
    assert [request.method for request in fake.requests] == ["PUT", "PUT", "DELETE"]
    assert len({request.path for request in fake.requests}) == 1

    fake.reply(error(404, "NoSuchKey"), OK)
    fake_driver.write("a", b"hello", 5, if_absent=True)
    assert extras(fake)[-1] == (True, False)


def write_parts(driver: S3Driver, *, if_absent: bool = False) -> None:
    data = b"x" * (MIB + 1)
    driver.write("a", lambda: io.BytesIO(data), len(data), if_absent=if_absent)


def test_parts_carry_their_checksums(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(CREATED, PART, PART, COMPLETED, head(MIB + 1))

    write_parts(fake_driver)

    created, *parts, completed, _ = fake.requests
    assert created.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert [part.headers["x-amz-checksum-sha256"] for part in parts] == [
        digest_header(b"x" * MIB),
        digest_header(b"x"),
    ]
    assert digest_header(b"x").encode() in completed.body


@pytest.mark.parametrize("late", [False, True])
def test_parts_go_without_checksums_when_they_are_refused(fake: FakeS3, fake_driver: S3Driver, late: bool) -> None:
    refusal = error(501, "NotImplemented")
    fake.reply(*([CREATED, refusal, NO_CONTENT] if late else [refusal]), CREATED, PART, PART, COMPLETED, head(MIB + 1))
    fake.reply(CREATED, PART, PART, COMPLETED, head(MIB + 1))

    write_parts(fake_driver)
    write_parts(fake_driver)

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
    fake: FakeS3, fake_driver: S3Driver, replies: list[Reply], expected: type[DriverError]
) -> None:
    fake.reply(*replies, NO_CONTENT)

    with pytest.raises(DriverError) as caught:
        write_parts(fake_driver)

    assert type(caught.value) is expected
    assert fake.requests[-1].method == "DELETE"
    assert fake.requests[-1].query["uploadId"] == "upload-1"


def test_the_first_error_counts_when_the_abortion_fails(
    fake: FakeS3, fake_driver: S3Driver, caplog: pytest.LogCaptureFixture
) -> None:
    fake.reply(CREATED, error(403, "AccessDenied"), error(500, "InternalError"))

    with pytest.raises(PermissionDenied):
        write_parts(fake_driver)

    assert "cannot abort the multipart upload of root/a" in caplog.text
    caplog.clear()
    fake.reply(CREATED, error(403, "AccessDenied"), error(404, "NoSuchUpload"))
    with pytest.raises(PermissionDenied):
        write_parts(fake_driver)
    assert caplog.text == ""


def test_parts_are_completed_on_condition(fake: FakeS3, fake_driver: S3Driver) -> None:
    missing = error(404, "NoSuchKey")
    fake.reply(missing, CREATED, PART, PART, error(412, "PreconditionFailed"), NO_CONTENT)
    with pytest.raises(AlreadyExists):
        write_parts(fake_driver, if_absent=True)
    assert fake.requests[4].headers["if-none-match"] == "*"
    assert fake.requests[5].method == "DELETE"

    fake.reply(missing, CREATED, PART, PART, error(501, "NotImplemented"), COMPLETED, head(MIB + 1))
    write_parts(fake_driver, if_absent=True)
    assert fake_driver.has_conditional_writes is False


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 16 * MIB), (160_000 * MIB, 16 * MIB), (160_000 * MIB + 1, 17 * MIB), (5 * 1024 * 1024 * MIB, 525 * MIB)],
)
def test_ten_thousand_parts_are_enough(size: int, expected: int) -> None:
    assert part_size(size, 16 * MIB) == expected
    assert -(-size // part_size(size, 16 * MIB)) <= 10_000


# --- copying and moving ---


def test_a_copy_is_of_what_was_looked_at(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(head(5, x_amz_storage_class="STANDARD_IA"), COPIED, head(5))
    fake_driver.copy("a b", "c")
    assert fake.requests[1].headers["x-amz-copy-source"] == "bucket/root/a%20b"
    assert fake.requests[1].headers["x-amz-copy-source-if-match"] == ETAG
    assert fake.requests[1].headers["x-amz-storage-class"] == "STANDARD_IA"

    fake.reply(head(5), error(412, "PreconditionFailed"))
    with pytest.raises(Unavailable, match="replaced while"):
        fake_driver.copy("a", "b")


@pytest.mark.parametrize("document", [error(500, "InternalError").body, b"", b"<CopyObjectResult>"])
def test_an_error_in_a_good_answer_to_a_copy(fake: FakeS3, fake_driver: S3Driver, document: bytes) -> None:
    fake.reply(head(5), Reply(200, document))

    with pytest.raises(Unavailable):
        fake_driver.copy("a", "b")


def test_a_copy_of_another_size_is_an_error(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(head(5), COPIED, head(4))
    with pytest.raises(DriverError, match="4 of its 5 bytes"):
        fake_driver.copy("a", "b")

    fake.reply(head(5), error(404, "NoSuchKey"), COPIED, head(4))
    with pytest.raises(DriverError, match="4 of its 5 bytes"):
        fake_driver.move("a", "b")
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
    fake: FakeS3, fake_driver: S3Driver, source: dict[str, str], copy: dict[str, str], moves: bool
) -> None:
    fake.reply(head(5, **source), error(404, "NoSuchKey"), COPIED, head(5, **copy), NO_CONTENT)

    if moves:
        fake_driver.move("a", "b")
    else:
        with pytest.raises(DriverError, match="another entity tag"):
            fake_driver.move("a", "b")

    assert (fake.requests[-1].method == "DELETE") is moves


def test_a_failed_copy_in_parts_is_aborted(
    fake: FakeS3, fake_driver: S3Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Callable[..., None] = Copy.run
    monkeypatch.setattr(Copy, "run", lambda self: run(self, single_max=10, part_min=MIB))
    fake.reply(head(MIB + 1), CREATED, PART_COPIED, PART_COPIED, COMPLETED, head(MIB + 1))
    fake_driver.copy("a", "b")
    ranges = [request.headers.get("x-amz-copy-source-range") for request in fake.requests]
    assert ranges == [None, None, f"bytes=0-{MIB - 1}", f"bytes={MIB}-{MIB}", None, None]

    fake.reply(head(MIB + 1), CREATED, PART_COPIED, error(412, "PreconditionFailed"), NO_CONTENT)
    with pytest.raises(Unavailable, match="replaced while"):
        fake_driver.copy("a", "b")
    assert fake.requests[-1].query["uploadId"] == "upload-1"


# --- deleting ---


def test_delete_believes_nothing_that_was_not_said(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(
        Reply(
            body=b"<DeleteResult><Deleted><Key>root/a</Key></Deleted>"
            b"<Error><Key>root/b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            b"<Error><Key>root/c</Key><Code>NoSuchKey</Code></Error></DeleteResult>"
        )
    )

    assert list(fake_driver.delete(["a", "b", "c", "d"])) == [
        Deleted("a", "gone"),
        Deleted("b", "failed", "AccessDenied: no"),
        Deleted("c", "absent"),
        Deleted("d", "failed", "the storage did not say what became of it"),
    ]
    sent = fake.requests[0]
    assert sent.headers["content-md5"] == base64.b64encode(hashlib.md5(sent.body).digest()).decode()
    assert not [name for name in sent.headers if "checksum" in name]
    assert b"<Quiet>false</Quiet>" in sent.body


@pytest.mark.parametrize("document", [b"", b"<DeleteResult/>", b"<html/>"])
def test_an_empty_answer_to_delete_is_no_success(fake: FakeS3, fake_driver: S3Driver, document: bytes) -> None:
    fake.reply(Reply(200, document))

    assert [found.outcome for found in fake_driver.delete(["a", "b"])] == ["failed", "failed"]


def test_delete_raises_when_the_storage_fails(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(error(503, "SlowDown"))

    with pytest.raises(Unavailable):
        list(fake_driver.delete(["a"]))


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


def test_uploads_are_listed_page_by_page(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(uploads_page("root/a", after="root/a", truncated=True), uploads_page("root/b", "elsewhere/c"))

    assert list(fake_driver.list_multipart("")) == [
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
def test_a_list_of_uploads_never_just_ends(fake: FakeS3, fake_driver: S3Driver, pages: list[Reply]) -> None:
    fake.reply(*pages)

    with pytest.raises(DriverError, match=r"uploads|no IsTruncated"):
        list(fake_driver.list_multipart(""))


FINISHED = Reply(
    body=f"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><Size>{MIB}</Size>"
    f"<ETag>{hashlib.md5(b'x' * MIB).hexdigest()}</ETag></Part></ListPartsResult>".encode()
)


def test_an_upload_that_may_not_be_gone_on_with_is_begun_anew(fake: FakeS3, fake_driver: S3Driver) -> None:
    refused = error(400, "InvalidRequest")
    for replies in ([refused, NO_CONTENT], [PART, refused, NO_CONTENT]):  # its second part, or its completion
        fake.requests.clear()
        fake_driver.resume_multipart(MultipartUpload("a", "begun", 0.0))
        fake.reply(FINISHED, *replies, CREATED, PART, PART, COMPLETED, head(MIB + 1))

        write_parts(fake_driver)

        assert fake.requests[0].query["uploadId"] == "begun"
        assert [one.query["uploadId"] for one in fake.requests if one.method == "DELETE"] == ["begun"]
        assert [one.query.get("uploadId") for one in fake.requests[-5:-1]] == [None, *["upload-1"] * 3]


def test_parts_that_may_not_be_seen_are_sent_anew(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake_driver.resume_multipart(MultipartUpload("a", "begun", 0.0))
    fake.reply(error(403, "AccessDenied"), CREATED, PART, PART, COMPLETED, head(2 * MIB))

    write_parts(fake_driver)

    assert [request.query.get("uploadId") for request in fake.requests if request.method == "PUT"] == ["upload-1"] * 2


def test_abort_goes_on_when_parts_may_not_be_listed(fake: FakeS3, fake_driver: S3Driver) -> None:
    upload = MultipartUpload("a", "id", 0.0)
    fake.reply(error(403, "AccessDenied"), NO_CONTENT)
    assert fake_driver.abort_multipart(upload) is True

    fake.reply(Reply(body=b"<ListPartsResult/>"), error(404, "NoSuchUpload"))
    assert fake_driver.abort_multipart(upload) is False

    fake.reply(Reply(body=b"<ListPartsResult/>"), error(403, "AccessDenied"))
    with pytest.raises(PermissionDenied):
        fake_driver.abort_multipart(upload)


@pytest.mark.parametrize("code", ["AccessDenied", "MethodNotAllowed", "NotImplemented"])
def test_an_unknown_state_of_versions_counts_as_not_versioned(fake: FakeS3, fake_driver: S3Driver, code: str) -> None:
    fake.reply(error({"AccessDenied": 403, "MethodNotAllowed": 405, "NotImplemented": 501}[code], code))
    assert fake_driver.is_versioned() is False

    fake.reply(error(500, "InternalError"))
    with pytest.raises(Unavailable):
        fake_driver.is_versioned()


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
    fake: FakeS3, fake_driver: S3Driver, headers: dict[str, str], expected: bool
) -> None:
    fake.reply(head(1, **headers))

    found = fake_driver.stored_checksum("a")

    assert found == (f"sha256:{hashlib.sha256(b'x').hexdigest()}" if expected else None)
    assert fake.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_mismatch_is_found_before_anything_is_sent(fake: FakeS3, fake_driver: S3Driver) -> None:
    with pytest.raises(DigestMismatch):
        fake_driver.write("a", b"hello", 5, f"sha256:{'0' * 64}")

    assert fake.requests == []

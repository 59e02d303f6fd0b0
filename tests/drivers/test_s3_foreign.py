"""Copies that a server makes from another bucket by itself, on a fake server and on moto."""

from __future__ import annotations

import base64
import hashlib
import random
from contextlib import nullcontext
from dataclasses import replace

import pytest

from fixtures_s3 import OpenS3, S3Store
from regstore_drivers.base import CopyFeatures, Entry, MultipartUpload
from regstore_drivers.errors import CopyRefused, DriverError, NotFound, Unavailable
from regstore_drivers.s3 import S3Driver, S3Options
from regstore_drivers.s3.foreign import ForeignCopy, is_same_server
from support.fake_s3 import ETAG, FakeS3, Reply, error
from support.moto_s3 import MotoServer

pytestmark = pytest.mark.usefixtures("one_try")

MIB = 1024**2
GIB = 1024**3
SHA256 = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
DIGEST = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
SOURCE = Entry("blob", 5, 0.0, etag=ETAG.strip('"'))
CREATED = Reply(body=b"<InitiateMultipartUploadResult><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>")
PART_COPIED = Reply(body=b"<CopyPartResult><ETag>part</ETag></CopyPartResult>")
COMPLETED = Reply(body=b"<CompleteMultipartUploadResult><ETag>whole-2</ETag></CompleteMultipartUploadResult>")
NO_CONTENT = Reply(204)


class Killed(Exception):  # noqa: N818
    """Stands for the death of the process."""


def copied(more: str = "", etag: str = "copy") -> Reply:
    return Reply(body=f"<CopyObjectResult><ETag>{etag}</ETag>{more}</CopyObjectResult>".encode())


def foreign(driver: S3Driver, source: Entry = SOURCE) -> ForeignCopy:
    """Make a copy whose limits a test may choose."""
    origin = S3Options(bucket="other", prefix="old")
    begun = driver._begun.get("new")
    return ForeignCopy(driver._connection, origin, source, "new", "root/new", driver._on_begin, begun)


def elsewhere(fake: FakeS3) -> str:
    """The location of the other store."""
    return fake.url("other", "old place")


def test_a_copy_names_the_other_bucket_and_asks_for_its_checksum(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(copied(f"<ChecksumSHA256>{SHA256}</ChecksumSHA256>"))

    assert fake_driver.copy_from(SOURCE, elsewhere(fake), "a/new") == DIGEST

    (request,) = fake.requests
    assert (request.method, request.path) == ("PUT", "/bucket/root/a/new")
    assert request.headers["x-amz-copy-source"] == "other/old%20place/blob"
    assert request.headers["x-amz-copy-source-if-match"] == ETAG
    assert request.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert request.headers["x-amz-metadata-directive"] == request.headers["x-amz-tagging-directive"] == "REPLACE"
    assert "if-none-match" not in request.headers


def test_a_copy_leaves_what_is_there_where_the_server_knows_conditions(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake_driver._connection.has_conditions = True
    fake.reply(error(412, "PreconditionFailed"))

    with pytest.raises(DriverError, match="changed at the source meanwhile, or there is such an object") as caught:
        fake_driver.copy_from(SOURCE, elsewhere(fake), "new")

    assert not caught.value.retryable
    assert fake.requests[0].headers["if-none-match"] == "*"


@pytest.mark.parametrize(
    ("more", "etag"),
    [
        ("", "copy"),
        (f"<ChecksumSHA256>{SHA256}</ChecksumSHA256>", "copy-2"),
        (f"<ChecksumSHA256>{SHA256}-2</ChecksumSHA256>", "copy"),
        (f"<ChecksumSHA256>{SHA256}</ChecksumSHA256><ChecksumType>COMPOSITE</ChecksumType>", "copy"),
        ("<ChecksumCRC32>AAAAAA==</ChecksumCRC32>", "copy"),
    ],
)
def test_a_checksum_of_parts_proves_nothing(fake: FakeS3, fake_driver: S3Driver, more: str, etag: str) -> None:
    fake.reply(copied(more, etag))

    assert fake_driver.copy_from(SOURCE, elsewhere(fake), "new") is None


@pytest.mark.parametrize("refusal", [error(501, "NotImplemented"), error(400, "InvalidArgument")])
def test_a_server_that_knows_no_checksums_copies_without(fake: FakeS3, fake_driver: S3Driver, refusal: Reply) -> None:
    fake.reply(refusal, copied())

    assert fake_driver.copy_from(SOURCE, elsewhere(fake), "new") is None

    assert "x-amz-checksum-algorithm" not in fake.requests[1].headers
    assert fake.requests[1].headers["x-amz-copy-source-if-match"] == ETAG


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([error(403, "AccessDenied")], CopyRefused),
        ([error(405, "MethodNotAllowed")], CopyRefused),
        ([error(404, "NoSuchBucket")], CopyRefused),
        ([error(501, "NotImplemented")] * 2, CopyRefused),
        ([error(403, "InvalidObjectState")], DriverError),
        ([error(404, "NoSuchKey")], NotFound),
        ([error(503, "SlowDown")], Unavailable),
        ([Reply(body=error(500, "InternalError").body)], Unavailable),
        ([Reply(body=b"<html/>")], Unavailable),
        ([Reply(drop=True)], Unavailable),
    ],
)
def test_a_refusal_is_told_from_a_failure(
    fake: FakeS3, fake_driver: S3Driver, answers: list[Reply], expected: type[DriverError]
) -> None:
    fake.reply(*answers)

    with pytest.raises(DriverError) as caught:
        fake_driver.copy_from(SOURCE, elsewhere(fake), "new")

    assert type(caught.value) is expected
    assert (caught.value.operation, caught.value.key, caught.value.location) == (
        "copy_from", "new", fake_driver.location,
    )  # fmt: skip


def test_a_large_object_is_copied_in_ranges(fake: FakeS3, fake_driver: S3Driver) -> None:
    begun: list[MultipartUpload] = []
    fake_driver.watch_multipart(begun.append)
    fake_driver._connection.has_conditions = True
    fake.reply(CREATED, PART_COPIED, PART_COPIED, PART_COPIED, COMPLETED)

    assert foreign(fake_driver, replace(SOURCE, size=2 * MIB + 1)).run(single_max=10, part_min=MIB) is None

    created, *parts, completed = fake.requests
    assert "x-amz-copy-source" not in created.headers
    assert [part.headers["x-amz-copy-source-range"] for part in parts] == [
        f"bytes=0-{MIB - 1}",
        f"bytes={MIB}-{2 * MIB - 1}",
        f"bytes={2 * MIB}-{2 * MIB}",
    ]
    assert {part.headers["x-amz-copy-source-if-match"] for part in parts} == {ETAG}
    assert completed.headers["if-none-match"] == "*"
    assert [(upload.key, upload.upload_id) for upload in begun] == [("new", "upload-1")]


@pytest.mark.parametrize(("size", "requests"), [(5 * GIB, 1), (5 * GIB + 1, 21 + 2), (5 * 1024 * GIB, 9987 + 2)])
def test_five_gibibytes_are_copied_at_once_and_more_in_at_most_ten_thousand_parts(
    fake_driver: S3Driver, size: int, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []

    class Client:
        def __getattr__(self, name: str) -> object:
            def call(**arguments: object) -> dict[str, object]:
                calls.append(arguments)
                part = {"ETag": "part"}
                return {"UploadId": "1", "CopyObjectResult": part, "CopyPartResult": part}

            return call

    monkeypatch.setattr(fake_driver._connection, "_copying_client", Client())

    foreign(fake_driver, replace(SOURCE, size=size)).run()

    assert len(calls) == requests
    ranges = [str(call["CopySourceRange"]).removeprefix("bytes=") for call in calls if "CopySourceRange" in call]
    end = -1
    for text in ranges:
        first, _, last = text.partition("-")
        assert int(first) == end + 1
        end = int(last)
    assert not ranges or end == size - 1


def test_a_copy_in_parts_that_fails_is_aborted(fake: FakeS3, fake_driver: S3Driver) -> None:
    fake.reply(CREATED, PART_COPIED, error(412, "PreconditionFailed"), NO_CONTENT)
    with pytest.raises(DriverError, match="changed at the source"):
        foreign(fake_driver).run(single_max=1, part_min=1)
    assert fake.requests[-1].query["uploadId"] == "upload-1"

    fake_driver._connection.has_conditions = True
    fake.reply(CREATED, PART_COPIED, error(501, "NotImplemented"), COMPLETED)
    foreign(fake_driver).run(single_max=1)
    assert "if-none-match" not in fake.requests[-1].headers


@pytest.mark.parametrize("s3_store", ["moto", pytest.param("seaweed", marks=pytest.mark.s3)], indirect=True)
def test_a_copy_in_parts_is_gone_on_with(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = s3_store.driver("old"), s3_store.driver("new")
    data = random.Random(1).randbytes(17 * MIB)
    source = old.write("large", data, len(data))
    monkeypatch.setattr("regstore_drivers.s3.foreign.ForeignCopy.run.__defaults__", (5 * MIB, 5 * MIB))
    asked: list[int] = []
    dies = [True]

    def note(params: dict[str, int], **_: object) -> None:
        if dies[0] and params["PartNumber"] == 3:
            raise Killed
        asked.append(params["PartNumber"])

    new._connection.copying_client.meta.events.register("before-parameter-build.s3.UploadPartCopy", note)
    with monkeypatch.context() as patch:
        patch.setattr("regstore_drivers.s3.foreign.aborting", lambda *_: nullcontext())
        with pytest.raises(Killed):
            new.copy_from(source, old.location, "large")
    (upload,) = new.list_multipart("large")
    dies[0] = False

    new.resume_multipart(upload)
    new.copy_from(source, old.location, "large")

    assert asked == [1, 2, 3, 4]
    assert new.read("large", len(data)) == data
    assert list(new.list_multipart("")) == []


@pytest.mark.parametrize(
    ("part", "requests"),
    [
        (f"<Size>{MIB}</Size>", ["GET", "PUT", "POST"]),
        ("<Size>2</Size>", ["GET", "PUT", "PUT", "POST"]),
        (f"<Size>{MIB}</Size><ChecksumSHA256>{SHA256}</ChecksumSHA256>", ["GET", "POST", "PUT", "PUT", "POST"]),
        (None, ["GET", "POST", "PUT", "PUT", "POST"]),
    ],
    ids=["the same size", "another size", "to be sent", "none"],
)
def test_only_parts_of_a_copy_with_the_same_size_are_used(
    fake: FakeS3, fake_driver: S3Driver, part: str | None, requests: list[str]
) -> None:
    is_new = requests.count("POST") == 2
    parts = f"<Part><PartNumber>1</PartNumber><ETag>there</ETag>{part}</Part>" if part else ""
    found = Reply(body=f"<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>".encode())
    answers = {"GET": [found], "PUT": [PART_COPIED] * 2, "POST": [CREATED, COMPLETED] if is_new else [COMPLETED]}
    fake.reply(*(answers[method].pop(0) for method in requests))
    fake_driver.resume_multipart(MultipartUpload("new", "upload-0", 0.0))

    foreign(fake_driver, replace(SOURCE, size=2 * MIB)).run(single_max=1, part_min=MIB)

    assert [request.method for request in fake.requests] == requests
    assert fake.requests[-1].query["uploadId"] == ("upload-1" if is_new else "upload-0")


def test_what_a_server_can_is_probed_with_copies_that_are_deleted(fake: FakeS3, fake_driver: S3Driver) -> None:
    checksum = copied(f"<ChecksumSHA256>{SHA256}</ChecksumSHA256>")
    fake.reply(checksum, NO_CONTENT, CREATED, PART_COPIED, COMPLETED, NO_CONTENT)
    assert fake_driver.probe_copies(SOURCE, elsewhere(fake), "home/") == CopyFeatures(True, True, True)
    assert {request.path.rpartition("-")[0] for request in fake.requests} == {"/bucket/root/home/regstore-probe"}

    fake.reply(error(403, "AccessDenied"), NO_CONTENT, error(403, "AccessDenied"), NO_CONTENT)
    found = fake_driver.probe_copies(SOURCE, elsewhere(fake), "home/")
    assert found == CopyFeatures(False, False, False, "as told (AccessDenied, HTTP 403)")

    fake.reply(error(503, "SlowDown"), NO_CONTENT)
    with pytest.raises(Unavailable):
        fake_driver.probe_copies(SOURCE, elsewhere(fake), "home/")
    assert fake.requests[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, True),
        ({"endpoint": "http://a:1"}, {"endpoint": "http://a:1/"}, True),
        ({"endpoint": "http://a:1"}, {"endpoint": "http://a:2"}, False),
        ({"endpoint": "http://a:1"}, {}, False),
        ({"region": "eu-west-1"}, {"region": "eu-west-1"}, True),
        ({"region": "eu-west-1"}, {}, True),
        ({"region": "eu-west-1"}, {"region": "eu-west-2"}, False),
    ],
)
def test_what_is_the_same_server(one: dict[str, str], other: dict[str, str], expected: bool) -> None:
    assert is_same_server(S3Options(bucket="a", **one), S3Options(bucket="b", **other)) is expected  # type: ignore[arg-type]


def test_a_copy_gets_the_attributes_of_the_target(moto: MotoServer, moto_bucket: str, open_s3: OpenS3) -> None:
    source = open_s3(moto, moto_bucket, "old")
    moto.client().put_object(
        Bucket=moto_bucket, Key="old/a", Body=b"hello", Metadata={"owner": "me"}, Tagging="team=red"
    )
    target = open_s3(
        moto, moto_bucket, "new", storage_class="STANDARD_IA", encrypt=True, key_id="alias/k", acl="public-read"
    )

    assert target.copy_from(source.stat("a"), source.location, "a") == DIGEST
    origin = S3Options(bucket=moto_bucket, prefix="old")
    ForeignCopy(target._connection, origin, source.stat("a"), "parts", "new/parts").run(single_max=1)

    client = moto.client()
    for key in ("new/a", "new/parts"):
        head = client.head_object(Bucket=moto_bucket, Key=key)
        assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms"), key
        assert (head["SSEKMSKeyId"], head["Metadata"]) == ("alias/k", {}), key
        assert client.get_object_tagging(Bucket=moto_bucket, Key=key)["TagSet"] == [], key
        grants = client.get_object_acl(Bucket=moto_bucket, Key=key)["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("AllUsers") for grant in grants), key
    assert target.read("parts") == b"hello"

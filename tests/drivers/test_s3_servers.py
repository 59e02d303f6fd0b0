"""What only one of the servers can show."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fixtures_s3 import OpenS3
from regstore_drivers.base import Deleted, Entry
from regstore_drivers.errors import PermissionDenied
from regstore_drivers.s3 import S3Driver, from_url
from regstore_drivers.s3.copying import Copy
from support.moto_s3 import MotoServer
from support.seaweed import SeaweedServer

MIB = 1024 * 1024


@pytest.mark.s3
@pytest.mark.parametrize("wrong", [{"secret_key": "not-the-secret"}, {"access_key": "NOBODY"}])
def test_wrong_credentials_are_denied(
    seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3, wrong: dict[str, str]
) -> None:
    driver = open_s3(seaweed, s3_bucket, **wrong)
    operations: list[Callable[[], object]] = [
        lambda: driver.stat("a"),
        lambda: driver.read("a"),
        lambda: driver.write("a", b"", 0),
        lambda: list(driver.list("")),
        lambda: list(driver.delete(["a"])),
        lambda: list(driver.list_multipart("")),
    ]
    for operation in operations:
        with pytest.raises(PermissionDenied, match="check the credentials") as caught:
            operation()
        assert seaweed.secret_key not in f"{caught.value} {caught.value!r}"
        assert "not-the-secret" not in f"{caught.value} {caught.value!r}"


@pytest.mark.s3
def test_more_than_a_thousand_keys(seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3) -> None:
    client = seaweed.client()
    keys = sorted(f"many/{number:04}/link" for number in range(1003))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=s3_bucket, Key=key, Body=b""), keys))
    driver = open_s3(seaweed, s3_bucket)

    assert [entry.key for entry in driver.list("many/")] == keys
    assert list(driver.delete(keys)) == [Deleted(key, "gone") for key in keys]
    assert list(driver.list("")) == []


@pytest.mark.s3
def test_url_of_the_server_opens_a_driver(seaweed: SeaweedServer, s3_bucket: str) -> None:
    driver = from_url(
        seaweed.url(s3_bucket, "some/prefix"), access_key=seaweed.access_key, secret_key=seaweed.secret_key
    )
    driver.write("a", b"hello", 5)

    assert seaweed.client().head_object(Bucket=s3_bucket, Key="some/prefix/a")["ContentLength"] == 5
    driver.close()


@pytest.mark.s3
def test_seaweedfs_itself_lists_in_another_order(seaweed: SeaweedServer, s3_bucket: str) -> None:
    # If this fails, SeaweedFS has changed, and the test of the order proves less than it did.
    client = seaweed.client()
    for key in ("v1/a", "v1-alpine/a"):
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"")

    assert [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]] == ["v1/a", "v1-alpine/a"]


def open_moto(open_s3: OpenS3, moto: MotoServer, bucket: str, **options: Any) -> S3Driver:
    return open_s3(moto, bucket, "root", driver={"multipart_threshold": 5 * MIB, "part_min": 5 * MIB}, **options)


def test_writes_and_copies_get_the_attributes_of_the_options(
    moto: MotoServer, moto_bucket: str, open_s3: OpenS3
) -> None:
    driver = open_moto(
        open_s3, moto, moto_bucket, storage_class="STANDARD_IA", encrypt=True, key_id="alias/k", acl="public-read"
    )
    data = b"x" * (6 * MIB)
    driver.write("small", b"hello", 5)
    driver.write("big", lambda: io.BytesIO(data), len(data))
    driver.copy("small", "copy")

    client = moto.client()
    for key in ("root/small", "root/big", "root/copy"):
        head = client.head_object(Bucket=moto_bucket, Key=key)
        assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms"), key
        assert head["SSEKMSKeyId"] == "alias/k"
        grants = client.get_object_acl(Bucket=moto_bucket, Key=key)["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("AllUsers") for grant in grants), key


@pytest.mark.parametrize("single_max", [10 * MIB, 0])
def test_copies_keep_what_belongs_to_the_object(
    moto: MotoServer, moto_bucket: str, open_s3: OpenS3, single_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Copy.run
    monkeypatch.setattr(Copy, "run", lambda self: run(self, single_max=single_max, part_min=5 * MIB))
    driver = open_moto(open_s3, moto, moto_bucket, storage_class="STANDARD")
    client = moto.client()
    data = b"y" * (6 * MIB)
    client.put_object(
        Bucket=moto_bucket,
        Key="root/a b",
        Body=data,
        StorageClass="STANDARD_IA",
        ContentType="application/vnd.oci.image.manifest.v1+json",
        CacheControl="no-cache",
        ContentDisposition="attachment",
        Metadata={"owner": "1000"},
        Tagging="team=red%20one&x=y",
    )

    entry = driver.copy("a b", "c")

    head = client.head_object(Bucket=moto_bucket, Key="root/c")
    assert head["StorageClass"] == "STANDARD_IA"
    assert head["ContentType"] == "application/vnd.oci.image.manifest.v1+json"
    assert (head["CacheControl"], head["ContentDisposition"]) == ("no-cache", "attachment")
    assert head["Metadata"] == {"owner": "1000"}
    tags = client.get_object_tagging(Bucket=moto_bucket, Key="root/c")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "red one", "x": "y"}
    assert (entry.size, driver.open("c").read()) == (len(data), data)
    assert list(driver.list_multipart("")) == []


def test_versioned_buckets(moto: MotoServer, moto_bucket: str, open_s3: OpenS3) -> None:
    driver = open_moto(open_s3, moto, moto_bucket)
    client = moto.client()
    client.put_bucket_versioning(Bucket=moto_bucket, VersioningConfiguration={"Status": "Enabled"})

    first = driver.write("a", b"one", 3)
    second = driver.write("a", b"two", 3)

    assert driver.is_versioned()
    assert first.version
    assert second.version not in (None, first.version)
    assert [found.outcome for found in driver.delete(["a"])] == ["gone"]
    assert list(driver.list("")) == []
    client.put_bucket_versioning(Bucket=moto_bucket, VersioningConfiguration={"Status": "Suspended"})
    assert not driver.is_versioned()
    client.put_object(Bucket=moto_bucket, Key="root/b", Body=b"")
    assert isinstance(driver.stat("b"), Entry)
    assert driver.stat("b").version is None

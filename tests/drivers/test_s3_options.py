"""S3 locations: what they mean, what is refused, and what they never show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regstore_drivers.s3 import S3Driver, S3Options, from_url
from regstore_drivers.s3.options import parse_url

FULL = (
    "s3://images/registry/prod?endpoint=http://127.0.0.1:9000&region=eu-west-1&path_style=true"
    "&storage_class=STANDARD_IA&encrypt=true&key_id=arn:aws:kms:eu-west-1:1:key/2&acl=private&skip_verify=true"
)


def test_all_parameters_are_read() -> None:
    assert parse_url(FULL, access_key="id", secret_key="secret", session_token="token", jobs=3) == S3Options(
        bucket="images",
        prefix="registry/prod",
        endpoint="http://127.0.0.1:9000",
        region="eu-west-1",
        path_style=True,
        verify=False,
        storage_class="STANDARD_IA",
        encrypt=True,
        key_id="arn:aws:kms:eu-west-1:1:key/2",
        acl="private",
        jobs=3,
        access_key="id",
        secret_key="secret",
        session_token="token",
    )


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/a/b%20c",
        "s3://bucket/%23%3F%25?region=us-east-1",
        "s3://bucket?endpoint=https://s3.example.org/base&path_style=false",
        "s3://bucket?secure=false",
        "s3://bucket?endpoint=http://%5B::1%5D:9000",
        FULL,
    ],
)
def test_location_opens_again(url: str) -> None:
    options = parse_url(url)

    assert parse_url(options.location) == options
    assert parse_url(options.location).location == options.location


def test_location_is_what_a_person_would_write() -> None:
    assert from_url(FULL.replace("&skip_verify=true", "")).location == FULL.replace("&skip_verify=true", "")
    assert parse_url("s3://bucket/").location == "s3://bucket"


@pytest.mark.parametrize(
    ("prefix", "expected"), [("", ""), ("/", ""), ("/a/b/", "a/b"), ("a", "a"), ("a%2Fb", "a/b"), ("a b", "a b")]
)
def test_prefix_loses_slashes_at_its_ends(prefix: str, expected: str) -> None:
    assert parse_url(f"s3://bucket/{prefix}").prefix == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://bucket", "starts with s3://"),
        ("s3:///prefix", "not the name of a bucket"),
        ("s3://host:9000/bucket", r"write s3://BUCKET/PREFIX\?endpoint="),
        ("s3://bucket/a#b", "no #fragment"),
        ("s3://bucket/a//b", "components"),
        ("s3://bucket/a/../b", "components"),
        ("s3://bucket?colour=red", "unknown parameter 'colour'.*acl, encrypt, endpoint, key_id, path_style, region"),
        ("s3://bucket?region=a&region=b", "twice"),
        ("s3://bucket?region=", "has no value"),
        ("s3://bucket?path_style=maybe", "true or false"),
        ("s3://bucket?key_id=1", "without encrypt"),
        ("s3://bucket?endpoint=ftp://host", "not the URL of an S3 endpoint"),
        ("s3://bucket?endpoint=http://", "not the URL of an S3 endpoint"),
    ],
)
def test_wrong_locations_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://id:hunter2@bucket",
        "s3://bucket?endpoint=http://id:hunter2@host",
        "s3://bucket?secret_key=hunter2",
        "s3://bucket?SecretKey=hunter2",
        "s3://bucket?session_token=hunter2",
    ],
)
def test_credentials_in_a_location_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"does not belong|do not belong") as caught:
        parse_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("endpoint=minio:9000", "https://minio:9000"),
        ("endpoint=minio:9000&secure=false", "http://minio:9000"),
        ("endpoint=http://minio:9000/&secure=true", "http://minio:9000"),
    ],
)
def test_endpoint_without_scheme_follows_secure(query: str, expected: str) -> None:
    assert parse_url(f"s3://bucket?{query}").endpoint == expected


def test_path_style_is_for_endpoints() -> None:
    assert not S3Options(bucket="b").has_path_style
    assert S3Options(bucket="b", endpoint="http://host").has_path_style
    assert not S3Options(bucket="b", endpoint="http://host", path_style=False).has_path_style


def test_half_a_credential_is_refused() -> None:
    with pytest.raises(ValueError, match="together"):
        S3Options(bucket="b", access_key="id")
    with pytest.raises(ValueError, match="jobs"):
        S3Options(bucket="b", jobs=0)


def test_credentials_show_nowhere() -> None:
    options = S3Options(bucket="b", access_key="AKIDEXAMPLE", secret_key="hunter2", session_token="hunter3")
    driver = S3Driver(options)

    shown = f"{options!r} {options} {driver!r} {driver} {driver.location} {options.location}"
    assert "hunter" not in shown
    assert "AKIDEXAMPLE" not in shown


def test_client_gets_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    driver = from_url("s3://b?region=eu-central-1&secure=false", access_key="a", secret_key="b", jobs=7)
    client = driver._connection.client

    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == "http://s3.eu-central-1.amazonaws.com"
    assert client.meta.config.__dict__["_user_provided_options"]["max_pool_connections"] == 7
    driver.close()


def test_another_number_of_connections_and_another_threshold() -> None:
    driver = from_url("s3://b/prefix?region=eu-central-1", access_key="a", secret_key="b", jobs=7)

    wider = driver.with_transfer_options(jobs=40, multipart_threshold=5 << 20)

    assert wider.options == replace(driver.options, jobs=40)
    assert wider.options.jobs == 40
    assert wider._threshold == 5 << 20
    assert wider.with_transfer_options(jobs=3)._threshold == 5 << 20

"""What boto3 raises without an answer of the server, and the times that it reads."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
from botocore.exceptions import (  # noqa: TID251
    ChecksumError,
    ConnectTimeoutError,
    EndpointConnectionError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    UnknownServiceError,
)

from regstore_drivers.errors import DriverError, PermissionDenied, Unavailable, Unreachable
from regstore_drivers.s3 import S3Driver, S3Options
from regstore_drivers.s3.connection import _parse_timestamp
from regstore_drivers.s3.errors import driver_error

URL = "http://host:9000/bucket"


@pytest.mark.parametrize(
    ("error", "expected", "reason"),
    [
        (NoCredentialsError(), PermissionDenied, "no credentials found"),
        (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), PermissionDenied, "Partial"),
        (EndpointConnectionError(endpoint_url=URL, error="x: [Errno 111] refused"), Unreachable, "refused"),
        (ConnectTimeoutError(endpoint_url=URL), Unreachable, "timeout"),
        (ProxyConnectionError(proxy_url="http://proxy"), Unreachable, "proxy"),
        (SSLError(endpoint_url=URL, error=ssl.SSLError("self-signed")), Unreachable, "certificate and AWS_CA_BUNDLE"),
        (ReadTimeoutError(endpoint_url=URL), Unavailable, "connection failed"),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), Unavailable, "connection failed"),
        (ChecksumError(checksum_type="crc32", expected_checksum="1", actual_checksum="2"), Unavailable, "damaged"),
        (FlexibleChecksumError(error_msg="differs"), Unavailable, "damaged"),
        (ParamValidationError(report="too long"), DriverError, "not possible"),
        (UnknownServiceError(service_name="s4", known_service_names="s3"), DriverError, "s4"),
    ],
)
def test_failures_without_an_answer(error: Exception, expected: type[DriverError], reason: str) -> None:
    found = driver_error(error, operation="read", key="a/link", location="s3://bucket")

    assert type(found) is expected
    assert reason.lower() in found.reason.lower()
    assert (found.operation, found.key, found.location) == ("read", "a/link", "s3://bucket")


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-06T07:08:09.000Z",
        "2024-05-06T07:08:09Z",
        "2024-05-06T07:08:09+00:00",
        "2024-05-06T07:08:09",
        "Mon, 06 May 2024 07:08:09 GMT",
        "1714979289",
        1714979289.0,
    ],
)
def test_times_are_read_in_every_form(value: object) -> None:
    assert _parse_timestamp(value) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_driver_that_was_never_used_can_be_closed() -> None:
    S3Driver(S3Options(bucket="b")).close()

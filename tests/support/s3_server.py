"""An S3 server that tests talk to, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import boto3  # noqa: TID251
from botocore.config import Config  # noqa: TID251

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running server and the one identity that may do everything in it."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    def client(self) -> S3Client:
        """Return a boto3 client that is not the driver's; all callers share it."""
        return _client(self.endpoint, self.access_key, self.secret_key)

    def create_bucket(self, name: str) -> None:
        """Make a bucket; it is there for every later request."""
        self.client().create_bucket(Bucket=name)

    def delete_bucket(self, name: str) -> None:
        """Drop a bucket with everything in it."""
        self.client().delete_bucket(Bucket=name)

    def url(self, bucket: str, prefix: str = "") -> str:
        """Return a location for `regstore_drivers.s3.from_url`, without credentials."""
        query = urlencode({"endpoint": self.endpoint, "region": REGION, "path_style": "true"}, safe=":/")
        return f"s3://{bucket}/{prefix}?{query}" if prefix else f"s3://{bucket}?{query}"


@cache
def _client(endpoint: str, access_key: str, secret_key: str) -> S3Client:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 2},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

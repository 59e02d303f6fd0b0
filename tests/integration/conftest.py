"""A registry over a bucket, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regstore_drivers.s3 import S3Driver
from support.registry import Registry
from support.s3_server import REGION
from support.seaweed import SeaweedServer

MakeRegistry = Callable[..., Registry]
OpenS3 = Callable[..., S3Driver]


@pytest.fixture
def driver(seaweed: SeaweedServer, s3_bucket: str, open_s3: OpenS3) -> S3Driver:
    """A driver on the prefix in which the registry writes."""
    return open_s3(seaweed, s3_bucket, "company/registry", path_style=True)


@pytest.fixture
def start(seaweed: SeaweedServer, s3_bucket: str, make_registry: MakeRegistry) -> Callable[..., Registry]:
    """A function that starts a registry over the bucket."""

    def start_registry(**options: Any) -> Registry:
        section = {
            "accesskey": seaweed.access_key,
            "secretkey": seaweed.secret_key,
            "region": REGION,
            "regionendpoint": seaweed.endpoint,
            "bucket": s3_bucket,
            "rootdirectory": "/company/registry",
            "secure": False,
            "v4auth": True,
        }
        return make_registry(storage={"s3": section}, **options)

    return start_registry

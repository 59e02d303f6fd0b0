"""Fixtures of S3 servers; tests that use SeaweedFS carry the mark `s3`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from regstore_drivers.s3 import S3Driver, S3Options
from support.moto_s3 import MotoServer, running_moto
from support.s3_server import REGION, S3Server
from support.seaweed import SeaweedServer, require_weed, running_seaweed

OpenS3 = Callable[..., S3Driver]


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """A SeaweedFS server, one for each test process."""
    with running_seaweed(require_weed()) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """A moto server, one for each test process."""
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_shared_bucket(seaweed: SeaweedServer) -> str:
    """A bucket of SeaweedFS for tests that keep to a prefix of their own: making a bucket takes longer than a test."""
    return _new_bucket(seaweed)


@pytest.fixture
def s3_bucket(seaweed: SeaweedServer) -> Iterator[str]:
    """The name of a fresh, empty bucket of SeaweedFS."""
    name = _new_bucket(seaweed)
    yield name
    seaweed.delete_bucket(name)


@pytest.fixture
def moto_bucket(moto: MotoServer) -> str:
    """The name of a fresh, empty bucket of moto."""
    return _new_bucket(moto)


@pytest.fixture
def open_s3() -> Iterator[OpenS3]:
    """A function that opens a driver on a bucket; keywords are options, and `driver` holds those of S3Driver."""
    with ExitStack() as opened:

        def open_driver(
            server: S3Server, bucket: str, prefix: str = "", *, driver: dict[str, Any] | None = None, **options: Any
        ) -> S3Driver:
            given = {
                "endpoint": server.endpoint,
                "region": REGION,
                "access_key": server.access_key,
                "secret_key": server.secret_key,
            }
            made = S3Driver(S3Options(bucket=bucket, prefix=prefix, **{**given, **options}), **(driver or {}))
            return opened.enter_context(closing(made))

        yield open_driver


def _new_bucket(server: S3Server) -> str:
    name = f"test-{uuid.uuid4().hex[:16]}"
    server.create_bucket(name)
    return name

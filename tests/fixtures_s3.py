"""Fixtures of S3 servers; tests that use SeaweedFS carry the mark `s3`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest

from regstore_drivers.s3 import S3Driver, S3Options
from support.fake_s3 import FakeS3, running_fake_s3
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


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 try each request once, so that a test sees what one answer does."""
    monkeypatch.setattr("regstore_drivers.s3.connection.ATTEMPTS", 1)


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    """An S3 server that answers what the test says."""
    with running_fake_s3() as server:
        yield server


@pytest.fixture
def fake_driver(fake: FakeS3, open_s3: OpenS3) -> S3Driver:
    """A driver on the fake server, that has seen its bucket; above 8 bytes it writes in parts of 1 MiB."""
    sizes = {"multipart_threshold": 8, "part_min": 1024 * 1024}
    opened = open_s3(fake, "bucket", "root", driver={**sizes, "uses_fast": False})
    opened._connection.bucket_seen = True
    return opened


@dataclass(frozen=True)
class S3Store:
    """An empty part of a bucket of a server, and the way to drivers and a client on it."""

    server: S3Server
    bucket: str
    base: str
    open: OpenS3

    def driver(self, prefix: str = "root", **more: Any) -> S3Driver:
        """Open a driver below the part."""
        return self.open(self.server, self.bucket, f"{self.base}/{prefix}", **more)

    def put(self, *keys: str) -> None:
        """Store empty objects without the driver."""
        client = self.server.client()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket=self.bucket, Key=f"{self.base}/{key}", Body=b""), keys))

    def begin_upload(self, key: str) -> str:
        """Leave an incomplete upload behind."""
        return self.server.client().create_multipart_upload(Bucket=self.bucket, Key=f"{self.base}/{key}")["UploadId"]


@pytest.fixture(params=[pytest.param("seaweed", marks=pytest.mark.s3), "moto"])
def s3_store(request: pytest.FixtureRequest, open_s3: OpenS3) -> S3Store:
    """An empty part of a bucket of each of the servers."""
    bucket = {"seaweed": "seaweed_shared_bucket", "moto": "moto_bucket"}[request.param]
    server, bucket = request.getfixturevalue(request.param), request.getfixturevalue(bucket)
    return S3Store(server, bucket, uuid.uuid4().hex, open_s3)


@pytest.fixture
def s3_driver(s3_store: S3Store) -> S3Driver:
    """A driver on an empty part of a bucket of each of the servers."""
    return s3_store.driver()


def _new_bucket(server: S3Server) -> str:
    name = f"test-{uuid.uuid4().hex[:16]}"
    server.create_bucket(name)
    return name

"""The suite for all drivers, on the S3 driver over two servers."""

from __future__ import annotations

import uuid

import pytest

from fixtures_s3 import OpenS3
from regstore_drivers.s3 import S3Driver
from regstore_drivers.testing import DriverSuite
from support.moto_s3 import MotoServer
from support.seaweed import SeaweedServer

WITH_BACKSLASHES = ("test_unusual_keys_are_copied_and_moved", "test_unusual_keys_are_deleted")


class S3Suite(DriverSuite):
    """What S3 leaves open: it does not tell absent keys, and a move is a copy and a deletion."""

    tells_absent = False
    copies_keep_mtime = False
    has_atomic_move = False
    many_keys = 60
    uses_fast = True

    @pytest.fixture(autouse=True)
    def _small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make 60 keys more than a page: the test with a thousand of them is in test_s3_servers."""
        monkeypatch.setattr("regstore_drivers.s3.listing.PAGE_KEYS", 25)
        monkeypatch.setattr("regstore_drivers.s3.driver.DELETE_BATCH_KEYS", 25)


@pytest.mark.s3
class TestSeaweedfs(S3Suite):
    @pytest.fixture(autouse=True)
    def _backslashes(self, request: pytest.FixtureRequest) -> None:
        """SeaweedFS takes a backslash in a key for a slash; no key of a registry has one."""
        parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
        if "\\" in parameters.get("key", "") or request.node.originalname in WITH_BACKSLASHES:
            request.applymarker(pytest.mark.xfail(reason="SeaweedFS turns backslashes into slashes", strict=True))

    @pytest.fixture
    def driver(self, seaweed: SeaweedServer, seaweed_shared_bucket: str, open_s3: OpenS3) -> S3Driver:
        return open_s3(seaweed, seaweed_shared_bucket, uuid.uuid4().hex, driver={"uses_fast": self.uses_fast})


class TestMoto(S3Suite):
    has_conditional_copies = False  # moto does not look at the entity tag of the source

    @pytest.fixture
    def driver(self, moto: MotoServer, moto_bucket: str, open_s3: OpenS3) -> S3Driver:
        return open_s3(moto, moto_bucket, uuid.uuid4().hex, driver={"uses_fast": self.uses_fast})


@pytest.mark.s3
class TestSeaweedfsByBoto(TestSeaweedfs):
    """As without the extra `fast`."""

    uses_fast = False


class TestMotoByBoto(TestMoto):
    """As without the extra `fast`."""

    uses_fast = False

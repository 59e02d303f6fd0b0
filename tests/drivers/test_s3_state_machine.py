"""Any sequence of calls on the S3 driver, compared with a dictionary."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from fixtures_s3 import OpenS3
from regstore_drivers.base import Driver
from regstore_drivers.testing.state_machine import DriverMachine, driver_state_machine
from support.moto_s3 import MotoServer
from support.s3_server import S3Server
from support.seaweed import SeaweedServer

NAMES = ("v1", "v1-alpine", "v10")


class SeaweedMachine(DriverMachine):
    """What SeaweedFS does otherwise, because its keys are files in directories."""

    @rule(key=st.sampled_from(NAMES))
    def write_if_absent(self, key: str) -> None:
        """Store an object unless it is there: here a directory of the same name counts as being there."""
        super().write_if_absent(f"{key}/.lock", b"a")

    @rule(prefix=st.just("") | st.sampled_from(NAMES).map("{}/".format))
    def list_dir(self, prefix: str) -> None:
        """List the names of one level: here a directory may stay for a while after its last object is gone."""
        self.key_may_be_directory = False
        super().list_dir(prefix)
        self.key_may_be_directory = True


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.listing.PAGE_KEYS", 3)


def opener(server: S3Server, bucket: str, open_s3: OpenS3) -> Callable[[], AbstractContextManager[Driver]]:
    @contextmanager
    def open_driver() -> Iterator[Driver]:
        yield open_s3(server, bucket, uuid.uuid4().hex)

    return open_driver


def run(machine: type[DriverMachine]) -> None:
    # Looking for a shorter example takes minutes over HTTP.
    phases = (Phase.explicit, Phase.generate)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=5, stateful_step_count=20, phases=phases, deadline=None, derandomize=True, database=None
        ),
    )


@pytest.mark.s3
def test_seaweedfs(seaweed: SeaweedServer, seaweed_shared_bucket: str, open_s3: OpenS3) -> None:
    machine = driver_state_machine(opener(seaweed, seaweed_shared_bucket, open_s3), tells_absent=False)

    run(type("Machine", (SeaweedMachine, machine), {}))


def test_moto(moto: MotoServer, moto_bucket: str, open_s3: OpenS3) -> None:
    run(driver_state_machine(opener(moto, moto_bucket, open_s3), tells_absent=False))

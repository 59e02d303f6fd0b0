"""Any sequence of calls on the S3 driver, compared with a dictionary."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from fixtures_s3 import OpenS3
from regstore_drivers.base import Driver
from regstore_drivers.testing.state_machine import DriverMachine, driver_state_machine
from support.moto_s3 import MotoServer
from support.s3_server import S3Server
from support.seaweed import SeaweedServer

EXAMPLES, STEPS = 8, 20


def opener(server: S3Server, bucket: str, open_s3: OpenS3) -> Callable[[], AbstractContextManager[Driver]]:
    @contextmanager
    def open_driver() -> Iterator[Driver]:
        yield open_s3(server, bucket, uuid.uuid4().hex)

    return open_driver


def run(machine: type[DriverMachine]) -> None:
    phases = (Phase.explicit, Phase.generate)
    run_state_machine_as_test(machine, settings=settings(machine.TestCase.settings, phases=phases))


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regstore_drivers.s3.listing.PAGE_KEYS", 3)


@pytest.mark.s3
def test_seaweedfs(seaweed: SeaweedServer, seaweed_shared_bucket: str, open_s3: OpenS3) -> None:
    run(
        driver_state_machine(
            opener(seaweed, seaweed_shared_bucket, open_s3), tells_absent=False, examples=EXAMPLES, steps=STEPS
        )
    )


def test_moto(moto: MotoServer, moto_shared_bucket: str, open_s3: OpenS3) -> None:
    run(
        driver_state_machine(
            opener(moto, moto_shared_bucket, open_s3), tells_absent=False, examples=EXAMPLES, steps=STEPS
        )
    )

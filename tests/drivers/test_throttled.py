"""The rate at which bytes pass."""

from __future__ import annotations

import io

import pytest

from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Throttled
from support.fake_time import FakeTime


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def throttled(
    time: FakeTime, rate: float | None, *, burst: float | None = None, latency: float = 0.0, size: int = 1000
) -> Throttled:
    stored = MemoryDriver()
    stored.write("a", bytes(size), size)
    return Throttled(stored, rate, burst_bytes=burst, latency_seconds=latency, clock=time.clock, sleep=time.sleep)


def test_reads_come_at_the_rate(time: FakeTime) -> None:
    driver = throttled(time, 100.0)
    assert len(driver.read("a")) == 1000
    assert time.pauses == [pytest.approx(9.0)]  # the first 100 bytes are the burst
    driver.read("a")
    assert sum(time.pauses) == pytest.approx(19.0)


def test_streams_come_at_the_rate(time: FakeTime) -> None:
    driver = throttled(time, 100.0)
    with driver.open("a", 100) as stream:
        while stream.read(50):
            pass
    assert sum(time.pauses) == pytest.approx(8.0)
    assert max(time.pauses) == pytest.approx(0.5)


@pytest.mark.parametrize("is_stream", [False, True])
def test_writes_come_at_the_rate(time: FakeTime, is_stream: bool) -> None:
    driver = throttled(time, 100.0)
    content = bytes(1000)
    driver.write("b", (lambda: io.BytesIO(content)) if is_stream else content, 1000)
    assert sum(time.pauses) == pytest.approx(9.0)
    assert driver.stat("b").size == 1000


def test_reads_and_writes_share_the_rate(time: FakeTime) -> None:
    driver = throttled(time, 100.0)
    driver.read("a")
    driver.write("b", bytes(1000), 1000)
    assert sum(time.pauses) == pytest.approx(19.0)


def test_a_quiet_time_is_worth_one_burst(time: FakeTime) -> None:
    driver = throttled(time, 100.0, burst=300.0)
    driver.read("a")
    assert sum(time.pauses) == pytest.approx(7.0)
    time.pass_by(3600)
    driver.read("a")
    assert sum(time.pauses) == pytest.approx(14.0)


def test_what_moves_no_bytes_waits_for_nothing(time: FakeTime) -> None:
    driver = throttled(time, 1.0)
    driver.stat("a")
    driver.copy("a", "b")
    driver.move("b", "c")
    assert [entry.key for entry in driver.list("")] == ["a", "c"]
    assert [*driver.list_dir("")] == ["a", "c"]
    assert [outcome.outcome for outcome in driver.delete(["c"])] == ["gone"]
    assert time.pauses == []


def test_latency_is_paid_for_each_call(time: FakeTime) -> None:
    driver = throttled(time, None, latency=0.02)
    driver.stat("a")
    driver.read("a")
    with driver.open("a") as stream:
        stream.read()
    assert len([*driver.list("")]) == 1
    assert time.pauses == [0.02] * 4


@pytest.mark.parametrize(("rate", "burst", "latency"), [(0, None, 0), (-1, None, 0), (1, 0, 0), (None, None, -1)])
def test_what_makes_no_sense_is_refused(
    time: FakeTime, rate: float | None, burst: float | None, latency: float
) -> None:
    with pytest.raises(ValueError, match="must"):
        throttled(time, rate, burst=burst, latency=latency)

"""The faults that tests inject."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from regstore_drivers.base import Deleted, Driver
from regstore_drivers.errors import PermissionDenied, ShortRead, Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty


@pytest.fixture
def stored() -> MemoryDriver:
    driver = MemoryDriver("faulty")
    for key in ("a/1", "a/2", "b"):
        driver.write(key, b"0123456789", 10)
    return driver


@pytest.fixture
def faulty(stored: MemoryDriver) -> Faulty:
    return Faulty(stored)


EFFECTS: dict[str, Callable[[Driver], object]] = {
    "write": lambda driver: driver.write("a/1", b"new", 3),
    "copy": lambda driver: driver.copy("a/1", "c"),
    "move": lambda driver: driver.move("a/1", "c"),
    "delete": lambda driver: [*driver.delete(["a/1"])],
}


def snapshot(driver: Driver) -> dict[str, bytes]:
    return {entry.key: driver.read(entry.key) for entry in driver.list("")}


def test_without_rules_nothing_fails(faulty: Faulty) -> None:
    assert len(snapshot(faulty)) == 3
    assert faulty.fired == 0


@pytest.mark.parametrize("operation", EFFECTS)
def test_a_failure_does_nothing(stored: MemoryDriver, faulty: Faulty, operation: str) -> None:
    before = snapshot(stored)
    faulty.fail(operation, "a/1")
    with pytest.raises(Unavailable) as caught:
        EFFECTS[operation](faulty)
    assert snapshot(stored) == before
    assert (caught.value.operation, caught.value.key, caught.value.location) == (operation, "a/1", "memory://faulty")
    assert faulty.fired == 1
    EFFECTS[operation](faulty)
    assert snapshot(stored) != before


@pytest.mark.parametrize("operation", EFFECTS)
def test_a_lost_reply_does_all_of_it(stored: MemoryDriver, faulty: Faulty, operation: str) -> None:
    before = snapshot(stored)
    faulty.lose_reply(operation, "a/*", PermissionDenied)
    with pytest.raises(PermissionDenied):
        EFFECTS[operation](faulty)
    assert snapshot(stored) != before


def test_an_exception_is_raised_as_it_is(faulty: Faulty) -> None:
    error = KeyboardInterrupt()
    faulty.fail("stat", error=error)
    with pytest.raises(KeyboardInterrupt) as caught:
        faulty.stat("b")
    assert caught.value is error


def test_rules_count_the_calls_that_match(faulty: Faulty) -> None:
    faulty.fail("read", "a/*", nth=2, times=2)
    outcomes: list[int | None] = []
    for key in ("a/1", "b", "a/2", "b", "a/1", "a/1", "b"):
        try:
            outcomes.append(len(faulty.read(key)))
        except Unavailable:
            outcomes.append(None)
    assert outcomes == [10, 10, None, 10, None, 10, 10]


def test_operations_may_be_patterns(faulty: Faulty) -> None:
    faulty.fail("*", "b", times=None)
    calls = (faulty.stat, faulty.read, faulty.open, lambda key: [*faulty.delete([key])])
    for call in calls:
        with pytest.raises(Unavailable):
            call("b")
    assert faulty.stat("a/1").size == 10


@pytest.mark.parametrize("operation", ["copy", "move"])
def test_either_key_of_a_pair_matches(faulty: Faulty, operation: str) -> None:
    faulty.fail(operation, "c")
    with pytest.raises(Unavailable):
        EFFECTS[operation](faulty)


def test_any_key_of_a_deletion_matches(faulty: Faulty) -> None:
    faulty.fail("delete", "b")
    with pytest.raises(Unavailable):
        list(faulty.delete(["a/1", "b"]))
    assert [*faulty.delete([])] == []


def test_a_listing_fails_after_some_entries(faulty: Faulty) -> None:
    faulty.fail("list", "a/", after=1)
    listing = faulty.list("a/")
    assert next(listing).key == "a/1"
    with pytest.raises(Unavailable):
        next(listing)


def test_a_deletion_fails_after_some_outcomes(stored: MemoryDriver, faulty: Faulty) -> None:
    faulty.fail("delete", after=2)
    deletion = faulty.delete(["b", "a/2", "a/1"])
    assert [next(deletion).key, next(deletion).key] == ["b", "a/2"]
    with pytest.raises(Unavailable):
        next(deletion)
    assert [*snapshot(stored)] == ["a/1"]


def test_a_stream_fails_after_some_bytes(faulty: Faulty) -> None:
    faulty.fail("open", error=ShortRead, after=4)
    with faulty.open("b", 1) as stream:
        assert stream.read(3) == b"123"
        assert stream.read(3) == b"4"
        with pytest.raises(ShortRead):
            stream.read(3)


def test_a_stream_whose_reply_is_lost_is_closed(faulty: Faulty) -> None:
    faulty.lose_reply("open")
    with pytest.raises(Unavailable):
        faulty.open("b")


def test_ends_come_early(faulty: Faulty) -> None:
    for operation in ("list", "list_dir", "read", "open"):
        faulty.end_early(operation, after=1)
    assert [entry.key for entry in faulty.list("a/")] == ["a/1"]
    assert [*faulty.list_dir("")] == ["a/"]
    assert faulty.read("b") == b"0"
    with faulty.open("b") as stream:
        assert stream.read() == b"0"
    assert len(snapshot(faulty)) == 3


def test_one_key_of_a_deletion_fails(stored: MemoryDriver, faulty: Faulty) -> None:
    faulty.fail_key("a/*", "locked", nth=2)
    faulty.fail_key("b", retryable=True)
    assert {*faulty.delete(["a/1", "a/2", "b"])} == {
        Deleted("a/1", "gone"),
        Deleted("a/2", "failed", "locked"),
        Deleted("b", "failed", "injected fault", retryable=True),
    }
    assert [*snapshot(stored)] == ["a/2", "b"]
    assert faulty.fired == 2


def test_hooks_run_around_the_call(stored: MemoryDriver, faulty: Faulty) -> None:
    seen: list[int] = []
    for operation in ("write", "list"):
        faulty.call_before(operation, "*", lambda: seen.append(len(snapshot(stored))))
        faulty.call_after(operation, "*", lambda: seen.append(len(snapshot(stored))))
    faulty.write("new", b"", 0)
    assert seen == [3, 4]
    listing = faulty.list("")
    next(listing)
    stored.write("newer", b"", 0)
    assert len([*listing]) == 3
    assert seen == [3, 4, 4, 5]


def test_the_first_rule_is_the_outermost(faulty: Faulty) -> None:
    seen: list[str] = []
    faulty.call_before("stat", "*", lambda: seen.append("before"))
    faulty.call_after("stat", "*", lambda: seen.append("after"))
    faulty.fail("stat")
    faulty.call_before("stat", "*", lambda: seen.append("inside"))
    with pytest.raises(Unavailable):
        faulty.stat("b")
    assert seen == ["before"]


def test_threads_count_together(faulty: Faulty) -> None:
    faulty.fail("stat", nth=100, times=50)
    failures = 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal failures
        for _ in range(50):
            try:
                faulty.stat("b")
            except Unavailable:
                with lock:
                    failures += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert failures == faulty.fired == 50

"""Trying again: when, for how long, and what a lost reply means."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from regstore_drivers.base import Deleted, Driver, HasClock, HasMultipart
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound, PermissionDenied, ShortRead, Unavailable
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Counting, Faulty, Retrying
from support.fake_time import FakeTime

CONTENT = bytes(range(256)) * 4000


class Bench:
    """A retrying driver over one that fails, over one that counts, over memory."""

    def __init__(self, stored: Driver | None = None, *, deadline_seconds: float = 110.0, random: float = 0.5) -> None:
        self.time = FakeTime()
        self.stored = stored or MemoryDriver()
        self.counting = Counting(self.stored)
        self.faulty = Faulty(self.counting)
        self.driver = Retrying(
            self.faulty,
            deadline_seconds=deadline_seconds,
            sleep=self.time.sleep,
            clock=self.time.clock,
            random=lambda: random,
        )

    def put(self, *keys: str, content: bytes = b"content") -> None:
        for key in keys:
            self.stored.write(key, content, len(content))


@pytest.fixture
def bench() -> Bench:
    return Bench()


CALLS: dict[str, Callable[[Driver], object]] = {
    "stat": lambda driver: driver.stat("a"),
    "read": lambda driver: driver.read("a"),
    "open": lambda driver: driver.open("a").read(),
    "list": lambda driver: [*driver.list("")],
    "list_dir": lambda driver: [*driver.list_dir("")],
    "write": lambda driver: driver.write("a", b"content", 7),
    "copy": lambda driver: driver.copy("a", "b"),
    "move": lambda driver: driver.move("a", "b"),
    "delete": lambda driver: [*driver.delete(["a"])],
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("error", [Unavailable, ShortRead])
def test_every_call_is_tried_again(bench: Bench, operation: str, error: type[DriverError]) -> None:
    bench.put("a")
    bench.faulty.fail(operation, error=error, times=3)
    CALLS[operation](bench.driver)
    assert bench.counting.counts[operation] == 1
    assert len(bench.time.pauses) == 3


@pytest.mark.parametrize("operation", CALLS)
def test_every_call_gives_up_in_time(bench: Bench, operation: str) -> None:
    bench.put("a")
    bench.faulty.fail(operation, times=None)
    begin = bench.time.now
    with pytest.raises(Unavailable):
        CALLS[operation](bench.driver)
    assert bench.counting.counts == {}
    assert len(bench.time.pauses) >= 6
    assert 100 < bench.time.now - begin <= 110
    assert bench.faulty.fired == len(bench.time.pauses) + 1


@pytest.mark.parametrize("operation", CALLS)
def test_what_no_retry_cures_is_not_tried_again(bench: Bench, operation: str) -> None:
    bench.put("a")
    bench.faulty.fail(operation, error=PermissionDenied)
    with pytest.raises(PermissionDenied):
        CALLS[operation](bench.driver)
    assert bench.time.pauses == []


def test_powers_are_tried_again(bench: Bench) -> None:
    bench.faulty.fail("now")
    assert isinstance(bench.driver, HasClock)
    bench.driver.now()
    assert len(bench.time.pauses) == 1


class TestPauses:
    def test_they_double_up_to_a_limit(self) -> None:
        bench = Bench(random=0.999)
        bench.faulty.fail("stat", times=None)
        with pytest.raises(Unavailable):
            bench.driver.stat("a")
        assert bench.time.pauses[:7] == [0.999 * limit for limit in (0.5, 1, 2, 4, 8, 16, 20)]
        assert max(bench.time.pauses) <= 20
        assert sum(bench.time.pauses) == pytest.approx(110)

    def test_they_are_drawn_from_zero_to_the_limit(self) -> None:
        draws = iter((0.0, 0.25, 0.75))
        time = FakeTime()
        faulty = Faulty(MemoryDriver())
        faulty.fail("stat", times=3)
        driver = Retrying(faulty, sleep=time.sleep, clock=time.clock, random=lambda: next(draws))
        with pytest.raises(NotFound):
            driver.stat("a")
        assert time.pauses == [0.0, 0.25, 1.5]

    def test_they_are_as_long_as_the_storage_asks(self, bench: Bench) -> None:
        bench.put("a")
        bench.faulty.fail("stat", error=Unavailable("slow down", retry_after=30), times=2)
        bench.driver.stat("a")
        assert bench.time.pauses == [30, 30]

    def test_no_time_is_spent_when_the_storage_asks_for_more_than_is_left(self, bench: Bench) -> None:
        bench.faulty.fail("stat", error=Unavailable("slow down", retry_after=60), times=None)
        with pytest.raises(Unavailable):
            bench.driver.stat("a")
        assert bench.time.pauses == [60]


class TestDeadline:
    @pytest.mark.parametrize("seconds", [-1, 121, float("inf")])
    def test_it_is_two_minutes_at_most(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="deadline"):
            Retrying(MemoryDriver(), deadline_seconds=seconds)

    def test_none_at_all_is_possible(self) -> None:
        bench = Bench(deadline_seconds=0)
        bench.faulty.fail("stat")
        with pytest.raises(Unavailable):
            bench.driver.stat("a")
        assert bench.time.pauses == []

    def test_slow_calls_count(self, bench: Bench) -> None:
        bench.faulty.call_before("stat", "*", lambda: bench.time.pass_by(60), times=None)
        bench.faulty.fail("stat", times=None)
        with pytest.raises(Unavailable):
            bench.driver.stat("a")
        assert len(bench.time.pauses) == 1

    @pytest.mark.parametrize("operation", ["write", "copy", "move"])
    def test_what_takes_long_by_nature_is_tried_again_after_hours(self, bench: Bench, operation: str) -> None:
        bench.put("a")
        bench.faulty.call_before(operation, "*", lambda: bench.time.pass_by(3600))
        bench.faulty.fail(operation, times=2)
        CALLS[operation](bench.driver)
        assert len(bench.time.pauses) == 2


class TestListing:
    KEYS = tuple(f"d/{number:02}" for number in range(10))

    def test_it_goes_on_after_the_last_key(self, bench: Bench) -> None:
        bench.put(*self.KEYS, "e")
        for nth in range(1, 4):
            bench.faulty.fail("list", "d/", after=3, nth=nth)
        assert [entry.key for entry in bench.driver.list("d/", "d/00")] == [*self.KEYS[1:]]
        assert bench.faulty.fired == 3

    def test_what_was_yielded_may_be_deleted_meanwhile(self, bench: Bench) -> None:
        bench.put(*self.KEYS)
        bench.faulty.fail("list", after=5)
        listing = bench.driver.list("")
        found = [next(listing).key for _ in range(5)]
        assert [outcome.outcome for outcome in bench.stored.delete(found)] == ["gone"] * 5
        assert [*found, *(entry.key for entry in listing)] == [*self.KEYS]

    def test_the_deadline_counts_from_the_newest_key(self, bench: Bench) -> None:
        bench.put(*self.KEYS)
        bench.faulty.call_before("list", "*", lambda: bench.time.pass_by(100), times=None)
        bench.faulty.fail("list", after=1, times=9)
        assert [entry.key for entry in bench.driver.list("")] == [*self.KEYS]

    def test_it_gives_up_without_progress(self, bench: Bench) -> None:
        bench.put(*self.KEYS)
        bench.faulty.fail("list", after=4)
        bench.faulty.fail("list", nth=2, times=None)
        listing = bench.driver.list("")
        found = [next(listing).key for _ in range(4)]
        with pytest.raises(Unavailable):
            next(listing)
        assert found == [*self.KEYS[:4]]

    def test_names_come_once(self, bench: Bench) -> None:
        bench.put("d/v1", "d/v1-alpine", "d/v1/x", "d/v10", "d/v1\N{GRINNING FACE}", "d/w")
        whole = [*bench.stored.list_dir("d/")]
        for nth in range(1, 4):
            bench.faulty.fail("list_dir", after=nth + 1, nth=nth)
        assert [*bench.driver.list_dir("d/")] == whole
        assert bench.faulty.fired == 3

    def test_uploads_come_once(self) -> None:
        stored = MemoryDriver()
        bench = Bench(stored)
        begun = [stored.begin_multipart("same", initiated=0.0) for _ in range(5)]
        for nth in range(1, 3):
            bench.faulty.fail("list_multipart", after=nth + 1, nth=nth)
        assert isinstance(bench.driver, HasMultipart)
        assert [*bench.driver.list_multipart("")] == begun
        assert bench.faulty.fired == 2


class TestStream:
    @pytest.mark.parametrize(("offset", "length"), [(0, None), (0, len(CONTENT)), (1000, None), (1000, 900_000)])
    @pytest.mark.parametrize("error", [ShortRead, Unavailable])
    def test_it_goes_on_where_it_broke(
        self, bench: Bench, offset: int, length: int | None, error: type[DriverError]
    ) -> None:
        bench.put("a", content=CONTENT)
        for nth in range(1, 4):
            bench.faulty.fail("open", error=error, after=300_000, nth=nth)
        with bench.driver.open("a", offset, length) as stream:
            assert stream.read(7) == CONTENT[offset : offset + 7]
            assert stream.read() == CONTENT[offset + 7 : None if length is None else offset + length]
            assert stream.read(1) == b""
        assert bench.faulty.fired == 3
        assert bench.counting.bytes_read <= len(CONTENT) + 3 * 300_000

    def test_one_that_broke_at_its_end_is_not_opened_again(self, bench: Bench) -> None:
        bench.put("a", content=CONTENT)
        bench.faulty.fail("open", after=1000)
        with bench.driver.open("a", 0, 1000) as stream:
            assert stream.read() == CONTENT[:1000]
        assert bench.counting.counts["open"] == 1

    def test_it_gives_up_without_progress(self, bench: Bench) -> None:
        bench.put("a", content=CONTENT)
        bench.faulty.fail("open", after=0, times=None)
        with bench.driver.open("a") as stream, pytest.raises(Unavailable):
            stream.read(1)
        assert sum(bench.time.pauses) > 100

    def test_an_object_that_is_gone_meanwhile_is_not_found(self, bench: Bench) -> None:
        bench.put("a", content=CONTENT)
        bench.faulty.fail("open", after=300_000)
        with bench.driver.open("a") as stream:
            stream.read(1000)
            assert [outcome.outcome for outcome in bench.stored.delete(["a"])] == ["gone"]
            with pytest.raises(NotFound):
                stream.read()


class TestWrite:
    def test_the_source_is_opened_anew(self, bench: Bench) -> None:
        opened: list[BinaryIO] = []

        def source() -> BinaryIO:
            opened.append(io.BytesIO(CONTENT))
            return opened[-1]

        bench.faulty.lose_reply("write", times=2)
        bench.driver.write("a", source, len(CONTENT))
        assert bench.stored.read("a") == CONTENT
        assert len(opened) == 3
        assert all(stream.closed for stream in opened)

    def test_a_source_that_breaks_is_tried_again(self, bench: Bench) -> None:
        source = Faulty(MemoryDriver())
        source.write("a", CONTENT, len(CONTENT))
        source.fail("open", error=ShortRead, after=100_000)
        bench.driver.write("b", lambda: source.open("a"), len(CONTENT))
        assert bench.stored.read("b") == CONTENT

    @pytest.fixture(params=["memory", "files"])
    def stored(self, request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
        """One driver whose entity tags are MD5, and one that has none."""
        return MemoryDriver() if request.param == "memory" else FilesystemDriver(str(tmp_path))

    @pytest.mark.parametrize("is_stream", [False, True])
    def test_what_the_first_try_wrote_is_no_obstacle(self, stored: Driver, is_stream: bool) -> None:
        bench = Bench(stored)
        bench.faulty.lose_reply("write")
        source = (lambda: io.BytesIO(CONTENT)) if is_stream else CONTENT
        entry = bench.driver.write("a", source, len(CONTENT), if_absent=True)
        assert entry == stored.stat("a")
        assert stored.read("a") == CONTENT

    @pytest.mark.parametrize("foreign", [b"other", b"content of more bytes"])
    def test_what_somebody_else_wrote_is(self, stored: Driver, foreign: bytes) -> None:
        bench = Bench(stored)
        bench.faulty.call_before("write", "a", lambda: bench.put("a", content=foreign))
        bench.faulty.fail("write")
        with pytest.raises(AlreadyExists):
            bench.driver.write("a", b"12345", 5, if_absent=True)
        assert stored.read("a") == foreign

    def test_what_was_there_at_the_first_try_is(self, bench: Bench) -> None:
        bench.put("a")
        with pytest.raises(AlreadyExists):
            bench.driver.write("a", b"content", 7, if_absent=True)
        assert bench.time.pauses == []

    def test_the_comparison_is_tried_again(self, stored: Driver) -> None:
        bench = Bench(stored)
        bench.faulty.lose_reply("write")
        bench.faulty.fail("stat")
        bench.driver.write("a", b"content", 7, if_absent=True)
        assert len(bench.time.pauses) == 2


class TestMove:
    def test_what_the_first_try_moved_is_moved(self, bench: Bench) -> None:
        bench.put("a")
        bench.faulty.lose_reply("move")
        bench.driver.move("a", "b")
        assert [entry.key for entry in bench.stored.list("")] == ["b"]

    def test_what_is_nowhere_is_not_found(self, bench: Bench) -> None:
        bench.faulty.fail("move")
        with pytest.raises(NotFound):
            bench.driver.move("a", "b")

    def test_a_source_that_never_was_is_not_found(self, bench: Bench) -> None:
        bench.put("b")
        with pytest.raises(NotFound):
            bench.driver.move("a", "b")

    def test_an_object_is_not_moved_onto_itself(self, bench: Bench) -> None:
        bench.put("a")
        bench.faulty.fail("move")
        with pytest.raises(AlreadyExists):
            bench.driver.move("a", "a")
        assert bench.stored.read("a") == b"content"

    @pytest.fixture(params=["memory", "files"])
    def half_done(self, request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
        """The first try copies and then fails, as an object store may."""
        bench = Bench(MemoryDriver() if request.param == "memory" else FilesystemDriver(str(tmp_path)))
        bench.put("a")
        bench.faulty.call_before("move", "a", lambda: bench.stored.copy("a", "b"))
        bench.faulty.fail("move")
        return bench

    def test_what_the_first_try_copied_is_deleted(self, half_done: Bench) -> None:
        half_done.driver.move("a", "b")
        assert {entry.key: half_done.stored.read(entry.key) for entry in half_done.stored.list("")} == {"b": b"content"}

    @pytest.mark.parametrize("foreign", [b"CONTENT", b"longer content"])
    def test_what_somebody_else_put_there_stays(self, half_done: Bench, foreign: bytes) -> None:
        half_done.faulty.call_before("move", "a", lambda: half_done.put("b", content=foreign), nth=2)
        with pytest.raises(AlreadyExists):
            half_done.driver.move("a", "b")
        assert half_done.stored.read("a") == b"content"
        assert half_done.stored.read("b") == foreign

    def test_a_deletion_that_fails_is_tried_again(self, half_done: Bench) -> None:
        half_done.faulty.fail_key("a", retryable=True)
        half_done.driver.move("a", "b")
        assert [entry.key for entry in half_done.stored.list("")] == ["b"]

    def test_a_deletion_that_is_refused_is_an_error(self, half_done: Bench) -> None:
        half_done.faulty.fail_key("a", "locked")
        with pytest.raises(DriverError, match="locked"):
            half_done.driver.move("a", "b")
        assert [entry.key for entry in half_done.stored.list("")] == ["a", "b"]


class TestDelete:
    def test_only_the_keys_that_may_go_are_tried_again(self, bench: Bench) -> None:
        bench.put("a", "b", "c", "d")
        bench.faulty.fail_key("a", "locked", times=None)
        bench.faulty.fail_key("b", "busy", retryable=True, times=2)
        outcomes = {outcome.key: outcome for outcome in bench.driver.delete(["a", "b", "c", "x"])}
        assert outcomes == {
            "a": Deleted("a", "failed", "locked"),
            "b": Deleted("b", "gone"),
            "c": Deleted("c", "gone"),
            "x": Deleted("x", "absent"),
        }
        assert len(bench.time.pauses) == 2

    def test_a_key_that_stays_busy_is_an_outcome(self, bench: Bench) -> None:
        bench.put("a", "b")
        bench.faulty.fail_key("a", "busy", retryable=True, times=None)
        outcomes = {outcome.key: outcome.outcome for outcome in bench.driver.delete(["a", "b"])}
        assert outcomes == {"a": "failed", "b": "gone"}
        assert sum(bench.time.pauses) > 100

    def test_what_a_lost_reply_told_is_gone(self, bench: Bench) -> None:
        bench.put("a", "b")
        bench.faulty.lose_reply("delete")
        assert [*bench.driver.delete(["a", "b"])] == [Deleted("a", "gone"), Deleted("b", "gone")]

    def test_after_some_outcomes_the_rest_is_tried_again(self, bench: Bench) -> None:
        bench.put("a", "b", "c")
        bench.faulty.fail("delete", after=1)
        assert [*bench.driver.delete(["a", "b", "c"])] == [Deleted(key, "gone") for key in "abc"]
        assert bench.counting.counts["delete"] == 2

    def test_batches_are_independent(self, bench: Bench) -> None:
        keys = [f"{number:04}" for number in range(2500)]
        bench.put(*keys)
        bench.faulty.fail("delete", nth=2)
        assert [*bench.driver.delete(iter(keys))] == [Deleted(key, "gone") for key in keys]
        assert bench.counting.counts["delete"] == 3
        assert len(bench.time.pauses) == 1

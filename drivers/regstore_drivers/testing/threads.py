"""Several threads with one driver."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from regstore_drivers.errors import AlreadyExists, NotFound
from regstore_drivers.testing.basis import WriteBasis, contents, put
from regstore_drivers.testing.reading import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore_drivers.base import Driver

T = TypeVar("T")

_THREADS = 8


def _together(function: Callable[[int], T]) -> list[T]:
    """Call a function with 0, 1, ... in as many threads, all at the same moment."""
    barrier = threading.Barrier(_THREADS)

    def start(number: int) -> T:
        barrier.wait(60)
        return function(number)

    with ThreadPoolExecutor(_THREADS) as pool:
        return [*pool.map(start, range(_THREADS))]


class Threads(WriteBasis):
    """What must hold when calls overlap."""

    def test_threads_do_not_disturb_each_other(self, driver: Driver) -> None:
        def work(number: int) -> dict[str, bytes]:
            mine = {f"d{number % 2}/t{number}/{name}": LARGE[name : name + 100_000] for name in range(4)}
            for key, content in mine.items():
                driver.write(key, content, len(content))
            driver.copy(f"d{number % 2}/t{number}/0", f"copies/{number}")
            driver.move(f"d{number % 2}/t{number}/1", f"moved/{number}")
            with driver.open(f"d{number % 2}/t{number}/2") as stream:
                assert stream.read() == mine[f"d{number % 2}/t{number}/2"]
            return contents(driver, f"d{number % 2}/t{number}/")

        for number, found in enumerate(_together(work)):
            assert found == {f"d{number % 2}/t{number}/{name}": LARGE[name : name + 100_000] for name in (0, 2, 3)}
        assert len(contents(driver, "copies/")) == _THREADS
        assert len(contents(driver, "moved/")) == _THREADS

    def test_no_reader_sees_half_a_write(self, driver: Driver) -> None:
        versions = [bytes([number]) * 100_000 for number in range(_THREADS)]
        put(driver, "a", content=versions[0])

        def work(number: int) -> bool:
            if number % 2:
                for _ in range(5):
                    driver.write("a", versions[number], len(versions[number]))
                return True
            return all(driver.read("a") in versions for _ in range(10))

        assert all(_together(work))
        assert driver.read("a") in versions
        assert [*driver.list_dir("")] == ["a"]

    def test_one_of_several_writers_finds_the_key_absent(self, driver: Driver) -> None:
        def work(number: int) -> bool:
            try:
                driver.write("a/b", bytes([number]), 1, if_absent=True)
            except AlreadyExists:
                return False
            return True

        won = _together(work)
        assert any(won)
        if self.has_atomic_if_absent:
            assert sum(won) == 1
            assert driver.read("a/b") == bytes([won.index(True)])

    def test_one_of_several_movers_gets_the_object(self, driver: Driver) -> None:
        put(driver, "a")

        def work(number: int) -> bool:
            try:
                driver.move("a", f"b/{number}")
            except NotFound:
                return False
            return True

        won = _together(work)
        assert any(won)
        if self.has_atomic_move:
            assert sum(won) == 1
            assert contents(driver) == {f"b/{won.index(True)}": b"content"}

    def test_one_of_several_movers_gets_the_key(self, driver: Driver) -> None:
        put(driver, *(f"a/{number}" for number in range(_THREADS)))

        def work(number: int) -> bool:
            try:
                driver.move(f"a/{number}", "b/c")
            except AlreadyExists:
                return False
            return True

        won = _together(work)
        assert any(won)
        if self.has_atomic_move:
            assert sum(won) == 1
            assert [*contents(driver)] == [*(f"a/{number}" for number in range(_THREADS) if not won[number]), "b/c"]

    def test_each_key_is_gone_once(self, driver: Driver) -> None:
        keys = [f"a/{number}" for number in range(20)]
        put(driver, *keys)
        outcomes = _together(lambda _: [outcome.outcome for outcome in driver.delete(keys)])
        assert {len(found) for found in outcomes} == {len(keys)}
        assert all(outcome in ("gone", "absent") for found in outcomes for outcome in found)
        if self.tells_absent:
            assert sum(found.count("gone") for found in outcomes) == len(keys)
        assert contents(driver) == {}

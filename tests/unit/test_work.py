"""Progress, cancelling, and bounded parallel work."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.errors import InterruptedRunError
from regstore.work import Cancel, NoProgress, map_bounded
from support.examples import examples


@examples(50)
@given(st.lists(st.integers(), max_size=40), st.integers(0, 5))
def test_results_come_in_order(items: list[int], jobs: int) -> None:
    assert list(map_bounded(lambda item: item * 2, items, jobs)) == [item * 2 for item in items]


def test_the_input_stays_lazy() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(10_000):
            taken += 1
            yield item

    results = map_bounded(lambda item: item, items(), 3)
    assert taken == 0
    assert next(results) == 0
    assert taken <= 4 * 3
    results.close()  # type: ignore[attr-defined]
    assert taken <= 4 * 3


def test_at_most_so_many_run_at_once() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    assert len(list(map_bounded(work, range(60), 3))) == 60
    assert 1 < most <= 3


@pytest.mark.parametrize("jobs", [1, 4])
def test_an_error_is_raised_when_its_turn_comes_and_the_rest_is_dropped(jobs: int) -> None:
    done = []

    def work(item: int) -> int:
        if item == 5:
            raise OSError("broken")
        done.append(item)
        return item

    results = []
    with pytest.raises(OSError, match="broken"):
        results.extend(_each(map_bounded(work, range(1000), jobs), results))

    assert results == [0, 1, 2, 3, 4]
    assert len(done) <= 5 + 4 * jobs


def _each(items: Iterator[int], into: list[int]) -> Iterator[int]:
    for item in items:
        into.append(item)
        yield from ()


def test_an_error_of_the_input_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(map_bounded(lambda item: item, items(), 2))


def test_cancel_stops_at_the_next_check() -> None:
    cancel = Cancel()
    cancel.check()
    cancel.wait(0.0)
    assert not cancel.is_requested

    cancel.request(143)

    assert cancel.is_requested
    for stop in (cancel.check, lambda: cancel.wait(60.0)):
        with pytest.raises(InterruptedRunError) as caught:
            stop()
        assert caught.value.exit_code == 143
    assert InterruptedRunError("").exit_code == 130


def test_waiting_ends_when_somebody_asks_to_stop() -> None:
    cancel = Cancel()
    timer = threading.Timer(0.02, cancel.request)
    timer.start()
    with pytest.raises(InterruptedRunError) as caught:
        cancel.wait(60.0)
    timer.join()

    assert caught.value.exit_code == 130


def test_no_progress_takes_everything() -> None:
    progress = NoProgress()
    progress.start("phase", 3)
    progress.advance()
    progress.advance(2)
    progress.finish()


def test_a_request_in_the_midst_of_a_wait_is_heard() -> None:
    """A handler runs in the thread that it interrupts: nothing that this thread holds may stop it."""
    cancel = Cancel()

    def handle(number: int, _: object) -> None:
        cancel.request(128 + number)
        cancel.request(128 + number)

    former = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(5):
            cancel = Cancel()
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(InterruptedRunError):
                cancel.wait(30)
            assert cancel.exit_code == 128 + signal.SIGALRM
    finally:
        signal.signal(signal.SIGALRM, former)

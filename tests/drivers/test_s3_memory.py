"""What uploads hold in memory together."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from regstore_drivers.s3.memory import MemoryBudget


def test_no_more_than_the_budget_is_held() -> None:
    budget = MemoryBudget(100)
    lock = threading.Lock()
    now, most = 0, 0

    def work(count: int) -> None:
        nonlocal now, most
        with budget.hold(count):
            with lock:
                now += count
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= count

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [40, 30, 10, 60, 100] * 20))
    assert 70 <= most <= 100
    assert now == 0


def test_one_that_is_too_large_goes_alone() -> None:
    budget = MemoryBudget(100)
    held = threading.Event()
    order = []

    def large() -> None:
        held.wait()
        with budget.hold(500):
            order.append("large")

    thread = threading.Thread(target=large)
    thread.start()
    with budget.hold(10):
        held.set()
        time.sleep(0.05)
        order.append("small")
    thread.join(5)
    assert order == ["small", "large"]


def test_a_failure_gives_it_back() -> None:
    budget = MemoryBudget(100)
    for _ in range(3):
        try:
            with budget.hold(100):
                raise OSError
        except OSError:
            pass
    with budget.hold(100):
        pass

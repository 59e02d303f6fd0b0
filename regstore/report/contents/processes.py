"""Reading many layers, in processes beside each other where they can open the storage anew."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from regstore.errors import StorageFailedError
from regstore.report.contents.layer_reading import LayerResult, LayerSpec, Pulse, StoppedError, read_layer
from regstore_drivers.base import HasLocalPath
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from regstore.registry.config import RegistryConfig
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import ReadDriver

_WORKER_BYTES = 300 << 20


def read_all(
    driver: ReadDriver, specs: list[LayerSpec], jobs: int, progress: Progress, cancel: Cancel
) -> Iterator[tuple[LayerSpec, LayerResult]]:
    """Read layers and yield how each ended, in any order."""
    can_reopen = isinstance(driver, HasLocalPath) or driver.scheme == "s3"
    if min(jobs, len(specs)) > 1 and can_reopen:
        yield from _read_in_processes(specs, jobs, progress, cancel)
        return
    pulse = _OwnPulse(progress, cancel)
    for spec in specs:
        try:
            yield spec, read_layer(spec, driver, pulse)
        except StoppedError:
            cancel.check()


def _read_in_processes(
    specs: list[LayerSpec], jobs: int, progress: Progress, cancel: Cancel
) -> Iterator[tuple[LayerSpec, LayerResult]]:
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("Q", 0), context.Event()
    told = 0
    waiting = deque(specs)
    pending: dict[Future[LayerResult], LayerSpec] = {}
    with ProcessPoolExecutor(
        min(jobs, len(specs)), context, initializer=_begin_worker, initargs=(counter, stop, os.getpid())
    ) as pool:
        try:
            while waiting or pending:
                while waiting and len(pending) < 4 * jobs:
                    spec = waiting.popleft()
                    pending[pool.submit(_read_in_worker, spec)] = spec
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                now = counter.value
                progress.advance(now - told)
                told = now
                cancel.check()
                for future in done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise StorageFailedError(
                "a process that read layers was killed, perhaps for want of memory", hint="ask for fewer jobs"
            ) from error
        finally:
            stop.set()
            for future in pending:
                future.cancel()


class _OwnPulse:
    def __init__(self, progress: Progress, cancel: Cancel) -> None:
        self.advance = progress.advance
        self._cancel = cancel

    @property
    def is_stopped(self) -> bool:
        return self._cancel.is_requested


class _SharedPulse:
    def __init__(self, counter: Synchronized[int], stop: Event) -> None:
        self._counter = counter
        self._stop = stop

    def advance(self, count: int) -> None:
        with self._counter.get_lock():
            self._counter.value += count

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()


_shared_pulse: Pulse | None = None
"""Of a worker."""


def _begin_worker(counter: Synchronized[int], stop: Event, parent: int) -> None:
    global _shared_pulse
    _shared_pulse = _SharedPulse(counter, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or most > _WORKER_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (_WORKER_BYTES, most))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the parent is gone: it may have been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _read_in_worker(spec: LayerSpec) -> LayerResult:
    return read_layer(spec, _reopen(spec.source), _shared_pulse)


@lru_cache(maxsize=1)
def _reopened(location: str) -> ReadDriver:
    return _retrying(open_driver(location))


_from_config: dict[str, ReadDriver] = {}


def _reopen(source: str | RegistryConfig) -> ReadDriver:
    if isinstance(source, str):
        return _reopened(source)
    if source.path not in _from_config:
        _from_config[source.path] = _retrying(source.open_driver())
    return _from_config[source.path]


def _retrying(driver: Any) -> ReadDriver:
    if isinstance(driver, HasLocalPath):
        return cast("ReadDriver", driver)
    from regstore_drivers.wrappers import Retrying  # only object stores need it

    return Retrying(driver)

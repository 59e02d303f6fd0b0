"""A driver that remembers what was asked of it, in order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from regstore_drivers.wrappers._forwarding import Forwarding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regstore_drivers.base import Deleted, Driver

T = TypeVar("T")


class Recording(Forwarding):
    """Records each call before it is made; from any number of threads.

    Never HasLocalPath: readers would go past the wrapper.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._lock = threading.Lock()
        self._calls: list[tuple[str, str]] = []

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The calls so far as (operation, key).

        The key of a listing is its prefix, that of `copy` and `move` the source; `delete` is recorded once for each
        key, when the key is taken.
        """
        with self._lock:
            return self._calls.copy()

    def reset(self) -> None:
        """Forget the calls so far."""
        with self._lock:
            self._calls.clear()

    def _record(self, operation: str, key: str) -> None:
        with self._lock:
            self._calls.append((operation, key))

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        self._record(operation, key)
        return call()

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete objects. See `Driver.delete`."""

        def recorded() -> Iterator[str]:
            for key in keys:
                self._record("delete", key)
                yield key

        return self._driver.delete(recorded())

"""A driver that fails as it is told to, for tests of what uses drivers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from regstore_drivers.base import Deleted
from regstore_drivers.errors import Unavailable
from regstore_drivers.wrappers._faults import EndEarly, Fail, Hooks, LoseReply, Request
from regstore_drivers.wrappers._forwarding import Forwarding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regstore_drivers.base import Driver, Entry
    from regstore_drivers.errors import DriverError
    from regstore_drivers.wrappers._faults import Fault

T = TypeVar("T")


class Faulty(Forwarding):
    """Commits faults in the calls that match its rules.

    A rule names an operation (a method, or a pattern such as `*`) and a pattern of keys: the prefix of a listing,
    either key of `copy` and `move`, any key of `delete`. Of the calls that match, it applies to `times` (None:
    all) from the `nth` one on, counted from 1. An error is given as an exception, or as a subclass of DriverError to be
    made with the operation and the key of the call. When several rules apply, the first one is the outermost.

    Never HasLocalPath: readers would go past the wrapper.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._faults: _Rules[Fault] = _Rules()
        self._refusals: _Rules[_Refusal] = _Rules()

    @property
    def fired(self) -> int:
        """How many times a rule has applied."""
        return self._faults.fired + self._refusals.fired

    def fail(
        self,
        operation: str,
        key: str = "*",
        error: type[DriverError] | BaseException = Unavailable,
        *,
        after: int | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Raise an error and do nothing.

        Args:
            operation: see the class.
            key: see the class.
            error: see the class.
            after: let so many items of a listing (or outcomes of a deletion), or bytes of a stream, come first.
            nth: see the class.
            times: see the class.
        """
        self._faults.add(Fail(error, after), operation, key, nth, times)

    def lose_reply(
        self,
        operation: str,
        key: str = "*",
        error: type[DriverError] | BaseException = Unavailable,
        *,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Do all of it, and then raise an error."""
        self._faults.add(LoseReply(error), operation, key, nth, times)

    def end_early(self, operation: str, key: str = "*", *, after: int, nth: int = 1, times: int | None = 1) -> None:
        """Give only the first items of a listing, or the first bytes of `read` or a stream, and no error.

        No driver may do that: for tests of what notices it.
        """
        self._faults.add(EndEarly(after), operation, key, nth, times)

    def fail_key(
        self,
        key: str = "*",
        reason: str = "injected fault",
        *,
        retryable: bool = False,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let the deletion of a key fail, and not that of the others in its batch.

        Args:
            key: see the class.
            reason: that of the outcome.
            retryable: that of the outcome.
            nth: see the class.
            times: see the class.
        """
        self._refusals.add(_Refusal(reason, retryable), "delete", key, nth, times)

    def call_before(
        self, operation: str, key: str, hook: Callable[[], object], *, nth: int = 1, times: int | None = 1
    ) -> None:
        """Call a function before the call."""
        self._faults.add(Hooks(before=hook), operation, key, nth, times)

    def call_after(
        self, operation: str, key: str, hook: Callable[[], object], *, nth: int = 1, times: int | None = 1
    ) -> None:
        """Call a function after the call has succeeded, or after its last item."""
        self._faults.add(Hooks(after=hook), operation, key, nth, times)

    def _call(self, operation: str, key: str, call: Callable[[], T]) -> T:
        return self._call_with(operation, (key,), call)

    def _call_with(self, operation: str, keys: tuple[str, ...], call: Callable[[], T]) -> T:
        request = Request(operation, keys[0], self.location)
        for fault in self._faults.firing(operation, keys):
            call = partial(fault.call, request, call)
        return call()

    def _iterate(self, operation: str, key: str, call: Callable[[], Iterator[T]]) -> Iterator[T]:
        return self._iterate_with(operation, (key,), call)

    def _iterate_with(self, operation: str, keys: tuple[str, ...], call: Callable[[], Iterator[T]]) -> Iterator[T]:
        request = Request(operation, keys[0] if keys else "", self.location)
        for fault in self._faults.firing(operation, keys):
            call = partial(fault.items, request, call)
        return call()

    def copy(self, src: str, dst: str) -> Entry:
        """Copy inside the store. See `Driver.copy`."""
        return self._call_with("copy", (src, dst), lambda: self._driver.copy(src, dst))

    def move(self, src: str, dst: str) -> None:
        """Rename without overwriting. See `Driver.move`."""
        return self._call_with("move", (src, dst), lambda: self._driver.move(src, dst))

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete objects; all keys are taken at once. See `Driver.delete`."""
        wanted = tuple(keys)
        return self._iterate_with("delete", wanted, lambda: self._delete(wanted))

    def _delete(self, keys: tuple[str, ...]) -> Iterator[Deleted]:
        refused = {key: refusal for key in keys for refusal in self._refusals.firing("delete", (key,))}
        for key, refusal in refused.items():
            yield Deleted(key, "failed", refusal.reason, refusal.retryable)
        yield from self._driver.delete([key for key in keys if key not in refused])


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    retryable: bool


@dataclass(slots=True)
class _Rule(Generic[T]):
    action: T
    operation: str
    key: str
    nth: int
    times: int | None
    seen: int = 0

    def fires(self, operation: str, keys: tuple[str, ...]) -> bool:
        if not fnmatchcase(operation, self.operation) or not any(fnmatchcase(key, self.key) for key in keys):
            return False
        self.seen += 1
        return self.nth <= self.seen and (self.times is None or self.seen < self.nth + self.times)


class _Rules(Generic[T]):
    """Rules that count the calls that match them, from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule[T]] = []
        self.fired = 0

    def add(self, action: T, operation: str, key: str, nth: int, times: int | None) -> None:
        with self._lock:
            self._rules.append(_Rule(action, operation, key, nth, times))

    def firing(self, operation: str, keys: tuple[str, ...]) -> list[T]:
        """Count a call, and return the actions to take in it, the innermost first."""
        with self._lock:
            actions = [rule.action for rule in reversed(self._rules) if rule.fires(operation, keys)]
            self.fired += len(actions)
        return actions

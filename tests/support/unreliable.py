"""A storage on a bad day."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

from regstore_drivers.base import Driver
from regstore_drivers.errors import ShortRead, Unavailable
from regstore_drivers.wrappers._forwarding import Forwarding


class Unreliable(Forwarding):
    """Fails three calls in ten as object stores do: busy, or in the midst of a body."""

    def __init__(self, driver: Driver, dice: random.Random) -> None:
        super().__init__(driver)
        self._dice = dice
        self.failed = 0

    def _call(self, operation: str, key: str, call: Callable[[], Any]) -> Any:
        if self._dice.random() < 0.3:
            self.failed += 1
            raise Unavailable("busy", operation=operation, key=key)
        return call()

    def _iterate(self, operation: str, key: str, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        for number, item in enumerate(call()):
            if self._dice.random() < 0.02:
                self.failed += 1
                raise Unavailable("busy", operation=operation, key=f"{key} {number}")
            yield item

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Any:
        stream = super().open(key, offset, length)
        if self._dice.random() < 0.3:
            self.failed += 1
            return io.BufferedReader(_Cut(stream.read(), key))
        return stream


class _Cut(io.RawIOBase):
    """A body that breaks off in its midst."""

    def __init__(self, data: bytes, key: str) -> None:
        self._left = io.BytesIO(data[: len(data) // 2])
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._left.readinto(buffer)
        if not count:
            raise ShortRead("the body broke off", operation="read", key=self._key)
        return count

"""What the parts of the suite share: the fixtures, the flags, and how an object is put and looked at."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from regstore_drivers.base import Driver, Entry, ReadDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore_drivers.errors import DriverError

INVALID_KEYS = ("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "./a", "a\0b")
"""Keys that no driver may take."""

INVALID_PREFIXES = ("/", "/a", "a//b", "../a", "a/../b", "./a", "a/./", "a\0b/")
"""Prefixes that no driver may take."""

SIBLINGS = (
    "r/v",
    "r/v1-alpine/link",
    "r/v1.2/link",
    "r/v1/current/link",
    "r/v1/link",
    "r/v10/link",
    "r/v1\N{LATIN SMALL LETTER E WITH ACUTE}",
    "r/v1\N{REPLACEMENT CHARACTER}",
    "r/v1\N{GRINNING FACE}",
    "s",
)
"""Keys in byte order; sorted by component, or as UTF-16, they come in another one."""

UNUSUAL_KEYS = (
    "space in/the middle",
    "plus+and%20percent/100%",
    "question?/hash#/amp&=;",
    "quote'\"/back\\slash",
    "colon:/at@/tilde~/star*",
    ".hidden/..twodots/three...",
    "\N{LATIN SMALL LETTER E WITH ACUTE}/e\N{COMBINING ACUTE ACCENT}",
    "\N{CYRILLIC SMALL LETTER ZHE}/\N{CJK UNIFIED IDEOGRAPH-6F22}/\N{GRINNING FACE}",
    "long/" + 200 * "n",
    "deep/" + "/".join("abcdefghijklmnopqrst"),
)
"""Keys that a driver may get wrong by quoting or normalizing."""


class Basis:
    """The fixtures and flags of the suite. A flag says what the storage can, where the contract leaves it open.

    Attributes:
        key_may_be_directory: a key may be an object and the directory of other objects at the same time.
        tells_absent: deletions tell a key that was not there from one that was.
        copies_keep_mtime: copies and moved objects have the time of the original.
        has_conditional_copies: a server copies a source only as long as it has the entity tag that was named.
        has_atomic_if_absent: of several writers with `if_absent` at the same time exactly one succeeds.
        has_atomic_move: of several moves of one object, or to one key, at the same time exactly one succeeds.
        time_slack_seconds: how far the times of entries may be from those of this machine.
        many_keys: how many objects make listings and deletions take more than one page.
    """

    key_may_be_directory = True
    tells_absent = True
    copies_keep_mtime = True
    has_conditional_copies = True
    has_atomic_if_absent = True
    has_atomic_move = True
    time_slack_seconds = 2.0
    many_keys = 1100

    @pytest.fixture
    def driver(self) -> ReadDriver:
        """The driver under test, over empty storage."""
        raise NotImplementedError("the subclass provides the fixture `driver`")


class ReadBasis(Basis):
    """What tests of reading need: a way to put what is to be read."""

    @pytest.fixture
    def store(self, driver: ReadDriver) -> Driver:
        """The driver that puts the objects: the one under test, unless that cannot write."""
        assert isinstance(driver, Driver)
        return driver


class WriteBasis(Basis):
    """What tests of writing need."""


def put(driver: Driver, *keys: str, content: bytes = b"content") -> None:
    """Store the same content under each key."""
    for key in keys:
        driver.write(key, content, len(content))


def contents(driver: ReadDriver, prefix: str = "") -> dict[str, bytes]:
    """Return every object below a prefix with its content, in the order of the listing."""
    return {entry.key: driver.read(entry.key) for entry in driver.list(prefix)}


def keys_of(entries: Iterator[Entry]) -> list[str]:
    """Return the keys of a listing."""
    return [entry.key for entry in entries]


@contextmanager
def raises(kind: type[DriverError], driver: ReadDriver, operation: str, key: str) -> Iterator[None]:
    """Expect an error of exactly this class that names the driver, the operation and the key."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.operation == operation
    assert caught.value.key == key
    assert caught.value.location == driver.location
    assert caught.value.reason

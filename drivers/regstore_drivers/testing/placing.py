"""copy and move."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import pytest

from regstore_drivers.base import Entry, HasServerCopy
from regstore_drivers.errors import AlreadyExists, DriverError, InvalidKey, NotFound
from regstore_drivers.testing.basis import INVALID_KEYS, UNUSUAL_KEYS, WriteBasis, contents, put, raises
from regstore_drivers.testing.reading import LARGE

if TYPE_CHECKING:
    from regstore_drivers.base import Driver


class Copying(WriteBasis):
    """copy."""

    @pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
    def test_copy_makes_a_second_object(self, driver: Driver, content: bytes) -> None:
        put(driver, "a/b", content=content)
        entry = driver.copy("a/b", "c/d/e")
        assert (entry.key, entry.size) == ("c/d/e", len(content))
        assert entry.etag == driver.stat("c/d/e").etag
        assert contents(driver) == {"a/b": content, "c/d/e": content}
        put(driver, "a/b", content=b"other")
        assert driver.read("c/d/e") == content

    def test_copy_replaces(self, driver: Driver) -> None:
        put(driver, "a", content=b"new")
        put(driver, "b", content=LARGE)
        assert driver.copy("a", "b").size == 3
        assert contents(driver) == {"a": b"new", "b": b"new"}

    def test_copy_keeps_the_time(self, driver: Driver) -> None:
        original = driver.write("a", b"", 0)
        copied = driver.copy("a", "b")
        if self.copies_keep_mtime:
            assert copied.mtime == original.mtime
        assert time.time() - copied.newest <= self.time_slack_seconds

    def test_what_is_no_object_is_not_copied(self, driver: Driver) -> None:
        put(driver, "a/b", "c")
        for src in ("missing", "x/y", "a", "a/b/below"):
            for dst in ("new/d", "c"):
                with raises(NotFound, driver, "copy", src):
                    driver.copy(src, dst)
        assert [*contents(driver)] == ["a/b", "c"]

    def test_an_invalid_key_is_not_copied(self, driver: Driver) -> None:
        put(driver, "a")
        for key in INVALID_KEYS:
            with raises(InvalidKey, driver, "copy", key):
                driver.copy(key, "b")
            with raises(InvalidKey, driver, "copy", key):
                driver.copy("a", key)
        assert [*contents(driver)] == ["a"]

    def test_unusual_keys_are_copied_and_moved(self, driver: Driver) -> None:
        for key in UNUSUAL_KEYS:
            put(driver, key, content=key.encode())
            driver.copy(key, f"copied/{key}")
            driver.move(key, f"moved/{key}")
        expected = {f"{place}/{key}": key.encode() for place in ("copied", "moved") for key in UNUSUAL_KEYS}
        assert contents(driver) == expected


class Moving(WriteBasis):
    """move."""

    @pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
    def test_move_gives_an_object_another_key(self, driver: Driver, content: bytes) -> None:
        put(driver, "a/b", content=content)
        driver.move("a/b", "c/d/e")
        assert contents(driver) == {"c/d/e": content}
        driver.move("c/d/e", "a/b")
        assert contents(driver) == {"a/b": content}

    def test_move_keeps_the_time(self, driver: Driver) -> None:
        original = driver.write("a", b"", 0)
        driver.move("a", "b")
        moved = driver.stat("b")
        if self.copies_keep_mtime:
            assert moved.mtime == original.mtime
        assert moved.newest >= original.newest

    @pytest.mark.parametrize("content", [b"same", b"other"])
    def test_move_never_overwrites(self, driver: Driver, content: bytes) -> None:
        put(driver, "a", content=b"same")
        put(driver, "b", content=content)
        with raises(AlreadyExists, driver, "move", "b"):
            driver.move("a", "b")
        with pytest.raises(FileExistsError):
            driver.move("a", "a")
        assert contents(driver) == {"a": b"same", "b": content}

    def test_what_is_no_object_is_not_moved(self, driver: Driver) -> None:
        put(driver, "a/b", "c")
        for src in ("missing", "x/y", "a", "a/b/below"):
            for dst in ("new/d", "c"):
                with raises(NotFound, driver, "move", src):
                    driver.move(src, dst)
        assert [*contents(driver)] == ["a/b", "c"]

    def test_an_invalid_key_is_not_moved(self, driver: Driver) -> None:
        put(driver, "a")
        for key in INVALID_KEYS:
            with raises(InvalidKey, driver, "move", key):
                driver.move(key, "b")
            with raises(InvalidKey, driver, "move", key):
                driver.move("a", key)
        assert [*contents(driver)] == ["a"]


class ServerCopying(WriteBasis):
    """The optional power of copying from another store on the server, of a driver that has it.

    The other store is its own: that is on the same server in any case.
    """

    @pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
    def test_the_server_copies_and_tells_only_the_truth(self, driver: Driver, content: bytes) -> None:
        if not isinstance(driver, HasServerCopy):
            return
        put(driver, "a/b", content=content)
        assert driver.is_same_server(driver.location)
        told = driver.copy_from(driver.stat("a/b"), driver.location, "c/d")
        assert told in (None, f"sha256:{hashlib.sha256(content).hexdigest()}")
        assert contents(driver) == {"a/b": content, "c/d": content}

    def test_what_is_elsewhere_is_not_on_the_server(self, driver: Driver) -> None:
        if isinstance(driver, HasServerCopy):
            assert not driver.is_same_server("file:///srv/registry")
            assert not driver.is_same_server("no location")

    def test_what_changed_or_is_not_there_is_not_copied(self, driver: Driver) -> None:
        if not isinstance(driver, HasServerCopy):
            return
        put(driver, "a", content=b"former")
        former = driver.stat("a")
        put(driver, "a", content=b"latter")
        if self.has_conditional_copies:
            with raises(DriverError, driver, "copy_from", "b"):
                driver.copy_from(former, driver.location, "b")
        with raises(NotFound, driver, "copy_from", "b"):
            driver.copy_from(Entry("missing", 1, 0.0), driver.location, "b")
        assert [*contents(driver)] == ["a"]

    def test_what_the_server_can_is_found_out_without_a_trace(self, driver: Driver) -> None:
        if not isinstance(driver, HasServerCopy):
            return
        put(driver, "a")
        features = driver.probe_copies(driver.stat("a"), driver.location, "probes/")
        assert bool(features.refusal) is not features.has_copies
        assert [*contents(driver)] == ["a"]
        if features.has_copies:
            told = driver.copy_from(driver.stat("a"), driver.location, "b")
            assert (told is not None) is features.has_checksums
        missing = driver.probe_copies(Entry("missing", 1, 0.0), driver.location, "probes/")
        assert not missing.has_copies

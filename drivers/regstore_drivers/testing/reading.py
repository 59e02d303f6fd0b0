"""The reading half of the contract."""

from __future__ import annotations

import hashlib
import time

import pytest

from regstore_drivers.base import (
    Driver,
    HasCapacity,
    HasClock,
    HasLocalPath,
    HasMultipart,
    HasSmallListing,
    HasStoredChecksum,
    HasVersions,
    ReadDriver,
)
from regstore_drivers.errors import DriverError, InvalidKey, NotFound, TooLarge
from regstore_drivers.testing.basis import (
    INVALID_KEYS,
    INVALID_PREFIXES,
    SIBLINGS,
    UNUSUAL_KEYS,
    ReadBasis,
    keys_of,
    put,
    raises,
)

_MIB = 1024 * 1024
_PATTERN = bytes(range(251)) * (5 * _MIB // 251 + 1)
LARGE = _PATTERN[: 5 * _MIB]
"""Five MiB that are nowhere the same as a power of two before."""


class Describing(ReadBasis):
    """location, stat and read."""

    def test_location_is_a_url_of_the_scheme(self, driver: ReadDriver) -> None:
        assert driver.location.startswith(f"{driver.scheme}://")
        assert "@" not in driver.location

    def test_stat_describes_an_object(self, driver: ReadDriver, store: Driver) -> None:
        before = time.time()
        put(store, "a/b", content=b"12345")
        entry = driver.stat("a/b")
        slack = self.time_slack_seconds
        assert (entry.key, entry.size) == ("a/b", 5)
        assert before - slack <= entry.mtime <= time.time() + slack
        assert before - slack <= entry.ctime <= time.time() + slack

    def test_stat_of_an_empty_object(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "empty", content=b"")
        assert driver.stat("empty").size == 0

    @pytest.mark.parametrize("operation", ["stat", "read", "open"])
    def test_what_is_no_object_is_not_found(self, driver: ReadDriver, store: Driver, operation: str) -> None:
        put(store, "a/b")
        for key in ("missing", "a/missing", "a", "a/b/below", "missing/x/y"):
            with raises(NotFound, driver, operation, key):
                getattr(driver, operation)(key)
            with pytest.raises(FileNotFoundError):
                getattr(driver, operation)(key)

    @pytest.mark.parametrize("operation", ["stat", "read", "open"])
    def test_an_invalid_key_is_refused(self, driver: ReadDriver, operation: str) -> None:
        for key in INVALID_KEYS:
            with raises(InvalidKey, driver, operation, key):
                getattr(driver, operation)(key)

    @pytest.mark.parametrize("content", [b"", b"x", b"\0\r\n\xff", LARGE], ids=["empty", "byte", "binary", "large"])
    def test_read_returns_the_content(self, driver: ReadDriver, store: Driver, content: bytes) -> None:
        put(store, "a", content=content)
        assert driver.read("a") == content

    @pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3 * _MIB])
    def test_read_takes_as_much_as_the_limit_and_no_more(self, driver: ReadDriver, store: Driver, size: int) -> None:
        put(store, "a", content=LARGE[:size])
        assert driver.read("a", limit=size) == LARGE[:size]
        if size:
            with raises(TooLarge, driver, "read", "a"):
                driver.read("a", limit=size - 1)

    @pytest.mark.parametrize("key", UNUSUAL_KEYS)
    def test_unusual_keys_are_taken_literally(self, driver: ReadDriver, store: Driver, key: str) -> None:
        put(store, key, content=key.encode())
        assert driver.read(key) == key.encode()
        assert driver.stat(key).key == key
        assert keys_of(driver.list("")) == [key]
        assert keys_of(driver.list(key)) == [key]
        directory, slash, name = key.rpartition("/")
        assert [*driver.list_dir(directory + slash)] == [name]


class Listing(ReadBasis):
    """list and list_dir."""

    def test_nothing_is_listed_where_nothing_is(self, driver: ReadDriver, store: Driver) -> None:
        assert [*driver.list("")] == []
        assert [*driver.list("a/")] == []
        assert [*driver.list_dir("")] == []
        assert [*driver.list_dir("a/")] == []
        put(store, "a/b")
        assert [*driver.list("a/b/")] == []
        assert [*driver.list("b/c/")] == []
        assert [*driver.list_dir("a/b/")] == []
        assert [*driver.list_dir("b/c/")] == []

    def test_list_is_in_byte_order_of_the_whole_key(self, driver: ReadDriver, store: Driver) -> None:
        put(store, *reversed(SIBLINGS))
        assert keys_of(driver.list("")) == [*SIBLINGS]
        assert keys_of(driver.list("r/")) == [*SIBLINGS[:-1]]

    def test_a_prefix_need_not_end_at_a_slash(self, driver: ReadDriver, store: Driver) -> None:
        put(store, *SIBLINGS)
        for prefix in ("r", "r/v1", "r/v1-", "r/v1.", "r/v1/", "r/v1/c", "r/v10", "r/v10/link", "r/v10/linked", "t"):
            assert keys_of(driver.list(prefix)) == [key for key in SIBLINGS if key.startswith(prefix)]

    def test_list_goes_on_after_any_key(self, driver: ReadDriver, store: Driver) -> None:
        put(store, *SIBLINGS)
        starts = [*SIBLINGS, "a", "r/", "r/v1", "r/v1-", "r/v1/", "r/v1/d", "r/v1/link/", "r/v1/zz", "r/w", "r0", "z"]
        for prefix in ("", "r/", "r/v1", "r/v1/"):
            for start in starts:
                expected = [key for key in SIBLINGS if key.startswith(prefix) and key.encode() > start.encode()]
                assert keys_of(driver.list(prefix, start)) == expected, (prefix, start)
                assert keys_of(driver.list(prefix, start_after=start)) == expected, (prefix, start)

    def test_list_and_stat_tell_the_same(self, driver: ReadDriver, store: Driver) -> None:
        for size, key in enumerate(SIBLINGS):
            put(store, key, content=size * b"x")
        for size, entry in enumerate(driver.list("")):
            described = driver.stat(entry.key)
            assert entry.size == described.size == size
            assert entry.etag == described.etag
            assert entry.mtime == pytest.approx(described.mtime, abs=1)
            assert entry.ctime == pytest.approx(described.ctime, abs=1)

    def test_list_gives_an_iterator(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", "b")
        listing = driver.list("")
        assert next(listing).key == "a"
        assert keys_of(listing) == ["b"]
        assert next(driver.list_dir("")) == "a"

    def test_list_has_more_than_a_page(self, driver: ReadDriver, store: Driver) -> None:
        keys = [f"many/{number // 100:02}/{number:06}" for number in range(self.many_keys)]
        put(store, *keys, content=b"")
        assert keys_of(driver.list("many/")) == keys
        if isinstance(driver, HasSmallListing):
            assert driver.list_small("many/") in (None, [*driver.list("many/")])
        assert keys_of(driver.list("many/", keys[self.many_keys // 2])) == keys[self.many_keys // 2 + 1 :]
        assert [*driver.list_dir("many/")] == [f"{number:02}/" for number in range((self.many_keys + 99) // 100)]

    def test_a_small_listing_is_the_whole_one(self, driver: ReadDriver, store: Driver) -> None:
        if not isinstance(driver, HasSmallListing):
            return
        assert driver.list_small("") == []
        put(store, *reversed(SIBLINGS))
        for prefix in ("", "r", "r/", "r/v1", "r/v1/", "t", "x"):
            assert driver.list_small(prefix) == [*driver.list(prefix)]
        for prefix in INVALID_PREFIXES:
            with raises(InvalidKey, driver, "list_small", prefix):
                driver.list_small(prefix)

    def test_list_dir_is_in_byte_order_of_the_name_with_its_slash(self, driver: ReadDriver, store: Driver) -> None:
        put(store, *SIBLINGS)
        assert [*driver.list_dir("")] == ["r/", "s"]
        names = ["v", "v1-alpine/", "v1.2/", "v1/", "v10/"]
        assert [*driver.list_dir("r/")] == [*names, *(key.removeprefix("r/") for key in SIBLINGS[-4:-1])]
        assert [*driver.list_dir("r/v1/")] == ["current/", "link"]

    def test_a_key_may_be_object_and_directory(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a/v1", "a/v1-x")
        if self.key_may_be_directory:
            put(store, "a/v1/link", content=b"below")
            assert keys_of(driver.list("")) == ["a/v1", "a/v1-x", "a/v1/link"]
            assert [*driver.list_dir("a/")] == ["v1", "v1-x", "v1/"]
            assert driver.read("a/v1/link") == b"below"
        else:
            with pytest.raises(DriverError):
                put(store, "a/v1/link")
            with pytest.raises(DriverError):
                put(store, "a")
            assert keys_of(driver.list("")) == ["a/v1", "a/v1-x"]
        assert driver.read("a/v1") == b"content"

    def test_an_invalid_prefix_is_refused(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a/b")
        for prefix in INVALID_PREFIXES:
            with raises(InvalidKey, driver, "list", prefix):
                list(driver.list(prefix))
            if prefix.endswith("/"):
                with raises(InvalidKey, driver, "list_dir", prefix):
                    list(driver.list_dir(prefix))


class Streaming(ReadBasis):
    """open."""

    def test_open_gives_the_range(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", content=b"0123456789")
        for offset in range(11):
            for length in (None, *range(11 - offset)):
                with driver.open("a", offset, length) as stream:
                    assert stream.read() == b"0123456789"[offset : None if length is None else offset + length]
                    assert stream.read() == b""
                    assert stream.read(1) == b""

    def test_a_range_outside_is_refused(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", content=b"0123456789")
        for offset, length in ((11, None), (11, 0), (0, 11), (5, 6), (10, 1), (-1, None), (5, -1)):
            with raises(DriverError, driver, "open", "a"):
                driver.open("a", offset, length)

    def test_an_empty_object_has_an_empty_stream(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", content=b"")
        for length in (None, 0):
            with driver.open("a", 0, length) as stream:
                assert stream.read(10) == b""

    def test_a_large_object_comes_in_pieces(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", content=LARGE)
        with driver.open("a") as stream:
            assert stream.read(10) == LARGE[:10]
            assert stream.read(_MIB) == LARGE[10 : _MIB + 10]
            assert stream.read() == LARGE[_MIB + 10 :]
        with driver.open("a", 2 * _MIB, 2 * _MIB) as stream:
            pieces = [*iter(lambda: stream.read(300_000), b"")]
        assert [len(piece) for piece in pieces[:-1]] == [300_000] * 6
        assert b"".join(pieces) == LARGE[2 * _MIB : 4 * _MIB]

    def test_a_stream_can_be_closed_before_its_end(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a", content=LARGE)
        for _ in range(20):
            stream = driver.open("a")
            assert stream.read(1) == LARGE[:1]
            stream.close()
            stream.close()
            assert stream.closed
        assert driver.read("a") == LARGE


class ReadPowers(ReadBasis):
    """The optional powers, of a driver that has them."""

    def test_powers_tell_the_truth(self, driver: ReadDriver, store: Driver) -> None:
        put(store, "a/b", content=LARGE)
        if isinstance(driver, HasCapacity):
            capacity = driver.capacity()
            assert capacity.total_bytes is None or 0 <= (capacity.free_bytes or 0) <= capacity.total_bytes
        if isinstance(driver, HasClock):
            assert driver.now() == pytest.approx(time.time(), abs=self.time_slack_seconds)
        if isinstance(driver, HasLocalPath):
            with open(driver.local_path("a/b"), "rb") as file:
                assert file.read() == LARGE
        if isinstance(driver, HasMultipart):
            assert [*driver.list_multipart("")] == []
        if isinstance(driver, HasStoredChecksum):
            assert driver.stored_checksum("a/b") in (None, f"sha256:{hashlib.sha256(LARGE).hexdigest()}")
        if isinstance(driver, HasVersions):
            assert driver.is_versioned() in (True, False)

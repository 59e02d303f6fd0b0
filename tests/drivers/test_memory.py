"""What the memory driver has beyond the contract."""

from __future__ import annotations

import hashlib

import pytest

from regstore_drivers.base import Entry
from regstore_drivers.memory import MemoryDriver, from_url
from regstore_drivers.url import UnknownScheme, open_driver
from support.fake_time import FakeTime


def test_times_are_those_of_the_clock() -> None:
    time = FakeTime(100.0)
    driver = MemoryDriver(clock=time.clock)
    etag = hashlib.md5(b"x").hexdigest()
    assert driver.write("a", b"x", 1) == Entry("a", 1, 100.0, etag, None, 100.0)
    time.pass_by(5)
    assert driver.copy("a", "b") == Entry("b", 1, 100.0, etag, None, 105.0)
    time.pass_by(5)
    driver.move("b", "c")
    assert driver.stat("c") == Entry("c", 1, 100.0, etag, None, 110.0)
    assert driver.now() == 110.0


def test_a_stream_shows_the_object_that_was_opened() -> None:
    driver = MemoryDriver()
    driver.write("a", b"former", 6)
    with driver.open("a") as stream:
        driver.write("a", b"new", 3)
        assert stream.read() == b"former"


def test_a_listing_goes_on_while_objects_come_and_go() -> None:
    driver = MemoryDriver()
    keys = [f"{number:05}" for number in range(3000)]
    for key in keys:
        driver.write(key, b"", 0)
    listing = driver.list("")
    found = [next(listing).key]
    assert len([*driver.delete(keys[:2500])]) == 2500
    driver.write("99999", b"", 0)
    found += [entry.key for entry in listing]
    assert found == [*keys[:1000], *keys[2500:], "99999"]


def test_uploads_are_listed_until_they_are_aborted() -> None:
    time = FakeTime(100.0)
    driver = MemoryDriver(clock=time.clock)
    second = driver.begin_multipart("b/x", size=7)
    first = driver.begin_multipart("a/x", initiated=1.5)
    third = driver.begin_multipart("b/x")
    assert (second.initiated, second.size, first.initiated, first.size) == (100.0, 7, 1.5, None)
    assert [*driver.list_multipart("")] == [first, second, third]
    assert [*driver.list_multipart("b/")] == [second, third]
    assert driver.abort_multipart(second)
    assert not driver.abort_multipart(second)
    assert [*driver.list_multipart("b/")] == [third]
    assert [*driver.list("")] == []


def test_a_url_names_one_driver_for_all() -> None:
    driver = from_url("memory://test-shared")
    assert driver.location == "memory://test-shared"
    driver.write("a", b"x", 1)
    assert open_driver("memory://test-shared") is driver
    assert [*from_url("memory://test-other").list("")] == []


@pytest.mark.parametrize("url", ["memory://", "memory:name", "memory://name/x", "memory://name?x=1", "file:///name"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="memory://NAME"):
        from_url(url)


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(UnknownScheme, match="file, memory, s3"):
        open_driver("gopher://hole")

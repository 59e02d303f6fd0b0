"""Storing one object: all of it or nothing."""

from __future__ import annotations

import hashlib
import io
import time
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from regstore_drivers.errors import AlreadyExists, DigestMismatch, InvalidKey
from regstore_drivers.testing.basis import INVALID_KEYS, WriteBasis, contents, put, raises
from regstore_drivers.testing.reading import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore_drivers.base import Driver


class Writing(WriteBasis):
    """write."""

    def test_write_describes_what_it_stored(self, driver: Driver) -> None:
        before = time.time()
        entry = driver.write("a/b", b"12345", 5)
        described = driver.stat("a/b")
        slack = self.time_slack_seconds
        assert (entry.key, entry.size, entry.etag, entry.version) == ("a/b", 5, described.etag, described.version)
        assert entry.mtime == pytest.approx(described.mtime, abs=1)
        assert before - slack <= entry.newest <= time.time() + slack

    @pytest.mark.parametrize("content", [b"", b"x", LARGE], ids=["empty", "byte", "large"])
    @pytest.mark.parametrize("algorithm", [None, "sha256", "sha512"])
    def test_write_stores_bytes_and_streams(self, driver: Driver, content: bytes, algorithm: str | None) -> None:
        digest = algorithm and f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        driver.write("bytes", content, len(content), digest)
        driver.write("stream", lambda: io.BytesIO(content), len(content), digest)
        driver.write("trickle", lambda: _trickle(content), len(content), digest)
        assert contents(driver) == {"bytes": content, "stream": content, "trickle": content}

    def test_write_closes_the_stream(self, driver: Driver) -> None:
        opened: list[BinaryIO] = []

        def source() -> BinaryIO:
            opened.append(io.BytesIO(b"12345"))
            return opened[-1]

        driver.write("a", source, 5)
        with pytest.raises(DigestMismatch):
            driver.write("a", source, 6)
        assert opened
        assert all(stream.closed for stream in opened)

    def test_write_replaces(self, driver: Driver) -> None:
        put(driver, "a", content=LARGE)
        put(driver, "a", content=b"new")
        assert contents(driver) == {"a": b"new"}
        assert driver.stat("a").size == 3

    @pytest.mark.parametrize(
        ("content", "size", "digest"),
        [
            (b"12345", 4, None),
            (b"12345", 6, None),
            (b"12345", 0, None),
            (b"", 1, None),
            (b"12345", 5, f"sha256:{64 * '0'}"),
            (b"12345", 4, f"sha256:{hashlib.sha256(b'12345').hexdigest()}"),
            (b"", 0, f"sha256:{64 * '0'}"),
            (LARGE[:1_500_000], 1_499_999, None),
            (LARGE[:1_500_000], 1_500_001, None),
            (LARGE, len(LARGE), f"sha512:{128 * '0'}"),
        ],
    )
    def test_other_bytes_than_promised_change_nothing(
        self, driver: Driver, content: bytes, size: int, digest: str | None
    ) -> None:
        put(driver, "a/former", content=b"former")
        for source in (content, lambda: io.BytesIO(content), lambda: _trickle(content)):
            for key in ("a/former", "a/new"):
                with raises(DigestMismatch, driver, "write", key):
                    driver.write(key, source, size, digest)
            with raises(DigestMismatch, driver, "write", "a/new"):
                driver.write("a/new", source, size, digest, if_absent=True)
            with pytest.raises((DigestMismatch, AlreadyExists)):
                driver.write("a/former", source, size, digest, if_absent=True)
        assert contents(driver) == {"a/former": b"former"}
        assert [*driver.list_dir("a/")] == ["former"]

    @pytest.mark.parametrize("former", [None, b"former"], ids=["new", "replacing"])
    def test_a_failing_source_changes_nothing(self, driver: Driver, former: bytes | None) -> None:
        if former is not None:
            put(driver, "a/b", content=former)
        sources: list[Callable[[], BinaryIO]] = [_fail_to_open, lambda: cast("BinaryIO", _Failing())]
        for source in sources:
            with pytest.raises(_SourceError):
                driver.write("a/b", source, len(LARGE))
        assert contents(driver) == ({} if former is None else {"a/b": former})
        assert [*driver.list_dir("a/")] == ([] if former is None else ["b"])

    def test_if_absent_writes_what_is_not_there(self, driver: Driver) -> None:
        assert driver.write("a/b", b"12345", 5, if_absent=True).size == 5
        assert contents(driver) == {"a/b": b"12345"}

    def test_if_absent_leaves_what_is_there(self, driver: Driver) -> None:
        put(driver, "a/b")
        for content in (b"other", b"content"):
            with raises(AlreadyExists, driver, "write", "a/b"):
                driver.write("a/b", content, len(content), if_absent=True)
        with pytest.raises(FileExistsError):
            driver.write("a/b", lambda: io.BytesIO(LARGE), len(LARGE), if_absent=True)
        assert contents(driver) == {"a/b": b"content"}
        assert [*driver.list_dir("a/")] == ["b"]

    def test_an_invalid_key_is_not_written(self, driver: Driver) -> None:
        for key in INVALID_KEYS:
            with raises(InvalidKey, driver, "write", key):
                driver.write(key, b"", 0)
        assert contents(driver) == {}


class _Trickle(io.RawIOBase):
    """Gives fewer bytes than asked for, as a socket does."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view, view[:70_001] as part:
            return self._stream.readinto(part)


def _trickle(content: bytes) -> BinaryIO:
    return cast("BinaryIO", _Trickle(content))


class _SourceError(FileNotFoundError):
    """What a source raises; a driver must not take it for one of its own."""


class _Failing(io.RawIOBase):
    """Gives some bytes and then fails."""

    def __init__(self) -> None:
        self._left = 2

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._left:
            raise _SourceError
        self._left -= 1
        with memoryview(buffer) as view:
            view[:] = bytes(len(view))
            return len(view)


def _fail_to_open() -> BinaryIO:
    raise _SourceError

"""A registry's tree that is being written: data, then links, each durable before what points at it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.registry.scan import expected_link
from regstore.work import map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import Attributes, BulkWriter
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.transfer.contents import Contents
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver

_BATCH_COUNT = 20_000
_PART_COUNT = 64


class Link(NamedTuple):
    """A small object that is to be there: its key, what it holds, and the time that it shall show."""

    key: str
    content: bytes
    mtime_ns: int | None = None


class TreeTarget:
    """Where a registry's tree is written.

    Args:
        driver: at the registry's root.
        attributes: owner and modes of new files and directories, on a file system.
        jobs: links at once.
        progress, cancel: told and asked.
    """

    def __init__(self, driver: Driver, attributes: Attributes, jobs: int, progress: Progress, cancel: Cancel) -> None:
        self._driver = driver
        self._jobs = jobs
        self._progress = progress
        self._cancel = cancel
        self._lock = threading.Lock()
        self.writer: Driver | BulkWriter = driver
        """What blobs are written with."""
        if isinstance(driver, HasLocalPath):
            self.writer = BulkWriter(driver.local_path(""), attributes)

    @contextmanager
    def durably(self) -> Iterator[None]:
        """Make what is written in the block durable at its end; what has no name when it fails is removed."""
        try:
            yield
            if isinstance(self.writer, BulkWriter):
                self.writer.sync()
        finally:
            if isinstance(self.writer, BulkWriter):
                self.writer.discard()

    def write_links(self, links: Iterable[Link], *, is_new: bool) -> int:
        """Write links, durably, and return how many.

        Args:
            links: taken lazily.
            is_new: whether there can be none of them yet; else one that holds what it shall is left as it is.

        Raises:
            DriverError: the target failed.
            InterruptedRunError: somebody asked to stop.
        """
        count = 0
        remaining = iter(links)
        with self.durably():
            while batch := list(islice(remaining, _BATCH_COUNT)):
                parts = [batch[start : start + _PART_COUNT] for start in range(0, len(batch), _PART_COUNT)]
                for written in map_bounded(lambda part: self._write_all(part, is_new), parts, self._jobs):
                    count += written
                if isinstance(self.writer, BulkWriter):
                    self.writer.flush()
        return count

    def write_tags(self, contents: Iterable[Contents], *, is_new: bool) -> int:
        """Write tags with their indexes, durably, and return how many links that were.

        A registry lists a tag for each directory: a new tag gets its own in one go, with what it means in it. In an
        object store what it means is written first; a tag that is there already is moved last.

        Args:
            contents: repositories, taken lazily.
            is_new: see `write_links`.

        Raises:
            DriverError: the target failed.
            InterruptedRunError: somebody asked to stop.
        """
        count = 0
        remaining = iter((one, tag) for one in contents for tag in one.indexes.keys() | one.tags.keys())
        with self.durably():
            while batch := list(islice(remaining, _BATCH_COUNT)):
                parts = [batch[start : start + _PART_COUNT] for start in range(0, len(batch), _PART_COUNT)]
                for written in map_bounded(lambda part: self._write_tags(part, is_new), parts, self._jobs):
                    count += written
                if isinstance(self.writer, BulkWriter):
                    self.writer.flush()
        return count

    def _write_tags(self, tags: list[tuple[Contents, str]], is_new: bool) -> int:
        return sum(self._write_tag(contents, tag, is_new) for contents, tag in tags)

    def _write_tag(self, contents: Contents, tag: str, is_new: bool) -> int:
        name, meant = contents.name, contents.tags.get(tag)
        indexed = contents.indexes.get(tag, [])
        links = [Link(layout.TagIndexLink(name, tag, digest).key, expected_link(digest)) for digest in indexed]
        if meant is None:
            return self._write_all(links, is_new)
        current = Link(layout.TagLink(name, tag).key, expected_link(meant.digest), meant.pushed_ns or None)
        if not isinstance(self.writer, BulkWriter):
            return self._write_all([current, *links], is_new)
        self._cancel.check()
        place = current.key.removesuffix("/current/link")
        files = [(link.key.removeprefix(f"{place}/"), link.content, link.mtime_ns) for link in (*links, current)]
        if not self.writer.write_directory(place, files, beside=place.removesuffix(f"/tags/{tag}")):
            return self._write_all([*links, current], is_new)
        with self._lock:
            self._progress.advance(len(files))
        return len(files)

    def _write_all(self, links: list[Link], is_new: bool) -> int:
        count = 0
        for link in links:
            self._cancel.check()
            if is_new or not self._holds(link):
                self.writer.write(link.key, link.content, len(link.content), mtime_ns=link.mtime_ns)
                count += 1
        with self._lock:
            self._progress.advance(len(links))
        return count

    def _holds(self, link: Link) -> bool:
        try:
            return self._driver.read(link.key) == link.content
        except NotFound:
            return False

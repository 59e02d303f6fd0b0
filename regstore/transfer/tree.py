"""A registry's tree that is being written: data, then links, each durable before what points at it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from regstore import layout
from regstore.transfer.contents import iter_layer_links, iter_manifest_links, iter_tag_links, link_count
from regstore.work import map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import Attributes, BulkWriter
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.transfer.contents import Contents, Link
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver

_BATCH_COUNT = 40_000
_PART_COUNT = 64
_OBJECT_JOBS = 16
T = TypeVar("T")


class TreeTarget:
    """Where a registry's tree is written.

    Args:
        driver: at the registry's root.
        attributes: owner and modes of new files and directories, on a file system.
        jobs: links at once; None: as many as suit the target.
        progress, cancel: told and asked.
    """

    def __init__(
        self, driver: Driver, attributes: Attributes, jobs: int | None, progress: Progress, cancel: Cancel
    ) -> None:
        self._driver = driver
        self._jobs = jobs or (1 if isinstance(driver, HasLocalPath) else _OBJECT_JOBS)
        self._progress = progress
        self._cancel = cancel
        self._lock = threading.Lock()
        self.writer: Driver | BulkWriter = driver
        """What blobs are written with."""
        if isinstance(driver, HasLocalPath):
            self.writer = BulkWriter(driver.local_path(""), attributes, self._jobs)

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

    def write_repositories(self, contents: Sequence[Contents], *, is_new: bool) -> int:
        """Write links of repositories, and return how many. Each is durable before what points at it: tags come last.

        A registry lists a repository and a tag for each directory, so on a file system those that are new take their
        names with all that is in them. In an object store what a tag means is written before its index.

        Args:
            contents: which links.
            is_new: whether there can be none of them yet; else one that holds what it shall is left as it is.

        Raises:
            DriverError: the target failed.
            InterruptedRunError: somebody asked to stop.
        """
        count = 0
        if isinstance(self.writer, BulkWriter) and self._jobs == 1:
            with self.durably():
                count, contents = self._write_whole(self.writer, contents)
        if not contents:
            return count
        with self.durably():
            links = (link for one in contents for link in chain(iter_layer_links(one), iter_manifest_links(one)))
            count += self._write_in_parts(links, partial(self._write_links, is_new=is_new))
        with self.durably():
            tags = ((one, tag) for one in contents for tag in one.indexes.keys() | one.tags.keys())
            count += self._write_in_parts(tags, partial(self._write_tags, is_new=is_new))
        return count

    def _write_whole(self, writer: BulkWriter, contents: Sequence[Contents]) -> tuple[int, list[Contents]]:
        """Write the repositories that are new, and return how many links that were, and what is left to write.

        Several threads would rather share out the links: one repository may have nearly all of them.
        """
        count = 0
        left: list[Contents] = []
        for batch in _batches(contents):
            layers = [replace(one, revisions=[], signatures={}, tags={}, indexes={}) for one in batch]
            layers_left = self._write_part(writer, "_layers", layers)
            names = {one.name for one in layers_left}
            left += [one for one in batch if one.name in names]
            manifests = [replace(one, layers={}) for one in batch if one.name not in names]
            manifests_left = self._write_part(writer, "_manifests", manifests)
            left += manifests_left
            count += sum(map(link_count, chain(layers, manifests)))
            count -= sum(map(link_count, chain(layers_left, manifests_left)))
        return count, left

    def _write_part(self, writer: BulkWriter, name: str, contents: Iterable[Contents]) -> list[Contents]:
        """Write a directory of each repository, durably, and return those of which there is one already."""
        left = []
        waiting: dict[str, Contents] = {}
        for one in contents:
            if not link_count(one):
                continue
            tags = (iter_tag_links(one, tag) for tag in one.indexes.keys() | one.tags.keys())
            links = chain(iter_layer_links(one), iter_manifest_links(one), chain.from_iterable(tags))
            place = f"{layout.REPOSITORIES}{one.name}"
            key = f"{place}/{name}"
            if writer.write_directory(key, self._files(f"{key}/", links), beside=place):
                waiting[key] = one
            else:
                left.append(one)
        # Whoever pushed there meanwhile keeps what is there; the rest is written link by link.
        return left + [waiting[key] for key in writer.flush(gives_way=True)]

    def _files(self, place: str, links: Iterable[Link]) -> Iterator[tuple[str, bytes, int | None]]:
        remaining = iter(links)
        while part := list(islice(remaining, _PART_COUNT)):
            self._cancel.check()
            for key, content, mtime_ns in part:
                yield key.removeprefix(place), content, mtime_ns
            with self._lock:
                self._progress.advance(len(part))

    def _write_in_parts(self, items: Iterable[T], write: Callable[[list[T]], int]) -> int:
        count = 0
        remaining = iter(items)
        while batch := list(islice(remaining, _BATCH_COUNT)):
            parts = [batch[start : start + _PART_COUNT] for start in range(0, len(batch), _PART_COUNT)]
            count += sum(map_bounded(write, parts, self._jobs))
            if isinstance(self.writer, BulkWriter):
                self.writer.flush()
        return count

    def _write_tags(self, tags: list[tuple[Contents, str]], *, is_new: bool) -> int:
        return sum(self._write_tag(contents, tag, is_new=is_new) for contents, tag in tags)

    def _write_tag(self, contents: Contents, tag: str, *, is_new: bool) -> int:
        links = list(iter_tag_links(contents, tag))
        if tag not in contents.tags:
            return self._write_links(links, is_new=is_new)
        if not isinstance(self.writer, BulkWriter):
            return self._write_links(links[::-1], is_new=is_new)
        place = links[-1].key.removesuffix("/current/link")
        beside = place.removesuffix(f"/tags/{tag}")
        if self.writer.write_directory(place, self._files(f"{place}/", links), beside=beside):
            return len(links)
        return self._write_links(links, is_new=is_new)

    def _write_links(self, links: list[Link], *, is_new: bool) -> int:
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


def _batches(contents: Iterable[Contents]) -> Iterator[list[Contents]]:
    batch: list[Contents] = []
    count = 0
    for one in contents:
        batch.append(one)
        count += link_count(one)
        if count >= _BATCH_COUNT:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch

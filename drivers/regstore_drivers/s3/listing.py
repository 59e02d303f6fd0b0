"""Listing a bucket in byte order, whatever the server's own order is, and never a listing cut short."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from regstore_drivers.base import Entry
from regstore_drivers.errors import DriverError
from regstore_drivers.s3.errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from regstore_drivers.s3.connection import Connection

PAGE_KEYS = 1000
SMALL_KEYS = 100
"""A prefix with more keys is large: to ask for a thousand of them in vain costs a server as much as to list them."""

# Servers whose listings are known to come in byte order of the key. Others sort by path component, by shard, or by the
# locale of a database.
_ORDERED_SERVERS = ("AmazonS3", "MinIO")


class Listing:
    """The requests of one listing.

    Args:
        connection: where to.
        operation: the driver's method, for errors.
        prefix: what is listed, relative to the root.
        root: what stands before every key, empty or with a `/` at its end.
    """

    def __init__(self, connection: Connection, operation: str, prefix: str, root: str) -> None:
        self._connection = connection
        self._operation = operation
        self._prefix = prefix
        self._root = root

    def entries(self, start_after: str) -> Iterator[Entry]:
        """Yield the objects after `start_after` in byte order; keys are relative to the root.

        Page by page where the server lists in this order, which is verified; else the whole listing is read and sorted.

        Raises:
            DriverError: the listing contradicts itself, so that it cannot be believed.
        """
        after = self._root + start_after if start_after else ""
        pages = self._pages(StartAfter=after) if after else self._pages()
        page = next(pages)
        if _is_ordered(page):
            yield from self._in_order(page, pages, after)
            return
        if after:
            # Such a server leaves out what comes before `after` in an order of its own.
            pages = self._pages()
            page = next(pages)
        found = self._objects(page)
        for page in pages:
            found += self._objects(page)
        yield from (entry for entry in self._sorted(found) if entry.key > start_after)

    def small(self) -> list[Entry] | None:
        """Return the objects in byte order, or None where they are more than a hundred.

        Raises:
            DriverError: the listing contradicts itself.
        """
        page = next(self._pages(MaxKeys=SMALL_KEYS))
        return None if page["IsTruncated"] else self._sorted(self._objects(page))

    def names(self) -> Iterator[str]:
        """Yield the names one level below the prefix, in byte order."""
        start = len(self._root) + len(self._prefix)
        names: set[str] = set()
        for page in self._pages(Delimiter="/"):
            names.update(item.key[len(self._prefix) :] for item in self._objects(page))
            for item in page.get("CommonPrefixes", ()):
                self._check_prefix(item["Prefix"])
                names.add(item["Prefix"][start:])
        names.discard("")
        yield from sorted(names)

    def _sorted(self, found: list[Entry]) -> list[Entry]:
        found.sort(key=_key)
        for entry, following in pairwise(found):
            if entry.key == following.key:
                raise self._broken(f"{entry.key!r} came twice")
        return found

    def _in_order(self, page: dict[str, Any] | None, pages: Iterator[dict[str, Any]], after: str) -> Iterator[Entry]:
        previous = after[len(self._root) :]
        while page is not None:
            for entry in self._objects(page):
                if entry.key <= previous:
                    raise self._broken(f"listing out of order: {entry.key!r} came after {previous!r}")
                previous = entry.key
                yield entry
            page = next(pages, None)

    def _pages(self, **more: Any) -> Iterator[dict[str, Any]]:
        parameters: dict[str, Any] = {
            "Bucket": self._connection.options.bucket,
            "Prefix": self._root + self._prefix,
            "MaxKeys": PAGE_KEYS,
            **more,
        }
        while True:
            with translated(self._operation, self._prefix, self._connection.options.location):
                page: dict[str, Any] = dict(self._connection.client.list_objects_v2(**parameters))
            self._check_page(page, parameters)
            yield page
            if not page["IsTruncated"]:
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]
            parameters.pop("StartAfter", None)

    def _check_page(self, page: dict[str, Any], parameters: dict[str, Any]) -> None:
        if "IsTruncated" not in page:
            raise self._broken("the answer is not a listing")
        count = len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ()))
        if page.get("KeyCount", count) != count:
            raise self._broken(f"a page of {page['KeyCount']} keys has {count}")
        # SeaweedFS repeats the prefix as it came, and boto3 takes it for percent-encoded.
        prefix = parameters["Prefix"]
        if page.get("Prefix", prefix) not in (prefix, unquote_plus(prefix)):
            raise self._broken(f"the page is one of {page['Prefix']!r}")
        if page["IsTruncated"]:
            token = page.get("NextContinuationToken")
            if not token:
                raise self._broken("there is more, but the server does not say how to go on")
            if "\ufffd" in token or token == parameters.get("ContinuationToken"):
                raise self._broken("the server does not go on after a page")

    def _objects(self, page: dict[str, Any]) -> list[Entry]:
        entries = []
        for item in page.get("Contents", ()):
            key = item["Key"]
            self._check_prefix(key)
            # A key that ends with a slash marks a directory in some tools; it is no object of a registry.
            if not key.endswith("/"):
                entries.append(self._entry(key[len(self._root) :], item))
        return entries

    def _entry(self, key: str, item: dict[str, Any]) -> Entry:
        if "Size" not in item or "LastModified" not in item:
            raise self._broken(f"{key!r} has no size or no time")
        modified: datetime = item["LastModified"]
        seconds = modified.timestamp()
        return Entry(key, item["Size"], seconds, etag=item.get("ETag", "").strip('"') or None, ctime=seconds)

    def _check_prefix(self, key: str) -> None:
        if not key.startswith(self._root + self._prefix):
            raise self._broken(f"{key!r} does not start with {self._root + self._prefix!r}")

    def _broken(self, reason: str) -> DriverError:
        return DriverError(
            f"the listing cannot be believed: {reason}",
            operation=self._operation,
            key=self._prefix,
            location=self._connection.options.location,
        )


def _is_ordered(page: dict[str, Any]) -> bool:
    server = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("server", "")
    return server.split("/")[0].split(" ")[0] in _ORDERED_SERVERS


def _key(entry: Entry) -> str:
    # Code points sort as their UTF-8 bytes do.
    return entry.key

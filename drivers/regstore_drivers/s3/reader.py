"""The reading half of the S3 driver, and what the driver knows about its bucket."""

from __future__ import annotations

import io
import re
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.base import READ_LIMIT_BYTES, ReadDriver
from regstore_drivers.errors import DriverError, InvalidKey, NotFound, TooLarge, Unreachable
from regstore_drivers.keys import check_key, check_prefix
from regstore_drivers.s3.connection import Connection
from regstore_drivers.s3.entries import entry_of, whole_sha256
from regstore_drivers.s3.errors import answer_of, required, translated
from regstore_drivers.s3.listing import Listing
from regstore_drivers.s3.stream import BUFFER_BYTES, Body

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator

    from regstore_drivers.base import Entry
    from regstore_drivers.s3.fast import Fetched
    from regstore_drivers.s3.options import S3Options
    from regstore_drivers.s3.stream import MakeError

_MTIME = re.compile(r"([0-9]{1,11})(?:\.([0-9]+))?")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Reader(ReadDriver):
    """Objects in a bucket below a prefix, to be read.

    Threads share one boto3 client. Each request is tried up to three times by boto3 itself.

    - Directories do not exist: objects whose key ends with a slash are left out of listings. Some servers (SeaweedFS)
      go on showing a directory in `list_dir` after its last object is gone.
    - Byte order: Amazon and MinIO list in it, which is verified. The listing of any other server is read whole and
      sorted, which needs memory for it, so callers list parts of a large bucket.
    """

    scheme = "s3"

    def __init__(self, options: S3Options, *, uses_fast: bool = True) -> None:
        self.options = options
        self._connection = Connection(options, uses_fast=uses_fast)
        self._bucket = options.bucket
        self._root = f"{options.prefix}/" if options.prefix else ""
        self._location = options.location

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._location!r})"

    @property
    def location(self) -> str:
        """The bucket, prefix and parameters as a URL that `from_url` opens again."""
        return self._location

    def close(self) -> None:
        """Close the idle connections."""
        self._connection.close()

    def stat(self, key: str) -> Entry:
        """Describe one object with one HEAD.

        Raises:
            NotFound: there is no such object.
            DriverError: see the classes.
        """
        return entry_of(key, self._head("stat", key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Yield the objects whose key starts with `prefix`, in byte order, with one request per 1,000 of them.

        Raises:
            DriverError: the listing failed, or contradicts itself.
        """
        self._check_prefix("list", prefix)
        return Listing(self._connection, "list", prefix, self._root).entries(start_after)

    def list_small(self, prefix: str) -> builtins.list[Entry] | None:
        """Return the objects whose key starts with `prefix` if they are 100 at most, with one request.

        Raises:
            DriverError: the listing failed, or contradicts itself.
        """
        self._check_prefix("list_small", prefix)
        return Listing(self._connection, "list_small", prefix, self._root).small()

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below `prefix`, in byte order.

        Raises:
            DriverError: the listing failed, or contradicts itself.
        """
        self._check_prefix("list_dir", prefix)
        if prefix and not prefix.endswith("/"):
            raise self._error("list_dir", prefix, InvalidKey, "the prefix of a directory ends with a slash")
        return Listing(self._connection, "list_dir", prefix, self._root).names()

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return a whole small object with one request.

        Raises:
            NotFound: there is no such object.
            TooLarge: it has more than `limit` bytes.
            ShortRead: not all of it came.
        """
        fetched = self._get_fast("read", key)
        if fetched is not None and len(fetched.data) <= limit:
            return fetched.data
        body = self._get("read", key)
        with io.BufferedReader(body, BUFFER_BYTES) as stream:
            if body.size > limit:
                raise self._error("read", key, TooLarge, f"it has {body.size} bytes; at most {limit} are read")
            return stream.read(body.size)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a stream over a part of an object, with one request.

        Raises:
            NotFound: there is no such object.
            DriverError: the range does not lie inside the object.
        """
        if offset < 0 or (length is not None and length < 0):
            raise self._error("open", key, DriverError, f"no range: offset {offset}, length {length}")
        if offset == 0 and length is None:
            fetched = self._get_fast("open", key, may_be_large=True)
            if fetched is not None:
                return io.BytesIO(fetched.data)
            return io.BufferedReader(self._get("open", key), BUFFER_BYTES)
        if length != 0:
            try:
                return io.BufferedReader(self._get_range("open", key, offset, length), BUFFER_BYTES)
            except _OutOfRangeError:
                pass
        # S3 has no range without bytes, so that only the size can tell whether an empty one lies inside the object.
        size = self._head("open", key)["ContentLength"]
        if offset + (length or 0) > size or (length is None and offset != size):
            raise self._error("open", key, DriverError, _outside(offset, length, size))
        return io.BytesIO()

    def now(self) -> float:
        """Return the server's time by the Date of its newest answer.

        Raises:
            DriverError: there is no answer, or none with a Date.
        """
        with translated("now", "", self._location):
            return self._connection.now()

    def is_versioned(self) -> bool:
        """Tell whether a deleted object can be brought back, because its version stays.

        That is so only while versioning is enabled. A bucket with suspended versioning, and a server that does not know
        versioning or does not let us ask, count as not versioned: whoever relies on versions to undo a deletion
        must not be told yes by mistake.

        Raises:
            DriverError: the storage could not be asked.
        """
        with translated("is_versioned", "", self._location):
            try:
                return self._connection.client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"
            except ClientError as error:
                if answer_of(error).status in (403, 405, 501):
                    return False
                raise

    def stored_checksum(self, key: str) -> str | None:
        """Return the SHA-256 of the full object that the server verified when it was stored, or None.

        Raises:
            NotFound: there is no such object.
        """
        return whole_sha256(self._head("stored_checksum", key, ChecksumMode="ENABLED"))

    def kept_mtime_ns(self, key: str) -> int | None:
        """Return the time in the metadata, as rclone and `S3Driver.write` write it, with one request.

        Raises:
            NotFound: there is no such object.
        """
        fetched = self._get_fast("kept_mtime_ns", key)
        kept = fetched.attributes if fetched else self._head("kept_mtime_ns", key).get("Metadata", {})
        match = _MTIME.fullmatch(kept.get("mtime", ""))
        return int(match[1]) * 10**9 + int((match[2] or "")[:9].ljust(9, "0")) if match else None

    def _head(self, operation: str, key: str, **more: str) -> dict[str, Any]:
        """Return what HEAD tells of an object, and tell a missing object from a missing bucket."""
        full = self._full(operation, key)
        client: Any = self._connection.client
        try:
            with translated(operation, key, self._location):
                found: dict[str, Any] = client.head_object(Bucket=self._bucket, Key=full, **more)
                for part in ("ContentLength", "LastModified"):
                    required(found, part)
        except NotFound:
            self._check_bucket(operation, key)
            raise
        return found

    def _exists(self, operation: str, key: str) -> bool:
        try:
            self._head(operation, key)
        except NotFound:
            return False
        return True

    def _check_bucket(self, operation: str, key: str) -> None:
        # The answer to a HEAD has no body that would name what is missing.
        if self._connection.bucket_seen:
            return
        try:
            self._connection.client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if answer_of(error).status == 404:
                reason = "there is no such bucket; check its name, the endpoint and the region"
                raise self._error(operation, key, Unreachable, reason) from error

    def _get_fast(self, operation: str, key: str, *, may_be_large: bool = False) -> Fetched | None:
        full = self._full(operation, key)
        fast = self._connection.fast(full, 0)
        return fast.get(full, may_be_large=may_be_large) if fast else None

    def _get(self, operation: str, key: str, **more: str) -> Body:
        return self._body(operation, key, self._get_object(operation, key, **more))

    def _get_range(self, operation: str, key: str, offset: int, length: int | None) -> Body:
        last = "" if length is None else str(offset + length - 1)
        answer = self._get_object(operation, key, Range=f"bytes={offset}-{last}")
        body = self._body(operation, key, answer)
        told = answer.get("ContentRange", "")
        matched = _CONTENT_RANGE.fullmatch(told)
        if matched is None:
            body.close()
            raise self._error(operation, key, DriverError, f"the storage did not send the range asked for: {told!r}")
        first, end, size = (int(number) for number in matched.groups())
        if first != offset or end - first + 1 != body.size or end != (int(last) if last else size - 1):
            body.close()
            raise self._error(operation, key, DriverError, _outside(offset, length, size))
        return body

    def _get_object(self, operation: str, key: str, **more: str) -> dict[str, Any]:
        full = self._full(operation, key)
        client: Any = self._connection.client
        with translated(operation, key, self._location):
            try:
                answer: dict[str, Any] = client.get_object(Bucket=self._bucket, Key=full, **more)
            except ClientError as error:
                if answer_of(error).status == 416:
                    raise _OutOfRangeError from error
                raise
        return answer

    def _body(self, operation: str, key: str, answer: dict[str, Any]) -> Body:
        if "ContentLength" not in answer:
            answer["Body"].close()
            raise self._error(operation, key, DriverError, "the storage does not say how much it sends")
        return Body(answer["Body"], answer["ContentLength"], self._maker(operation, key))

    def _full(self, operation: str, key: str) -> str:
        """Check a key and put the root before it."""
        check_key(key, operation, self._location)
        self._check_text(operation, key)
        return self._root + key

    def _check_prefix(self, operation: str, prefix: str) -> None:
        check_prefix(prefix, operation, self._location)
        self._check_text(operation, prefix)

    def _check_text(self, operation: str, key: str) -> None:
        if not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
            raise self._error(operation, key, InvalidKey, "S3 has only keys that are UTF-8")

    def _maker(self, operation: str, key: str) -> MakeError:
        return partial(self._error, operation, key)

    def _error(self, operation: str, key: str, kind: type[DriverError], reason: str) -> DriverError:
        return kind(reason, operation=operation, key=key, location=self._location)


class _OutOfRangeError(Exception):
    """The server said that no byte of the range lies in the object."""


def _outside(offset: int, length: int | None, size: int) -> str:
    end = "" if length is None else offset + length
    return f"the range {offset}-{end} does not lie inside its {size} bytes"

"""Storing an object: one request for the small, parts for the large, and nothing for the wrong."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.base import Entry, MultipartUpload
from regstore_drivers.content import iter_promised
from regstore_drivers.errors import AlreadyExists, DriverError, Unavailable
from regstore_drivers.s3.attributes import attributes_of_new
from regstore_drivers.s3.entries import entry_of_put
from regstore_drivers.s3.errors import BOTO_ERRORS, answer_of, is_refusal, is_upload_gone, required
from regstore_drivers.s3.fast import SMALL_BYTES, FailedError
from regstore_drivers.s3.finished import finished_parts
from regstore_drivers.s3.sending import PromisedBody, raising_source_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from mypy_boto3_s3.type_defs import PartTypeDef

    from regstore_drivers.base import Source
    from regstore_drivers.s3.connection import Connection
    from regstore_drivers.s3.fast import Fast

MULTIPART_THRESHOLD_BYTES = 64 * 1024 * 1024
PART_MIN_BYTES = 16 * 1024 * 1024
PARTS_MAX = 10_000

_logger = logging.getLogger(__name__)


def part_size(size: int, minimum: int) -> int:
    """Return the size of the parts of an object so that 10,000 are enough."""
    mebibyte = 1024 * 1024
    needed = -(-size // PARTS_MAX)
    return max(minimum, -(-needed // mebibyte) * mebibyte)


class Upload:
    """The storing of one object.

    Args:
        connection: where to.
        key: its key, for errors.
        full: its key in the bucket.
        mtime_ns: the time that its metadata shall tell, as rclone writes and reads it (backend/s3/s3.go, metaMtime).
        on_begin: called with an upload in parts before the first of them is sent.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        full: str,
        mtime_ns: int | None = None,
        on_begin: Callable[[MultipartUpload], object] | None = None,
    ) -> None:
        self._connection = connection
        self._key = key
        self._full = full
        self._location = connection.options.location
        self._is_tried = False
        self._on_begin = on_begin
        self._where: dict[str, Any] = {"Bucket": connection.options.bucket, "Key": full}
        self._attributes = attributes_of_new(connection.options)
        if mtime_ns is not None:
            seconds, nanoseconds = divmod(mtime_ns, 10**9)
            self._attributes["Metadata"] = {"mtime": f"{seconds}.{nanoseconds:09}"}

    def put(self, source: Source, size: int, digest: str | None, *, if_absent: bool) -> Entry | None:
        """Store with one request, and describe the object; None where the answer does not say enough.

        Large objects with a SHA-256 are sent as they are read; others are held in memory and checked before that.
        """
        self._is_tried = False
        algorithm, _, digits = (digest or "").partition(":")
        if size > SMALL_BYTES and algorithm == "sha256" and self._connection.takes_promised_body(self._full):
            with (
                closing(PromisedBody(lambda: self._promised(source, size, digest), size, digits)) as body,
                raising_source_errors(),
            ):
                checksum = base64.b64encode(bytes.fromhex(digits)).decode()
                return entry_of_put(self._key, size, self._put(body, checksum, if_absent=if_absent))
        with self._connection.memory.hold(size):
            data = bytearray()
            for piece in self._promised(source, size, digest):
                data += piece
            if self._connection.has_checksums and (fast := self._connection.fast(self._full, size)):
                try:
                    return self._put_fast(fast, data, if_absent=if_absent)
                except FailedError as error:
                    self._is_tried = error.is_tried
            return entry_of_put(self._key, size, self._put(data, _sha256(data), if_absent=if_absent))

    def _put_fast(self, fast: Fast, data: bytearray, *, if_absent: bool) -> Entry:
        is_conditional = bool(self._condition(if_absent))
        stored = fast.put(self._full, data, self._attributes.get("Metadata", {}), if_absent=is_conditional)
        now = float(int(self._connection.now()))  # as a Date has it, in whole seconds
        return Entry(self._key, len(data), now, etag=stored.etag, version=stored.version, ctime=now)

    def _put(self, body: bytearray | PromisedBody, sha256: str, *, if_absent: bool) -> dict[str, Any]:
        checksum: dict[str, Any] = {"ChecksumSHA256": sha256} if self._connection.has_checksums else {}
        condition = self._condition(if_absent)
        request = {**self._where, **self._attributes, "Body": body}
        client: Any = self._connection.client
        # The header that a server does not know may be either of the two.
        choices = [{**checksum, **condition}, condition, checksum, {}]
        tries = [extra for number, extra in enumerate(choices) if extra not in choices[:number]]
        while True:
            extra = tries.pop(0)
            if isinstance(body, PromisedBody):
                body.begin()
            try:
                answer: dict[str, Any] = client.put_object(**request, **extra)
            except ClientError as error:
                self._check_exists(error, extra)
                if not tries or not is_refusal(error):
                    raise
            else:
                self._learn(checksum, condition, extra)
                return answer

    def put_parts(
        self,
        source: Source,
        size: int,
        digest: str | None,
        *,
        if_absent: bool,
        part_min: int = PART_MIN_BYTES,
        begun: str | None = None,
    ) -> None:
        """Store in parts; nothing is left behind when it fails, as far as the storage can still be reached.

        Args:
            source: see `Driver.write`, as `size`, `digest` and `if_absent`.
            part_min: the smallest part, in bytes.
            begun: the id of an upload to go on with, if it is still there and fits.
        """
        finished = finished_parts(self._connection, self._where, begun, self._attributes) if begun else {}
        if begun is not None and finished:
            has_checksums = self._connection.has_checksums
            try:
                self._send(begun, finished, source, size, digest, if_absent, part_min, checksums=has_checksums)
            except (ClientError, _Refused) as error:
                if isinstance(error, ClientError) and not is_refusal(error):
                    raise
            else:
                return
        if self._connection.has_checksums:
            try:
                self._put_parts(source, size, digest, if_absent, part_min, checksums=True)
            except _Refused:
                self._put_parts(source, size, digest, if_absent, part_min, checksums=False)
                self._connection.has_checksums = False
        else:
            self._put_parts(source, size, digest, if_absent, part_min, checksums=False)

    def _put_parts(
        self, source: Source, size: int, digest: str | None, if_absent: bool, part_min: int, *, checksums: bool
    ) -> None:
        client = self._connection.client
        attributes = dict(self._attributes)
        if checksums:
            attributes["ChecksumAlgorithm"] = "SHA256"
        try:
            upload_id = required(client.create_multipart_upload(**self._where, **attributes), "UploadId")
        except ClientError as error:
            if checksums and is_refusal(error):
                raise _Refused from error
            raise
        if self._on_begin is not None:
            self._on_begin(MultipartUpload(self._key, upload_id, time.time()))
        self._send(upload_id, {}, source, size, digest, if_absent, part_min, checksums=checksums)

    def _send(
        self,
        upload_id: str,
        finished: Mapping[int, PartTypeDef],
        source: Source,
        size: int,
        digest: str | None,
        if_absent: bool,
        part_min: int,
        *,
        checksums: bool,
    ) -> None:
        """Send the parts that are not finished, and complete the upload; it is aborted when that fails."""
        client: Any = self._connection.client
        block = part_size(size, part_min)
        with (
            aborting(self._connection, self._where, upload_id),
            self._connection.memory.hold(block),
            closing(self._promised(source, size, digest)) as pieces,
        ):
            parts = []
            for number, data in enumerate(_in_blocks(pieces, block), 1):
                checksum = {"ChecksumSHA256": _sha256(data)} if checksums else {}
                if number in finished and _is_same(finished[number], data):
                    answer: Any = finished[number]
                else:
                    try:
                        answer = client.upload_part(
                            **self._where, UploadId=upload_id, PartNumber=number, Body=data, **checksum
                        )
                    except ClientError as error:
                        if checksums and number == 1 and is_refusal(error):
                            raise _Refused from error
                        raise
                parts.append({"PartNumber": number, "ETag": required(answer, "ETag"), **checksum})
            self._complete(upload_id, parts, self._condition(if_absent))

    def _complete(self, upload_id: str, parts: list[dict[str, Any]], condition: dict[str, str]) -> None:
        complete: Any = self._connection.client.complete_multipart_upload
        request = {**self._where, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        try:
            complete(**request, **condition)
        except ClientError as error:
            self._check_exists(error, condition)
            if not condition or not is_refusal(error):
                raise
            complete(**request)
            self._connection.has_conditions = False

    def _promised(self, source: Source, size: int, digest: str | None) -> Generator[bytes | memoryview]:
        yield from iter_promised(source, size, digest, key=self._key, location=self._location)

    def _condition(self, if_absent: bool) -> dict[str, Any]:
        return {"IfNoneMatch": "*"} if if_absent and self._connection.has_conditions is not False else {}

    def _check_exists(self, error: ClientError, extra: dict[str, str]) -> None:
        if "IfNoneMatch" in extra and answer_of(error).status == 412:
            self._connection.has_conditions = True
            kind: type[DriverError] = AlreadyExists
            reason = "it exists already"
            if self._is_tried or error.response["ResponseMetadata"].get("RetryAttempts"):
                # It was sent before, and the answer to that was lost: what exists may be our own.
                kind, reason = Unavailable, f"{reason}, perhaps of a try whose answer was lost"
            raise kind(reason, operation="write", key=self._key, location=self._location) from error

    def _learn(self, checksum: dict[str, str], condition: dict[str, str], accepted: dict[str, str]) -> None:
        if not checksum.keys() <= accepted.keys():
            self._connection.has_checksums = False
        if not condition.keys() <= accepted.keys():
            self._connection.has_conditions = False


class _Refused(Exception):  # noqa: N818
    """The server refused the checksums of the parts."""


@contextmanager
def aborting(connection: Connection, where: dict[str, Any], upload_id: str) -> Iterator[None]:
    """Abort a multipart upload when the block fails, however it fails."""
    try:
        yield
    except BaseException:
        try:
            connection.client.abort_multipart_upload(**where, UploadId=upload_id)
        except BOTO_ERRORS as error:
            # The first error is the one to report; what is left is found by `list_multipart`.
            if not is_upload_gone(error):
                _logger.warning("cannot abort the multipart upload of %s: %s", where["Key"], error)
        raise


def _in_blocks(pieces: Iterator[bytes | memoryview], size: int) -> Iterator[bytearray]:
    """Join pieces to blocks of `size` bytes, the last of which is smaller."""
    block = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = rest[: size - len(block)]
            block += taken
            rest = rest[len(taken) :]
            if len(block) == size:
                yield block
                block = bytearray()
    if block:
        yield block


def _is_same(part: PartTypeDef, data: bytearray) -> bool:
    """Tell whether a finished part holds these bytes: by its SHA-256, or its MD5 where the server tells none."""
    if part.get("Size") != len(data):
        return False
    if checksum := part.get("ChecksumSHA256"):
        return checksum == _sha256(data)
    return part.get("ETag", "").strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytearray) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()

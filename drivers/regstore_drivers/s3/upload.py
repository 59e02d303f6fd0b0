"""Storing an object: one request for the small, parts for the large, and nothing for the wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.errors import AlreadyExists, DigestMismatch
from regstore_drivers.s3.errors import BOTO_ERRORS, answer_of, is_refusal, required

if TYPE_CHECKING:
    from regstore_drivers.base import Source
    from regstore_drivers.s3.connection import Connection
    from regstore_drivers.s3.options import S3Options
    from regstore_drivers.s3.stream import MakeError

MULTIPART_THRESHOLD_BYTES = 64 * 1024 * 1024
PART_MIN_BYTES = 16 * 1024 * 1024
PARTS_MAX = 10_000

_logger = logging.getLogger(__name__)


def attributes_of_new(options: S3Options) -> dict[str, Any]:
    """Return the parameters that give a new object its storage class, encryption and ACL."""
    attributes: dict[str, Any] = attributes_of_copy(options)
    if options.storage_class is not None:
        attributes["StorageClass"] = options.storage_class
    return attributes


def attributes_of_copy(options: S3Options) -> dict[str, Any]:
    """Return the parameters for what a server does not copy by itself: encryption and ACL."""
    attributes: dict[str, Any] = {}
    if options.encrypt:
        attributes["ServerSideEncryption"] = "aws:kms" if options.key_id else "AES256"
    if options.key_id is not None:
        attributes["SSEKMSKeyId"] = options.key_id
    if options.acl is not None:
        attributes["ACL"] = options.acl
    return attributes


def part_size(size: int, minimum: int) -> int:
    """Return the size of the parts of an object so that 10,000 are enough."""
    mebibyte = 1024 * 1024
    needed = -(-size // PARTS_MAX)
    return max(minimum, -(-needed // mebibyte) * mebibyte)


class CheckedSource:
    """The bytes to store, counted and hashed while they are read.

    Raises (from all methods):
        DigestMismatch: there are fewer or more bytes than promised, or others.
    """

    def __init__(self, stream: BinaryIO, size: int, digest: str | None, make_error: MakeError) -> None:
        self._stream = stream
        self._size = size
        self._left = size
        self._digest = digest
        self._hash = hashlib.new(digest.partition(":")[0]) if digest else None
        self._make_error = make_error

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or what is left of the promised ones if that is less."""
        wanted = min(size, self._left)
        blocks = []
        while wanted:
            block = self._stream.read(wanted)
            if not block:
                raise self._make_error(
                    DigestMismatch, f"the source has {self._size - self._left} of the promised {self._size} bytes"
                )
            if self._hash is not None:
                self._hash.update(block)
            blocks.append(block)
            wanted -= len(block)
            self._left -= len(block)
        if not self._left:
            self._check_end()
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _check_end(self) -> None:
        if self._stream.read(1):
            raise self._make_error(DigestMismatch, f"the source has more than the promised {self._size} bytes")
        if self._hash is not None:
            found = f"{self._hash.name}:{self._hash.hexdigest()}"
            if found != self._digest:
                raise self._make_error(DigestMismatch, f"the source has the digest {found} and not {self._digest}")


class Upload:
    """The storing of one object under its full key, with one attribute set."""

    def __init__(self, connection: Connection, key: str, make_error: MakeError) -> None:
        self._connection = connection
        self._make_error = make_error
        self._where: dict[str, Any] = {"Bucket": connection.options.bucket, "Key": key}

    def put(self, source: Source, size: int, digest: str | None, *, if_absent: bool) -> None:
        """Store with one request; the bytes are held in memory and checked before the first of them is sent."""
        with open_source(source) as stream:
            data = CheckedSource(stream, size, digest, self._make_error).read(size)
        checksum: dict[str, Any] = {"ChecksumSHA256": _sha256(data)} if self._connection.has_checksums else {}
        condition = self._condition(if_absent)
        request = {**self._where, **attributes_of_new(self._connection.options), "Body": data}
        # The header that a server does not know may be either of the two.
        tries = [
            {**checksum, **condition},
            *([condition] if checksum and condition else []),
            *([checksum] if checksum and condition else []),
            *([{}] if checksum or condition else []),
        ]
        for number, extra in enumerate(tries, 1):
            try:
                self._connection.client.put_object(**request, **extra)
            except ClientError as error:
                self._check_exists(error, extra)
                if number == len(tries) or not is_refusal(error):
                    raise
            else:
                self._learn(checksum, condition, extra)
                return

    def put_parts(
        self, source: Source, size: int, digest: str | None, *, if_absent: bool, part_min: int = PART_MIN_BYTES
    ) -> None:
        """Store in parts; nothing is left behind when it fails, as far as the storage can still be reached."""
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
        client: Any = self._connection.client
        attributes = attributes_of_new(self._connection.options)
        if checksums:
            attributes["ChecksumAlgorithm"] = "SHA256"
        try:
            upload_id = required(client.create_multipart_upload(**self._where, **attributes), "UploadId")
        except ClientError as error:
            raise _Refused if checksums and is_refusal(error) else error from error
        with aborting(self._connection, self._where, upload_id), open_source(source) as stream:
            checked = CheckedSource(stream, size, digest, self._make_error)
            block_size = part_size(size, part_min)
            parts = []
            for number in range(1, -(-size // block_size) + 1):
                data = checked.read(block_size)
                checksum = {"ChecksumSHA256": _sha256(data)} if checksums else {}
                try:
                    answer = client.upload_part(
                        **self._where, UploadId=upload_id, PartNumber=number, Body=data, **checksum
                    )
                except ClientError as error:
                    raise _Refused if number == 1 and checksums and is_refusal(error) else error from error
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

    def _condition(self, if_absent: bool) -> dict[str, Any]:
        return {"IfNoneMatch": "*"} if if_absent and self._connection.has_conditions is not False else {}

    def _check_exists(self, error: ClientError, extra: dict[str, str]) -> None:
        if "IfNoneMatch" in extra and answer_of(error).status == 412:
            self._connection.has_conditions = True
            raise self._make_error(AlreadyExists, "it exists already") from error

    def _learn(self, checksum: dict[str, str], condition: dict[str, str], accepted: dict[str, str]) -> None:
        if not checksum.keys() <= accepted.keys():
            self._connection.has_checksums = False
        if not condition.keys() <= accepted.keys():
            self._connection.has_conditions = False


class _Refused(Exception):  # noqa: N818
    """The server refused the checksums of the parts."""


class aborting:  # noqa: N801 - a context manager
    """Abort a multipart upload when the block fails, however it fails."""

    def __init__(self, connection: Connection, where: dict[str, Any], upload_id: str) -> None:
        self._connection = connection
        self._where = where
        self._upload_id = upload_id

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        try:
            self._connection.client.abort_multipart_upload(**self._where, UploadId=self._upload_id)
        except BOTO_ERRORS as error:
            # The first error is the one to report; what is left is found by `list_multipart`.
            _logger.warning("cannot abort the multipart upload of %s: %s", self._where["Key"], error)


def open_source(source: Source) -> BinaryIO:
    """Open what is to be stored."""
    return io.BytesIO(source) if isinstance(source, bytes) else source()


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()

"""Copying from another bucket or prefix of the same server, by the server, as a new object of ours."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.base import CopyFeatures, MultipartUpload
from regstore_drivers.errors import CopyRefused, DriverError
from regstore_drivers.s3.attributes import attributes_of_new
from regstore_drivers.s3.copying import COPY_PART_MIN_BYTES, copy_parts
from regstore_drivers.s3.entries import whole_sha256
from regstore_drivers.s3.errors import answer_of, is_refusal, required, translated
from regstore_drivers.s3.finished import finished_parts
from regstore_drivers.s3.upload import aborting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3.type_defs import PartTypeDef

    from regstore_drivers.base import Entry
    from regstore_drivers.s3.connection import Connection
    from regstore_drivers.s3.options import S3Options

SINGLE_MAX_BYTES = 5 * 1024 * 1024 * 1024
"""The most that S3 copies with one request, which alone lets the server tell the SHA-256 of the whole."""

_DENIED_STATUS = (401, 403, 405)


def is_same_server(one: S3Options, other: S3Options) -> bool:
    """Tell whether two buckets are on one server, and in one region as far as that is said."""
    regions = {one.region, other.region} - {None}
    return one.endpoint == other.endpoint and len(regions) < 2


class ForeignCopy:
    """One copy from a bucket to another one, with the attributes of the other one's options.

    Args:
        connection: where to.
        origin: where from.
        source: what is copied; with its entity tag only as long as it has that one.
        key: where to, for errors.
        full: its key in the bucket.
        on_begin: called with an upload in parts before the first of them is copied.
        begun: the id of an upload in parts to go on with, if it is still there and fits.
    """

    def __init__(
        self,
        connection: Connection,
        origin: S3Options,
        source: Entry,
        key: str,
        full: str,
        on_begin: Callable[[MultipartUpload], object] | None = None,
        begun: str | None = None,
    ) -> None:
        self._connection = connection
        self._size = source.size
        self._key = key
        self._on_begin = on_begin
        self._begun = begun
        self._where: dict[str, Any] = {"Bucket": connection.options.bucket, "Key": full}
        prefix = f"{origin.prefix}/" if origin.prefix else ""
        self._from: dict[str, Any] = {"CopySource": {"Bucket": origin.bucket, "Key": f"{prefix}{source.key}"}}
        if source.etag is not None:
            self._from["CopySourceIfMatch"] = f'"{source.etag}"'
        self._attributes = attributes_of_new(connection.options)

    def run(self, single_max: int = SINGLE_MAX_BYTES, part_min: int = COPY_PART_MIN_BYTES) -> str | None:
        """Copy, in parts above `single_max` bytes, and return the SHA-256 of the whole if the server tells it.

        Where the server knows conditional writes, an object that is there already stays.

        Raises:
            CopyRefused: the server may not or cannot copy from there.
            NotFound: there is no such source.
            DriverError: the source changed, there is such an object, or it failed.
        """
        with self._translated():
            if self._size <= single_max:
                return self._copy_whole()
            self._copy_parts(part_min)
            return None

    def probe(self) -> CopyFeatures:
        """Copy with one request and in parts, delete what came of it, and say what the server can do.

        Raises:
            DriverError: the storage failed for the moment, or does not delete.
        """
        checksum, refusal = self._try(self._size)
        _, parts_refusal = self._try(0)
        return CopyFeatures(not refusal, not parts_refusal, checksum is not None, refusal)

    def _try(self, single_max: int) -> tuple[str | None, str]:
        try:
            return self.run(single_max), ""
        except DriverError as error:
            if error.retryable:
                raise
            return None, error.reason
        finally:
            with self._translated():
                self._connection.client.delete_object(**self._where)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        location = self._connection.options.location
        with translated("copy_from", self._key, location):
            try:
                yield
            except ClientError as error:
                status, code, message, _ = answer_of(error)
                said = f"{message.rstrip('. ')} ({code or 'no code'}, HTTP {status})"
                if status == 412:
                    reason = f"it changed at the source meanwhile, or there is such an object: {said}"
                    raise DriverError(reason, operation="copy_from", key=self._key, location=location) from error
                is_denied = status in _DENIED_STATUS and code != "InvalidObjectState"  # which is an archived object
                if is_denied or code == "NoSuchBucket" or is_refusal(error):
                    raise CopyRefused(said, operation="copy_from", key=self._key, location=location) from error
                raise

    def _copy_whole(self) -> str | None:
        client: Any = self._connection.copying_client
        # Metadata and tags are those of a new object: what the source has may need rights to be read.
        request = {**self._where, **self._from, **self._attributes, "MetadataDirective": "REPLACE"}
        more = {"TaggingDirective": "REPLACE", "ChecksumAlgorithm": "SHA256", **self._condition}
        try:
            answer = client.copy_object(**request, **more)
        except ClientError as error:
            if not is_refusal(error):
                raise
            answer = client.copy_object(**request)  # some server does not know one of them
        result: dict[str, Any] = required(answer, "CopyObjectResult")
        required(result, "ETag")
        return whole_sha256(result)

    def _copy_parts(self, part_min: int) -> None:
        client: Any = self._connection.copying_client
        finished = self._find_finished()
        if self._begun and finished:
            upload_id = self._begun
        else:
            upload_id = required(client.create_multipart_upload(**self._where, **self._attributes), "UploadId")
            if self._on_begin is not None:
                self._on_begin(MultipartUpload(self._key, upload_id, time.time()))
        with aborting(self._connection, self._where, upload_id):
            upload = {**self._where, "UploadId": upload_id}
            parts = {"Parts": copy_parts(client, {**upload, **self._from}, self._size, part_min, finished)}
            try:
                client.complete_multipart_upload(**upload, MultipartUpload=parts, **self._condition)
            except ClientError as error:
                if not self._condition or not is_refusal(error):
                    raise
                client.complete_multipart_upload(**upload, MultipartUpload=parts)

    def _find_finished(self) -> dict[int, PartTypeDef]:
        """Return the parts that are copied already. What was begun with checksums, to be sent, ends only with them."""
        if self._begun is None:
            return {}
        finished = finished_parts(self._connection, self._where, self._begun, self._attributes)
        return {} if any("ChecksumSHA256" in part for part in finished.values()) else finished

    @property
    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._connection.has_conditions else {}

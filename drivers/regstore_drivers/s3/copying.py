"""Copying inside a bucket, by the server, with what belongs to the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.errors import Unavailable
from regstore_drivers.s3.attributes import attributes_of_copy
from regstore_drivers.s3.errors import answer_of, required
from regstore_drivers.s3.upload import aborting, part_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3.type_defs import PartTypeDef

    from regstore_drivers.s3.connection import Connection
    from regstore_drivers.s3.stream import MakeError

# S3 copies up to 5 GiB with one request, but some servers answer it only after the last byte: above this size they
# would run into the time-out of a request.
SINGLE_COPY_MAX_BYTES = 1024 * 1024 * 1024
COPY_PART_MIN_BYTES = 256 * 1024 * 1024

# What HEAD tells of an object and a copy in parts must be given again.
_KEPT_BY_PARTS = (
    "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata",
    "WebsiteRedirectLocation",
)  # fmt: skip


class Copy:
    """One copy from a full key to another; `head` is what HEAD told of the source."""

    def __init__(
        self, connection: Connection, source: str, destination: str, head: dict[str, Any], make_error: MakeError
    ) -> None:
        self._connection = connection
        self._head = head
        self._make_error = make_error
        bucket = connection.options.bucket
        self._where = {"Bucket": bucket, "Key": destination}
        self._read_from = {"Bucket": bucket, "Key": source}
        self._from: dict[str, Any] = {"CopySource": {"Bucket": bucket, "Key": source}}
        if "ETag" in head:
            self._from["CopySourceIfMatch"] = head["ETag"]

    def run(self, single_max: int = SINGLE_COPY_MAX_BYTES, part_min: int = COPY_PART_MIN_BYTES) -> None:
        """Copy, in parts above `single_max` bytes.

        Raises:
            Unavailable: the source was replaced meanwhile.
            BotoCoreError, ClientError: anything else.
        """
        try:
            if self._head["ContentLength"] <= single_max:
                client: Any = self._connection.client
                request = {**self._where, **self._from, **self._attributes()}
                answer = client.copy_object(**request, MetadataDirective="COPY")
                required(required(answer, "CopyObjectResult"), "ETag")
            else:
                self._copy_parts(part_min)
        except ClientError as error:
            if answer_of(error).status == 412:
                raise self._make_error(Unavailable, "it was replaced while it was copied") from error
            raise

    def _attributes(self) -> dict[str, Any]:
        kept = {name: self._head[name] for name in ("StorageClass",) if name in self._head}
        if not self._connection.options.encrypt:
            names = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
            kept |= {name: self._head[name] for name in names if name in self._head}
        return kept | attributes_of_copy(self._connection.options)

    def _copy_parts(self, part_min: int) -> None:
        client: Any = self._connection.client
        attributes = {name: self._head[name] for name in _KEPT_BY_PARTS if name in self._head}
        if self._head.get("TagCount"):
            tags = client.get_object_tagging(**self._read_from)["TagSet"]
            attributes["Tagging"] = urlencode([(tag["Key"], tag["Value"]) for tag in tags], quote_via=quote)
        created = client.create_multipart_upload(**self._where, **attributes, **self._attributes())
        upload_id = required(created, "UploadId")
        with aborting(self._connection, self._where, upload_id):
            where = {**self._where, **self._from, "UploadId": upload_id}
            parts = copy_parts(client, where, self._head["ContentLength"], part_min)
            client.complete_multipart_upload(**self._where, UploadId=upload_id, MultipartUpload={"Parts": parts})


def copy_parts(
    client: Any, where: dict[str, Any], size: int, part_min: int, finished: Mapping[int, PartTypeDef] | None = None
) -> list[dict[str, Any]]:
    """Let the server copy an object of that size into an upload, and return the parts for its completion.

    Args:
        client: of boto3.
        where: the parameters that name the upload and the source.
        size: bytes of the source.
        part_min: the size of the parts, as long as 10,000 of them are enough.
        finished: the parts that are there by their numbers: one with the right size is not copied again.

    Raises:
        BotoCoreError, ClientError: it failed; the caller aborts the upload.
    """
    step = part_size(size, part_min)
    parts = []
    for number, first in enumerate(range(0, size, step), 1):
        last = min(first + step, size) - 1
        there = finished.get(number) if finished else None
        if there and there.get("Size") == last - first + 1:
            parts.append({"PartNumber": number, "ETag": required(there, "ETag")})
            continue
        answer = client.upload_part_copy(**where, PartNumber=number, CopySourceRange=f"bytes={first}-{last}")
        parts.append({"PartNumber": number, "ETag": required(required(answer, "CopyPartResult"), "ETag")})
    return parts

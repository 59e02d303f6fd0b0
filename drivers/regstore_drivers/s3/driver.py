"""The S3 driver: the contract of `regstore_drivers.base`, in requests."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError  # noqa: TID251

from regstore_drivers.base import CopyFeatures, Deleted, Driver, Entry, MultipartUpload, Source, WriteFeatures
from regstore_drivers.errors import AlreadyExists, DriverError, InvalidKey
from regstore_drivers.s3.copying import Copy
from regstore_drivers.s3.entries import entry_of
from regstore_drivers.s3.errors import is_upload_gone, required, translated
from regstore_drivers.s3.foreign import ForeignCopy, is_same_server
from regstore_drivers.s3.options import DEFAULT_JOBS, S3Options, parse_url
from regstore_drivers.s3.reader import S3Reader
from regstore_drivers.s3.upload import MULTIPART_THRESHOLD_BYTES, PART_MIN_BYTES, Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from mypy_boto3_s3.type_defs import ErrorTypeDef, MultipartUploadTypeDef

DELETE_BATCH_KEYS = 1000

# What XML cannot carry: one such key would spoil the request for all others of its batch.
_NOT_IN_XML = re.compile(r"[\x01-\x1f\x7f\ufffe\uffff]")
_MD5 = re.compile(r"[0-9a-f]{32}")


def from_url(
    url: str,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    session_token: str | None = None,
    jobs: int = DEFAULT_JOBS,
) -> S3Driver:
    """Open `s3://bucket/prefix?endpoint=...&region=...`; see S3Options for the parameters.

    Raises:
        ValueError: it is not such a URL, has an unknown parameter, or has credentials in it.
    """
    return S3Driver(
        parse_url(url, access_key=access_key, secret_key=secret_key, session_token=session_token, jobs=jobs)
    )


class S3Driver(S3Reader, Driver):
    """Objects in a bucket below a prefix; see S3Reader for what listings promise.

    A write holds in memory one part, or up to `multipart_threshold` bytes; of an object whose SHA-256 is given, as a
    rule, only a piece.

    Args:
        options: which bucket, and how objects are written.
        multipart_threshold: larger objects are written in parts.
        part_min: the size of the parts, as long as 10,000 of them are enough.
        uses_fast: make small requests by obstore where it is installed.
    """

    def __init__(
        self,
        options: S3Options,
        *,
        multipart_threshold: int = MULTIPART_THRESHOLD_BYTES,
        part_min: int = PART_MIN_BYTES,
        uses_fast: bool = True,
    ) -> None:
        super().__init__(options, uses_fast=uses_fast)
        self._uses_fast = uses_fast
        self._threshold = multipart_threshold
        self._begun: dict[str, str] = {}
        self._on_begin: Callable[[MultipartUpload], object] | None = None
        self._part_min = part_min

    def with_transfer_options(self, *, jobs: int, multipart_threshold: int | None = None) -> S3Driver:
        """Return a driver with connections of its own. See `HasTransferOptions`."""
        threshold = self._threshold if multipart_threshold is None else multipart_threshold
        return S3Driver(
            replace(self.options, jobs=jobs),
            multipart_threshold=threshold,
            part_min=self._part_min,
            uses_fast=self._uses_fast,
        )

    @property
    def has_conditional_writes(self) -> bool | None:
        """Whether `write(if_absent=True)` is atomic on this server; None as long as nothing has shown it."""
        return self._connection.has_conditions

    def probe_writes(self, directory: str = "") -> WriteFeatures:
        """Find out what the server can do, with an object that is written for it and deleted again.

        Args:
            directory: where the object may lie: empty, or a prefix that ends with a slash.

        Raises:
            DriverError: the storage failed, or nothing may be written there.
        """
        key = f"{directory}regstore-probe-{secrets.token_hex(8)}"
        full = self._full("write", key)
        with translated("write", key, self._location):
            upload = Upload(self._connection, key, full)
            upload.put(b"probe", 5, None, if_absent=False)
            try:
                upload.put(b"probe", 5, None, if_absent=True)
            except AlreadyExists:
                return WriteFeatures(self._connection.has_checksums, has_conditions=True)
            else:
                self._connection.has_conditions = False
                return WriteFeatures(self._connection.has_checksums, has_conditions=False)
            finally:
                self._connection.client.delete_object(Bucket=self._bucket, Key=full)

    def write(
        self,
        key: str,
        source: Source,
        size: int,
        digest: str | None = None,
        *,
        if_absent: bool = False,
        mtime_ns: int | None = None,
    ) -> Entry:
        """Store an object with one request, or in parts when it is larger than the threshold.

        With `if_absent` the key is looked up first. On a server that knows conditional writes the write itself is
        conditional too, so that of two writers at the same time one gets AlreadyExists; on another both may succeed
        (see `probe_writes`). When the answer to a write was lost and it is tried again, the key that exists
        may be our own: only its content can tell.

        The time of what one request stored is the server's after it; LastModified may be some seconds older.

        Raises:
            AlreadyExists: `if_absent` and the key exists.
            DigestMismatch: other bytes than promised came; nothing was stored.
        """
        full = self._full("write", key)
        if if_absent and self._exists("write", key):
            raise self._error("write", key, AlreadyExists, "it exists already")
        upload = Upload(self._connection, key, full, mtime_ns, self._on_begin)
        written: Entry | None = None
        with translated("write", key, self._location):
            if size <= self._threshold:
                written = upload.put(source, size, digest, if_absent=if_absent)
            else:
                begun = self._begun.pop(key, None)
                upload.put_parts(source, size, digest, if_absent=if_absent, part_min=self._part_min, begun=begun)
        # The time of an object in parts is that of its beginning, which only HEAD tells.
        return written or entry_of(key, self._head("write", key))

    def copy(self, src: str, dst: str) -> Entry:
        """Copy on the server, in parts above 1 GiB, with metadata, content type, storage class and encryption.

        The encryption and the ACL of the options win over the object's own; an ACL is never copied.

        Raises:
            NotFound: there is no `src`.
            Unavailable: `src` was replaced meanwhile, or the storage is busy.
        """
        self._full("copy", dst)
        return entry_of(dst, self._copy("copy", src, dst, self._head("copy", src)))

    def is_same_server(self, location: str) -> bool:
        """Tell whether a location is one of S3 with the same endpoint, and no other region. See `HasServerCopy`."""
        try:
            return is_same_server(self.options, parse_url(location))
        except ValueError:
            return False

    def copy_from(self, source: Entry, location: str, key: str) -> str | None:
        """Copy from another bucket or prefix on the server, in parts above 5 GiB. See `HasServerCopy.copy_from`.

        Parts are gone on with after `resume_multipart`; that they are the same only their numbers and sizes tell.

        Raises:
            CopyRefused: the server may not or cannot copy from there.
            NotFound: there is no such source.
            DriverError: the source changed, there is such an object, or it failed.
        """
        return self._foreign_copy(source, location, key).run()

    def probe_copies(self, source: Entry, location: str, directory: str = "") -> CopyFeatures:
        """Find out what the server can do. See `HasServerCopy.probe_copies`.

        Raises:
            DriverError: the storage failed, for the moment or for good.
        """
        return self._foreign_copy(source, location, f"{directory}regstore-probe-{secrets.token_hex(8)}").probe()

    def _foreign_copy(self, source: Entry, location: str, key: str) -> ForeignCopy:
        full = self._full("copy_from", key)
        begun = self._begun.get(key)
        return ForeignCopy(self._connection, parse_url(location), source, key, full, self._on_begin, begun)

    def move(self, src: str, dst: str) -> None:
        """Copy, compare size and (where both are an MD5) entity tag, and delete `src`.

        Not atomic: a `dst` that comes into being after it was looked up is replaced, and after a failure both may be
        there.

        Raises:
            NotFound: there is no `src`.
            AlreadyExists: there is a `dst`.
            DriverError: the copy is not like the original, which stays.
        """
        full = self._full("move", src)
        head = self._head("move", src)
        if self._exists("move", dst):
            raise self._error("move", dst, AlreadyExists, "it exists already")
        copied = self._copy("move", src, dst, head)
        if _has_md5(head) and _has_md5(copied) and head["ETag"] != copied["ETag"]:
            raise self._error("move", src, DriverError, f"its copy {dst!r} has another entity tag")
        with translated("move", src, self._location):
            self._connection.client.delete_object(Bucket=self._bucket, Key=full)

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Delete with one request per 1,000 keys.

        S3 does not tell whether a key was there: one that was not is `gone` too, except on servers that say so.

        Raises:
            DriverError: the storage refused or failed a whole request.
        """
        iterator = iter(keys)
        while batch := list(islice(iterator, DELETE_BATCH_KEYS)):
            yield from self._delete_batch(batch)

    def list_multipart(self, prefix: str) -> Iterator[MultipartUpload]:
        """Yield the incomplete uploads of keys that start with `prefix`; their size is not asked for.

        MinIO finds an upload only by its whole key, not by the start of it.

        Raises:
            DriverError: the listing failed, or contradicts itself.
        """
        self._check_prefix("list_multipart", prefix)
        return self._list_multipart(prefix)

    def abort_multipart(self, upload: MultipartUpload) -> bool:
        """Abort an incomplete upload; False when it was gone already.

        Raises:
            DriverError: it could not be aborted.
        """
        where: Any = {"Bucket": self._bucket, "Key": self._root + upload.key, "UploadId": upload.upload_id}
        client = self._connection.client
        with translated("abort_multipart", upload.key, self._location):
            try:
                # Some servers (SeaweedFS) say yes to the abortion of an upload that is not there.
                client.list_parts(**where, MaxParts=1)
            except ClientError as error:
                if is_upload_gone(error):
                    return False
            try:
                client.abort_multipart_upload(**where)
            except ClientError as error:
                if is_upload_gone(error):
                    return False
                raise
        return True

    def resume_multipart(self, upload: MultipartUpload) -> None:
        """Let the next write of that key in parts go on with an upload. See `HasMultipartResume.resume_multipart`.

        A part is the same when its SHA-256 is, or, on a server that tells none, its MD5. One of another storage class
        is not used, and none at all where objects are encrypted: what the upload was begun with cannot be seen.
        """
        self._begun[upload.key] = upload.upload_id

    def watch_multipart(self, on_begin: Callable[[MultipartUpload], object] | None) -> None:
        """Call this with every upload that a write begins. See `HasMultipartResume.watch_multipart`."""
        self._on_begin = on_begin

    def multipart_size(self, upload: MultipartUpload) -> int:
        """Return the bytes of the parts of an incomplete upload; 0 when it is gone.

        Raises:
            DriverError: the parts could not be listed.
        """
        client = self._connection.client
        where: Any = {"Bucket": self._bucket, "Key": self._root + upload.key, "UploadId": upload.upload_id}
        size = 0
        with translated("multipart_size", upload.key, self._location):
            try:
                for page in client.get_paginator("list_parts").paginate(**where):
                    size += sum(part["Size"] for part in page.get("Parts", ()))
            except ClientError as error:
                if not is_upload_gone(error):
                    raise
                return 0
        return size

    def _copy(self, operation: str, src: str, dst: str, head: dict[str, Any]) -> dict[str, Any]:
        """Copy, and return what HEAD tells of the copy."""
        source, destination = self._full(operation, src), self._full(operation, dst)
        with translated(operation, src, self._location):
            Copy(self._connection, source, destination, head, self._maker(operation, src)).run()
        copied = self._head(operation, dst)
        if copied["ContentLength"] != head["ContentLength"]:
            reason = f"its copy {dst!r} has {copied['ContentLength']} of its {head['ContentLength']} bytes"
            raise self._error(operation, src, DriverError, reason)
        return copied

    def _delete_batch(self, batch: list[str]) -> Iterator[Deleted]:
        outcomes: dict[str, Deleted] = {}
        together: dict[str, str] = {}
        for key in batch:
            try:
                full = self._full("delete", key)
            except InvalidKey as error:
                outcomes[key] = Deleted(key, "failed", error.reason)
                continue
            if _NOT_IN_XML.search(key):
                with translated("delete", key, self._location):
                    self._connection.client.delete_object(Bucket=self._bucket, Key=full)
                outcomes[key] = Deleted(key, "gone")
            else:
                together[key] = full
        if together:
            objects: Any = [{"Key": full} for full in together.values()]
            with translated("delete", batch[0], self._location):
                answer = self._connection.client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": False}
                )
            gone = {item.get("Key") for item in answer.get("Deleted", ())}
            errors = {item.get("Key"): item for item in answer.get("Errors", ())}
            for key, full in together.items():
                outcomes[key] = _outcome(key, full in gone, errors.get(full))
        for key in batch:
            yield outcomes[key]

    def _list_multipart(self, prefix: str) -> Iterator[MultipartUpload]:
        client: Any = self._connection.client
        marker: dict[str, str] = {}
        while True:
            with translated("list_multipart", prefix, self._location):
                page = client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._root + prefix, **marker)
                is_truncated = required(page, "IsTruncated")
                uploads = [self._upload(item) for item in page.get("Uploads", ())]
            yield from (upload for upload in uploads if upload is not None and upload.key.startswith(prefix))
            if not is_truncated:
                return
            former = marker
            marker = {"KeyMarker": page.get("NextKeyMarker", ""), "UploadIdMarker": page.get("NextUploadIdMarker", "")}
            if not marker["KeyMarker"] or marker == former:
                reason = "there are more uploads, but the server does not say how to go on"
                raise self._error("list_multipart", prefix, DriverError, reason)

    def _upload(self, item: MultipartUploadTypeDef) -> MultipartUpload | None:
        """Describe an incomplete upload; None for one outside the root, which some servers list all the same."""
        key: str = required(item, "Key")
        if not key.startswith(self._root):
            return None
        initiated: datetime = required(item, "Initiated")
        return MultipartUpload(key[len(self._root) :], required(item, "UploadId"), initiated.timestamp())


def _outcome(key: str, gone: bool, error: ErrorTypeDef | None) -> Deleted:
    if error is not None:
        if error.get("Code") == "NoSuchKey":
            return Deleted(key, "absent")
        return Deleted(key, "failed", f"{error.get('Code', 'no code')}: {error.get('Message', '')}")
    if gone:
        return Deleted(key, "gone")
    return Deleted(key, "failed", "the storage did not say what became of it")


def _has_md5(head: dict[str, Any]) -> bool:
    """Tell whether the entity tag is the MD5 of the content: not with parts, and not with a KMS key."""
    is_kms = head.get("ServerSideEncryption", "").startswith("aws:kms")
    return not is_kms and _MD5.fullmatch(head.get("ETag", "").strip('"')) is not None

"""Small requests by obstore (the extra `fast`): its client is written in Rust and costs a seventh of boto3's CPU.

Only what succeeds is taken from it. Whatever else happens - an error, a refusal, a server or a network that it does not
suit - the request is made again by boto3, whose answers are understood in every detail. So nothing but speed depends
on obstore, and after some failures in a row it is not asked any more.
"""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore_drivers.s3.attributes import attributes_of_new

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import ReadableBuffer
    from botocore.credentials import Credentials  # noqa: TID251
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Credential

    from regstore_drivers.s3.options import S3Options

SMALL_BYTES = 1024 * 1024
"""Larger objects gain nothing, and their transfer may last longer than a request may."""
FAILURES_MAX = 8

_TIMEOUT_SECONDS = 30
_CREDENTIALS_MINUTES = 5
# Keys that no client writes in another way into a URL; those of a registry are such.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_HEADERS = {
    "StorageClass": "x-amz-storage-class",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ACL": "x-amz-acl",
}


class Stored(NamedTuple):
    """What the answer to a PUT says."""

    etag: str | None
    version: str | None


class FailedError(Exception):
    """It did not succeed.

    Attributes:
        is_tried: it may have had its effect all the same.
    """

    def __init__(self, *, is_tried: bool) -> None:
        super().__init__()
        self.is_tried = is_tried


class Fast:
    """Small requests of one driver; threads share it.

    Args:
        client: boto3's, for the endpoint and region that it found.
        credentials: boto3's.
        options: the bucket, and what new objects get.
    """

    def __init__(self, client: S3Client, credentials: Credentials, options: S3Options) -> None:
        import obstore  # the extra may not be installed
        from obstore.store import S3Store

        self._obstore: Any = obstore
        self._errors = (obstore.exceptions.BaseError, OSError, RuntimeError, ValueError)
        self._lock = threading.Lock()
        self._failures = 0
        endpoint, is_path_style = _endpoint(client.meta.endpoint_url, options)

        def new_store(**headers: str) -> Any:
            return S3Store(
                options.bucket,
                config={
                    "endpoint": endpoint,
                    "region": client.meta.region_name,
                    "virtual_hosted_style_request": not is_path_style,
                    "checksum_algorithm": "sha256",
                },
                client_options={
                    "allow_http": endpoint.startswith("http:"),
                    "allow_invalid_certificates": not options.verify,
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(seconds=_TIMEOUT_SECONDS),
                    "default_headers": headers,
                },
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=_TIMEOUT_SECONDS)},
                credential_provider=_provider(credentials),
            )

        self._reading = new_store()
        self._writing = new_store(**{_HEADERS[name]: value for name, value in attributes_of_new(options).items()})

    def takes(self, full: str, size: int) -> bool:
        """Tell whether it is worth asking."""
        return size <= SMALL_BYTES and self._failures < FAILURES_MAX and _PLAIN_KEY.fullmatch(full) is not None

    def put(self, full: str, data: ReadableBuffer, metadata: Mapping[str, str], *, if_absent: bool) -> Stored:
        """Store an object with its SHA-256.

        Raises:
            FailedError: it was not stored, or nobody knows.
        """
        mode = "create" if if_absent else "overwrite"
        try:
            answer = self._obstore.put(
                self._writing, full, data, attributes=dict(metadata), mode=mode, use_multipart=False
            )
        except self._obstore.exceptions.AlreadyExistsError:
            raise FailedError(is_tried=False) from None
        except self._errors as error:
            self._count_failure()
            raise FailedError(is_tried=True) from error
        self._failures = 0
        return Stored((answer["e_tag"] or "").strip('"') or None, answer["version"])

    def get(self, full: str) -> bytes | None:
        """Return an object; None when it is large, or did not come."""
        try:
            answer = self._obstore.get(self._reading, full)
            data = bytes(answer.bytes()) if answer.meta["size"] <= SMALL_BYTES else None
        except (FileNotFoundError, self._obstore.exceptions.NotFoundError):
            return None
        except self._errors:
            self._count_failure()
            return None
        self._failures = 0
        return data

    def _count_failure(self) -> None:
        with self._lock:
            self._failures += 1


def _endpoint(url: str, options: S3Options) -> tuple[str, bool]:
    """Return the endpoint as obstore wants it, with the bucket in its host or not, and whether not."""
    # A certificate is for one name before the domain, so boto3 does not put a bucket with dots there either.
    if options.has_path_style or "." in options.bucket:
        return url, True
    scheme, _, host = url.partition("://")
    return f"{scheme}://{options.bucket}.{host}", False


def _provider(credentials: Credentials) -> Callable[[], S3Credential]:
    def provide() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=_CREDENTIALS_MINUTES),
        }

    return provide

"""Small requests by obstore (the extra `fast`): its client is written in Rust and costs a seventh of boto3's CPU.

Only what succeeds is taken from it. Whatever else happens - an error, a refusal, a server or a network that it does not
suit - the request is made again by boto3, whose answers are understood in every detail. So nothing but speed depends
on obstore, and after some failures in a row it is not asked any more.

It follows redirects where boto3 does not, so that bytes count only when they have the MD5 that the entity tag says; no
object that a KMS key encrypts is read by it. It is not used at all where it would go another way than boto3: through
a proxy that only one of them knows, or with a variable of the environment that only it reads.
"""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import getproxies_environment

from regstore_drivers.s3.address import bucket_url, is_plain_key
from regstore_drivers.s3.attributes import attributes_of_new

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import ReadableBuffer
    from botocore.credentials import Credentials  # noqa: TID251
    from mypy_boto3_s3 import S3Client
    from obstore import GetOptions
    from obstore.store import S3Credential

    from regstore_drivers.s3.options import S3Options

SMALL_BYTES = 1024 * 1024
"""Larger objects gain nothing, and their transfer may last longer than a request may."""
FAILURES_MAX = 8

_TIMEOUT_SECONDS = 30
_CREDENTIALS_MINUTES = 5
# obstore takes each AWS_ variable that it knows for an option, AWS_SERVER_SIDE_ENCRYPTION or AWS_SKIP_SIGNATURE for
# example. These it does not know, or is told otherwise.
_HARMLESS_VARIABLES = frozenset({
    "AWS_ACCESS_KEY_ID", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_DEFAULT_OUTPUT", "AWS_DEFAULT_PROFILE", "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_EXECUTION_ENV", "AWS_MAX_ATTEMPTS",
    "AWS_PAGER", "AWS_PROFILE", "AWS_REGION", "AWS_RETRY_MODE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
})  # fmt: skip
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


class Fetched(NamedTuple):
    """A small object, and what belongs to it: its headers and metadata by name."""

    data: bytes
    attributes: Mapping[str, str]


class FailedError(Exception):
    """It did not succeed.

    Attributes:
        is_tried: it may have had its effect all the same.
    """

    def __init__(self, *, is_tried: bool) -> None:
        super().__init__()
        self.is_tried = is_tried


def suits_environment(environment: Mapping[str, str]) -> bool:
    """Tell whether no variable of the environment sends obstore another way than boto3.

    A proxy does: each of them has its own rules for NO_PROXY, and only obstore reads ALL_PROXY.
    """
    is_foreign = any(name.startswith("AWS_") and name not in _HARMLESS_VARIABLES for name in environment)
    return not is_foreign and getproxies_environment().keys() <= {"no"}


class Fast:
    """Small requests of one driver; threads share it.

    Args:
        client: boto3's, for the endpoint and region that it found.
        credentials: boto3's.
        options: the bucket, and what new objects get.

    Raises:
        ImportError: the extra is not installed.
        FailedError: obstore does not suit the server's address or the environment.
        BotoCoreError: boto3 does not know where to send a request.
    """

    def __init__(self, client: S3Client, credentials: Credentials, options: S3Options) -> None:
        import obstore  # the extra may not be installed
        from obstore.store import S3Store

        self._obstore: Any = obstore
        self._errors = (obstore.exceptions.BaseError, OSError, RuntimeError, ValueError)
        self._lock = threading.Lock()
        self._failures = {"get": 0, "put": 0}
        if not suits_environment(os.environ):
            raise FailedError(is_tried=False)
        endpoint = bucket_url(client, options.bucket)

        def new_store(**headers: str) -> Any:
            return S3Store(
                options.bucket,
                config={
                    # Over "endpoint", this one would come from the environment.
                    "aws_endpoint_url_s3": endpoint,
                    "region": client.meta.region_name,
                    "virtual_hosted_style_request": True,  # the endpoint has the bucket in it, wherever
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

        try:
            self._reading = new_store()
            self._writing = new_store(**{_HEADERS[name]: value for name, value in attributes_of_new(options).items()})
        except self._errors as error:
            raise FailedError(is_tried=False) from error

    def takes(self, full: str, size: int) -> bool:
        """Tell whether it is worth asking."""
        return size <= SMALL_BYTES and is_plain_key(full)

    def put(self, full: str, data: ReadableBuffer, metadata: Mapping[str, str], *, if_absent: bool) -> Stored:
        """Store an object with its SHA-256.

        Raises:
            FailedError: it was not stored, or nobody knows.
        """
        if self._failures["put"] >= FAILURES_MAX:
            raise FailedError(is_tried=False)
        mode = "create" if if_absent else "overwrite"
        try:
            answer = self._obstore.put(
                self._writing, full, data, attributes=dict(metadata), mode=mode, use_multipart=False
            )
        except self._obstore.exceptions.AlreadyExistsError:
            raise FailedError(is_tried=False) from None
        except BaseException as error:
            self._raise_foreign(error)
            self._count_failure("put")
            raise FailedError(is_tried=True) from error
        self._failures["put"] = 0
        version = answer["version"]
        return Stored((answer["e_tag"] or "").strip('"') or None, None if version == "null" else version)

    def get(self, full: str, *, may_be_large: bool = False) -> Fetched | None:
        """Return an object; None when it is large, did not come, or cannot be told from something else.

        One that may be large is asked for as a range, so that the server begins to send no more than that.
        """
        if self._failures["get"] >= FAILURES_MAX:
            return None
        try:
            options: GetOptions = {"range": (0, SMALL_BYTES)} if may_be_large else {}
            answer = self._obstore.get(self._reading, full, options=options)
            if answer.meta["size"] > SMALL_BYTES:
                return None
            data = bytes(answer.bytes())
        except (FileNotFoundError, self._obstore.exceptions.NotFoundError):
            return None
        except BaseException as error:  # noqa: BLE001 - see _raise_foreign
            self._raise_foreign(error)
            if not (may_be_large and "416" in str(error)):  # of an empty object there is no range
                self._count_failure("get")
            return None
        if (answer.meta["e_tag"] or "").strip('"') != hashlib.md5(data, usedforsecurity=False).hexdigest():
            self._count_failure("get")
            return None
        self._failures["get"] = 0
        return Fetched(data, answer.attributes)

    def _raise_foreign(self, error: BaseException) -> None:
        """Raise what is no failure of obstore: a panic of its, which is no Exception, is one."""
        if not isinstance(error, self._errors) and type(error).__module__ != "pyo3_runtime":
            raise error

    def _count_failure(self, method: str) -> None:
        with self._lock:
            self._failures[method] += 1


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

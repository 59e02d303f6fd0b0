"""The boto3 client of a driver, made when it is first needed, and what its answers teach about the server."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3.session  # noqa: TID251
import botocore.session  # noqa: TID251
from botocore.config import Config  # noqa: TID251
from botocore.exceptions import BotoCoreError, ClientError  # noqa: TID251
from botocore.loaders import Loader  # noqa: TID251
from botocore.utils import parse_timestamp  # noqa: TID251

from regstore_drivers.errors import DriverError
from regstore_drivers.s3.address import is_plain_key, prepare
from regstore_drivers.s3.memory import MemoryBudget
from regstore_drivers.s3.sending import use_known_hashes

if TYPE_CHECKING:
    from botocore.credentials import Credentials  # noqa: TID251
    from mypy_boto3_s3 import S3Client

    from regstore_drivers.s3.fast import Fast
    from regstore_drivers.s3.options import S3Options

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
COPY_TIMEOUT_SECONDS = 300
"""Some servers answer to a copy only after the last byte, and one request copies up to 5 GiB."""
ATTEMPTS = 3


class Connection:
    """What all threads of a driver share.

    Attributes:
        options: where it goes.
        has_checksums: False once the server has refused an upload because of its checksum.
        has_conditions: whether the server honours If-None-Match; None as long as nothing has shown it.
        bucket_seen: the server has answered a request on the bucket with success.
        memory: what uploads may hold.
    """

    def __init__(self, options: S3Options, *, uses_fast: bool = True) -> None:
        self.options = options
        self._uses_fast = uses_fast
        self._fast: Fast | None = None
        self.has_checksums = True
        self.has_conditions: bool | None = None
        self.bucket_seen = False
        self.memory = MemoryBudget()
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._credentials: Credentials | None = None
        self._has_ca_bundle = False
        self._copying_client: S3Client | None = None
        self._clock: tuple[float, float] | None = None

    @property
    def client(self) -> S3Client:
        """The client; making it finds the credentials but sends nothing to the server."""
        with self._lock:
            if self._client is None:
                self._client = self._new_client(READ_TIMEOUT_SECONDS)
            return self._client

    @property
    def copying_client(self) -> S3Client:
        """Another client, which waits longer for an answer."""
        with self._lock:
            if self._copying_client is None:
                self._copying_client = self._new_client(COPY_TIMEOUT_SECONDS)
            return self._copying_client

    def takes_promised_body(self, full: str) -> bool:
        """Tell whether an object with that key may be sent as a `PromisedBody`."""
        path = urlsplit(self.client.meta.endpoint_url).path.strip("/")
        return is_plain_key(full) and (not path or is_plain_key(path))

    def fast(self, full: str, size: int) -> Fast | None:
        """Return obstore's client, where it is installed and suits a request with that key and size."""
        if not self._uses_fast:
            return None
        client = self.client
        with self._lock:
            if self._fast is None:
                self._fast = self._new_fast(client)
                self._uses_fast = self._fast is not None
        return self._fast if self._fast and self._fast.takes(full, size) else None

    def _new_fast(self, client: S3Client) -> Fast | None:
        if self._credentials is None or (self._has_ca_bundle and client.meta.endpoint_url.startswith("https:")):
            return None
        from regstore_drivers.s3.fast import FailedError, Fast  # only objects need it, not listings

        try:
            return Fast(client, self._credentials, self.options)
        except (ImportError, FailedError, BotoCoreError):
            return None

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for client in (self._client, self._copying_client):
                if client is not None:
                    client.close()

    def now(self) -> float:
        """Return the server's time: the Date of its newest answer and what has passed since.

        Without an answer yet it is asked for one, and any will do.

        Raises:
            DriverError: the answers have no Date.
            BotoCoreError, ClientError: there is no answer.
        """
        if self._clock is None:
            try:
                self.client.head_bucket(Bucket=self.options.bucket)
            except ClientError:
                if self._clock is None:
                    raise
        if self._clock is None:
            raise DriverError("the answers of the server have no Date", operation="now", location=self.options.location)
        date, at = self._clock
        return date + time.monotonic() - at

    def _new_client(self, read_timeout_seconds: float) -> S3Client:
        options = self.options
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader())
        # The default parser tries formats with dateutil: two thirds of the cost of reading a listing.
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_timestamp)
        session = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
        )
        self._credentials = session.get_credentials()
        bundles = (core.get_config_variable("ca_bundle"), os.environ.get("REQUESTS_CA_BUNDLE"))
        self._has_ca_bundle = any(bundles)
        region = options.region or session.region_name or ("us-east-1" if options.endpoint else None)
        client = session.client(
            "s3",
            region_name=region,
            endpoint_url=options.endpoint,
            use_ssl=options.secure,
            verify=None if options.verify else False,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=read_timeout_seconds,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=options.jobs,
                s3={"addressing_style": _addressing_style(options)},
                # What boto3 adds by itself breaks servers other than Amazon's. Uploads here carry a SHA-256 anyway.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        prepare(client)
        use_known_hashes(client)
        client.meta.events.register("after-call.s3", self._learn)
        client.meta.events.register("before-call.s3.DeleteObjects", _add_content_md5)
        return client

    def _learn(self, http_response: Any, **_: Any) -> None:
        if http_response.status_code < 300:
            self.bucket_seen = True
        date = http_response.headers.get("date")
        if date is not None:
            try:
                self._clock = (parsedate_to_datetime(date).timestamp(), time.monotonic())
            except ValueError:
                return


def _addressing_style(options: S3Options) -> Literal["auto", "path", "virtual"]:
    if options.has_path_style:
        return "path"
    # With an endpoint, "auto" is the path for boto3, which some servers refuse.
    return "auto" if options.endpoint is None else "virtual"


@functools.cache
def _loader() -> Loader:
    """Return the reader of boto3's descriptions of services; reading them is nine tenths of the cost of a client."""
    return Loader()


def _parse_timestamp(value: Any) -> datetime:
    """Parse the ISO 8601 of a listing, the HTTP date of a header, or whatever else boto3 itself understands."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            try:
                found = parsedate_to_datetime(value)
            except ValueError:
                return parse_timestamp(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return parse_timestamp(value)


def _add_content_md5(params: dict[str, Any], **_: Any) -> None:
    # Every server knows this one; older ones refuse a batch delete with the checksum that boto3 sends instead.
    params["context"]["checksum"] = {}
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()

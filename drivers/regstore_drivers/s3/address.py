"""Where boto3 sends the requests on a bucket: its rules and settings decide (dual-stack, FIPS, acceleration, dots)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Keys that no client writes in another way into a URL; those of a registry are such.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
# The name of no object that anybody asks for.
_KEY = "regstore-asks-for-the-address-of-the-bucket"


class _AddressFound(Exception):  # noqa: N818 - no error
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def is_plain_key(full: str) -> bool:
    """Tell whether a key looks the same in a URL, whoever writes it."""
    return _PLAIN_KEY.fullmatch(full) is not None


def prepare(client: S3Client) -> None:
    """Let `bucket_url` be asked about a client; done once, before threads share it."""
    client.meta.events.register("before-send.s3.HeadObject", _stop)


def bucket_url(client: S3Client, bucket: str) -> str:
    """Return the URL before the slash and key of an object; nothing is sent.

    Raises:
        BotoCoreError: there are no credentials, or the address cannot be told.
        ValueError: the client was not prepared.
    """
    try:
        client.head_object(Bucket=bucket, Key=_KEY)
    except _AddressFound as found:
        return found.url.removesuffix(f"/{_KEY}")
    raise ValueError("the client was not prepared")


def _stop(request: Any, **_: Any) -> None:
    if request.url.endswith(f"/{_KEY}"):
        raise _AddressFound(request.url)

"""What answers of a server say about an object, as an Entry or a digest."""

from __future__ import annotations

import base64
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from regstore_drivers.base import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping


def entry_of(key: str, head: dict[str, Any]) -> Entry:
    """Describe an object by what HEAD tells of it."""
    return _entry(key, head["ContentLength"], head["LastModified"].timestamp(), head)


def entry_of_put(key: str, size: int, answer: dict[str, Any]) -> Entry | None:
    """Describe an object by the answer to the PUT that stored it; None where the answer does not say enough.

    Its time is the Date of the answer: that of a listing may be some seconds older.
    """
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if date is None or "ETag" not in answer:
        return None
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return None
    return _entry(key, size, (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp(), answer)


def whole_sha256(answer: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 (`sha256:<hex>`) of the full object that an answer tells, or None.

    That of an object in parts is one of the parts' checksums, unless the server says otherwise.
    """
    checksum = answer.get("ChecksumSHA256")
    has_parts = "-" in answer.get("ETag", "")
    kind = answer.get("ChecksumType", "COMPOSITE" if has_parts else "FULL_OBJECT")
    if checksum is None or "-" in checksum or kind != "FULL_OBJECT":
        return None
    return f"sha256:{base64.b64decode(checksum).hex()}"


def _entry(key: str, size: int, modified: float, answer: dict[str, Any]) -> Entry:
    version = answer.get("VersionId")
    return Entry(
        key,
        size,
        modified,
        etag=answer.get("ETag", "").strip('"') or None,
        version=None if version == "null" else version,
        ctime=modified,
    )

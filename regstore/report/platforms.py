"""For which platforms an image is: `os/architecture[/variant]`, from the index or from the image's configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from regstore.digest import Digest, is_digest_of, parse_digest
from regstore.layout import BlobData
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from regstore_drivers.base import ReadDriver

_UNKNOWN = "unknown"
"""What BuildKit calls the platform of attestations (docs/attestations/attestation-storage.md)."""


def platforms_of(driver: ReadDriver, manifest: Digest) -> list[str]:
    """Return the platforms of an image or index, attestations left out; none where nothing says any."""
    content = _read_json(driver, manifest)
    entries = content.get("manifests")
    if isinstance(entries, list):
        found = [_platform_in(entry.get("platform")) for entry in entries if isinstance(entry, dict)]
    else:
        found = [_platform_in(_read_json(driver, _config_of(content)))]
    return sorted({platform for platform in found if platform})


def _config_of(content: dict[str, Any]) -> Digest | None:
    config = content.get("config")
    try:
        return parse_digest(config["digest"]) if isinstance(config, dict) else None
    except (KeyError, ValueError, AttributeError):
        return None


def _platform_in(content: object) -> str:
    if not isinstance(content, dict):
        return ""
    parts = [content.get("os"), content.get("architecture"), content.get("variant")]
    words = [part for part in parts if isinstance(part, str) and part]
    return "" if len(words) < 2 or _UNKNOWN in words else "/".join(words)


def _read_json(driver: ReadDriver, digest: Digest | None) -> dict[str, Any]:
    """Read a document; what is not there or no such document is empty, and other checks tell of it."""
    if digest is None:
        return {}
    try:
        data = driver.read(BlobData(digest).key)
        content = json.loads(data) if is_digest_of(digest, data) else {}
    except (DriverError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}

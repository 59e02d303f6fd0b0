"""Manifests as a registry serves them.

Sources: the distribution specification of the OCI (spec.md, "Pull"), and for signed schema1 manifests, which a registry
stores without and serves with their signatures, manifest/schema1 of distribution v2.8.3.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from regstore.registry.http import RegistryFailedError
from regstore_drivers.base import READ_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.registry.http import RegistryClient
    from regstore_drivers.streams import PieceStream

_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.artifact.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        _SIGNED,
        "application/vnd.docker.distribution.manifest.v1+json",
    )
)
"""Every kind that a registry may hold: what is not accepted by a client is converted, and has another digest then."""


def read_manifest(client: RegistryClient, path: str) -> bytes | None:
    """Read a manifest; None when there is none. Of a signed one these are the bytes that its digest means.

    Args:
        client: of the registry.
        path: from `/v2/` on.

    Raises:
        RegistryFailedError: the registry does not answer, refuses, or sends more than a manifest can be.
    """
    with client.get_stream(path, headers={"Accept": ACCEPT}) as answer:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise client.error_of(answer, f"GET {path}")
        data = b"".join(_iter_limited(answer.stream, f"{client.url}{path}"))
    is_signed = answer.headers.get("content-type", "").partition(";")[0].strip() == _SIGNED
    return _schema1_payload(data) if is_signed else data


def _iter_limited(stream: PieceStream, what: str) -> Iterator[bytes]:
    count = 0
    while piece := stream.read(READ_LIMIT_BYTES):
        count += len(piece)
        if count > READ_LIMIT_BYTES:
            raise RegistryFailedError(f"{what} is too large for a manifest", code="registry-refused")
        yield piece


def _schema1_payload(signed: bytes) -> bytes:
    """Return a signed manifest without its signatures, which is what its digest means; itself if that cannot be."""
    try:
        protected = json.loads(_unbase64(json.loads(signed)["signatures"][0]["protected"]))
        return signed[: protected["formatLength"]] + _unbase64(protected["formatTail"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return signed


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

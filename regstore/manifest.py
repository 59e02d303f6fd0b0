"""What a manifest reaches.

Decodes every kind that a registry of the 2.x and 3.x lines stores or stored: schema1, schema2, manifest list, OCI
manifest, OCI index (also a BuildKit cache index, whose entries are layers), OCI artifact manifest. Sources:
manifest/*/ of distribution v2.8.3 and v3.1.1, opencontainers/image-spec manifest.md and image-index.md.

Decoding fails closed: a kind that is not known for certain raises, since nobody can say what it reaches.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, NamedTuple

from regstore.digest import Digest, parse_digest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""The largest manifest that a registry accepts (registry/handlers/manifests.go, maxManifestBodySize)."""

_SCHEMA1 = {
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
}
_SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
_MANIFEST_TYPES = frozenset({*_SCHEMA1, _SCHEMA2, _LIST, _OCI_MANIFEST, _OCI_INDEX, _OCI_ARTIFACT})
_FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign",
    "application/vnd.oci.image.layer.nondistributable",
)


class ManifestError(ValueError):
    """The bytes are no manifest of a known kind."""


class Kind(IntEnum):
    """The kind of a manifest. The numbers are stored in the state database."""

    SCHEMA1 = 1
    SCHEMA2 = 2
    LIST = 3
    OCI_MANIFEST = 4
    OCI_INDEX = 5
    OCI_ARTIFACT = 6

    @property
    def is_index(self) -> bool:
        """Whether its references are children."""
        return self in (Kind.LIST, Kind.OCI_INDEX)


class Role(IntEnum):
    """What a manifest means by a reference. The numbers are stored in the state database."""

    CONFIG = 0
    LAYER = 1
    BLOB = 2
    CHILD = 3
    """An entry of an index. It is a manifest only if its repository has it as one: see BuildKit cache indexes."""


_KINDS = {
    _SCHEMA2: Kind.SCHEMA2,
    _LIST: Kind.LIST,
    _OCI_MANIFEST: Kind.OCI_MANIFEST,
    _OCI_INDEX: Kind.OCI_INDEX,
    _OCI_ARTIFACT: Kind.OCI_ARTIFACT,
}


class Reference(NamedTuple):
    """One descriptor of a manifest.

    `size` is in bytes as the descriptor says it, -1 where it says nothing (schema1). `is_foreign`: the bytes may
    legitimately be absent. `is_manifest`: the media type is one of a manifest.
    """

    digest: Digest
    size: int
    role: Role
    is_foreign: bool
    is_manifest: bool


class Manifest(NamedTuple):
    """What a manifest reaches, with duplicates as they stand. `subject` is the manifest that this one refers to."""

    kind: Kind
    references: tuple[Reference, ...]
    subject: Digest | None


def decode_manifest(data: bytes) -> Manifest:
    """Decode the bytes of a manifest.

    Raises:
        ManifestError: no JSON object, an unknown kind, or a field of the wrong type. The message says which.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ManifestError("not a JSON object")
    kind = _kind_of(content)
    references: list[Reference] = []
    if kind is Kind.SCHEMA1:
        for layer in _list_of(content, "fsLayers"):
            digest = _digest_of(layer.get("blobSum"), "fsLayers[].blobSum")
            references.append(Reference(digest, -1, Role.LAYER, False, False))
    elif kind.is_index:
        references += [_reference(entry, Role.CHILD, "manifests[]") for entry in _list_of(content, "manifests")]
    elif kind is Kind.OCI_ARTIFACT:
        references += [_reference(entry, Role.BLOB, "blobs[]") for entry in _list_of(content, "blobs")]
    else:
        config = content.get("config")
        if not isinstance(config, dict):
            raise ManifestError("config is not a descriptor")
        references.append(_reference(config, Role.CONFIG, "config"))
        references += [_reference(entry, Role.LAYER, "layers[]") for entry in _list_of(content, "layers")]
    subject = content.get("subject")
    if subject is None:
        return Manifest(kind, tuple(references), None)
    if not isinstance(subject, dict):
        raise ManifestError("subject is not a descriptor")
    return Manifest(kind, tuple(references), _digest_of(subject.get("digest"), "subject"))


def _kind_of(content: dict[str, Any]) -> Kind:
    media_type = content.get("mediaType")
    if media_type is not None and not isinstance(media_type, str):
        raise ManifestError("mediaType is not a string")
    if content.get("schemaVersion") == 1:
        if media_type and media_type not in _SCHEMA1:
            raise ManifestError(f"schemaVersion 1 with media type {media_type!r}")
        return Kind.SCHEMA1
    if not media_type:
        kind = Kind.OCI_INDEX if content.get("manifests") is not None else Kind.OCI_MANIFEST
    else:
        known = _KINDS.get(media_type)
        if known is None:
            raise ManifestError(f"unknown media type {media_type!r}")
        kind = known
    # A document that is two kinds at once reaches more than either decoder sees.
    foreign = ("config", "layers", "fsLayers") if kind.is_index else ("manifests", "fsLayers")
    if kind is not Kind.OCI_ARTIFACT and any(content.get(field) for field in foreign):
        raise ManifestError(f"a {kind.name.lower()} with {' or '.join(foreign)}")
    return kind


def _list_of(content: dict[str, Any], field: str) -> list[dict[str, Any]]:
    value = content.get(field)
    if value is None:
        return []  # Go writes an empty slice as null
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ManifestError(f"{field} is not a list of objects")
    return value


def _reference(descriptor: dict[str, Any], role: Role, field: str) -> Reference:
    size = descriptor.get("size", -1)
    media_type = descriptor.get("mediaType", "")
    if type(size) is not int or not -1 <= size < 1 << 63:
        raise ManifestError(f"{field}: size is not a number of bytes")
    if type(media_type) is not str:
        raise ManifestError(f"{field}: mediaType is not a string")
    is_foreign = bool(descriptor.get("urls")) or media_type.startswith(_FOREIGN)
    try:
        digest = parse_digest(descriptor["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{field} has no digest: {error}") from None
    return Reference(digest, size, role, is_foreign, media_type in _MANIFEST_TYPES)


def _digest_of(value: object, field: str) -> Digest:
    if not isinstance(value, str):
        raise ManifestError(f"{field} has no digest")
    try:
        return parse_digest(value)
    except ValueError as error:
        raise ManifestError(f"{field}: {error}") from None

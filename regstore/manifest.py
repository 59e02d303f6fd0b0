"""What a manifest reaches.

Decodes every kind that a registry of the 2.x and 3.x lines stores or stored: schema1, schema2, manifest list, OCI
manifest, OCI index (also a BuildKit cache index, whose entries are layers), OCI artifact manifest. Sources:
manifest/*/ of distribution v2.8.3 and v3.1.1, opencontainers/image-spec manifest.md and image-index.md.

Decoding fails closed: a kind that is not known for certain raises, since nobody can say what it reaches.
"""

from __future__ import annotations

import json
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from regstore.digest import Digest, parse_digests

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


ROLE_MASK = 0x03
FOREIGN = 0x10
"""The flag of a reference whose bytes may legitimately be absent."""
IS_MANIFEST = 0x20
"""The flag of a reference whose media type is one of a manifest."""


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


_REACHING = frozenset({"manifests", "config", "layers", "blobs", "fsLayers"})
_IMAGE_FIELDS = frozenset({"config", "layers"})
_OWN_FIELDS = {
    Kind.SCHEMA1: frozenset({"fsLayers"}),
    Kind.LIST: frozenset({"manifests"}),
    Kind.OCI_INDEX: frozenset({"manifests"}),
    Kind.OCI_ARTIFACT: frozenset({"blobs"}),
}
"""The fields by which a kind reaches others, where it is no image."""
_FIELDS = _REACHING | {"schemaVersion", "mediaType", "subject"}
_FOLDED_FIELDS = frozenset(field.casefold() for field in _FIELDS)
_INDEXES = frozenset({Kind.LIST, Kind.OCI_INDEX})


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
    """What a manifest reaches, with duplicates as they stand.

    Attributes:
        kind: its kind.
        digests, sizes, flags: its descriptors, column by column, since a volume has millions of them; flags are the
        role
            and `FOREIGN`, `IS_MANIFEST`.
        subject: the manifest that this one refers to.
    """

    kind: Kind
    digests: tuple[Digest, ...]
    sizes: tuple[int, ...]
    flags: tuple[int, ...]
    subject: Digest | None

    @property
    def references(self) -> tuple[Reference, ...]:
        """The descriptors, row by row."""
        return tuple(
            Reference(digest, size, Role(flags & ROLE_MASK), bool(flags & FOREIGN), bool(flags & IS_MANIFEST))
            for digest, size, flags in zip(self.digests, self.sizes, self.flags, strict=True)
        )


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
    for name in content.keys() - _FIELDS:
        # Registries and clients are written in Go, which takes `Layers` for `layers`.
        if name.casefold() in _FOLDED_FIELDS:
            raise ManifestError(f"the field {name!r} is one in another case")
    kind = _kind_of(content)
    subject = _subject_of(content)
    if kind is Kind.SCHEMA1:
        layers = _list_of(content, "fsLayers")
        digests = _digests_of([layer.get("blobSum") for layer in layers], "fsLayers[].blobSum")
        return Manifest(kind, digests, (-1,) * len(layers), (Role.LAYER.value,) * len(layers), subject)
    if kind in _INDEXES:
        return Manifest(kind, *_descriptors(_list_of(content, "manifests"), Role.CHILD, "manifests[]"), subject)
    if kind is Kind.OCI_ARTIFACT:
        return Manifest(kind, *_descriptors(_list_of(content, "blobs"), Role.BLOB, "blobs[]"), subject)
    config = content.get("config")
    if not isinstance(config, dict):
        raise ManifestError("config is not a descriptor")
    layers = _list_of(content, "layers")
    digests, sizes, flags = _descriptors([config, *layers], Role.LAYER, "config or layers[]")
    return Manifest(kind, digests, sizes, (flags[0] & ~ROLE_MASK | Role.CONFIG.value, *flags[1:]), subject)


def _kind_of(content: dict[str, Any]) -> Kind:
    media_type = content.get("mediaType")
    if media_type is not None and not isinstance(media_type, str):
        raise ManifestError("mediaType is not a string")
    version = content.get("schemaVersion")
    if version is not None and type(version) is not int:
        raise ManifestError("schemaVersion is not a number")
    if version == 1:
        if media_type and media_type not in _SCHEMA1:
            raise ManifestError(f"schemaVersion 1 with media type {media_type!r}")
        kind = Kind.SCHEMA1
    elif not media_type:
        kind = Kind.OCI_INDEX if content.get("manifests") is not None else Kind.OCI_MANIFEST
    else:
        known = _KINDS.get(media_type)
        if known is None:
            raise ManifestError(f"unknown media type {media_type!r}")
        kind = known
    # A document that is two kinds at once reaches more than either decoder sees.
    for field in _REACHING - _OWN_FIELDS.get(kind, _IMAGE_FIELDS):
        if content.get(field):
            raise ManifestError(f"a {kind.name.lower()} with {field}")
    return kind


def _list_of(content: dict[str, Any], field: str) -> list[dict[str, Any]]:
    value = content.get(field)
    if value is None:
        return []  # Go writes an empty slice as null
    if not isinstance(value, list) or set(map(type, value)) - {dict}:
        raise ManifestError(f"{field} is not a list of objects")
    return value


def _descriptors(
    entries: list[dict[str, Any]], role: Role, field: str
) -> tuple[tuple[Digest, ...], tuple[int, ...], tuple[int, ...]]:
    """Take descriptors apart into digests, sizes and flags, a column at a time."""
    sizes = [entry.get("size", -1) for entry in entries]
    if set(map(type, sizes)) - {int} or (sizes and not -1 <= min(sizes) <= max(sizes) < 1 << 63):
        raise ManifestError(f"{field}: size is not a number of bytes")
    media_types = [entry.get("mediaType", "") for entry in entries]
    if set(map(type, media_types)) - {str}:
        raise ManifestError(f"{field}: mediaType is not a string")
    plain = int(role)
    flags = [plain | more for more in map(_media_type_flags, media_types)]
    for position, entry in enumerate(entries):
        if entry.get("urls"):
            flags[position] |= FOREIGN
    return _digests_of([entry.get("digest") for entry in entries], field), tuple(sizes), tuple(flags)


@lru_cache(maxsize=256)
def _media_type_flags(media_type: str) -> int:
    return (FOREIGN if media_type.startswith(_FOREIGN) else 0) | (IS_MANIFEST if media_type in _MANIFEST_TYPES else 0)


def _digests_of(texts: list[Any], field: str) -> tuple[Digest, ...]:
    if set(map(type, texts)) - {str}:
        raise ManifestError(f"{field} has no digest")
    try:
        return parse_digests(texts)
    except ValueError as error:
        raise ManifestError(f"{field}: {error}") from None


def _subject_of(content: dict[str, Any]) -> Digest | None:
    subject = content.get("subject")
    if subject is None:
        return None
    if not isinstance(subject, dict):
        raise ManifestError("subject is not a descriptor")
    return _digests_of([subject.get("digest")], "subject")[0]

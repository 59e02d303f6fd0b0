"""The two copies of a LUKS2 header, on raw bytes.

The layout is that of the LUKS2 on-disk format specification, section 2.1, and lib/luks2/luks2.h.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regstore.luks.schema import BINARY_BYTES, SchemaError, build_metadata
from regstore.luks.strict_json import JsonError, parse_json

if TYPE_CHECKING:
    from regstore.luks.metadata import Metadata
    from regstore.luks.source import Source

FIRST_MAGIC = b"LUKS\xba\xbe"
SECOND_MAGIC = b"SKUL\xba\xbe"
COPY_SIZES = tuple(0x4000 << shift for shift in range(9))
_BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_CHECKSUM = slice(448, 512)


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy with its magic in place.

    Attributes:
        offset: where it lies.
        is_first: its magic is that of the first copy.
        version: of the format, 2 if it can be read any further.
        stated_offset: where it believes to lie; a header file that cryptsetup wrote says 0 for the first.
        damage: what is wrong with its bytes, or empty: the checksum proves them.
        broken_rule: what is wrong with what they say, or empty.
        metadata: None with damage, or with a broken rule that leaves open what is meant.
        content_sha256: of the JSON in one form, to compare the copies by.
    """

    offset: int
    is_first: bool
    version: int
    copy_bytes: int
    seqid: int
    label: str
    subsystem: str
    uuid: str
    stated_offset: int
    damage: str = ""
    broken_rule: str = ""
    metadata: Metadata | None = None
    content_sha256: str = ""

    @property
    def name(self) -> str:
        """How findings call it."""
        return "first copy" if self.is_first else "second copy"


def has_magic(source: Source, offset: int, magic: bytes) -> bool:
    """Tell whether a copy begins there.

    Raises:
        ReadFailedError: the device gives an error.
    """
    return source.read(offset, len(magic)) == magic


def read_copy(source: Source, offset: int) -> Copy | None:
    """Read the copy that begins there; None when there is no magic.

    Raises:
        ReadFailedError: the device gives an error.
    """
    binary = source.read(offset, BINARY_BYTES)
    if binary[:6] not in (FIRST_MAGIC, SECOND_MAGIC):
        return None
    fields = _BINARY.unpack(binary[: _BINARY.size].ljust(_BINARY.size, b"\0"))
    magic, version, copy_bytes, seqid, label, algorithm, _, uuid, subsystem, stated_offset, _, _ = fields
    found = Copy(
        offset,
        magic == FIRST_MAGIC,
        version,
        copy_bytes,
        seqid,
        _text(label),
        _text(subsystem),
        _text(uuid),
        stated_offset,
    )
    if version != 2:
        return found
    if copy_bytes not in COPY_SIZES:
        return replace(found, damage=f"its size {copy_bytes} is none that a header can have")
    area = binary + source.read(offset + BINARY_BYTES, copy_bytes - BINARY_BYTES)
    if len(area) < copy_bytes:
        return replace(found, damage=f"it ends after {len(area)} of {copy_bytes} bytes")
    if damage := _checksum_damage(area, _text(algorithm)):
        return replace(found, damage=damage)
    text, end, rest = area[BINARY_BYTES:].partition(b"\0")
    if not end:
        return replace(found, broken_rule="the JSON has no end within its area")
    if rest.strip(b"\0"):
        return replace(found, broken_rule="something stands behind the end of the JSON")
    if not (found.uuid.isascii() and found.uuid.isprintable()):
        return replace(found, broken_rule="the UUID is not printable")
    content = hashlib.sha256(text).hexdigest()
    try:
        document = parse_json(text)
        content = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        metadata = build_metadata(
            document, copy_bytes, uuid=found.uuid, seqid=seqid, label=found.label, subsystem=found.subsystem
        )
    except (JsonError, SchemaError) as error:
        return replace(found, broken_rule=str(error), content_sha256=content)
    return replace(found, metadata=metadata, content_sha256=content, broken_rule=_find_dangling(metadata))


def _find_dangling(metadata: Metadata) -> str:
    """Name a token of a slot that does not exist: cryptsetup refuses such a header, and what else it says is clear."""
    for token in metadata.tokens.values():
        if missing := token.keyslots - metadata.keyslots.keys():
            return f"token {token.id} names keyslot {min(missing)}, which does not exist"
    return ""


def _checksum_damage(area: bytes, algorithm: str) -> str:
    """Compare the checksum, which covers the whole copy with its own place zeroed."""
    try:
        digest = hashlib.new(algorithm, usedforsecurity=False)
    except (ValueError, TypeError):
        return f"its checksum is of an unknown kind, {algorithm[:32]!r}"
    if not 0 < digest.digest_size <= 64:
        return f"its checksum is of a kind that does not fit, {algorithm[:32]!r}"
    digest.update(area[: _CHECKSUM.start])
    digest.update(bytes(64))
    digest.update(area[_CHECKSUM.stop :])
    stored = area[_CHECKSUM]
    if not hmac.compare_digest(stored, digest.digest().ljust(64, b"\0")):
        return f"its {algorithm} checksum is {stored[:8].hex()}... and its bytes give {digest.digest()[:8].hex()}..."
    return ""


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")

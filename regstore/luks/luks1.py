"""The one copy of a LUKS1 header, on raw bytes: no checksum, so only its rules can be checked.

The layout is that of the LUKS1 on-disk format specification, figure 1, and lib/luks1/keymanage.h.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from regstore.luks.metadata import SECTOR_BYTES, Digest, Kdf, Keyslot, Metadata, Segment

if TYPE_CHECKING:
    from regstore.luks.source import Source

REENCRYPTION_MAGIC = b"LUKS\xde\xad"
HEADER_BYTES = 592
_ALIGNMENT = 4096
_ACTIVE = 0x00AC71F3
_DISABLED = 0x0000DEAD
_MAX_KEY_BYTES = 512
_MAX_AREA_END = 128 * 1024 * 1024
_SLOTS_OFFSET = 208
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOT_COUNT = 8


def read_luks1(source: Source) -> tuple[Metadata, list[str]]:
    """Return what the header says and every rule that it breaks.

    The areas of slots that break a rule are not part of the metadata.

    Raises:
        ReadFailedError: the device gives an error.
    """
    raw = source.read(0, HEADER_BYTES).ljust(HEADER_BYTES, b"\0")
    _, _, cipher, mode, hash_name, payload, key_bytes, digest, digest_salt, _, uuid = _HEADER.unpack_from(raw)
    broken = []
    names = {"cipher": cipher, "cipher mode": mode, "hash": hash_name, "UUID": uuid}
    for name, field in names.items():
        if not _is_name(field):
            broken.append(f"the {name} is not a printable name")
    if not 1 <= key_bytes <= _MAX_KEY_BYTES:
        broken.append(f"the key has {key_bytes} bytes, not from 1 to {_MAX_KEY_BYTES}")
        key_bytes = 0
    data_offset = payload * SECTOR_BYTES
    areas = []
    keyslots = {}
    for number in range(_SLOT_COUNT):
        active, iterations, salt, material, stripes = _SLOT.unpack_from(raw, _SLOTS_OFFSET + number * _SLOT.size)
        if active not in (_ACTIVE, _DISABLED):
            broken.append(f"keyslot {number} is neither on nor off: its flag is {active:#010x}")
        offset, size = material * SECTOR_BYTES, key_bytes * stripes
        if not stripes:
            broken.append(f"keyslot {number} has no stripes")
            continue
        if offset < _ALIGNMENT:
            broken.append(f"the key material of keyslot {number} begins at {offset}, within the header")
            continue
        if offset + size > _MAX_AREA_END:
            broken.append(f"the key material of keyslot {number} reaches to {offset + size}, further than any header")
            continue
        if data_offset and offset + size > data_offset:
            broken.append(f"the key material of keyslot {number} reaches to {offset + size}, into the data")
            continue
        areas.append((offset, offset + size, number))
        if active == _ACTIVE and size:
            kdf = Kdf("pbkdf2", salt, hash=_text(hash_name), iterations=iterations)
            keyslots[number] = Keyslot(
                number, "luks2", key_bytes, offset, size, f"{_text(cipher)}-{_text(mode)}", stripes, kdf
            )
    areas.sort()
    for left, right in pairwise(areas):
        if left[1] > right[0]:
            broken.append(f"the key material of keyslots {left[2]} and {right[2]} overlaps")
    end = max((area[1] for area in areas), default=_ALIGNMENT)
    end = -(-end // _ALIGNMENT) * _ALIGNMENT
    begin = min((area[0] for area in areas), default=_ALIGNMENT)
    metadata = Metadata(
        version=1,
        uuid=_text(uuid),
        copy_bytes=HEADER_BYTES,
        slots_offset=begin,
        slots_bytes=max(end - begin, 0),
        data_offset=data_offset,
        keyslots=keyslots,
        segments={0: Segment(0, "crypt", data_offset, None, encryption=f"{_text(cipher)}-{_text(mode)}")},
        digests={0: Digest(0, frozenset(keyslots), frozenset([0]), digest_salt, digest)},
    )
    return metadata, broken


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _is_name(field: bytes) -> bool:
    name = field.partition(b"\0")[0]
    return bool(name) and all(0x20 < byte < 0x7F for byte in name)

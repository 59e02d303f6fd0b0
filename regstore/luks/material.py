"""Whether the bytes of a key slot can still be key material.

Key material is encrypted, so every block of it looks random. There is no checksum: damage of a few bytes kills a slot
as surely and cannot be seen without the passphrase.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING

from regstore.luks.source import ReadFailedError

if TYPE_CHECKING:
    from regstore.luks.metadata import Keyslot
    from regstore.luks.source import Source

_BLOCK_BYTES = 4096
# cryptsetup 2.8 flags 330.52, one in a thousand healthy blocks: 6 of 200 healthy slots were above that, none above 400.
_MAX_CHI_SQUARE = 400.0


@dataclass(frozen=True, slots=True)
class Material:
    """What was seen of a slot's key material.

    Attributes:
        sha256: of its bytes; empty when they cannot all be read.
        damage: why it cannot be key material any more, or empty.
    """

    sha256: str = ""
    damage: str = ""


def read_material(source: Source, slot: Keyslot) -> Material:
    """Read the key material of a slot, a block at a time."""
    end = slot.area_offset + slot.material_bytes
    damage = ""
    digest = hashlib.sha256()
    for offset in range(slot.area_offset, end, _BLOCK_BYTES):
        length = min(_BLOCK_BYTES, end - offset)
        try:
            block = source.read(offset, length)
        except ReadFailedError as error:
            return Material(damage=f"its key material cannot be read: {error}")
        if len(block) < length:
            return Material(damage=f"its key material ends at byte {offset + len(block)}, where the device ends")
        if not damage and chi_square(block) > _MAX_CHI_SQUARE:
            what = "zeroes only" if not block.strip(b"\0") else "bytes that are not random"
            damage = f"the block at byte {offset} of its key material holds {what}"
        digest.update(block)
    return Material(digest.hexdigest(), damage)


def chi_square(block: bytes) -> float:
    """Return Pearson's chi-squared of the byte values against an even spread: about 255 for random bytes."""
    counts = Counter(block).values()
    squares: int = sum(map(mul, counts, counts))
    return squares * 256 / len(block) - len(block)

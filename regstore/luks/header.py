"""Everything that one header says, read once and without changing a byte.

Tools that look through libcryptsetup repair a damaged copy while they look, silently: so this reads raw bytes, before
anything else is asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.luks import luks1
from regstore.luks.luks2 import COPY_SIZES, FIRST_MAGIC, Copy, read_copy
from regstore.luks.material import Material, read_material
from regstore.luks.signatures import find_foreign
from regstore.luks.source import ReadFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regstore.luks.metadata import Metadata
    from regstore.luks.source import Source

_LOCK_PATIENCE_SECONDS = 3.0
_PAUSE_SECONDS = 0.5
_MOVED_PROBES = (*COPY_SIZES, 63 * 512, 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Reading:
    """One header, as it was read.

    Attributes:
        size: of the device or file, in bytes.
        version: 1, 2, another one that the magic came with, or 0 without any header.
        copies: of LUKS2, those with their magic in place; the first copy before the second.
        metadata: what the header says: the valid copy with the higher sequence number, the first of equal ones.
        broken_rules: of LUKS1.
        foreign: what else lies there.
        moved_to: where the magic of a first copy was found when there is none where it should be; else None.
        failure: the first error of the device within header and key slots; else None.
        is_reencrypted_in_place: the magic of a LUKS1 header while cryptsetup-reencrypt works on it.
        materials: of each slot by its number.
    """

    size: int
    version: int = 0
    copies: tuple[Copy, ...] = ()
    metadata: Metadata | None = None
    broken_rules: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    moved_to: int | None = None
    failure: ReadFailedError | None = None
    is_reencrypted_in_place: bool = False
    materials: dict[int, Material] = field(default_factory=dict)

    @property
    def first(self) -> Copy | None:
        """The copy that begins the device."""
        return next((copy for copy in self.copies if copy.is_first), None)

    @property
    def second(self) -> Copy | None:
        """The other copy."""
        return next((copy for copy in self.copies if not copy.is_first), None)

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing is wrong with the header's own bytes, so that there is no reason to look again."""
        if self.failure or self.foreign or not self.metadata or self.broken_rules:
            return False
        if self.version == 2:
            first, second = self.first, self.second
            if not (first and second and first.metadata and second.metadata and first.seqid == second.seqid):
                return False
            if first.broken_rule or second.broken_rule:
                return False
        return not any(material.damage for material in self.materials.values())

    @property
    def usable_keyslots(self) -> list[int]:
        """The slots that open the volume, as far as can be seen."""
        if self.metadata is None:
            return []
        return [slot.id for slot in self.metadata.bound_keyslots if not self.materials[slot.id].damage]


def read_header(source: Source, locks: Path, sleep: Callable[[float], object] = time.sleep) -> Reading:
    """Read a header; what is not sound is read again, because it may be changing just now.

    Args:
        source: the device or file.
        locks: cryptsetup's directory of locks.
        sleep: for tests.
    """
    with source.shared_lock(locks, _LOCK_PATIENCE_SECONDS, sleep):
        reading = read_once(source)
    if not reading.is_sound and reading.failure is None:
        sleep(_PAUSE_SECONDS)
        with source.shared_lock(locks, _LOCK_PATIENCE_SECONDS, sleep):
            reading = read_once(source)
    return reading


def read_once(source: Source) -> Reading:
    """Read a header as it is at this moment."""
    try:
        begin = source.read(0, luks1.HEADER_BYTES)
    except ReadFailedError as error:
        return Reading(source.size, failure=error)
    version = int.from_bytes(begin[6:8], "big") if begin.startswith(FIRST_MAGIC) else 0
    try:
        foreign = tuple(find_foreign(source))
        if version == 1:
            return _read_luks1(source, foreign)
        copies, failure = _read_copies(source)
        moved_to = None if version or copies else _find_moved(source)
    except ReadFailedError as error:
        return Reading(source.size, version, failure=error)
    in_place = [copy for copy in copies if copy.metadata and copy.is_first == (copy.offset == 0)]
    valid = sorted(in_place, key=lambda copy: (copy.seqid, copy.is_first), reverse=True)
    metadata = valid[0].metadata if valid else None
    if version == 0 and copies:
        version = copies[0].version
    return Reading(
        source.size,
        version,
        copies,
        metadata,
        foreign=foreign,
        moved_to=moved_to,
        failure=failure or _find_failure(source, metadata),
        is_reencrypted_in_place=begin.startswith(luks1.REENCRYPTION_MAGIC),
        materials=_read_materials(source, metadata),
    )


def _read_luks1(source: Source, foreign: tuple[str, ...]) -> Reading:
    metadata, broken = luks1.read_luks1(source)
    return Reading(
        source.size,
        1,
        metadata=metadata,
        broken_rules=tuple(broken),
        foreign=foreign,
        failure=_find_failure(source, metadata),
        materials=_read_materials(source, metadata),
    )


def _read_copies(source: Source) -> tuple[tuple[Copy, ...], ReadFailedError | None]:
    """Return the copies with their magic in place, and the error that hid the second."""
    first = read_copy(source, 0)
    found = [first] if first else []
    if first and not first.is_first:
        # The second copy where the first should be: the partition begins too late.
        return tuple(found), None
    places = list(COPY_SIZES)
    if first and first.copy_bytes in COPY_SIZES:
        places.remove(first.copy_bytes)
        places.insert(0, first.copy_bytes)
        if not first.damage:
            places = places[:1]
    candidates = []
    failure = None
    for place in places:
        try:
            copy = read_copy(source, place)
        except ReadFailedError as error:
            failure = failure or error
            continue
        if copy and not copy.is_first:
            candidates.append(copy)
    if candidates:
        found.append(next((copy for copy in candidates if not copy.damage), candidates[0]))
    return tuple(found), failure


def _find_moved(source: Source) -> int | None:
    return next((place for place in _MOVED_PROBES if source.read(place, len(FIRST_MAGIC)) == FIRST_MAGIC), None)


def _find_failure(source: Source, metadata: Metadata | None) -> ReadFailedError | None:
    if metadata is None:
        return None
    return source.find_unreadable(0, metadata.slots_offset + metadata.slots_bytes)


def _read_materials(source: Source, metadata: Metadata | None) -> dict[int, Material]:
    if metadata is None:
        return {}
    return {number: read_material(source, slot) for number, slot in metadata.keyslots.items() if slot.type == "luks2"}

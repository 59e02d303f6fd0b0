"""From the JSON of a LUKS2 header to metadata, with every rule that cryptsetup has for it.

The rules are those of the LUKS2 on-disk format specification, chapter 3, and of lib/luks2/luks2_json_metadata.c.
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from regstore.luks.metadata import Digest, Kdf, Keyslot, Metadata, Segment, Token
from regstore.luks.strict_json import JsonError, parse_uint64

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

BINARY_BYTES = 4096
MAX_SLOTS_BYTES = 128 * 1024 * 1024
_NUMBER = re.compile(r"0|[1-9][0-9]?", re.ASCII)
_LAST_NUMBER = 31
_SECTOR_SIZES = (512, 1024, 2048, 4096)
_MAX_KEY_BYTES = 512
# Far above what any header has (a digest in Base64 takes 88 characters): so that metadata stay small.
_MAX_TEXT = 512
_MAX_ITEMS = 1000
_MAX_FLAGS = 32
_MAX_FLAG_TEXT = 64
_STRIPES = 4000
_REENCRYPT_AREAS = ("none", "checksum", "journal", "datashift", "datashift-checksum", "datashift-journal")


class SchemaError(ValueError):
    """The JSON breaks a rule; the text says which and where."""


def build_metadata(
    document: Any, copy_bytes: int, *, uuid: str, seqid: int, label: str = "", subsystem: str = ""
) -> Metadata:
    """Return what the document says.

    Args:
        document: parsed by `parse_json`.
        copy_bytes: the size of one copy, as the binary header tells it.

    Raises:
        SchemaError: a rule is broken.
    """
    root = _Object(document, "the header")
    config = root.object("config")
    if config.uint64("json_size") != copy_bytes - BINARY_BYTES:
        raise SchemaError(f"config.json_size is not {copy_bytes - BINARY_BYTES}, the size of the JSON area")
    slots_bytes = config.uint64("keyslots_size")
    if slots_bytes % 4096 or slots_bytes > MAX_SLOTS_BYTES:
        raise SchemaError(f"config.keyslots_size {slots_bytes} is no multiple of 4096 of at most 128 MiB")
    keyslots = _numbered(root, "keyslots", _keyslot)
    segments = _numbered(root, "segments", _segment, last=1000)
    digests = _numbered(root, "digests", _digest)
    tokens = _numbered(root, "tokens", _token)
    area = (2 * copy_bytes, 2 * copy_bytes + slots_bytes)
    _check_areas(keyslots, *area)
    data_offset = _check_segments(segments, area[1])
    _check_references(keyslots, segments, digests)
    return Metadata(
        version=2,
        uuid=uuid,
        copy_bytes=copy_bytes,
        slots_offset=area[0],
        slots_bytes=slots_bytes,
        data_offset=data_offset,
        keyslots=keyslots,
        segments=segments,
        digests=digests,
        tokens=tokens,
        seqid=seqid,
        label=label,
        subsystem=subsystem,
        flags=frozenset(_flags(config, "flags")),
        requirements=_requirements(config),
    )


class _Object:
    """A JSON object and the path by which errors name it."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise SchemaError(f"{path} is no object")
        self._value = value
        self.path = path

    def _get(self, name: str) -> Any:
        if name not in self._value:
            raise SchemaError(f"{self.path} has no {name}")
        return self._value[name]

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def names(self) -> list[str]:
        return list(self._value)

    def object(self, name: str) -> _Object:
        return _Object(self._get(name), f"{self.path}.{name}" if self.path != "the header" else name)

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise SchemaError(f"{self.path}.{name} is no text of at most {_MAX_TEXT} characters")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        if default is not None and name not in self._value:
            return default
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise SchemaError(f"{self.path}.{name} is no number")
        return value

    def uint64(self, name: str) -> int:
        """Return a number that is written as text: JSON has no numbers of 64 bits for everybody."""
        try:
            return parse_uint64(self.text(name))
        except JsonError as error:
            raise SchemaError(f"{self.path}.{name}: {error}") from error

    def base64(self, name: str) -> bytes:
        try:
            return base64.b64decode(self.text(name), validate=True)
        except (binascii.Error, ValueError) as error:
            raise SchemaError(f"{self.path}.{name} is no Base64") from error

    def texts(self, name: str, *, optional: bool = False) -> list[str]:
        if optional and name not in self._value:
            return []
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) and len(item) <= _MAX_TEXT for item in value):
            raise SchemaError(f"{self.path}.{name} is no list of texts")
        if len(value) > _MAX_ITEMS:
            raise SchemaError(f"{self.path}.{name} has {len(value)} items")
        return value

    def numbers(self, name: str) -> frozenset[int]:
        return frozenset(_parse_number(text, f"{self.path}.{name}") for text in self.texts(name))


def _parse_number(text: str, path: str, last: int = _LAST_NUMBER) -> int:
    if not (_NUMBER.fullmatch(text) or (last > 99 and re.fullmatch(r"[1-9][0-9]{2,3}", text, re.ASCII))):
        raise SchemaError(f"{path} has {text[:20]!r}, which is no number from 0 to {last}")
    if int(text) > last:
        raise SchemaError(f"{path} has {text}, and the last number is {last}")
    return int(text)


def _numbered(root: _Object, name: str, build: Callable[[int, _Object], _T], last: int = _LAST_NUMBER) -> dict[int, _T]:
    container = root.object(name)
    return {
        number: build(number, container.object(key))
        for key in container.names()
        for number in (_parse_number(key, name, last),)
    }


def _keyslot(number: int, slot: _Object) -> Keyslot:
    kind = slot.text("type")
    area = slot.object("area")
    key_bytes = slot.number("key_size")
    priority = slot.number("priority", 1)
    if priority > 2:
        raise SchemaError(f"{slot.path}.priority is {priority}, not 0, 1 or 2")
    if not 1 <= key_bytes <= _MAX_KEY_BYTES:
        raise SchemaError(f"{slot.path}.key_size is {key_bytes}, not from 1 to {_MAX_KEY_BYTES}")
    offset, size = area.uint64("offset"), area.uint64("size")
    if kind == "reencrypt":
        if area.text("type") not in _REENCRYPT_AREAS:
            raise SchemaError(f"{area.path}.type {area.text('type')[:40]!r} is none of a reencryption")
        mode = slot.text("mode")
        if mode not in ("reencrypt", "encrypt", "decrypt"):
            raise SchemaError(f"{slot.path}.mode {mode[:40]!r} is not reencrypt, encrypt or decrypt")
        return Keyslot(number, kind, key_bytes, offset, size, priority=priority, mode=mode)
    if kind != "luks2":
        return Keyslot(number, kind, key_bytes, offset, size, priority=priority)
    splitter = slot.object("af")
    if splitter.text("type") != "luks1" or splitter.number("stripes") != _STRIPES:
        raise SchemaError(f"{splitter.path} is no splitter of type luks1 with {_STRIPES} stripes")
    splitter.text("hash")
    if area.text("type") != "raw":
        raise SchemaError(f"{area.path}.type is not raw")
    if area.number("key_size") < 1:
        raise SchemaError(f"{area.path}.key_size is 0")
    if size < key_bytes * _STRIPES:
        raise SchemaError(f"{area.path}.size {size} is less than its key material of {key_bytes * _STRIPES} bytes")
    return Keyslot(
        number,
        kind,
        key_bytes,
        offset,
        size,
        area_encryption=area.text("encryption"),
        stripes=_STRIPES,
        kdf=_kdf(slot.object("kdf")),
        priority=priority,
    )


def _kdf(kdf: _Object) -> Kdf:
    kind, salt = kdf.text("type"), kdf.base64("salt")
    if kind == "pbkdf2":
        iterations = kdf.number("iterations")
        if iterations < 1:
            raise SchemaError(f"{kdf.path}.iterations is 0")
        return Kdf(kind, salt, hash=kdf.text("hash"), iterations=iterations)
    if kind in ("argon2i", "argon2id"):
        found = Kdf(kind, salt, time=kdf.number("time"), memory_kib=kdf.number("memory"), cpus=kdf.number("cpus"))
        if not (found.time and found.memory_kib and found.cpus):
            raise SchemaError(f"{kdf.path} has a cost of 0")
        return found
    raise SchemaError(f"{kdf.path}.type {kind[:40]!r} is not pbkdf2, argon2i or argon2id")


def _segment(number: int, segment: _Object) -> Segment:
    kind = segment.text("type")
    offset = segment.uint64("offset")
    size = None if segment.text("size") == "dynamic" else segment.uint64("size")
    flags = frozenset(segment.texts("flags", optional=True))
    if size == 0:
        raise SchemaError(f"{segment.path}.size is 0")
    if kind not in ("crypt", "hw-opal-crypt"):
        return Segment(number, kind, offset, size, flags=flags)
    sector_bytes = segment.number("sector_size")
    if sector_bytes not in _SECTOR_SIZES:
        raise SchemaError(f"{segment.path}.sector_size {sector_bytes} is not 512, 1024, 2048 or 4096")
    if size is not None and size % sector_bytes:
        raise SchemaError(f"{segment.path}.size {size} is no multiple of its sector_size {sector_bytes}")
    return Segment(
        number,
        kind,
        offset,
        size,
        iv_tweak=segment.uint64("iv_tweak"),
        encryption=segment.text("encryption"),
        sector_bytes=sector_bytes,
        integrity=segment.object("integrity").text("type") if "integrity" in segment else "",
        flags=flags,
    )


def _digest(number: int, digest: _Object) -> Digest:
    if digest.text("type") == "pbkdf2":
        digest.text("hash")
        digest.number("iterations")
    keyslots = digest.numbers("keyslots")
    segments = frozenset(_parse_number(text, digest.path, 1000) for text in digest.texts("segments"))
    return Digest(number, keyslots, segments, salt=digest.base64("salt"), digest=digest.base64("digest"))


def _token(number: int, token: _Object) -> Token:
    return Token(number, token.text("type"), token.numbers("keyslots"))


def _requirements(config: _Object) -> tuple[str, ...]:
    """Return what must be understood: an object on disk, although the specification calls it a list."""
    if "requirements" not in config:
        return ()
    return tuple(_flags(config.object("requirements"), "mandatory"))


def _flags(table: _Object, name: str) -> list[str]:
    found = table.texts(name, optional=True)
    if len(found) > _MAX_FLAGS or any(len(flag) > _MAX_FLAG_TEXT for flag in found):
        raise SchemaError(f"{table.path}.{name} has more than {_MAX_FLAGS} items, or longer ones than {_MAX_FLAG_TEXT}")
    return found


def _check_areas(keyslots: dict[int, Keyslot], begin: int, end: int) -> None:
    ordered = sorted(keyslots.values(), key=lambda slot: (slot.area_offset, slot.id))
    for slot in ordered:
        if slot.area_offset < begin or slot.area_offset + slot.area_bytes > end or not slot.area_bytes:
            raise SchemaError(f"the area of keyslot {slot.id} is not within the keyslots area from {begin} to {end}")
    for left, right in pairwise(ordered):
        if left.area_offset + left.area_bytes > right.area_offset:
            raise SchemaError(f"the areas of keyslots {left.id} and {right.id} overlap")


def _check_segments(segments: dict[int, Segment], slots_end: int) -> int:
    """Return the lowest offset of the segments in use."""
    ordered = [segments[number] for number in sorted(segments)]
    if [segment.id for segment in ordered] != list(range(len(ordered))):
        raise SchemaError("the segments are not numbered from 0 without a gap")
    if [segment.is_backup for segment in ordered] != sorted(segment.is_backup for segment in ordered):
        raise SchemaError("a segment in use follows one that is kept for a reencryption")
    current = [segment for segment in ordered if not segment.is_backup]
    if not current:
        raise SchemaError("there is no segment: nothing says where the data are")
    placed = sorted(current, key=lambda segment: segment.offset)
    for left, right in pairwise(placed):
        if left.size is None or left.offset + left.size > right.offset:
            raise SchemaError(f"segments {left.id} and {right.id} overlap")
    lowest = placed[0].offset
    if lowest and lowest < slots_end:
        raise SchemaError(f"the data begin at {lowest}, within the keyslots area that ends at {slots_end}")
    return lowest


def _check_references(keyslots: dict[int, Keyslot], segments: dict[int, Segment], digests: dict[int, Digest]) -> None:
    owners: dict[int, int] = {}
    for digest in digests.values():
        if missing := digest.segments - segments.keys():
            raise SchemaError(f"digest {digest.id} names segment {min(missing)}, which does not exist")
        for slot in sorted(digest.keyslots):
            if slot not in keyslots:
                raise SchemaError(f"digest {digest.id} names keyslot {slot}, which does not exist")
            if slot in owners:
                raise SchemaError(f"keyslot {slot} is of digest {owners[slot]} and of digest {digest.id}")
            owners[slot] = digest.id
    if unowned := keyslots.keys() - owners.keys():
        raise SchemaError(f"keyslot {min(unowned)} is of no digest")

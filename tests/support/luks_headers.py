"""LUKS headers made by hand: healthy ones, and any kind of damage that cryptsetup would not make."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

COPY_BYTES = 0x4000
SLOTS_BYTES = 16744448
DATA_OFFSET = 2 * COPY_BYTES + SLOTS_BYTES
AREA_BYTES = 258048
MATERIAL_BYTES = 256000
UUID = "8c469436-ef0c-4437-a790-575ee6180f6b"
_BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")


def text64(seed: str, length: int = 32) -> str:
    return base64.b64encode(hashlib.shake_256(seed.encode()).digest(length)).decode()


def slot(number: int, *, salt: str = "", kdf: dict[str, Any] | None = None) -> dict[str, Any]:
    argon = {"type": "argon2id", "time": 4, "memory": 65536, "cpus": 1}
    return {
        "type": "luks2",
        "key_size": 64,
        "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
        "area": {
            "type": "raw",
            "offset": str(2 * COPY_BYTES + number * AREA_BYTES),
            "size": str(AREA_BYTES),
            "encryption": "aes-xts-plain64",
            "key_size": 64,
        },
        "kdf": {**(kdf or argon), "salt": text64(salt or f"slot {number}")},
    }


def healthy(slots: int = 2) -> dict[str, Any]:
    return {
        "keyslots": {str(number): slot(number) for number in range(slots)},
        "tokens": {},
        "segments": {
            "0": {
                "type": "crypt",
                "offset": str(DATA_OFFSET),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": "aes-xts-plain64",
                "sector_size": 512,
            }
        },
        "digests": {
            "0": {
                "type": "pbkdf2",
                "keyslots": [str(number) for number in range(slots)],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": 1000,
                "salt": text64("digest salt"),
                "digest": text64("digest"),
            }
        },
        "config": {"json_size": str(COPY_BYTES - 4096), "keyslots_size": str(SLOTS_BYTES)},
    }


def pack_copy(
    document: dict[str, Any] | bytes,
    *,
    is_first: bool,
    seqid: int = 3,
    uuid: str = UUID,
    label: str = "",
    version: int = 2,
    offset: int | None = None,
    copy_bytes: int = COPY_BYTES,
) -> bytes:
    """Return one copy with a right checksum; a document of bytes is taken as it is."""
    text = document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
    if offset is None:
        offset = 0 if is_first else copy_bytes
    head = _BINARY.pack(
        b"LUKS\xba\xbe" if is_first else b"SKUL\xba\xbe",
        version,
        copy_bytes,
        seqid,
        label.encode(),
        b"sha256",
        random.Random(is_first).randbytes(64),
        uuid.encode(),
        b"",
        offset,
        b"",
        b"",
    )
    area = bytearray(head.ljust(4096, b"\0") + text.ljust(copy_bytes - 4096, b"\0"))
    area[448:512] = hashlib.sha256(area).digest().ljust(64, b"\0")
    return bytes(area)


class Image:
    """A LUKS2 image in a file; every change is written at once."""

    def __init__(self, path: Path, document: dict[str, Any] | None = None, size: int = DATA_OFFSET + 1024 * 1024):
        self.path = path
        self.document = document or healthy()
        with path.open("wb") as file:
            file.truncate(size)
        for number in self.document["keyslots"]:
            self.fill_slot(int(number))
        self.write()

    def put(self, offset: int, content: bytes) -> Image:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(content)
        return self

    def fill_slot(self, number: int, seed: str = "") -> Image:
        offset = int(self.document["keyslots"][str(number)]["area"]["offset"])
        return self.put(offset, random.Random(f"{number}{seed}").randbytes(MATERIAL_BYTES))

    def write(self, *, first: Any = None, second: Any = None, **fields: Any) -> Image:
        """Write both copies; `first` and `second` are the documents of only one."""
        self.put(0, pack_copy(self.document if first is None else first, is_first=True, **fields))
        return self.put(COPY_BYTES, pack_copy(self.document if second is None else second, is_first=False, **fields))

    def change(self, change: Callable[[dict[str, Any]], object], **fields: Any) -> Image:
        """Change the document of both copies."""
        self.document = copy.deepcopy(self.document)
        change(self.document)
        return self.write(**fields)

    def copy_of(self, *, is_first: bool, document: Any = None, **fields: Any) -> Image:
        """Write one copy anew."""
        packed = pack_copy(document or self.document, is_first=is_first, **fields)
        return self.put(0 if is_first else COPY_BYTES, packed)


_LUKS1 = struct.Struct(">6sH32s32s32sII20s32sI40s")
_LUKS1_SLOT = struct.Struct(">II32sII")
LUKS1_PAYLOAD = 4096 * 512
ON, OFF = 0x00AC71F3, 0x0000DEAD


def make_luks1(path: Path, *, slots: int = 2, iterations: int = 1_500_000, size: int = LUKS1_PAYLOAD + 65536) -> Path:
    """Make a LUKS1 image with that many slots in use."""
    head = _LUKS1.pack(
        b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", LUKS1_PAYLOAD // 512, 64, b"d" * 20, b"s" * 32, 1000,
        UUID.encode(),
    )  # fmt: skip
    rng = random.Random(1)
    with path.open("wb") as file:
        file.truncate(size)
        file.write(head)
        for number in range(8):
            flag = ON if number < slots else OFF
            place = 8 + number * (AREA_BYTES // 512)
            file.seek(208 + number * 48)
            file.write(_LUKS1_SLOT.pack(flag, iterations, rng.randbytes(32), place, 4000))
            if number < slots:
                file.seek(place * 512)
                file.write(rng.randbytes(MATERIAL_BYTES))
    return path

"""What a LUKS header says, the same for both versions.

LUKS1 is told in the words of LUKS2: one digest, one segment, its slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Kdf:
    """How a passphrase becomes a key: `pbkdf2` has hash and iterations, `argon2i` and `argon2id` the others."""

    type: str
    salt: bytes
    hash: str = ""
    iterations: int = 0
    time: int = 0
    memory_kib: int = 0
    cpus: int = 0


@dataclass(frozen=True, slots=True)
class Keyslot:
    """One slot. Offsets and sizes in bytes, from the begin of the header's device.

    Attributes:
        type: `luks2` (a passphrase or a token's secret, also on LUKS1) or `reencrypt`.
        key_bytes: of the volume key.
        stripes: of the anti-forensic splitter; `key_bytes * stripes` bytes of the area hold key material.
        kdf: None for a reencrypt slot.
        priority: 0 ignored, 1 normal, 2 preferred.
        mode: of a reencrypt slot: `reencrypt`, `encrypt` or `decrypt`.
    """

    id: int
    type: str
    key_bytes: int
    area_offset: int
    area_bytes: int
    area_encryption: str = ""
    stripes: int = 0
    kdf: Kdf | None = None
    priority: int = 1
    mode: str = ""

    @property
    def material_bytes(self) -> int:
        """How many bytes of the area hold key material; the rest is padding that nobody reads."""
        return min(self.key_bytes * self.stripes, self.area_bytes)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the data device, in bytes; `size` None reaches to the device's end.

    Attributes:
        type: `crypt`, `linear`, `hw-opal` or `hw-opal-crypt`.
        encryption: as dm-crypt writes it, `aes-xts-plain64`; empty for `linear`.
        integrity: the type of an authenticated mode such as `hmac(sha256)`, or empty.
    """

    id: int
    type: str
    offset: int
    size: int | None
    iv_tweak: int = 0
    encryption: str = ""
    sector_bytes: int = SECTOR_BYTES
    integrity: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def is_backup(self) -> bool:
        """Tell whether it only remembers the state before or after a reencryption."""
        return any(flag.startswith("backup-") for flag in self.flags)


@dataclass(frozen=True, slots=True)
class Digest:
    """The proof of one volume key: the slots that hold it and the segments that it opens."""

    id: int
    keyslots: frozenset[int]
    segments: frozenset[int]
    salt: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Token:
    """How something else than a person unlocks slots: `systemd-tpm2`, `clevis`, `luks2-keyring`..."""

    id: int
    type: str
    keyslots: frozenset[int]


@dataclass(frozen=True, slots=True)
class Metadata:
    """One header. Sizes and offsets in bytes.

    Attributes:
        copy_bytes: of one copy, binary header and JSON area; on LUKS1 of the only one.
        slots_offset: where the area of the key slots begins.
        slots_bytes: how long it is.
        data_offset: of the first segment; 0 means that the header is detached.
        flags: `allow-discards` and others that are used at every opening.
        requirements: what a program must understand to touch it.
    """

    version: int
    uuid: str
    copy_bytes: int
    slots_offset: int
    slots_bytes: int
    data_offset: int
    keyslots: dict[int, Keyslot]
    segments: dict[int, Segment]
    digests: dict[int, Digest]
    tokens: dict[int, Token] = field(default_factory=dict)
    seqid: int = 0
    label: str = ""
    subsystem: str = ""
    flags: frozenset[str] = frozenset()
    requirements: tuple[str, ...] = ()

    @property
    def backup_bytes(self) -> int:
        """How long a backup of the header is, from the begin of its device (`cryptsetup luksHeaderBackup`)."""
        slots_end = self.slots_offset + self.slots_bytes
        return self.data_offset if self.version == 2 and self.data_offset else slots_end

    @property
    def volume_digest(self) -> Digest | None:
        """The proof of the volume key of the first segment that is encrypted."""
        for segment in self.current_segments:
            for digest in self.digests.values():
                if segment.encryption and segment.id in digest.segments:
                    return digest
        return None

    @property
    def current_segments(self) -> list[Segment]:
        """The segments that a mapping consists of, in order."""
        return [segment for _, segment in sorted(self.segments.items()) if not segment.is_backup]

    @property
    def bound_keyslots(self) -> list[Keyslot]:
        """The slots that open the volume: of a passphrase or token, not ignored, bound to a segment that is in use."""
        current = {segment.id for segment in self.current_segments if segment.type != "linear"}
        current |= {segment.id for segment in self.segments.values() if "backup-final" in segment.flags}
        bound = {slot for digest in self.digests.values() if digest.segments & current for slot in digest.keyslots}
        return [
            slot
            for number, slot in sorted(self.keyslots.items())
            if number in bound and slot.type == "luks2" and slot.priority != 0
        ]

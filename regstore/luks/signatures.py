"""What else may lie where a LUKS header should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from regstore.luks.source import Source


class _Signature(NamedTuple):
    """Bytes at an offset, and what they stand for."""

    offset: int
    magic: bytes
    what: str


# As libblkid probes them (libblkid/src/superblocks, libblkid/src/partitions).
_SIGNATURES = (
    _Signature(0x438, b"\x53\xef", "an ext2/3/4 file system"),
    _Signature(0, b"XFSB", "an XFS file system"),
    _Signature(0x10040, b"_BHRfS_M", "a btrfs file system"),
    _Signature(0xFF6, b"SWAPSPACE2", "a swap area"),
    _Signature(0xFF6, b"SWAP-SPACE", "a swap area"),
    _Signature(0x218, b"LVM2 001", "an LVM physical volume"),
    _Signature(0x18, b"LVM2 001", "an LVM physical volume"),
    _Signature(0, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (metadata 1.1)"),
    _Signature(0x1000, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (metadata 1.2)"),
    _Signature(0x200, b"EFI PART", "a GPT partition table"),
    _Signature(0x1000, b"EFI PART", "a GPT partition table of 4096-byte sectors"),
    _Signature(0x8001, b"CD001", "an ISO 9660 file system"),
    _Signature(0, b"hsqs", "a SquashFS file system"),
    _Signature(3, b"NTFS    ", "an NTFS file system"),
    _Signature(3, b"-FVE-FS-", "a BitLocker volume"),
    _Signature(0x52, b"FAT32   ", "a FAT file system"),
    _Signature(0x36, b"FAT1", "a FAT file system"),
)
_TABLE_OFFSET, _TABLE_ENTRY_BYTES, _TABLE_ENTRIES = 446, 16, 4


def find_foreign(source: Source) -> list[str]:
    """Name what else lies there.

    Raises:
        ReadFailedError: the device gives an error.
    """
    found = [what for offset, magic, what in _SIGNATURES if source.read(offset, len(magic)) == magic]
    if not found and _is_partition_table(source.read(0, 512)):
        found.append("an MBR partition table or boot sector")
    return list(dict.fromkeys(found))


def _is_partition_table(sector: bytes) -> bool:
    """Look at the entries too on LUKS1, where the two bytes of the signature are part of a random salt."""
    if len(sector) < 512 or sector[510:] != b"\x55\xaa":
        return False
    if not sector.startswith(b"LUKS\xba\xbe\0\1"):
        return True
    entries = [
        sector[_TABLE_OFFSET + number * _TABLE_ENTRY_BYTES :][:_TABLE_ENTRY_BYTES] for number in range(_TABLE_ENTRIES)
    ]
    if any(entry[0] not in (0, 0x80) for entry in entries):
        return False
    return any(entry[4] and any(entry[8:16]) for entry in entries)

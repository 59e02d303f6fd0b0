"""Checks of how the data are encrypted: `ciph.*`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from regstore.luks.ciphers import plain_cipher
from regstore.luks.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.metadata import Metadata, Segment
    from regstore.luks.subject import HeaderSubject

_PLAIN_IV_MAX_BYTES = 2 * 1024**4
_REENCRYPT = "copy the data to a volume with aes-xts-plain64, or cryptsetup reencrypt --cipher aes-xts-plain64"


def check_mode(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether cipher, mode and key protect the data (cryptsetup's FAQ, 5.14 to 5.16)."""
    metadata = on.reading.metadata
    for segment in _encrypted(metadata):
        severity, detail = _weigh(on, metadata, segment)
        target = f"--header {on.path} {on.data_path or 'DATADEVICE'}" if on.is_detached else on.path
        repair = f"{_REENCRYPT} {target}, after a backup" if severity >= Severity.WARNING else ""
        yield Finding("ciph.mode", severity, f"segment {segment.id}", detail, repair)


def check_sector(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether sectors of the encryption fit the device."""
    for segment in _encrypted(on.reading.metadata):
        subject = f"segment {segment.id}"
        size = _size(on, segment)
        if size is not None and size > 0 and size % segment.sector_bytes:
            detail = f"its {size} bytes are no multiple of its sectors of {segment.sector_bytes} bytes"
            advice = "the device was resized: give it a size that fits, or it does not open"
            yield Finding("ciph.sector", Severity.CRITICAL, subject, detail, advice)
        elif on.physical_block_bytes and segment.sector_bytes < on.physical_block_bytes:
            detail = f"sectors of {segment.sector_bytes} bytes on a disk of {on.physical_block_bytes}: it is slower"
            yield Finding("ciph.sector", Severity.INFO, subject, detail)
        elif on.physical_block_bytes and segment.offset % on.physical_block_bytes:
            detail = f"the data begin at {segment.offset}, across blocks of {on.physical_block_bytes}: it is slower"
            yield Finding("ciph.sector", Severity.INFO, subject, detail)
        else:
            yield on.ok("ciph.sector", f"sectors of {segment.sector_bytes} bytes", subject)


def _encrypted(metadata: Metadata | None) -> list[Segment]:
    return [segment for segment in metadata.current_segments if segment.encryption] if metadata else []


def _size(on: HeaderSubject, segment: Segment) -> int | None:
    """Return how long a segment is, in bytes; None where nobody knows the size of the device that it reaches to."""
    if segment.size is None and on.data_bytes is not None:
        return on.data_bytes - segment.offset
    return segment.size


def _weigh(on: HeaderSubject, metadata: Metadata | None, segment: Segment) -> tuple[Severity, str]:
    name = plain_cipher(segment.encryption)
    if not name:
        return Severity.UNKNOWN, f"{segment.encryption}: a form that is not understood"
    key_bits = _key_bits(metadata, segment)
    detail = f"{name}, {key_bits} bits" if key_bits else name
    cipher, _, mode = name.partition("-")
    size = _size(on, segment)
    if cipher in ("arc4", "des", "des3_ede", "cipher_null", "null"):
        return Severity.CRITICAL, f"{detail}: that cipher protects nothing"
    if mode == "ecb" or mode.startswith("ecb-") or "ecb(" in cipher:
        return Severity.CRITICAL, f"{detail}: ECB shows which blocks are equal"
    if mode.startswith(("cbc-plain", "cbc-null")) or mode == "cbc":
        return Severity.CRITICAL, f"{detail}: CBC with a foreseeable start lets files be recognised"
    if mode.endswith("-plain") and size is not None and size > _PLAIN_IV_MAX_BYTES:
        return Severity.CRITICAL, f"{detail}: numbers of 32 bits repeat above 2 TiB"
    if mode.startswith("cbc-essiv"):
        return on.policy.essiv, f"{detail}: whoever writes to the disk can change data in a foreseeable way"
    if on.policy.ciphers and not any(fnmatchcase(name, pattern) for pattern in on.policy.ciphers):
        return Severity.WARNING, f"{detail}: not one of {', '.join(on.policy.ciphers)}"
    if mode.startswith("xts-") and key_bits == 256:
        return on.policy.short_xts, f"{detail}: XTS uses half of it, so this is AES-128"
    return Severity.OK, detail


def _key_bits(metadata: Metadata | None, segment: Segment) -> int:
    """Return the bits of the volume key, as the slots that hold it tell; 0 without such a slot."""
    if metadata is None:
        return 0
    for digest in metadata.digests.values():
        if segment.id in digest.segments:
            for number in digest.keyslots:
                if number in metadata.keyslots:
                    return metadata.keyslots[number].key_bytes * 8
    return 0


CHECKS = (check_mode, check_sector)

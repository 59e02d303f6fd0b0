"""Is the open mapping what the header and the configuration say?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.ciphers import plain_cipher
from regstore.luks.facts import unknown
from regstore.luks.findings import Finding, Severity
from regstore.luks.table import SECTOR_BYTES, Crypt, TableError, Target
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts
    from regstore.luks.metadata import Metadata, Segment

# dm-crypt's options by the names of LUKS2 flags (cryptsetup's lib/luks2/luks2_json_metadata.c) and of crypttab.
_FLAGS = {
    "allow_discards": ("allow-discards", "discard"),
    "same_cpu_crypt": ("same-cpu-crypt", "same-cpu-crypt"),
    "submit_from_crypt_cpus": ("submit-from-crypt-cpus", "submit-from-crypt-cpus"),
    "no_read_workqueue": ("no-read-workqueue", "no-read-workqueue"),
    "no_write_workqueue": ("no-write-workqueue", "no-write-workqueue"),
    "high_priority": ("high_priority", "high-priority"),
}
_KEEP_OPEN = "do not close the volume and do not reboot"


def check_header(facts: Facts) -> Iterator[Finding]:
    """map.header: the mapping is the one that the header describes."""
    device, metadata = facts.stack.crypt, facts.metadata
    if device is None:
        return
    if metadata is None:
        yield unknown("map.header", device, "the header was not read")
        return
    differences = _identity_differences(device, metadata)
    reason = ""
    try:
        lines = facts.crypt_lines()
        if len(lines) == len(metadata.current_segments):
            differences += _line_differences(facts, lines, metadata)
        elif is_reencrypted(metadata):
            reason = "a reencryption is moving on: cipher, key and offsets were not compared"
        else:
            differences.append(f"the table has {len(lines)} crypt lines, the header {len(metadata.current_segments)}")
    except TableError as error:
        reason = f"cipher, key and offsets were not compared: {error}"
    if differences:
        yield Finding(
            "map.header",
            Severity.CRITICAL,
            device.name,
            f"the header is not that of the open mapping: {plain('; '.join(differences))}",
            f"{_KEEP_OPEN}: restore the right header with `cryptsetup luksHeaderRestore` from a backup, which works "
            "while the volume is open, or copy the data away now",
        )
    elif reason:
        yield unknown("map.header", device, reason)
    else:
        yield Finding("map.header", Severity.OK, device.name, "UUID, cipher, key length and offsets are the header's")


def check_size(facts: Facts) -> Iterator[Finding]:
    """map.size: the mapping is as long as the data area of its device."""
    device = facts.stack.crypt
    if device is None:
        return
    below = facts.blocks.by_name(device.slaves[0]) if device.slaves else facts.stack.header_device
    try:
        lines = facts.crypt_lines()
    except TableError as error:
        yield unknown("map.size", device, error)
        return
    if below is None or below.size_bytes is None:
        yield unknown("map.size", device, "the size of the device below is not known")
        return
    offset = lines[0][1].offset * SECTOR_BYTES
    mapped = max(target.start + target.sectors for target, _ in lines) * SECTOR_BYTES
    fixed = _fixed_bytes(facts.metadata)
    room = below.size_bytes - offset
    wanted = room if fixed is None else fixed
    wanted -= wanted % lines[0][1].sector_bytes
    told = f"mapping {human_bytes(mapped)}, {below.name} has {human_bytes(max(room, 0))} from {human_bytes(offset)} on"
    if mapped > room or (fixed is not None and fixed > room):
        missing = human_bytes(max(mapped, fixed or 0) - room)
        yield Finding(
            "map.size",
            Severity.CRITICAL,
            device.name,
            f"{told}: {missing} too few, data beyond the end is lost or fails",
            f"do not write; make {below.name} as large as it was, then check the file system",
        )
    elif mapped < wanted:
        yield Finding(
            "map.size",
            Severity.WARNING,
            device.name,
            f"{told}: resize pending, {human_bytes(wanted - mapped)} are not used",
            f"`cryptsetup resize {plain(device.dm_name)}`, then grow the file system",
        )
    else:
        yield Finding("map.size", Severity.OK, device.name, told)


def check_flags(facts: Facts) -> Iterator[Finding]:
    """map.flags: the mapping has the flags that it will have after the next start, and which these are.

    Flags that the header keeps are used at every opening and count as configured.
    """
    device = facts.stack.crypt
    if device is None:
        return
    try:
        options = {option for _, crypt in facts.crypt_lines() for option in crypt.options}
    except TableError as error:
        yield unknown("map.flags", device, error)
        return
    active = {flag for flag in _FLAGS if flag in options}
    kept = facts.metadata.flags if facts.metadata else frozenset()
    written = facts.crypt_entry.options if facts.crypt_entry else {}
    configured = {flag for flag, (luks, tab) in _FLAGS.items() if luks in kept or tab in written}
    gained, lost = sorted(configured - active), sorted(active - configured)
    if gained or (lost and facts.metadata and facts.crypttab is not None):
        changes = [f"{flag} is configured and not active" for flag in gained]
        changes += [f"{flag} is active and nowhere configured" for flag in lost]
        yield Finding(
            "map.flags",
            Severity.WARNING,
            device.name,
            f"after the next start the flags are others: {', '.join(changes)}",
            "write the wanted options into /etc/crypttab, or keep them with "
            f"`cryptsetup refresh --persistent ... {plain(device.dm_name)}`",
        )
    elif lost:
        unseen = "the header was not read" if facts.metadata is None else "there is no /etc"
        yield unknown("map.flags", device, f"nobody knows whether {', '.join(lost)} is configured: {unseen}")
    if "allow_discards" in active:
        advice = (
            f"`cryptsetup refresh {plain(device.dm_name)}` without --allow-discards, and no discard in /etc/crypttab"
        )
        detail = "allow_discards: the disk shows which blocks are free"
        yield Finding(
            "map.flags",
            facts.options.discards,
            device.name,
            detail,
            advice if facts.options.discards >= Severity.WARNING else "",
        )
    if others := sorted(active - {"allow_discards"}):
        yield Finding("map.flags", Severity.INFO, device.name, f"active: {', '.join(others)}")
    if not active and not gained:
        yield Finding("map.flags", Severity.OK, device.name, "no flags, and none configured")


def is_reencrypted(metadata: Metadata) -> bool:
    """Tell whether a reencryption, encryption or decryption is under way."""
    return any("reencrypt" in requirement for requirement in metadata.requirements)


def _identity_differences(device: Device, metadata: Metadata) -> list[str]:
    differences = []
    if not device.dm_uuid.startswith(f"CRYPT-LUKS{metadata.version}-"):
        kind = "-".join(device.dm_uuid.split("-", 2)[:2])
        differences.append(f"opened as {kind}, the header is LUKS{metadata.version}")
    opened = "".join(device.dm_uuid.split("-", 3)[2:3])
    if opened != metadata.uuid.replace("-", ""):
        differences.append(f"opened was {device.luks_uuid or opened}, the header has {metadata.uuid}")
    return differences


def _line_differences(facts: Facts, lines: list[tuple[Target, Crypt]], metadata: Metadata) -> list[str]:
    pairs: list[tuple[str, object, object]] = []
    for (_, crypt), segment in zip(lines, metadata.current_segments, strict=True):
        pairs += [
            ("sector size", crypt.sector_bytes, segment.sector_bytes),
            ("IV offset", crypt.iv_offset, segment.iv_tweak),
        ]
        cipher = plain_cipher(crypt.cipher)
        if cipher:
            pairs.append(("cipher", cipher, segment.encryption))
        lengths = _key_lengths(metadata, segment)
        if lengths and crypt.key_bytes not in lengths:
            pairs.append(("key bits", crypt.key_bytes * 8, max(lengths) * 8))
        offset = _data_offset(facts, crypt)
        if offset is not None:
            pairs.append(("offset", offset, segment.offset))
    return [f"{what} {mapped} is mapped, the header has {told}" for what, mapped, told in pairs if mapped != told]


def _data_offset(facts: Facts, crypt: Crypt) -> int | None:
    """Return where the data begins on the header's device: dm-integrity between them keeps it away itself."""
    below = facts.blocks.by_number(crypt.device)
    if below is None or not below.dm_uuid.startswith("CRYPT-INTEGRITY-"):
        return crypt.offset * SECTOR_BYTES
    targets = [target for target in facts.table(below) if target.type == "integrity" and len(target.arguments) > 1]
    offset = targets[0].arguments[1] if targets else ""
    return int(offset) * SECTOR_BYTES if re.fullmatch(r"[0-9]{1,18}", offset) else None


def _key_lengths(metadata: Metadata, segment: Segment) -> set[int]:
    """Return how long a segment's volume key is by the slots that hold it."""
    slots = {slot for digest in metadata.digests.values() if segment.id in digest.segments for slot in digest.keyslots}
    return {metadata.keyslots[slot].key_bytes for slot in slots if slot in metadata.keyslots}


def _fixed_bytes(metadata: Metadata | None) -> int | None:
    """Return how long the data area is by the header; None when it reaches to the end of the device."""
    sizes = [segment.size for segment in metadata.current_segments] if metadata else []
    known = [size for size in sizes if size is not None]
    if metadata is None or not sizes or len(known) < len(sizes) or is_reencrypted(metadata):
        return None
    return sum(known)

"""Does the open mapping work, and is it what the header and the configuration say?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.facts import shown
from regstore.luks.findings import Finding, Severity
from regstore.luks.kernel_log import LogError
from regstore.luks.table import SECTOR_BYTES, Crypt, TableError, Target
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts
    from regstore.luks.metadata import Metadata, Segment

# Targets that give no data back, or wrong ones; they are made for tests and for dying disks.
_DEAD_TARGETS = frozenset({"error", "flakey", "zero", "dust"})
# dm-crypt's options by the names of LUKS2 flags (cryptsetup's lib/luks2/luks2_json_metadata.c) and of crypttab.
_FLAGS = {
    "allow_discards": ("allow-discards", "discard"),
    "same_cpu_crypt": ("same-cpu-crypt", "same-cpu-crypt"),
    "submit_from_crypt_cpus": ("submit-from-crypt-cpus", "submit-from-crypt-cpus"),
    "no_read_workqueue": ("no-read-workqueue", "no-read-workqueue"),
    "no_write_workqueue": ("no-write-workqueue", "no-write-workqueue"),
    "high_priority": ("high_priority", "high-priority"),
}
# The kernel's cipher API names what dm-crypt calls CIPHER-MODE-IV: `capi:authenc(hmac(sha256),xts(aes))-plain64`.
_CAPI = re.compile(r"capi:(?:authenc\(.+,)?([a-z0-9_]+)\(([a-z0-9_]+)\)\)?-([a-z0-9:]+)")
_KEEP_OPEN = "do not close the volume and do not reboot"


def check_suspended(facts: Facts) -> Iterator[Finding]:
    """map.suspended: no device-mapper device on the way is suspended."""
    for device in _mapped(facts):
        if not device.is_suspended:
            yield Finding("map.suspended", Severity.OK, device.name, f"{shown(device)} is active")
            continue
        name = plain(device.dm_name or device.name)
        repair = f"cryptsetup luksResume {name}" if device.is_luks else f"dmsetup resume {name}"
        yield Finding(
            "map.suspended",
            Severity.CRITICAL,
            device.name,
            f"{shown(device)} is suspended: every read and write that is not in memory hangs, and cannot be killed",
            f"`{repair}`; do not run sync, blkid or a backup before",
        )


def check_target(facts: Facts) -> Iterator[Finding]:
    """map.target: the tables of all device-mapper devices on the way lead to data, and an encrypted one to dm-crypt."""
    for device in _mapped(facts):
        try:
            targets = facts.table(device)
        except TableError as error:
            yield _unknown("map.target", device, error)
            continue
        kinds = [target.type for target in targets]
        told = plain(", ".join(dict.fromkeys(kinds)))
        dead = sorted(_DEAD_TARGETS.intersection(kinds))
        if dead:
            detail = f"{shown(device)} has the target {', '.join(dead)}: nothing is read or written there"
            yield Finding("map.target", Severity.CRITICAL, device.name, detail, _reopen(device))
        elif device.is_encrypting and "crypt" not in kinds:
            detail = f"{shown(device)} does not encrypt: its table holds {told}"
            yield Finding("map.target", Severity.CRITICAL, device.name, detail, _reopen(device))
        elif device.is_luks and set(kinds) != {"crypt"} and facts.metadata and not _is_reencrypted(facts.metadata):
            detail = (
                f"a part of {shown(device)} is not encrypted: its table holds {told}, and no reencryption is going on"
            )
            yield Finding("map.target", Severity.CRITICAL, device.name, detail, _reopen(device))
        else:
            yield Finding("map.target", Severity.OK, device.name, f"{told}, {len(targets)} lines")


def check_readonly(facts: Facts) -> Iterator[Finding]:
    """map.readonly: mapping and mount can be written, unless crypttab or fstab want it otherwise."""
    device, mount = facts.stack.encryption, facts.stack.mount
    if device is None:
        return
    is_mapping_ro, is_mount_ro = bool(device.is_read_only), mount is not None and "ro" in mount.options
    said = [
        *(["/etc/crypttab"] if facts.crypt_entry and facts.crypt_entry.is_read_only else []),
        *(["/etc/fstab"] if facts.mount_entry and "ro" in facts.mount_entry.options else []),
    ]
    what = " and ".join([*(["the mapping"] if is_mapping_ro else []), *(["the mount"] if is_mount_ro else [])])
    if device.is_read_only is None and not is_mount_ro:
        yield Finding("map.readonly", Severity.UNKNOWN, device.name, "/sys does not tell whether it is read-only")
    elif not what:
        yield Finding("map.readonly", Severity.OK, device.name, "writable")
    elif said:
        yield Finding("map.readonly", Severity.OK, device.name, f"{what}: read-only, as {' and '.join(said)} says")
    else:
        name = plain(device.dm_name)
        first = f"unmount, `cryptsetup close {name}` and open it without --readonly, then " if is_mapping_ro else ""
        yield Finding(
            "map.readonly",
            Severity.CRITICAL,
            device.name,
            f"read-only: {what}; pushes fail",
            f"see the kernel log for why; {first}mount it with `-o rw`",
        )


def check_header(facts: Facts) -> Iterator[Finding]:
    """map.header: the mapping is the one that the header describes."""
    device, metadata = facts.stack.crypt, facts.metadata
    if device is None:
        return
    if metadata is None:
        yield _unknown("map.header", device, "the header was not read")
        return
    differences = _identity_differences(device, metadata)
    reason = ""
    try:
        lines = facts.crypt_lines()
        if len(lines) == len(metadata.current_segments):
            differences += _line_differences(facts, lines, metadata)
        elif _is_reencrypted(metadata):
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
        yield _unknown("map.header", device, reason)
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
        yield _unknown("map.size", device, error)
        return
    if below is None or below.size_bytes is None:
        yield _unknown("map.size", device, "the size of the device below is not known")
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
        yield _unknown("map.flags", device, error)
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
        yield _unknown("map.flags", device, f"nobody knows whether {', '.join(lost)} is configured: {unseen}")
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


def check_keyloc(facts: Facts) -> Iterator[Finding]:
    """map.keyloc: where the volume key lies while the volume is open."""
    device = facts.stack.crypt
    if device is None:
        return
    try:
        lines = facts.crypt_lines()
    except TableError as error:
        yield _unknown("map.keyloc", device, error)
        return
    if all(crypt.keyring for _, crypt in lines):
        detail = "the volume key lies in the kernel's keyring, where nobody can save it when the header is lost"
        yield Finding("map.keyloc", Severity.OK, device.name, detail)
    else:
        detail = (
            "the volume key lies in dm-crypt: when the header is lost, `dmsetup table --showkeys` can still save it"
        )
        yield Finding("map.keyloc", Severity.INFO, device.name, detail)


def check_integrity(facts: Facts) -> Iterator[Finding]:
    """map.integrity: no block of an authenticated volume failed its check.

    With authenticated encryption the counter of dm-integrity stays 0, and only the kernel's log tells.
    """
    crypt = facts.stack.crypt
    layers = [device for device in facts.stack.devices if device.dm_uuid.startswith("CRYPT-INTEGRITY-")]
    if crypt is None or not (layers or (facts.metadata and any(s.integrity for s in facts.metadata.current_segments))):
        return
    for device in layers:
        yield from _check_layer(facts, device)
    try:
        log = facts.log()
    except LogError as error:
        yield _unknown("map.integrity", crypt, error)
        return
    names = "|".join(re.escape(device.name) for device in (crypt, *layers))
    failures = [line for line in log if re.search(rf"\b(?:{names}): INTEGRITY AEAD ERROR", line)]
    if failures:
        yield Finding(
            "map.integrity",
            Severity.CRITICAL,
            crypt.name,
            f"{len(failures)} integrity errors in the kernel log, the last: {plain(failures[-1])}",
            "blocks were changed or damaged below the encryption: check the disk, find the files that fail with "
            "`regstore fsck`, and restore them",
        )
    else:
        yield Finding("map.integrity", Severity.OK, crypt.name, "the kernel log has no integrity error")


def _check_layer(facts: Facts, device: Device) -> Iterator[Finding]:
    try:
        tables = [target for target in facts.table(device) if target.type == "integrity"]
        states = [target for target in facts.status(device) if target.type == "integrity"]
    except TableError as error:
        yield _unknown("map.integrity", device, error)
        return
    counts = [int(state.arguments[0]) for state in states if re.fullmatch(r"[0-9]{1,18}", "".join(state.arguments[:1]))]
    modes = [target.arguments[3] for target in tables if len(target.arguments) > 3]
    if not counts or not modes:
        yield _unknown("map.integrity", device, "dmsetup tells no count of mismatches or no mode")
        return
    if sum(counts):
        detail = f"{sum(counts):,} blocks failed their check"
        repair = "check the disk, find the files that fail with `regstore fsck`, and restore them"
        yield Finding("map.integrity", Severity.CRITICAL, device.name, detail, repair)
    elif not {"D", "R"}.isdisjoint(modes):
        mode = "D (no journal): a crash leaves" if "D" in modes else "R (recovery, nothing is checked): there may be"
        repair = (
            f"unmount, `cryptsetup close {plain(facts.stack.crypt.dm_name if facts.stack.crypt else '')}` and open it "
        )
        repair += "without --integrity-no-journal and --integrity-recovery-mode"
        detail = f"mode {mode} blocks that do not fit their check values"
        yield Finding("map.integrity", Severity.WARNING, device.name, detail, repair)
    else:
        yield Finding("map.integrity", Severity.OK, device.name, f"no mismatches, mode {plain(', '.join(modes))}")


def _identity_differences(device: Device, metadata: Metadata) -> list[str]:
    differences = []
    if not device.dm_uuid.startswith(f"CRYPT-LUKS{metadata.version}-"):
        kind = "-".join(device.dm_uuid.split("-", 2)[:2])
        differences.append(f"opened as {kind}, the header is LUKS{metadata.version}")
    if device.luks_uuid and device.luks_uuid != metadata.uuid.lower():
        differences.append(f"opened was {device.luks_uuid}, the header has {metadata.uuid}")
    return differences


def _line_differences(facts: Facts, lines: list[tuple[Target, Crypt]], metadata: Metadata) -> list[str]:
    pairs: list[tuple[str, object, object]] = []
    for (_, crypt), segment in zip(lines, metadata.current_segments, strict=True):
        pairs += [
            ("sector size", crypt.sector_bytes, segment.sector_bytes),
            ("IV offset", crypt.iv_offset, segment.iv_tweak),
        ]
        cipher = _cipher(crypt.cipher)
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


def _cipher(name: str) -> str:
    """Return a cipher as headers write it; empty for a form that cannot be compared."""
    if not name.startswith("capi:"):
        return name
    match = _CAPI.fullmatch(name)
    return f"{match[2]}-{match[1]}-{match[3]}" if match else ""


def _key_lengths(metadata: Metadata, segment: Segment) -> set[int]:
    """Return how long a segment's volume key is by the slots that hold it."""
    slots = {slot for digest in metadata.digests.values() if segment.id in digest.segments for slot in digest.keyslots}
    return {metadata.keyslots[slot].key_bytes for slot in slots if slot in metadata.keyslots}


def _fixed_bytes(metadata: Metadata | None) -> int | None:
    """Return how long the data area is by the header; None when it reaches to the end of the device."""
    sizes = [segment.size for segment in metadata.current_segments] if metadata else []
    known = [size for size in sizes if size is not None]
    is_reencrypted = metadata is not None and _is_reencrypted(metadata)
    return sum(known) if sizes and len(known) == len(sizes) and not is_reencrypted else None


def _is_reencrypted(metadata: Metadata) -> bool:
    return any("reencrypt" in requirement for requirement in metadata.requirements)


def _mapped(facts: Facts) -> list[Device]:
    return [device for device in facts.stack.devices if device.dm_uuid or device.dm_name]


def _reopen(device: Device) -> str:
    name = plain(device.dm_name)
    again = (
        f"unmount, `cryptsetup close {name}` and open it again" if device.is_encrypting else f"`dmsetup table {name}`"
    )
    return f"check the header and its backup and the disks first; then {again}, and check the file system"


def _unknown(check: str, device: Device, reason: object) -> Finding:
    return Finding(check, Severity.UNKNOWN, device.name, plain(str(reason)))

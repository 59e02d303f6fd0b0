"""Checks of a header backup: `bak.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.header import Reading
    from regstore.luks.metadata import Keyslot, Metadata

_KEEP = "keep this file until there is a better one"


@dataclass(frozen=True, slots=True)
class BackupSubject:
    """A header backup under check.

    Attributes:
        name: the file.
        reading: of the file; None when it could not be opened.
        problem: why there is no reading.
        open_uuid: of the mapping that is open, or empty.
        is_absent: it is not there, or is no regular file.
        manifest_problem: what its manifest says against it, or empty.
        created_at: when its manifest says that it was made, or empty.
        mode: of the file, permissions only.
        owner: its user id.
        is_on_volume: it lies on the volume that it shall save.
        is_on_disk: it lies on one of the disks under that volume.
        place_problem: why nobody can say where it lies, or empty.
    """

    name: str
    reading: Reading | None
    problem: str = ""
    open_uuid: str = ""
    is_absent: bool = False
    manifest_problem: str = ""
    created_at: str = ""
    mode: int = 0o400
    owner: int = 0
    is_on_volume: bool = False
    is_on_disk: bool = False
    place_problem: str = ""


def check_backup(backup: BackupSubject, device: Reading | None, device_name: str) -> Iterator[Finding]:
    """Check one backup against the header that it shall save, None when that cannot be read."""
    if backup.is_absent:
        advice = f"make one, on another disk than the volume: regstore luks backup-header {device_name} FILE"
        yield Finding("bak.exists", Severity.CRITICAL, backup.name, f"no header backup: {backup.problem}", advice)
        return
    yield Finding("bak.exists", Severity.OK, backup.name, backup.created_at and f"made at {backup.created_at}")
    if backup.reading is None:
        for check in ("bak.valid", "bak.match", "bak.revoked"):
            yield Finding(check, Severity.UNKNOWN, backup.name, backup.problem)
    else:
        yield from _check_valid(backup, backup.reading, device_name)
        yield from _check_match(backup, backup.reading.metadata, device, device_name)
    yield from _check_place(backup)


def _check_valid(backup: BackupSubject, reading: Reading, device_name: str) -> Iterator[Finding]:
    metadata = reading.metadata
    advice = f"{_KEEP}, and make a new one: regstore luks backup-header {device_name} FILE"
    if reading.failure:
        yield Finding("bak.valid", Severity.CRITICAL, backup.name, f"it cannot be read: {reading.failure}", advice)
    elif metadata is None or reading.broken_rules:
        reasons = [*reading.broken_rules, *(copy.damage or copy.broken_rule for copy in reading.copies)]
        detail = "; ".join(filter(None, reasons)) or "there is no LUKS header in it"
        yield Finding("bak.valid", Severity.CRITICAL, backup.name, detail, advice)
    elif reading.size < (needed := metadata.slots_offset + metadata.slots_bytes):
        detail = f"it has {reading.size} bytes, and header and key slots take {needed}: it was cut"
        yield Finding("bak.valid", Severity.CRITICAL, backup.name, detail, advice)
    elif backup.manifest_problem:
        yield Finding("bak.valid", Severity.CRITICAL, backup.name, backup.manifest_problem, advice)
    elif dead := [number for number, material in reading.materials.items() if material.damage]:
        detail = f"keyslot {dead[0]}: {reading.materials[dead[0]].damage}"
        yield Finding("bak.valid", Severity.CRITICAL, backup.name, detail, advice)
    elif metadata.version == 2 and not _has_both(reading):
        detail = "one of its copies is damaged: restoring works, and the file stays as it is"
        yield Finding("bak.valid", Severity.WARNING, backup.name, detail, advice)
    else:
        yield Finding("bak.valid", Severity.OK, backup.name, f"LUKS{metadata.version}, {reading.size} bytes, whole")


def _has_both(reading: Reading) -> bool:
    copies = (reading.first, reading.second)
    return all(copy and not copy.damage and not copy.broken_rule for copy in copies)


def _check_match(
    backup: BackupSubject, saved: Metadata | None, device: Reading | None, device_name: str
) -> Iterator[Finding]:
    live = device.metadata if device else None
    if saved is None or live is None or device is None or backup.reading is None:
        whose = "the backup" if saved is None else "the device"
        for check in ("bak.match", "bak.revoked"):
            yield Finding(check, Severity.UNKNOWN, backup.name, f"no valid header could be read of {whose}")
        return
    if saved.uuid != live.uuid and saved.uuid.lower() == backup.open_uuid:
        detail = f"it is the header of the open mapping, and the device has another one now, {live.uuid}"
        advice = (
            "do not reboot, and do not close or unmount the volume: restore it now, cryptsetup luksHeaderRestore "
            f"{device_name} --header-backup-file {backup.name}; or copy the data away first"
        )
        yield Finding("bak.match", Severity.CRITICAL, backup.name, detail, advice)
        return
    if saved.uuid != live.uuid:
        detail = f"it is of another volume: {saved.uuid}, and the device has {live.uuid}"
        advice = "never restore it to this device; find or make the right one"
        yield Finding("bak.match", Severity.CRITICAL, backup.name, detail, advice)
        return
    if _proof(saved) != _proof(live):
        detail = "it is of another volume key: the device was reencrypted or formatted since"
        advice = (
            "never restore it while a passphrase opens the device as it is: it would destroy the access to the data; "
            f"{_KEEP}, and see whether map.header is content"
        )
        yield Finding("bak.match", Severity.CRITICAL, backup.name, detail, advice)
        return
    yield from _compare_slots(backup, backup.reading, saved, device, live, device_name)


def _compare_slots(
    backup: BackupSubject,
    saved_reading: Reading,
    saved: Metadata,
    device: Reading,
    live: Metadata,
    device_name: str,
) -> Iterator[Finding]:
    saved_slots, live_slots = _by_salt(saved), _by_salt(live)
    missing = [slot.id for salt, slot in live_slots.items() if salt not in saved_slots]
    extra = [slot.id for salt, slot in saved_slots.items() if salt not in live_slots]
    differing = [
        slot.id
        for salt, slot in live_slots.items()
        if salt in saved_slots
        and device.materials[slot.id].sha256 != saved_reading.materials[saved_slots[salt].id].sha256
    ]
    renew = f"make a new one: regstore luks backup-header {device_name} FILE"
    renew += ", check it, and then destroy this one" if device.is_sound else f"; {_KEEP}"
    if missing:
        detail = f"keyslot {missing[0]} of the device is not in it: who restores it loses that passphrase"
        yield Finding("bak.match", Severity.CRITICAL, backup.name, detail, renew)
    elif differing:
        number = differing[0]
        detail = f"the key material of keyslot {number} is another one on the device"
        advice = (
            f"one of them is damaged: try the passphrase on both (open --test-passphrase, --header FILE), then {renew}"
        )
        yield Finding("bak.match", Severity.CRITICAL, backup.name, detail, advice)
    elif extra or _without_slots(saved) != _without_slots(live):
        detail = f"it is stale: its sequence number is {saved.seqid}, that of the device {live.seqid}"
        if live.version == 1:
            detail = "it is stale: it has slots that the device has no longer"
        yield Finding("bak.match", Severity.WARNING, backup.name, detail, renew)
    else:
        yield Finding("bak.match", Severity.OK, backup.name, "it says what the device says")
    if extra:
        numbers = ", ".join(str(number) for number in extra)
        detail = (
            f"a passphrase that was removed from the device still opens it with this file (keyslot {numbers} of it)"
        )
        advice = f"destroy every copy of this file (shred on a disk is not enough on flash), and {renew}"
        yield Finding("bak.revoked", Severity.WARNING, backup.name, detail, advice)
    else:
        yield Finding("bak.revoked", Severity.OK, backup.name, "it opens for nobody whom the device refuses")


def _check_place(backup: BackupSubject) -> Iterator[Finding]:
    well = True
    if backup.is_on_volume:
        well = False
        detail = "it lies on the volume that it shall save: it cannot be read when it is needed"
        yield Finding("bak.place", Severity.CRITICAL, backup.name, detail, "move it to another disk, and off this host")
    elif backup.is_on_disk:
        well = False
        detail = "it lies on a disk under the volume that it shall save: both go together"
        yield Finding("bak.place", Severity.WARNING, backup.name, detail, "move it to another disk, and off this host")
    if backup.mode not in (0o400, 0o600) or backup.owner != 0:
        well = False
        detail = f"its mode is {backup.mode:04o} and its owner {backup.owner}: whoever reads it can guess passphrases"
        advice = f"chown root {backup.name}; chmod 0400 {backup.name}"
        yield Finding("bak.place", Severity.WARNING, backup.name, detail, advice)
    if well and backup.place_problem:
        yield Finding("bak.place", Severity.UNKNOWN, backup.name, backup.place_problem)
    elif well:
        yield Finding("bak.place", Severity.OK, backup.name, "it lies on another disk, and only root reads it")


def _proof(metadata: Metadata) -> tuple[bytes, bytes] | None:
    digest = metadata.volume_digest
    return (digest.salt, digest.digest) if digest else None


def _by_salt(metadata: Metadata) -> dict[bytes, Keyslot]:
    return {slot.kdf.salt: slot for _, slot in sorted(metadata.keyslots.items()) if slot.kdf}


def _without_slots(metadata: Metadata) -> tuple[object, ...]:
    return metadata.seqid, metadata.label, metadata.subsystem, metadata.tokens, metadata.flags, metadata.requirements

"""Does the open mapping work?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.luks.checks.match import is_reencrypted
from regstore.luks.facts import shown, unknown
from regstore.luks.findings import Finding, Severity
from regstore.luks.processes import is_reencrypting
from regstore.luks.table import TableError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts

# Targets that give no data back, or wrong ones; they are made for tests and for dying disks.
_DEAD_TARGETS = frozenset({"error", "flakey", "zero", "dust"})


def check_suspended(facts: Facts) -> Iterator[Finding]:
    """map.suspended: no device-mapper device on the way is suspended.

    A running reencryption suspends the mapping and its helpers for moments (seen).
    """
    devices = _mapped(facts)
    is_moved = any(device.is_reencryption_helper for device in devices) and is_reencrypting(facts.sysroot)
    for device in devices:
        if not device.is_suspended:
            yield Finding("map.suspended", Severity.OK, device.name, f"{shown(device)} is active")
            continue
        if is_moved:
            detail = f"{shown(device)} is suspended for a moment by the reencryption that runs"
            yield Finding("map.suspended", Severity.INFO, device.name, detail)
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
    """map.target: the tables of all device-mapper devices on the way lead to data, and an encrypted one to dm-crypt.

    While a reencryption runs, dm-crypt is in the helpers that it puts under the mapping (seen).
    """
    helpers = {device.name for device in _mapped(facts) if device.is_reencryption_helper}
    for device in _mapped(facts):
        try:
            targets = facts.table(device)
        except TableError as error:
            yield unknown("map.target", device, error)
            continue
        kinds = [target.type for target in targets]
        told = plain(", ".join(dict.fromkeys(kinds)))
        dead = sorted(_DEAD_TARGETS.intersection(kinds))
        if dead:
            detail = f"{shown(device)} has the target {', '.join(dead)}: nothing is read or written there"
            yield Finding("map.target", Severity.CRITICAL, device.name, detail, _reopen(device))
        elif not helpers.isdisjoint(device.slaves):
            yield Finding("map.target", Severity.OK, device.name, f"{told}, {len(targets)} lines, of a reencryption")
        elif device.is_encrypting and "crypt" not in kinds:
            detail = f"{shown(device)} does not encrypt: its table holds {told}"
            yield Finding("map.target", Severity.CRITICAL, device.name, detail, _reopen(device))
        elif device.is_luks and set(kinds) != {"crypt"} and facts.metadata and not is_reencrypted(facts.metadata):
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


def check_keyloc(facts: Facts) -> Iterator[Finding]:
    """map.keyloc: where the volume key lies while the volume is open."""
    device = facts.stack.crypt
    if device is None:
        return
    try:
        lines = facts.crypt_lines()
    except TableError as error:
        yield unknown("map.keyloc", device, error)
        return
    if all(crypt.keyring for _, crypt in lines):
        detail = "the volume key lies in the kernel's keyring, where nobody can save it when the header is lost"
        yield Finding("map.keyloc", Severity.OK, device.name, detail)
    else:
        detail = (
            "the volume key lies in dm-crypt: when the header is lost, `dmsetup table --showkeys` can still save it"
        )
        yield Finding("map.keyloc", Severity.INFO, device.name, detail)


def _mapped(facts: Facts) -> list[Device]:
    return [device for device in facts.stack.devices if device.dm_uuid or device.dm_name]


def _reopen(device: Device) -> str:
    name = plain(device.dm_name)
    again = (
        f"unmount, `cryptsetup close {name}` and open it again" if device.is_encrypting else f"`dmsetup table {name}`"
    )
    return f"check the header and its backup and the disks first; then {again}, and check the file system"

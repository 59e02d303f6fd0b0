"""Is the registry really on the encrypted disk?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.luks.facts import shown
from regstore.luks.findings import Finding, Severity
from regstore.luks.header_scan import ScanError, scan_headers
from regstore.luks.mounts import find_mount
from regstore.luks.shadow import Shadow, ShadowError, look_below
from regstore.luks.stack import Kind
from regstore.luks.udev import luks_devices, properties
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts

STAY = "stop the registry's pushes"
_KINDS = {
    "CRYPT-PLAIN-": "plain dm-crypt",
    "CRYPT-TCRYPT-": "VeraCrypt or TrueCrypt",
    "CRYPT-BITLK-": "BitLocker",
    "CRYPT-LOOPAES-": "loop-AES",
    "CRYPT-FVAULT2-": "FileVault",
}


def check_crypt(facts: Facts) -> Iterator[Finding]:
    """place.crypt: every way from the ROOT's file system down to a disk passes through encryption."""
    stack = facts.stack
    if stack.kind is not Kind.ROOT:
        return
    subject, gaps = plain(stack.target), plain("; ".join(stack.gaps))
    if stack.plain:
        names = ", ".join(shown(device) for device in stack.plain)
        through = f", beside the encrypted {shown(stack.encryption)}" if stack.encryption else ""
        where = plain(f"{stack.mount.target} ({stack.mount.source})") if stack.mount else subject
        yield Finding(
            "place.crypt",
            Severity.CRITICAL,
            subject,
            f"not encrypted: {where} lies on {names}{through}",
            f"{STAY}, mount the encrypted volume there, and move what was pushed meanwhile onto it",
        )
    elif gaps or stack.encryption is None:
        yield Finding("place.crypt", Severity.UNKNOWN, subject, gaps or "no device was found")
    else:
        yield Finding("place.crypt", Severity.OK, subject, f"encrypted by {shown(stack.encryption)}")


def check_mounted(facts: Facts) -> Iterator[Finding]:
    """place.mounted: where the volume should be mounted, something is; `/` always is."""
    stack, entry = facts.stack, facts.mount_entry
    target = facts.options.mount_point.rstrip("/") or (entry.target if entry else "")
    if stack.kind is not Kind.ROOT or target in ("", "/"):
        return
    source = "the configuration" if facts.options.mount_point else "/etc/fstab"
    if not facts.mounts:
        yield Finding("place.mounted", Severity.UNKNOWN, plain(target), "there is no /proc/self/mountinfo")
        return
    types = {mount.type for mount in facts.mounts if mount.target == target}
    if types - {"autofs"}:
        yield Finding("place.mounted", Severity.OK, plain(target), f"mounted, as {source} says")
    elif types:
        yield Finding("place.mounted", Severity.UNKNOWN, plain(target), "it is mounted only while it is used (autofs)")
    else:
        yield Finding(
            "place.mounted",
            Severity.CRITICAL,
            plain(target),
            f"{source} says that a volume is mounted there, and none is: pushes go to the disk of "
            f"{plain(stack.mount.target) if stack.mount else 'the directory above'}",
            f"{STAY}, open the volume, run `mount {plain(target)}`, and move what was pushed meanwhile onto it",
        )


def check_expected(facts: Facts) -> Iterator[Finding]:
    """place.expected: the opened volume is the one that the configuration or crypttab names."""
    stack = facts.stack
    expected, source = facts.options.expected_uuid, "the configuration"
    if not expected and facts.crypt_entry and facts.crypt_entry.source.tag == "UUID":
        expected, source = facts.crypt_entry.source.value, "/etc/crypttab"
    if not expected or (stack.crypt is None and not (stack.kind is Kind.ROOT and facts.options.expected_uuid)):
        return
    subject = stack.crypt.name if stack.crypt else plain(stack.target)
    opened = stack.crypt.luks_uuid if stack.crypt else ""
    if stack.crypt and not opened:
        yield Finding("place.expected", Severity.UNKNOWN, subject, "the mapping does not tell the UUID of its header")
    elif _digits(opened) == _digits(expected):
        yield Finding("place.expected", Severity.OK, subject, f"{opened}, as {source} says")
    else:
        yield Finding(
            "place.expected",
            Severity.CRITICAL,
            subject,
            f"{source} names {plain(expected)}, opened is {opened or 'no LUKS volume'}: a wrong disk or a clone",
            f"{STAY}, unmount and close the wrong volume, open the one with UUID {plain(expected)} and mount it",
        )


def check_shadow(facts: Facts) -> Iterator[Finding]:
    """place.shadow: under the mount point, on the file system above, lies nothing."""
    stack, mount = facts.stack, facts.stack.mount
    if stack.kind is not Kind.ROOT or mount is None or mount.target == "/":
        return
    subject = plain(mount.target)
    above = find_mount([other for other in facts.mounts if other.target != mount.target], mount.target)
    reason = "this is the tree of another system" if facts.sysroot.is_other else facts.halted
    if above is None or reason:
        yield Finding("place.shadow", Severity.UNKNOWN, subject, reason or "nothing is mounted above")
        return
    try:
        shadow = look_below(mount.target, above.target, stack.target, facts.patience())
    except ShadowError as error:
        yield Finding("place.shadow", Severity.UNKNOWN, subject, plain(str(error)))
        return
    yield _judge_shadow(shadow, subject, plain(above.target))


def _judge_shadow(shadow: Shadow, subject: str, above: str) -> Finding:
    advice = (
        f"look at it with `mount --bind {above} /mnt` below /mnt, copy what is missing into the volume, and delete it; "
        "what was pushed unencrypted stays readable on that disk until it is overwritten"
    )
    size = f"{shadow.files:,} files, {human_bytes(shadow.size_bytes)}{' or more' if shadow.is_cut else ''}"
    if shadow.has_blobs:
        detail = f"blobs lie unencrypted under the mount point: {size}; pushed while the volume was not mounted"
        return Finding("place.shadow", Severity.CRITICAL, subject, detail, advice)
    if shadow.entries:
        names = ", ".join(plain(name) for name in shadow.entries)
        return Finding("place.shadow", Severity.WARNING, subject, f"under the mount point: {names} ({size})", advice)
    return Finding("place.shadow", Severity.OK, subject, f"nothing lies under it on the file system of {above}")


def check_duplicate(facts: Facts) -> Iterator[Finding]:
    """place.duplicate: no two devices have LUKS headers with one UUID.

    Devices that lie on each other, such as the paths of a multipath disk, show one header and count once.
    """
    if facts.stack.kind is Kind.FILE:
        return
    subject = facts.stack.header_device.name if facts.stack.header_device else plain(facts.stack.target)
    known = list(luks_devices(facts.sysroot, facts.blocks))
    unread: Sequence[str] = ()
    if not known and not properties(facts.sysroot):
        try:
            known, unread = scan_headers(facts.sysroot, facts.blocks, facts.patience())
        except ScanError as error:
            yield Finding("place.duplicate", Severity.UNKNOWN, subject, plain(str(error)))
            return
    groups: dict[str, list[Device]] = {}
    for uuid, device in known:
        groups.setdefault(uuid, []).append(device)
    doubled = {uuid: top for uuid, devices in groups.items() if len(top := _uppermost(facts, devices)) > 1}
    for uuid, devices in doubled.items():
        names = [device.name for device in devices]
        yield Finding(
            "place.duplicate",
            Severity.CRITICAL,
            subject if subject in names else names[0],
            f"{', '.join(names)} have LUKS headers with one UUID, {plain(uuid)}: which one "
            "/dev/disk/by-uuid names may change at every start",
            "detach the copy, or give it its own with `cryptsetup luksUUID --uuid NEW DEVICE`",
        )
    if doubled:
        return
    if unread:
        yield Finding("place.duplicate", Severity.UNKNOWN, subject, f"not looked at: {plain(', '.join(unread))}")
    else:
        yield Finding("place.duplicate", Severity.OK, subject, f"{len(known)} LUKS headers, all of different UUIDs")


def _uppermost(facts: Facts, devices: Sequence[Device]) -> list[Device]:
    """Return the devices that none of the others lies on."""
    names = {device.name for device in devices}
    return [
        device
        for device in devices
        if names.isdisjoint(device.holders) and not _has_file(facts, names, f"/dev/{device.name}")
    ]


def _has_file(facts: Facts, names: set[str], path: str) -> bool:
    """Tell whether one of the devices is a loop device over another one."""
    return any((device := facts.blocks.by_name(name)) is not None and device.backing_file == path for name in names)


def check_kind(facts: Facts) -> Iterator[Finding]:
    """place.kind: the encryption has a LUKS header."""
    device = facts.stack.encryption
    if device is None:
        return
    if device.is_luks:
        yield Finding("place.kind", Severity.OK, device.name, plain("-".join(device.dm_uuid.split("-", 2)[:2])))
        return
    kind = next((kind for prefix, kind in _KINDS.items() if device.dm_uuid.startswith(prefix)), "")
    detail = f"{kind or plain(device.dm_uuid)}: no LUKS header, header checks skipped"
    yield Finding("place.kind", Severity.INFO, device.name, detail)


def _digits(uuid: str) -> str:
    return uuid.replace("-", "").lower()

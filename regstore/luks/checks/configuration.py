"""Will the volume be opened and mounted at the next start?"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.facts import shown
from regstore.luks.findings import Finding, Severity
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.key_file import KeyFile, look_at_key
from regstore.luks.mounts import lies_below
from regstore.luks.stack import Kind, stack_below
from regstore.luks.table import TableError
from regstore.luks.udev import NotKnownError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.facts import Facts
    from regstore.luks.tabs import CryptEntry, MountEntry

CRYPTTAB = "/etc/crypttab"
FSTAB = "/etc/fstab"
OTHERS = 0o066
_NO_ETC = "there is no /etc to look at"
_SERVICES = ("docker", "registry", "podman", "containerd")
# systemd looks there for a mapping without a key file (crypttab(5)).
_KEY_DIRECTORIES = ("/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d")


def check_crypttab(facts: Facts) -> Iterator[Finding]:
    """conf.crypttab: the mapping is opened at every start, from a device that is surely this one, as it is now."""
    stack, entry = facts.stack, facts.crypt_entry
    if stack.crypt is None and entry is None:
        return
    if facts.crypttab is None:
        yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, _NO_ETC)
        return
    if entry is None:
        name = plain(stack.crypt.dm_name) if stack.crypt else ""
        uuid = next(iter(sorted(facts.uuids)), "UUID")
        yield Finding(
            "conf.crypttab",
            Severity.WARNING,
            CRYPTTAB,
            f"no entry for {name}: after the next start the volume stays closed",
            f"add a line such as `{name} UUID={plain(uuid)} none luks`",
        )
        return
    findings = [*_judge_name(facts, entry), *_judge_source(facts, entry), *_judge_options(facts, entry)]
    yield from findings or [
        Finding("conf.crypttab", Severity.OK, CRYPTTAB, f"opens {plain(entry.name)} from {_source(entry)}")
    ]


def _judge_name(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    crypt = facts.stack.crypt
    if crypt is not None and entry.name != crypt.dm_name:
        yield Finding(
            "conf.crypttab",
            Severity.WARNING,
            CRYPTTAB,
            f"no entry for {plain(crypt.dm_name)}: the volume is opened as {plain(entry.name)} at the next start",
            f"call it {plain(crypt.dm_name)} in {CRYPTTAB}, or {plain(entry.name)} in {FSTAB} too",
        )


def _judge_source(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    source, header = entry.source, facts.stack.header_device
    find = "correct the entry (`lsblk -f` shows the UUIDs), or find the missing disk"
    if source.tag == "UUID" and facts.stack.crypt and source.value.lower() == facts.stack.crypt.luks_uuid:
        find = (
            "do not close the volume and do not reboot: its header is gone or damaged, restore it from a backup first"
        )
    try:
        names = [device.name for device in facts.resolve(source)]
    except NotKnownError as error:
        if source.tag != "UUID" or source.value.lower() not in facts.uuids:
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, f"{_source(entry)}: {error}")
        return
    if not names:
        yield from _judge_absent(facts, entry, find)
    elif header is not None and header.name not in names:
        detail = f"{_source(entry)} is {', '.join(names)}, and open is {header.name}"
        yield Finding("conf.crypttab", Severity.CRITICAL, CRYPTTAB, detail, find)
    if source.is_unstable:
        uuid = next(iter(sorted(facts.uuids)), "...")
        detail = f"{_source(entry)} may be another disk after the next start"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, f"write UUID={plain(uuid)} instead")


def _judge_absent(facts: Facts, entry: CryptEntry, repair: str) -> Iterator[Finding]:
    path = entry.source.value
    if not entry.source.tag and not path.startswith("/dev/"):
        place = str(facts.sysroot.path(path))
        try:
            if call(lambda: os.path.exists(place), facts.patience()):
                return
        except (DeadlineError, IsolatedError) as error:
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, plain(f"{path}: {error}"))
            return
        if facts.sysroot.is_other:
            detail = f"{_source(entry)} is not in the tree of the other system"
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, detail)
            return
    detail = f"{_source(entry)} is not there: the volume cannot be opened at the next start"
    yield Finding("conf.crypttab", Severity.CRITICAL, CRYPTTAB, detail, repair)


def _judge_options(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    metadata = facts.metadata
    if metadata is not None and (metadata.data_offset == 0) != bool(entry.header):
        if entry.header:
            detail = f"header={plain(entry.header)} is written, and the header lies on the volume's own device"
            repair = "take header= out, or check which of the two headers is right"
        else:
            detail = "the header is detached, and no header= is written: the volume cannot be opened at the next start"
            repair = "add header=FILE to the options of the entry"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, repair)
    try:
        is_active = any("allow_discards" in crypt.options for _, crypt in facts.crypt_lines())
    except TableError:
        return  # map.flags says so
    is_kept = metadata is None or "allow-discards" in metadata.flags
    is_written = "discard" in entry.options
    if is_written and not is_active:
        detail, repair = "discard is written, and the mapping does not allow it", "open the volume anew, or take it out"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, repair)
    elif is_active and not is_written and not is_kept:
        detail = "the mapping allows discards, and discard is not written"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, "add discard to the options of the entry")


def check_fstab(facts: Facts) -> Iterator[Finding]:
    """conf.fstab: the file system is mounted at every start, from the mapping, and before anything is pushed."""
    stack, mount = facts.stack, facts.stack.mount
    if stack.kind is not Kind.ROOT or mount is None or not (stack.devices or facts.mount_entry):
        return
    if facts.fstab is None:
        yield Finding("conf.fstab", Severity.UNKNOWN, FSTAB, _NO_ETC)
        return
    entry = _origin(facts, facts.mount_entry)
    if entry is None or (facts.mount_entry and len(facts.mount_entry.target) < len(mount.target)):
        if unit := _mount_unit(facts, mount.target):
            yield Finding("conf.fstab", Severity.OK, FSTAB, f"no entry, but {plain(unit)} mounts {plain(mount.target)}")
            return
        yield Finding(
            "conf.fstab",
            Severity.WARNING,
            FSTAB,
            f"no entry for {plain(mount.target)}: after the next start pushes go to the directory under it",
            f"add a line such as `{plain(mount.source)} {plain(mount.target)} {plain(mount.type)} defaults 0 2`",
        )
        return
    findings = [*_judge_device(facts, entry), *_judge_order(facts, facts.mount_entry or entry)]
    yield from findings or [
        Finding("conf.fstab", Severity.OK, FSTAB, f"mounts {_device(entry)} at {plain(entry.target)}")
    ]


def _mount_unit(facts: Facts, target: str) -> str:
    """Return systemd's unit for a mount point (systemd.unit(5), string escaping); empty when there is none."""
    escaped = re.sub(
        r"[^A-Za-z0-9:_./]", lambda match: "".join(f"\\x{b:02x}" for b in match[0].encode()), target.strip("/")
    )
    unit = f"{escaped.replace('/', '-') or '-'}.mount"
    return unit if facts.sysroot.path(f"/etc/systemd/system/{unit}").is_file() else ""


def _origin(facts: Facts, entry: MountEntry | None) -> MountEntry | None:
    """Return the entry with the device: of a bind mount that of the directory which it shows."""
    if entry is None or entry.options.isdisjoint(("bind", "rbind")):
        return entry
    above = [
        other
        for other in facts.fstab or ()
        if other is not entry
        and lies_below(entry.source.value, other.target)
        and other.options.isdisjoint(("bind", "rbind"))
    ]
    return max(above, key=lambda other: len(other.target), default=None)


def _judge_device(facts: Facts, entry: MountEntry) -> Iterator[Finding]:
    stack = facts.stack
    is_mounted = stack.mount is not None and stack.mount.target == (facts.mount_entry or entry).target
    try:
        devices = facts.resolve(entry.source)
    except NotKnownError as error:
        yield Finding("conf.fstab", Severity.UNKNOWN, FSTAB, f"{_device(entry)}: {error}")
        return
    below = {device.name for device in stack.devices} - stack.clear
    raw = [device for device in devices if device.name in below]
    is_header = entry.source.tag == "UUID" and entry.source.value.lower() in facts.uuids
    if raw or is_header:
        mapping = plain(stack.mount.source) if stack.mount else "/dev/mapper/NAME"
        detail = f"{_device(entry)} is the encrypted device itself, which cannot be mounted"
        yield Finding("conf.fstab", Severity.CRITICAL, FSTAB, detail, f"write {mapping} instead")
    elif is_mounted and not devices:
        detail = f"{_device(entry)} is not there, and mounted is {plain(stack.mount.source) if stack.mount else ''}"
        yield Finding("conf.fstab", Severity.CRITICAL, FSTAB, detail, "name the device that is mounted now")
    elif is_mounted and stack.tops and not {device.name for device in devices} & {top.name for top in stack.tops}:
        named, mounted = (", ".join(shown(device) for device in some) for some in (devices, stack.tops))
        detail = f"{_device(entry)} is {named}, mounted is {mounted}"
        yield Finding("conf.fstab", Severity.CRITICAL, FSTAB, detail, "name the device that is mounted now")


def _judge_order(facts: Facts, entry: MountEntry) -> Iterator[Finding]:
    late = sorted(entry.options.intersection(("nofail", "noauto")))
    if not late or "x-systemd.automount" in entry.options:
        return
    units = _started_services(facts)
    known = f"; started at boot: {plain(', '.join(units))}" if units else ""
    yield Finding(
        "conf.fstab",
        Severity.WARNING,
        FSTAB,
        f"{', '.join(late)}: the system starts without the volume, and a registry takes pushes into the "
        f"directory under the mount point{known}",
        f"take {' and '.join(late)} out, or let the registry's service have `RequiresMountsFor={plain(entry.target)}`",
    )


def _started_services(facts: Facts) -> list[str]:
    """Return the units that systemd starts by itself and that may be or carry a registry."""
    directory = "/etc/systemd/system"
    wants = [name for name in facts.sysroot.names(directory) if name.endswith(".wants")]
    units = {unit for name in wants for unit in facts.sysroot.names(f"{directory}/{name}")}
    return sorted(unit for unit in units if any(word in unit for word in _SERVICES))


def check_keyfile(facts: Facts) -> Iterator[Finding]:
    """conf.keyfile: the key file of crypttab is there at the next start, and nobody else can read it."""
    entry = facts.crypt_entry
    if entry is None:
        return
    path = entry.key or _implied_key(facts, entry)
    if not path:
        return
    subject = plain(path)
    place = _key_place(facts, path)
    if place.reason:
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, plain(place.reason))
        return
    if place.is_own:
        yield Finding(
            "conf.keyfile",
            Severity.CRITICAL,
            subject,
            "the key file lies on the volume that it opens: it is out of reach at the next start",
            "copy it now, while the volume is open, to a disk that is there before, and name it there in /etc/crypttab",
        )
        return
    try:
        key = look_at_key(facts.sysroot, path, facts.patience())
    except (DeadlineError, IsolatedError) as error:
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, plain(str(error)))
        return
    if key is None and facts.sysroot.is_other and not facts.sysroot.path(f"/{path.split('/')[1]}").is_dir():
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, "it is not in the tree of the other system")
    elif key is None:
        detail = "the key file is missing: the volume cannot be opened with it at the next start"
        repair = "restore the key file, or make a new one and `cryptsetup luksAddKey` it with another passphrase"
        yield Finding("conf.keyfile", Severity.CRITICAL, subject, detail, repair)
    else:
        yield from _judge_key(key, subject, place)


@dataclass(frozen=True, slots=True)
class _KeyPlace:
    """Where a key file lies: on the volume itself, on a disk without encryption, in memory, or why nobody knows."""

    is_own: bool = False
    plain: str = ""
    is_memory: bool = False
    reason: str = ""


def _key_place(facts: Facts, path: str) -> _KeyPlace:
    if not path.startswith("/"):
        return _KeyPlace(reason="it is not an absolute path")
    if ":" in path:
        return _KeyPlace(reason="it lies on a device that is not mounted while the system runs")
    stack = stack_below(facts.sysroot, path)
    crypt = facts.stack.crypt
    names = {device.name for device in stack.devices}
    if crypt is not None and crypt.name in names:
        return _KeyPlace(is_own=True)
    if stack.suspended:
        return _KeyPlace(reason="it lies on a suspended device")
    disks = ", ".join(shown(device) for device in stack.plain)
    return _KeyPlace(plain=disks, is_memory=stack.mount is not None and stack.mount.type in ("tmpfs", "ramfs"))


def _judge_key(key: KeyFile, subject: str, place: _KeyPlace) -> Iterator[Finding]:
    if key.mode & OTHERS or key.owner != 0:
        detail = f"mode {key.mode:04o}, owner {key.owner}: others than root can read or change the key"
        repair = f"`chown root:root {subject}; chmod 0400 {subject}`, and change the key if anybody may have read it"
        yield Finding("conf.keyfile", Severity.CRITICAL, subject, detail, repair)
    if place.plain:
        detail = f"the key lies unencrypted on {place.plain}: who has that disk can open the volume"
        repair = "keep it on an encrypted disk, or use a passphrase or a TPM"
        yield Finding("conf.keyfile", Severity.WARNING, subject, detail, repair)
    if place.is_memory:
        yield Finding(
            "conf.keyfile", Severity.INFO, subject, "it lies in memory, and something must bring it at every start"
        )
    if key.has_newline:
        detail = "it ends with a newline, which is a part of the key; a passphrase that is typed has none"
        yield Finding("conf.keyfile", Severity.INFO, subject, detail)
    elif key.has_newline is None:
        yield Finding(
            "conf.keyfile", Severity.UNKNOWN, subject, "it cannot be read to see whether it ends with a newline"
        )
    if not (place.plain or place.is_memory or key.has_newline or key.mode & OTHERS or key.owner):
        yield Finding("conf.keyfile", Severity.OK, subject, f"mode {key.mode:04o}, owned by root")


def _implied_key(facts: Facts, entry: CryptEntry) -> str:
    """Return the key file that systemd takes without being told, if there is one."""
    paths = (f"{directory}/{entry.name}.key" for directory in _KEY_DIRECTORIES if "/" not in entry.name)
    return next((path for path in paths if facts.sysroot.path(path).is_file()), "")


def _source(entry: CryptEntry) -> str:
    return plain(str(entry.source))


def _device(entry: MountEntry) -> str:
    return plain(str(entry.source))

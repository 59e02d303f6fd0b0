"""Will the file system be mounted at the next start, and before anything is pushed?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.facts import NO_ETC, shown
from regstore.luks.findings import Finding, Severity
from regstore.luks.mounts import lies_below
from regstore.luks.stack import Kind
from regstore.luks.udev import NotKnownError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.facts import Facts
    from regstore.luks.tabs import MountEntry

FSTAB = "/etc/fstab"
_SERVICES = ("docker", "registry", "podman", "containerd")


def check_fstab(facts: Facts) -> Iterator[Finding]:
    """conf.fstab: the file system is mounted at every start, from the mapping, and before anything is pushed."""
    stack, mount = facts.stack, facts.stack.mount
    if stack.kind is not Kind.ROOT or mount is None or not (stack.devices or facts.mount_entry):
        return
    if mount.target == "/" and facts.mount_entry is None:
        return
    if facts.fstab is None:
        yield Finding("conf.fstab", Severity.UNKNOWN, FSTAB, NO_ETC)
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


def _device(entry: MountEntry) -> str:
    return plain(str(entry.source))

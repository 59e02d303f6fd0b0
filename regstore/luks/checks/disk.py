"""Are the disks below healthy, by themselves and by the kernel's word?"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from regstore.luks.findings import Finding, Severity
from regstore.luks.isolation import DeadlineError, IsolatedError, Output, run
from regstore.luks.kernel_log import LogError
from regstore.luks.nodes import node_of
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts

# A disk that sleeps must start to turn first.
SMART_SECONDS = 15.0
# smartctl(8), EXIT STATUS.
_FAILING = 0x08
_WEAK = {
    0x10: "an attribute is at its limit now",
    0x20: "an attribute was at its limit before",
    0x40: "the device's error log has errors",
    0x80: "its self-test log has errors",
}
_NOT_TOLD = {0x01: "smartctl does not know this kind of device", 0x02: "it cannot be opened", 0x04: "it has no SMART"}
# What the kernel says of a device that fails, and of a file system that gave up. The group is the device.
_TROUBLE = tuple(
    re.compile(pattern)
    for pattern in (
        r"I/O error, dev ([^\s,]+)",
        r"Buffer I/O error on dev(?:ice)? ([^\s,]+)",
        r"EXT4-fs error \(device ([^\s)]+)\)",
        r"EXT4-fs \(([^\s)]+)\): (?:Remounting filesystem read-only|I/O error)",
        r"XFS \(([^\s)]+)\): .*(?:Shutting down|[Ss]hutdown|I/O [Ee]rror)",
        r"BTRFS:? (?:error|critical|alert) \(device ([^\s):]+)",
    )
)


def check_smart(facts: Facts) -> Iterator[Finding]:
    """dev.smart: every physical disk says that it is well."""
    for disk in facts.stack.disks:
        path = node_of(facts.sysroot, disk)
        # A node that is not there cannot be opened, which smartctl says itself.
        name = str(path or facts.sysroot.path(f"/dev/{disk.name}"))
        try:
            output = run(("smartctl", "-j", "-H", "-A", name), facts.patience(SMART_SECONDS))
        except (DeadlineError, IsolatedError) as error:
            reason = f"smartctl cannot be run: {error}" if isinstance(error, IsolatedError) else str(error)
            yield Finding("dev.smart", Severity.UNKNOWN, disk.name, plain(reason))
            continue
        yield _judge_smart(disk, output)


def _judge_smart(disk: Device, output: Output) -> Finding:
    document = _parse(output.stdout)
    code = output.code
    if code < 0 or document is None:
        return Finding("dev.smart", Severity.UNKNOWN, disk.name, plain(f"smartctl told nothing: {output.complaint}"))
    passed = document.get("smart_status", {}).get("passed") if isinstance(document.get("smart_status"), dict) else None
    warned = document.get("nvme_smart_health_information_log")
    bits = warned.get("critical_warning") if isinstance(warned, dict) else None
    told = f" (NVMe critical warning {bits})" if bits else ""
    if code & _FAILING or passed is False:
        return Finding(
            "dev.smart",
            Severity.CRITICAL,
            disk.name,
            f"the disk says that it is failing{told}",
            "back up the LUKS header to another disk now, copy the data away, and replace the disk",
        )
    if weak := [meaning for bit, meaning in _WEAK.items() if code & bit]:
        return Finding(
            "dev.smart",
            Severity.WARNING,
            disk.name,
            "; ".join(weak),
            f"look at `smartctl -a /dev/{disk.name}`, run a long self-test, and have another disk ready",
        )
    if gaps := [meaning for bit, meaning in _NOT_TOLD.items() if code & bit]:
        return Finding("dev.smart", Severity.UNKNOWN, disk.name, plain("; ".join([*gaps, *_messages(document)])))
    if passed is None:
        return Finding("dev.smart", Severity.UNKNOWN, disk.name, "smartctl gives no verdict on this disk")
    return Finding("dev.smart", Severity.OK, disk.name, "the disk says that it is well")


def _parse(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _messages(document: dict[str, Any]) -> list[str]:
    smartctl = document.get("smartctl")
    messages = smartctl.get("messages") if isinstance(smartctl, dict) else None
    return [str(entry.get("string")) for entry in messages or () if isinstance(entry, dict)]


def check_log(facts: Facts) -> Iterator[Finding]:
    """dev.log: the kernel told of no failed read or write of a device of the stack, and of no broken file system."""
    devices = facts.stack.devices
    if not devices:
        return
    try:
        log = facts.log()
    except LogError as error:
        yield Finding("dev.log", Severity.UNKNOWN, devices[0].name, plain(str(error)))
        return
    found: dict[str, list[str]] = {}
    names = {device.name for device in devices}
    for line in log:
        for match in (pattern.search(line) for pattern in _TROUBLE):
            if match and match[1] in names:
                found.setdefault(match[1], []).append(line)
                break
    for name, lines in found.items():
        yield Finding(
            "dev.log",
            Severity.CRITICAL,
            name,
            f"{len(lines)} errors in the kernel log, the first: {plain(lines[0].strip())}",
            f"check the cables and `smartctl -a` of the disk; back up the LUKS header and the data before {name} is "
            "repaired or checked",
        )
    if not found:
        yield Finding(
            "dev.log",
            Severity.OK,
            devices[0].name,
            f"no error of {', '.join(sorted(names))} in the kernel log{facts.log_span}",
        )

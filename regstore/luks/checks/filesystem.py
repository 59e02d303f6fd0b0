"""Does the registry's file system work, and is there room?"""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING

from regstore.luks.findings import Finding, Severity
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.stack import Kind
from regstore.wording import human_bytes, iso_time, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts

WARNING_PERCENT = 85
CRITICAL_PERCENT = 95
BACKING_FREE_PERCENT = 5
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are (stat(2))
_OTHER_SYSTEM = "this is the tree of another system"
_EXT = ("ext2", "ext3", "ext4")


def check_errors(facts: Facts) -> Iterator[Finding]:
    """fs.errors: the file system itself counted no error. ext4 and btrfs count; others show it in the log only."""
    stack = facts.stack
    if stack.kind is not Kind.ROOT or stack.mount is None or not stack.tops:
        return
    if stack.mount.type in _EXT:
        yield _judge_ext4(facts, stack.tops[0])
    elif stack.mount.type == "btrfs":
        yield _judge_btrfs(facts, stack.tops[0])


def _judge_ext4(facts: Facts, device: Device) -> Finding:
    base = f"/sys/fs/ext4/{device.name}"
    count = facts.sysroot.number(f"{base}/errors_count")
    if count is None:
        return Finding("fs.errors", Severity.UNKNOWN, device.name, f"there is no {base}/errors_count")
    if count == 0:
        return Finding("fs.errors", Severity.OK, device.name, "no errors since the last e2fsck")
    first = iso_time(facts.sysroot.number(f"{base}/first_error_time") or None)
    return Finding(
        "fs.errors",
        Severity.CRITICAL,
        device.name,
        f"{count:,} errors{f', the first at {first}' if first else ''}; it may refuse writes though mounted rw",
        f"stop the registry, back up the data, unmount and run `e2fsck -f {_node(device)}`, then `regstore fsck`",
    )


def _judge_btrfs(facts: Facts, device: Device) -> Finding:
    """Add up the device statistics of the btrfs that has this device (kernel 5.14 and later)."""
    for uuid in facts.sysroot.names("/sys/fs/btrfs"):
        base = f"/sys/fs/btrfs/{uuid}"
        if device.name not in facts.sysroot.names(f"{base}/devices"):
            continue
        texts = [facts.sysroot.text(f"{base}/devinfo/{n}/error_stats") for n in facts.sysroot.names(f"{base}/devinfo")]
        lines = [line.split() for text in texts for line in (text or "").splitlines()]
        counts: dict[str, int] = {}
        for line in lines:
            if len(line) == 2 and line[1].isascii() and line[1].isdigit() and len(line[1]) < 19:
                counts[line[0]] = counts.get(line[0], 0) + int(line[1])
        if not counts:
            break
        if bad := {name: count for name, count in counts.items() if count}:
            detail = plain(", ".join(f"{name} {count:,}" for name, count in bad.items()))
            repair = f"stop the registry, back up the data, and run `btrfs scrub start {_target(facts)}`"
            return Finding("fs.errors", Severity.CRITICAL, device.name, detail, repair)
        return Finding("fs.errors", Severity.OK, device.name, "no errors in the device statistics")
    return Finding("fs.errors", Severity.UNKNOWN, device.name, "/sys/fs/btrfs has no device statistics")


def check_write(facts: Facts) -> Iterator[Finding]:
    """fs.write: a file can be made, written out and removed. Runs only when the operator allows it."""
    if facts.stack.kind is not Kind.ROOT or not facts.options.write_probe:
        return
    subject = plain(facts.stack.target)
    if reason := _reason_not_to_look(facts):
        yield Finding("fs.write", Severity.UNKNOWN, subject, reason)
        return
    name = f".regstore-write-probe-{secrets.token_hex(8)}"
    try:
        call(lambda: _write(os.path.join(facts.stack.target, name)), facts.patience())
    except DeadlineError:
        detail = f"writing does not end; {name} may be left there"
        repair = "see the kernel log and the disk; do not wait for programs that hang on it"
        yield Finding("fs.write", Severity.CRITICAL, subject, detail, repair)
    except IsolatedError as error:
        yield _judge_failed_write(subject, error)
    else:
        yield Finding("fs.write", Severity.OK, subject, "a file was made, written out and removed")


def _judge_failed_write(subject: str, error: IsolatedError) -> Finding:
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, 0):
        return Finding("fs.write", Severity.UNKNOWN, subject, plain(f"the probe was not possible: {error}"))
    repair = "see the kernel log and the disk below; pushes fail"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        repair = "make room: `regstore gc`, or a larger volume"
    return Finding("fs.write", Severity.CRITICAL, subject, plain(f"a file cannot be written: {error}"), repair)


def _write(path: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(handle, b"regstore luks check\n")
        os.fsync(handle)
    finally:
        os.unlink(path)
        os.close(handle)


def check_space(facts: Facts) -> Iterator[Finding]:
    """fs.space: there is room for the registry, which has none of what is kept for root."""
    if facts.stack.kind is not Kind.ROOT:
        return
    room = _room(facts)
    if isinstance(room, str):
        yield Finding("fs.space", Severity.UNKNOWN, _target(facts), room)
        return
    used = (room["blocks"] - room["bfree"]) * room["frsize"]
    free = room["bavail"] * room["frsize"]
    yield _judge_fill("fs.space", facts, used, free, f"{human_bytes(free)} free")


def check_inodes(facts: Facts) -> Iterator[Finding]:
    """fs.inodes: there are inodes for more files; not of file systems that make them as needed."""
    if facts.stack.kind is not Kind.ROOT:
        return
    room = _room(facts)
    if isinstance(room, str):
        yield Finding("fs.inodes", Severity.UNKNOWN, _target(facts), room)
    elif room["files"] > 0:
        yield _judge_fill("fs.inodes", facts, room["files"] - room["ffree"], room["favail"], f"{room['favail']:,} free")


def _judge_fill(check: str, facts: Facts, used: int, free: int, told: str) -> Finding:
    percent = 100 * used / max(used + free, 1)
    detail = f"{percent:.0f} % used, {told}"
    repair = "collect what no image needs with `regstore gc`, or grow the volume"
    if percent >= CRITICAL_PERCENT:
        return Finding(check, Severity.CRITICAL, _target(facts), detail, repair)
    if percent >= WARNING_PERCENT:
        return Finding(check, Severity.WARNING, _target(facts), detail, repair)
    return Finding(check, Severity.OK, _target(facts), detail)


def _room(facts: Facts) -> dict[str, int] | str:
    """Return statvfs(3) of the target, or why it is not known."""
    reason = _reason_not_to_look(facts)
    return reason or _statvfs(facts, facts.stack.target)


def _statvfs(facts: Facts, path: str) -> dict[str, int] | str:
    names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail")
    try:
        return call(lambda: {name: getattr(os.statvfs(path), f"f_{name}") for name in names}, facts.patience())
    except (DeadlineError, IsolatedError) as error:
        return plain(str(error))


def check_backing(facts: Facts) -> Iterator[Finding]:
    """fs.backing: the file under a loop device has its blocks, or its file system has room for them."""
    for device in facts.stack.devices:
        if device.backing_file and not device.backing_file.startswith("/dev/"):
            yield _judge_backing(facts, device)


def _judge_backing(facts: Facts, device: Device) -> Finding:
    path = device.backing_file
    if reason := _reason_not_to_look(facts):
        return Finding("fs.backing", Severity.UNKNOWN, device.name, reason)
    try:
        size, allocated = call(lambda: _allocation(path), facts.patience())
    except (DeadlineError, IsolatedError) as error:
        return Finding("fs.backing", Severity.UNKNOWN, device.name, plain(f"{path}: {error}"))
    room = _statvfs(facts, path)
    if isinstance(room, str):
        return Finding("fs.backing", Severity.UNKNOWN, device.name, plain(f"{path}: {room}"))
    free, total = room["bavail"] * room["frsize"], max(room["blocks"] * room["frsize"], 1)
    missing = max(size - allocated, 0)
    detail = plain(f"{path}: {human_bytes(missing)} not allocated, {human_bytes(free)} free on its file system")
    repair = (
        f"make room on the file system of {plain(path)}, or write out the whole file with `fallocate -l {size} FILE`"
    )
    if free * 100 < BACKING_FREE_PERCENT * total:
        return Finding("fs.backing", Severity.CRITICAL, device.name, detail, repair)
    if missing > free:
        return Finding("fs.backing", Severity.WARNING, device.name, detail, repair)
    return Finding("fs.backing", Severity.OK, device.name, detail)


def _allocation(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_blocks * _BLOCK_BYTES


def _reason_not_to_look(facts: Facts) -> str:
    return _OTHER_SYSTEM if facts.sysroot.is_other else facts.halted


def _target(facts: Facts) -> str:
    return plain(facts.stack.target)


def _node(device: Device) -> str:
    return f"/dev/mapper/{plain(device.dm_name)}" if device.dm_name else f"/dev/{device.name}"

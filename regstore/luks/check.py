"""`luks check`: one target, all that is to be said of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regstore.errors import UsageError
from regstore.luks.checks.backup import check_backup
from regstore.luks.facts import Options
from regstore.luks.findings import Finding, Severity
from regstore.luks.header_backup import look_at_backup
from regstore.luks.host import read_memory
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.judgement import judge_header, judge_unread
from regstore.luks.nodes import node_of
from regstore.luks.passphrase import check_opens
from regstore.luks.policy import Policy
from regstore.luks.processes import is_reencrypting
from regstore.luks.reading_apart import NotReadError, read_apart
from regstore.luks.stack import Kind, find_stack, kind_of
from regstore.luks.subject import HeaderSubject
from regstore.luks.sysroot import Sysroot
from regstore.luks.system import check_stack, find_header
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.header import Reading
    from regstore.luks.metadata import Metadata
    from regstore.luks.stack import Stack

_LOOK_SECONDS = 2.0
BACKUP_GRACE_SECONDS = 30 * 86400.0
"""How long a volume may be without a header backup until that is critical."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the operator wants.

    Attributes:
        policy: the demands on the header.
        system: of the checks of the system side.
        header: a detached header; what crypttab says when None.
        backups: files of header backups.
        no_backup_seconds: for how long no header backup has been named.
        key_file: prove that it opens the volume.
        rescue_bytes: the memory of the system that would open the volume after a disaster.
        sysroot: where the system's files lie.
    """

    policy: Policy = field(default_factory=Policy)
    system: Options = field(default_factory=Options)
    header: Path | None = None
    backups: tuple[Path, ...] = ()
    no_backup_seconds: float = 0.0
    key_file: Path | None = None
    rescue_bytes: int | None = None
    sysroot: Sysroot = field(default_factory=Sysroot)


@dataclass(frozen=True, slots=True)
class Health:
    """All that was found.

    Attributes:
        target: what was checked, without symbolic links where that matters.
        kind: what it is.
        device: the kernel name or file of the header's device, or empty.
        uuid: of the header, or empty.
        version: of the header, 0 without one.
        is_header_ok: no finding about the header is a warning or worse; None when there is none that could be read.
    """

    target: str
    kind: Kind
    device: str
    uuid: str
    version: int
    is_header_ok: bool | None
    findings: list[Finding]


def check_volume(target: Path, options: CheckOptions) -> Health:
    """Check a registry's directory, a device, or a file.

    Raises:
        UsageError: the target or the key file is not there, or is none.
        OSError: the system's files cannot be read.
    """
    sysroot = options.sysroot
    kind = kind_of(sysroot, target)
    if kind is None:
        raise UsageError(
            f"{target} is not there, or is neither a directory, a block device nor a file",
            hint="name the registry's directory, or the device, image or header file to check",
        )
    if options.key_file is not None and not _is_regular(options.key_file):
        raise UsageError(f"the key file {options.key_file} is not there, or is no regular file")
    return _Check(kind, find_stack(sysroot, target, kind), options).run()


def _is_regular(path: Path) -> bool:
    try:
        return call(path.is_file, _LOOK_SECONDS)
    except (DeadlineError, IsolatedError):
        return False


class _Check:
    """One check: the header first, raw, before any other program can touch it."""

    def __init__(self, kind: Kind, stack: Stack, options: CheckOptions) -> None:
        self._kind = kind
        self._stack = stack
        self._options = options
        self._sysroot = options.sysroot
        self._findings: list[Finding] = []
        self._header_elsewhere = ""
        self._device, self._header_file = self._find_header()
        self._data_node = self._find_node()

    def run(self) -> Health:
        name, reading = self._read_header()
        metadata = reading.metadata if reading else None
        is_header_ok = None
        if reading is not None:
            is_header_ok = all(finding.severity < Severity.WARNING for finding in self._findings)
        self._findings += check_stack(self._sysroot, self._stack, metadata, self._options.system)
        self._findings += self._check_backups(name, reading)
        if self._options.key_file is not None:
            self._findings += self._check_key(self._options.key_file, metadata)
        return Health(
            self._stack.target,
            self._kind,
            name,
            metadata.uuid if metadata else "",
            reading.version if reading else 0,
            is_header_ok,
            self._findings,
        )

    def _find_header(self) -> tuple[Device | None, Path | None]:
        """Return the device that holds the header or the data, and the file of a detached header."""
        try:
            place = find_header(self._sysroot, self._stack)
        except OSError:  # conf.crypttab tells
            return self._stack.header_device, self._options.header
        if ":" in place.file and self._options.header is None:
            self._header_elsewhere = place.file
        is_here = place.file.startswith("/") and not self._header_elsewhere
        return place.device, self._options.header or (self._sysroot.path(place.file) if is_here else None)

    def _held_header(self) -> bool:
        """Tell whether the open mapping leaves room for a header at the begin of its device."""
        crypt, device = self._stack.crypt, self._device
        if crypt is None or device is None or crypt.size_bytes is None or device.size_bytes is None:
            return False
        return self._header_file is None and crypt.size_bytes < device.size_bytes

    def _find_node(self) -> Path | None:
        if self._kind is Kind.FILE:
            return Path(self._stack.target)
        return node_of(self._sysroot, self._device) if self._device else None

    def _read_header(self) -> tuple[str, Reading | None]:
        """Read and judge the header; return how findings call it."""
        device = self._device
        name = device.name if device else plain(self._stack.target)
        place = self._header_file or self._data_node
        if self._kind is Kind.ROOT and device is None and self._header_file is None:
            return "", None
        if self._header_elsewhere:
            reason = f"the header lies on another device, which is not mounted now: {plain(self._header_elsewhere)}"
            self._findings += [Finding("hdr.detached", Severity.UNKNOWN, name, reason), *judge_unread(name, reason)]
            return name, None
        if self._header_file is not None:
            name = plain(str(self._header_file))
            if kind_of(self._sysroot, self._header_file) not in (Kind.FILE, Kind.DEVICE):
                advice = "bring the detached header back from a backup before the volume is closed or the host reboots"
                self._findings.append(
                    Finding("hdr.detached", Severity.CRITICAL, name, "the detached header is not there", advice)
                )
                self._findings += judge_unread(name, "the detached header is not there")
                return name, None
        is_halted = self._stack.is_header_halted or (device is not None and device.is_suspended)
        if is_halted or place is None:
            reason = "suspended" if is_halted else f"no device node of {name} that is surely this device"
            self._findings += judge_unread(name, reason)
            return name, None
        try:
            reading = read_apart(place, self._sysroot)
        except NotReadError as error:
            self._findings += judge_unread(name, plain(str(error)))
            return name, None
        self._findings += judge_header(
            HeaderSubject(
                name=name,
                path=plain(str(place)),
                reading=reading,
                policy=self._options.policy,
                is_open=self._stack.crypt is not None,
                held_header=self._held_header(),
                data_path=plain(str(self._data_node or "")),
                is_detached=self._header_file is not None,
                data_bytes=self._data_bytes(reading),
                physical_block_bytes=device.physical_block_bytes if device else None,
                is_being_reencrypted=is_reencrypting(self._sysroot),
                memory=read_memory(self._sysroot, self._options.rescue_bytes),
            )
        )
        return name, reading

    def _data_bytes(self, reading: Reading) -> int | None:
        device = self._device
        if device is not None and device.size_bytes:
            return device.size_bytes
        if self._header_file is None:
            return reading.size
        if self._kind is Kind.FILE:
            return os.stat(self._stack.target).st_size
        return None

    def _check_backups(self, name: str, reading: Reading | None) -> Iterator[Finding]:
        if not self._options.backups:
            if self._kind is not Kind.FILE and reading is not None and reading.version:
                place = self._header_file or self._data_node
                advice = f"make one, and keep it on another disk: regstore luks backup-header {place} FILE"
                detail = "no header backup is named (--header-backup FILE): a damaged header is the end of the data"
                is_late = self._options.no_backup_seconds > BACKUP_GRACE_SECONDS
                if is_late:
                    detail += f"; so it has been for {self._options.no_backup_seconds / 86400:.0f} days"
                yield Finding("bak.exists", Severity.CRITICAL if is_late else Severity.WARNING, name, detail, advice)
            return
        for file in self._options.backups:
            backup = look_at_backup(file, self._stack, self._sysroot, self._header_file)
            place = self._header_file or self._data_node
            yield from check_backup(backup, reading, plain(str(place or self._stack.target)))

    def _check_key(self, key_file: Path, metadata: Metadata | None) -> Iterator[Finding]:
        node = self._data_node or self._header_file
        if metadata is None or node is None:
            yield Finding("slot.opens", Severity.UNKNOWN, plain(str(key_file)), "there is no valid header to try it on")
            return
        yield from check_opens(key_file, node, self._header_file, metadata, self._sysroot)

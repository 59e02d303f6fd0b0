"""A backup of a header: the one file that brings a volume back whose header is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regstore.errors import RefusedError, StorageFailedError, UsageError
from regstore.luks.checks.header import CHECKS as HEADER_CHECKS
from regstore.luks.findings import Finding, Severity
from regstore.luks.header import Reading, read_once
from regstore.luks.header_backup import manifest_path
from regstore.luks.reading_apart import NotReadError, read_apart
from regstore.luks.source import ReadFailedError, Source
from regstore.luks.stack import find_stack, kind_of, stack_below
from regstore.luks.subject import HeaderSubject
from regstore.wording import iso_time, plain

if TYPE_CHECKING:
    from regstore.luks.sysroot import Sysroot

_MODE = 0o400
_ATTEMPTS = 3
# What a header may say of itself and still be worth a backup: it is whole, and that is all that a backup needs.
_MUST_BE_WELL = frozenset({
    "hdr.read", "hdr.copies", "hdr.seqid", "hdr.equal", "hdr.offset", "hdr.schema", "hdr.foreign", "hdr.version",
    "hdr.space",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class SavedHeader:
    """What was written, or why nothing was.

    Attributes:
        file: the backup.
        manifest: what lies beside it, as JSON data; empty when nothing was written.
        findings: what is wrong with the header; then nothing was written.
    """

    file: Path
    manifest: dict[str, str | int]
    findings: tuple[Finding, ...] = ()


def save_header(device: Path, file: Path, sysroot: Sysroot, now: float) -> SavedHeader:
    """Copy the header of a device into a file, with a manifest beside it.

    Args:
        device: a block device, an image, or a detached header; it is only read.
        file: must not exist.
        sysroot: where the system's files lie.
        now: seconds since the epoch.

    Raises:
        UsageError: there is no such device, or no such directory for the file.
        RefusedError: the file exists, or lies on a disk that is under the device.
        StorageFailedError: the device cannot be read, the file not be written, or the header changes all the time.
        OSError: the device cannot be opened.
    """
    for path in (file, manifest_path(file)):
        if os.path.lexists(path):
            raise RefusedError(
                f"{path} exists", code="backup-exists", hint="name another file: a header backup is never replaced"
            )
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} is no directory")
    _refuse_same_disk(device, file, sysroot)
    with Source(device) as source:
        for _ in range(_ATTEMPTS):
            try:
                reading = read_apart(device, sysroot)
            except NotReadError as error:
                raise StorageFailedError(str(error)) from error
            findings = _find_damage(device, reading)
            if findings or reading.metadata is None:
                return SavedHeader(file, {}, tuple(findings))
            size = reading.metadata.backup_bytes
            try:
                content = source.read(0, size)
            except ReadFailedError as error:
                raise StorageFailedError(f"{device}: {error}") from error
            temporary = _write(file, content)
            try:
                if len(content) == size and _is_copy(temporary, reading):
                    manifest: dict[str, str | int] = {
                        "uuid": reading.metadata.uuid,
                        "header_sha256": hashlib.sha256(content).hexdigest(),
                        "seqid": reading.metadata.seqid,
                        "created_at": iso_time(now) or "",
                        "device": str(device),
                        "size_bytes": size,
                    }
                    _publish_with_manifest(temporary, file, manifest)
                    return SavedHeader(file, manifest)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
    raise StorageFailedError(f"the header of {device} changes all the time", hint="wait for the end of what changes it")


def _refuse_same_disk(device: Path, file: Path, sysroot: Sysroot) -> None:
    kind = kind_of(sysroot, device)
    if kind is None:
        raise UsageError(f"{device} is not there, or is neither a block device nor a file")
    directory = os.path.realpath(file.parent)
    below_device = find_stack(sysroot, Path(os.path.realpath(device)), kind)
    if below_device.is_header_halted:
        raise RefusedError(f"{device} lies on a suspended device: reading it would hang", code="suspended")
    names = {found.name for found in below_device.devices}
    is_same = False
    if device.is_file():
        names |= {found.name for found in stack_below(sysroot, os.path.realpath(device)).devices}
        is_same = device.stat().st_dev == os.stat(directory).st_dev
    shared = [found.name for found in stack_below(sysroot, directory).devices if found.name in names]
    if is_same or shared:
        where = f"disk {shared[-1]}" if shared else "file system"
        raise RefusedError(
            f"{file} would lie on the same {where} as {device}: both would be lost together",
            code="same-disk",
            hint="name a file on another disk, such as a USB stick or a network share, and keep a copy off this host",
        )


def _find_damage(device: Path, reading: Reading) -> list[Finding]:
    subject = HeaderSubject(str(device), str(device), reading)
    found = [finding for check in HEADER_CHECKS for finding in check(subject)]
    bad = [
        finding
        for finding in found
        if finding.id in _MUST_BE_WELL
        and finding.severity >= Severity.WARNING
        and not (finding.id == "hdr.version" and reading.version == 1)
    ]
    if not bad and reading.metadata is None:
        bad.append(Finding("hdr.copies", Severity.CRITICAL, str(device), "no valid header", "see regstore luks check"))
    return bad


def _is_copy(file: Path, reading: Reading) -> bool:
    """Read the file back: the header may have changed between looking and copying."""
    with Source(file) as source:
        copied = read_once(source)
    return copied.metadata == reading.metadata and copied.materials == reading.materials and not copied.failure


def _write(file: Path, content: bytes) -> Path:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            with suppress(PermissionError):  # a file system without modes, such as FAT
                os.fchmod(handle, _MODE)
            with open(handle, "wb", closefd=False) as stream:
                stream.write(content)
            os.fsync(handle)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageFailedError(
            f"cannot write {plain(str(file))}: {error.strerror}", hint="see its directory, or name another file"
        ) from error
    return temporary


def _publish_with_manifest(temporary: Path, file: Path, manifest: dict[str, str | int]) -> None:
    """Give both files their names; on a full disk neither gets one."""
    beside = _write(manifest_path(file), json.dumps(manifest, indent=2).encode() + b"\n")
    try:
        _publish(temporary, file)
        _publish(beside, manifest_path(file))
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def _publish(temporary: Path, file: Path) -> None:
    """Give a whole file its name, never over another one."""
    try:
        try:
            os.link(temporary, file)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or os.path.lexists(file):
                raise
            os.rename(temporary, file)  # a file system without hard links, such as FAT
        else:
            os.unlink(temporary)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError as error:
        raise RefusedError(f"{file} exists", code="backup-exists", hint="name another file") from error
    except OSError as error:
        raise StorageFailedError(f"cannot write {plain(str(file))}: {error.strerror}") from error

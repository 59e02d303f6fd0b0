"""A file that shall be a header backup, looked at for its checks."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regstore.luks.checks.backup import BackupSubject
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.reading_apart import NotReadError, hash_apart, read_apart
from regstore.luks.stack import Kind, stack_below
from regstore.wording import plain

if TYPE_CHECKING:
    from regstore.luks.header import Reading
    from regstore.luks.stack import Stack
    from regstore.luks.sysroot import Sysroot

_MANIFEST_MAX_BYTES = 65536
_LOOK_SECONDS = 2.0
_OTHER_MACHINES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"})


def manifest_path(file: Path) -> Path:
    """Return where the manifest of a backup lies."""
    return file.with_name(f"{file.name}.json")


def look_at_backup(file: Path, stack: Stack, sysroot: Sysroot, header: Path | None = None) -> BackupSubject:
    """Look at a file that shall be a header backup; what could hang is done by a child process.

    Args:
        file: the backup.
        stack: what the volume lies on whose header it is.
        sysroot: where the system's files lie.
        header: the file of a detached header.
    """
    name = plain(str(file))
    try:
        found = _look(file)
    except DeadlineError:
        return BackupSubject(
            name, None, "its file system does not answer", place_problem="nobody can say where it lies"
        )
    except IsolatedError as error:
        return BackupSubject(name, None, plain(str(error)), is_absent=True)
    if not stat.S_ISREG(found.mode):
        return BackupSubject(name, None, "it is no regular file", is_absent=True)
    place = stack_below(sysroot, found.path)
    halted = ", ".join(device.name for device in place.suspended)
    problem, reading, manifest_problem, created_at = f"suspended: {halted}" if halted else "", None, "", ""
    try:
        if not halted:
            reading = read_apart(file, sysroot)
            manifest_problem, created_at = _compare_manifest(file, reading)
    except NotReadError as error:
        problem = plain(str(error))
    below = {device.name for device in place.devices}
    crypt = stack.crypt
    saved = _look_at_saved(stack, header)
    mine = {device.name for device in stack.devices}
    for other in saved:
        mine |= {device.name for device in stack_below(sysroot, other.path).devices}
    return BackupSubject(
        name,
        reading,
        problem,
        open_uuid=crypt.luks_uuid if crypt else "",
        manifest_problem=manifest_problem,
        created_at=created_at,
        mode=stat.S_IMODE(found.mode),
        owner=found.owner,
        is_on_volume=(crypt is not None and crypt.name in below) or any(found.file == other.file for other in saved),
        is_on_disk=any(found.file[0] == other.file[0] for other in saved) or not below.isdisjoint(mine),
        place_problem="" if below or _is_elsewhere(place) else plain("; ".join(place.gaps)),
    )


class _File(NamedTuple):
    """A file without symbolic links, its mode and owner, and what makes it this file: device and inode."""

    path: str
    mode: int
    owner: int
    file: tuple[int, int]


def _look(path: Path) -> _File:
    """Look at a file.

    Raises:
        DeadlineError: its file system does not answer.
        IsolatedError: it is not there.
    """

    def work() -> tuple[str, int, int, int, int]:
        found = path.stat()
        return os.path.realpath(path), found.st_mode, found.st_uid, found.st_dev, found.st_ino

    real, mode, owner, device, inode = call(work, _LOOK_SECONDS)
    return _File(real, mode, owner, (device, inode))


def _look_at_saved(stack: Stack, header: Path | None) -> list[_File]:
    """Look at the files that hold what the backup saves; those that are not there are told by other checks."""
    paths = [Path(stack.target)] if stack.kind is Kind.FILE else []
    found = []
    for path in (*paths, *([header] if header is not None else [])):
        with suppress(DeadlineError, IsolatedError):
            found.append(_look(path))
    return found


def _is_elsewhere(place: Stack) -> bool:
    """Tell whether a file lies on another machine's disks."""
    return place.mount is not None and place.mount.type in _OTHER_MACHINES


def _compare_manifest(file: Path, reading: Reading) -> tuple[str, str]:
    """Return what a manifest says against its file, and when it was made; both empty without one.

    Raises:
        NotReadError: the file cannot be read.
    """
    path = manifest_path(file)
    try:
        with path.open("rb") as stream:
            said = json.loads(stream.read(_MANIFEST_MAX_BYTES))
        digest, uuid, created_at = said["header_sha256"], said["uuid"], said["created_at"]
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"its manifest {path} cannot be understood", ""
    if digest != hash_apart(file):
        return f"it is not what its manifest {path} says: the SHA-256 is another one", plain(str(created_at))
    if reading.metadata and uuid != reading.metadata.uuid:
        return f"its manifest {path} is of another volume", plain(str(created_at))
    return "", plain(str(created_at))

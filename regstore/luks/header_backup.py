"""A file that shall be a header backup, looked at for its checks."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from regstore.luks.checks.backup import BackupSubject
from regstore.luks.reading_apart import NotReadError, hash_apart, read_apart
from regstore.luks.stack import Kind, stack_below
from regstore.wording import plain

if TYPE_CHECKING:
    from pathlib import Path

    from regstore.luks.header import Reading
    from regstore.luks.stack import Stack
    from regstore.luks.sysroot import Sysroot

_MANIFEST_MAX_BYTES = 65536
_OTHER_MACHINES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"})


def manifest_path(file: Path) -> Path:
    """Return where the manifest of a backup lies."""
    return file.with_name(f"{file.name}.json")


def look_at_backup(file: Path, stack: Stack, sysroot: Sysroot) -> BackupSubject:
    """Look at a file that shall be a header backup.

    Args:
        file: the backup.
        stack: what the volume lies on whose header it is.
        sysroot: where the system's files lie.
    """
    name = plain(str(file))
    try:
        found = file.stat()
    except OSError as error:
        return BackupSubject(name, None, os.strerror(error.errno or 0), is_absent=True)
    if not stat.S_ISREG(found.st_mode):
        return BackupSubject(name, None, "it is no regular file", is_absent=True)
    problem, reading, manifest_problem, created_at = "", None, "", ""
    try:
        reading = read_apart(file, sysroot)
        manifest_problem, created_at = _compare_manifest(file, reading)
    except NotReadError as error:
        problem = plain(str(error))
    place = stack_below(sysroot, os.path.realpath(file))
    below = {device.name for device in place.devices}
    crypt = stack.crypt
    on_volume = crypt is not None and crypt.name in below
    mine = {device.name for device in stack.devices}
    is_beside = False
    if stack.kind is Kind.FILE:
        mine |= {device.name for device in stack_below(sysroot, stack.target).devices}
        is_beside = os.stat(stack.target).st_dev == found.st_dev
    return BackupSubject(
        name,
        reading,
        problem,
        manifest_problem=manifest_problem,
        created_at=created_at,
        mode=stat.S_IMODE(found.st_mode),
        owner=found.st_uid,
        is_on_volume=on_volume,
        is_on_disk=is_beside or not below.isdisjoint(mine),
        place_problem="" if below or _is_elsewhere(place) else plain("; ".join(place.gaps)),
    )


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
    except (OSError, ValueError, KeyError, TypeError):
        return f"its manifest {path} cannot be understood", ""
    if digest != hash_apart(file):
        return f"it is not what its manifest {path} says: the SHA-256 is another one", plain(str(created_at))
    if reading.metadata and uuid != reading.metadata.uuid:
        return f"its manifest {path} is of another volume", plain(str(created_at))
    return "", plain(str(created_at))

"""The mount table: what is mounted where, and on which mount a path lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.luks.sysroot import Sysroot

MOUNTS_MAX = 100_000
_NUMBER = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)).

    Attributes:
        id, parent: of this mount and of the one that it is mounted on.
        number: `major:minor` of the file system's device; the major number 0 says that it has none of its own.
        fsroot: which directory of the file system is seen; not `/` for a bind mount.
        target: where.
        options: of this mount and of its file system.
        type: `ext4`, `overlay`...
        source: the device, or whatever the file system takes for one.
    """

    id: int
    parent: int
    number: str
    fsroot: str
    target: str
    options: frozenset[str]
    type: str
    source: str

    @property
    def is_anonymous(self) -> bool:
        """Tell whether its device number stands for no block device."""
        return self.number.startswith("0:")


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts in the order of the text; lines that are none are left out."""
    mounts = (_parse_line(line) for line in text.split("\n", MOUNTS_MAX)[:MOUNTS_MAX])
    return [mount for mount in mounts if mount is not None]


def read_mounts(sysroot: Sysroot) -> list[Mount] | None:
    """Return the mounts of this process, or of a recorded one; None when there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    text = sysroot.text("/proc/self/mountinfo")
    return None if text is None else parse_mountinfo(text)


def find_mount(mounts: Sequence[Mount], path: str) -> Mount | None:
    """Return the mount that an absolute path without symbolic links lies on.

    It is the one with the longest target; of several at one place the last covers the others. A mount over a directory
    above covers what was mounted below it earlier: the later one hangs on a mount that the earlier one is reached by.
    """
    by_id = {mount.id: mount for mount in mounts}
    above = [(place, mount) for place, mount in enumerate(mounts) if lies_below(path, mount.target)]
    for place, mount in sorted(above, key=lambda entry: (len(entry[1].target), entry[0]), reverse=True):
        ways = _ancestors(mount, by_id)
        if not any(
            later > place and len(cover.target) < len(mount.target) and cover.id not in ways and cover.parent in ways
            for later, cover in above
        ):
            return mount
    return None


def lies_below(path: str, directory: str) -> bool:
    """Tell whether an absolute path is a directory or something in it, by components."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def relative(path: str, directory: str) -> str:
    """Return a path that lies below a directory as seen from there; empty for the directory itself."""
    inner = str(PurePosixPath(path).relative_to(directory))
    return "" if inner == "." else inner


def unescape(text: str) -> str:
    """Return a field of mountinfo or fstab with its octal escapes (`\\040` is a space) resolved."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _parse_line(line: str) -> Mount | None:
    head, found, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    if not found or len(fields) < 6 or len(rest) < 2:
        return None
    if not (_is_id(fields[0]) and _is_id(fields[1]) and _NUMBER.fullmatch(fields[2])):
        return None
    if "\x00" in unescape(line):
        return None
    options = {*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
    return Mount(
        id=int(fields[0]),
        parent=int(fields[1]),
        number=fields[2],
        fsroot=unescape(fields[3]),
        target=unescape(fields[4]),
        options=frozenset(options),
        type=rest[0],
        source=unescape(rest[1]),
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _ancestors(mount: Mount, by_id: dict[int, Mount]) -> set[int]:
    """Return the ids of a mount and of all that it hangs on."""
    ids: set[int] = set()
    current: Mount | None = mount
    while current is not None and current.id not in ids:
        ids.add(current.id)
        current = by_id.get(current.parent)
    return ids

"""What a store holds, as its listing shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.backup import layout
from regstore.backup.engine import SnapshotFile
from regstore_drivers.base import Entry
from regstore_drivers.errors import DriverError
from regstore_drivers.filesystem import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.digest import Digest

FOREIGN = ("lost+found/", ".snapshot/")
"""What may lie beside a store in its directory: file systems make it."""


@dataclass(slots=True)
class Listing:
    """What a store holds, as its listing shows it.

    Attributes:
        blobs: digest to bytes of what lies there verbatim.
        packs: the packs.
        snapshots: the snapshots, in the order made.
        strays: keys that are none of a store's.
        leftovers: paths of temporary files of runs that died; only on a file system.
    """

    blobs: dict[Digest, int] = field(default_factory=dict)
    packs: list[Entry] = field(default_factory=list)
    snapshots: list[SnapshotFile] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def take(self, entries: Iterable[Entry]) -> None:
        """Sort entries in."""
        for entry in entries:
            if (digest := layout.parse_blob_key(entry.key)) is not None:
                self.blobs[digest] = entry.size
            elif layout.parse_pack_key(entry.key):
                self.packs.append(entry)
            elif (file := snapshot_file(entry)) is not None:
                self.snapshots.append(file)
            elif entry.key not in (layout.FORMAT, layout.LOCK, layout.CONDEMNED):
                self.strays.append(entry.key)
        self.snapshots.sort()


def snapshot_file(entry: Entry) -> SnapshotFile | None:
    """Return the snapshot that an entry is, or None."""
    name = layout.parse_snapshot_key(entry.key)
    return SnapshotFile(name, entry.size, mark_of(entry)) if name else None


def mark_of(entry: Entry) -> str:
    """Return what changes when an object does."""
    return f"{entry.size} {entry.etag or f'{entry.mtime} {entry.ctime}'}"


def walk_store(root: str, leftovers: list[str]) -> Iterator[Entry]:
    """Yield the files of a store in a directory with sizes and times, unsorted; temporary files apart."""
    pending = [root.rstrip("/")]
    start = len(pending[0]) + 1
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if directory != root.rstrip("/") or f"{entry.name}/" not in FOREIGN:
                            pending.append(entry.path)
                    elif entry.name.endswith(TEMPORARY_SUFFIX):
                        leftovers.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        key = entry.path[start:]
                        yield Entry(key, status.st_size, status.st_mtime, None, None, status.st_ctime)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DriverError(error.strerror or str(error), operation="list", key=directory) from error

"""The walk over a volume that is a directory: every file and directory is looked at, none is opened.

The names are told by their position, as the registry's layout has it; what is not expected at its place is asked of
`layout.parse_key`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.digest import HEX_LENGTHS
from regstore.fsck.catalogue import CheckFinding, finding
from regstore.fsck.owners import Spots, iter_findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.work import Cancel, Progress

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_STRUCTURE = frozenset({"_layers", "_manifests", "_uploads"})
_HEX = re.compile(r"[0-9a-f]+")
_DIGITS = re.compile(r"[0-9]+")
_SHOWN_COUNT = 1000
_DEEPEST = 200
"""No name is that deep: 128 components of a repository's, and a few of the layout's."""
_ABOVE = ("docker", "docker/registry", layout.V2.rstrip("/"))


class Place(NamedTuple):
    """What may lie in a directory of the layout.

    Attributes:
        enter: from a child directory's name to what may lie in it, or None when it does not belong there.
        has: whether a file of that name belongs there.
        is_names: whether its children are components of repository names.
    """

    enter: Callable[[str], Place | None]
    has: Callable[[str], bool]
    is_names: bool = False


def _nothing(_: str) -> Place | None:
    return None


def _no_file(_: str) -> bool:
    return False


_LINK = Place(_nothing, "link".__eq__)
_DATA = Place(_nothing, "data".__eq__)


def _digests(algorithm: str, child: Place, start: str = "") -> Place:
    length = HEX_LENGTHS[algorithm]

    def enter(name: str) -> Place | None:
        return child if len(name) == length and name.startswith(start) and _HEX.fullmatch(name) else None

    return Place(enter, _no_file)


def _algorithms(of: Callable[[str], Place]) -> Place:
    places = {algorithm: of(algorithm) for algorithm in HEX_LENGTHS}
    return Place(places.get, _no_file)


def _shards(algorithm: str) -> Place:
    places = {f"{n:02x}": _digests(algorithm, _DATA, f"{n:02x}") for n in range(256)}
    return Place(places.get, _no_file)


_LINKS = _algorithms(lambda algorithm: _digests(algorithm, _LINK))
_SIGNATURES = Place({"signatures": _LINKS}.get, "link".__eq__)
_REVISIONS = _algorithms(lambda algorithm: _digests(algorithm, _SIGNATURES))
_TAG = Place({"current": _LINK, "index": _LINKS}.get, _no_file)
_TAGS = Place(lambda name: _TAG if layout.is_tag_name(name) else None, _no_file, is_names=True)
_OFFSETS = Place(_nothing, lambda name: _DIGITS.fullmatch(name) is not None)
_HASHES = Place(dict.fromkeys(HEX_LENGTHS, _OFFSETS).get, _no_file)
_UPLOAD = Place({"hashstates": _HASHES}.get, {"startedat", "data"}.__contains__)
_PARTS = {
    "_layers": _LINKS,
    "_manifests": Place({"revisions": _REVISIONS, "tags": _TAGS}.get, _no_file),
    "_uploads": Place(lambda _: _UPLOAD, _no_file),
}


def _enter_name(name: str) -> Place | None:
    return _PARTS.get(name) or (_REPOSITORY if layout.is_name_component(name) else None)


_REPOSITORY = Place(_enter_name, _no_file, is_names=True)
_NAMES = Place(lambda name: _REPOSITORY if layout.is_name_component(name) else None, _no_file, is_names=True)
_V2 = Place({"blobs": _algorithms(_shards), "repositories": _NAMES}.get, _no_file)


def _enter_anything(_: str) -> Place | None:
    return _ANYTHING


_ANYTHING = Place(_enter_anything, lambda _: True)


@dataclass(slots=True)
class TreeResult:
    """What a walk saw.

    Attributes:
        findings: owners, names, strays, errors, empty directories.
        leftovers: key, bytes and newest time (seconds since the epoch) of half-written files.
        file_count, directory_count, total_bytes: of everything below the tree.
    """

    findings: list[CheckFinding] = field(default_factory=list)
    leftovers: list[tuple[str, int, float]] = field(default_factory=list)
    file_count: int = 0
    directory_count: int = 0
    total_bytes: int = 0


def walk_tree(root: str, progress: Progress, cancel: Cancel) -> TreeResult:
    """Look at every file and directory of a volume.

    Args:
        root: the registry's rootdirectory.
        progress: told of each directory.
        cancel: asked at each directory.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    progress.start("files and directories")
    walk = _Walk(root, progress, cancel)
    spots = walk.walk(layout.V2.rstrip("/"), _V2)
    for above in _ABOVE:
        walk.add_directory(above, spots)
    walk.conclude()
    walk.result.findings += iter_findings(spots, layout.V2.rstrip("/"))
    backup = _Walk(root, progress, cancel)
    backup.walk(layout.SOFT_DELETED.partition("/")[0], _ANYTHING)
    progress.finish()
    if count := backup.result.file_count:
        size = backup.result.total_bytes
        where = layout.SOFT_DELETED.partition("/")[0]
        detail = f"{count} files with {size} bytes"
        walk.result.findings.append(finding("soft-deleted", where, detail, count=count, bytes=size))
    return walk.result


class _Walk:
    def __init__(self, root: str, progress: Progress, cancel: Cancel) -> None:
        self._root = root.rstrip("/")
        self._real_root = os.path.realpath(root)
        self._progress = progress
        self._cancel = cancel
        self.result = TreeResult()
        self._strays: list[str] = []
        self._stray_count = 0
        self._error_count = 0
        self._empty_count = 0
        self._parts_count = 0
        self._linked: set[tuple[int, int]] = set()

    def walk(self, key: str, place: Place, depth: int = 0) -> Spots:
        """Walk one directory; return where the files and directories below it are, by owner."""
        self._cancel.check()
        spots = Spots()
        try:
            with os.scandir(f"{self._root}/{key}") as listing:
                entries = list(listing)
        except OSError as error:
            self._note_error(error, key)
            return spots
        self.result.directory_count += 1
        self._empty_count += not entries
        for entry in entries:
            path = f"{key}/{entry.name}"
            try:
                is_link = entry.is_symlink()
                status = entry.stat()
                is_directory = stat.S_ISDIR(status.st_mode)
            except OSError as error:
                self._note_error(error, path)
                continue
            if is_link and is_directory and not self._leads_on(path, entry.name, place, status):
                continue
            if is_directory:
                below = self._walk_child(path, entry.name, place, depth)
                below.add(path, status)
                below.collapse(path)
                spots.merge(below)
            else:
                self._take_file(path, entry.name, place, status)
                spots.add(path, status)
        self._progress.advance(len(entries))
        return spots

    def add_directory(self, key: str, spots: Spots) -> None:
        """Note a directory above the tree, without which nobody gets at it."""
        try:
            spots.add(key, os.stat(f"{self._root}/{key}"))
        except OSError as error:
            self._note_error(error, key)

    def _leads_on(self, path: str, name: str, place: Place, status: os.stat_result) -> bool:
        """Follow a symbolic link where the registry does, but not twice to the same directory, nor to one that is
        walked anyhow."""
        if place.enter(name) is None:
            self._note_stray(path)
            return False
        identity = status.st_dev, status.st_ino
        is_inside = os.path.realpath(f"{self._root}/{path}").startswith(f"{self._real_root}/")
        is_new = identity not in self._linked and not is_inside
        self._linked.add(identity)
        return is_new

    def _walk_child(self, path: str, name: str, place: Place, depth: int) -> Spots:
        child = place.enter(name)
        if depth >= _DEEPEST:
            self._note_stray(path)
            return Spots()
        if child is None:
            if place.is_names and self._has_structure(path, place):
                self._note_illegal(path)
            else:
                self._note_stray(path)
            return self.walk(path, _ANYTHING, depth + 1)
        before, parts = self._stray_count, self._parts_count
        if name in _PARTS:
            self._parts_count += 1
            if len(path) - len(f"{layout.REPOSITORIES}/{name}") > layout.MAX_NAME_LENGTH:
                self._note_illegal(path.rpartition("/")[0])
        spots = self.walk(path, child, depth + 1)
        if child is _REPOSITORY and self._parts_count == parts and self._stray_count > before:
            # No repository is below: it is strange as a whole.
            del self._strays[before:]
            self._stray_count = before
            self._note_stray(path)
        return spots

    def _has_structure(self, path: str, place: Place) -> bool:
        """Tell whether a directory of an illegal name holds what a repository, or a tag, holds."""
        if place is _TAGS:
            return os.path.isdir(f"{self._root}/{path}/current") or os.path.isdir(f"{self._root}/{path}/index")
        return any(_STRUCTURE.intersection(names) for _, names, _ in os.walk(f"{self._root}/{path}"))

    def _note_illegal(self, path: str) -> None:
        self.result.findings.append(
            finding("name-illegal", path, "no registry accepts that name, and there are images below it")
        )

    def _take_file(self, path: str, name: str, place: Place, status: os.stat_result) -> None:
        self.result.file_count += 1
        self.result.total_bytes += status.st_size
        if place.has(name) and stat.S_ISREG(status.st_mode):
            return
        is_temporary = name.startswith(".nfs") or name.endswith(".regstore-tmp")
        if is_temporary or isinstance(layout.parse_key(path), layout.Leftover):
            self.result.leftovers.append((path, status.st_size, max(status.st_mtime, status.st_ctime)))
        else:
            self._note_stray(path)

    def _note_stray(self, path: str) -> None:
        self._stray_count += 1
        if len(self._strays) < _SHOWN_COUNT:
            self._strays.append(path)

    def _note_error(self, error: OSError, key: str) -> None:
        if error.errno in _ABSENT:
            return
        self._error_count += 1
        if self._error_count <= _SHOWN_COUNT:
            path = f"{self._root}/{key}"
            self.result.findings.append(finding("storage-error", path, error.strerror or str(error)))

    def conclude(self) -> None:
        """Make the findings that were only counted."""
        findings, where = self.result.findings, layout.V2.rstrip("/")
        findings += [finding("stray", path, "is not of the registry's layout") for path in self._strays]
        if more := self._stray_count - len(self._strays):
            findings.append(finding("stray", where, f"{more} more keys that are not of the registry's layout"))
        if (more := self._error_count - _SHOWN_COUNT) > 0:
            findings.append(finding("storage-error", f"{self._root}/{where}", f"{more} more that cannot be read"))
        if self._empty_count:
            count = self._empty_count
            findings.append(finding("directory-empty", where, f"{count} empty directories", count=count))

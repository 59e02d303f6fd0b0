"""What of a snapshot is restored: everything, or repositories, tags and manifests with exactly what they need.

Pure but for the manifests, which are read from the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import UsageError
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.reach import find_lacks
from regstore.state import State
from regstore.transfer import iter_data, reduce_contents

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from regstore.backup.engine import SnapshotData
    from regstore.backup.snapshot import Snapshot
    from regstore.transfer import Contents
    from regstore.work import Cancel, Progress


_OF_LINKS = ("revision-missing", "child-missing", "layer-link-missing")
"""Lacks that a pull-through cache has, and that say nothing of the store."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for. Nothing asked for is everything.

    Attributes:
        repositories: globs; `*` crosses slashes.
        tags: globs of tag names; only these tags, with what they need.
        digests: manifests (`sha256:<hex>`), with what they need and no tag.
        images: repository to names of tags: exactly these, with what they need.
    """

    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    images: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether only some manifests of a repository are wanted."""
        return bool(self.tags or self.digests or self.images)

    @property
    def text(self) -> str:
        """What tells one selection from another."""
        images = sorted((name, sorted(tags)) for name, tags in self.images.items())
        return repr((sorted(self.repositories), sorted(self.tags), sorted(self.digests), images))

    def has_repository(self, name: str) -> bool:
        """Tell whether a repository is asked for."""
        if self.images and name not in self.images:
            return False
        return not self.repositories or any(fnmatchcase(name, glob) for glob in self.repositories)

    def has_tag(self, repository: str, tag: str) -> bool:
        """Tell whether a tag is asked for by name."""
        return tag in self.images.get(repository, ()) or any(fnmatchcase(tag, glob) for glob in self.tags)


@dataclass(slots=True)
class Chosen:
    """What is restored.

    Attributes:
        contents: the links of each repository.
        blobs: digest to bytes of the data.
        lost: image (`repository:tag`) to why it is left out.
    """

    contents: dict[str, Contents] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


class Chooser:
    """Chooses from one snapshot.

    Args:
        snapshot: what there is.
        data: where its manifests are read.
        progress, cancel: told and asked, a repository at a time.
    """

    def __init__(self, snapshot: Snapshot, data: SnapshotData, progress: Progress, cancel: Cancel) -> None:
        self._snapshot = snapshot
        self._progress = progress
        self._cancel = cancel
        self._manifests = TolerantReader(data, State(None))

    def choose(self, selection: Selection) -> Chosen:
        """Say what a selection brings.

        Raises:
            UsageError: nothing is so named, or a digest cannot be understood.
            SnapshotDamagedError: the snapshot cannot be understood.
            DriverError, StorageFailedError: the store cannot be read.
        """
        wanted = {_parse(text) for text in selection.digests}
        stored = self._snapshot.blobs()
        chosen = Chosen()
        names = [name for name in self._snapshot.repositories if selection.has_repository(name)]
        self._progress.start("choosing", len(names))
        for name in names:
            self._cancel.check()
            self._progress.advance()
            contents = self._snapshot.contents(name)
            self._leave_broken_out(contents, selection, chosen)
            if selection.is_partial:
                contents = self._reduce(contents, selection, wanted)
                self._leave_unknown_out(contents, chosen, stored)
            if contents.revisions or contents.layers or contents.tags:
                chosen.contents[name] = contents
        self._progress.finish()
        if selection.text == Selection().text:
            chosen.blobs = stored
        else:
            named = {digest for contents in chosen.contents.values() for digest in iter_data(contents)}
            chosen.blobs = {digest: stored[digest] for digest in named if digest in stored}
        if not chosen.contents and not chosen.lost and selection.text != Selection().text:
            raise UsageError(
                f"the snapshot {self._snapshot.head.id} has nothing of that name",
                hint="regstore backup show lists its repositories, tags and digests",
                code="nothing-chosen",
            )
        return chosen

    def leave_out(self, chosen: Chosen, gone: Container[Digest]) -> dict[Digest, set[str]]:
        """Leave out the images that need data which the store has lost, and links to those data; return which images
        each of them hurts."""
        hurt: dict[Digest, set[str]] = {}
        for name, contents in chosen.contents.items():
            self._cancel.check()
            if not any(digest in gone for digest in iter_data(contents)):
                continue
            repository = contents.to_repository()
            self._manifests.load(name, repository.revisions)
            lacks = find_lacks(repository, self._manifests, lambda digest: digest not in gone)
            for tag, of_tag in lacks.items():
                for lack in of_tag:
                    hurt.setdefault(lack.digest, set()).add(f"{name}:{tag}")
                self._lose(chosen, contents, tag, min(lack.digest for lack in of_tag))
            contents.revisions = [digest for digest in contents.revisions if digest not in gone]
            contents.layers = {path: held for path, held in contents.layers.items() if held not in gone}
        return hurt

    def _lose(self, chosen: Chosen, contents: Contents, tag: str, digest: Digest) -> None:
        chosen.lost[f"{contents.name}:{tag}"] = f"{format_digest(digest)}: the store has lost it"
        _drop_tag(contents, tag)

    def _reduce(self, contents: Contents, selection: Selection, wanted: set[Digest]) -> Contents:
        tags = {tag for tag in contents.tags if selection.has_tag(contents.name, tag)}
        return reduce_contents(contents, self._manifests, tags, wanted.intersection(contents.revisions))

    def _leave_unknown_out(self, contents: Contents, chosen: Chosen, stored: Container[Digest]) -> None:
        """Leave out tags of which a manifest cannot be read that the store should have: what they need is not known."""
        repository = contents.to_repository()
        for tag, lacks in find_lacks(repository, self._manifests, lambda _: True).items():
            unread = [lack.digest for lack in lacks if lack.kind not in _OF_LINKS and lack.digest in stored]
            if unread:
                self._lose(chosen, contents, tag, min(unread))

    def _leave_broken_out(self, contents: Contents, selection: Selection, chosen: Chosen) -> None:
        """Leave out tags that were not whole when the snapshot was made."""
        prefix = f"{contents.name}:"
        for image in self._snapshot.head.broken:
            tag = image.removeprefix(prefix)
            if image == prefix + tag and (selection.has_tag(contents.name, tag) or not selection.is_partial):
                chosen.lost[image] = "it was not whole at the source when the snapshot was made"
                _drop_tag(contents, tag)


def _drop_tag(contents: Contents, tag: str) -> None:
    contents.tags.pop(tag, None)
    contents.indexes.pop(tag, None)


def _parse(text: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise UsageError(str(error), hint="write a digest as sha256: and 64 hexadecimal digits") from error

"""What a registry holds at one time: links and tags first, then the blobs, and what is not whole."""

from __future__ import annotations

import os
import stat as stat_module
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import RefusedError
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.mark import Policy
from regstore.inventory.reach import find_lacks, hurt_tags
from regstore.inventory.survey import Survey
from regstore.registry.scan import parse_link
from regstore.transfer.catalogue import SOURCE_CATALOGUE, ImageFinding, source_finding
from regstore.transfer.contents import Contents, Tag, encode_contents, parse_contents
from regstore.work import map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regstore.inventory.mark import Marks
    from regstore.registry import Registry
    from regstore.registry.scan import Repository, Volume
    from regstore.state import State
    from regstore.work import Cancel, Progress
    from regstore_drivers.errors import DriverError

_SHOWN_COUNT = 3


@dataclass(slots=True)
class Counts:
    """What was seen."""

    repository_count: int = 0
    tag_count: int = 0
    revision_count: int = 0
    layer_link_count: int = 0
    upload_count: int = 0


@dataclass(slots=True)
class _Seen:
    """One repository: its lines, and the digests that it reaches, 32 bytes each; those of other algorithms apart."""

    lines: bytes
    live: bytes
    others: frozenset[Digest]
    is_troubled: bool


class Source:
    """A registry, read once.

    Args:
        registry: where.
        state: what is remembered of it, for backups only: their scans are exact where others need not be.
        jobs: requests at once on an object store.
        progress, cancel: told and asked.
        is_wanted: which repositories are read, by name.
        is_thorough: whether the links of layers are looked into too.

    Attributes:
        counts: what was seen.
        uploading: the repositories in which uploads are open.
        leftovers: keys of half-written files.
        manifests: what was read of its manifests.
        is_cache: whether it is a pull-through cache, in which what an image names may be absent.
        findings: what is not as it should be, without what the blobs have to tell.
        taken_at: when the tags had been read, seconds since the epoch.
        blobs: the digests whose data are there.
    """

    def __init__(
        self,
        registry: Registry,
        state: State,
        *,
        jobs: int,
        progress: Progress,
        cancel: Cancel,
        is_wanted: Callable[[str], bool] = lambda _: True,
        is_thorough: bool = False,
    ) -> None:
        self._registry = registry
        self._state = state
        self._jobs = jobs
        self._progress = progress
        self._cancel = cancel
        self._is_wanted = is_wanted
        self.volume: Volume = registry.open_volume(
            jobs, is_copying=True, is_thorough=is_thorough, on_error=self._note_error
        )
        self.manifests = TolerantReader(self.volume, state)
        self.is_cache = registry.has(layout.SCHEDULER_STATE)
        self._signatures: dict[str, dict[Digest, list[Digest]]] = {}
        self._seen: dict[str, _Seen] = {}
        self._errors: dict[str, ImageFinding] = {}
        self._troubles: list[tuple[str, str, str, str]] = []
        self._left_out: list[str] = []
        self.counts = Counts()
        self.uploading: list[str] = []
        self.leftovers: list[str] = []
        self.taken_at = 0.0
        self.blobs: set[Digest] = set()

    def take(self) -> None:
        """Read tags and links, then list the blobs.

        Raises:
            DriverError, StorageFailedError: the volume as a whole cannot be read.
            InterruptedRunError: somebody asked to stop.
        """
        survey = Survey(
            self.volume, self._state, self._policy_of, self.manifests, self._cancel, {}, self._note_repository
        )
        if next(iter(self._registry.driver.list_dir(layout.REPOSITORIES)), None) is not None:
            for repository, marks in survey.iter_repositories(self._progress):
                self._take_repository(repository, marks)
        self.taken_at = round(time.time(), 6)  # as exactly as a snapshot tells it
        self._left_out += self.volume.strays
        self._progress.start("listing blobs")
        blobs = self.volume.list_blobs(self._progress.advance)
        self._progress.finish()
        self.volume.check_unchanged()
        for shard in blobs.iter_shards():
            self.blobs |= shard
        self._left_out += blobs.strays
        self.leftovers += [key for key, _, _ in blobs.leftovers]

    @property
    def location(self) -> str:
        """The registry's location, without credentials."""
        return self._registry.location

    def check_not_empty(self) -> None:
        """Refuse a registry without any repository, of which nothing could not be read.

        Raises:
            RefusedError: it is such a one.
        """
        if not self.counts.repository_count and not self._errors:
            raise RefusedError(
                f"there is no repository in {self.location}",
                hint="is its disk mounted? an empty registry is not copied",
                code="source-empty",
            )

    @property
    def names(self) -> list[str]:
        """The names of the repositories that were read, sorted."""
        return sorted(self._seen)

    @property
    def has_errors(self) -> bool:
        """Whether something could not be read, so that what was seen may not be all there is."""
        return bool(self._errors)

    def contents(self, name: str) -> Contents:
        """Return the links of a repository."""
        return parse_contents(name, self._seen[name].lines)

    def live(self, name: str) -> set[Digest]:
        """Return the digests that the images of a repository need."""
        return set(_digests(self._seen[name]))

    def is_troubled(self, name: str) -> bool:
        """Tell whether something in a repository cannot be believed, or is missing."""
        return self._seen[name].is_troubled

    def needed(self) -> set[Digest]:
        """Return the digests that images need."""
        return {digest for seen in self._seen.values() for digest in _digests(seen)}

    @property
    def lines(self) -> dict[str, bytes]:
        """The lines of each repository, for a snapshot."""
        return {name: seen.lines for name, seen in self._seen.items()}

    def iter_tags(self) -> Iterator[tuple[str, dict[str, Tag]]]:
        """Yield each repository's name and tags as they were read."""
        for name, seen in self._seen.items():
            yield name, parse_contents(name, seen.lines).tags

    def find_damage(self, has_data: Callable[[Digest], bool], failures: dict[Digest, tuple[str, str]]) -> Damage:
        """Say which images are not whole, and why.

        Args:
            has_data: tells whether the data of a digest are in the store, or going to be.
            failures: kind (`missing`, `corrupt`, `unreadable`) and detail of data that could not be stored.
        """
        damage = Damage()
        reasons: dict[tuple[str, str], tuple[str, set[str]]] = {}
        for name, seen in self._seen.items():
            if seen.is_troubled or not all(map(has_data, _digests(seen))):
                self._examine(name, seen, has_data, failures, damage, reasons)
        for digest, (kind, detail) in failures.items():
            key = (f"blob-{kind}", format_digest(digest))
            if key not in reasons and kind == "missing":
                damage.findings.append(source_finding("blob-vanished", key[1], detail))
            elif key not in reasons and not any(subject == key[1] for _, subject in reasons):
                reasons[key] = (detail, set())
        for (kind, subject), (detail, images) in reasons.items():
            damage.findings.append(source_finding(kind, subject, detail, tuple(sorted(images))))
            damage.broken |= images
        damage.findings += [*self._errors.values(), *self._notes()]
        return damage

    def _examine(
        self,
        name: str,
        seen: _Seen,
        has_data: Callable[[Digest], bool],
        failures: dict[Digest, tuple[str, str]],
        damage: Damage,
        reasons: dict[tuple[str, str], tuple[str, set[str]]],
    ) -> None:
        """Look at one repository in which something is not whole."""
        repository = parse_contents(name, seen.lines).to_repository()
        self.manifests.load(name, repository.revisions.union(repository.tags.values()))
        lacks = find_lacks(repository, self.manifests, has_data, sparse_is_normal=self.is_cache)
        for tag, of_tag in lacks.items():
            damage.broken.add(f"{name}:{tag}")
            for lack in of_tag:
                kind, detail = lack.kind, "it is not there"
                if lack.kind in ("blob-missing", "manifest-missing") and lack.digest in failures:
                    kind, detail = _kind_of(lack.kind, failures[lack.digest][0]), failures[lack.digest][1]
                is_data = kind.startswith(("blob-", "manifest-"))
                subject = format_digest(lack.digest) if is_data else f"{name}@{format_digest(lack.digest)}"
                reasons.setdefault((kind, subject), (detail, set()))[1].add(f"{name}:{tag}")
        for owner, kind, subject, detail in self._troubles:
            if owner == name:
                where, hurt = self._of_trouble(repository, kind, subject)
                known = reasons.setdefault((kind, where), (detail, set()))
                reasons[kind, where] = (detail, known[1] | hurt)

    def _of_trouble(self, repository: Repository, kind: str, subject: str) -> tuple[str, set[str]]:
        """Return what a trouble is about, in the words of findings, and the images that it hurts at the source."""
        name = repository.name
        bad: set[Digest] = set()
        match layout.parse_key(subject):
            case layout.TagLink(tag=tag):
                return f"{name}:{tag}", {f"{name}:{tag}"}
            case layout.TagIndexLink(tag=tag):
                return f"{name}:{tag}", set()
            case layout.LayerLink(digest=digest) | layout.RevisionLink(digest=digest):
                bad, subject = {digest}, f"{name}@{format_digest(digest)}"
            case _ if "@" in subject:
                digest = parse_digest(subject.partition("@")[2])
                bad = {digest}
                if kind.startswith("manifest-"):
                    subject = format_digest(digest)
            case _:
                return subject, {subject}
        if kind == "manifest-unknown":
            return subject, set()
        return subject, {f"{name}:{tag}" for tag in hurt_tags(repository, self.manifests, bad)}

    def reread_tags(self) -> list[ImageFinding]:
        """Say which tags were moved or deleted since they were read."""
        found: list[ImageFinding] = []
        tags = ((name, tag, meant.digest) for name, tags in self.iter_tags() for tag, meant in tags.items())
        self._progress.start("reading tags again", self.counts.tag_count)
        for change in map_bounded(lambda one: self._reread_tag(*one), tags, self._jobs):
            self._progress.advance()
            if change is not None:
                found.append(change)
        self._progress.finish()
        return found

    def _reread_tag(self, name: str, tag: str, meant: Digest) -> ImageFinding | None:
        self._cancel.check()
        was = f"{format_digest(meant)}, which was copied"
        try:
            now = parse_link(self._registry.driver.read(layout.TagLink(name, tag).key))
        except NotFound:
            return source_finding("tag-deleted", f"{name}:{tag}", f"it meant {was}")
        if now is None or now == meant:
            return None
        return source_finding("tag-moved", f"{name}:{tag}", f"from {was}, to {format_digest(now)}")

    def attributes(self) -> dict[str, int]:
        """Return owner and modes of the registry's tree, on a file system."""
        driver = self._registry.driver
        if not isinstance(driver, HasLocalPath):
            return {}
        directory = os.stat(driver.local_path(layout.REPOSITORIES))
        found = {
            "uid": directory.st_uid,
            "gid": directory.st_gid,
            "directory_mode": stat_module.S_IMODE(directory.st_mode),
        }
        for name in self._seen:
            for tag in parse_contents(name, self._seen[name].lines).tags:
                with suppress(OSError):  # a tag may be deleted at any moment; another one tells
                    mode = os.stat(driver.local_path(layout.TagLink(name, tag).key)).st_mode
                    return {**found, "file_mode": stat_module.S_IMODE(mode)}
        return {**found, "file_mode": found["directory_mode"] & 0o666}

    def _take_repository(self, repository: Repository, marks: Marks) -> None:
        name = repository.name
        if not self._is_wanted(name):
            return
        contents = Contents(
            name,
            layers={digest: repository.aliases.get(digest, digest) for digest in sorted(repository.layers)},
            revisions=sorted(repository.revisions),
            signatures=self._signatures.pop(name, {}),
            tags={
                tag: Tag(digest, repository.pushed_ns.get(tag, 0)) for tag, digest in sorted(repository.tags.items())
            },
            indexes={tag: sorted(index) for tag, index in sorted(repository.tag_indexes.items())},
        )
        absent = marks.foreign | marks.absent
        live = [digest for digest in marks.live if digest not in absent]
        self._seen[name] = _Seen(
            encode_contents(contents),
            b"".join([digest for digest in live if len(digest) == 32]),
            frozenset(digest for digest in live if len(digest) != 32),
            bool(marks.troubles),
        )
        self._troubles += [(name, *trouble) for trouble in marks.troubles]
        self._left_out += repository.strays
        self.leftovers += [key for key, _, _ in repository.leftovers]
        self.counts.repository_count += 1
        self.counts.tag_count += len(contents.tags)
        self.counts.revision_count += len(contents.revisions)
        self.counts.layer_link_count += len(contents.layers)
        self.counts.upload_count += len(repository.uploads)
        if repository.uploads:
            self.uploading.append(name)

    def _policy_of(self, repository: Repository) -> Policy:
        name = repository.name

        def signatures_of(revision: Digest) -> list[Digest]:
            found = self.volume.read_signatures(name, revision)
            if found:
                self._signatures.setdefault(name, {})[revision] = found
            return found

        return Policy(signatures_of=signatures_of, sparse_is_normal=self.is_cache)

    def _note_error(self, error: DriverError) -> None:
        self._errors[error.key] = source_finding("storage-error", error.key, str(error))

    def _note_repository(self, name: str, error: DriverError) -> None:
        if self._is_wanted(name):
            self._errors[name] = source_finding("storage-error", name, f"the repository cannot be read: {error}")

    def _notes(self) -> Iterable[ImageFinding]:
        """Say what is left behind on purpose."""
        left_out = self._left_out + self.leftovers
        if left_out:
            shown = ", ".join(sorted(left_out)[:_SHOWN_COUNT])
            detail = f"{len(left_out)} keys that are no part of an image, such as {shown}"
            yield source_finding("left-out", layout.V2.rstrip("/"), detail)
        if self.counts.upload_count:
            yield source_finding("upload-open", layout.V2.rstrip("/"), f"{self.counts.upload_count} uploads")


@dataclass(slots=True)
class Damage:
    """What is not whole: the findings, and the images (`repository:tag`) that cannot be restored."""

    findings: list[ImageFinding] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


def _kind_of(lack: str, failure: str) -> str:
    """Return the finding of data that could not be stored: that of manifests where there is one."""
    of_manifest = f"{lack.partition('-')[0]}-{failure}"
    return of_manifest if of_manifest in SOURCE_CATALOGUE else f"blob-{failure}"


def _digests(seen: _Seen) -> Iterator[Digest]:
    live = seen.live
    yield from cast("list[Digest]", [live[i : i + 32] for i in range(0, len(live), 32)])
    yield from seen.others

"""`migrate verify`: what is at both ends, item by item, read anew on both sides.

The four sets {tag to digest}, {manifest link}, {layer link} and {data, with their size} are compared both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.digest import Digest, format_digest
from regstore.hashing import is_whole
from regstore.inventory.reach import hurt_tags
from regstore.migrate.catalogue import finding
from regstore.migrate.difference import choose
from regstore.migrate.target import TargetReader
from regstore.registry.ends import check_apart
from regstore.state import State
from regstore.transfer import Source
from regstore.wording import human_bytes
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regstore.migrate.difference import Wanted
    from regstore.migrate.options import Selection
    from regstore.registry import Registry
    from regstore.registry.scan import Repository
    from regstore.transfer import ImageFinding
    from regstore.work import Progress

SAME, TARGET_ONLY, SOURCE_ONLY, DIFFERENT, BAD = "=", "-", "+", "*", "!"
"""The marks of items, as in `rclone check --combined`: at both ends alike, at the target only, at the source only, at
both but not alike, and not whole or not to be read."""

KINDS = ("tag", "manifest", "layer", "blob")
_OBJECT_JOBS = 16


class Compared(NamedTuple):
    """One item: its mark, its kind (`tag`, `manifest`, `layer` or `blob`), and its name."""

    mark: str
    kind: str
    name: str


@dataclass(slots=True)
class Verification:
    """What a comparison found.

    Attributes:
        counts: kind to mark to how many items.
        hashed_count, hashed_bytes: data that were read at the target.
        findings: what is not as it should be.
    """

    counts: dict[str, dict[str, int]] = field(
        default_factory=lambda: {
            kind: dict.fromkeys((SAME, TARGET_ONLY, SOURCE_ONLY, DIFFERENT, BAD), 0) for kind in KINDS
        }
    )
    hashed_count: int = 0
    hashed_bytes: int = 0
    findings: list[ImageFinding] = field(default_factory=list)


class Verifier:
    """One comparison of a registry with its copy; `result` is whole when `iter_items` has ended.

    Args:
        source, target: the two ends, which are only read.
        selection: what is compared.
        jobs: reads at once; None: as many as suit the storage.
        reads_back: whether all data are read at the target and hashed.
        progress, cancel: told and asked.
    """

    def __init__(
        self,
        source: Registry,
        target: Registry,
        selection: Selection,
        *,
        jobs: int | None = None,
        reads_back: bool = False,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._jobs = jobs or _OBJECT_JOBS
        self._reads_back = reads_back
        self._progress = progress or NoProgress()
        self._cancel = cancel or Cancel()
        self._linked_there: set[Digest] = set()
        self._wanted: dict[str, set[Digest]] = {}
        self.result = Verification()

    def iter_items(self) -> Iterator[Compared]:
        """Compare, and yield every item with its mark.

        Raises:
            RefusedError: the two ends are not apart, or the source is empty.
            DriverError: one of them cannot be read.
            InterruptedRunError: stopped on request.
        """
        for item in self._iter_items():
            self.result.counts[item.kind][item.mark] += 1
            yield item

    def _iter_items(self) -> Iterator[Compared]:
        check_apart(self._source.driver, self._target.driver, "the source and the target")
        source = self._read_source()
        self._progress.start("reading the target")
        there = TargetReader(self._target, self._jobs, None, self._progress.advance)
        self._progress.finish()
        damage = source.find_damage(lambda digest: digest in source.blobs or digest in there.blobs, {})
        wanted_images: set[str] = set()
        names = set(source.names)
        if not source.has_errors:  # else what is not seen may be there all the same
            names.update(filter(self._selection.has_repository, there.names))
        self._progress.start("comparing repositories", len(names))
        for name in sorted(names):
            self._cancel.check()
            self._progress.advance()
            found = there.repository(name)
            self._linked_there |= {found.aliases.get(digest, digest) for digest in found.layers} | found.revisions
            self._note_damage(found)
            if name in source.names:
                wanted = choose(source, name, self._selection)
                self._wanted[name] = wanted.data
                wanted_images.update(f"{name}:{tag}" for tag in wanted.contents.tags)
                yield from self._compare(source, there, wanted, found, damage.broken)
            yield from self._extras(source, name, found)
        self._progress.finish()
        yield from self._compare_data(source, there)
        self.result.findings += [
            found
            for found in damage.findings
            if not (self._selection.is_by_tag and found.images) or not wanted_images.isdisjoint(found.images)
        ]

    def _read_source(self) -> Source:
        jobs = 1 if isinstance(self._source.driver, HasLocalPath) else self._jobs
        source = Source(
            self._source,
            State(None),
            jobs=jobs,
            progress=self._progress,
            cancel=self._cancel,
            is_wanted=self._selection.has_repository,
            is_thorough=True,
        )
        source.take()
        source.check_not_empty()
        return source

    def _note(self, kind: str, subject: str, detail: str, images: tuple[str, ...] = ()) -> None:
        self.result.findings.append(finding(kind, subject, detail, images))

    def _note_damage(self, found: Repository) -> None:
        for damage in found.damage:
            spec = layout.parse_key(damage.key)
            image = (f"{found.name}:{spec.tag}",) if isinstance(spec, layout.TagLink | layout.TagIndexLink) else ()
            self._note("target-link-damaged", image[0] if image else damage.key, damage.detail, image)

    def _compare(
        self, source: Source, there: TargetReader, wanted: Wanted, found: Repository, broken: set[str]
    ) -> Iterator[Compared]:
        """Compare what is wanted of one repository with what the target has."""
        contents = wanted.contents
        name = contents.name
        for tag, meant in contents.tags.items():
            image = f"{name}:{tag}"
            at_target = found.tags.get(tag)
            if at_target == meant.digest:
                yield Compared(SAME, "tag", image)
            elif image in broken:
                yield Compared(BAD, "tag", image)  # the damage of the source is a finding
            elif at_target is None:
                self._note("tag-missing", image, f"at the source it means {format_digest(meant.digest)}", (image,))
                yield Compared(SOURCE_ONLY, "tag", image)
            else:
                detail = f"{format_digest(at_target)} instead of {format_digest(meant.digest)}"
                self._note("tag-differs", image, detail, (image,))
                yield Compared(DIFFERENT, "tag", image)
        for digest in contents.revisions:
            subject = f"{name}@{format_digest(digest)}"
            is_lost = digest not in source.blobs and digest not in there.blobs
            yield self._compare_link("manifest", subject, is_there=digest in found.revisions, is_lost=is_lost)
        for path, held in contents.layers.items():
            subject = f"{name}@{format_digest(path)}"
            is_lost = held not in source.blobs and held not in there.blobs
            if path in found.layers and found.aliases.get(path, path) != held:
                self._note("layer-link-differs", subject, f"it does not hold {format_digest(held)}")
                yield Compared(DIFFERENT, "layer", subject)
            else:
                yield self._compare_link("layer", subject, is_there=path in found.layers, is_lost=is_lost)

    def _compare_link(self, kind: str, subject: str, *, is_there: bool, is_lost: bool) -> Compared:
        if is_there:
            return Compared(SAME, kind, subject)
        if is_lost:
            return Compared(BAD, kind, subject)  # it leads nowhere at the source
        self._note("revision-absent" if kind == "manifest" else "layer-link-absent", subject, "the source has it")
        return Compared(SOURCE_ONLY, kind, subject)

    def _extras(self, source: Source, name: str, found: Repository) -> Iterator[Compared]:
        """Tell what only the target links."""
        full = source.contents(name) if name in source.names else None
        for tag, digest in found.tags.items():
            if (full and (tag in full.tags or tag in full.indexes)) or not self._selection.has_tag_name(tag):
                continue
            image = f"{name}:{tag}"
            self._note("tag-extra", image, f"it means {format_digest(digest)}", (image,))
            yield Compared(TARGET_ONLY, "tag", image)
        if self._selection.is_by_tag:
            return
        for kind, word, links, known in (
            ("manifest", "revision-extra", found.revisions, full.revisions if full else ()),
            ("layer", "layer-link-extra", found.layers, full.layers if full else ()),
        ):
            for digest in sorted(links.difference(known)):
                subject = f"{name}@{format_digest(digest)}"
                self._note(word, subject, "the source has no such link")
                yield Compared(TARGET_ONLY, kind, subject)

    def _compare_data(self, source: Source, there: TargetReader) -> Iterator[Compared]:
        """Compare data by their sizes, and hash those at the target if that was asked for."""
        needed: set[Digest] = set().union(*self._wanted.values())
        if self._selection.takes_all and self._selection.is_whole:
            needed |= source.blobs
        here = {info.digest: info.size for info in source.volume.iter_blob_sizes(sorted(needed & source.blobs))}
        at_target = there.sizes(needed & there.blobs)
        rotten = self._hash(sorted(at_target), at_target) if self._reads_back else set()
        absent = {digest for digest in here if digest not in at_target}
        unlike = {digest for digest, size in at_target.items() if here.get(digest, size) != size}
        hurt = self._images_of(source, absent | unlike | rotten)
        for digest in sorted(needed):
            subject = format_digest(digest)
            images = tuple(sorted(hurt.get(digest, ())))
            if digest in rotten:
                self._note("target-blob-corrupt", subject, "it was read and hashed", images)
                yield Compared(BAD, "blob", subject)
            elif digest in unlike:
                detail = f"{at_target[digest]} bytes instead of {here[digest]}"
                self._note("target-blob-size", subject, detail, images)
                yield Compared(DIFFERENT, "blob", subject)
            elif digest in absent:
                self._note("target-blob-missing", subject, f"{here[digest]} bytes", images)
                yield Compared(SOURCE_ONLY, "blob", subject)
            elif digest in here:
                yield Compared(SAME, "blob", subject)
            else:
                yield Compared(TARGET_ONLY if digest in at_target else BAD, "blob", subject)
        if self._selection.is_whole:
            yield from self._extra_data(source, there, needed)

    def _extra_data(self, source: Source, there: TargetReader, needed: set[Digest]) -> Iterator[Compared]:
        extra = there.blobs - source.blobs - needed
        unlinked = extra - self._linked_there
        for digest in sorted(extra):
            yield Compared(TARGET_ONLY, "blob", format_digest(digest))
        if unlinked:
            total = sum(there.sizes(unlinked).values())
            detail = f"{len(unlinked)} blobs with {human_bytes(total)}, such as {format_digest(min(unlinked))}"
            self._note("target-blob-extra", self._target.location, detail)

    def _hash(self, digests: list[Digest], sizes: Mapping[Digest, int]) -> set[Digest]:
        """Read data at the target, and return which are not what their name says."""
        rotten: set[Digest] = set()
        self._progress.start("hashing at the target", sum(sizes.values()), "B")
        for digest, whole in zip(digests, map_bounded(self._is_whole, digests, self._jobs), strict=True):
            self._progress.advance(sizes[digest])
            self.result.hashed_count += 1
            self.result.hashed_bytes += sizes[digest]
            if not whole:
                rotten.add(digest)
        self._progress.finish()
        return rotten

    def _is_whole(self, digest: Digest) -> bool:
        self._cancel.check()
        try:
            return is_whole(self._target.driver, layout.BlobData(digest).key, digest)
        except DriverError:
            return False

    def _images_of(self, source: Source, bad: set[Digest]) -> dict[Digest, set[str]]:
        """Return which images need each of some data."""
        images: dict[Digest, set[str]] = {}
        for name, data in self._wanted.items() if bad else ():
            if data.isdisjoint(bad):
                continue
            repository = source.contents(name).to_repository()
            source.manifests.load(name, repository.revisions)
            for tag, digests in hurt_tags(repository, source.manifests, bad & data).items():
                for digest in digests:
                    images.setdefault(digest, set()).add(f"{name}:{tag}")
        return images

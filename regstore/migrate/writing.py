"""The only part of a migration that changes anything: data, links, tags, and last what is to go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import Digest, format_digest
from regstore.hashing import is_whole
from regstore.migrate.catalogue import finding
from regstore.transfer import (
    Failed,
    Item,
    ServerCopying,
    TreeTarget,
    VolumeOrigin,
    attributes_of,
    copy_blobs,
    overlay,
    resuming_uploads,
)
from regstore.work import map_bounded
from regstore_drivers.base import HasDirectories, HasKeptTime, HasLocalPath
from regstore_drivers.bulk import BulkWriter
from regstore_drivers.errors import DigestMismatch, DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.migrate.difference import Difference
    from regstore.migrate.migration import MigrationResult
    from regstore.migrate.options import MigrateOptions
    from regstore.migrate.plan import MigrationPlan
    from regstore.registry import Registry
    from regstore.transfer import Contents, Journal, Source
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Entry
    from regstore_drivers.bulk import Attributes


class Writing:
    """Carries a plan out.

    Args:
        source, target: the two ends.
        options: how.
        jobs: blobs at once.
        progress, cancel: told and asked.
        unpaced: told of bytes that do not pass this host, and never waits.
    """

    def __init__(
        self,
        source: Registry,
        target: Registry,
        options: MigrateOptions,
        jobs: int,
        progress: Progress,
        unpaced: Progress,
        cancel: Cancel,
    ) -> None:
        self._source = source
        self._target = target
        self._driver = target.driver
        self._options = options
        self._jobs = jobs
        self._progress = progress
        self._unpaced = unpaced
        self._cancel = cancel
        self._failures: dict[Digest, tuple[str, str]] = {}

    def apply(self, plan: MigrationPlan, source: Source, journal: Journal, result: MigrationResult) -> None:
        """Write what was planned, and say in the result what was done.

        Args:
            plan: what is to be done.
            source: what was read of the source.
            journal: told which data are durable.
            result: where it is counted.

        Raises:
            DriverError, StorageFailedError: the target failed; run again to go on.
            InterruptedRunError: stopped on request; run again to go on.
        """
        target = TreeTarget(self._driver, self._attributes(), self._options.jobs, self._progress, self._cancel)
        self._hash_doubtful(plan, source, journal, result)
        with resuming_uploads(self._driver, layout.BLOBS, journal):
            self._copy(target, plan, source, journal, result)
        if self._options.reads_back:
            self._read_back(plan, result)
        broken = self._find_damage(plan, source, result)
        self._write_links(target, plan, broken, result)
        self._copy_loose(target, plan.loose)
        if self._options.is_mirror:
            self._mirror(target, plan, source, broken, result)

    # Data

    def _hash_doubtful(self, plan: MigrationPlan, source: Source, journal: Journal, result: MigrationResult) -> None:
        """Hash what lies at the target and no run of ours wrote; what is not whole is copied."""
        digests = plan.doubtful
        if not digests:
            return
        self._progress.start("hashing what is at the target", len(digests))
        bad: list[Digest] = []
        for digest, whole in zip(digests, map_bounded(self._is_whole, digests, self._jobs), strict=True):
            self._progress.advance()
            if not whole:
                bad.append(digest)
        self._progress.finish()
        plan.present.difference_update(bad)
        for info in source.volume.iter_blob_sizes([digest for digest in bad if digest in source.blobs]):
            plan.blobs[info.digest] = info.size
            plan.occupied.add(info.digest)
            subject = format_digest(info.digest)
            result.findings.append(finding("target-blob-replaced", subject, "it was there before this run"))

    def _is_whole(self, digest: Digest) -> bool:
        self._cancel.check()
        try:
            return is_whole(self._driver, layout.BlobData(digest).key, digest)
        except DriverError:
            return False  # it is written anew, or that fails

    def _copy(
        self, target: TreeTarget, plan: MigrationPlan, source: Source, journal: Journal, result: MigrationResult
    ) -> None:
        items = [Item(digest, size, layout.BlobData(digest).key) for digest, size in sorted(plan.blobs.items())]
        for digest in (plan.needed & source.blobs) - plan.present - plan.blobs.keys():
            self._failures[digest] = ("missing", "it is gone since it was listed")
        if not items:
            return
        server = None
        if plan.is_server_side:
            server = ServerCopying(self._source.driver, self._driver, plan.occupied, plan.copied_min_bytes)
        self._progress.start(f"{len(items)} blobs", sum(item.size for item in items), "B")
        with target.durably():
            outcomes = copy_blobs(
                server.noting_tags(items) if server else items,
                VolumeOrigin(self._source.driver),
                target.writer,
                jobs=self._jobs,
                progress=self._progress,
                cancel=self._cancel,
                journal=journal,
                server=server,
                server_progress=self._unpaced,
            )
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    self._failures[outcome.item.digest] = (outcome.kind, outcome.detail)
                    plan.blobs.pop(outcome.item.digest)
                else:
                    result.copied_count += 1
                    result.copied_bytes += outcome.size
        self._progress.finish()
        if server:
            result.server_count, result.server_bytes, result.copy_refusal = server.count, server.size, server.refusal
        plan.present.update(plan.blobs)

    def _read_back(self, plan: MigrationPlan, result: MigrationResult) -> None:
        """Hash at the target what was written; what is not whole there is deleted, so that nothing comes to need it."""
        digests = sorted(plan.blobs)
        self._progress.start("reading back", len(digests))
        for digest, whole in zip(digests, map_bounded(self._is_whole, digests, self._jobs), strict=True):
            self._progress.advance()
            if whole:
                continue
            plan.present.discard(digest)
            self._failures[digest] = ("unreadable", "what was written at the target was read back with other bytes")
            list(self._driver.delete([layout.BlobData(digest).key]))
            detail = "just written, it was read back with other bytes, and deleted again"
            result.findings.append(finding("target-blob-corrupt", format_digest(digest), detail))
        self._progress.finish()

    def _find_damage(self, plan: MigrationPlan, source: Source, result: MigrationResult) -> set[str]:
        """Note what of the source is not whole, and return the images that are not written."""

        def has_data(digest: Digest) -> bool:
            return digest in plan.present or (digest not in plan.needed and digest in source.blobs)

        damage = source.find_damage(has_data, self._failures)
        if result.copied_count:
            damage.findings += source.reread_tags()
        wanted = plan.images
        result.findings += [
            found
            for found in damage.findings
            if wanted is None or not found.images or not wanted.isdisjoint(found.images)
        ]
        return damage.broken

    # Links

    def _write_links(self, target: TreeTarget, plan: MigrationPlan, broken: set[str], result: MigrationResult) -> None:
        for difference in plan.differences.values():
            _leave_out(difference.new, plan.present, broken)
        self._keep_times(plan)
        self._progress.start("links", plan.link_count)
        contents = [difference.new for difference in plan.differences.values() if difference.new_count]
        result.link_count = target.write_repositories(contents, is_new=True)
        result.tag_count = sum(len(one.tags) for one in contents)
        self._progress.finish()

    def _keep_times(self, plan: MigrationPlan) -> None:
        """Take the times of tags from the metadata of an object store, which a listing does not show."""
        driver = self._source.driver
        if not isinstance(driver, HasKeptTime):
            return
        tags = [(difference.new, tag) for difference in plan.differences.values() for tag in difference.new.tags]
        self._progress.start("times of tags", len(tags))

        def kept(item: tuple[Contents, str]) -> int | None:
            self._cancel.check()
            try:
                return driver.kept_mtime_ns(layout.TagLink(item[0].name, item[1]).key)
            except NotFound:
                return None  # deleted meanwhile

        for (new, tag), found in zip(tags, map_bounded(kept, tags, self._jobs), strict=True):
            self._progress.advance()
            if found is not None:
                new.tags[tag] = new.tags[tag]._replace(pushed_ns=found)
        self._progress.finish()

    def _copy_loose(self, target: TreeTarget, entries: list[Entry]) -> None:
        """Copy uploads and half-written files as they are; one that changes or vanishes meanwhile is left behind."""
        if not entries:
            return
        self._progress.start("uploads and leftovers", len(entries))
        with target.durably():
            for entry in entries:
                self._cancel.check()
                self._progress.advance()
                try:
                    target.writer.write(entry.key, partial(self._source.driver.open, entry.key), entry.size)
                except (NotFound, DigestMismatch):
                    continue
        self._progress.finish()

    def _attributes(self) -> Attributes:
        if not isinstance(self._driver, HasLocalPath):
            return self._options.attributes
        return overlay(attributes_of(self._driver, ""), self._options.attributes)

    # What goes

    def _mirror(
        self, target: TreeTarget, plan: MigrationPlan, source: Source, broken: set[str], result: MigrationResult
    ) -> None:
        """Remove the links that the source no longer has. Data stay for a collection at the target.

        Where something of the source could not be read, or an image is not whole, what the target has may be the only
        good copy: nothing goes there.
        """
        hurt = {image.rpartition(":")[0] for image in broken}
        withheld: list[str] = []
        gone: list[Difference] = []
        for name, difference in plan.differences.items():
            if not difference.gone_count:
                continue
            is_doubtful = name in source.names and source.is_troubled(name)
            if source.has_errors or is_doubtful or name in hurt:
                withheld.append(name)
            else:
                gone.append(difference)
        if source.has_errors:
            result.findings.append(finding("mirror-withheld", plan.target, "see the findings about the source"))
        elif withheld:
            detail = f"in {len(withheld)} repositories, such as {withheld[0]}"
            result.findings.append(finding("mirror-withheld", plan.target, detail))
        self._progress.start("removing", sum(difference.gone_count for difference in gone))
        left = self._delete_tags(target, gone, result)
        # A tag that stayed keeps what it needs.
        free = [difference for difference in gone if left.isdisjoint(_tag_keys(difference))]
        for keys_of in (_revision_keys, _layer_keys):
            self._delete((key for difference in free for key in keys_of(difference)), result)
        self._progress.finish()
        for difference in gone:
            for tag, key in zip(difference.gone_tags, _tag_keys(difference), strict=True):
                if key in left:
                    continue
                image = f"{difference.new.name}:{tag}"
                result.removed.append(image)
                result.findings.append(finding("tag-removed", image, "the source has no such tag"))

    def _delete_tags(self, target: TreeTarget, gone: list[Difference], result: MigrationResult) -> set[str]:
        """Remove tags so that each is whole until it is gone: a registry lists one for each directory.

        Returns the keys that could not be deleted.
        """
        if not isinstance(target.writer, BulkWriter):
            failed = set()
            for keys_of in (_index_keys, _tag_keys):
                failed |= self._delete((key for difference in gone for key in keys_of(difference)), result)
            return failed
        places = [key.removesuffix("/current/link") for difference in gone for key in _tag_keys(difference)]
        for place in places:
            self._cancel.check()
            target.writer.remove_directory(place, beside=place.rpartition("/tags/")[0])
            self._progress.advance()
        if isinstance(self._driver, HasDirectories):
            _remove_empty_parents(self._driver, places)
        return set()

    def _delete(self, keys: Iterator[str], result: MigrationResult) -> set[str]:
        """Delete, note what could not be, and return the keys of that."""
        deleted = []
        failed = set()
        for outcome in self._driver.delete(keys):
            self._cancel.check()
            self._progress.advance()
            deleted.append(outcome.key)
            if outcome.outcome == "failed":
                failed.add(outcome.key)
                result.findings.append(finding("delete-failed", outcome.key, outcome.reason))
        if isinstance(self._driver, HasDirectories):
            _remove_empty_parents(self._driver, deleted)
        return failed


def _leave_out(new: Contents, present: set[Digest], broken: set[str]) -> None:
    """Leave out what is not whole, and links to data that are not at the target."""
    for tag in [tag for tag in new.indexes.keys() | new.tags.keys() if f"{new.name}:{tag}" in broken]:
        new.tags.pop(tag, None)
        new.indexes.pop(tag, None)
    new.layers = {path: held for path, held in new.layers.items() if held in present}
    new.revisions = [digest for digest in new.revisions if digest in present]


def _tag_keys(difference: Difference) -> Iterator[str]:
    for tag in difference.gone_tags:
        yield layout.TagLink(difference.new.name, tag).key


def _index_keys(difference: Difference) -> Iterator[str]:
    for tag, index in difference.gone_indexes.items():
        for digest in index:
            yield layout.TagIndexLink(difference.new.name, tag, digest).key


def _revision_keys(difference: Difference) -> Iterator[str]:
    for digest in difference.gone_revisions:
        yield layout.RevisionLink(difference.new.name, digest).key


def _layer_keys(difference: Difference) -> Iterator[str]:
    for digest in difference.gone_layers:
        yield layout.LayerLink(difference.new.name, digest).key


def _remove_empty_parents(driver: HasDirectories, keys: Iterable[str]) -> None:
    """Remove the directories that became empty: a registry lists a tag or repository for each directory."""
    for key in keys:
        parent = key.rpartition("/")[0]
        while parent + "/" != layout.REPOSITORIES and driver.remove_empty_directory(f"{parent}/"):
            parent = parent.rpartition("/")[0]

"""`restore`: from a snapshot to a registry's tree, which at every moment serves only whole images.

Order: data, each hashed; layer links and revisions; indexes of tags; and the tags themselves last. What lies at the
target already is hashed before it counts. A restore that dies goes on where it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore import layout
from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.choose import Chooser, Chosen, Selection
from regstore.digest import Digest, format_digest
from regstore.errors import RefusedError
from regstore.hashing import is_whole
from regstore.lock import hold_lock
from regstore.state import NOTHING_KNOWN
from regstore.transfer import (
    Failed,
    Item,
    Paced,
    TreeTarget,
    attributes_of,
    link_count,
    open_journal,
    overlay,
    resuming_uploads,
)
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import Attributes, remove_temporary_files
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from regstore.backup.engine import SnapshotData, SnapshotStore
    from regstore.backup.snapshot import Snapshot
    from regstore.bandwidth import Bandwidth
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.transfer import Journal
    from regstore.work import Progress

_OBJECT_JOBS = 16


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a restore works.

    Attributes:
        selection: what is restored.
        is_merge: whether the target may hold a registry.
        jobs: blobs at once; None: as many as there are processors, or 16 where a request takes its time.
        bandwidth: bytes a second that are written; None: no limit.
        attributes: owner and modes of what is written; where None those of the target's registry, else those
            recorded, else those of the target's root.
    """

    selection: Selection = field(default_factory=Selection)
    is_merge: bool = False
    jobs: int | None = None
    bandwidth: Bandwidth | None = None
    attributes: Attributes = field(default_factory=Attributes)


@dataclass(slots=True)
class RestorePlan:
    """What a restore would do.

    Attributes:
        snapshot: what is restored.
        chosen: links and data.
        replaced: image (`repository:tag`) to the digest that it means at the target, where that is another.
        is_resumed: whether a restore of the same that died is gone on with.
        findings: what is known so far.
    """

    snapshot: Snapshot
    chosen: Chosen
    replaced: dict[str, Digest] = field(default_factory=dict)
    is_resumed: bool = False
    findings: list[BackupFinding] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        """The bytes of all data, those that the target has too."""
        return sum(self.chosen.blobs.values())

    @property
    def losses(self) -> list[BackupFinding]:
        """A finding for each image that is left out."""
        ids = (self.snapshot.head.id,)
        return [
            finding("image-lost", image, reason, (image,), ids) for image, reason in sorted(self.chosen.lost.items())
        ]

    @property
    def tag_count(self) -> int:
        """How many tags are written."""
        return sum(len(contents.tags) for contents in self.chosen.contents.values())


@dataclass(slots=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        plan: what was meant to be done.
        findings: what was lost, and what is worth a note.
        written_count, written_bytes: data that were written.
        kept_count: data that were there already, and whole.
        tag_count: tags that mean now what the snapshot says.
        dead_holder: whose lock was taken over, if a run died.
    """

    plan: RestorePlan
    findings: list[BackupFinding] = field(default_factory=list)
    written_count: int = 0
    written_bytes: int = 0
    kept_count: int = 0
    tag_count: int = 0
    dead_holder: Holder | None = None


class Restore:
    """One restore: `plan`, then `apply`.

    Args:
        store: where the snapshot is kept.
        snapshot: what is restored.
        target: the registry that it is restored to.
        options: how.
        progress, cancel: told and asked.
    """

    def __init__(
        self,
        store: SnapshotStore,
        snapshot: Snapshot,
        target: Registry,
        options: RestoreOptions | None = None,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._target = target
        self._driver = target.driver
        self._options = options or RestoreOptions()
        self._cancel = cancel or Cancel()
        self._progress = progress or NoProgress()
        if self._options.bandwidth:
            self._progress = Paced(self._progress, self._options.bandwidth, self._cancel)
        is_local = isinstance(target.driver, HasLocalPath)
        self._jobs = self._options.jobs or ((os.cpu_count() or 1) if is_local else _OBJECT_JOBS)
        self._journal = self._open_journal()
        self._data: SnapshotData | None = None

    def plan(self) -> RestorePlan:
        """Say what would be written. Changes nothing.

        Raises:
            UsageError: nothing is so named.
            RefusedError: the target holds a registry, and this is no merge; or it lies in the store or around it.
            SnapshotDamagedError, DriverError, StorageFailedError: the store or the target cannot be read.
        """
        self._store.check_apart(self._driver)
        repositories = self._target_repositories()
        if repositories and not (self._options.is_merge or self._journal.is_resumed):
            raise RefusedError(
                f"there is a registry at {self._target.location} already: it has {len(repositories)} repositories",
                hint="add --merge to restore into it, or name an empty directory or prefix",
                code="target-not-empty",
            )
        data = self._open_data()
        chooser = self._chooser(data)
        plan = RestorePlan(self._snapshot, chooser.choose(self._options.selection))
        plan.is_resumed = self._journal.is_resumed
        lost = data.find_lost(plan.chosen.blobs)
        plan.findings += self._leave_out(plan.chosen, chooser, lost)
        plan.replaced = self._find_replaced(plan.chosen, repositories)
        if plan.replaced and not self._options.is_merge:
            # A restore that died writes no other tags: somebody uses the registry since.
            raise RefusedError(
                f"{len(plan.replaced)} tags at {self._target.location} mean something else by now, such as "
                f"{min(plan.replaced)}: a restore that died is not gone on with over them",
                hint="add --merge to replace them, or name an empty directory or prefix",
                code="target-not-empty",
            )
        for image, digest in sorted(plan.replaced.items()):
            plan.findings.append(finding("tag-replaced", image, f"it means {format_digest(digest)} now"))
        return plan

    def apply(self, plan: RestorePlan) -> RestoreResult:
        """Write what was planned.

        Raises:
            LockedError: another run works on the target.
            DriverError, StorageFailedError: the target failed, or the store as a whole; run again to go on.
            InterruptedRunError: stopped on request; run again to go on.
        """
        with hold_lock(self._driver, "restore") as (_, dead):
            try:
                result = self._apply(plan)
            finally:
                self._journal.close()
        result.dead_holder = dead
        return result

    def forget(self) -> None:
        """Forget how far it came: nobody will go on with it."""
        self._journal.finish()

    def _apply(self, plan: RestorePlan) -> RestoreResult:
        result = RestoreResult(plan)
        chosen = plan.chosen
        self._journal.begin()
        is_new = not self._target_repositories()
        if plan.is_resumed and isinstance(self._driver, HasLocalPath):
            remove_temporary_files(self._driver.local_path(layout.V2))
        attributes = self._attributes(is_new=is_new)
        target = TreeTarget(self._driver, attributes, self._options.jobs, self._progress, self._cancel)
        present = self._find_whole(chosen)
        result.kept_count = len(present)
        missing = [digest for digest in sorted(chosen.blobs) if digest not in present]
        with resuming_uploads(self._driver, layout.BLOBS, self._journal):
            failures = self._copy(target, missing, chosen, result)
        findings = self._leave_out(chosen, self._chooser(self._open_data()), failures)
        self._write_links(target, chosen, is_new=is_new)
        result.tag_count = plan.tag_count
        result.findings = [*plan.findings, *findings, *plan.losses]
        self._journal.finish()
        return result

    def _open_journal(self) -> Journal:
        purpose = {
            "store": self._store.id,
            "snapshot": self._snapshot.head.id,
            "selection": self._options.selection.text,
        }
        return open_journal("restore", self._target.location, purpose)

    def _open_data(self) -> SnapshotData:
        if self._data is None:
            self._data = self._store.open_data(self._snapshot)
        return self._data

    def _chooser(self, data: SnapshotData) -> Chooser:
        return Chooser(self._snapshot, data, self._progress, self._cancel)

    def _leave_out(self, chosen: Chosen, chooser: Chooser, lost: dict[Digest, tuple[str, str]]) -> list[BackupFinding]:
        """Leave out what needs lost data, and say of each which images that hurts."""
        if not lost:
            return []
        hurt = chooser.leave_out(chosen, lost.keys())
        for digest in lost:
            chosen.blobs.pop(digest, None)
        ids = (self._snapshot.head.id,)
        return [
            finding(kind, format_digest(digest), detail, tuple(sorted(hurt.get(digest, ()))), ids)
            for digest, (kind, detail) in lost.items()
        ]

    # What is at the target

    def _target_repositories(self) -> list[str]:
        if next(iter(self._driver.list_dir(layout.REPOSITORIES)), None) is None:
            return []
        return self._target.open_volume(self._jobs).list_repositories()

    def _find_replaced(self, chosen: Chosen, repositories: list[str]) -> dict[str, Digest]:
        """Return the tags that mean something else at the target."""
        replaced: dict[str, Digest] = {}
        if not repositories:
            return replaced
        volume = self._target.open_volume(self._jobs)
        for name in sorted(set(repositories) & chosen.contents.keys()):
            self._cancel.check()
            tags = volume.scan_repository(name, NOTHING_KNOWN).tags
            for tag, meant in chosen.contents[name].tags.items():
                if tags.get(tag, meant.digest) != meant.digest:
                    replaced[f"{name}:{tag}"] = tags[tag]
        return replaced

    def _find_whole(self, chosen: Chosen) -> set[Digest]:
        """Hash what lies at the target already, but for what this restore wrote itself before it died."""
        if next(iter(self._driver.list_dir(layout.BLOBS)), None) is None:
            return set()
        there: set[Digest] = set()
        for shard in self._target.open_volume(self._jobs).list_blobs(lambda _: None).iter_shards():
            there |= shard & chosen.blobs.keys()
        sizes = self._target.open_volume(self._jobs).iter_blob_sizes(sorted(there & self._journal.done.keys()))
        known = {
            found.digest
            for found in sizes
            if found.size == self._journal.done[found.digest] == chosen.blobs[found.digest]
        }
        doubtful = sorted(there - known)
        self._progress.start("data at the target", sum(chosen.blobs[digest] for digest in doubtful), "B")
        for digest, whole in zip(doubtful, map_bounded(self._is_whole, doubtful, self._jobs), strict=True):
            self._progress.advance(chosen.blobs[digest])
            if whole:
                known.add(digest)
        self._progress.finish()
        return known

    def _is_whole(self, digest: Digest) -> bool:
        self._cancel.check()
        try:
            return is_whole(self._driver, layout.BlobData(digest).key, digest)
        except DriverError:
            return False  # it is written anew, or that fails

    # Writing

    def _copy(
        self, target: TreeTarget, digests: list[Digest], chosen: Chosen, result: RestoreResult
    ) -> dict[Digest, tuple[str, str]]:
        """Copy data, and return those that the store could not give."""
        items = [Item(digest, chosen.blobs[digest], layout.BlobData(digest).key) for digest in digests]
        failures: dict[Digest, tuple[str, str]] = {}
        self._progress.start(f"{len(items)} blobs", sum(item.size for item in items), "B")
        with target.durably():
            outcomes = self._open_data().copy_blobs(
                items,
                target.writer,
                jobs=self._jobs,
                progress=self._progress,
                cancel=self._cancel,
                journal=self._journal,
            )
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    failures[outcome.item.digest] = (_KINDS[outcome.kind], outcome.detail)
                else:
                    result.written_count += 1
                    result.written_bytes += outcome.size
        self._progress.finish()
        return failures

    def _write_links(self, target: TreeTarget, chosen: Chosen, *, is_new: bool) -> None:
        for contents in chosen.contents.values():  # no index without its tag: a registry would list it
            contents.indexes = {tag: index for tag, index in contents.indexes.items() if tag in contents.tags}
        total = sum(map(link_count, chosen.contents.values()))
        self._progress.start("links", total)
        target.write_repositories(list(chosen.contents.values()), is_new=is_new)
        self._progress.finish()

    def _attributes(self, *, is_new: bool) -> Attributes:
        """Return owner and modes: those asked for, else the target's registry's, else the recorded, else the root's."""
        driver = self._driver
        if not isinstance(driver, HasLocalPath):
            return self._options.attributes
        found = attributes_of(driver, "" if is_new else layout.REPOSITORIES)
        recorded = Attributes(**self._snapshot.head.attributes) if is_new else Attributes()
        return overlay(found, recorded, self._options.attributes)


_KINDS = {"missing": "store-blob-missing", "corrupt": "store-blob-corrupt", "unreadable": "store-blob-corrupt"}

"""A drill from end to end: restore, serve, pull, and how long it took."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.choose import Selection
from regstore.backup.drill.drawing import DrillSelection, choose_snapshot, draw_images
from regstore.backup.drill.scratch import open_scratch
from regstore.backup.drill.serving import serving
from regstore.backup.inspection import find_problems
from regstore.backup.restore import Restore, RestoreOptions
from regstore.registry import Registry
from regstore.registry.http import RegistryFailedError
from regstore.registry.pulling import Puller
from regstore.transfer import link_count
from regstore.transfer.room import BLOCK_BYTES, block_bytes, check_room
from regstore.work import Cancel, NoProgress
from regstore_drivers.bulk import Attributes
from regstore_drivers.filesystem import FilesystemDriver

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from regstore.backup.engine import SnapshotStore
    from regstore.backup.restore import RestorePlan
    from regstore.backup.snapshot import Snapshot
    from regstore.digest import Digest
    from regstore.transfer import Contents
    from regstore.work import Progress

_INODES_PER_BLOB = 3
_INODES_PER_LINK = 2


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """How a drill works.

    Attributes:
        selection: what is restored.
        program: the path of the registry's program; None: images are only looked at on disk.
        scratch: where the scratch directory is made; None: where temporary files go.
        is_kept: whether it stays.
        jobs: blobs at once; None: what suits the storage.
    """

    selection: DrillSelection = field(default_factory=DrillSelection)
    program: str | None = None
    scratch: str | None = None
    is_kept: bool = False
    jobs: int | None = None


class Drilled(NamedTuple):
    """An image of a drill.

    Attributes:
        image: `repository:tag`.
        pulled_bytes: what came over HTTP; what an image before it brought from the same repository does not count.
        problem: what is wrong with it, or empty.
    """

    image: str
    pulled_bytes: int
    problem: str


@dataclass(slots=True)
class DrillResult:
    """What a drill did. Times are seconds since it began.

    Attributes:
        snapshot: what was restored.
        program: the registry that served it; None when images were only looked at on disk.
        images: by name.
        restored_count, restored_bytes: blobs that were restored.
        restore_seconds: how long that took by itself.
        first_pull_seconds: when the first image had been pulled whole; None when none was.
        recovery_seconds: when the last one had been.
        scratch: the directory that was kept, or empty.
        findings: what was lost or could not be pulled, and what is worth a note.
    """

    snapshot: Snapshot
    program: str | None
    images: list[Drilled] = field(default_factory=list)
    restored_count: int = 0
    restored_bytes: int = 0
    restore_seconds: float = 0.0
    first_pull_seconds: float | None = None
    recovery_seconds: float = 0.0
    scratch: str = ""
    findings: list[BackupFinding] = field(default_factory=list)

    @property
    def bytes_per_second(self) -> float:
        """How fast it was restored."""
        return self.restored_bytes / self.restore_seconds if self.restore_seconds else 0.0

    @property
    def full_restore_seconds(self) -> float | None:
        """How long the data of the whole snapshot would take at that rate; None when nothing was restored."""
        rate = self.bytes_per_second
        return self.snapshot.head.total_bytes / rate if rate else None


def run_drill(
    store: SnapshotStore,
    options: DrillOptions,
    random: Random,
    *,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> DrillResult:
    """Restore images to a scratch directory, pull them from a registry that serves it, and throw them away.

    Args:
        store: where from.
        options: what and how.
        random: draws the images.
        clock: seconds.
        progress, cancel: told and asked.

    Raises:
        UsageError: there is no such snapshot or image, or no place for the scratch directory.
        RefusedError: the scratch directory has not enough room, or lies in the store.
        DriverError, StorageFailedError: the store or the scratch directory failed, or the registry does not run.
        InterruptedRunError: somebody asked to stop.
    """
    return _Drill(store, options, clock, progress or NoProgress(), cancel or Cancel()).run(random)


class _Drill:
    def __init__(
        self,
        store: SnapshotStore,
        options: DrillOptions,
        clock: Callable[[], float],
        progress: Progress,
        cancel: Cancel,
    ) -> None:
        self._store = store
        self._options = options
        self._clock = clock
        self._progress = progress
        self._cancel = cancel
        self._began = clock()

    def run(self, random: Random) -> DrillResult:
        options = self._options
        snapshot, findings = choose_snapshot(self._store, options.selection.snapshot)
        images = draw_images(snapshot, options.selection, random)
        result = DrillResult(snapshot, options.program, findings=findings)
        with open_scratch(options.scratch, is_kept=options.is_kept) as scratch:
            result.scratch = scratch if options.is_kept else ""
            root = os.path.join(scratch, "volume")
            os.mkdir(root)
            restored = self._restore(images, root, result)
            if options.program is None:
                self._look(restored, root, result)
            else:
                self._pull(restored, options.program, root, scratch, result)
            result.recovery_seconds = self._clock() - self._began
        return result

    def _restore(self, images: dict[str, list[str]], root: str, result: DrillResult) -> dict[str, list[str]]:
        """Restore, and return the images that are there then."""
        # Whoever runs the drill owns what it writes: the owner that is recorded is of no use here.
        attributes = Attributes(os.geteuid(), os.getegid(), 0o700, 0o600)
        options = RestoreOptions(Selection(images=images), jobs=self._options.jobs, attributes=attributes)
        target = Registry(FilesystemDriver(root))
        restore = Restore(self._store, result.snapshot, target, options, progress=self._progress, cancel=self._cancel)
        started = self._clock()
        try:
            plan = restore.plan()
            _check_room(plan, root)
            done = restore.apply(plan)
        finally:
            restore.forget()
        result.restore_seconds = self._clock() - started
        result.restored_count, result.restored_bytes = done.written_count, done.written_bytes
        result.findings += done.findings
        result.images += [Drilled(image, 0, reason) for image, reason in sorted(plan.chosen.lost.items())]
        return {name: sorted(contents.tags) for name, contents in sorted(plan.chosen.contents.items())}

    def _look(self, restored: dict[str, list[str]], root: str, result: DrillResult) -> None:
        """Look at the images on disk."""
        result.findings.append(
            finding("registry-absent", "docker-registry", "images were restored and looked at on disk, and not pulled")
        )
        target = Registry(FilesystemDriver(root))
        for repository, tags in restored.items():
            self._cancel.check()
            problems = find_problems(target, result.snapshot.contents(repository), tags)
            for tag in tags:
                self._note(result, f"{repository}:{tag}", 0, problems.get(tag, ""))

    def _pull(self, restored: dict[str, list[str]], program: str, root: str, home: str, result: DrillResult) -> None:
        """Pull the images from a registry."""
        if not any(restored.values()):
            return
        with serving(program, root, home, self._cancel) as server:
            self._progress.start("pulling", result.restored_bytes, "B")
            puller = Puller(server.client, self._progress, self._cancel)
            try:
                for repository, tags in restored.items():
                    contents = result.snapshot.contents(repository)
                    for tag in tags:
                        pulled = puller.pull(repository, tag, contents.tags[tag].digest, _may_lack(contents))
                        self._note(result, f"{repository}:{tag}", pulled.total_bytes, "; ".join(pulled.problems))
            except RegistryFailedError as error:
                raise server.failed("stopped answering") from error
            self._progress.finish()

    def _note(self, result: DrillResult, image: str, pulled_bytes: int, problem: str) -> None:
        result.images.append(Drilled(image, pulled_bytes, problem))
        if problem:
            ids = (result.snapshot.head.id,)
            result.findings.append(finding("pull-failed", image, problem, (image,), ids))
        elif result.program is not None and result.first_pull_seconds is None:
            result.first_pull_seconds = self._clock() - self._began


def _may_lack(contents: Contents) -> Callable[[Digest], bool]:
    """Return what tells whether a part of an image may be missing: the snapshot had no link to it either."""
    linked = {*contents.revisions, *contents.layers}
    return lambda digest: digest not in linked


def _check_room(plan: RestorePlan, root: str) -> None:
    """Refuse what the scratch directory has no room for.

    Raises:
        RefusedError: there are too few bytes or inodes.
    """
    blobs = plan.chosen.blobs
    inodes = len(blobs) * _INODES_PER_BLOB
    inodes += sum(map(link_count, plan.chosen.contents.values())) * _INODES_PER_LINK
    # Directories and links take a block each.
    needed = block_bytes(blobs.values()) + inodes * BLOCK_BYTES
    place = os.path.dirname(os.path.dirname(root))
    hint = "make room, name another place with --scratch, or restore fewer images (--count)"
    check_room(FilesystemDriver(root).capacity(), needed, inodes, place, hint)

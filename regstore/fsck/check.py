"""One check of a volume: structure, and on request data and layers. Nothing is changed."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from regstore import layout
from regstore.digest import format_digest
from regstore.fsck.catalogue import CheckFinding, finding
from regstore.fsck.data import Checked, Coverage, Selection, select_blobs, verify_blobs
from regstore.fsck.images import name_images
from regstore.fsck.layers import check_layers
from regstore.fsck.structure import Counts, NoMemory, StructureCheck, iter_signs
from regstore.fsck.tree import walk_tree
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.mark import Policy
from regstore.inventory.survey import SECOND_LOOKS_SECONDS, Survey
from regstore.state import open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.digest import Digest
    from regstore.fsck.options import Options
    from regstore.inventory.mark import Marks
    from regstore.registry import Registry
    from regstore.registry.scan import Blobs, Repository
    from regstore.work import Progress

_STORE_JOBS = 16
_THERE = ("=", "+", "*")


@dataclass(slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        location: the registry, without credentials.
        findings: what is not as it should be, the worst first.
        counts: what was looked at.
        damaged: repositories with troubles, as they were seen: what a repair is planned from.
        blobs: what was listed.
        newest_seen: the storage's time, seconds since the epoch.
        leftovers: key, bytes and newest time of temporary files.
        signs: digests that are not simply good; see `iter_signs`.
        coverage: with `Options.data`, what share of the volume was found whole how lately.
    """

    location: str
    findings: list[CheckFinding]
    counts: Counts
    damaged: dict[str, tuple[Repository, Marks]]
    blobs: Blobs
    newest_seen: float
    leftovers: list[tuple[str, int, float]]
    signs: dict[Digest, str] = field(default_factory=dict)
    coverage: Coverage | None = None

    def summary(self) -> dict[str, Any]:
        """Return the JSON form of what was looked at."""
        return {**asdict(self.counts), "coverage": asdict(self.coverage) if self.coverage else None}

    def iter_signs(self) -> Iterator[tuple[str, Digest]]:
        """Yield sign and digest of every blob: `=` good, `!` corrupt, `-` missing, `*` another size, `+` unneeded."""
        return iter_signs(self.blobs, self.signs)


def check_registry(
    registry: Registry, options: Options, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> CheckResult:
    """Check a volume: `fsck`. Changes nothing, takes no lock.

    A file or directory that cannot be read is a finding; so is everything else that is wrong. On an object store a
    listing that fails is an error, since nobody can say what it left out.

    Raises:
        DriverError, StorageFailedError: the volume as a whole cannot be read.
        InterruptedRunError: somebody asked to stop.
    """
    return _Check(registry, options, progress or NoProgress(), cancel or Cancel()).run()


class _Check:
    def __init__(self, registry: Registry, options: Options, progress: Progress, cancel: Cancel) -> None:
        self._registry = registry
        self._options = options
        self._progress = progress
        self._cancel = cancel
        self._errors: dict[str, CheckFinding] = {}
        is_local = isinstance(registry.driver, HasLocalPath)
        self._jobs = options.jobs or (1 if is_local else _STORE_JOBS)
        self._volume = registry.open_volume(self._jobs, is_thorough=True, on_error=self._note_error)
        self._state = NoMemory()
        self._manifests = TolerantReader(self._volume, self._state)
        self._is_cache = registry.has(layout.SCHEDULER_STATE)
        self._read_jobs = options.jobs or (os.cpu_count() or 1 if is_local else _STORE_JOBS)
        self._images: set[Digest] = set()
        self._leftovers: list[tuple[str, int, float]] = []
        self._memory = open_state(registry.location) if options.data or options.layers else NoMemory()

    def run(self) -> CheckResult:
        try:
            return self._run()
        finally:
            self._state.close()
            self._memory.close()

    def _run(self) -> CheckResult:
        self._progress.start("listing blobs")
        blobs = self._volume.list_blobs(self._progress.advance)
        self._progress.finish()
        structure = StructureCheck(
            self._volume,
            blobs,
            self._manifests,
            is_cache=self._is_cache,
            upload_age=self._options.upload_age,
        )
        survey = Survey(
            self._volume, self._state, self._policy_of, self._manifests, self._cancel, {}, self._note_repository
        )
        for repository, marks in survey.iter_repositories(self._progress):
            structure.take(repository, marks)
            if self._options.layers:
                self._images |= marks.kept
        structure.check_blobs(self._progress, self._cancel)
        self._volume.check_unchanged()
        structure.findings += self._check_objects(structure, blobs)
        coverage = None
        if self._options.data:
            coverage = self._check_data(blobs, structure)
        if self._options.layers:
            structure.findings += check_layers(
                self._registry.driver,
                sorted(self._images),
                self._memory,
                jobs=self._read_jobs,
                progress=self._progress,
                cancel=self._cancel,
            )
        findings = [*self._errors.values(), *structure.findings]
        findings = list({(found.id, found.subject, found.detail): found for found in findings}.values())
        findings = name_images(findings, self._volume, self._manifests, self._progress, self._cancel)
        findings.sort(key=lambda found: (-found.severity, found.id, found.subject))
        return CheckResult(
            self._registry.location,
            findings,
            structure.counts,
            structure.damaged,
            blobs,
            self._volume.newest_seen,
            self._leftovers,
            structure.signs,
            coverage,
        )

    def _check_objects(self, structure: StructureCheck, blobs: Blobs) -> list[CheckFinding]:
        """Look at what is no part of an image: strays, temporary files, owners, uploads in parts."""
        if isinstance(self._registry.driver, HasLocalPath):
            tree = walk_tree(self._registry.driver.local_path(""), self._progress, self._cancel)
            findings, self._leftovers = tree.findings, tree.leftovers
        else:
            strays = [*structure.strays, *self._volume.strays, *blobs.strays]
            findings = [finding("stray", key, "is not of the registry's layout") for key in strays]
            self._leftovers = structure.leftovers + blobs.leftovers
        where = layout.V2.rstrip("/")
        if self._leftovers:
            count, size = len(self._leftovers), sum(size for _, size, _ in self._leftovers)
            example = self._leftovers[0][0]
            detail = f"{count} temporary files with {size} bytes, such as {example}"
            findings.append(finding("leftover", where, detail, count=count, bytes=size))
        ages = [self._volume.newest_seen - upload.initiated for upload in self._volume.iter_multipart()]
        if ages:
            old = sum(age >= self._options.upload_age for age in ages)
            detail = f"{len(ages)} multipart uploads, {old} of them abandoned"
            evidence = {"count": len(ages), "abandoned_count": old, "oldest_seconds": round(max(ages))}
            findings.append(finding("multipart-open", where, detail, **evidence))
        return findings

    def _check_data(self, blobs: Blobs, structure: StructureCheck) -> Coverage:
        """Hash the blobs that are there; manifests that were found bad already are no news."""
        options, memory, now = self._options, self._memory, time.time()
        there = ([d for d in shard if structure.signs.get(d, "=") in _THERE] for shard in blobs.iter_shards())
        selection = Selection(options.subset, options.sample, options.older_than)
        digests = select_blobs(there, selection, memory, now, random.SystemRandom())
        verified = self._verify(digests, now, options.time_budget)
        suspects: list[Digest] = []
        self._progress.start("data", sum(size for _, size in self._iter_sizes(digests)))
        for checked in verified:
            structure.counts.verified_count += checked.outcome == "good"
            structure.counts.verified_bytes += checked.size if checked.outcome == "good" else 0
            if checked.outcome == "corrupt":
                suspects.append(checked.digest)
            elif checked.outcome == "unreadable":
                key = layout.BlobData(checked.digest).key
                self._errors[key] = finding("storage-error", key, checked.detail)
        self._progress.finish()
        self._look_twice(suspects, now, structure)
        return self._coverage(blobs, structure.signs, now)

    def _verify(self, digests: list[Digest], now: float, time_budget: float | None) -> Iterator[Checked]:
        return verify_blobs(
            self._registry.driver,
            digests,
            self._memory,
            jobs=self._read_jobs,
            now=now,
            time_budget=time_budget,
            bandwidth=self._options.bandwidth,
            trust_stored_checksums=self._options.trust_stored_checksums,
            progress=self._progress,
            cancel=self._cancel,
        )

    def _look_twice(self, suspects: list[Digest], now: float, structure: StructureCheck) -> None:
        """Hash what seemed corrupt once more: registries up to 3.0 write manifests in place."""
        if not suspects:
            return
        self._cancel.wait(sum(SECOND_LOOKS_SECONDS))
        corrupt: set[str] = set()
        self._progress.start("corrupt data once more")
        for checked in self._verify(suspects, now, None):
            if checked.outcome == "corrupt":
                structure.signs[checked.digest] = "!"
                subject = format_digest(checked.digest)
                corrupt.add(subject)
                structure.findings.append(finding("blob-corrupt", subject, checked.detail, bytes=checked.size))
        self._progress.finish()
        # Why a blob has another size than its descriptor says is known now.
        structure.findings = [f for f in structure.findings if f.id != "blob-size" or f.subject not in corrupt]

    def _iter_sizes(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, int]]:
        for digest in digests:
            with suppress(DriverError):
                for info in self._volume.iter_blob_info([digest]):
                    yield digest, info.size

    def _coverage(self, blobs: Blobs, signs: dict[Digest, str], now: float) -> Coverage:
        coverage = Coverage()
        for shard, digests in enumerate(blobs.iter_shards()):
            times = self._memory.verified_times(shard) if shard < 256 else {}
            there = [digest for digest in digests if signs.get(digest, "=") in _THERE]
            for digest, size in self._iter_sizes(there):
                coverage.add(size, times.get(digest), now)
        return coverage

    def _policy_of(self, _: Repository) -> Policy:
        return Policy(sparse_is_normal=self._is_cache)

    def _note_error(self, error: DriverError) -> None:
        self._errors[error.key] = finding("storage-error", error.key, str(error))

    def _note_repository(self, name: str, error: DriverError) -> None:
        key = error.key or f"{layout.REPOSITORIES}{name}"
        detail = f"the repository {name} cannot be checked: {error}"
        self._errors[key] = finding("storage-error", key, detail)

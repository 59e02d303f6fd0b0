"""`migrate run --cut-over`: the last delta, of a registry that is quiet, and the proof that nothing is missing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.errors import RefusedError
from regstore.migrate.migration import Migration
from regstore.migrate.verify import Verifier
from regstore.registry.api import RegistryApi
from regstore.state import open_state
from regstore.transfer import Source
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasLocalPath, HasMultipart, HasMultipartSize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.migrate.migration import MigrationResult
    from regstore.migrate.options import MigrateOptions
    from regstore.migrate.verify import Verification
    from regstore.registry import Registry
    from regstore.transfer import ImageFinding
    from regstore.work import Progress
    from regstore_drivers.base import ReadDriver

QUIET_SECONDS = 5.0
"""How long nothing may change at the source before it counts as quiet."""
_SCAN_JOBS = 16


class CutOver(NamedTuple):
    """What a cut-over did: its runs, the first of which is the ordinary delta, and the comparison after the last."""

    runs: list[MigrationResult]
    verification: Verification

    @property
    def findings(self) -> list[ImageFinding]:
        """What the last run and the comparison found, each once."""
        found = {(one.id, one.subject): one for one in [*self.runs[-1].findings, *self.verification.findings]}
        return list(found.values())


def cut_over(
    source: Registry,
    target: Registry,
    options: MigrateOptions,
    registry_urls: Sequence[str] = (),
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    quiet_seconds: float = QUIET_SECONDS,
) -> CutOver:
    """Run the ordinary delta, see that the source is quiet, run the last delta, and compare both ends.

    Args:
        source, target, options: as of a `Migration`.
        registry_urls: every replica of the registry: each must be stopped or answer 405 to a push. Without them, or
            where one is stopped, the source is read twice, and must not have changed in between: nothing tells a
            stopped registry from a mistyped address.
        progress, cancel: told and asked.
        quiet_seconds: how long nothing may change where it is read twice.

    Raises:
        RefusedError: as `Migration.run`; or the source is not quiet (`not-quiet`), after the ordinary delta.
        LockedError, DriverError, StorageFailedError, InterruptedRunError: as `Migration.run`.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    migration = Migration(source, target, options, progress=progress, cancel=cancel)
    runs = [migration.run()]
    before = _Sight(source, runs[0].source)
    eye = _Eye(source, options, progress, cancel)
    now = _prove_quiet(eye, registry_urls, before.repository, quiet_seconds)
    if now.links != before.links:
        runs.append(migration.run())
    verifier = Verifier(
        source,
        target,
        options.selection,
        jobs=options.jobs,
        reads_back=options.reads_back,
        progress=progress,
        cancel=cancel,
    )
    for _ in verifier.iter_items():
        pass
    return CutOver(runs, verifier.result)


class _Sight:
    """What a source looked like: hashes of its links and data, and of its open uploads."""

    def __init__(self, registry: Registry, source: Source) -> None:
        links = hashlib.sha256()
        for name in source.names:
            links.update(source.lines[name])
        for digest in sorted(source.blobs):
            links.update(digest)
        self.repository = next(iter(source.names), "")
        self.links = links.digest()
        self.uploads = list(_iter_uploads(registry.driver, source))


def _iter_uploads(driver: ReadDriver, source: Source) -> Iterator[tuple[str, int, float]]:
    """Yield what of an open upload changes while somebody writes to it."""
    for name in source.uploading:
        for entry in driver.list(f"{layout.REPOSITORIES}{name}/_uploads/"):
            yield entry.key, entry.size, entry.newest
    if isinstance(driver, HasMultipart):
        for upload in driver.list_multipart(layout.V2):
            size = driver.multipart_size(upload) if isinstance(driver, HasMultipartSize) else 0
            yield f"{upload.key} {upload.upload_id}", size, upload.initiated


def _prove_quiet(eye: _Eye, urls: Sequence[str], repository: str, quiet_seconds: float) -> _Sight:
    """See that nobody pushes, and return what the source looks like now."""
    read_only_count = 0
    for url in urls:
        api = RegistryApi(url)
        try:
            read_only_count += api.prove_quiet(repository)
        finally:
            api.close()
    first = eye.look()
    if urls and read_only_count == len(urls):
        return first
    eye.wait(quiet_seconds)
    second = eye.look()
    if (first.links, first.uploads) != (second.links, second.uploads):
        raise RefusedError(
            f"{eye.location} still changes: the ordinary delta is done, and the registry must not be moved yet",
            hint="stop the registry, or set storage.maintenance.readonly.enabled and restart it; then run this again",
            code="not-quiet",
        )
    return second


class _Eye:
    """Looks at a source again and again."""

    def __init__(self, registry: Registry, options: MigrateOptions, progress: Progress, cancel: Cancel) -> None:
        self._registry = registry
        self._is_wanted = options.selection.has_repository
        self._progress = progress
        self._cancel = cancel
        self._jobs = 1 if isinstance(registry.driver, HasLocalPath) else _SCAN_JOBS

    @property
    def location(self) -> str:
        return self._registry.location

    def look(self) -> _Sight:
        state = open_state(f"migration of {self.location}")
        try:
            source = Source(
                self._registry,
                state,
                jobs=self._jobs,
                progress=self._progress,
                cancel=self._cancel,
                is_wanted=self._is_wanted,
            )
            source.take()
            return _Sight(self._registry, source)
        finally:
            state.close()

    def wait(self, seconds: float) -> None:
        self._progress.start("waiting to see whether the source is quiet")
        self._cancel.wait(seconds)
        self._progress.finish()

"""`migrate plan` and `migrate run`: a registry is copied while it serves, as often as it takes.

Each run is the delta to the one before: the difference of two sets of links and data, and what every tag means. The
source is only read. Order at the target: data, each hashed; links of layers and manifests; indexes of tags; and the
tags last, so that a registry on the target serves only whole images at every moment.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import format_digest
from regstore.errors import RefusedError
from regstore.lock import hold_lock
from regstore.migrate.catalogue import finding
from regstore.migrate.difference import choose, compare
from regstore.migrate.ends import check_ends, keeps_names_in_database
from regstore.migrate.options import MigrateOptions
from regstore.migrate.plan import MigrationPlan
from regstore.migrate.probe import (
    check_space,
    estimate,
    may_copy_by_server,
    probe_copies,
    probe_features,
    probe_own_copies,
)
from regstore.migrate.record import check_not_same, new_record, read_marker, write_record
from regstore.migrate.target import TargetReader
from regstore.migrate.writing import Writing
from regstore.state import State, open_state
from regstore.transfer import Contents, Paced, Source, open_journal
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasLocalPath
from regstore_drivers.bulk import remove_temporary_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.digest import Digest
    from regstore.lock import Holder
    from regstore.migrate.ends import Ends
    from regstore.registry import Registry
    from regstore.transfer import ImageFinding, Journal
    from regstore.work import Progress
    from regstore_drivers.base import Entry

_OBJECT_JOBS = 16


@dataclass(slots=True)
class MigrationResult:
    """What a run did.

    Attributes:
        plan: what was meant to be done.
        source: what was read of the source.
        findings: what was found wrong, and what is worth a note.
        copied_count, copied_bytes: data that were written.
        server_count, server_bytes: those of them that the server copied by itself.
        copy_refusal: why the server does not copy all of it by itself, where both ends are on it; else empty.
        link_count: links that were written.
        tag_count: tags that were written, new ones and moved ones.
        removed: images that were removed at the target.
        dead_holder: whose lock was taken over, if a run died.
    """

    plan: MigrationPlan
    source: Source
    findings: list[ImageFinding] = field(default_factory=list)
    copied_count: int = 0
    copied_bytes: int = 0
    server_count: int = 0
    server_bytes: int = 0
    copy_refusal: str = ""
    link_count: int = 0
    tag_count: int = 0
    removed: list[str] = field(default_factory=list)
    dead_holder: Holder | None = None


class Migration:
    """One migration: `plan` says what would be done, `run` does it.

    Args:
        source: the registry as it is, which is only read.
        target: where it goes.
        options: what is taken along, and how.
        progress, cancel: told and asked.
    """

    def __init__(
        self,
        source: Registry,
        target: Registry,
        options: MigrateOptions | None = None,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options or MigrateOptions()
        self._cancel = cancel or Cancel()
        self._progress = self._unpaced = progress or NoProgress()
        if self._options.bandwidth is not None:
            self._progress = Paced(self._progress, self._options.bandwidth, self._cancel)
        is_local = isinstance(source.driver, HasLocalPath) and isinstance(target.driver, HasLocalPath)
        self._jobs = self._options.jobs or ((os.cpu_count() or 1) if is_local else _OBJECT_JOBS)

    def plan(self) -> MigrationPlan:
        """Say what a run would do. Nothing stays changed; in a bucket small objects are written and deleted to see what
        the server can.

        Raises:
            RefusedError: the ends are refused, or the source is empty.
            DriverError: one of them cannot be read.
            InterruptedRunError: stopped on request.
        """
        ends = check_ends(self._source, self._target)
        with self._states(ends) as (source_state, target_state):
            source = self._read_source(source_state)
            journal = self._open_journal(ends)
            plan = self._plan(ends, source, journal, target_state)
            if plan.copies is None:
                probe_own_copies(plan, self._target)
            plan.estimate = estimate(plan, self._source, self._target, self._jobs, self._progress, self._cancel)
            try:
                check_space(plan, self._source, self._target)
            except RefusedError as error:
                plan.findings.append(finding("space-short", plan.target, str(error)))
            return plan

    def run(self) -> MigrationResult:
        """Copy what the target does not have.

        Raises:
            RefusedError: the ends are refused, the source is empty, more of the target's tags would go than may, or
                the target has not enough room. Nothing was copied or removed.
            LockedError: another run works on the target.
            DriverError, StorageFailedError: the target failed, or the source as a whole; run again to go on.
            InterruptedRunError: stopped on request; run again to go on.
        """
        with hold_lock(self._target.driver, "migrate run") as (_, dead):
            ends = check_ends(self._source, self._target)
            with self._states(ends) as (source_state, target_state):
                result = self._run(ends, self._read_source(source_state), target_state)
        result.dead_holder = dead
        return result

    def _run(self, ends: Ends, source: Source, state: State) -> MigrationResult:
        record = ends.record
        if isinstance(self._target.driver, HasLocalPath) and (record is None or record.is_open):
            remove_temporary_files(self._target.driver.local_path(layout.V2))  # those of a run that died
        if record is None or not record.id:
            record = new_record(self._source.driver, self._target.driver)
            ends = ends._replace(record=record)
            write_record(self._target.driver, record)
            check_not_same(self._source.driver, self._target.driver, record)
        journal = self._open_journal(ends)
        try:
            plan = self._plan(ends, source, journal, state)
            if self._options.is_mirror and not source.has_errors:
                self._check_removals(plan)
            check_space(plan, self._source, self._target)
            result = MigrationResult(plan, source, list(plan.findings), copy_refusal=plan.copy_refusal)
            if self._has_work(plan) and not record.is_open:
                write_record(self._target.driver, replace(record, is_open=True))
            writing = Writing(
                self._source, self._target, self._options, self._jobs, self._progress, self._unpaced, self._cancel
            )
            writing.apply(plan, source, journal, result)
        finally:
            journal.close()
        ended = replace(record, is_complete=True, is_open=False)
        if ended != read_marker(self._target.driver):
            write_record(self._target.driver, ended)
        return result

    @contextmanager
    def _states(self, ends: Ends) -> Iterator[tuple[State, State]]:
        """Open what is remembered of both ends. Of a target that was begun anew, or in which a run died, nothing is: a
        directory may be there without its link. Nor is of a bucket, whose entity tags prove all links."""
        source = open_state(f"migration of {self._source.location}")
        record = ends.record
        is_clean = record is not None and record.is_complete and not record.is_open
        remembers = is_clean and isinstance(self._target.driver, HasLocalPath)
        target = open_state(f"migration into {self._target.location}") if remembers else State(None)
        try:
            yield source, target
        finally:
            source.close()
            target.close()

    def _open_journal(self, ends: Ends) -> Journal:
        return open_journal("migrate", self._target.location, {"migration": ends.record.id if ends.record else ""})

    def _read_source(self, state: State) -> Source:
        selection = self._options.selection
        jobs = 1 if isinstance(self._source.driver, HasLocalPath) else self._jobs
        source = Source(
            self._source,
            state,
            jobs=jobs,
            progress=self._progress,
            cancel=self._cancel,
            is_wanted=selection.has_repository,
        )
        source.take()
        source.check_not_empty()
        return source

    def _plan(self, ends: Ends, source: Source, journal: Journal, state: State) -> MigrationPlan:
        selection = self._options.selection
        plan = MigrationPlan(self._source.location, self._target.location, ends.kind)
        if selection.is_by_tag:
            plan.images = set()
        self._progress.start("reading the target")
        there = TargetReader(self._target, self._jobs, state, self._progress.advance)
        self._progress.finish()
        names = set(source.names)
        if not source.has_errors:  # else what is not seen may be there all the same
            names.update(filter(selection.has_repository, there.names))
        for name in sorted(names):
            self._cancel.check()
            self._plan_repository(plan, source, there, name)
        if selection.takes_all and selection.is_whole:
            plan.needed |= source.blobs
        state.commit()
        record = ends.record
        # What a server copied by itself has its name before it is proven.
        is_unproven = record is not None and record.is_open and may_copy_by_server(self._source, self._target)
        is_first = not (record and record.is_complete) or is_unproven
        self._plan_data(plan, source, there, journal, is_first=is_first)
        if selection.takes_all:
            plan.loose = list(self._iter_loose(source))
        plan.features = probe_features(self._target)
        probe_copies(plan, self._source, self._target)
        if keeps_names_in_database(self._source):
            plan.findings.append(finding("database-in-use", plan.source, "GitLab's registry marked the volume"))
        for image, digest in sorted(plan.gone_tags.items()) if not self._options.is_mirror else ():
            plan.findings.append(finding("tag-gone", image, f"at the target it means {format_digest(digest)}"))
        return plan

    def _plan_repository(self, plan: MigrationPlan, source: Source, there: TargetReader, name: str) -> None:
        selection = self._options.selection
        found = there.repository(name)
        plan.target_tag_count += len(found.tags)
        if name in source.names:
            full = source.contents(name)
            wanted = choose(source, name, selection)
            plan.needed |= wanted.data
            plan.repository_count += 1
            plan.tag_count += len(wanted.contents.tags)
            if plan.images is not None:
                plan.images.update(f"{name}:{tag}" for tag in wanted.contents.tags)
            difference = compare(wanted.contents, full, found, selection, there.signatures_of(name))
        else:
            difference = compare(Contents(name), Contents(name), found, selection, lambda _: [])
        if difference.new_count or difference.gone_count:
            plan.differences[name] = difference

    def _plan_data(
        self, plan: MigrationPlan, source: Source, there: TargetReader, journal: Journal, *, is_first: bool
    ) -> None:
        """Part the wanted data into those that are at the target, those that have to be hashed there first, and those
        that are to be copied.

        What a run of ours wrote is in the journal with its size. Anything else counts by its hash on a first run, or
        after a run that died where a server may have copied by itself, and later by its size.
        """
        at_target = there.sizes(plan.needed & there.blobs)
        unknown: list[Digest] = []
        for digest, size in at_target.items():
            if journal.done.get(digest) == size:
                plan.present.add(digest)
            elif digest not in journal.done:
                unknown.append(digest)
        if is_first:
            plan.doubtful = sorted(unknown)
            plan.present.update(unknown)
            unknown = []
        wanted = (plan.needed - plan.present) & source.blobs
        sizes = {info.digest: info.size for info in source.volume.iter_blob_sizes(sorted(wanted))}
        same = {digest for digest in unknown if sizes.get(digest, at_target[digest]) == at_target[digest]}
        plan.present |= same
        plan.blobs = {digest: size for digest, size in sizes.items() if digest not in same}
        plan.occupied = at_target.keys() & plan.blobs.keys()

    def _iter_loose(self, source: Source) -> Iterator[Entry]:
        """Yield open uploads and half-written files of the source."""
        driver = self._source.driver
        for name in source.uploading:
            yield from driver.list(f"{layout.REPOSITORIES}{name}/_uploads/")
        data = (layout.BlobData(digest).key for digest in sorted(source.blobs))
        beside_data = (key for key, _, _ in source.volume.list_leftovers(data))
        for key in (*source.leftovers, *beside_data):
            yield from driver.list(key)

    def _has_work(self, plan: MigrationPlan) -> bool:
        is_removing = self._options.is_mirror and any(one.gone_count for one in plan.differences.values())
        return bool(plan.blobs or plan.link_count or plan.loose or is_removing)

    def _check_removals(self, plan: MigrationPlan) -> None:
        """Refuse to remove more of the target's tags than may go."""
        limit = self._options.max_delete_percent
        gone_count = len(plan.gone_tags)
        if limit is None or not gone_count:
            return
        share = 100 * gone_count / plan.target_tag_count
        if share > limit:
            raise RefusedError(
                f"{gone_count} of the {plan.target_tag_count} tags at {plan.target} ({share:.0f} %) are not at the "
                f"source any more, which is more than --max-delete {limit:g}%",
                hint="see that the source is whole: is its disk mounted? If it is right, raise --max-delete",
                code="max-delete",
            )

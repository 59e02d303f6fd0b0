"""Applying a repair: each step is looked at again just before it is taken, and journaled before that.

Bad data and malformed links are moved to the quarantine of the repair, never deleted. What a registry wrote meanwhile
wins: a link is written only where none is, or where the malformed one still lies.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest
from regstore.fsck.catalogue import CheckFinding, finding
from regstore.fsck.check import CheckResult, check_registry
from regstore.fsck.journal import Entry, Ledger
from regstore.fsck.plan import RepairOptions, RepairPlan, Step, Verb, plan_repair
from regstore.hashing import is_whole
from regstore.lock import hold_lock
from regstore.registry.scan import parse_link
from regstore.state import open_state
from regstore.transfer.fetching import Fetched, fetch_blob
from regstore.work import Cancel, NoProgress
from regstore_drivers.errors import AlreadyExists, NotFound, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.fsck.options import Options
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.transfer.fetching import Source
    from regstore.work import Progress

_ROUNDS = 6
"""How often at most it is planned again: an index may bring manifests that bring layers."""
_BATCH_COUNT = 100
_CARRIED = ("layer-diffid", "layer-undecodable", "config-undecodable", "storage-error")
"""Findings of looks that are not taken again after a repair, which cannot change what they found."""


@dataclass(slots=True)
class RepairResult:
    """What a repair did, and what is left.

    Attributes:
        run_id: its id in the journal, or empty when nothing was changed.
        done: verb to the number of steps taken.
        fetched_bytes: bytes of the data that were fetched.
        skipped_count: steps that were no longer right.
        left: the check after the repair; its findings are those that are left, with the reasons of what failed.
        plan: what could still be done: proposals, and what no source has.
        dead_holder: whose lock was taken over, if a run died.
    """

    left: CheckResult
    plan: RepairPlan
    run_id: str = ""
    done: Counter[Verb] = field(default_factory=Counter)
    fetched_bytes: int = 0
    skipped_count: int = 0
    dead_holder: Holder | None = None


def repair_registry(
    registry: Registry,
    result: CheckResult,
    plan: RepairPlan,
    options: RepairOptions,
    sources: Sequence[Source] = (),
    *,
    check_options: Options,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> RepairResult:
    """Take the steps of a plan, then look again, and go on as long as that finds more to do: `fsck --repair`.

    Args:
        registry: what is repaired.
        result: the check that the plan was made from.
        plan: what is to be done.
        options: what may be done in later rounds.
        sources: where data are fetched from, in order.
        check_options: of the check.
        progress, cancel: told and asked between steps.

    Raises:
        LockedError: another run holds the lock; nothing was changed.
        DriverError, StorageFailedError: the storage failed; nothing was destroyed.
        InterruptedRunError: stopped on request; run again to go on.
    """
    with hold_lock(registry.driver, "fsck --repair") as (now, dead):
        repair = _Repair(registry, options, sources, check_options, now, progress or NoProgress(), cancel or Cancel())
        outcome = repair.run(result, plan)
    outcome.dead_holder = dead
    return outcome


class _Repair:
    def __init__(
        self,
        registry: Registry,
        options: RepairOptions,
        sources: Sequence[Source],
        check_options: Options,
        now: float,
        progress: Progress,
        cancel: Cancel,
    ) -> None:
        self._registry = registry
        self._driver = registry.driver
        self._options = options
        self._sources = sources
        self._check_options = check_options
        self._started = now
        self._monotonic = time.monotonic()
        self._progress = progress
        self._cancel = cancel
        self._ledger = Ledger(self._driver, now, {"options": {"prune": options.prune}})
        self._done: Counter[Verb] = Counter()
        self._skipped = 0
        self._fetched: dict[Digest, int] = {}
        self._failures: dict[Digest, str] = {}
        self._refusals: dict[str, CheckFinding] = {}
        self._touched: set[str] = set()

    def run(self, result: CheckResult, plan: RepairPlan) -> RepairResult:
        try:
            return self._run(result, plan)
        except BaseException as error:
            if self._ledger.is_begun:
                done = ", ".join(f"{count} {verb.value}" for verb, count in self._done.items() if count) or "nothing"
                error.add_note(f"done until then: {done}; run it again to go on, or take it back with fsck undo")
            raise

    def _run(self, result: CheckResult, plan: RepairPlan) -> RepairResult:
        first = result
        for _ in range(_ROUNDS):
            before = sum(self._done.values())
            self._take(plan.steps)
            result = self._look_again(first)
            plan = plan_repair(self._registry, result, self._options, self._sources)
            if not plan.steps or sum(self._done.values()) == before:
                break
        self._forget()
        self._ledger.finish({"finished_at": self._now(), "done": {verb.value: n for verb, n in self._done.items()}})
        run_id = self._ledger.run.id if self._ledger.is_begun else ""
        return RepairResult(result, plan, run_id, self._done, sum(self._fetched.values()), self._skipped)

    def _now(self) -> float:
        return self._started + time.monotonic() - self._monotonic

    def _take(self, steps: list[Step]) -> None:
        self._progress.start("repairing", len(steps))
        take = {
            Verb.WRITE: self._write,
            Verb.QUARANTINE: self._quarantine,
            Verb.FETCH: self._fetch,
            Verb.REMOVE: self._remove,
        }
        for _, group in groupby(steps, key=lambda step: step.verb):
            remaining = iter(group)
            while batch := list(islice(remaining, _BATCH_COUNT)):
                self._cancel.check()
                self._ledger.write(self._entries(batch))
                for step in batch:
                    self._cancel.check()
                    is_done = False
                    try:
                        is_done = take[step.verb](step, self._ledger.quarantine_key(step.key))
                    except PermissionDenied as error:
                        self._refusals[step.key] = finding("storage-error", step.key, str(error))
                    self._done[step.verb] += is_done
                    self._skipped += not is_done
                    self._touched.update(step.repositories)
                    self._progress.advance()
        self._progress.finish()

    def _entries(self, steps: list[Step]) -> Iterator[Entry]:
        for step in steps:
            to = "" if step.verb is Verb.FETCH else self._ledger.quarantine_key(step.key)
            yield Entry(step.verb, step.key, to, step.digest, step.content, self._now())

    def _write(self, step: Step, to: str) -> bool:
        """Write a link where none lies, or where what lies there is still no right one."""
        try:
            held = self._driver.read(step.key)
        except NotFound:
            held = None
        if held == step.content or (held is not None and _is_right(step.key, held)):
            return False
        if held is not None:
            try:
                self._driver.move(step.key, to)
            except (NotFound, AlreadyExists):
                return False  # somebody deleted it, or this run moved one away already
        try:
            self._driver.write(step.key, step.content, len(step.content), if_absent=True)
        except AlreadyExists:
            return False  # the registry wrote it
        if held is not None and (late := self._written_late(step.key, to)):
            self._driver.write(step.key, late, len(late))
        return True

    def _written_late(self, key: str, to: str) -> bytes | None:
        """Return what a registry wrote into the malformed link while it was moved away."""
        held = self._driver.read(to)
        return held if _is_right(key, held) else None

    def _quarantine(self, step: Step, to: str) -> bool:
        if step.digest is None:
            return False
        try:
            if is_whole(self._driver, step.key, step.digest):
                return False
            self._driver.move(step.key, to)
        except (NotFound, AlreadyExists):
            return False
        return True

    def _fetch(self, step: Step, _: str) -> bool:
        if step.digest is None:
            return False
        try:
            outcome = fetch_blob(self._driver, step.digest, self._sources, step.repositories, self._cancel)
        except AlreadyExists:
            return False  # somebody pushed it
        if isinstance(outcome, Fetched):
            self._fetched[step.digest] = outcome.size
            return True
        self._failures[step.digest] = "; ".join(f"{failure.source}: {failure.reason}" for failure in outcome.failures)
        return False

    def _remove(self, step: Step, to: str) -> bool:
        """Move what nothing needs away; a dangling link only while its data are not there."""
        if step.digest is not None and self._registry.has(layout.BlobData(step.digest).key):
            return False
        try:
            self._driver.move(step.key, to)
        except (NotFound, AlreadyExists):
            return False
        return True

    def _look_again(self, first: CheckResult) -> CheckResult:
        """Check the structure once more; of what only reading the data showed, look at what is still bad."""
        result = check_registry(
            self._registry, self._check_options.structure_only, progress=self._progress, cancel=self._cancel
        )
        known = {(found.id, found.subject) for found in result.findings}
        for found in first.findings:
            is_left = found.id in _CARRIED or self._is_still_corrupt(found)
            if is_left and (found.id, found.subject) not in known:
                result.findings.append(found)
        result.findings = [self._with_failure(found) for found in result.findings] + list(self._refusals.values())
        result.findings.sort(key=lambda found: (-found.severity, found.id, found.subject))
        return result

    def _is_still_corrupt(self, found: CheckFinding) -> bool:
        if found.id != "blob-corrupt":
            return False
        digest = parse_digest(found.subject)
        try:
            return not is_whole(self._driver, layout.BlobData(digest).key, digest)
        except NotFound:
            return False

    def _with_failure(self, found: CheckFinding) -> CheckFinding:
        for digest, reason in self._failures.items():
            if found.subject.endswith(format_digest(digest)) and reason and reason not in found.detail:
                detail = f"{found.detail}; it could not be fetched: {reason}"
                return replace(found, detail=detail)
        return found

    def _forget(self) -> None:
        """Forget what collections remember of the repositories that were changed."""
        if not self._touched:
            return
        state = open_state(self._registry.location)
        try:
            for repository in self._touched:
                state.forget_repository(repository)
            state.commit()
        finally:
            state.close()


def _is_right(key: str, held: bytes) -> bool:
    """Tell whether what a link holds is what its path says; for a tag, whether it is a digest at all."""
    spec = layout.parse_key(key)
    named = parse_link(held)
    if isinstance(spec, layout.TagLink):
        return named is not None
    return named is not None and named == getattr(spec, "digest", None)

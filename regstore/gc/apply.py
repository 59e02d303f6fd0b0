"""Applying a plan: the only writer.

The order is that of the safety argument (docs/online-safety.md): links repository by repository, each looked at again
just before; then blobs, after a second survey of the whole volume; then a last look, which puts back what was needed
meanwhile. A ledger segment is durable before the first of its steps. Everything removed lies in the quarantine.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING

from regstore.errors import RefusedError
from regstore.gc.actions import Action, Kind, Plan, Verb
from regstore.gc.catalogue import finding
from regstore.gc.guards import check_harbor, check_markers
from regstore.gc.journal import Journal, Ledger, entry_of
from regstore.gc.plan import Planner
from regstore.gc.purge import purge_runs
from regstore.gc.quarantine import Remover, put_back
from regstore.gc.replicas import Replicas
from regstore.lock import clock_resolution, hold_lock
from regstore.state import open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import HasLocalPath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.findings import Finding
    from regstore.gc.options import Options
    from regstore.lock import Holder
    from regstore.registry import Registry
    from regstore.state import State
    from regstore.work import Progress

SETTLE_SECONDS = 2.0
"""How long after the last removal beside a running registry the volume is looked at again: longer than a registry takes
from finding a blob's data present to writing its link."""

BATCH_COUNT = 500
"""Steps a ledger segment."""


@dataclass(slots=True)
class Result:
    """What a collection did.

    Attributes:
        plan: what was planned.
        run_id: the run's id in the journal, or empty when nothing was removed.
        removed: kind to (count, bytes) of what was removed, failed items not counted.
        condemned_count: blobs noted for a later run.
        restored_count: links and blobs that were needed again and put back.
        skipped_count: steps of the plan that were no longer right.
        freed_bytes: what the storage got back.
        purged_bytes: the part of it that earlier runs had quarantined.
        findings: those of the plan, and failed items.
        dead_holder: whose lock was taken over, if a run died.
    """

    plan: Plan
    run_id: str = ""
    removed: dict[Kind, tuple[int, int]] = field(default_factory=dict)
    condemned_count: int = 0
    restored_count: int = 0
    skipped_count: int = 0
    freed_bytes: int = 0
    purged_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    dead_holder: Holder | None = None


def collect(
    registry: Registry,
    options: Options,
    *,
    state: State | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> Result:
    """Plan and apply under one lock: `gc run`.

    Raises:
        RefusedError: a guard; nothing was changed.
        LockedError: another run holds the lock; nothing was changed.
        DriverError, StorageFailedError: the storage failed; nothing was destroyed after it.
        InterruptedRunError: stopped on request; the journal is flushed and the next run goes on.
    """
    check_markers(registry)
    with hold_lock(registry.driver, "gc run") as (now, dead):
        run = _Run(registry, options, now, state, progress, cancel, settle_seconds)
        with run:
            result = run.apply(run.plan())
    result.dead_holder = dead
    return result


def apply_plan(
    registry: Registry,
    plan: Plan,
    *,
    state: State | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> Result:
    """Apply a plan made earlier: `gc apply`. A step that is no longer right is skipped.

    Raises:
        As `collect`.
    """
    check_markers(registry)
    with hold_lock(registry.driver, "gc apply") as (now, dead):
        run = _Run(registry, plan.options, now, state, progress, cancel, settle_seconds)
        with run:
            fresh = run.plan()
            planned = {action.identity for action in plan.actions}
            kept = [action for action in fresh.actions if action.identity in planned or action.verb is Verb.RESTORE]
            skipped = len(plan.actions) - sum(action.identity in planned for action in kept)
            fresh.actions = kept
            result = run.apply(fresh)
    result.skipped_count += skipped
    result.dead_holder = dead
    return result


class _Run:
    """One collection under the lock."""

    def __init__(
        self,
        registry: Registry,
        options: Options,
        now: float,
        state: State | None,
        progress: Progress | None,
        cancel: Cancel | None,
        settle_seconds: float,
    ) -> None:
        self._registry = registry
        self._driver = registry.driver
        self._options = options
        self._started = now
        self._monotonic = time.monotonic()
        self._own_state = state is None
        self._state = state or open_state(registry.location)
        self._progress = progress or NoProgress()
        self._cancel = cancel or Cancel()
        self._settle_seconds = settle_seconds
        self._replicas = Replicas(registry, options)
        self._planner: Planner | None = None
        self._ledger = Ledger(self._driver, now, {"options": options.to_json()})
        jobs = 1 if isinstance(self._driver, HasLocalPath) else options.jobs
        self._remover = Remover(
            self._driver, self._ledger, self._replicas, jobs=jobs, prunes=options.offline, cancel=self._cancel
        )
        self._counts: Counter[Kind] = Counter()
        self._bytes: Counter[Kind] = Counter()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._replicas.close()
        if self._own_state:
            self._state.close()

    def _now(self) -> float:
        return self._started + time.monotonic() - self._monotonic

    def _journal_time(self) -> float:
        """Return the time that is noted: never later than what a run that follows at once will read."""
        return self._now() - clock_resolution(self._driver)

    def _new_planner(self) -> Planner:
        return Planner(self._registry, self._options, self._state, Journal(self._driver), self._now(), self._cancel)

    def plan(self) -> Plan:
        """Survey the volume; afterwards `apply` looks at single repositories with the same eyes."""
        self._planner = self._new_planner()
        plan = self._planner.plan(self._progress)
        # Only here: a later look that finds the last tag gone must not refuse what is half done.
        check_harbor(self._options, plan.summary)
        return plan

    def apply(self, plan: Plan) -> Result:
        """Take the steps of a plan that are still right."""
        if plan.refusals:
            refusal = plan.refusals[0]
            raise RefusedError(refusal.message, hint=refusal.hint, code=refusal.code)
        self._replicas.check(plan.actions)
        result = Result(plan, findings=list(plan.findings))
        try:
            self._restore(plan.actions, result)
            self._spare(plan)
            steps = [action for action in plan.actions if action.verb is not Verb.RESTORE]
            self._remove_links([action for action in steps if action.kind is not Kind.BLOB], result)
            self._remove_blobs([action for action in steps if action.kind is Kind.BLOB], result)
            if self._ledger.is_begun:
                self._last_look(result)
        except BaseException as error:
            error.add_note(self._what_was_done())
            raise
        result.run_id = self._ledger.run.id if self._ledger.is_begun else ""
        result.removed = {kind: (count, self._bytes[kind]) for kind, count in sorted(self._counts.items())}
        self._ledger.finish(
            {
                "finished_at": self._journal_time(),
                "removed": {kind: {"count": c, "bytes": b} for kind, (c, b) in result.removed.items()},
                "restored_count": result.restored_count,
            }
        )
        self._purge(result)
        self._state.commit()
        return result

    def _what_was_done(self) -> str:
        if not self._ledger.is_begun:
            return "nothing was removed"
        counts = ", ".join(f"{count} {kind.value}" for kind, count in sorted(self._counts.items())) or "nothing"
        return f"removed until then: {counts}; run {self._ledger.run.id} can be undone, or run again to go on"

    def _purge(self, result: Result) -> None:
        retention = self._options.quarantine_retention
        own = self._ledger.run.id
        also, spare = (own, "") if self._options.no_quarantine else ("", own)
        purged = purge_runs(
            self._registry, self._state, retention, self._now(), also=also, spare=spare, cancel=self._cancel
        )
        result.purged_bytes = purged.freed_bytes
        result.freed_bytes += purged.freed_bytes
        result.findings += purged.findings
        result.restored_count += purged.restored_count

    def _restore(self, actions: Iterable[Action], result: Result) -> None:
        """Put back what is needed again, blobs before the links that lead to them."""
        restores = [action for action in actions if action.verb is Verb.RESTORE]
        if not restores:
            return
        restores.sort(key=lambda action: action.kind is not Kind.BLOB)
        quarantined = Journal(self._driver).quarantined
        entries = []
        for action in restores:
            source = quarantined.get(action.key)
            if source is not None and put_back(self._driver, source, action.key, action.digest, action.kind):
                entries.append(entry_of(action, source, action.key, self._journal_time()))
                result.findings.append(finding("restored", action.key, action.reason))
        result.restored_count += len(entries)
        self._ledger.write(entries)

    def _spare(self, plan: Plan) -> None:
        """Note what is condemned and linked or needed: should that link go, by whomsoever, it is to wait anew."""
        actions = [Action(Verb.SPARE, Kind.BLOB, "", digest, "", 0, "") for digest in plan.spared]
        self._ledger.write(entry_of(action, action.key, "", self._journal_time()) for action in actions)

    def _remove_links(self, actions: list[Action], result: Result) -> None:
        """Remove everything but blobs, repository by repository, each looked at again."""
        self._progress.start("removing links and uploads", len(actions))
        by_repository = sorted(actions, key=lambda action: action.repository)
        for repository, group in groupby(by_repository, key=lambda action: action.repository):
            self._cancel.check()
            mine = sorted(group, key=lambda action: plan_order(action))
            if repository:
                mine = self._still_right(repository, mine, result)
            for batch in _batches(mine):
                self._remove_batch(batch, result)
            if mine and repository:
                self._state.forget_repository(repository)
        self._progress.finish()

    def _still_right(self, repository: str, actions: list[Action], result: Result) -> list[Action]:
        if self._planner is None:
            self.plan()
        if self._planner is None:
            return []
        right = self._planner.look_again(repository)
        still = [action for action in actions if action.kind is Kind.MULTIPART or action.identity in right]
        result.skipped_count += len(actions) - len(still)
        return still

    def _remove_blobs(self, actions: list[Action], result: Result) -> None:
        """Quarantine blobs that a second survey of the whole volume still finds unreferenced."""
        if not actions:
            return
        right = {action.identity for action in self._new_planner().plan(NoProgress()).actions}
        still = [action for action in actions if action.identity in right]
        result.skipped_count += len(actions) - len(still)
        self._progress.start("removing blobs", len(still))
        for batch in _batches(still):
            self._remove_batch(batch, result)
        self._progress.finish()

    def _remove_batch(self, batch: list[Action], result: Result) -> None:
        self._cancel.check()
        for action, outcome in self._remover.remove(batch, self._journal_time()):
            if outcome.failure:
                result.findings.append(finding("removal-failed", action.key, outcome.failure))
            elif action.verb is Verb.CONDEMN:
                result.condemned_count += 1
            elif outcome.is_done:
                self._counts[action.kind] += 1
                self._bytes[action.kind] += action.size
                result.freed_bytes += outcome.freed_bytes
            else:
                result.skipped_count += 1
            self._progress.advance()

    def _last_look(self, result: Result) -> None:
        """Survey once more after a pause: what a registry wrote meanwhile may need what was removed."""
        if not self._options.offline:
            self._cancel.wait(self._settle_seconds)
        self._restore(self._new_planner().plan(NoProgress()).actions, result)


def plan_order(action: Action) -> int:
    """Return the position of a step within its repository: revisions before the layers that only they need."""
    order = (
        Kind.TAG_LINK,
        Kind.REVISION_LINK,
        Kind.TAG_INDEX,
        Kind.LAYER_LINK,
        Kind.UPLOAD,
        Kind.MULTIPART,
        Kind.LEFTOVER,
        Kind.REPOSITORY,
    )
    return order.index(action.kind)


def _batches(actions: list[Action]) -> Iterator[list[Action]]:
    remaining = iter(actions)
    while batch := list(islice(remaining, BATCH_COUNT)):
        yield batch

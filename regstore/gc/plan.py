"""Deciding what a collection removes: pure over one survey of the volume and the journal of former runs.

Nothing here can change the volume. Every rule is stated in docs/what-is-live.md.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import Digest, format_digest
from regstore.gc.actions import Action, Kind, Plan, RepositorySummary, Summary, Verb
from regstore.gc.catalogue import finding
from regstore.gc.guards import check_harbor, check_markers, refusals_of
from regstore.gc.journal import Journal
from regstore.inventory.manifests import ManifestReader
from regstore.inventory.mark import Policy, signature_subject
from regstore.inventory.survey import Survey
from regstore.manifest import MAX_MANIFEST_BYTES, ManifestError, decode_manifest
from regstore.state import MARK, open_state
from regstore.work import Cancel, NoProgress
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

    from regstore.findings import Finding
    from regstore.gc.options import Options
    from regstore.inventory.mark import Marks
    from regstore.registry import Registry
    from regstore.registry.scan import Blobs, Repository, Volume
    from regstore.state import State
    from regstore.work import Progress

CACHE_GRACE_SECONDS = 7 * 86400.0
"""In a pull-through cache links younger than the registry's own time to live stay (registry/proxy, repositoryTTL)."""

_LARGEST_COUNT = 10
_LINKS = {Kind.LAYER_LINK, Kind.REVISION_LINK, Kind.TAG_LINK, Kind.TAG_INDEX}


def plan_collection(
    registry: Registry,
    options: Options,
    *,
    state: State | None = None,
    journal: Journal | None = None,
    now: float | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Plan:
    """Say what a collection would remove, and why. Changes nothing below the registry's root.

    Args:
        registry: what is surveyed.
        options: what may be removed.
        state: what is remembered between runs; by default that of the registry's location.
        journal: the former runs; by default read from the volume.
        now: the storage's time in seconds since the epoch; by default what the storage tells while it is read.
        progress, cancel: told and asked between items.

    Raises:
        RefusedError: the volume has another brain (Harbor, GitLab's database).
        DriverError, StorageFailedError: something could not be read for certain; nobody can say what is live.
        InterruptedRunError: the run was asked to stop.
    """
    check_markers(registry)
    own_state = state is None
    state = state or open_state(registry.location)
    try:
        planner = Planner(registry, options, state, journal or Journal(registry.driver), now, cancel or Cancel())
        plan = planner.plan(progress or NoProgress())
        check_harbor(options, plan.summary)
        return plan
    finally:
        if own_state:
            state.close()


class Planner:
    """One survey that ends in a plan; afterwards single repositories can be looked at again."""

    def __init__(
        self,
        registry: Registry,
        options: Options,
        state: State,
        journal: Journal,
        now: float | None,
        cancel: Cancel,
    ) -> None:
        self._registry = registry
        self._options = options
        self._state = state
        self._journal = journal
        self._now = now
        self._cancel = cancel
        self._volume: Volume = registry.open_volume(options.jobs)
        manifests = ManifestReader(self._volume, state)
        doubted = journal.quarantined_layer_links
        self._survey = Survey(self._volume, state, self._policy_of, manifests, cancel, doubted)
        self._is_cache = registry.has(layout.SCHEDULER_STATE)
        self._link_grace = max(options.grace, CACHE_GRACE_SECONDS) if self._is_cache else options.grace
        self._live = [bytearray() for _ in range(256)]
        self._live_others: dict[Digest, int] = {}
        self._held = [bytearray() for _ in range(256)]
        self._held_others: set[Digest] = set()
        self._foreign: set[Digest] = set()
        self._known_missing: set[Digest] = set()
        self._unlinked: set[Digest] = set()
        self._condemned = set(journal.condemned)
        self._spared: list[Digest] = []
        self._linked_quarantined: set[Digest] = set()
        self._freed: dict[Digest, int] = {}
        self._newest: dict[str, float | None] = {}
        self._summary = Summary()
        self._findings: list[Finding] = []
        self._strays: list[str] = []
        self._repositories: dict[str, RepositorySummary] = {}
        self._quarantined_blobs = journal.quarantined_blobs

    @property
    def now(self) -> float:
        """The storage's time, seconds since the epoch."""
        return self._volume.newest_seen if self._now is None else self._now

    def plan(self, progress: Progress) -> Plan:
        """Survey the volume and decide."""
        progress.start("blobs")
        blobs = self._volume.list_blobs(progress.advance)
        progress.finish()
        self._cancel.check()
        actions = self._multipart_actions()
        for repository, marks in self._survey.iter_repositories(progress):
            actions += self._take(repository, marks)
        progress.start("unreferenced blobs")
        actions += self._sweep(blobs, progress)
        progress.finish()
        self._volume.check_unchanged()
        self._note_strays(blobs)
        self._weigh_repositories(actions)
        actions.sort(key=lambda action: _ORDER[action.verb, action.kind])
        return Plan(
            self._registry.location,
            self._options,
            self.now,
            self._summary,
            actions,
            self._findings,
            self._spared,
            refusals_of(self._registry, self._options, self._summary, actions),
            self._registry.config.path if self._registry.config else None,
        )

    def look_again(self, repository: str) -> set[tuple[Verb, Kind, str, Digest | None, str]]:
        """Return the identities of the steps that are right for one repository as it is now."""
        return {action.identity for action in self._repository_actions(*self._survey.examine(repository))}

    def _policy_of(self, repository: Repository) -> Policy:
        options = self._options
        may_remove = options.may_remove_from(repository.name)
        self._newest.clear()  # the policy is asked for at the start of each look
        return Policy(
            keep_untagged=not (options.deletes_untagged and may_remove),
            is_young=self._is_young_link,
            is_restorable=self._journal.quarantined.__contains__,
            signatures_of=functools.partial(self._volume.read_signatures, repository.name),
            keep_signature_history=options.keep_signature_history,
            keep_orphan_signatures=not (options.delete_orphan_signatures and may_remove),
            sparse_is_normal=self._is_cache,
        )

    def _is_young_link(self, key: str) -> bool:
        limit = self._link_grace
        if "/_manifests/revisions/" in key:
            limit = max(limit, self._options.untagged_older_than or 0.0)
        newest = self._link_newest(key)
        return newest is None or self._age(newest) < limit

    def _link_newest(self, key: str) -> float | None:
        """Ask once a look at the repository."""
        if key not in self._newest:
            self._newest[key] = self._volume.link_newest(key)
        return self._newest[key]

    def _age(self, newest: float) -> float:
        return self.now - newest

    def _take(self, repository: Repository, marks: Marks) -> list[Action]:
        """Add one repository's marks to the whole, and return its steps."""
        self._cancel.check()
        summary = RepositorySummary(repository.name, len(repository.tags), len(repository.revisions))
        summary.is_frozen = marks.is_frozen
        self._repositories[repository.name] = summary
        self._summary.repository_count += 1
        self._summary.tag_count += summary.tag_count
        self._summary.signature_tag_count += sum(
            signature_subject(tag) not in (None, digest)
            for tag, digest in repository.tags.items()
            if tag.startswith("sha256-")
        )
        self._summary.revision_count += summary.revision_count
        self._strays += repository.strays
        for kind, subject, detail in marks.troubles:
            self._findings.append(finding(kind, subject, detail))
        self._note_signatures(repository, marks)
        if marks.is_frozen:
            self._known_missing.update(digest for digest, size in marks.live.items() if size < 0)
        self._known_missing |= marks.absent
        self._foreign |= marks.foreign
        live, pack = self._live, MARK.pack
        for digest, size in marks.live.items():
            if len(digest) == 32:
                live[digest[0]] += pack(digest, size)
            else:
                self._live_others[digest] = size
        actions = self._repository_actions(repository, marks)
        going = {
            action.digest
            for action in actions
            if action.kind is Kind.LAYER_LINK and action.verb is Verb.REMOVE and action.digest is not None
        }
        for digest in repository.layers - marks.needed.keys() - going:
            if self._link_newest(layout.LayerLink(repository.name, digest).key) is not None:
                self._hold(repository.aliases.get(digest, digest))
        self._unlinked.update(repository.aliases.get(digest, digest) for digest in going)
        self._condemned |= going
        self._unlinked.update(repository.revisions - marks.kept)
        if self._quarantined_blobs:
            self._linked_quarantined |= self._quarantined_blobs & (repository.layers | marks.live.keys())
        return actions

    def _hold(self, digest: Digest) -> None:
        if len(digest) == 32:
            self._held[digest[0]] += digest
        else:
            self._held_others.add(digest)

    def _note_signatures(self, repository: Repository, marks: Marks) -> None:
        for tag in marks.orphan_tags:
            self._findings.append(
                finding("signature-orphan", f"{repository.name}:{tag}", "the manifest that it is about is not here")
            )
        if self._options.deletes_untagged:
            for digest in sorted(marks.former_signatures):
                self._findings.append(
                    finding(
                        "signature-replaced",
                        f"{repository.name}@{format_digest(digest)}",
                        "no tag names this signature any more",
                    )
                )

    def _repository_actions(self, repository: Repository, marks: Marks) -> list[Action]:
        name = repository.name
        actions = [
            Action(
                Verb.RESTORE,
                Kind.LAYER_LINK if isinstance(link, layout.LayerLink) else Kind.REVISION_LINK,
                name,
                link.digest,
                "",
                0,
                "a kept manifest or tag needs the link that an earlier run removed",
            )
            for link in marks.restores
        ]
        if marks.is_frozen or not self._options.may_remove_from(name):
            return actions
        actions += self._revision_actions(repository, marks)
        actions += self._layer_actions(repository, marks)
        for upload in repository.uploads:
            if self._age(upload.newest) >= self._options.upload_age:
                reason = f"upload last written {_days(self._age(upload.newest))} ago"
                actions.append(Action(Verb.REMOVE, Kind.UPLOAD, name, None, upload.id, upload.size, reason))
        actions += self._leftover_actions(name, repository.leftovers)
        beside = [action.key for action in actions if action.verb is Verb.REMOVE and action.kind in _LINKS]
        actions += self._leftover_actions(name, self._volume.list_leftovers(beside))
        if self._options.empty_repositories and self._options.offline and self._becomes_empty(repository, actions):
            actions.append(Action(Verb.REMOVE, Kind.REPOSITORY, name, None, "", 0, "no tag, manifest, layer or upload"))
        return actions

    def _revision_actions(self, repository: Repository, marks: Marks) -> Iterator[Action]:
        name = repository.name
        going = repository.revisions - marks.kept
        for digest in going:
            reason = "untagged, and no kept index or subject needs it"
            yield Action(Verb.REMOVE, Kind.REVISION_LINK, name, digest, "", len(format_digest(digest)), reason)
            for signature in self._volume.read_signatures(name, digest):
                path = f"signatures/{layout.digest_path(signature)}/link"
                yield Action(
                    Verb.REMOVE, Kind.REVISION_LINK, name, digest, path, 71, "a signature of a removed revision"
                )
        if not self._options.delete_orphan_signatures:
            orphans: Iterable[str] = ()
        else:
            orphans = marks.orphan_tags
            for tag in orphans:
                digest = repository.tags[tag]
                reason = "a signature or referrers tag whose subject is gone"
                yield Action(Verb.REMOVE, Kind.TAG_LINK, name, None, tag, len(format_digest(digest)), reason)
        remaining = repository.revisions - going
        histories = {tag: [repository.tags[tag]] for tag in orphans} | repository.tag_indexes
        for tag, history in histories.items():
            for digest in history:
                stale = digest not in remaining and (tag in orphans or digest != repository.tags.get(tag))
                if stale and not self._is_young_link(layout.TagIndexLink(name, tag, digest).key):
                    size = len(format_digest(digest))
                    reason = "the manifest that the tag meant once is gone"
                    yield Action(Verb.REMOVE, Kind.TAG_INDEX, name, digest, tag, size, reason)

    def _layer_actions(self, repository: Repository, marks: Marks) -> Iterator[Action]:
        needed = marks.needed
        for digest in repository.layers - needed.keys() - marks.kept:
            canonical = repository.aliases.get(digest, digest)
            if not self._is_young_link(layout.LayerLink(repository.name, digest).key):
                size = len(format_digest(canonical))
                reason = "no kept manifest of the repository needs it"
                yield Action(Verb.REMOVE, Kind.LAYER_LINK, repository.name, digest, "", size, reason)

    def _leftover_actions(self, repository: str, leftovers: Iterable[tuple[str, int, float]]) -> Iterator[Action]:
        for key, size, newest in leftovers:
            if self._age(newest) >= self._options.grace:
                yield Action(Verb.REMOVE, Kind.LEFTOVER, repository, None, key, size, "a half-written temporary file")

    @staticmethod
    def _becomes_empty(repository: Repository, actions: list[Action]) -> bool:
        removed = Counter(action.kind for action in actions if action.verb is Verb.REMOVE)
        return (
            not repository.strays
            and not repository.damage
            and len(repository.layers) == removed[Kind.LAYER_LINK]
            and len(repository.revisions) <= removed[Kind.REVISION_LINK]
            and len(repository.tags) == removed[Kind.TAG_LINK]
            and len(repository.uploads) == removed[Kind.UPLOAD]
            and len(repository.leftovers) <= removed[Kind.LEFTOVER]
        )

    def _multipart_actions(self) -> list[Action]:
        actions = []
        for upload in self._volume.iter_multipart():
            spec = layout.parse_key(upload.key)
            if isinstance(spec, layout.UploadFile):
                limit, repository = self._options.upload_age, spec.repository
            elif isinstance(spec, layout.BlobData):
                limit, repository = self._options.grace, ""
            else:
                continue
            allowed = self._options.may_remove_from(repository) if repository else self._options.repository is None
            age = self._age(upload.initiated)
            if allowed and age >= limit:
                name = f"{upload.key} {upload.upload_id}"
                reason = f"multipart upload begun {_days(age)} ago"
                actions.append(Action(Verb.REMOVE, Kind.MULTIPART, repository, None, name, upload.size or 0, reason))
        return actions

    def _sweep(self, blobs: Blobs, progress: Progress) -> list[Action]:
        """Part the blobs into live, in grace and unreferenced, and decide on the last."""
        actions: list[Action] = []
        summary = self._summary
        summary.blob_count = blobs.count
        freed: dict[Digest, int] = {}
        for shard, digests in enumerate(blobs.iter_shards()):
            self._cancel.check()
            live: dict[Digest, int]
            held: Set[bytes]
            if shard < 256:
                live = dict(MARK.iter_unpack(self._live[shard]))
                packed = bytes(self._held[shard])
                held = {packed[i : i + 32] for i in range(0, len(packed), 32)}
                self._live[shard], self._held[shard] = bytearray(), bytearray()
            else:
                live, held = self._live_others, self._held_others
            self._spared += (self._condemned & live.keys()) | (self._condemned & held)
            present = live.keys() & digests
            sizes = [live[digest] for digest in present]
            summary.live_count += len(present)
            summary.live_bytes += sum(sizes)
            if sizes and min(sizes) < 0:
                unweighed = [digest for digest in present if live[digest] < 0]
                summary.live_bytes += len(unweighed) + sum(i.size for i in self._volume.iter_blob_info(unweighed))
            candidates = sorted(digests - present)
            live = {digest: live[digest] for digest in live.keys() - present}
            self._note_missing(live)
            actions += self._decide(candidates, held, freed)
            progress.advance(len(digests))
        summary.removable_bytes = sum(freed.values())
        self._freed = freed
        actions += self._restore_blobs()
        actions += self._leftover_actions("", blobs.leftovers) if self._options.repository is None else ()
        return actions

    def _decide(self, candidates: list[Digest], held: Set[bytes], freed: dict[Digest, int]) -> Iterator[Action]:
        summary, found = self._summary, set()
        beside: list[str] = []
        for digest, size, newest in self._volume.iter_blob_info(candidates):
            found.add(digest)
            if digest in held or self._age(newest) < self._options.grace:
                summary.grace_count += 1
                summary.grace_bytes += size
                continue
            summary.unreferenced_count += 1
            summary.unreferenced_bytes += size
            action = self._blob_action(digest, size)
            if action or digest in self._unlinked:
                freed[digest] = size
            if action:
                yield action
            if action and action.verb is Verb.REMOVE:
                beside.append(action.key)
        bare = [layout.BlobData(digest).key for digest in candidates if digest not in found]
        summary.blob_count -= len(bare)
        if self._options.repository is None:
            yield from self._leftover_actions("", self._volume.list_leftovers(bare + beside))

    def _blob_action(self, digest: Digest, size: int) -> Action | None:
        """Decide on one unreferenced blob that is old enough."""
        options, is_restricted = self._options, self._options.repository is not None
        if options.offline:
            if is_restricted and digest not in self._unlinked and not self._was_unlinked_in_scope(digest):
                return None
            return Action(Verb.REMOVE, Kind.BLOB, "", digest, "", size, "no manifest and no link needs it")
        if digest in self._unlinked:
            return None  # the removal of its last links condemns it
        since = self._journal.condemned.get(digest)
        if is_restricted and not self._was_unlinked_in_scope(digest):
            return None
        if self._is_manifest(digest, size):
            return None  # a running registry may remember that it exists: it goes offline only
        if since is None:
            return Action(Verb.CONDEMN, Kind.BLOB, "", digest, "", size, "no manifest and no link needs it")
        if self.now - since < options.grace:
            return None
        return Action(
            Verb.REMOVE, Kind.BLOB, "", digest, "", size, "condemned by an earlier run, and still unreferenced"
        )

    def _was_unlinked_in_scope(self, digest: Digest) -> bool:
        return any(map(self._options.may_remove_from, self._journal.unlinked_in.get(digest, ())))

    def _is_manifest(self, digest: Digest, size: int) -> bool:
        if size > MAX_MANIFEST_BYTES:
            return False
        try:
            data = self._volume.read_manifest(digest)
            decode_manifest(data)
        except NotFound:
            return True
        except ManifestError:
            return b'"schemaVersion"' in data
        return True

    def _note_missing(self, live: dict[Digest, int]) -> None:
        """What is live and was not listed: pushed since, in the quarantine, legitimately elsewhere, or lost."""
        missing = [Digest(digest) for digest in live if digest not in self._known_missing]
        if not missing:
            return
        there = {info.digest for info in self._volume.iter_blob_info(missing)}
        for digest in missing:
            if digest in there or digest in self._quarantined_blobs:
                continue
            if digest in self._foreign:
                self._summary_foreign(digest)
            else:
                detail = "a kept manifest needs these data, and they are not there"
                self._findings.append(finding("blob-missing", format_digest(digest), detail))

    def _summary_foreign(self, digest: Digest) -> None:
        self._findings.append(finding("foreign-absent", format_digest(digest), "its manifest says where it lies"))

    def _restore_blobs(self) -> list[Action]:
        """Quarantined blobs that a repository links or needs again, and whose data nobody pushed anew."""
        wanted = sorted(self._linked_quarantined)
        there = {info.digest for info in self._volume.iter_blob_info(wanted)}
        reason = "a link or kept manifest needs the data that an earlier run removed"
        return [Action(Verb.RESTORE, Kind.BLOB, "", d, "", 0, reason) for d in wanted if d not in there]

    def _weigh_repositories(self, actions: list[Action]) -> None:
        """Say what each repository gives back: the blobs that its removed links alone still named."""
        for action in actions:
            if action.verb is Verb.REMOVE and action.kind in (Kind.LAYER_LINK, Kind.REVISION_LINK) and not action.name:
                size = self._freed.get(action.digest) if action.digest is not None else None
                self._repositories[action.repository].reclaimable_bytes += size or 0
        self._summary.largest = heapq.nlargest(
            _LARGEST_COUNT,
            (summary for summary in self._repositories.values() if summary.reclaimable_bytes),
            key=lambda summary: summary.reclaimable_bytes,
        )

    def _note_strays(self, blobs: Blobs) -> None:
        strays = self._strays + self._volume.strays + blobs.strays
        if strays:
            examples = ", ".join(strays[:3])
            self._findings.append(finding("stray", layout.V2.rstrip("/"), f"{len(strays)} keys, such as {examples}"))


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"


_ORDER = {
    (verb, kind): position
    for position, (verb, kind) in enumerate(
        [(Verb.RESTORE, kind) for kind in Kind]
        + [
            (Verb.REMOVE, Kind.TAG_LINK),
            (Verb.REMOVE, Kind.REVISION_LINK),
            (Verb.REMOVE, Kind.TAG_INDEX),
            (Verb.REMOVE, Kind.LAYER_LINK),
            (Verb.REMOVE, Kind.UPLOAD),
            (Verb.REMOVE, Kind.MULTIPART),
            (Verb.REMOVE, Kind.LEFTOVER),
            (Verb.CONDEMN, Kind.BLOB),
            (Verb.REMOVE, Kind.BLOB),
            (Verb.REMOVE, Kind.REPOSITORY),
        ]
    )
}

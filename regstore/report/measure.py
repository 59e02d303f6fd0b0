"""One pass over a volume: what each repository has, keeps and names, packed for weighing."""

from __future__ import annotations

import functools
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regstore import layout
from regstore.gc.catalogue import finding
from regstore.gc.guards import check_markers
from regstore.gc.journal import Journal
from regstore.gc.plan import CACHE_GRACE_SECONDS
from regstore.inventory.manifests import ManifestReader
from regstore.inventory.mark import Policy, iter_root_marks, mark_repository, signature_tags
from regstore.inventory.survey import Survey
from regstore.report.reach import MANY_LAYERS, Reach
from regstore.report.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regstore.digest import Digest
    from regstore.findings import Finding
    from regstore.inventory.mark import Marks
    from regstore.registry import Registry
    from regstore.registry.scan import Blobs, Repository
    from regstore.report.options import Options
    from regstore.state import State
    from regstore.work import Cancel, Progress

OLD_TAG_SECONDS = 90 * 86400.0
STALE_SECONDS = 7 * 86400.0
"""Uploads of that age are what a collection removes by default."""
NO_ROOT = 0xFFFFFFFF
"""In place of a root's number: several roots of the repository keep the blob, or what keeps it is no tag's."""


@dataclass(slots=True)
class Seen:
    """What a pass saw of one repository, sizes of blobs aside. Times are seconds since the epoch.

    `history_count` counts what its tags meant before, `old_tag_count` tags pushed over 90 days ago,
    `stale_upload_count` uploads that nothing was added to for a week, and `tiny_tags` names tags of images with many
    layers, most of them tiny.
    """

    name: str
    tag_count: int
    revision_count: int
    history_count: int
    newest_push: float | None
    upload_bytes: int
    link_count: int
    name_count: int
    is_frozen: bool
    old_tag_count: int = 0
    stale_upload_count: int = 0
    tiny_tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Root:
    """A manifest that tags of one repository name."""

    repository: int
    digest: Digest
    tags: list[str]
    pushed: list[float | None]
    layer_count: int | None


@dataclass(slots=True)
class Measured:
    """What a pass collects. Numbers in records are indexes into `repositories` and `roots`.

    Attributes:
        repositories: in the order of their numbers.
        roots: tagged manifests, when tags are asked for.
        kept: digest, repository that keeps it, and how many of its tags reach it.
        live, live_in_grace: digests that a collection keeps without and with the grace period, where that is not
            simply what is in `kept`.
        loose, loose_in_grace: digest and newest time of layer links that nothing needs.
        dead: digest and repository that names it and does not keep it.
        tagged: digest and the one root that keeps it, for every repository that keeps it when untagged manifests go.
        reached: digest and root that reaches it.
        lost: for each rule the digests that a repository keeps no longer.
        rule_counts: for each rule how many tags go.
        excused: digests whose data may be absent.
        findings: what could not be weighed.
        signature_tag_count: tags that are about another manifest.
        is_marked: `live` and `live_in_grace` are filled.
    """

    repositories: list[Seen] = field(default_factory=list)
    roots: list[Root] = field(default_factory=list)
    kept: Records = field(default_factory=lambda: Records("II"))
    live: Records = field(default_factory=Records)
    live_in_grace: Records = field(default_factory=Records)
    loose: Records = field(default_factory=lambda: Records("d"))
    loose_in_grace: Records = field(default_factory=lambda: Records("d"))
    dead: Records = field(default_factory=lambda: Records("I"))
    tagged: Records = field(default_factory=lambda: Records("I"))
    reached: Records = field(default_factory=lambda: Records("I"))
    lost: list[Records] = field(default_factory=list)
    rule_counts: list[int] = field(default_factory=list)
    excused: set[Digest] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    signature_tag_count: int = 0
    is_marked: bool = False


class Pass:
    """Reads a volume once.

    Args:
        registry: what is read.
        options: what is asked for.
        state: what is remembered of it.
        wall: the time from which the ages of tags count, in seconds since the epoch.
        progress, cancel: told and asked between items.
    """

    def __init__(
        self,
        registry: Registry,
        options: Options,
        state: State,
        wall: float | None,
        progress: Progress,
        cancel: Cancel,
    ) -> None:
        if options.delete_untagged:
            check_markers(registry)
        self._options = options
        self._wall = time.time() if wall is None else wall
        self._progress = progress
        self._cancel = cancel
        self.volume = registry.open_volume(options.jobs, is_measuring=True)
        self._manifests = ManifestReader(self.volume, state)
        self._journal = Journal(registry.driver)
        self._is_cache = registry.has(layout.SCHEDULER_STATE)
        doubted = self._journal.quarantined_layer_links
        keeping = functools.partial(self._policy_of, keep_untagged=True, grace=0.0)
        self._survey = Survey(self.volume, state, keeping, self._manifests, cancel, doubted)
        self.measured = Measured(is_marked=options.delete_untagged)
        self.measured.lost = [Records() for _ in options.what_if]
        self.measured.rule_counts = [0] * len(options.what_if)
        self._newest: dict[str, float | None] = {}

    def run(self) -> Blobs:
        """Read everything; return the blobs, and leave the rest in `measured`."""
        self._progress.start("blobs")
        blobs = self.volume.list_blobs(self._progress.advance)
        self._progress.finish()
        for repository, marks in self._survey.iter_repositories(self._progress):
            self._cancel.check()
            self._take(repository, marks)
        self.measured.strays += [*self.volume.strays, *blobs.strays]
        self.measured.excused |= self._journal.quarantined_blobs
        return blobs

    def link_limit(self, grace: float) -> float:
        """Return how old, in seconds, a link has to be to go."""
        return max(grace, CACHE_GRACE_SECONDS) if self._is_cache else grace

    def _policy_of(self, repository: Repository, *, keep_untagged: bool, grace: float) -> Policy:
        self._newest.clear()
        limit = self.link_limit(grace)
        return Policy(
            keep_untagged=keep_untagged,
            is_young=lambda key: self._is_young(key, limit),
            is_restorable=self._journal.quarantined.__contains__,
            signatures_of=functools.partial(self.volume.read_signatures, repository.name),
            sparse_is_normal=self._is_cache,
        )

    def _is_young(self, key: str, limit: float) -> bool:
        newest = self._link_newest(key)
        return newest is None or self.volume.newest_seen - newest < limit

    def _link_newest(self, key: str) -> float | None:
        if key not in self._newest:
            self._newest[key] = self.volume.link_newest(key)
        return self._newest[key]

    def _take(self, repository: Repository, marks: Marks) -> None:
        measured, number = self.measured, len(self.measured.repositories)
        pushed = [at for tag, at in repository.pushed.items() if tag in repository.tags]
        measured.repositories.append(
            Seen(
                repository.name,
                len(repository.tags),
                len(repository.revisions),
                sum(len(history) - 1 for history in repository.tag_indexes.values()),
                max(pushed, default=None),
                sum(upload.data_size for upload in repository.uploads),
                repository.link_count,
                repository.name_count,
                marks.is_frozen,
                sum(self._wall - at > OLD_TAG_SECONDS for at in pushed),
                sum(self.volume.newest_seen - upload.newest >= STALE_SECONDS for upload in repository.uploads),
            )
        )
        measured.strays += repository.strays
        measured.findings += [finding(*trouble) for trouble in marks.troubles]
        measured.excused |= marks.foreign | marks.absent
        if marks.is_frozen:
            measured.excused.update(digest for digest, size in marks.live.items() if size < 0)
        measured.signature_tag_count += len(signature_tags(repository))
        reaching = self._count_reaching(repository, number)
        measured.kept.add((digest, number, reaching.get(digest, 0)) for digest in marks.live)
        named = self._loose_links(repository, marks)
        current = in_grace = marks
        base = marks
        if self._options.needs_tagged_marks:
            base = self._mark(repository, 0.0)
        if self._options.delete_untagged:
            current, in_grace = base, self._mark(repository, self._options.grace)
            measured.live.add((digest,) for digest in current.live)
            measured.live_in_grace.add((digest,) for digest in in_grace.live)
            named = self._loose_links(repository, current)
            measured.loose_in_grace.add(self._loose_links(repository, in_grace).items())
        else:
            measured.loose_in_grace.add(named.items())
        measured.loose.add(named.items())
        if not current.is_frozen:
            gone = repository.revisions.union(named) - current.live.keys()
            measured.dead.add((digest, number) for digest in gone)
        if self._options.with_tags or self._options.what_if:
            self._take_tagged(repository, base)

    def _mark(self, repository: Repository, grace: float) -> Marks:
        """Mark as a collection does that removes untagged manifests."""
        policy = self._policy_of(repository, keep_untagged=False, grace=grace)
        return mark_repository(repository, self._manifests, policy)

    def _loose_links(self, repository: Repository, marks: Marks) -> dict[Digest, float]:
        """Return the data that layer links name and that nothing needs here, with the newest time of the link."""
        found: dict[Digest, float] = {}
        for digest in repository.layers - marks.needed.keys():
            newest = self._link_newest(layout.LayerLink(repository.name, digest).key)
            if newest is not None:
                named = repository.aliases.get(digest, digest)
                found[named] = max(newest, found.get(named, newest))
        return found

    def _count_reaching(self, repository: Repository, number: int) -> Counter[Digest]:
        """Count how many tags reach each blob, and note the tagged manifests when tags are asked for."""
        by_digest: dict[Digest, list[str]] = {}
        for tag, digest in repository.tags.items():
            by_digest.setdefault(digest, []).append(tag)
        reaching: Counter[Digest] = Counter()
        if not by_digest:
            return reaching
        self._manifests.load_again(repository.name, repository.revisions.union(by_digest))
        pushed_at = repository.pushed
        reach = Reach(repository, self._manifests, is_sparse=self._is_cache)
        for digest, tags in by_digest.items():
            reached = reach.of(digest)
            if len(reached) > MANY_LAYERS and reach.is_crumbled(digest):
                self.measured.repositories[number].tiny_tags += tags
            for _ in tags:
                reaching.update(reached)
            if self._options.with_tags:
                root = len(self.measured.roots)
                pushed = [pushed_at.get(tag) for tag in tags]
                layer_count = len(reach.layers_of(digest)) if reach.is_image(digest) else None
                self.measured.roots.append(Root(number, digest, tags, pushed, layer_count))
                self.measured.reached.add((each, root) for each in reached)
        return reaching

    def _take_tagged(self, repository: Repository, base: Marks) -> None:
        """Note who keeps what when untagged manifests go, and what each rule would make this repository lose."""
        measured = self.measured
        keepers = dict.fromkeys(base.live, NO_ROOT)
        if self._options.with_tags:
            of = self._thawed_by_one if base.is_frozen else self._sole_keepers
            keepers.update(of(repository, base))
        # What a young link holds here is kept, whatever else goes.
        held = self._held(repository, base)
        keepers |= dict.fromkeys(held, NO_ROOT)
        measured.tagged.add(keepers.items())
        if not self._options.what_if:
            return
        signatures = signature_tags(repository)
        pushed = {tag: at for tag, at in repository.pushed.items() if tag in repository.tags and tag not in signatures}
        for position, rule in enumerate(self._options.what_if):
            going = rule.choose(repository.name, pushed, self._wall)
            measured.rule_counts[position] += len(going)
            if going:
                lost = keepers.keys() - self._kept_without(repository, going, base)
                measured.lost[position].add((digest,) for digest in lost)

    def _sole_keepers(self, repository: Repository, base: Marks) -> Iterator[tuple[Digest, int]]:
        """Yield the blobs that one tag of the repository alone keeps, with the number of its root."""
        signatures = signature_tags(repository)
        numbers = self._numbers_of_single_tags(signatures)
        subjects_gone = {repository.tags[tag] for tag in base.orphan_tags}
        tagged = {digest for tag, digest in repository.tags.items() if tag not in signatures}
        young = self._young_revisions(repository)
        keeper: dict[Digest, int] = {}
        policy = self._policy_of(repository, keep_untagged=False, grace=0.0)
        roots = tagged | subjects_gone | young
        for root_digest, marks in iter_root_marks(repository, self._manifests, policy, sorted(roots)):
            is_sole = root_digest in tagged and root_digest not in subjects_gone | young
            number = numbers.get(root_digest, NO_ROOT) if is_sole else NO_ROOT
            for digest in marks.live:
                keeper[digest] = NO_ROOT if digest in keeper else number
        yield from keeper.items()

    def _thawed_by_one(self, repository: Repository, base: Marks) -> Iterator[tuple[Digest, int]]:
        """Yield what a frozen repository would lose with the one tag, if there is such, that alone makes it frozen."""
        signatures = signature_tags(repository)
        if self._is_frozen_without(repository, set(repository.tags) - signatures.keys()):
            return
        tag = self._find_sole_offender(repository, sorted(repository.tags.keys() - signatures.keys()))
        number = self._numbers_of_single_tags(signatures).get(repository.tags[tag]) if tag else None
        if tag and number is not None:
            kept = self._kept_without(repository, {tag}, base)
            yield from ((digest, number) for digest in base.live.keys() - kept)

    def _find_sole_offender(self, repository: Repository, tags: list[str]) -> str | None:
        """Return the tag that alone makes the repository frozen, if there is just one among those, by halving them."""
        everything = set(tags)
        while len(tags) > 1:
            self._cancel.check()
            halves = tags[: len(tags) // 2], tags[len(tags) // 2 :]
            frozen = [half for half in halves if self._is_frozen_without(repository, everything - set(half))]
            if len(frozen) != 1:
                return None
            tags = frozen[0]
        return tags[0] if tags else None

    def _is_frozen_without(self, repository: Repository, going: set[str]) -> bool:
        return self._mark(_without_tags(repository, going), 0.0).is_frozen

    def _numbers_of_single_tags(self, signatures: Mapping[str, Digest]) -> dict[Digest, int]:
        """Return the roots of the repository at hand that one tag names, by digest."""
        numbers = {}
        for number in range(len(self.measured.roots) - 1, -1, -1):
            root = self.measured.roots[number]
            if root.repository != len(self.measured.repositories) - 1:
                break
            if len(root.tags) == 1 and root.tags[0] not in signatures:
                numbers[root.digest] = number
        return numbers

    def _young_revisions(self, repository: Repository) -> set[Digest]:
        """Return the manifests that are too young to go even without a grace period: those of a pull-through cache."""
        if not self._is_cache:
            return set()
        limit = self.link_limit(0.0)
        name = repository.name
        return {d for d in repository.revisions if self._is_young(layout.RevisionLink(name, d).key, limit)}

    def _held(self, repository: Repository, marks: Marks) -> set[Digest]:
        limit = self.link_limit(0.0)
        if not limit:
            return set()
        now = self.volume.newest_seen
        return {digest for digest, newest in self._loose_links(repository, marks).items() if now - newest < limit}

    def _kept_without(self, repository: Repository, going: set[str], base: Marks) -> set[Digest]:
        """Return what is kept once some tags are gone, and with them the signatures of what they alone kept."""
        left = _without_tags(repository, going)
        while True:
            marks = self._mark(left, 0.0)
            lost = base.kept - marks.kept
            widowed = {tag for tag, subject in signature_tags(left).items() if subject in lost}
            if not widowed or marks.is_frozen:
                return marks.live.keys() | self._held(left, marks)
            left = _without_tags(left, widowed)


def _without_tags(repository: Repository, going: set[str]) -> Repository:
    tags = {tag: digest for tag, digest in repository.tags.items() if tag not in going}
    histories = {tag: history for tag, history in repository.tag_indexes.items() if tag not in going}
    return replace(repository, tags=tags, tag_indexes=histories)

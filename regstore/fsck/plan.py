"""Deciding what a repair does: pure over one check, and over what the volume and the sources still hold.

A link is written only where the evidence leaves no choice: its path says what it holds, and a manifest or tag of the
repository needs it; or what it held can still be read out of it. Between two possibilities nothing is chosen: the newer
one is a proposal, for a person to accept.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import StorageFailedError
from regstore.fsck.structure import NoMemory
from regstore.hashing import is_whole
from regstore.inventory.manifests import TolerantReader, Trouble
from regstore.manifest import IS_MANIFEST, Kind
from regstore.registry.scan import expected_link, parse_link
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regstore.fsck.catalogue import CheckFinding
    from regstore.fsck.check import CheckResult
    from regstore.inventory.manifests import ManifestReader
    from regstore.inventory.mark import Marks
    from regstore.registry import Registry
    from regstore.registry.scan import Repository, Volume
    from regstore.transfer.fetching import Source
    from regstore_drivers.base import ReadDriver

_BAD_DATA = ("blob-corrupt", "manifest-corrupt", "blob-size")
_ABSENT_DATA = ("blob-missing", "manifest-missing")


class Verb(StrEnum):
    """What a step does."""

    WRITE = "write"
    """Write a link; what lay there goes to the quarantine."""
    QUARANTINE = "quarantine"
    """Move bad data away, so that a push or a fetch can store good ones."""
    FETCH = "fetch"
    """Fetch data from a source, verified before they take their place."""
    REMOVE = "remove"
    """Move what nothing needs to the quarantine."""


class Step(NamedTuple):
    """One step of a repair.

    Attributes:
        verb: what is done.
        key: to which object.
        digest: what its path or content names.
        repositories: which need it, sorted.
        content: what a written link is to hold.
        reason: why, in words.
    """

    verb: Verb
    key: str
    digest: Digest | None
    repositories: tuple[str, ...]
    content: bytes
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "action": self.verb.value,
            "key": self.key,
            "digest": format_digest(self.digest) if self.digest is not None else None,
            "repositories": list(self.repositories),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """What a repair may do.

    Attributes:
        accept_proposals: take proposals for steps.
        prune: remove leftovers and dangling links.
        grace: nothing younger than that many seconds is removed.
    """

    accept_proposals: bool = False
    prune: bool = False
    grace: float = 86400.0


@dataclass(slots=True)
class RepairPlan:
    """What a repair would do.

    Attributes:
        steps: in the order in which they are taken: data first, tags last.
        proposals: steps that the evidence suggests and does not determine; taken only when they are accepted.
        unobtainable: digests of missing or bad data that no source has.
    """

    steps: list[Step] = field(default_factory=list)
    proposals: list[Step] = field(default_factory=list)
    unobtainable: list[Digest] = field(default_factory=list)


def plan_repair(
    registry: Registry,
    result: CheckResult,
    options: RepairOptions,
    sources: Sequence[Source] = (),
) -> RepairPlan:
    """Say what a repair would do about what a check found. Changes nothing.

    Args:
        registry: where.
        result: what the check found.
        options: what may be done.
        sources: where data may be fetched from, in order.

    Raises:
        DriverError: the storage fails.
    """
    plan = _Planner(registry, result, options, sources).plan()
    if options.accept_proposals:
        plan.steps += plan.proposals
        plan.proposals = []
    plan.steps.sort(key=_order)
    return plan


def _order(step: Step) -> tuple[int, str]:
    verbs = [Verb.QUARANTINE, Verb.FETCH, Verb.WRITE, Verb.REMOVE]
    kinds = [layout.LayerLink, layout.RevisionLink, layout.TagIndexLink, layout.TagLink]
    spec = layout.parse_key(step.key)
    kind = next((i for i, kind in enumerate(kinds) if isinstance(spec, kind)), len(kinds))
    return verbs.index(step.verb) * 10 + kind, step.key


class _Planner:
    def __init__(
        self,
        registry: Registry,
        result: CheckResult,
        options: RepairOptions,
        sources: Sequence[Source],
    ) -> None:
        self._driver = registry.driver
        self._result = result
        self._options = options
        self._sources = sources
        self._volume: Volume = registry.open_volume()
        self._plan = RepairPlan()
        self._steps: dict[str, Step] = {}

    def plan(self) -> RepairPlan:
        self._plan_data()
        manifests = TolerantReader(self._volume, NoMemory())
        for repository, marks in self._result.damaged.values():
            manifests.load(repository.name, repository.revisions.union(repository.tags.values()))
            links = _LinkPlanner(self._driver, repository, marks, manifests, self._sources)
            for step, is_proposal in links.plan():
                if is_proposal:
                    self._plan.proposals.append(step)
                elif step.verb is Verb.FETCH and step.digest is not None:
                    self._plan_fetch(step.digest, step.repositories)
                else:
                    self._steps[step.key] = step
        for finding in self._result.findings:
            if finding.id == "tag-index-missing":
                self._plan_index_entry(finding)
        if self._options.prune:
            self._plan_pruning()
        self._plan.steps = list(self._steps.values())
        return self._plan

    def _plan_data(self) -> None:
        needed: dict[Digest, tuple[str, ...]] = {}
        for finding in self._result.findings:
            if finding.id in (*_BAD_DATA, *_ABSENT_DATA):
                digest = parse_digest(finding.subject.rpartition("@")[2])
                names = {image.rpartition(":")[0] for image in finding.images} | set(needed.get(digest, ()))
                repository = finding.subject.rpartition("@")[0]
                needed[digest] = tuple(sorted(names | ({repository} if repository else set())))
                if finding.id in _BAD_DATA and (finding.id != "blob-size" or self._is_bad(digest)):
                    key = layout.BlobData(digest).key
                    reason = "the data do not hash to their name"
                    self._steps[f"{key}!"] = Step(Verb.QUARANTINE, key, digest, needed[digest], b"", reason)
        for digest, names_of in needed.items():
            key = layout.BlobData(digest).key
            if f"{key}!" not in self._steps and self._is_there(key):
                continue
            self._plan_fetch(digest, names_of)

    def _plan_fetch(self, digest: Digest, repositories: tuple[str, ...]) -> None:
        name = self._source_of(digest, repositories)
        if name is not None:
            key = layout.BlobData(digest).key
            self._steps[key] = Step(Verb.FETCH, key, digest, repositories, b"", f"from {name}")
        elif digest not in self._plan.unobtainable:
            self._plan.unobtainable.append(digest)

    def _source_of(self, digest: Digest, repositories: tuple[str, ...]) -> str | None:
        """Return the first source that says it has the data; one that fails is asked again when they are fetched."""
        for source in self._sources:
            with suppress(DriverError, StorageFailedError):
                if source.find(digest, repositories):
                    return source.name
        return None

    def _is_bad(self, digest: Digest) -> bool:
        """Tell whether data are wrong: that a descriptor says another size may be the descriptor's fault."""
        try:
            return not is_whole(self._driver, layout.BlobData(digest).key, digest)
        except NotFound:
            return False

    def _is_there(self, key: str) -> bool:
        try:
            self._driver.stat(key)
        except NotFound:
            return False
        return True

    def _plan_index_entry(self, finding: CheckFinding) -> None:
        repository, _, tag = finding.subject.rpartition(":")
        digest = parse_digest(finding.evidence["digest"])
        link = layout.TagIndexLink(repository, tag, digest)
        reason = "the tag means it"
        self._steps[link.key] = Step(Verb.WRITE, link.key, digest, (repository,), expected_link(digest), reason)

    def _plan_pruning(self) -> None:
        """Remove what is old enough by the storage's clock: the newest time that it set on anything seen."""
        now = self._result.newest_seen
        candidates: list[tuple[Step, float]] = []
        for key, _, newest in self._result.leftovers:
            candidates.append((Step(Verb.REMOVE, key, None, (), b"", "a half-written temporary file"), newest))
        for finding in self._result.findings:
            spec = layout.parse_key(finding.subject)
            if finding.id != "link-dangling" or not isinstance(spec, layout.LayerLink):
                continue
            with suppress(NotFound):
                entry = self._driver.stat(spec.key)
                reason = "no manifest needs it, and its data are not there"
                step = Step(Verb.REMOVE, spec.key, spec.digest, (spec.repository,), b"", reason)
                candidates.append((step, entry.newest))
                now = max(now, entry.ctime or entry.mtime)
        for step, newest in candidates:
            if now - newest >= self._options.grace:
                self._steps[step.key] = step


class _LinkPlanner:
    """Plans the links of one damaged repository."""

    def __init__(
        self,
        driver: ReadDriver,
        repository: Repository,
        marks: Marks,
        manifests: ManifestReader,
        sources: Sequence[Source],
    ) -> None:
        self._driver = driver
        self._repository = repository
        self._marks = marks
        self._manifests = manifests
        self._sources = sources

    def plan(self) -> Iterator[tuple[Step, bool]]:
        """Yield steps, and of each whether it is only a proposal."""
        yield from ((step, False) for step in self._missing_layer_links())
        yield from ((step, False) for step in self._missing_revisions())
        yield from self._missing_children()
        for damage in self._repository.damage:
            yield from self._damaged_link(damage.kind, damage.key)

    def _missing_layer_links(self) -> Iterator[Step]:
        repository, marks = self._repository, self._marks
        for digest in sorted(marks.needed.keys() - repository.layers - marks.foreign):
            if self._has_data(digest):
                yield self._write(layout.LayerLink(repository.name, digest), digest, "a manifest needs it")

    def _missing_revisions(self) -> Iterator[Step]:
        repository = self._repository
        for tag, digest in sorted(repository.tags.items()):
            if digest not in repository.revisions and self._is_manifest(digest):
                yield self._write(layout.RevisionLink(repository.name, digest), digest, f"the tag {tag} means it")

    def _missing_children(self) -> Iterator[tuple[Step, bool]]:
        """Children of indexes. That an index names a manifest does not prove that it was ever pushed here."""
        repository = self._repository
        for index in sorted(self._marks.kept):
            record = self._manifests.get(index)
            if isinstance(record, Trouble) or record.kind not in (Kind.LIST, Kind.OCI_INDEX):
                continue
            for child, _, flags in record.iter_references():
                if not flags & IS_MANIFEST or child in repository.revisions:
                    continue
                reason = f"the index {format_digest(index)} names it"
                if not self._has_data(child):
                    key = layout.BlobData(child).key
                    yield Step(Verb.FETCH, key, child, (repository.name,), b"", reason), False
                elif self._is_manifest(child):
                    step = self._write(layout.RevisionLink(repository.name, child), child, reason)
                    yield step, not self._belongs_here(child)

    def _belongs_here(self, child: Digest) -> bool:
        """Tell whether a child was once a manifest of this repository: all its layers are linked here, or a source has
        it as one. Linking what was never pushed here would show it to the readers of this repository."""
        record = self._manifests.get(child)
        if isinstance(record, Trouble):
            return False
        references = [digest for digest, _, _ in record.iter_references()]
        is_index = record.kind in (Kind.LIST, Kind.OCI_INDEX)
        linked = self._repository.revisions if is_index else self._repository.layers
        if references and linked.issuperset(references):
            return True
        for source in self._sources:
            with suppress(DriverError, StorageFailedError):
                if source.has_manifest(child, self._repository.name):
                    return True
        return False

    def _damaged_link(self, kind: str, key: str) -> Iterator[tuple[Step, bool]]:
        repository, marks = self._repository, self._marks
        match layout.parse_key(key):
            case layout.LayerLink(digest=digest) as link if digest in marks.needed and len(digest) == 32:
                if self._has_data(digest):
                    yield self._write(link, digest, "its path says what it holds, and a manifest needs it"), False
            case layout.RevisionLink(digest=digest) as link if self._is_needed_manifest(digest):
                yield self._write(link, digest, "its path says what it holds, and a tag needs it"), False
            case layout.TagIndexLink(digest=digest) as link if digest in repository.revisions:
                yield self._write(link, digest, "its path says what it holds"), False
            case layout.TagLink(tag=tag) as link:
                yield from self._tag_link(link, tag, kind)

    def _is_needed_manifest(self, digest: Digest) -> bool:
        if not self._is_manifest(digest):
            return False
        return digest in self._repository.tags.values() or any(digest in children for children in self._children())

    def _children(self) -> Iterator[set[Digest]]:
        for index in self._marks.kept:
            record = self._manifests.get(index)
            if not isinstance(record, Trouble) and record.kind in (Kind.LIST, Kind.OCI_INDEX):
                yield {child for child, _, _ in record.iter_references()}

    def _tag_link(self, link: layout.TagLink, tag: str, kind: str) -> Iterator[tuple[Step, bool]]:
        held = None
        if kind == "link-malformed":
            try:
                held = parse_link(self._driver.read(link.key).strip())
            except NotFound:
                return
        if held is not None and self._is_manifest(held):
            yield self._write(link, held, "what it holds is a digest but for the blanks around it"), False
            return
        newest = self._newest_entry(tag)
        if newest is not None:
            reason = f"the newest entry of its index is {format_digest(newest)}"
            yield self._write(link, newest, reason), True

    def _newest_entry(self, tag: str) -> Digest | None:
        """Return the newest entry of a tag's index that is a manifest here; None between two of the same time."""
        name, revisions = self._repository.name, self._repository.revisions
        entries = [digest for digest in self._repository.tag_indexes.get(tag, ()) if digest in revisions]
        times = []
        for digest in entries:
            try:
                # Not the change time: a chown, or a restore, says nothing about what was pushed last.
                times.append((self._driver.stat(layout.TagIndexLink(name, tag, digest).key).mtime, digest))
            except NotFound:
                continue
        times.sort(reverse=True)
        if not times or (len(times) > 1 and times[0][0] == times[1][0]):
            return None
        return times[0][1] if self._is_manifest(times[0][1]) else None

    def _has_data(self, digest: Digest) -> bool:
        try:
            self._driver.stat(layout.BlobData(digest).key)
        except NotFound:
            return False
        return True

    def _is_manifest(self, digest: Digest) -> bool:
        """Tell whether the data of a manifest are there, right, and understood."""
        return not isinstance(self._manifests.get(digest), Trouble)

    def _write(self, link: layout.Link, digest: Digest, reason: str) -> Step:
        return Step(Verb.WRITE, link.key, digest, (self._repository.name,), expected_link(digest), reason)

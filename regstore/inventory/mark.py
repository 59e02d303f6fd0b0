"""Marking: which manifests of a repository are kept, and what they need.

Pure over one `Repository` and the records of its manifests. Marking is per repository, since the same index may be
whole in one and sparse in another. It fails closed: whatever cannot be believed freezes the repository, which then
keeps everything that it links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regstore.digest import Digest, format_digest, pack_digest
from regstore.inventory.manifests import ManifestReader, Trouble
from regstore.layout import LayerLink, RevisionLink, TagLink
from regstore.manifest import FOREIGN, IS_MANIFEST, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regstore.record import Record
    from regstore.registry.scan import Repository

_SIGNATURE_TAG = re.compile(r"sha256-([0-9a-f]{64})(\.[A-Za-z0-9]+)?")


@dataclass(frozen=True, slots=True)
class Policy:
    """Which manifests are roots beside the tagged ones.

    Attributes:
        keep_untagged: every revision is a root.
        is_young: whether a link (its key) is too young for what it names to go; asked only where nothing else keeps it.
        is_restorable: whether the quarantine has a link (its key) that is missing: then it is put back, and no damage.
        signatures_of: the detached schema1 signatures of a revision.
        keep_signature_history: what the index of a kept signature tag names is a root.
        keep_orphan_signatures: signature and fallback tags whose subject is gone are roots.
        sparse_is_normal: what a kept manifest or tag names may be missing (a pull-through cache, which fetches what is
            asked for, and whose own expiry removes manifests and layers one by one).
    """

    keep_untagged: bool = True
    is_young: Callable[[str], bool] = lambda _: True
    is_restorable: Callable[[str], bool] = lambda _: False
    signatures_of: Callable[[Digest], list[Digest]] = lambda _: []
    keep_signature_history: bool = False
    keep_orphan_signatures: bool = True
    sparse_is_normal: bool = False


@dataclass(slots=True)
class Marks:
    """What marking one repository found.

    Attributes:
        kept: manifests that stay.
        needed: digests that kept manifests name as config, layer, blob or plain child, with the size in bytes that they
            say (-1: nothing said); each needs a layer link here.
        live: digests of blob data that must stay, aliases resolved, with sizes; manifests are among them.
        foreign: needed digests whose absence is legitimate.
        absent: digests whose absence needs no other word than `troubles` has: children of indexes without a revision
            link here, and in a pull-through cache everything.
        troubles: (kind, subject, detail) of what cannot be believed, or is missing.
        restores: links that are missing here and that the quarantine has.
        is_frozen: everything this repository links is kept.
        orphan_tags: signature and fallback tags whose subject is gone; when they may go, only those old enough.
        former_signatures: untagged signatures that a kept signature tag named before.
    """

    kept: set[Digest] = field(default_factory=set)
    needed: dict[Digest, int] = field(default_factory=dict)
    live: dict[Digest, int] = field(default_factory=dict)
    foreign: set[Digest] = field(default_factory=set)
    absent: set[Digest] = field(default_factory=set)
    troubles: list[tuple[str, str, str]] = field(default_factory=list)
    restores: list[LayerLink | RevisionLink] = field(default_factory=list)
    is_frozen: bool = False
    orphan_tags: dict[str, Digest] = field(default_factory=dict)
    former_signatures: set[Digest] = field(default_factory=set)


def signature_subject(tag: str) -> Digest | None:
    """Return the digest that a cosign tag (`sha256-<hex>.sig`) or a referrers fallback tag (`sha256-<hex>`) is
    about."""
    match = _SIGNATURE_TAG.fullmatch(tag)
    return pack_digest("sha256", match[1]) if match else None


def mark_repository(repository: Repository, manifests: ManifestReader, policy: Policy) -> Marks:
    """Mark one repository. The manifests may be read on the way; storage failures raise."""
    return _Marker(repository, manifests, policy).mark()


def iter_root_marks(
    repository: Repository, manifests: ManifestReader, policy: Policy, roots: Iterable[Digest]
) -> Iterator[tuple[Digest, Marks]]:
    """Yield what each of some manifests keeps on its own: what it reaches, its referrers, and its signatures.

    What several keep together is the union. Not for a frozen repository, which keeps everything.
    """
    return _Marker(repository, manifests, policy).iter_roots(roots)


def signature_tags(repository: Repository) -> dict[str, Digest]:
    """Return the signature and fallback tags of a repository with the digests that they are about.

    A tag of that form that names its own digest (imgpkg makes such) is a tag like any other.
    """
    return {
        tag: subject
        for tag, digest in repository.tags.items()
        if (subject := signature_subject(tag)) and subject != digest
    }


class _Marker:
    def __init__(self, repository: Repository, manifests: ManifestReader, policy: Policy) -> None:
        self._repository = repository
        self._manifests = manifests
        self._policy = policy
        self._marks = Marks()
        self._referrers: dict[Digest, list[Digest]] = {}

    def mark(self) -> Marks:
        repository, policy, marks = self._repository, self._policy, self._marks
        self._manifests.load(repository.name, repository.revisions.union(repository.tags.values()))
        for damage in repository.damage:
            self._freeze(damage.kind, damage.key, damage.detail)
        self._find_referrers()
        signatures = signature_tags(repository)
        self._check_tags()
        self._walk(digest for tag, digest in repository.tags.items() if tag not in signatures)
        if policy.keep_untagged:
            self._walk(repository.revisions - {repository.tags[tag] for tag in signatures})
        self._walk_signatures(signatures)
        self._resolve_aliases()
        self._check_layer_links()
        if marks.is_frozen:
            self._keep_everything()
        return marks

    def iter_roots(self, roots: Iterable[Digest]) -> Iterator[tuple[Digest, Marks]]:
        repository = self._repository
        self._manifests.load(repository.name, repository.revisions.union(repository.tags.values()))
        self._find_referrers()
        about: dict[Digest, list[str]] = {}
        for tag, subject in signature_tags(repository).items():
            about.setdefault(subject, []).append(tag)
        for root in roots:
            self._marks = Marks()
            self._walk([root])
            seen: set[Digest] = set()
            while new := self._marks.kept - seen:
                seen |= new
                self._keep_signatures([tag for digest in new for tag in about.get(digest, ())])
            self._resolve_aliases()
            yield root, self._marks

    def _keep_everything(self) -> None:
        repository, live = self._repository, self._marks.live
        self._walk(repository.revisions)
        self._walk(repository.tags.values())
        for history in repository.tag_indexes.values():
            for digest in history:
                live.setdefault(digest, -1)
        self._resolve_aliases()
        for digest in repository.layers:
            live.setdefault(digest, -1)
            live.setdefault(repository.aliases.get(digest, digest), -1)

    def _check_layer_links(self) -> None:
        """A link that a kept manifest needs and that is missing: put back from the quarantine, or damage."""
        repository, marks = self._repository, self._marks
        if self._policy.sparse_is_normal:
            marks.absent.update(marks.needed)
        for digest in marks.needed.keys() - repository.layers - marks.foreign:
            link = LayerLink(repository.name, digest)
            if self._policy.is_restorable(link.key):
                marks.restores.append(link)
            elif not self._policy.sparse_is_normal:
                detail = f"a kept manifest needs {format_digest(digest)}, which has no layer link in this repository"
                self._freeze("layer-link-missing", link.key, detail)

    def _walk_signatures(self, signatures: dict[str, Digest]) -> None:
        """Keep the signatures of what is kept, then what is young, with its signatures; what is left are orphans."""
        repository, policy, marks = self._repository, self._policy, self._marks
        name = repository.name
        open_tags = dict(signatures)
        self._walk_signed(open_tags)
        self._walk([d for d in repository.revisions - marks.kept if policy.is_young(RevisionLink(name, d).key)])
        self._walk_signed(open_tags)
        staying = [tag for tag in open_tags if policy.keep_orphan_signatures or policy.is_young(TagLink(name, tag).key)]
        self._keep_signatures(staying)
        self._walk_signed(open_tags)
        going = open_tags.keys() - staying
        marks.orphan_tags = open_tags if policy.keep_orphan_signatures else {tag: signatures[tag] for tag in going}
        marks.former_signatures = {
            digest for tag in signatures.keys() - going for digest in self._former(tag) if digest not in marks.kept
        }

    def _walk_signed(self, open_tags: dict[str, Digest]) -> None:
        """Keep the signatures whose subject is kept, and those of signatures; take them out of `open_tags`."""
        while kept_now := [tag for tag, subject in open_tags.items() if subject in self._marks.kept]:
            for tag in kept_now:
                del open_tags[tag]
            self._keep_signatures(kept_now)

    def _keep_signatures(self, tags: list[str]) -> None:
        self._walk(self._repository.tags[tag] for tag in tags)
        if self._policy.keep_signature_history:
            self._walk(digest for tag in tags for digest in self._former(tag))

    def _former(self, tag: str) -> list[Digest]:
        """What a signature tag named, as far as it is a manifest here."""
        return [d for d in self._repository.tag_indexes.get(tag, ()) if d in self._repository.revisions]

    def _find_referrers(self) -> None:
        for digest in self._repository.revisions:
            record = self._manifests.get(digest)
            if isinstance(record, Trouble):
                self._freeze(record.kind, f"{self._repository.name}@{format_digest(digest)}", record.detail)
            elif record.subject is not None:
                self._referrers.setdefault(record.subject, []).append(digest)

    def _check_tags(self) -> None:
        for tag, digest in self._repository.tags.items():
            if digest in self._repository.revisions or self._restore_revision(digest):
                continue
            if self._policy.sparse_is_normal:
                self._marks.absent.add(digest)
            else:
                detail = f"the tag means {format_digest(digest)}, which has no revision link in this repository"
                self._freeze("revision-missing", f"{self._repository.name}:{tag}", detail)

    def _restore_revision(self, digest: Digest) -> bool:
        """Plan to put a revision link back, when the quarantine has it."""
        link = RevisionLink(self._repository.name, digest)
        if not self._policy.is_restorable(link.key):
            return False
        if link not in self._marks.restores:
            self._marks.restores.append(link)
        return True

    def _freeze(self, kind: str, subject: str, detail: str) -> None:
        self._marks.troubles.append((kind, subject, detail))
        self._marks.is_frozen = True

    def _walk(self, roots: Iterable[Digest]) -> None:
        """Keep some manifests with all that they reach: children, blobs, and the referrers of each."""
        kept, live, needed = self._marks.kept, self._marks.live, self._marks.needed
        pending = list(roots)
        while pending:
            digest = pending.pop()
            if digest in kept:
                continue
            kept.add(digest)
            pending += self._referrers.get(digest, ())
            record = self._manifests.get(digest)
            if isinstance(record, Trouble):
                live.setdefault(digest, -1)
                is_normal = self._policy.sparse_is_normal and record.kind == "manifest-missing"
                if digest not in self._repository.revisions and not is_normal:
                    self._freeze(record.kind, f"{self._repository.name}@{format_digest(digest)}", record.detail)
                continue
            live[digest] = record.size
            if record.kind is Kind.OCI_INDEX or record.kind is Kind.LIST:
                pending += self._children(digest, record)
                continue
            for referenced, size, flags in record.iter_references():
                needed[referenced] = size
                if flags & FOREIGN:
                    self._marks.foreign.add(referenced)
            if record.kind is Kind.SCHEMA1:
                for signature in self._policy.signatures_of(digest):
                    live[signature] = -1

    def _children(self, index: Digest, record: Record) -> list[Digest]:
        """Tell the children of an index that are manifests here; the others are plain blobs, as in a BuildKit cache."""
        repository, marks = self._repository, self._marks
        manifests: list[Digest] = []
        for digest, size, flags in record.iter_references():
            if digest in repository.revisions:
                manifests.append(digest)
            elif not flags & IS_MANIFEST:
                marks.needed[digest] = size
                if flags & FOREIGN:
                    marks.foreign.add(digest)
            else:
                marks.live.setdefault(digest, size)
                marks.absent.add(digest)
                if digest in repository.layers:
                    marks.needed[digest] = size
                self._missing_child(index, digest, manifests)
        return manifests

    def _missing_child(self, index: Digest, child: Digest, manifests: list[Digest]) -> None:
        """A child without a revision link. Its data, where another repository has them, still tell what it needs
        here."""
        if not self._restore_revision(child):
            if self._policy.sparse_is_normal:
                return  # another repository's data say nothing about what this one ever fetched
            subject = f"{self._repository.name}@{format_digest(index)}"
            detail = f"its child {format_digest(child)} has no revision link in this repository"
            self._freeze("child-missing", subject, detail)
        if not isinstance(self._manifests.get(child), Trouble):
            manifests.append(child)

    def _resolve_aliases(self) -> None:
        """Needed digests keep their blob; a link under another algorithm leads to the canonical one, link and blob."""
        repository, marks = self._repository, self._marks
        aliases = repository.aliases
        if aliases:
            for digest in [digest for digest in marks.needed if digest in aliases]:
                marks.needed.setdefault(aliases[digest], marks.needed[digest])
        live = marks.live
        for digest, size in marks.needed.items():
            if digest not in live:
                live[aliases.get(digest, digest)] = size

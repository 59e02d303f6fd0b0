"""What tags reach, and what they lack: whether an image can be pulled whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore.inventory.manifests import Trouble
from regstore.manifest import FOREIGN, IS_MANIFEST, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regstore.digest import Digest
    from regstore.inventory.manifests import ManifestReader
    from regstore.registry.scan import Repository

_NOT_LOST = ("manifest-unknown",)
"""Troubles with a manifest that is there, whole and served."""


class Lack(NamedTuple):
    """One thing that keeps an image from being whole.

    `kind` is `revision-missing`, `child-missing`, `layer-link-missing`, `blob-missing`, or that of a `Trouble`;
    `digest` what it is about.
    """

    kind: str
    digest: Digest


def find_lacks(
    repository: Repository,
    manifests: ManifestReader,
    has_data: Callable[[Digest], bool],
    *,
    sparse_is_normal: bool = False,
) -> dict[str, frozenset[Lack]]:
    """Return tag to what it lacks, for each tag that lacks something: links of its repository, or data.

    Referrers and signatures are no part of an image here: it can be pulled without them.

    Args:
        repository: what is linked.
        manifests: records, from wherever its manifests can be read; they are hashed there.
        has_data: tells whether the data of a digest are there.
        sparse_is_normal: whether what an image names may be absent, as in a pull-through cache.
    """
    if sparse_is_normal:
        return {}
    lacking = _Lacking(repository, manifests, has_data)
    return {tag: lacks for tag, digest in repository.tags.items() if (lacks := lacking.of_manifest(digest))}


class _Lacking:
    def __init__(self, repository: Repository, manifests: ManifestReader, has_data: Callable[[Digest], bool]) -> None:
        self._repository = repository
        self._manifests = manifests
        self._has_data = has_data
        self._memo: dict[Digest, frozenset[Lack]] = {}

    def of_manifest(self, digest: Digest, kind: str = "revision-missing") -> frozenset[Lack]:
        if digest not in self._repository.revisions:
            return frozenset((Lack(kind, digest),))
        if digest not in self._memo:
            self._memo[digest] = frozenset()  # no manifest reaches itself, unless somebody forged a hash
            self._memo[digest] = self._look_into(digest)
        return self._memo[digest]

    def _look_into(self, digest: Digest) -> frozenset[Lack]:
        record = self._manifests.get(digest)
        if isinstance(record, Trouble):
            return frozenset(() if record.kind in _NOT_LOST else (Lack(record.kind, digest),))
        if not self._has_data(digest):
            return frozenset((Lack("manifest-missing", digest),))
        is_index = record.kind in (Kind.LIST, Kind.OCI_INDEX)
        found: set[Lack] = set()
        for referenced, _, flags in record.iter_references():
            if is_index and (flags & IS_MANIFEST or referenced in self._repository.revisions):
                found |= self.of_manifest(referenced, "child-missing")
            elif not flags & FOREIGN:
                found |= self._of_blob(referenced)
        return frozenset(found)

    def _of_blob(self, digest: Digest) -> set[Lack]:
        if digest not in self._repository.layers:
            return {Lack("layer-link-missing", digest)}
        data = self._repository.aliases.get(digest, digest)
        return set() if self._has_data(data) else {Lack("blob-missing", data)}


def hurt_tags(repository: Repository, manifests: ManifestReader, bad: set[Digest]) -> Mapping[str, frozenset[Digest]]:
    """Return tag to the bad digests that it reaches, for each tag that reaches one."""
    memo: dict[Digest, frozenset[Digest]] = {}

    def reach(digest: Digest) -> frozenset[Digest]:
        if digest in memo:
            return memo[digest]
        memo[digest] = frozenset()  # no manifest reaches itself, unless somebody forged a hash
        found = {digest} & bad
        record = manifests.get(digest)
        if not isinstance(record, Trouble):
            for referenced, _, _ in record.iter_references():
                found |= {referenced, repository.aliases.get(referenced, referenced)} & bad
                if referenced in repository.revisions:
                    found |= reach(referenced)
        memo[digest] = frozenset(found)
        return memo[digest]

    # What a damaged tag meant is known where its index has one entry.
    damaged = {tag: history[0] for tag, history in repository.tag_indexes.items() if len(history) == 1}
    return {tag: digests for tag, digest in (damaged | repository.tags).items() if (digests := reach(digest))}

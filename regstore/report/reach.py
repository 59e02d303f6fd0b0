"""What a tag reaches: its manifest, the children of that, and what they name. Not what refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.inventory.manifests import Trouble
from regstore.manifest import IS_MANIFEST, ROLE_MASK, Kind, Role

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore.inventory.manifests import ManifestReader
    from regstore.registry.scan import Repository

MANY_LAYERS = 20
TINY_BYTES = 4096
_INDEXES = (Kind.OCI_INDEX, Kind.LIST)


class Reach:
    """The reach of the manifests of one repository.

    Args:
        repository: as it was seen.
        manifests: the records of its manifests, loaded.
        is_sparse: what an index names and this repository does not link is not here (a pull-through cache).
    """

    def __init__(self, repository: Repository, manifests: ManifestReader, *, is_sparse: bool = False) -> None:
        self._is_sparse = is_sparse
        self._repository = repository
        self._manifests = manifests

    def of(self, root: Digest) -> set[Digest]:
        """Return the digests of all data that a manifest reaches, itself among them, aliases resolved."""
        found = {root}
        aliases, revisions = self._repository.aliases, self._repository.revisions
        pending = [root]
        while pending:
            record = self._manifests.get(pending.pop())
            if isinstance(record, Trouble):
                continue
            if record.kind not in _INDEXES:
                named = [reference[0] for reference in record.iter_references()]
                found.update([aliases.get(digest, digest) for digest in named] if aliases else named)
                continue
            for digest, _, flags in record.iter_references():
                if digest in found:
                    continue
                found.add(aliases.get(digest, digest))
                if digest in revisions or (flags & IS_MANIFEST and not self._is_sparse):
                    pending.append(digest)
        return found

    def layers_of(self, manifest: Digest) -> list[Digest]:
        """Return the layers of an image, the lowest first; of an index what it names beside manifests, as a build cache
        does. Nothing of what cannot be read."""
        record = self._manifests.get(manifest)
        if isinstance(record, Trouble):
            return []
        references = record.iter_references()
        if record.kind in _INDEXES:
            revisions = self._repository.revisions
            return [digest for digest, _, flags in references if digest not in revisions and not flags & IS_MANIFEST]
        return [digest for digest, _, flags in references if flags & ROLE_MASK != Role.CONFIG]

    def first_image(self, manifest: Digest) -> Digest | None:
        """Return a manifest that is an image, or the first one of an index; None where there is none."""
        if self.is_image(manifest):
            return manifest
        record = self._manifests.get(manifest)
        references = () if isinstance(record, Trouble) else record.iter_references()
        return next((digest for digest, _, _ in references if digest in self._repository.revisions), None)

    def is_crumbled(self, manifest: Digest) -> bool:
        """Tell whether an image has many layers, most of them tiny, as far as it says their sizes."""
        record = self._manifests.get(manifest)
        if isinstance(record, Trouble) or record.kind in _INDEXES:
            return False
        sizes = [size for _, size, flags in record.iter_references() if flags & ROLE_MASK == Role.LAYER]
        return len(sizes) >= MANY_LAYERS and 2 * sum(0 <= size < TINY_BYTES for size in sizes) >= len(sizes)

    def is_image(self, manifest: Digest) -> bool:
        """Tell whether a manifest can be read and is no index."""
        record = self._manifests.get(manifest)
        return not isinstance(record, Trouble) and record.kind not in _INDEXES

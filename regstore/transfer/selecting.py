"""Parts of a repository, with exactly what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.inventory.mark import Policy, iter_root_marks, signature_tags
from regstore.transfer.contents import Contents

if TYPE_CHECKING:
    from collections.abc import Collection

    from regstore.digest import Digest
    from regstore.inventory.manifests import ManifestReader


def reduce_contents(
    contents: Contents, manifests: ManifestReader, tags: Collection[str], revisions: Collection[Digest] = ()
) -> Contents:
    """Return what some tags and manifests of a repository need, with referrers and signatures.

    Args:
        contents: its links.
        manifests: where its manifests are read.
        tags: those that are wanted.
        revisions: manifests that are wanted too, without a tag.
    """
    repository = contents.to_repository()
    roots = {contents.tags[tag].digest for tag in tags}.union(revisions)
    kept: set[Digest] = set()
    needed: set[Digest] = set()
    if roots:
        for _, marks in iter_root_marks(repository, manifests, Policy(), sorted(roots)):
            kept |= marks.kept
            needed |= marks.needed.keys()
    chosen = {tag for tag, subject in signature_tags(repository).items() if subject in kept}.union(tags)
    return Contents(
        contents.name,
        layers={path: held for path, held in contents.layers.items() if path in needed},
        revisions=[digest for digest in contents.revisions if digest in kept],
        signatures={revision: found for revision, found in contents.signatures.items() if revision in kept},
        tags={tag: contents.tags[tag] for tag in contents.tags if tag in chosen},
        indexes={tag: [contents.tags[tag].digest] for tag in contents.tags if tag in chosen},
    )

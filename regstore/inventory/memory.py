"""Marks that need not be made again: manifests are immutable, so the same set of them reaches the same blobs.

Only plain repositories are remembered: no damage, no alias, no signature tag, every manifest kept and linked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.inventory.mark import Marks, signature_subject
from regstore.state import MARK, Known

if TYPE_CHECKING:
    from regstore.registry.scan import Repository


def recall_marks(repository: Repository, known: Known) -> Marks | None:
    """Return the marks of a repository whose manifests are the remembered ones, when all are kept; else None."""
    if known.marks is None or repository.revisions != known.revisions or not _is_plain(repository):
        return None
    records = dict(MARK.iter_unpack(known.marks))
    needed = {digest: size for digest, size in records.items() if digest not in repository.revisions}
    if needed.keys() - repository.layers:
        return None
    return Marks(kept=set(repository.revisions), needed=needed, live=records)


def to_remember(repository: Repository, marks: Marks, known: Known | None) -> Known:
    """Return what a scan and its marks teach about a repository.

    Args:
        known: what was remembered before, when every manifest was kept; else None, and the marks are of another
            question.
    """
    remembered = Known(
        frozenset(repository.sound_layers), frozenset(repository.sound_revisions), repository.histories, None
    )
    if known is None:
        return remembered
    if known.marks is not None and repository.revisions == known.revisions:
        return remembered._replace(marks=known.marks)
    is_plain = (
        _is_plain(repository)
        and not (marks.troubles or marks.restores or marks.foreign or marks.absent)
        and marks.kept == repository.revisions
        and not (marks.needed.keys() & repository.revisions)
        and len(marks.live) == len(marks.kept) + len(marks.needed)
        and all(len(digest) == 32 for digest in marks.live)
    )
    if not is_plain:
        return remembered
    pack = MARK.pack
    return remembered._replace(marks=b"".join([pack(digest, size) for digest, size in marks.live.items()]))


def _is_plain(repository: Repository) -> bool:
    return (
        not repository.damage
        and not repository.aliases
        and repository.revisions.issuperset(repository.tags.values())
        and not any(tag.startswith("sha256-") and signature_subject(tag) for tag in repository.tags)
    )

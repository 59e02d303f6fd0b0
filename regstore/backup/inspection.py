"""Restored images, looked at on disk as a registry would before it serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import format_digest
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.reach import find_lacks
from regstore.state import NOTHING_KNOWN, State

if TYPE_CHECKING:
    from collections.abc import Collection

    from regstore.inventory.reach import Lack
    from regstore.registry import Registry
    from regstore.transfer import Contents

_OF_LINKS = ("child-missing", "layer-link-missing")


def find_problems(target: Registry, expected: Contents, tags: Collection[str]) -> dict[str, str]:
    """Return tag to what is wrong with it, for each restored tag that is not whole.

    What the snapshot does not link cannot be asked of the target: a pull-through cache lacks much that its images name.

    Args:
        target: what was restored to. The data were hashed when they were written.
        expected: the repository as the snapshot has it.
        tags: those that were restored.

    Raises:
        DriverError: the target cannot be read.
    """
    volume = target.open_volume(is_thorough=True)
    repository = volume.scan_repository(expected.name, NOTHING_KNOWN)
    manifests = TolerantReader(volume, State(None))
    manifests.load(expected.name, repository.revisions)
    lacks = find_lacks(repository, manifests, lambda digest: target.has(layout.BlobData(digest).key))
    known = {*expected.revisions, *expected.layers}
    problems = {}
    for tag in tags:
        if tag not in repository.tags:
            problems[tag] = "its tag is not there after the restore"
            continue
        missing: set[Lack] = {lack for lack in lacks.get(tag, ()) if lack.kind not in _OF_LINKS or lack.digest in known}
        if missing:
            problems[tag] = ", ".join(f"{lack.kind} {format_digest(lack.digest)}" for lack in sorted(missing))
    return problems

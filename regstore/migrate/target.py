"""The registry that is being made: what lies there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore import layout
from regstore.registry.scan import Repository
from regstore.state import NOTHING_KNOWN, Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regstore.digest import Digest
    from regstore.registry import Registry
    from regstore.registry.scan import Volume
    from regstore.state import State


def has_any(registry: Registry, prefix: str) -> bool:
    """Tell whether anything lies below a prefix, were it an empty directory."""
    return next(iter(registry.driver.list_dir(prefix)), None) is not None


class TargetReader:
    """One look at a target, which may be empty.

    Args:
        registry: where.
        jobs: requests at once on an object store.
        state: what is remembered of its links; None: all of them are read.
        tick: told how many more blobs were seen.

    Raises:
        DriverError: it cannot be read.
    """

    def __init__(self, registry: Registry, jobs: int, state: State | None, tick: Callable[[int], None]) -> None:
        self._state = state
        self._volume: Volume | None = None
        self.names: set[str] = set()
        self.blobs: set[Digest] = set()
        has_repositories, has_blobs = has_any(registry, layout.REPOSITORIES), has_any(registry, layout.BLOBS)
        if has_repositories or has_blobs:
            self._volume = registry.open_volume(jobs, is_copying=True, is_thorough=state is None)
        if self._volume and has_repositories:
            self.names = set(self._volume.list_repositories())
        if self._volume and has_blobs:
            for shard in self._volume.list_blobs(tick).iter_shards():
                self.blobs |= shard

    def repository(self, name: str) -> Repository:
        """Return the links of a repository; none where there is none."""
        if self._volume is None or name not in self.names:
            return Repository(name)
        known = self._state.known_repository(name) if self._state else NOTHING_KNOWN
        found = self._volume.scan_repository(name, known)
        if self._state:
            seen = Known(frozenset(found.sound_layers), frozenset(found.sound_revisions), found.histories)
            if seen != known:
                self._state.remember_repository(name, seen)
        return found

    def signatures_of(self, name: str) -> Callable[[Digest], list[Digest]]:
        """Return what tells the detached signatures of a revision of the repository that was read last."""
        volume = self._volume
        if volume is None or name not in self.names:
            return lambda _: []
        return lambda revision: volume.read_signatures(name, revision)

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return digest to bytes of the data that are there."""
        if self._volume is None:
            return {}
        return {found.digest: found.size for found in self._volume.iter_blob_sizes(sorted(digests))}

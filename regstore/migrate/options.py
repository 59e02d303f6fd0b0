"""What a migration takes along, and how it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from regstore_drivers.bulk import Attributes

if TYPE_CHECKING:
    from regstore.bandwidth import Bandwidth


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken along. By default every repository, with all that its tags and manifests need.

    Attributes:
        repositories: globs; `*` crosses slashes.
        tags: globs of tag names; only these tags, with what they need.
        since: only tags pushed since then, in seconds since the epoch.
        takes_all: unreferenced data, open uploads and half-written files go along.
    """

    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: float | None = None
    takes_all: bool = False

    @property
    def is_by_tag(self) -> bool:
        """Whether only some tags of a repository are wanted."""
        return bool(self.tags) or self.since is not None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was asked for in particular."""
        return not (self.repositories or self.is_by_tag)

    def has_repository(self, name: str) -> bool:
        """Tell whether a repository is wanted."""
        return not self.repositories or any(fnmatchcase(name, glob) for glob in self.repositories)

    def has_tag_name(self, tag: str) -> bool:
        """Tell whether a tag of that name may be wanted."""
        return not self.tags or any(fnmatchcase(tag, glob) for glob in self.tags)

    def has_tag(self, tag: str, pushed_ns: int) -> bool:
        """Tell whether a tag is wanted that was pushed then (nanoseconds since the epoch)."""
        return self.has_tag_name(tag) and (self.since is None or pushed_ns >= self.since * 1e9)


@dataclass(frozen=True, slots=True)
class MigrateOptions:
    """How a migration works.

    Attributes:
        selection: what is taken along.
        is_mirror: links at the target that the source no longer has are removed.
        max_delete_percent: the most of the target's tags that may go; None: no limit.
        jobs: blobs at once; None: as many as there are processors, or 16 where a request takes its time.
        bandwidth: bytes a second; None: no limit.
        reads_back: what was written is read again and hashed.
        attributes: owner and modes of what is written; where None those of the target's root.
    """

    selection: Selection = field(default_factory=Selection)
    is_mirror: bool = False
    max_delete_percent: float | None = 50.0
    jobs: int | None = None
    bandwidth: Bandwidth | None = None
    reads_back: bool = False
    attributes: Attributes = field(default_factory=Attributes)

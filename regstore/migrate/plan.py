"""What a migration would do, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regstore._version import __version__
from regstore.digest import format_digest
from regstore.outfile import write_lines
from regstore.transfer import COPIED_MIN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.digest import Digest
    from regstore.migrate.difference import Difference
    from regstore.migrate.probe import Estimate
    from regstore.transfer import ImageFinding
    from regstore_drivers.base import CopyFeatures, Entry, WriteFeatures

FORMAT = "regstore migration plan"
VERSION = 1

EMPTY, BLOBS_ONLY, FORMER_RUN = "empty", "blobs-only", "former-run"


@dataclass(slots=True)
class MigrationPlan:
    """What a migration would do.

    Attributes:
        source, target: locations without credentials.
        kind: what is at the target: `empty`, `blobs-only`, or `former-run`.
        differences: what is to be done in each repository in which anything is.
        blobs: digest to bytes of the data that are to be copied.
        present: the digests of data that are wanted and at the target.
        doubtful: those of them that have to be hashed before they count.
        needed: the digests of all data that are wanted, wherever they are.
        repository_count, tag_count, needed_bytes: of all that is wanted; bytes as far as they are known.
        target_tag_count: tags at the target.
        images: the images (`repository:tag`) that are wanted, where only some tags are; else None.
        loose: open uploads and half-written files that go along.
        findings: what is known so far.
        occupied: the digests of those that are to be copied of which something lies at the target already.
        features: what the target's server can; None for a file system.
        copies: what the target's server can copy by itself, where that was looked for.
        is_server_side: whether it copies the data from the source, without this host.
        copy_refusal: why it does not, where both ends are on it; else empty.
        estimate: how long it will take, where that was asked for.
    """

    source: str
    target: str
    kind: str
    differences: dict[str, Difference] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    present: set[Digest] = field(default_factory=set)
    doubtful: list[Digest] = field(default_factory=list)
    needed: set[Digest] = field(default_factory=set)
    repository_count: int = 0
    tag_count: int = 0
    target_tag_count: int = 0
    images: set[str] | None = None
    loose: list[Entry] = field(default_factory=list)
    findings: list[ImageFinding] = field(default_factory=list)
    occupied: set[Digest] = field(default_factory=set)
    features: WriteFeatures | None = None
    copies: CopyFeatures | None = None
    is_server_side: bool = False
    copy_refusal: str = ""
    estimate: Estimate | None = None

    @property
    def total_bytes(self) -> int:
        """The bytes of the data that are to be copied."""
        return sum(self.blobs.values())

    @property
    def copied_min_bytes(self) -> int:
        """Data with fewer bytes pass this host also where the server copies."""
        return 0 if self.copies and self.copies.has_checksums else COPIED_MIN_BYTES

    @property
    def link_count(self) -> int:
        """The links that are to be written."""
        return sum(difference.new_count for difference in self.differences.values())

    @property
    def new_tags(self) -> list[str]:
        """Images (`repository:tag`) that the target does not have."""
        return [
            f"{name}:{tag}"
            for name, difference in self.differences.items()
            for tag in difference.new.tags
            if tag not in difference.replaced
        ]

    @property
    def replaced(self) -> dict[str, tuple[Digest, Digest]]:
        """Image to the digest that it means at the target and the one at the source, where these differ."""
        return {
            f"{name}:{tag}": (old, difference.new.tags[tag].digest)
            for name, difference in self.differences.items()
            for tag, old in difference.replaced.items()
        }

    @property
    def gone_tags(self) -> dict[str, Digest]:
        """Image to the digest that it means at the target, where the source has no such tag."""
        return {
            f"{name}:{tag}": digest
            for name, difference in self.differences.items()
            for tag, digest in difference.gone_tags.items()
        }

    def iter_lines(self) -> Iterator[str]:
        """Yield the lines of the plan file: a head, then one object for each blob and each tag."""
        yield _line(
            format=FORMAT,
            version=VERSION,
            tool_version=__version__,
            source=self.source,
            target=self.target,
            target_kind=self.kind,
            blob_count=len(self.blobs),
            total_bytes=self.total_bytes,
            link_count=self.link_count,
            estimated_seconds=self.estimate.seconds if self.estimate else None,
        )
        for digest in sorted(self.blobs):
            yield _line(action="copy-blob", digest=format_digest(digest), size_bytes=self.blobs[digest])
        for image in sorted(self.new_tags):
            yield _line(action="write-tag", image=image)
        for image, (old, new) in sorted(self.replaced.items()):
            yield _line(action="move-tag", image=image, old=format_digest(old), new=format_digest(new))
        for image, digest in sorted(self.gone_tags.items()):
            yield _line(action="tag-gone", image=image, digest=format_digest(digest))


def _line(**fields: Any) -> str:
    return json.dumps(fields) + "\n"


def write_plan(plan: MigrationPlan, path: str) -> None:
    """Write a plan file (JSON Lines).

    Raises:
        UsageError: it cannot be written there.
    """
    write_lines(path, plan.iter_lines(), "plan")

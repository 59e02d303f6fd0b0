"""The options of a capacity report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.gc.options import DAY

if TYPE_CHECKING:
    from regstore.report.whatif import Rule


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. None of it changes what is measured beside its own numbers.

    Attributes:
        grace: the grace period, in seconds, that parts *unreferenced* from *grace*.
        delete_untagged: live, unreferenced and reclaimable are those of a collection that removes untagged manifests.
        what_if: rules that are each asked alone.
        with_tags: a row for every tag.
        jobs: requests at once on an object store.
    """

    grace: float = DAY
    delete_untagged: bool = False
    what_if: tuple[Rule, ...] = ()
    with_tags: bool = False
    jobs: int = 16

    @property
    def needs_tagged_marks(self) -> bool:
        """Whether it matters what is kept when untagged manifests go."""
        return self.delete_untagged or self.with_tags or bool(self.what_if)

"""Whether a file system has room for what is to be copied to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.errors import RefusedError
from regstore.wording import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore_drivers.base import Capacity

BLOCK_BYTES = 4096


def block_bytes(sizes: Iterable[int]) -> int:
    """Return what files of these sizes in bytes take, in whole blocks."""
    return sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)


def check_room(capacity: Capacity, needed_bytes: int, inodes: int, place: str, hint: str) -> None:
    """Refuse what there is no room for.

    Args:
        capacity: of the file system.
        needed_bytes, inodes: what the copy takes.
        place: its name, for the error.
        hint: what to do then.

    Raises:
        RefusedError: there are too few bytes or inodes (`no-space`).
    """
    free = capacity.free_bytes
    if free is not None and needed_bytes > free:
        reason = f"{human_bytes(needed_bytes)} are to be copied, and {place} has {human_bytes(free)} left"
        raise RefusedError(reason, hint=hint, code="no-space")
    # A file system that makes inodes as they are needed tells 0.
    if capacity.total_inodes and capacity.free_inodes is not None and inodes > capacity.free_inodes:
        raise RefusedError(
            f"about {inodes} inodes are needed, and {place} has {capacity.free_inodes} left",
            hint=f"{hint}; or one that was made with more inodes (mkfs.ext4 -i 4096)",
            code="no-space",
        )

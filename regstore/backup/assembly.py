"""A snapshot, made of a registry that was read."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

from regstore._version import __version__
from regstore.backup.catalogue import BackupFinding
from regstore.backup.snapshot import Head, Snapshot, encode_blobs
from regstore.findings import is_clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regstore.digest import Digest
    from regstore.transfer import Damage, Source


def assemble_snapshot(
    source: Source,
    sequence: int,
    blobs: Mapping[Digest, int],
    new: tuple[int, int],
    damage: Damage,
    *,
    identity: str = "",
) -> Snapshot:
    """Make a snapshot of a registry that was read.

    Args:
        source: what was read.
        sequence: its number in the store.
        blobs: digest to bytes of the data that the store has for it.
        new: how many of them, with how many bytes, this run stored.
        damage: of the source. What is wrong with other snapshots or packs of the store does not make this one
            incomplete.
        identity: its id; empty: a new one.
    """
    counts = source.counts
    head = Head(
        identity or secrets.token_hex(4),
        sequence,
        source.taken_at,
        source.location,
        is_clean(damage.findings),
        counts.repository_count,
        counts.tag_count,
        counts.revision_count,
        counts.layer_link_count,
        len(blobs),
        sum(blobs.values()),
        *new,
        source.attributes(),
        sorted(damage.broken),
        [BackupFinding.of_source(found).to_json() for found in damage.findings],
        __version__,
        socket.gethostname(),
    )
    return Snapshot(head, source.lines, encode_blobs(blobs))

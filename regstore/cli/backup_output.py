"""How snapshots are shown in documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.cli.output import json_time

if TYPE_CHECKING:
    from regstore.backup import Head


def snapshot_json(head: Head) -> dict[str, object]:
    """Return a snapshot's form in documents."""
    return {
        "id": head.id,
        "created_at": json_time(head.created_at),
        "source": head.source,
        "complete": head.is_complete,
        "tags": head.tag_count,
        "bytes": head.total_bytes,
        "repositories": head.repository_count,
        "manifests": head.revision_count,
        "blobs": head.blob_count,
        "new_blobs": head.new_blob_count,
        "new_bytes": head.new_bytes,
        "broken": head.broken,
        "host": head.host,
    }

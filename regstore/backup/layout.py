"""Where things lie in a store.

    format.json                            what this is; written once
    blobs/sha256/ab/<hex>                  data as they are in the registry, above 64 KiB
    packs/ab/<hex>.tar.zst                 small data, many together
    snapshots/<sequence>-<utc>-<id>.jsonl.zst
    condemned.json.zst                     what no snapshot needs, and since when that is known
    lock                                   who writes now

Blobs, packs and snapshots are written once and never changed.
"""

from __future__ import annotations

import re

from regstore.digest import Digest, pack_digest, split_digest

FORMAT = "format.json"
BLOBS = "blobs/"
PACKS = "packs/"
SNAPSHOTS = "snapshots/"
CONDEMNED = "condemned.json.zst"
LOCK = "lock"
PACK_SUFFIX = ".tar.zst"
SNAPSHOT_SUFFIX = ".jsonl.zst"
_SNAPSHOT_NAME = re.compile(r"[0-9]{8,}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


def blob_key(digest: Digest) -> str:
    """Return where the data of a digest lie when they are not packed."""
    algorithm, digits = split_digest(digest)
    return f"{BLOBS}{algorithm}/{digits[:2]}/{digits}"


def parse_blob_key(key: str) -> Digest | None:
    """Return the digest that a key names; None when it is no blob."""
    parts = key.removeprefix(BLOBS).split("/")
    if not key.startswith(BLOBS) or len(parts) != 3 or parts[1] != parts[2][:2]:
        return None
    try:
        return pack_digest(parts[0], parts[2])
    except ValueError:
        return None


def pack_key(name: str) -> str:
    """Return where the pack of a name lies."""
    return f"{PACKS}{name[:2]}/{name}{PACK_SUFFIX}"


def parse_pack_key(key: str) -> str | None:
    """Return the name of a pack; None when the key is no pack."""
    name = key.rpartition("/")[2].removesuffix(PACK_SUFFIX)
    return name if len(name) == 64 and key == pack_key(name) else None


def snapshot_key(name: str) -> str:
    """Return where the snapshot of a name lies."""
    return f"{SNAPSHOTS}{name}{SNAPSHOT_SUFFIX}"


def is_snapshot_name(name: str) -> bool:
    """Tell whether a name is one of a snapshot."""
    return _SNAPSHOT_NAME.fullmatch(name) is not None


def parse_snapshot_key(key: str) -> str | None:
    """Return the name of a snapshot; None when the key is none."""
    name = key.removeprefix(SNAPSHOTS).removesuffix(SNAPSHOT_SUFFIX)
    return name if key == snapshot_key(name) and is_snapshot_name(name) else None

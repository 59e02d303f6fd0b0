"""Hashing stored objects."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regstore.digest import split_digest

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore_drivers.base import ReadDriver

_PIECE_BYTES = 1024 * 1024


def is_whole(driver: ReadDriver, key: str, digest: Digest) -> bool:
    """Tell whether the object hashes to the digest, reading it all.

    Raises:
        NotFound: it is not there.
        DriverError: it cannot be read.
    """
    algorithm, digits = split_digest(digest)
    hasher = hashlib.new(algorithm)
    with driver.open(key) as stream:
        while piece := stream.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest() == digits

"""Digests as packed bytes.

A SHA-256 digest, the registry's canonical one, is its 32 raw bytes. A digest of another algorithm is its text
(`sha512:<hex>`) in ASCII, which is never 32 bytes long, so that one set or dict holds both.
Grammar: opencontainers/image-spec descriptor.md; the algorithms are those of opencontainers/go-digest.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

Digest = NewType("Digest", bytes)

HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""The hexadecimal digits of a digest by algorithm; any other algorithm is unknown to registries."""

LINK_LENGTH = 71
"""The bytes of a link that holds a SHA-256 digest: `sha256:` and 64 digits, no newline."""

_NOT_LOWER_HEX = re.compile(r"[^0-9a-f]")
_SHA256_LENGTH = 32


def parse_digest(text: str) -> Digest:
    """Parse `alg:hex` strictly: nothing is trimmed, upper case is wrong.

    Raises:
        ValueError: it is no digest of a known algorithm.
    """
    algorithm, separator, digits = text.partition(":")
    if not separator:
        raise ValueError(f"{text[:80]!r} is not a digest")
    return pack_digest(algorithm, digits)


def parse_digests(texts: Sequence[str]) -> tuple[Digest, ...]:
    """Parse many at once: SHA-256 digests, the usual case, cost a fraction of `parse_digest` each.

    Raises:
        ValueError: one of them is none.
    """
    lead, *digits = "".join(texts).split("sha256:")
    # Texts of 71 characters that are 64 after each "sha256:", from the first on: every one begins where it should.
    if not lead and not set(map(len, texts)) - {LINK_LENGTH} and not set(map(len, digits)) - {64}:
        packed = pack_sha256("".join(digits))
        if packed is not None:
            return cast("tuple[Digest, ...]", tuple([packed[i : i + 32] for i in range(0, len(packed), 32)]))
    return tuple(map(parse_digest, texts))


def pack_sha256(digits: str) -> bytes | None:
    """Pack lower-case hexadecimal digits, of one digest or of many on end; None when something else is among them."""
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return None
    # fromhex takes upper case and blanks, the way back gives neither.
    return packed if packed.hex() == digits else None


def pack_digest(algorithm: str, digits: str) -> Digest:
    """Pack an algorithm and its lower-case hexadecimal digits.

    Raises:
        ValueError: unknown algorithm, wrong length, or other than lower-case hexadecimal digits.
    """
    length = HEX_LENGTHS.get(algorithm)
    if length is None:
        raise ValueError(f"{algorithm[:20]!r} is not a digest algorithm of registries")
    if len(digits) != length or _NOT_LOWER_HEX.search(digits):
        raise ValueError(f"{digits[:140]!r} is not {length} lower-case hexadecimal digits")
    if algorithm == "sha256":
        return Digest(bytes.fromhex(digits))
    return Digest(f"{algorithm}:{digits}".encode())


def split_digest(digest: Digest) -> tuple[str, str]:
    """Return the algorithm and the hexadecimal digits."""
    if len(digest) == _SHA256_LENGTH:
        return "sha256", digest.hex()
    algorithm, _, digits = digest.decode().partition(":")
    return algorithm, digits


def format_digest(digest: Digest) -> str:
    """Return the text form, `alg:hex`."""
    return f"sha256:{digest.hex()}" if len(digest) == _SHA256_LENGTH else digest.decode()


def is_digest_of(digest: Digest, data: bytes) -> bool:
    """Tell whether the bytes hash to the digest."""
    if len(digest) == _SHA256_LENGTH:
        return hashlib.sha256(data).digest() == digest
    algorithm, digits = split_digest(digest)
    return hashlib.new(algorithm, data).hexdigest() == digits

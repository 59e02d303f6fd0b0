"""Names of ciphers, as headers and as the kernel write them."""

from __future__ import annotations

import re

# The kernel's cipher API names what dm-crypt calls CIPHER-MODE-IV: `capi:authenc(hmac(sha256),xts(aes))-plain64`.
_CAPI = re.compile(r"capi:(?:authenc\(.+,)?([a-z0-9_]+)\(([a-z0-9_]+)\)\)?-([a-z0-9:]+)")


def plain_cipher(name: str) -> str:
    """Return a cipher as headers write it, `aes-xts-plain64`; empty for a form that is not understood."""
    if not name.startswith("capi:"):
        return name
    match = _CAPI.fullmatch(name)
    return f"{match[2]}-{match[1]}-{match[3]}" if match else ""


def is_null(name: str) -> bool:
    """Tell whether that cipher encrypts nothing; `null` is an alias."""
    return "cipher_null" in name or name.partition("-")[0] == "null"

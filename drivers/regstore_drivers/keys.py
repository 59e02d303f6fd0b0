"""What makes a key valid, and the order of keys: byte order of their UTF-8 form.

Names that are no UTF-8 (a file system may hold such) travel as `os.fsdecode` gives them, with lone surrogates.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from regstore_drivers.errors import InvalidKey

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_key(key: str, operation: str, location: str) -> None:
    """Refuse what is no key.

    Raises:
        InvalidKey: it is empty, absolute, ends with `/`, has an empty, `.` or `..` component, a NUL, or cannot be
            encoded.
    """
    # Nearly every key passes this line; only one with a dot in front of a name, or beyond ASCII, is taken apart.
    if key and key[0] not in "/." and key[-1] != "/" and "/." not in key and "//" not in key and key.isascii():
        if "\0" in key:
            raise InvalidKey("the key has a NUL", operation=operation, key=key, location=location)
        return
    if not key:
        raise InvalidKey("the key is empty", operation=operation, location=location)
    _check_components(key.split("/"), key, operation, location)


def check_prefix(prefix: str, operation: str, location: str) -> None:
    """Refuse what cannot be the start of a key; its last component may be the start of a name.

    Raises:
        InvalidKey: it is absolute, has an empty, `.` or `..` component before its last `/`, a NUL, or cannot be
            encoded.
    """
    if prefix:
        directory, slash, rest = prefix.rpartition("/")
        _check_components(directory.split("/") if slash else [], prefix, operation, location)
        if "\0" in rest:
            raise InvalidKey("the prefix has a NUL", operation=operation, key=prefix, location=location)


def sort_key(name: str) -> bytes:
    """Return the bytes by which a key or name sorts."""
    return name.encode("utf-8", "surrogateescape")


def in_byte_order(names: Iterable[str]) -> list[str]:
    """Sort names by their bytes."""
    ordered = list(names)
    # The order of code points is that of UTF-8 bytes except for the lone surrogates that stand for single bytes.
    if all(map(str.isascii, ordered)):
        ordered.sort()
    else:
        ordered.sort(key=sort_key)
    return ordered


def _check_components(components: list[str], key: str, operation: str, location: str) -> None:
    for component in components:
        if component in ("", ".", ".."):
            reason = f"a component is {component!r}"
        elif "\0" in component:
            reason = "it has a NUL"
        else:
            continue
        raise InvalidKey(reason, operation=operation, key=key, location=location)
    try:
        os.fsencode(key)
    except UnicodeEncodeError as error:
        reason = f"it cannot be encoded ({error.reason})"
        raise InvalidKey(reason, operation=operation, key=key, location=location) from error

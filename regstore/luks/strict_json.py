"""JSON as LUKS2 uses it: bounded, and nothing that two readers could take for different things."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

# Headers have at most some thousand values (32 slots of twenty each, and as many tokens).
_MAX_SEPARATORS = 100_000
_MAX_UINT64 = 2**64 - 1
_DECIMAL = re.compile(r"[0-9]{1,40}", re.ASCII)


class JsonError(ValueError):
    """The text is not what a LUKS2 header may hold."""


def parse_json(text: bytes) -> Any:
    """Parse.

    Raises:
        JsonError: no JSON, a key twice, a number that is no whole decimal below 2^64, or far too many values.
    """
    if sum(text.count(mark) for mark in (b",", b":", b"[", b"{")) > _MAX_SEPARATORS:
        raise JsonError("it holds more values than any header")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
            parse_int=parse_uint64,
        )
    except UnicodeDecodeError as error:
        raise JsonError("it is not UTF-8") from error
    except RecursionError as error:
        raise JsonError("it is nested too deep") from error
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"it is no JSON: {error}") from error


def parse_uint64(text: str) -> int:
    """Return the value of ASCII digits.

    Raises:
        JsonError: another notation, or 2^64 or more.
    """
    if not _DECIMAL.fullmatch(text):
        raise JsonError(f"{text[:40]!r} is not a whole decimal number")
    value = int(text)
    if value > _MAX_UINT64:
        raise JsonError(f"{text} is 2^64 or more")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise JsonError(f"{text[:40]!r} is not a whole decimal number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonError(f"the key {key[:40]!r} stands twice in one object")
            seen.add(key)
    return found

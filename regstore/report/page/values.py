"""What the document of a report says, where any field may be null or absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]
"""An object of the document."""


def object_in(row: Row, key: str) -> Row:
    """Return a part of the document, empty when it is null or absent."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def rows_in(row: Row, key: str) -> list[Row]:
    """Return a list of the document, empty when it is null or absent."""
    value = row.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def as_number(value: Any) -> float | None:
    """Return a number of the document, or None when it is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def as_seconds(value: Any) -> float | None:
    """Return a time of the document in seconds, or None when it is none."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None

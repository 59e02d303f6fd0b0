"""Whether two locations are apart: neither is, or lies inside, the other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from regstore.errors import RefusedError
from regstore_drivers.base import HasLocalPath

if TYPE_CHECKING:
    from regstore_drivers.base import ReadDriver


def check_apart(one: ReadDriver, other: ReadDriver, what: str) -> None:
    """Refuse two places of which one is, or lies inside, the other.

    Args:
        one, other: drivers at their roots.
        what: how the message names the two, such as `the store and its source`.

    Raises:
        RefusedError: they are not apart.
    """
    mine, others = place_of(one) + "/", place_of(other) + "/"
    if mine.startswith(others) or others.startswith(mine):
        raise RefusedError(
            f"{what} are not apart: {one.location} and {other.location}",
            hint="keep each in a directory or prefix of its own, better on another disk",
            code="nested",
        )


def place_of(driver: ReadDriver) -> str:
    """Return where a driver's data lie, the same however it was written: components from the outermost."""
    if isinstance(driver, HasLocalPath):
        path = os.path.realpath(driver.local_path(""))
        return "/".join(["file", *(part for part in path.split("/") if part)])
    parts = urlsplit(driver.location)
    endpoint = parse_qs(parts.query).get("endpoint", [""])[0].rstrip("/")
    return "/".join([parts.scheme, endpoint, parts.netloc, *(part for part in parts.path.split("/") if part)])

"""From a URL or a path to a driver, through the entry points of the group `regstore.drivers`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, cast

from regstore_drivers.filesystem import FilesystemDriver

if TYPE_CHECKING:
    from regstore_drivers.base import Driver

GROUP = "regstore.drivers"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://?")


class UnknownScheme(ValueError):  # noqa: N818
    """No installed package has a driver for the URL's scheme."""


def open_driver(url: str) -> Driver:
    """Open the driver that a URL names; what is no URL is the path of a directory.

    Raises:
        UnknownScheme: no driver has that scheme; the message names those there are.
        ValueError: the driver cannot read the URL.
        DriverError: the storage refused.
    """
    match = _SCHEME.match(url)
    if match is None:
        return FilesystemDriver(os.path.expanduser(url))
    from importlib.metadata import entry_points  # a third of the time that a command on a directory takes to start

    found = {point.name: point for point in entry_points(group=GROUP)}
    point = found.get(match[1])
    if point is None:
        raise UnknownScheme(f"there is no driver for {match[1]}://; there are {', '.join(sorted(found))}")
    return cast("Driver", point.load()(url))

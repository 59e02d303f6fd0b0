"""Owner and modes of a tree that is written."""

from __future__ import annotations

import os
import stat as stat_module
from dataclasses import asdict
from typing import TYPE_CHECKING

from regstore_drivers.bulk import Attributes

if TYPE_CHECKING:
    from regstore_drivers.base import HasLocalPath


def attributes_of(driver: HasLocalPath, prefix: str) -> Attributes:
    """Return owner and mode of a directory, and for files the mode without the right to execute."""
    status = os.stat(driver.local_path(prefix))
    mode = stat_module.S_IMODE(status.st_mode)
    return Attributes(status.st_uid, status.st_gid, mode, mode & 0o666)


def overlay(base: Attributes, *overlays: Attributes) -> Attributes:
    """Return attributes of which later ones, where they say something, win."""
    values = asdict(base)
    for overlaid in overlays:
        values.update((name, value) for name, value in asdict(overlaid).items() if value is not None)
    return Attributes(**values)

"""Registries of this host: their configurations and data, for who does not know where they are."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the packages of Debian and Fedora, the official images from 2.x and 3.x on, and Harbor's installer.
_CONFIG_FILES = (
    "/etc/docker/registry/config.yml",
    "/etc/distribution/config.yml",
    "/etc/docker-distribution/registry/config.yml",
    "/data/common/config/registry/config.yml",
    "/opt/harbor/common/config/registry/config.yml",
)
_DATA_DIRECTORIES = ("/var/lib/registry", "/var/lib/docker-registry", "/data/registry", "/srv/registry")
_VOLUMES = "/var/lib/docker/volumes/*/_data"
_PROGRAMS = ("registry", "docker-registry", "registry_DO_NOT_USE_GC")


@dataclass(frozen=True, slots=True)
class FoundRegistry:
    """A registry of this host.

    Attributes:
        location: its configuration, or its data where there is none.
        why: how it was found.
    """

    location: str
    why: str


def find_registries(root: str = "/") -> list[FoundRegistry]:
    """Return the registries of this host: those that run, then configurations, then data without one.

    Args:
        root: what stands for `/`, for tests.
    """
    found: dict[str, FoundRegistry] = {}
    for file in _running(root):
        found.setdefault(file, FoundRegistry(file, "a registry runs with it"))
    for name in _CONFIG_FILES:
        if os.path.isfile(_below(root, name)):
            found.setdefault(_below(root, name), FoundRegistry(_below(root, name), "its configuration is there"))
    if not found:
        places = [_below(root, name) for name in _DATA_DIRECTORIES] + sorted(glob.glob(_below(root, _VOLUMES)))
        for place in places:
            if os.path.isdir(os.path.join(place, layout.V2)):
                found.setdefault(place, FoundRegistry(place, "a registry's data are there"))
    return list(found.values())


def _running(root: str) -> Iterator[str]:
    """Yield the configurations that `registry serve CONFIG` was started with."""
    for line in glob.glob(_below(root, "/proc/[0-9]*/cmdline")):
        try:
            with open(line, "rb") as file:
                words = os.fsdecode(file.read(65536)).split("\0")
        except OSError:
            continue
        if len(words) > 2 and os.path.basename(words[0]) in _PROGRAMS and words[1] == "serve":
            path = _below(root, words[2])
            if os.path.isfile(path):
                yield path


def _below(root: str, name: str) -> str:
    return os.path.join(root, name.lstrip("/"))

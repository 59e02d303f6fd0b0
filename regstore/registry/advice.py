"""What an operator should know of a registry's own configuration before something depends on it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from regstore import layout
from regstore.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regstore.registry.config import RegistryConfig

CATALOGUE: dict[str, FindingKind] = {
    "config-not-there": FindingKind(
        Severity.ERROR,
        "there is nothing where a registry or a store is said to be",
        "mount its disk or correct its location; a new store is made by regstore backup init",
    ),
    "config-textfile-shared": FindingKind(
        Severity.WARNING,
        "two nights write their metrics into one file: of each only what was written last is there",
        "give each [nightly.NAME] a textfile of its own, in the same directory",
    ),
    "config-root-wrong": FindingKind(
        Severity.ERROR,
        "the registry's rootdirectory is not there, or points into docker/registry/v2 instead of above it",
        "correct storage.filesystem.rootdirectory: the registry makes docker/registry/v2 below it",
    ),
    "config-delete-disabled": FindingKind(
        Severity.WARNING,
        "the registry does not let clients delete: gc run --registry-url cannot remove manifests through it",
        "set storage.delete.enabled to true and restart the registry, or collect with --offline",
    ),
    "config-uploads-kept": FindingKind(
        Severity.WARNING,
        "the registry does not remove abandoned uploads itself",
        "set storage.maintenance.uploadpurging.enabled to true; regstore gc removes old uploads too",
    ),
    "config-cache": FindingKind(
        Severity.WARNING,
        "the registry caches which blobs it has: an online collection makes it answer for what is gone",
        "give --registry-url (or registry_url in the configuration), so that the cache forgets",
    ),
    "config-redirect": FindingKind(
        Severity.INFO,
        "clients fetch layers from the bucket itself: they must reach its endpoint and trust its certificate",
        "set storage.redirect.disable to true if they cannot",
    ),
    "config-secret-readable": FindingKind(
        Severity.WARNING,
        "credentials stand in a file that others than its owner and group can read",
        "chmod o-r the file, or give the credentials by environment or instance role",
    ),
}


def advise_place(name: str, path: str) -> Iterator[Finding]:
    """Say whether a registry or store of regstore's own configuration is there.

    Args:
        name: its table, such as `registry.main`.
        path: where it is said to be on this host.
    """
    if not os.path.lexists(path):
        kind = CATALOGUE["config-not-there"]
        yield Finding("config-not-there", kind.severity, name, f"there is no {path}", kind.repair)


def advise_textfiles(files: Mapping[str, str]) -> Iterator[Finding]:
    """Say which nights write their metrics into one file.

    Args:
        files: the path, or nothing, by the name of the night.
    """
    writers: dict[str, str] = {}
    for name, path in files.items():
        first = writers.setdefault(os.path.realpath(path), name) if path else name
        if first != name:
            kind = CATALOGUE["config-textfile-shared"]
            detail = f"{path} is the textfile of [nightly.{first}] too"
            yield Finding("config-textfile-shared", kind.severity, f"nightly.{name}", detail, kind.repair)


def advise(config: RegistryConfig, mode: int) -> Iterator[Finding]:
    """Say what is risky in a registry's configuration.

    Args:
        config: what the file says.
        mode: of the file.
    """
    root = config.root_directory
    if root:
        inside = f"/{layout.V2}" in f"{os.path.normpath(root)}/"
        if inside or not os.path.isdir(root):
            detail = f"rootdirectory is {root}, which {'lies in a registry' if inside else 'is not there'}"
            yield _finding("config-root-wrong", config, detail)
    if not config.deletes:
        yield _finding("config-delete-disabled", config, "storage.delete.enabled is not true")
    if not config.purges_uploads:
        yield _finding("config-uploads-kept", config, "storage.maintenance.uploadpurging.enabled is false")
    if config.cache:
        yield _finding("config-cache", config, f"storage.cache.blobdescriptor is {config.cache}")
    if config.redirects:
        yield _finding("config-redirect", config, "storage.redirect.disable is not true")
    if config.has_secrets and mode & stat.S_IROTH:
        yield _finding("config-secret-readable", config, f"mode {stat.S_IMODE(mode):04o}")


def _finding(name: str, config: RegistryConfig, detail: str) -> Finding:
    kind = CATALOGUE[name]
    return Finding(name, kind.severity, config.path, detail, kind.repair)

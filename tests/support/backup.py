"""Backups through the library: volumes as keys and bytes, stores, and the way there and back."""

from __future__ import annotations

import itertools
from pathlib import Path

from regstore import backup, layout
from regstore.backup import CreateResult, RestoreOptions, RestoreResult, Store
from regstore.registry import open_registry, open_target
from regstore_drivers.base import Driver
from support.volume import V2

_number = itertools.count()

KEPT = (
    layout.BlobData,
    layout.LayerLink,
    layout.RevisionLink,
    layout.SignatureLink,
    layout.TagLink,
    layout.TagIndexLink,
)
"""What a snapshot holds; uploads, temporary files and strays stay behind."""


def contents_of(root: Path) -> dict[str, bytes]:
    """Return key and bytes of every file of a registry's tree."""
    top = root / V2
    return {f"{V2}/{path.relative_to(top)}": path.read_bytes() for path in top.rglob("*") if path.is_file()}


def objects_of(driver: Driver) -> dict[str, bytes]:
    """Return key and bytes of every object of a registry's tree."""
    return {entry.key: driver.read(entry.key, 1 << 32) for entry in driver.list(f"{V2}/")}


def kept_of(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return what of a tree a snapshot of an undamaged registry holds; not the signatures of a deleted manifest."""
    specs = {key: layout.parse_key(key) for key in contents}
    return {
        key: contents[key]
        for key, spec in specs.items()
        if isinstance(spec, KEPT)
        and (
            not isinstance(spec, layout.SignatureLink)
            or layout.RevisionLink(spec.repository, spec.revision).key in contents
        )
    }


def new_name() -> str:
    """Return a name that nothing in this process has."""
    return f"place-{next(_number)}"


def back_up(root: Path | str, store: Store) -> CreateResult:
    """Store a snapshot of the registry at a location."""
    return backup.create_backup(open_registry(str(root)), store)


def bring_back(
    store: Store, root: Path | str, snapshot: str = backup.LATEST, options: RestoreOptions | None = None
) -> RestoreResult:
    """Restore a snapshot to a location."""
    found = backup.find_snapshot(store, snapshot)
    restore = backup.Restore(store, found, open_target(str(root)), options)
    return restore.apply(restore.plan())

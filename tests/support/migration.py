"""Migrations through the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regstore.migrate import Compared, MigrateOptions, Migration, MigrationResult, Selection, Verification, Verifier
from regstore.registry import Registry, open_registry, open_target
from regstore_drivers.base import Driver

Place = Path | str | Driver


def options_of(*, repositories: tuple[str, ...] = (), tags: tuple[str, ...] = (), **options: Any) -> MigrateOptions:
    """Make options; `since` and `takes_all` belong to the selection too."""
    selected = {name: options.pop(name) for name in ("since", "takes_all") if name in options}
    return MigrateOptions(Selection(repositories, tags, **selected), **options)


def source_at(place: Place) -> Registry:
    """Open a registry to read from."""
    return Registry(place) if isinstance(place, Driver) else open_registry(str(place))


def target_at(place: Place) -> Registry:
    """Open a place to write to."""
    return Registry(place) if isinstance(place, Driver) else open_target(str(place))


def migration(source: Place, target: Place, **options: Any) -> Migration:
    """Make a migration."""
    return Migration(source_at(source), target_at(target), options_of(**options))


def migrate(source: Place, target: Place, **options: Any) -> MigrationResult:
    """Run a migration."""
    return migration(source, target, **options).run()


def verify(source: Place, target: Place, *, reads_back: bool = False, **selected: Any) -> Verification:
    """Compare two ends."""
    return compare(source, target, reads_back=reads_back, **selected)[1]


def compare(
    source: Place, target: Place, *, reads_back: bool = False, **selected: Any
) -> tuple[list[Compared], Verification]:
    """Compare two ends, and return the items that are not alike too."""
    selection = options_of(**selected).selection
    verifier = Verifier(source_at(source), target_at(target), selection, reads_back=reads_back)
    return [item for item in verifier.iter_items() if item.mark != "="], verifier.result


def worst(result: MigrationResult | Verification) -> set[tuple[str, str]]:
    """Return id and subject of what is a warning or worse."""
    return {(found.id, found.subject) for found in result.findings if found.severity >= 1}

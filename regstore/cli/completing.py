"""What a shell offers for repositories and snapshots: of places on this host's disks only, because somebody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from regstore.cli.lazily import Lazily
from regstore.errors import RegstoreError
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore import backup
    from regstore import registry as registries
else:
    backup = Lazily("regstore.backup")
    registries = Lazily("regstore.registry")


def complete_repository(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the repositories of the newest snapshot of STORE, else those of the registry."""
    try:
        if store := _local(ctx, "store"):
            names: Iterable[str] = backup.find_snapshot(backup.open_store(store), "latest").repositories
        elif root := _local(ctx, "root", "src"):
            names = registries.open_registry(root).open_volume().list_repositories()
        else:
            return []
    except (RegstoreError, DriverError, OSError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_snapshot(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the snapshots of STORE, the newest first."""
    try:
        store = _local(ctx, "store")
        files = backup.open_store(store).list_snapshots() if store else []
    except (RegstoreError, DriverError, OSError):
        return []
    ids = ["latest", *(file.name.rpartition("-")[2] for file in reversed(files))]
    return [CompletionItem(name) for name in ids if name.startswith(incomplete)]


def _local(ctx: click.Context, *names: str) -> str:
    """Return the path that an argument of these names stands for, or nothing.

    Click has not told arguments apart while the value of an option is still to come.
    """
    arguments = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    given = dict(zip((argument.name for argument in arguments), ctx.args, strict=False))
    for argument in arguments:
        if argument.name not in names:
            continue
        location = ctx.params.get(argument.name)
        if location is None and argument.name in given:
            location = argument.type.convert(given[argument.name], argument, ctx)
        if location is not None and "://" not in location and not location.startswith("borg:"):
            return str(location)
    return ""

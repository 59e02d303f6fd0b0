"""Names of registries and stores where a location is asked for, and what the configuration says for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from regstore.cli.main import _COMMANDS, Session, default_of, options_of
from regstore.cli.option_names import OPTION_NAMES
from regstore.configuration import Configuration, find_file, read_configuration
from regstore.errors import RegstoreError
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regstore.configuration import Place


class Named(click.ParamType[str]):
    """A location, or the name of a configured registry or store; a directory of that name is given as ./NAME.

    Click looks for defaults of options after the arguments of the command line were converted, so that the options of
    a name count for the rest of the command.
    """

    name = "location"

    def __init__(self, kind: Literal["registry", "store"], *, gives_options: bool = True) -> None:
        self._kind = kind
        self._gives_options = gives_options

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the location."""
        place = self._places(ctx).get(value)
        if place is None:
            return str(value)
        if self._gives_options and ctx is not None:
            options = options_of(ctx.command)
            defaults = dict(ctx.default_map or {})
            for key, value in place.options.items():
                if key in options:
                    defaults |= default_of(options[key], value)
            ctx.default_map = defaults
        return place.location

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names, and files."""
        names = [CompletionItem(name) for name in self._configured(ctx) if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]

    def _configured(self, ctx: click.Context) -> Mapping[str, Place]:
        """Return the names of the configuration, which no command has read while a shell completes."""
        file = find_file(ctx.find_root().params.get("config"), os.environ)
        try:
            found = read_configuration(file, OPTION_NAMES, _COMMANDS) if file else Configuration()
        except RegstoreError:
            return {}
        return found.registries if self._kind == "registry" else found.stores

    def _places(self, ctx: click.Context | None) -> Mapping[str, Place]:
        session = ctx.find_object(Session) if ctx else None
        if session is None:
            return {}
        return session.configuration.registries if self._kind == "registry" else session.configuration.stores


def find_store(configuration: Configuration, name: str) -> str:
    """Return the location under which jobs on a configured store are noted; empty without a name."""
    if not name:
        return ""
    location = configuration.stores[name].location
    if location.startswith("borg:"):
        return location
    from regstore import backup

    try:
        return backup.open_store(location).location
    except (RegstoreError, DriverError, OSError):
        return location


REGISTRY = Named("registry")
REGISTRY_END = Named("registry", gives_options=False)
STORE = Named("store")

"""Names of registries and stores where a location is asked for, and what the configuration says for them."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from regstore.cli.main import _COMMANDS, Session, default_of, options_of
from regstore.cli.option_names import OPTION_NAMES
from regstore.configuration import Configuration, find_file, read_configuration
from regstore.errors import RegstoreError, UsageError
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regstore.configuration import Place


_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Named(click.ParamType[str]):
    """A location, or the name of a configured registry or store; a directory of that name is given as ./NAME.

    Click looks for defaults of options after the arguments of the command line were converted, so that the options of
    a name count for the rest of the command.

    Args:
        kind: what is named.
        gives_options: whether what is configured for it counts for the command.
        may_be_new: whether the command makes what is not there; else a word that is neither name nor path is an error.
    """

    name = "location"

    def __init__(
        self, kind: Literal["registry", "store"], *, gives_options: bool = True, may_be_new: bool = False
    ) -> None:
        self._kind = kind
        self._gives_options = gives_options
        self._may_be_new = may_be_new

    def gives_options_of(self, kind: str) -> bool:
        """Tell whether what is configured for a registry or store counts for a command with this argument."""
        return self._kind == kind and self._gives_options

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the location."""
        places = self._places(ctx)
        place = places.get(value)
        if place is None:
            if not self._may_be_new and _BARE.fullmatch(value) and not os.path.lexists(value):
                raise self._unknown(value, list(places))
            return str(value)
        if self._gives_options and ctx is not None:
            options = options_of(ctx.command)
            defaults = dict(ctx.default_map or {})
            for key, value in place.options.items():
                if key in options:
                    defaults |= default_of(options[key], value)
            ctx.default_map = defaults
        return place.location

    def _unknown(self, value: str, names: list[str]) -> UsageError:
        close = get_close_matches(value, names, n=1)
        if close:
            hint = f"do you mean {close[0]}?"
        elif names:
            hint = f"configured: {', '.join(names)}; or name its directory or URL"
        else:
            hint = (
                f"name its directory or URL, or configure it as [{self._kind}.{value}]: see regstore config init --help"
            )
        message = f"no {self._kind} is called {value}, and there is no {os.path.abspath(value)}"
        return UsageError(message, hint=hint, code="no-such-name")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names, and files."""
        names = [CompletionItem(name) for name in self._configured(ctx) if name.startswith(incomplete)]
        # In this order: for bash an item of type file throws away what came before it.
        return [CompletionItem(incomplete, type="file"), *names]

    def _configured(self, ctx: click.Context) -> Mapping[str, Place]:
        """Return the names of the configuration, which no command has read while a shell completes."""
        file = find_file(ctx.find_root().params.get("config"), os.environ)
        try:
            found = read_configuration(file, OPTION_NAMES, _COMMANDS) if file else Configuration()
        except RegstoreError:
            return {}
        return found.registries if self._kind == "registry" else found.stores

    def _places(self, ctx: click.Context | None) -> Mapping[str, Place]:
        if ctx is not None and ctx.resilient_parsing:
            return self._configured(ctx)
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
NEW_REGISTRY = Named("registry", may_be_new=True)
REGISTRY_END = Named("registry", gives_options=False, may_be_new=True)
STORE = Named("store")
NEW_STORE = Named("store", may_be_new=True)

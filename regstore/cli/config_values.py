"""Values of the configuration, judged as the commands that take them would: before a night fails for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regstore.cli.main import _COMMANDS, cli, default_of, options_of
from regstore.cli.named import Named
from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regstore.configuration import Configuration


def check_values(context: click.Context, configuration: Configuration) -> None:
    """See that each value can be given to every command that it counts for.

    Args:
        context: of the whole command line.
        configuration: as read; its tables and keys are known.

    Raises:
        UsageError: one cannot; the message names its table, its key and the reason.
    """
    for words, leaf in _leaves(context):
        table = configuration.commands
        for word in words:
            table = table.get(word, {})
        _check_table(leaf, table, f"{configuration.path}: [{'.'.join(words)}]")
        for kind, places in (("registry", configuration.registries), ("store", configuration.stores)):
            types = [argument.type for argument in leaf.params]
            if any(isinstance(found, Named) and found.gives_options_of(kind) for found in types):
                for name, place in places.items():
                    _check_table(leaf, place.options, f"{configuration.path}: [{kind}.{name}]")


def _leaves(context: click.Context) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for word in _COMMANDS:
        found = cli.get_command(context, word)
        if found is not None:
            yield from _below((word,), found)


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from _below((*words, word), below)


def _check_table(command: click.Command, table: Mapping[str, Any], where: str) -> None:
    options = options_of(command)
    for key, value in table.items():
        option = options.get(key)
        if option is None:
            continue
        (given,) = default_of(option, value).values()
        try:
            option.type_cast_value(click.Context(command), given)
        except click.BadParameter as error:
            raise UsageError(f"{where} {key}: {error.message}", hint="regstore config show --origin") from error

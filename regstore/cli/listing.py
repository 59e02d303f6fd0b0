"""The list of commands in a group's help, with whole sentences: click cuts them off at the end of a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHOLE = 1000


class ListingGroup(click.Group):
    """A group that says of each command what it does, on more than one line where that takes them."""

    def iter_summaries(self, context: click.Context) -> Iterator[tuple[str, str]]:
        """Yield the name of each command, and the first sentence of its help."""
        for name in self.list_commands(context):
            found = self.get_command(context, name)
            if found is not None and not found.hidden:
                yield name, found.get_short_help_str(_WHOLE)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.iter_summaries(ctx)))

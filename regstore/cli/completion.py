"""`regstore completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from regstore.cli.main import EXIT_STATUS, cli
from regstore.errors import UsageError


@click.command(
    "completion",
    epilog=f"""\b
EXAMPLES
  regstore completion bash > /etc/bash_completion.d/regstore
  regstore completion zsh > /usr/local/share/zsh/site-functions/_regstore
  regstore completion fish > ~/.config/fish/completions/regstore.fish

{EXIT_STATUS}""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what SHELL needs to complete commands, options and the names of registries and stores."""
    completion = get_completion_class(shell)
    if completion is None:
        raise UsageError(f"there is no completion for {shell}")
    click.echo(completion(cli, {}, "regstore", "_REGSTORE_COMPLETE").source())

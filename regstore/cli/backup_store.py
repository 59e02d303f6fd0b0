"""Opening stores for commands: the options of a passphrase, and what borg's users should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.parameters import F, safety_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore import backup
    from regstore.backup import AnyStore
else:
    backup = Lazily("regstore.backup")


def passphrase_options() -> Callable[[F], F]:
    """The options for the passphrase of a borg repository, as one argument `passphrase`."""

    def decorate(function: F) -> F:
        command = safety_option(
            "--passphrase-command", metavar="CMD", help="For borg: prints the passphrase of the repository."
        )
        descriptor = safety_option(
            "--passphrase-fd", type=click.IntRange(0), metavar="N", help="For borg: a file descriptor to read it from."
        )
        return descriptor(command(function))

    return decorate


def open_store(
    location: str,
    passphrase_fd: int | None,
    passphrase_command: str | None,
    *,
    jobs: int | None = None,
    lock_wait: float = 0.0,
    warns: bool = False,
) -> AnyStore:
    """Open a store of either kind, and if `warns` say on stderr what is wrong with an old borg."""
    options = backup.PassphraseOptions(passphrase_fd, passphrase_command)
    store = backup.open_any_store(location, options, jobs or 16, lock_wait)
    if warns and not isinstance(store, backup.Store) and store.repository.warning:
        messages.warn(store.repository.warning)
    return store

"""Stores by location: a directory, an `s3://` URL, or `borg:` and a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from regstore.backup.opening import open_store

if TYPE_CHECKING:
    from regstore.backup.borg.passphrase import PassphraseOptions
    from regstore.backup.borg.repository import Repository
    from regstore.backup.borg.store import BorgStore
    from regstore.backup.store import Store

AnyStore: TypeAlias = "Store | BorgStore"
_BORG = "borg:"


def is_borg(location: str) -> bool:
    """Tell whether a location is one of a borg repository."""
    return location.startswith(_BORG)


def open_repository(location: str, passphrase: PassphraseOptions, lock_wait: float = 0.0) -> Repository:
    """Get ready to run borg on a repository.

    Raises:
        UsageError: the location names none.
        StorageFailedError: there is no borg program, or no passphrase.
    """
    from regstore.backup.borg.passphrase import read_passphrase  # only borg's users wait for it
    from regstore.backup.borg.program import find_program
    from regstore.backup.borg.repository import Repository

    program = find_program()
    return Repository(location, read_passphrase(passphrase), lock_wait=lock_wait, program=program)


def open_any_store(location: str, passphrase: PassphraseOptions, jobs: int = 16, lock_wait: float = 0.0) -> AnyStore:
    """Open a store of either kind.

    Raises:
        UsageError: there is none.
        DriverError, StorageFailedError: it cannot be reached or opened.
    """
    if not is_borg(location):
        return open_store(location, jobs)
    from regstore.backup.borg.store import BorgStore

    return BorgStore(open_repository(location, passphrase, lock_wait))

"""Where the passphrase of a borg repository comes from. It is never in an argument, and never asked for."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass

from regstore.errors import StorageFailedError

CREDENTIAL = "regstore-borg-passphrase"
_OWN = ("BORG_PASSPHRASE", "BORG_PASSCOMMAND", "BORG_PASSPHRASE_FD", "BORG_NEW_PASSPHRASE")


@dataclass(frozen=True, slots=True)
class PassphraseOptions:
    """What the operator said: a file descriptor to read it from, or a command that prints it."""

    fd: int | None = None
    command: str | None = None


def read_passphrase(options: PassphraseOptions) -> bytes:
    """Read the passphrase: from the descriptor, the command, systemd's credential, or borg's own variables.

    Raises:
        StorageFailedError: there is none, or it cannot be read.
    """
    if options.fd is not None:
        return _read_descriptor(options.fd)
    if options.command is not None:
        return _run_command(options.command)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and os.path.exists(f"{directory}/{CREDENTIAL}"):
        return _read_credential(f"{directory}/{CREDENTIAL}")
    if "BORG_PASSPHRASE" in os.environ:
        return os.fsencode(os.environ["BORG_PASSPHRASE"])
    if "BORG_PASSCOMMAND" in os.environ:
        return _run_command(os.environ["BORG_PASSCOMMAND"])
    if os.environ.get("BORG_PASSPHRASE_FD", "").isdecimal():
        return _read_descriptor(int(os.environ["BORG_PASSPHRASE_FD"]))
    raise StorageFailedError(
        "there is no passphrase for the borg repository",
        hint="give --passphrase-command or --passphrase-fd, a systemd credential "
        f"{CREDENTIAL}, or borg's own BORG_PASSPHRASE, BORG_PASSCOMMAND, BORG_PASSPHRASE_FD",
        code="key-wrong",
    )


def without_passphrase(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment without what borg would read a passphrase from."""
    return {name: value for name, value in environment.items() if name not in _OWN}


def _read_credential(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _first_line(file.read())
    except OSError as error:
        raise StorageFailedError(
            f"the passphrase cannot be read from {path}: {error.strerror}",
            hint="see its owner and mode, and LoadCredential= of the unit",
            code="key-wrong",
        ) from error


def _read_descriptor(fd: int) -> bytes:
    if os.isatty(fd):
        raise StorageFailedError(
            f"file descriptor {fd} is a terminal: the passphrase is not asked for",
            hint="give a file or a pipe, such as --passphrase-fd 3 3</run/secrets/borg",
            code="key-wrong",
        )
    try:
        with open(fd, "rb", closefd=False) as file:
            return _first_line(file.read())
    except OSError as error:
        raise StorageFailedError(
            f"the passphrase cannot be read from file descriptor {fd}: {error.strerror}",
            hint="open it for regstore, as in --passphrase-fd 3 3</run/secrets/borg",
            code="key-wrong",
        ) from error


def _run_command(command: str) -> bytes:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, check=True, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        # Not what it printed: that may be the passphrase.
        raise StorageFailedError(
            f"the command for the passphrase failed: {type(error).__name__}",
            hint="run it by hand: it must print the passphrase and end with 0",
            code="key-wrong",
        ) from error
    return _first_line(done.stdout)


def _first_line(data: bytes) -> bytes:
    return data.split(b"\n", 1)[0]

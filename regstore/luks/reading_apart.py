"""Headers read in a child process: a disk that fails may never answer."""

from __future__ import annotations

import base64
import errno
import hashlib
import pickle
from typing import TYPE_CHECKING

from regstore.luks.header import Reading, read_header
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regstore.luks.sysroot import Sysroot

# A header takes 10 s at most, whatever it holds; the rest of the check wants some of it.
HEADER_SECONDS = 9.0


class NotReadError(Exception):
    """A header could not be looked at; the text says why."""


def read_apart(path: Path, sysroot: Sysroot, seconds: float = HEADER_SECONDS) -> Reading:
    """Read the header of a device or file.

    Raises:
        NotReadError: it cannot be opened, or does not answer in time.
    """

    def work() -> str:
        with Source(path) as source:
            reading = read_header(source, sysroot.path("/run/cryptsetup"))
        # The pipe carries text, and comes from a fork of this process.
        return base64.b85encode(pickle.dumps(reading)).decode()

    reading: Reading = pickle.loads(base64.b85decode(_ask(work, path, seconds)))  # noqa: S301
    return reading


def hash_apart(path: Path, seconds: float = HEADER_SECONDS) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        NotReadError: it cannot be read, or does not answer in time.
    """

    def work() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return _ask(work, path, seconds)


def _ask(work: Callable[[], str], path: Path, seconds: float) -> str:
    try:
        return call(work, seconds)
    except DeadlineError as error:
        raise NotReadError(f"{path} does not answer: see the system log for its disk") from error
    except IsolatedError as error:
        hint = " (run as root)" if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise NotReadError(f"{path} cannot be read: {error}{hint}") from error

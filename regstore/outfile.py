"""Files that a command writes for its operator: whole or not at all."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_lines(path: str, lines: Iterable[str], what: str) -> None:
    """Write a text file: temporary file, fsync, rename.

    Args:
        path: where; an existing file is replaced, a device or pipe written to. The mode is 0644 less the umask.
        lines: each with its newline.
        what: the word for it in messages, such as `plan`.

    Raises:
        UsageError: it cannot be written there.
    """
    place = os.path.realpath(path)
    temporary = f"{place}.{secrets.token_hex(4)}.tmp"
    try:
        if os.path.exists(place) and not os.path.isfile(place):
            # A device or pipe is written to, never replaced.
            with open(place, "w", encoding="utf-8") as file:
                file.writelines(lines)
            return
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(
            f"cannot write the {what} to {path}: {error.strerror}",
            hint="name a file in a directory that you may write to",
        ) from error

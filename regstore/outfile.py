"""Files that a command writes for its operator: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_lines(path: str, lines: Iterable[str], what: str) -> None:
    """Write a text file: temporary file, fsync, rename.

    Args:
        path: where; an existing file is replaced.
        lines: each with its newline.
        what: the word for it in messages, such as `plan`.

    Raises:
        UsageError: it cannot be written there.
    """
    directory = os.path.dirname(os.path.abspath(path))
    try:
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False, encoding="utf-8") as file:
            try:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise UsageError(f"cannot write the {what} to {path}: {error.strerror}") from error

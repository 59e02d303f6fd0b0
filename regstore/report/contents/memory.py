"""Where what is in layers is remembered: a directory with a file for each layer and level."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from regstore.digest import split_digest
from regstore.errors import StorageFailedError
from regstore.report.contents.outcome import CHUNKS, FILES
from regstore.state import state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.digest import Digest

_SUFFIXES = {FILES: ".files", CHUNKS: ".chunks"}
_LEFTOVER_SECONDS = 7 * 86400


@contextmanager
def open_memory(directory: Path | None) -> Iterator[tuple[Path, Path]]:
    """Give the directory of what is remembered and one for unfinished work, which is removed at the end."""
    memory = (directory or state_directory()) / "contents"
    try:
        memory.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = Path(tempfile.mkdtemp(prefix="run-", dir=memory))
    except OSError:
        with tempfile.TemporaryDirectory(prefix="regstore-") as name:
            yield Path(name), Path(name)
        return
    try:
        for left in memory.glob("run-*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        yield memory, scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remembered_path(memory: Path, digest: Digest, level: str) -> Path:
    """Return the file that remembers what is in a layer."""
    _, digits = split_digest(digest)
    return memory / digits[:2] / f"{digits}{_SUFFIXES[level]}"


@contextmanager
def telling_failures(path: Path) -> Iterator[None]:
    """Tell an error of the system as one of the state directory."""
    try:
        yield
    except OSError as error:
        raise StorageFailedError(
            f"the state directory fails: {error.filename or path}: {error.strerror}",
            hint="free some space there, or set XDG_STATE_HOME to another directory",
        ) from error

"""What this host remembers of a store: copies of its small immutable objects, so that a bucket is only listed.

Losing it costs requests. A copy counts only as long as the object's mark (size, entity tag, times) is what it was when
the object was read.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from regstore.state import state_directory

if TYPE_CHECKING:
    from pathlib import Path


class StoreCache:
    """Copies of objects of one store.

    Args:
        store_id: the store's.
        directory: where the copies lie; None: in the state directory.
    """

    def __init__(self, store_id: str, directory: Path | None = None) -> None:
        self._directory = (directory or state_directory() / "stores") / store_id

    def get(self, name: str, mark: str) -> bytes | None:
        """Return what was noted of an object; None when nothing was, or its mark was another one."""
        with suppress(OSError):
            noted, _, content = (self._directory / name).read_bytes().partition(b"\n")
            if noted == mark.encode():
                return content
        return None

    def put(self, name: str, mark: str, content: bytes) -> None:
        """Note something of an object. Where nothing can be written nothing is noted."""
        path = self._directory / name
        temporary = self._directory / f"{name}.{secrets.token_hex(4)}.tmp"
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_bytes(mark.encode() + b"\n" + content)
            os.replace(temporary, path)

    def keep_only(self, names: set[str]) -> None:
        """Drop what was noted of all other objects."""
        with suppress(OSError):
            for path in list(self._directory.iterdir()):
                if path.name not in names:
                    path.unlink(missing_ok=True)

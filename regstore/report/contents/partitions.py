"""Records in files by a number, so that they are taken up a part at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from regstore.report.contents.memory import telling_failures

if TYPE_CHECKING:
    import struct
    from collections.abc import Iterator
    from pathlib import Path


class Partitions:
    """Records in files by a number, written through a buffer of bounded size."""

    def __init__(self, directory: Path, name: str, count: int) -> None:
        self.buffers = [bytearray() for _ in range(count)]
        self._paths = [directory / f"{name}-{number}" for number in range(count)]

    def flush(self) -> None:
        """Write what is buffered."""
        for path, buffer in zip(self._paths, self.buffers, strict=True):
            if buffer:
                with telling_failures(path), path.open("ab") as file:
                    file.write(buffer)
                buffer.clear()

    def take(self, number: int, record: struct.Struct) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Yield the records of one file, some thousands at a time, and remove it."""
        path = self._paths[number]
        with suppress(FileNotFoundError), path.open("rb") as file:
            while data := file.read(record.size * 16384):
                yield record.iter_unpack(data)
        path.unlink(missing_ok=True)

"""Reading a layer, within bounds, into the file that remembers it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast

from regstore.decompression import UndecodableError, iter_plain
from regstore.digest import split_digest
from regstore.layout import BlobData
from regstore.report.contents.layer_file import LayerFileWriter
from regstore.report.contents.memory import telling_failures
from regstore.report.contents.outcome import CHUNKS
from regstore.report.tarstream import BrokenTarError
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from regstore.digest import Digest
    from regstore.registry.config import RegistryConfig
    from regstore_drivers.base import ReadDriver

_PLAIN_LIMIT_BYTES = 64 << 30
_EXPANSION_LIMIT = 200
_EXPANSION_FREE_BYTES = 1 << 30
_WINDOW_LIMIT_BYTES = 128 << 20
"""Of zstd: a decoder needs as much memory, and `processes` bounds what a worker may take."""


class LayerSpec(NamedTuple):
    """A layer to be read, for another process.

    Attributes:
        source: what its storage is opened by: a location, or the registry's configuration.
        digest: its name.
        packed_bytes: its size as it is stored.
        level: `file` or `chunk`.
        target: the file that will remember what is in it.
        scratch: a directory of the same file system for unfinished files.
    """

    source: str | RegistryConfig
    digest: Digest
    packed_bytes: int
    level: str
    target: Path
    scratch: Path


class LayerResult(NamedTuple):
    """How reading a layer ended: read, or not and why; no reason says that it is not there."""

    is_read: bool
    reason: str = ""


class Pulse(Protocol):
    """Whom reading tells how far it is, and asks whether to go on."""

    def advance(self, count: int) -> None:
        """Say that so many more stored bytes were read."""

    @property
    def is_stopped(self) -> bool:
        """Whether to stop."""


class StoppedError(Exception):
    """Somebody asked to stop in the midst of a layer."""


def read_layer(spec: LayerSpec, driver: ReadDriver, pulse: Pulse | None) -> LayerResult:
    """Read a layer and remember what is in it. The stored bytes are hashed on the way.

    Args:
        spec: which, and where to.
        driver: its storage.
        pulse: told of progress, and asked whether to go on.

    Raises:
        StoppedError: it was asked to.
        StorageFailedError: what is in it cannot be written down.
    """
    limit = min(_PLAIN_LIMIT_BYTES, _EXPANSION_LIMIT * spec.packed_bytes + _EXPANSION_FREE_BYTES)
    unfinished = spec.scratch / f"{os.getpid()}-{spec.target.name}"
    try:
        with telling_failures(unfinished), LayerFileWriter(unfinished) as writer:
            try:
                with driver.open(BlobData(spec.digest).key) as stream:
                    packed = _Packed(stream, spec.digest, pulse)
                    plain = _bounded(iter_plain(cast("BinaryIO", packed), _WINDOW_LIMIT_BYTES), limit, pulse)
                    if spec.level == CHUNKS:
                        writer.write_chunks(plain)
                    else:
                        writer.write_files(plain)
                    packed.check()
            except NotFound:
                return LayerResult(is_read=False)
            except (UndecodableError, BrokenTarError, DriverError) as error:
                return LayerResult(is_read=False, reason=str(error))
            except MemoryError:
                return LayerResult(is_read=False, reason="reading it needs more memory than a process may take")
            writer.finish()
            spec.target.parent.mkdir(exist_ok=True, mode=0o700)
            unfinished.replace(spec.target)
    finally:
        unfinished.unlink(missing_ok=True)
    return LayerResult(is_read=True)


class _Packed:
    """The stored bytes of a layer, hashed as they are read."""

    def __init__(self, stream: BinaryIO, digest: Digest, pulse: Pulse | None) -> None:
        self._stream = stream
        self._pulse = pulse
        algorithm, self._digits = split_digest(digest)
        self._hasher = hashlib.new(algorithm)

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        if self._pulse:
            self._pulse.advance(len(data))
        return data

    def check(self) -> None:
        """Read to the end.

        Raises:
            UndecodableError: all the bytes do not hash to the name.
        """
        while self.read(1 << 20):
            pass
        if self._hasher.hexdigest() != self._digits:
            raise UndecodableError(f"its data are corrupt: they hash to {self._hasher.name}:{self._hasher.hexdigest()}")


def _bounded(pieces: Iterable[bytes], limit: int, pulse: Pulse | None) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise UndecodableError(f"given up: it decompresses to more than {limit} bytes")
        if pulse and pulse.is_stopped:
            raise StoppedError
        yield piece

"""Fetching single blobs from the first of several places that has them whole.

Nothing that a source says is believed: the bytes are hashed while they stream, and take their final name only when they
are what the digest says.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol

from regstore import layout
from regstore.digest import format_digest
from regstore.errors import StorageFailedError
from regstore.registry.http import RegistryFailedError
from regstore_drivers.errors import DigestMismatch, DriverError
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regstore.digest import Digest
    from regstore.work import Cancel
    from regstore_drivers.base import Driver

PAUSES_SECONDS = (1.0, 5.0)
"""How long to wait before a registry that failed for the moment is asked again."""
LONGEST_PAUSE_SECONDS = 60.0
"""A registry that asks for a longer pause is given up for this blob."""
_BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """Data that a source says it has.

    Attributes:
        size: bytes.
        open: opens them from the beginning, as often as it is called; the caller closes the stream.
    """

    size: int
    open: Callable[[], BinaryIO]


class Source(Protocol):
    """Where data may be had. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """What it is called in messages, without credentials."""

    def find(self, digest: Digest, repositories: Sequence[str]) -> Found | None:
        """Look for the data of a digest; None when they are not there.

        Args:
            digest: of a layer, configuration or manifest.
            repositories: the names of those that need it.

        Raises:
            DriverError, StorageFailedError: the source cannot be read.
        """

    def has_manifest(self, digest: Digest, repository: str) -> bool:
        """Tell whether the repository of that name has the digest as a manifest.

        Raises:
            DriverError, StorageFailedError: the source cannot be read.
        """

    def close(self) -> None:
        """Free its connections."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a source did not give the data."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """Data that were fetched, verified and stored.

    Attributes:
        source: the name of the source that gave them.
        size: bytes.
        failures: of the sources before it.
    """

    source: str
    size: int
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class NotFetched:
    """No source gave the data; nothing was stored.

    Attributes:
        failures: one for each source, in their order.
    """

    failures: tuple[Failure, ...] = ()


def fetch_blob(
    driver: Driver, digest: Digest, sources: Sequence[Source], repositories: Sequence[str], cancel: Cancel
) -> Fetched | NotFetched:
    """Fetch the data of a digest from the first source that has them whole, and store them under their key.

    A source that does not have them, has other bytes, breaks off, fails or is silent for too long is noted, and the
    next one is tried. A registry that fails for the moment is asked up to three times.

    Args:
        driver: the storage of the registry that lacks them.
        digest: of a layer, configuration or manifest.
        sources: in the order in which to try them.
        repositories: the names of those that need the data.
        cancel: stops between two pieces too, with nothing stored.

    Raises:
        AlreadyExists: there is an object of that key, which is left as it is.
        DriverError: the registry's own storage failed; no source is to blame.
        InterruptedRunError: the run is to stop.
    """
    failures: list[Failure] = []
    for source in sources:
        try:
            size = _fetch_patiently(driver, digest, source, repositories, cancel)
        except _SourceFailedError as error:
            failures.append(Failure(source.name, str(error)))
        else:
            return Fetched(source.name, size, tuple(failures))
    return NotFetched(tuple(failures))


class _SourceFailedError(Exception):
    """A source failed: never an error of the driver that is written to, and no reason for it to try again.

    Attributes:
        pause: the seconds that the source wants to be left alone before the next try; None: that would not help.
    """

    def __init__(self, problem: Exception | str) -> None:
        super().__init__(str(problem))
        is_passing = isinstance(problem, RegistryFailedError) and problem.retryable
        self.pause = problem.retry_after if isinstance(problem, RegistryFailedError) and is_passing else None


class _SourceStream(PieceStream):
    """The stream of a source, with its errors told from those of the storage that it is written to."""

    def __init__(self, stream: BinaryIO, cancel: Cancel) -> None:
        self._stream = stream
        self._cancel = cancel

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            _SourceFailedError: the source failed.
            InterruptedRunError: the run is to stop.
        """
        self._cancel.check()
        try:
            return self._stream.read(size)
        except (DriverError, StorageFailedError) as error:
            raise _SourceFailedError(error) from error

    def close(self) -> None:
        """Close the stream of the source."""
        if not self.closed:
            self._stream.close()
        super().close()


def _fetch_patiently(
    driver: Driver, digest: Digest, source: Source, repositories: Sequence[str], cancel: Cancel
) -> int:
    for pause in PAUSES_SECONDS:
        try:
            return _fetch(driver, digest, source, repositories, cancel)
        except _SourceFailedError as error:
            if error.pause is None or error.pause > LONGEST_PAUSE_SECONDS:
                raise
            cancel.wait(max(pause, error.pause))
    return _fetch(driver, digest, source, repositories, cancel)


def _fetch(driver: Driver, digest: Digest, source: Source, repositories: Sequence[str], cancel: Cancel) -> int:
    cancel.check()
    try:
        found = source.find(digest, repositories)
    except (DriverError, StorageFailedError) as error:
        raise _SourceFailedError(error) from error
    if found is None:
        raise _SourceFailedError("it is not there")
    key = layout.BlobData(digest).key
    try:
        return driver.write(
            key, partial(_open, found, cancel), found.size, digest=format_digest(digest), if_absent=True
        ).size
    except DigestMismatch as error:
        raise _SourceFailedError(error.reason) from error


def _open(found: Found, cancel: Cancel) -> BinaryIO:
    try:
        stream = found.open()
    except (DriverError, StorageFailedError) as error:
        raise _SourceFailedError(error) from error
    return io.BufferedReader(_SourceStream(stream, cancel), _BUFFER_BYTES)

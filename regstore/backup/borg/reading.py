"""Reading blobs of an archive by streams, past what is damaged.

borg ends at the first chunk that is damaged. The blob in which that is, is tried by itself; the rest is streamed anew.
"""

from __future__ import annotations

import hashlib
import tarfile
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from regstore.backup.borg.outcome import raise_error
from regstore.backup.borg.repository import iter_chunks
from regstore.digest import Digest, split_digest
from regstore.layout import BlobData, parse_key
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from regstore.backup.borg.outcome import Outcome
    from regstore.backup.borg.repository import Repository
    from regstore.work import Cancel, Progress

_PIECE_BYTES = 1024 * 1024
_NEAR_COUNT = 32
"""So many small blobs may be in borg's buffer when it ends."""


class Read(NamedTuple):
    """A blob that was read: whole, or else the kind (`missing` or `corrupt`) and the detail of what is wrong."""

    digest: Digest
    kind: str = ""
    detail: str = ""


class Consumer(Protocol):
    """Who takes a blob: it opens the stream, again where it tries again, and says whether the right bytes came."""

    def __call__(self, digest: Digest, open_stream: Callable[[], BlobStream], /) -> bool:
        """Take a blob."""


class ArchiveReader:
    """Reads blobs of one archive.

    Args:
        repository: where.
        archive: its name.
        progress: told of every byte of a blob that is wanted.
        cancel: asked between two pieces.
    """

    def __init__(self, repository: Repository, archive: str, progress: Progress, cancel: Cancel) -> None:
        self._repository = repository
        self._archive = archive
        self._progress = progress
        self._cancel = cancel

    def read(self, digests: Iterable[Digest], consume: Consumer, *, is_all: bool = False) -> Iterator[Read]:
        """Hand blobs to a consumer, and yield what came of each.

        Args:
            digests: which.
            consume: called once or twice for each that is there.
            is_all: whether these are all the archive has, so that none need be named to borg.

        Raises:
            UsageError, StorageFailedError: borg failed by another reason than damage.
            InterruptedRunError: somebody asked to stop.
        """
        remaining = dict.fromkeys(sorted(digests))
        is_first = True
        while remaining and (yield from self._stream(remaining, consume, is_all=is_all and is_first)):
            if is_first:
                yield from self._drop_unlisted(remaining)
            is_first = False
        yield from (Read(digest, "missing", "the archive does not have it") for digest in remaining)

    def _drop_unlisted(self, remaining: dict[Digest, None]) -> Iterator[Read]:
        """Give up what is beyond damage of the archive's own list of files: no stream comes to it."""
        files, problem = self._repository.list_files(self._archive)
        for digest in [digest for digest in remaining if BlobData(digest).key not in files]:
            del remaining[digest]
            yield Read(digest, "missing", problem or "the archive does not have it")

    def hash(self, digests: Iterable[Digest]) -> Iterator[Read]:
        """Read blobs and hash them. See `read`."""
        return self.read(digests, _hash)

    def _stream(self, remaining: dict[Digest, None], consume: Consumer, *, is_all: bool) -> Generator[Read, None, bool]:
        """Read by streams until one breaks off, and what lies there one by one; return whether one did."""
        for keys in [[]] if is_all else iter_chunks([BlobData(digest).key for digest in remaining]):
            wanted = set(keys)
            broken: Digest | None = None
            with self._repository.export_tar(self._archive, keys) as (stdout, outcome):
                for digest, member in _iter_tar(stdout):
                    self._cancel.check()
                    if digest not in remaining:
                        continue
                    stream = BlobStream(member, self._progress, self._cancel)
                    read = self._hand_over(digest, consume, stream)
                    if stream.is_broken:
                        broken = digest
                        break
                    del remaining[digest]
                    yield read
                while stdout.read(_PIECE_BYTES):
                    pass  # the padding: borg has failed when it cannot write it
            if outcome.is_damage:
                left = [digest for digest in remaining if not wanted or BlobData(digest).key in wanted]
                if left:
                    yield from self._pass_damage(remaining, left, consume)
                    return True
            elif broken or (outcome.code and not outcome.is_warning):
                raise_error(outcome, self._repository.location, "read from")
        return False

    def _pass_damage(self, remaining: dict[Digest, None], left: list[Digest], consume: Consumer) -> Iterator[Read]:
        """Read one by one until the damage is passed: from the first that has not come on, since archives hold blobs in
        the order of their digests. borg may not have written out the last ones before it."""
        has_failed = False
        for count, digest in enumerate(left):
            self._cancel.check()
            del remaining[digest]
            read = self._hand_over(digest, consume)
            yield read
            has_failed = has_failed or bool(read.kind)
            if not read.kind and (has_failed or count >= _NEAR_COUNT):
                return

    def _hand_over(self, digest: Digest, consume: Consumer, first: BlobStream | None = None) -> Read:
        """Hand one blob to the consumer: by the stream that is under way, if any, and then by itself."""
        firsts = [] if first is None else [first]
        outcomes: list[Outcome] = []
        with ExitStack() as stack:

            def open_stream() -> BlobStream:
                if firsts:
                    return firsts.pop()
                stream, outcome = stack.enter_context(self._repository.stream_file(self._archive, BlobData(digest).key))
                outcomes.append(outcome)
                return BlobStream(stream, self._progress, self._cancel)

            is_whole = consume(digest, open_stream)
        if is_whole:
            return Read(digest)
        for outcome in outcomes:
            if outcome.is_damage:
                return Read(digest, "corrupt", outcome.text)
            if outcome.code and not outcome.is_warning:
                raise_error(outcome, self._repository.location, "read from")
        return Read(digest, "corrupt", "other bytes came than it has")


class BlobStream(PieceStream):
    """A blob in a stream; one that breaks off just ends.

    Attributes:
        is_broken: whether it broke off.
    """

    def __init__(self, stream: IO[bytes], progress: Progress, cancel: Cancel) -> None:
        self._stream = stream
        self._progress = progress
        self._cancel = cancel
        self.is_broken = False

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            InterruptedRunError: somebody asked to stop.
        """
        self._cancel.check()
        try:
            piece = self._stream.read(size)
        except (tarfile.TarError, OSError):
            self.is_broken = True
            return b""
        self._progress.advance(len(piece))
        return piece


def _hash(digest: Digest, open_stream: Callable[[], BlobStream]) -> bool:
    algorithm, digits = split_digest(digest)
    hasher = hashlib.new(algorithm)
    stream = open_stream()
    while piece := stream.read(_PIECE_BYTES):
        hasher.update(piece)
    return hasher.hexdigest() == digits


def _iter_tar(stdout: IO[bytes]) -> Iterator[tuple[Digest, IO[bytes]]]:
    """Yield digest and content of the blobs in a tar stream, until it ends or breaks off."""
    try:
        with tarfile.open(fileobj=stdout, mode="r|") as archive:
            for member in archive:
                spec = parse_key(member.name)
                stream = archive.extractfile(member) if member.isreg() else None
                if isinstance(spec, BlobData) and stream is not None:
                    yield spec.digest, stream
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps all it has seen
    except (tarfile.TarError, EOFError):
        return  # the outcome of the program says why

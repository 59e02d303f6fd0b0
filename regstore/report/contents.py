"""What is in the layers of a registry's images, and how often: file by file, or chunk by chunk.

Each layer is read once, in processes beside each other, and what is in it is remembered in a file of the state
directory: a layer is immutable, so its digest is the key. The sums are then made from these files, through partitions
on the disk, so that neither the count of files nor that of layers has to fit into memory.

The file of a layer: magic and version; a zstd frame of blocks, each a count, the size of its names, fixed records, then
the names; three sums and an XXH3-64 of all before it.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import tempfile
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, cast

import xxhash
import zstandard

from regstore.decompression import LAYER_TYPES, UndecodableError, iter_plain
from regstore.digest import Digest, format_digest, parse_digest, split_digest
from regstore.errors import StorageFailedError
from regstore.layout import BlobData
from regstore.report.catalogue import finding
from regstore.report.chunks import iter_chunks, load_cutter
from regstore.report.layering import HiddenFiles, count_hidden, iter_hidden_advice, iter_twin_advice
from regstore.report.tarstream import BrokenTarError, Kind, iter_entries
from regstore.state import state_directory
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError, NotFound
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from regstore.findings import Finding
    from regstore.registry import Registry
    from regstore.registry.config import RegistryConfig
    from regstore.work import Progress
    from regstore_drivers.base import ReadDriver

FILES, CHUNKS = "file", "chunk"
"""The levels."""

_PLAIN_LIMIT_BYTES = 64 << 30
_EXPANSION_LIMIT = 200
_EXPANSION_FREE_BYTES = 1 << 30
_WINDOW_LIMIT_BYTES = 128 << 20
"""Of zstd: a decoder needs as much memory, and a worker has less than `_WORKER_BYTES`."""
_WORKER_BYTES = 300 << 20
_PATH_BYTES = 4096
"""Of a path that are remembered: no system opens a longer one."""

_MAGIC = b"rscont\0\x02"
"""With the version as its last byte."""
_SUFFIXES = {FILES: ".files", CHUNKS: ".chunks"}
_BLOCK = struct.Struct("<II")
_RECORD = struct.Struct("<24sQ")
"""A content (XXH3-128 and size: what makes it another one) and the hash of its directory."""
_NAME = struct.Struct("<H")
_SUMS = struct.Struct("<QQQQ")
_CHECKSUM = struct.Struct("<Q")
_BLOCK_RECORDS = 4096
_BLOCK_NAME_BYTES = 1 << 20

_COPY = struct.Struct("<24sIIQ")
"""A content, the layer's number, the record's number in it, and the hash of its directory."""
_DIRECTORY = struct.Struct("<QQQQ")
"""The hash of a directory, duplicate bytes, files, and the place of one of them."""
_PARTITION_RECORDS = 200_000
_MAX_PARTITIONS = 4096
_BUFFER_BYTES = 32 << 20
_LEFTOVER_SECONDS = 7 * 86400
_ADVISED_RECORDS = 1_000_000
"""An image of more files is not looked at for what its layers hide: their paths are held in memory."""


@dataclass(frozen=True, slots=True)
class ContentsReport:
    """What is in the layers that could be read. At chunk level, chunks stand for files.

    Attributes:
        totals: `layer_count`, `file_count`, `file_bytes`, `unique_file_count`, `unique_bytes`, `duplicate_bytes`; at
            chunk level `chunk_count`, `chunk_bytes`, `unique_chunk_count` instead. Each distinct layer counts once.
        top: `path` of the first copy (at chunk level `digest`), `size_bytes`, `copies`; what wastes most first.
        directories: `path`, `duplicate_bytes`, `file_count`: files that are not the first copy of their content, where
            empty ones do not count; the largest first; none at chunk level.
        repositories: `name`, `file_count`, `file_bytes`, `unique_bytes` (contents in no other repository),
            `duplicate_bytes` (within it); the largest first. At chunk level `chunk_count` and `chunk_bytes`.
        pairs: `a`, `b`, `shared_bytes` of distinct contents that both have; the largest first.
        scopes: `within_image_bytes`, `across_images_bytes` (of one repository), `across_repositories_bytes`: the
            duplicate bytes by the narrowest scope that a copy shares with an earlier one; together `duplicate_bytes`.
        base_image_saving_bytes: an estimate of what is saved if contents of several layers lay in one common layer.
        findings: layers that could not be read.
    """

    totals: dict[str, int]
    top: list[dict[str, Any]]
    directories: list[dict[str, Any]]
    repositories: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    scopes: dict[str, int]
    base_image_saving_bytes: int | None
    findings: list[Finding]


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


class Sums(NamedTuple):
    """What a layer's file says in total: files with hard links, their bytes, and the contents recorded.

    `fingerprint` is the same for layers with the same paths and contents, in whatever order and with whatever times.
    """

    item_count: int
    size_bytes: int
    record_count: int
    fingerprint: int


class Pulse(Protocol):
    """Whom reading tells how far it is, and asks whether to go on."""

    def advance(self, count: int) -> None:
        """Say that so many more stored bytes were read."""

    @property
    def is_stopped(self) -> bool:
        """Whether to stop."""


class _StoppedError(Exception):
    """Somebody asked to stop in the midst of a layer."""


def read_contents(
    registry: Registry,
    images: Mapping[Digest, Sequence[str]],
    *,
    level: str = FILES,
    jobs: int = 1,
    top: int = 20,
    newest: Mapping[str, Digest] | None = None,
    directory: Path | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ContentsReport:
    """Read the layers of images, those that are not remembered, and sum up what is in them.

    What is no tar archive by its media type is passed over, and so is what is not there, which other checks tell of.

    Args:
        registry: where they lie.
        images: manifest to the names of the repositories that keep it; those of other kinds than images have no layers.
        level: `file` or `chunk`.
        jobs: processes at once.
        top: rows of the longest lists.
        newest: repository to an image of it, for advice on what its layers hide.
        directory: the state directory; None for the usual one. Where it cannot be written nothing is remembered.
        progress: told of manifests, then of stored bytes of layers, then of layers as they are summed up.
        cancel: asked between pieces; the layers that were read by then are remembered.

    Raises:
        UsageError: chunks are asked for and the extra is not installed.
        InterruptedRunError: somebody asked to stop.
        StorageFailedError: the state directory is full.
    """
    if level not in _SUFFIXES:
        raise ValueError(f"no level: {level!r}")
    if level == CHUNKS:
        load_cutter()
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    images_of = _find_layers(registry.driver, list(images), jobs, progress, cancel)
    with _open_memory(directory) as (memory, scratch):
        findings, sums = _read_layers(registry, sorted(images_of), level, jobs, memory, scratch, progress, cancel)
        layers = [_Layer(digest, _target(memory, digest, level), *sums[digest]) for digest in sorted(sums)]
        merge = _Merge(layers, [images_of[layer.digest] for layer in layers], images, level, top, scratch)
        with _telling(scratch):
            report = merge.run(findings, progress, cancel)
        if level == FILES:
            report.findings.extend(_iter_advice(registry.driver, newest or {}, layers, cancel))
        return report


def _find_layers(
    driver: ReadDriver, images: list[Digest], jobs: int, progress: Progress, cancel: Cancel
) -> dict[Digest, list[Digest]]:
    """Return which images have each layer that is a tar archive."""
    images_of: dict[Digest, list[Digest]] = {}
    progress.start("manifests", len(images))
    for image, layers in zip(images, map_bounded(lambda image: _layers_in(driver, image), images, jobs), strict=True):
        cancel.check()
        progress.advance()
        for layer in layers:
            images_of.setdefault(layer, []).append(image)
    progress.finish()
    return images_of


def _iter_advice(
    driver: ReadDriver, newest: Mapping[str, Digest], layers: Sequence[_Layer], cancel: Cancel
) -> Iterator[Finding]:
    yield from iter_twin_advice(
        (layer.digest, layer.fingerprint, layer.item_count, layer.size_bytes) for layer in layers
    )
    known = {layer.digest: layer for layer in layers}
    seen: dict[Digest, HiddenFiles] = {}
    for image in newest.values():
        cancel.check()
        own = [known[digest] for digest in _layers_in(driver, image) if digest in known]
        if image not in seen and sum(layer.record_count for layer in own) <= _ADVISED_RECORDS:
            seen[image] = count_hidden([_iter_files(layer.path) for layer in own])
    yield from iter_hidden_advice((name, image, seen[image]) for name, image in newest.items() if image in seen)


def _layers_in(driver: ReadDriver, image: Digest) -> list[Digest]:
    """Return the tar archives that a manifest names, the lowest first; what cannot be read or understood names none."""
    try:
        manifest = json.loads(driver.read(BlobData(image).key))
        if manifest.get("schemaVersion") == 1:
            named = [layer["blobSum"] for layer in reversed(manifest["fsLayers"])]
        else:
            layers = manifest.get("layers") or []
            named = [layer["digest"] for layer in layers if layer.get("mediaType") in LAYER_TYPES]
        return list(dict.fromkeys(map(parse_digest, named)))
    except (DriverError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


@contextmanager
def _open_memory(directory: Path | None) -> Iterator[tuple[Path, Path]]:
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


def _target(memory: Path, digest: Digest, level: str) -> Path:
    _, digits = split_digest(digest)
    return memory / digits[:2] / f"{digits}{_SUFFIXES[level]}"


def _read_layers(
    registry: Registry,
    layers: list[Digest],
    level: str,
    jobs: int,
    memory: Path,
    scratch: Path,
    progress: Progress,
    cancel: Cancel,
) -> tuple[list[Finding], dict[Digest, Sums]]:
    """Read what is not remembered; return a finding for each layer that cannot be read, and the sums of the others."""
    reasons: dict[Digest, str] = {}
    sizes: dict[Digest, int] = {}
    for layer, size in zip(
        layers, map_bounded(lambda layer: _size_of(registry.driver, layer), layers, jobs), strict=True
    ):
        cancel.check()
        if isinstance(size, DriverError):
            reasons[layer] = str(size)
        elif size is not None:
            sizes[layer] = size
    progress.start("layers", sum(sizes.values()))
    sums: dict[Digest, Sums] = {}
    source = _source_of(registry)
    specs = []
    for layer, size in sizes.items():
        cancel.check()
        target = _target(memory, layer, level)
        known = load_sums(target)
        if known:
            sums[layer] = known
            progress.advance(size)
        else:
            specs.append(LayerSpec(source, layer, size, level, target, scratch))
    specs.sort(key=lambda spec: -spec.packed_bytes)  # the largest first: none of them is left to one process at the end
    for spec, result in _read_all(registry.driver, specs, jobs, progress, cancel):
        known = load_sums(spec.target) if result.is_read else None
        if known:
            sums[spec.digest] = known
        elif result.reason or result.is_read:
            reasons[spec.digest] = result.reason or f"{spec.target} cannot be read again"
    cancel.check()
    progress.finish()
    return [finding("layer-unreadable", format_digest(layer), reasons[layer]) for layer in sorted(reasons)], sums


def _source_of(registry: Registry) -> str | RegistryConfig:
    if isinstance(registry.driver, HasLocalPath):
        return registry.driver.local_path("")
    return registry.config or registry.location


def _size_of(driver: ReadDriver, layer: Digest) -> int | DriverError | None:
    try:
        return driver.stat(BlobData(layer).key).size
    except NotFound:
        return None
    except DriverError as error:
        return error


# Reading layers.


def _read_all(
    driver: ReadDriver, specs: list[LayerSpec], jobs: int, progress: Progress, cancel: Cancel
) -> Iterator[tuple[LayerSpec, LayerResult]]:
    can_reopen = isinstance(driver, HasLocalPath) or driver.scheme == "s3"
    if min(jobs, len(specs)) > 1 and can_reopen:
        yield from _read_in_processes(specs, jobs, progress, cancel)
        return
    pulse = _OwnPulse(progress, cancel)
    for spec in specs:
        try:
            yield spec, read_layer(spec, driver, pulse)
        except _StoppedError:
            cancel.check()


def _read_in_processes(
    specs: list[LayerSpec], jobs: int, progress: Progress, cancel: Cancel
) -> Iterator[tuple[LayerSpec, LayerResult]]:
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("Q", 0), context.Event()
    told = 0
    waiting = deque(specs)
    pending: dict[Future[LayerResult], LayerSpec] = {}
    with ProcessPoolExecutor(
        min(jobs, len(specs)), context, initializer=_begin_worker, initargs=(counter, stop, os.getpid())
    ) as pool:
        try:
            while waiting or pending:
                while waiting and len(pending) < 4 * jobs:
                    spec = waiting.popleft()
                    pending[pool.submit(read_layer, spec)] = spec
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                now = counter.value
                progress.advance(now - told)
                told = now
                cancel.check()
                for future in done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise StorageFailedError(
                "a process that read layers was killed, perhaps for want of memory", hint="ask for fewer jobs"
            ) from error
        finally:
            stop.set()
            for future in pending:
                future.cancel()


class _OwnPulse:
    def __init__(self, progress: Progress, cancel: Cancel) -> None:
        self.advance = progress.advance
        self._cancel = cancel

    @property
    def is_stopped(self) -> bool:
        return self._cancel.is_requested


class _SharedPulse:
    def __init__(self, counter: Synchronized[int], stop: Event) -> None:
        self._counter = counter
        self._stop = stop

    def advance(self, count: int) -> None:
        with self._counter.get_lock():
            self._counter.value += count

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()


_shared_pulse: Pulse | None = None
"""Of a worker."""


def _begin_worker(counter: Synchronized[int], stop: Event, parent: int) -> None:
    global _shared_pulse
    _shared_pulse = _SharedPulse(counter, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or most > _WORKER_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (_WORKER_BYTES, most))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the parent is gone: it may have been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@lru_cache(maxsize=1)
def _reopened(location: str) -> ReadDriver:
    return _retrying(open_driver(location))


_from_config: dict[str, ReadDriver] = {}


def _reopen(source: str | RegistryConfig) -> ReadDriver:
    if isinstance(source, str):
        return _reopened(source)
    if source.path not in _from_config:
        _from_config[source.path] = _retrying(source.open_driver(1))
    return _from_config[source.path]


def _retrying(driver: Any) -> ReadDriver:
    if isinstance(driver, HasLocalPath):
        return cast("ReadDriver", driver)
    from regstore_drivers.wrappers import Retrying  # only object stores need it

    return Retrying(driver)


def read_layer(spec: LayerSpec, driver: ReadDriver | None = None, pulse: Pulse | None = None) -> LayerResult:
    """Read a layer and remember what is in it. The stored bytes are hashed on the way.

    Args:
        spec: which, and where to.
        driver: its storage; None opens what the spec says, in another process.
        pulse: told of progress; None for the one of a worker.

    Raises:
        _StoppedError: it was asked to.
        StorageFailedError: what is in it cannot be written down.
    """
    driver = driver or _reopen(spec.source)
    limit = min(_PLAIN_LIMIT_BYTES, _EXPANSION_LIMIT * spec.packed_bytes + _EXPANSION_FREE_BYTES)
    unfinished = spec.scratch / f"{os.getpid()}-{spec.target.name}"
    try:
        with _telling(unfinished), _Writer(unfinished) as writer:
            try:
                with driver.open(BlobData(spec.digest).key) as stream:
                    packed = _Packed(stream, spec.digest, pulse or _shared_pulse)
                    plain = _bounded(iter_plain(cast("BinaryIO", packed)), limit, pulse or _shared_pulse)
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


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailedError(
            f"the state directory fails: {error.filename or path}: {error.strerror}",
            hint="free some space there, or set XDG_STATE_HOME to another directory",
        ) from error


class _Packed:
    """The stored bytes of a layer, hashed as they are read."""

    def __init__(self, stream: BinaryIO, digest: Digest, pulse: Pulse | None) -> None:
        self._stream = stream
        self._pulse = pulse
        algorithm, self._digits = split_digest(digest)
        self._hasher = hashlib.new(algorithm)
        self._is_first = True

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        if self._pulse:
            self._pulse.advance(len(data))
        if self._is_first:
            self._is_first = False
            self._check_window(data)
        return data

    @staticmethod
    def _check_window(data: bytes) -> None:
        with suppress(zstandard.ZstdError):
            window = zstandard.get_frame_parameters(data).window_size
            if window > _WINDOW_LIMIT_BYTES:
                raise UndecodableError(f"decompressing it needs a window of {window} bytes")

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
            raise _StoppedError
        yield piece


# The files that remember.


class _Writer:
    """Writes the file of a layer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hasher = xxhash.xxh3_64()
        self._compressor = zstandard.ZstdCompressor(level=1).compressobj()
        self._put(_MAGIC)
        self._fixed = bytearray()
        self._names = bytearray()
        self._count = self._size_bytes = self._record_count = self._fingerprint = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write_files(self, pieces: Iterable[bytes]) -> None:
        """Record the files of a tar archive."""
        for path, kind, size, digest in iter_entries(pieces):
            if kind is Kind.REGULAR:
                name = path[:_PATH_BYTES]
                self._record(digest, size, xxhash.xxh3_64_intdigest(name.rpartition(b"/")[0]), name)
            elif kind is Kind.HARD_LINK:
                self._count += 1

    def write_chunks(self, pieces: Iterable[bytes]) -> None:
        """Record the chunks of any bytes."""
        for size, digest in iter_chunks(pieces):
            self._record(digest, size, 0, b"")

    def _record(self, digest: bytes, size: int, directory: int, name: bytes) -> None:
        self._count += 1
        self._size_bytes += size
        self._record_count += 1
        self._fingerprint += xxhash.xxh3_64_intdigest(name + digest)
        self._fixed += _RECORD.pack(digest + size.to_bytes(8, "little"), directory)
        self._names += _NAME.pack(len(name)) + name
        if len(self._fixed) >= _BLOCK_RECORDS * _RECORD.size or len(self._names) >= _BLOCK_NAME_BYTES:
            self._flush()

    def _flush(self) -> None:
        head = _BLOCK.pack(len(self._fixed) // _RECORD.size, len(self._names))
        self._put(self._compressor.compress(b"".join((head, self._fixed, self._names))))
        self._fixed.clear()
        self._names.clear()

    def finish(self) -> None:
        """Complete the file."""
        if self._fixed:
            self._flush()
        self._flush()  # an empty block ends the frame: its reader would try to read on in what follows
        fingerprint = self._fingerprint % (1 << 64)
        self._put(self._compressor.flush())
        self._put(_SUMS.pack(self._count, self._size_bytes, self._record_count, fingerprint))
        self._file.write(_CHECKSUM.pack(self._hasher.intdigest()))
        self._file.close()

    def _put(self, data: bytes) -> None:
        self._hasher.update(data)
        self._file.write(data)


def load_sums(path: Path) -> Sums | None:
    """Return the sums of a layer's file when it is whole; None when it is not, or not there."""
    hasher = xxhash.xxh3_64()
    try:
        with path.open("rb") as file:
            left = file.seek(0, os.SEEK_END) - _CHECKSUM.size
            if left < len(_MAGIC) + _SUMS.size:
                return None
            file.seek(0)
            tail = b""
            while left:
                data = file.read(min(left, 1 << 20))
                if not data:
                    return None
                if not tail and not data.startswith(_MAGIC):
                    return None
                left -= len(data)
                hasher.update(data)
                tail = (tail + data)[-_SUMS.size :]
            if file.read() != _CHECKSUM.pack(hasher.intdigest()):
                return None
    except OSError:
        return None
    return Sums(*_SUMS.unpack(tail))


def _iter_blocks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fixed records and the names of each block of a layer's file that was found whole."""
    with path.open("rb") as file:
        file.seek(len(_MAGIC))
        reader = zstandard.ZstdDecompressor().stream_reader(file, closefd=False)
        while (head := _BLOCK.unpack(_read_exactly(reader, _BLOCK.size))) != (0, 0):
            count, name_bytes = head
            yield _read_exactly(reader, count * _RECORD.size), _read_exactly(reader, name_bytes)


def _iter_files(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield path and size of the files of a layer's file that was found whole."""
    for fixed, names in _iter_blocks(path):
        at = 0
        for content, _ in _RECORD.iter_unpack(fixed):
            start = at + _NAME.size
            at = start + _NAME.unpack_from(names, at)[0]
            yield names[start:at], int.from_bytes(content[16:], "little")


def _read_exactly(reader: Any, size: int) -> bytes:
    parts = []
    while size and (data := reader.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _read_names(path: Path, wanted: set[int]) -> dict[int, bytes]:
    """Return the names of some records of a layer's file by their numbers."""
    found: dict[int, bytes] = {}
    number = 0
    for fixed, names in _iter_blocks(path):
        count = len(fixed) // _RECORD.size
        if any(number <= one < number + count for one in wanted):
            at = 0
            for index in range(number, number + count):
                start = at + _NAME.size
                at = start + _NAME.unpack_from(names, at)[0]
                if index in wanted:
                    found[index] = names[start:at]
        number += count
        if len(found) == len(wanted):
            break
    return found


# Summing up.


class _Layer(NamedTuple):
    digest: Digest
    path: Path
    item_count: int
    size_bytes: int
    record_count: int
    fingerprint: int


class _Partitions:
    """Records in files by a number, written through a buffer of bounded size."""

    def __init__(self, directory: Path, name: str, count: int) -> None:
        self.buffers = [bytearray() for _ in range(count)]
        self._paths = [directory / f"{name}-{number}" for number in range(count)]

    def flush(self) -> None:
        """Write what is buffered."""
        for path, buffer in zip(self._paths, self.buffers, strict=True):
            if buffer:
                with _telling(path), path.open("ab") as file:
                    file.write(buffer)
                buffer.clear()

    def take(self, number: int, record: struct.Struct) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Yield the records of one file, some thousands at a time, and remove it."""
        path = self._paths[number]
        with suppress(FileNotFoundError), path.open("rb") as file:
            while data := file.read(record.size * 16384):
                yield record.iter_unpack(data)
        path.unlink(missing_ok=True)


class _Scope(NamedTuple):
    """Where a content lies that is in some layers: its repositories, and the layers that repeat it, counted by scope
    (within an image, across images, across repositories)."""

    repositories: tuple[int, ...]
    repeats: tuple[int, int, int]


class _Merge:
    """The sums over the files of all layers.

    Args:
        layers: in their order, which says what the first copy of a content is.
        images_of: the images that have each.
        images: manifest to repositories.
        level: `file` or `chunk`.
        top: rows of the longest lists.
        scratch: a directory for the partitions.
    """

    def __init__(
        self,
        layers: list[_Layer],
        images_of: list[list[Digest]],
        images: Mapping[Digest, Sequence[str]],
        level: str,
        top: int,
        scratch: Path,
    ) -> None:
        self._layers = layers
        self._images_of = images_of
        self._names = sorted({name for names in images.values() for name in names})
        number_of = {name: number for number, name in enumerate(self._names)}
        self._repositories_of = [
            sorted({number_of[name] for image in found for name in images[image]}) for found in images_of
        ]
        self._level = level
        self._top = top
        records = sum(layer.record_count for layer in layers)
        count = min(1 << (records // _PARTITION_RECORDS).bit_length(), _MAX_PARTITIONS)
        self._copies = _Partitions(scratch, "copies", count)
        self._directories = _Partitions(scratch, "directories", count)
        self._unique_count = self._unique_bytes = self._saving = 0
        self._scopes = [0, 0, 0]
        self._by_repositories: Counter[tuple[int, ...]] = Counter()
        self._most: list[tuple[int, int, int, int, bytes]] = []
        self._known_scope_of = lru_cache(maxsize=10_000)(self._find_scope)

    def run(self, findings: list[Finding], progress: Progress, cancel: Cancel) -> ContentsReport:
        """Make the report."""
        progress.start("contents", len(self._layers) + len(self._copies.buffers))
        self._distribute(progress, cancel)
        for number in range(len(self._copies.buffers)):
            cancel.check()
            self._sum_up(number)
            progress.advance()
        directories = self._most_duplicated(cancel)
        progress.finish()
        return self._report(findings, directories)

    def _distribute(self, progress: Progress, cancel: Cancel) -> None:
        buffers, mask, pack = self._copies.buffers, len(self._copies.buffers) - 1, _COPY.pack
        buffered = 0
        for number, layer in enumerate(self._layers):
            index = 0
            for fixed, _ in _iter_blocks(layer.path):
                cancel.check()
                for content, directory in _RECORD.iter_unpack(fixed):
                    # Python's own hash is seeded anew in each run: no archive can be made to fill one partition.
                    buffers[hash(content) & mask] += pack(content, number, index, directory)
                    index += 1
                buffered += len(fixed)
                if buffered > _BUFFER_BYTES:
                    self._copies.flush()
                    buffered = 0
            progress.advance()
        self._copies.flush()

    def _sum_up(self, number: int) -> None:
        first: dict[bytes, int] = {}
        again: dict[bytes, list[int]] = {}
        directories: dict[int, list[int]] = {}
        for records in self._copies.take(number, _COPY):
            for content, layer, index, directory in records:
                place = first.get(content)
                if place is None:
                    first[content] = layer << 32 | index
                    continue
                seen = again.get(content)
                if seen is None:
                    again[content] = seen = [1, place >> 32]
                seen[0] += 1
                if seen[-1] != layer:
                    seen.append(layer)
                size = int.from_bytes(content[16:], "little")
                if size:
                    known = directories.get(directory)
                    if known is None:
                        directories[directory] = [size, 1, layer << 32 | index]
                    else:
                        known[0] += size
                        known[1] += 1
        self._add_contents(first, again)
        mask = len(self._directories.buffers) - 1
        for directory, (size, count, place) in directories.items():
            self._directories.buffers[directory & mask] += _DIRECTORY.pack(directory, size, count, place)
        if sum(map(len, self._directories.buffers)) > _BUFFER_BYTES:
            self._directories.flush()

    def _add_contents(self, first: dict[bytes, int], again: dict[bytes, list[int]]) -> None:
        by_layers: Counter[tuple[int, ...]] = Counter()
        self._unique_count += len(first)
        for content, place in first.items():
            size = int.from_bytes(content[16:], "little")
            seen = again.get(content)
            if seen is None:
                by_layers[(place >> 32,)] += size
            else:
                copies, *layers = seen
                by_layers[tuple(layers)] += size
                self._scopes[0] += size * (copies - len(layers))
                self._note(size, copies, place, content)
        for key, size in by_layers.items():
            # Partitions repeat the same few sets of layers; long ones would make the cache large.
            scope = self._known_scope_of(key) if len(key) <= 64 else self._find_scope(key)
            self._unique_bytes += size
            self._saving += size * (len(key) - 1)
            self._by_repositories[scope.repositories] += size
            for index, count in enumerate(scope.repeats):
                self._scopes[index] += size * count

    def _note(self, size: int, copies: int, place: int, content: bytes) -> None:
        """Keep a content if it is among those that waste most."""
        if not size or self._top <= 0:
            return
        row = (size * (copies - 1), size, -place, copies, content)
        if len(self._most) < self._top:
            heapq.heappush(self._most, row)
        elif row > self._most[0]:
            heapq.heapreplace(self._most, row)

    def _find_scope(self, layers: tuple[int, ...]) -> _Scope:
        images = set(self._images_of[layers[0]])
        repositories = set(self._repositories_of[layers[0]])
        within = across_images = across_repositories = 0
        for layer in layers[1:]:
            if not images.isdisjoint(self._images_of[layer]):
                within += 1
            elif not repositories.isdisjoint(self._repositories_of[layer]):
                across_images += 1
            else:
                across_repositories += 1
            images.update(self._images_of[layer])
            repositories.update(self._repositories_of[layer])
        return _Scope(tuple(sorted(repositories)), (within, across_images, across_repositories))

    def _most_duplicated(self, cancel: Cancel) -> list[tuple[int, int, int]]:
        """Return bytes, files and the place of one file of the directories with most duplicates."""
        if self._level == CHUNKS:
            return []
        self._directories.flush()
        most: list[tuple[int, int, int]] = []
        for number in range(len(self._directories.buffers)):
            cancel.check()
            found: dict[int, list[int]] = {}
            for records in self._directories.take(number, _DIRECTORY):
                for directory, size, count, place in records:
                    known = found.setdefault(directory, [0, 0, place])
                    known[0] += size
                    known[1] += count
                    known[2] = min(known[2], place)
            rows = ((size, count, -place) for size, count, place in found.values())
            most = heapq.nlargest(self._top, [*most, *heapq.nlargest(self._top, rows)])
        return [(size, count, -place) for size, count, place in most]

    def _report(self, findings: list[Finding], directories: list[tuple[int, int, int]]) -> ContentsReport:
        noun = self._level
        size_bytes = sum(layer.size_bytes for layer in self._layers)
        most = sorted(self._most, reverse=True)
        if noun == CHUNKS:
            labels = [{"digest": f"xxh3:{content[:16].hex()}"} for *_, content in most]
            rows = []
        else:
            names = self._names_at([-row[2] for row in most] + [place for *_, place in directories])
            labels = [{"path": _text(names[-row[2]])} for row in most]
            rows = [
                {
                    "path": _text(names[place].rpartition(b"/")[0]) or ".",
                    "duplicate_bytes": size,
                    "file_count": count,
                }
                for size, count, place in directories
            ]
        return ContentsReport(
            totals={
                "layer_count": len(self._layers),
                f"{noun}_count": sum(layer.item_count for layer in self._layers),
                f"{noun}_bytes": size_bytes,
                f"unique_{noun}_count": self._unique_count,
                "unique_bytes": self._unique_bytes,
                "duplicate_bytes": size_bytes - self._unique_bytes,
            },
            top=[
                {**label, "size_bytes": size, "copies": copies}
                for label, (_, size, _, copies, _) in zip(labels, most, strict=True)
            ],
            directories=rows,
            repositories=self._repository_rows(),
            pairs=self._pair_rows(),
            scopes={
                "within_image_bytes": self._scopes[0],
                "across_images_bytes": self._scopes[1],
                "across_repositories_bytes": self._scopes[2],
            },
            base_image_saving_bytes=self._saving,
            findings=findings,
        )

    def _names_at(self, places: list[int]) -> dict[int, bytes]:
        wanted: dict[int, set[int]] = {}
        for place in places:
            wanted.setdefault(place >> 32, set()).add(place & 0xFFFFFFFF)
        names: dict[int, bytes] = {}
        for number, indexes in wanted.items():
            for index, name in _read_names(self._layers[number].path, indexes).items():
                names[number << 32 | index] = name
        return names

    def _repository_rows(self) -> list[dict[str, Any]]:
        counts, sizes, unique, distinct = ([0] * len(self._names) for _ in range(4))
        for layer, numbers in zip(self._layers, self._repositories_of, strict=True):
            for number in numbers:
                counts[number] += layer.item_count
                sizes[number] += layer.size_bytes
        for together, size in self._by_repositories.items():
            for number in together:
                distinct[number] += size
            if len(together) == 1:
                unique[together[0]] += size
        rows = [
            {
                "name": name,
                f"{self._level}_count": counts[number],
                f"{self._level}_bytes": sizes[number],
                "unique_bytes": unique[number],
                "duplicate_bytes": sizes[number] - distinct[number],
            }
            for number, name in enumerate(self._names)
        ]
        return sorted(rows, key=lambda row: (-row[f"{self._level}_bytes"], row["name"]))

    def _pair_rows(self) -> list[dict[str, Any]]:
        """Return the pairs that share most, with one repository's pairs in memory at a time."""
        groups: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in self._names]
        for numbers, size in self._by_repositories.items():
            for index, number in enumerate(numbers[:-1]):
                groups[number].append((numbers[index + 1 :], size))
        most: list[tuple[int, int, int]] = []
        for number, group in enumerate(groups):
            shared: Counter[int] = Counter()
            for others, size in group:
                for other in others:
                    shared[other] += size
            rows = [(size, -number, -other) for other, size in shared.items() if size]
            most = heapq.nlargest(self._top, most + rows)
        return [{"a": self._names[-a], "b": self._names[-b], "shared_bytes": size} for size, a, b in most]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")

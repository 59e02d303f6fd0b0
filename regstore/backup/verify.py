"""`backup verify`: is everything there that the snapshots need, and is it what it was?

Reads only, and takes no lock. What is lost is told once, with every image that it hurts and in which snapshots.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore.backup import layout
from regstore.backup.catalogue import BackupFinding, finding
from regstore.backup.pack import PackDamagedError, iter_index, parse_tail, read_frame, read_member
from regstore.backup.select import iter_snapshots
from regstore.backup.store import StoreData
from regstore.digest import Digest, format_digest, is_digest_of, split_digest
from regstore.inventory.manifests import TolerantReader
from regstore.inventory.reach import hurt_tags
from regstore.state import State
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from regstore.backup.engine import SnapshotData
    from regstore.backup.listing import Listing
    from regstore.backup.snapshot import Snapshot
    from regstore.backup.store import Store
    from regstore.work import Progress

_PIECE_BYTES = 1024 * 1024
_OBJECT_JOBS = 16


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is read.

    Attributes:
        is_full: every byte of every file that a restore needs.
        subset: of the data the slice `n` of `t`; None: none, or all when `is_full`.
        jobs: files at once; None: as many as there are processors, or 16 where a request takes its time.
    """

    is_full: bool = False
    subset: tuple[int, int] | None = None
    jobs: int | None = None

    @property
    def reads_data(self) -> bool:
        """Whether data are hashed."""
        return self.is_full or self.subset is not None


@dataclass(slots=True)
class VerifyResult:
    """What was looked at, and what was found. Bytes and counts of blobs and packs are those that were hashed."""

    findings: list[BackupFinding] = field(default_factory=list)
    snapshot_count: int = 0
    blob_count: int = 0
    total_bytes: int = 0
    hashed_count: int = 0
    hashed_bytes: int = 0


def verify_store(
    store: Store,
    options: VerifyOptions | None = None,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> VerifyResult:
    """Verify a store.

    Raises:
        DriverError, StorageFailedError: the store cannot be listed.
        InterruptedRunError: somebody asked to stop.
    """
    return _Verification(store, options or VerifyOptions(), progress or NoProgress(), cancel or Cancel()).run()


class _Hashed(NamedTuple):
    """What reading one file found: its bytes, the digests that are lost with kind and detail, and what is wrong with
    the pack as a whole."""

    size: int
    lost: dict[Digest, tuple[str, str]]
    pack_problem: str = ""


class _Verification:
    def __init__(self, store: Store, options: VerifyOptions, progress: Progress, cancel: Cancel) -> None:
        self._store = store
        self._options = options
        self._progress = progress
        self._cancel = cancel
        is_local = isinstance(store.driver, HasLocalPath)
        self._jobs = options.jobs or ((os.cpu_count() or 1) if is_local else _OBJECT_JOBS)
        self._result = VerifyResult()
        self._lock = threading.Lock()

    def run(self) -> VerifyResult:
        result = self._result
        if self._options.is_full:
            self._store.distrust_cache()
        listing = self._store.take_listing()
        data = StoreData(self._store, listing, self._store.load_packed(listing.packs))
        recorded = self._read_snapshots()
        result.blob_count, result.total_bytes = len(recorded), sum(recorded.values())
        lost = data.find_lost(recorded)
        for name, reason in data.damaged.items():
            result.findings.append(finding("pack-damaged", name, reason))
        if self._options.reads_data:
            lost |= self._hash_data(listing, data, recorded, lost)
        self._name_lost(lost, data)
        if listing.strays:
            detail = f"{len(listing.strays)} keys, such as {listing.strays[0]}"
            result.findings.append(finding("store-stray", listing.strays[0], detail))
        result.findings.sort(key=lambda found: (-found.severity, found.id, found.subject))
        return result

    def _read_snapshots(self) -> dict[Digest, int]:
        """Read and hash every snapshot, and return digest to bytes of all that they need."""
        recorded: dict[Digest, int] = {}
        for loaded in iter_snapshots(self._store):
            self._cancel.check()
            if loaded.snapshot is None:
                self._result.findings.append(loaded.finding())
                continue
            self._result.snapshot_count += 1
            recorded |= loaded.snapshot.blobs()
        return recorded

    def _hash_data(
        self,
        listing: Listing,
        data: StoreData,
        recorded: Mapping[Digest, int],
        lost: Mapping[Digest, tuple[str, str]],
    ) -> dict[Digest, tuple[str, str]]:
        """Hash what the snapshots need, as far as it is to be read; return what is not as it should be."""
        known = listing.blobs.keys() - lost.keys() - self._store.packed.digests()
        verbatim = [digest for digest in sorted(recorded) if digest in known and self._is_due(digest)]
        packs = [
            (entry.key, entry.size)
            for entry in listing.packs
            if self._is_due(bytes.fromhex(layout.parse_pack_key(entry.key) or ""))
        ]
        total = sum(recorded[digest] for digest in verbatim) + sum(size for _, size in packs)
        self._progress.start("data", total, "B")
        bad: dict[Digest, tuple[str, str]] = {}
        for hashed in map_bounded(self._hash_blob, verbatim, self._jobs):
            self._take(hashed, bad)
        for (key, _), hashed in zip(packs, map_bounded(self._hash_pack, packs, self._jobs), strict=True):
            self._take(hashed, bad)
            name = layout.parse_pack_key(key) or ""
            if hashed.pack_problem and name not in data.damaged:
                self._result.findings.append(finding("pack-damaged", name, hashed.pack_problem))
        self._progress.finish()
        return {digest: why for digest, why in bad.items() if digest in recorded}

    def _take(self, hashed: _Hashed, bad: dict[Digest, tuple[str, str]]) -> None:
        self._result.hashed_count += 1
        self._result.hashed_bytes += hashed.size
        bad |= hashed.lost

    def _is_due(self, digest: bytes) -> bool:
        if self._options.subset is None:
            return True
        number, count = self._options.subset
        return int.from_bytes(digest[:4]) % count == number - 1

    def _hash_blob(self, digest: Digest) -> _Hashed:
        algorithm, digits = split_digest(digest)
        hasher = hashlib.new(algorithm)
        size = 0
        try:
            with self._store.driver.open(layout.blob_key(digest)) as stream:
                while piece := stream.read(_PIECE_BYTES):
                    self._cancel.check()
                    hasher.update(piece)
                    size += len(piece)
                    self._advance(len(piece))
        except DriverError as error:
            return _Hashed(size, {digest: ("store-blob-corrupt", str(error))})
        if hasher.hexdigest() != digits:
            detail = f"the {size} bytes of {layout.blob_key(digest)} hash to {algorithm}:{hasher.hexdigest()}"
            return _Hashed(size, {digest: ("store-blob-corrupt", detail)})
        return _Hashed(size, {})

    def _hash_pack(self, pack: tuple[str, int]) -> _Hashed:
        """Read a pack whole: it hashes to its name, and each blob in it to its own."""
        key, size = pack
        self._cancel.check()
        name = layout.parse_pack_key(key) or ""
        try:
            data = self._store.driver.read(key, limit=max(size, 1))
            self._advance(len(data))
            index = parse_tail(data)
        except (DriverError, PackDamagedError) as error:
            return _Hashed(0, {}, str(error))
        problem = "" if hashlib.sha256(data).hexdigest() == name else "it does not hash to its name"
        lost: dict[Digest, tuple[str, str]] = {}
        frames: dict[int, bytes] = {}
        for digest, place in iter_index(index):
            try:
                if place.frame_offset not in frames:
                    end = place.frame_offset + place.frame_length
                    frames = {place.frame_offset: read_frame(data[place.frame_offset : end])}
                blob = read_member(frames[place.frame_offset], place)
            except PackDamagedError as error:
                lost[digest] = ("store-blob-corrupt", f"in {key}: {error}")
                continue
            if not is_digest_of(digest, blob):
                lost[digest] = ("store-blob-corrupt", f"in {key}: it does not hash to its name")
        return _Hashed(len(data), lost, problem)

    def _advance(self, count: int) -> None:
        with self._lock:
            self._progress.advance(count)

    def _name_lost(self, lost: dict[Digest, tuple[str, str]], data: StoreData) -> None:
        """Tell of each lost blob once: which images it hurts, in which snapshots."""
        if not lost:
            return
        images: dict[Digest, set[str]] = {digest: set() for digest in lost}
        snapshots: dict[Digest, list[str]] = {digest: [] for digest in lost}
        for loaded in iter_snapshots(self._store):
            if loaded.snapshot is None:
                continue
            for digest in lost.keys() & loaded.snapshot.blobs().keys():
                snapshots[digest].append(loaded.file.id)
            for digest, image in iter_hurt(loaded.snapshot, data, lost.keys(), self._progress, self._cancel):
                images[digest].add(image)
        for digest, (kind, detail) in sorted(lost.items()):
            hurt = tuple(sorted(images[digest]))
            found = finding(kind, format_digest(digest), detail, hurt, tuple(snapshots[digest]))
            self._result.findings.append(found)


def iter_hurt(
    snapshot: Snapshot, data: SnapshotData, lost: Collection[Digest], progress: Progress, cancel: Cancel
) -> Iterator[tuple[Digest, str]]:
    """Yield each lost digest with each image (`repository:tag`) of a snapshot that reaches it.

    Raises:
        SnapshotDamagedError: the snapshot cannot be understood.
        DriverError, StorageFailedError: the store cannot be read.
    """
    bad = set(lost)
    manifests = TolerantReader(data, State(None))
    progress.start(f"images of {snapshot.head.id}", len(snapshot.repositories))
    for contents in snapshot.iter_contents():
        cancel.check()
        progress.advance()
        if bad.isdisjoint(contents.layers.values()) and bad.isdisjoint(contents.revisions):
            continue
        repository = contents.to_repository()
        manifests.load(contents.name, repository.revisions)
        for tag, digests in hurt_tags(repository, manifests, bad).items():
            for digest in digests:
                yield digest, f"{contents.name}:{tag}"
    progress.finish()


def parse_subset(text: str) -> tuple[int, int]:
    """Parse `n/t`, as `1/7`.

    Raises:
        ValueError: it is no such slice.
    """
    number, separator, count = text.partition("/")
    if separator and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise ValueError(f"{text!r} is no slice: write it as 1/7")

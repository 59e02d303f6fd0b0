"""The native store: a directory, or a prefix in a bucket, of verbatim blobs, packs and snapshots.

No object is ever changed, and no index is the only truth: what a store holds is what its listing shows. The only
writers are `backup create` and `backup prune`, one at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from regstore.backup import layout
from regstore.backup.cache import StoreCache
from regstore.backup.frames import FrameCache
from regstore.backup.listing import Listing, mark_of, snapshot_file, walk_store
from regstore.backup.pack import (
    TAIL_BYTES,
    PackDamagedError,
    Packed,
    PackIndex,
    parse_tail,
    read_frame,
    read_member,
)
from regstore.backup.snapshot import Snapshot, SnapshotDamagedError, parse_snapshot
from regstore.lock import hold_lock, remove_lock
from regstore.registry.ends import check_apart
from regstore.transfer import copy_blobs
from regstore.work import map_bounded
from regstore_drivers.base import Entry, HasLocalPath, HasMultipart
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from regstore.backup.engine import SnapshotFile
    from regstore.digest import Digest
    from regstore.lock import Holder
    from regstore.transfer import Failed, Item, Journal
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import Driver, ReadDriver
    from regstore_drivers.bulk import BulkWriter

_SNAPSHOT_LIMIT = 1 << 32
_HEX = "0123456789abcdef"


class Store:
    """An open store. Safe to use from several threads.

    Args:
        driver: keys are relative to the store's root.
        identity: what `format.json` says.
        jobs: requests at once.
    """

    def __init__(self, driver: Driver, identity: str, jobs: int) -> None:
        self.driver = driver
        self.id = identity
        self.jobs = jobs
        self._is_local = isinstance(driver, HasLocalPath)
        self._cache = StoreCache(identity)
        self._believes_cache = not self._is_local
        self.packed = PackIndex()
        """Where packed blobs lie, as far as `load_packed` was told."""
        self._frames = FrameCache(self._read_frame)

    @property
    def location(self) -> str:
        """The root as a URL without credentials."""
        return self.driver.location

    @contextmanager
    def hold_lock(self, command: str, wait_seconds: float, cancel: Cancel) -> Iterator[Holder | None]:
        """Hold the lock of those who write; yields the dead run that it was taken from. See `regstore.lock`.

        Raises:
            LockedError: another run holds it, and did so for as long as was waited.
        """
        remedy = f"run regstore backup unlock {self.location}"
        with hold_lock(
            self.driver, command, key=layout.LOCK, remedy=remedy, wait_seconds=wait_seconds, cancel=cancel
        ) as (_, dead):
            yield dead

    def unlock(self) -> tuple[bool, Holder | None]:
        """Remove the lock, whoever holds it. See `regstore.lock.remove_lock`."""
        return remove_lock(self.driver, layout.LOCK)

    def take_listing(self) -> Listing:
        """List everything, with sizes.

        Raises:
            DriverError: the listing failed.
        """
        listing = Listing()
        if isinstance(self.driver, HasLocalPath):
            listing.take(walk_store(self.driver.local_path(""), listing.leftovers))
        else:
            listing.take(self._list_objects())
        return listing

    def _list_objects(self) -> Iterator[Entry]:
        prefixes = [f"{layout.BLOBS}sha256/{digit}" for digit in _HEX]
        prefixes += [f"{layout.BLOBS}sha384/", f"{layout.BLOBS}sha512/", layout.PACKS, layout.SNAPSHOTS]
        for entries in map_bounded(lambda prefix: list(self.driver.list(prefix)), prefixes, self.jobs):
            yield from entries

    def list_snapshots(self) -> list[SnapshotFile]:
        """List the snapshots only, in the order made."""
        files = (snapshot_file(entry) for entry in self.driver.list(layout.SNAPSHOTS))
        return sorted(file for file in files if file is not None)

    def load_packed(self, packs: Iterable[Entry]) -> dict[str, str]:
        """Learn where packed blobs lie, from the indexes of packs, and return the damaged ones with the reason."""
        damaged: dict[str, str] = {}
        packs = list(packs)
        self.packed = PackIndex()
        for entry, index in zip(packs, map_bounded(self._read_index, packs, self.jobs), strict=True):
            name = layout.parse_pack_key(entry.key) or ""
            if isinstance(index, str):
                damaged[name] = index
                continue
            self.packed.add(name, index)
        return damaged

    def _read_index(self, entry: Entry) -> bytes | str:
        """Return the index of a pack, or why there is none."""
        name = entry.key.rpartition("/")[2]
        cached = self._cache.get(name, mark_of(entry)) if self._believes_cache else None
        if cached is not None:
            return cached
        try:
            length = min(entry.size, TAIL_BYTES)
            index = parse_tail(self._read_range(entry.key, entry.size - length, length))
        except (PackDamagedError, DriverError) as error:
            return str(error)
        if not self._is_local:
            self._cache.put(name, mark_of(entry), index)
        return index

    def load_snapshot(self, file: SnapshotFile) -> Snapshot:
        """Read a snapshot; all its bytes are hashed. See `SnapshotStore.load_snapshot`."""
        data = self._cache.get(file.name, file.mark) if self._believes_cache else None
        if data is not None:
            return parse_snapshot(data)
        data = self.driver.read(layout.snapshot_key(file.name), limit=_SNAPSHOT_LIMIT)
        snapshot = parse_snapshot(data)
        if snapshot.head.name != file.name:
            raise SnapshotDamagedError(f"it is the snapshot {snapshot.head.name}, under another name")
        self._cache.put(f"{file.name}.source", file.mark, snapshot.head.source.encode())
        if not self._is_local:
            self._cache.put(file.name, file.mark, data)
        return snapshot

    def distrust_cache(self) -> None:
        """Read everything from the store from now on, whatever this host remembers."""
        self._believes_cache = False

    def known_source(self, file: SnapshotFile) -> str | None:
        """Return the source of a snapshot that this host has found whole and that did not change since; else None."""
        source = self._cache.get(f"{file.name}.source", file.mark)
        return None if source is None else source.decode()

    def open_data(self, snapshot: Snapshot) -> StoreData:
        """List what the store has. See `SnapshotStore.open_data`."""
        listing = self.take_listing()
        damaged = self.load_packed(listing.packs)
        return StoreData(self, listing, damaged)

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot, durably: the last step of a backup.

        Raises:
            AlreadyExists: there is one of that name.
            DriverError: it cannot be written.
        """
        data = snapshot.encode()
        key = layout.snapshot_key(snapshot.head.name)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        entry = self.driver.write(key, data, len(data), digest, if_absent=True)
        if not self._is_local:
            self._cache.put(snapshot.head.name, mark_of(entry), data)

    def write_pack(self, name: str, data: bytes) -> None:
        """Store a pack, durably.

        Raises:
            DriverError: it cannot be written.
        """
        entry = self.driver.write(layout.pack_key(name), data, len(data), f"sha256:{name}")
        if not self._is_local:
            self._cache.put(entry.key.rpartition("/")[2], mark_of(entry), parse_tail(data[-TAIL_BYTES:]))

    def remove_leftovers(self, paths: Iterable[str]) -> None:
        """Remove temporary files of runs that died. The lock must be held: then nobody else writes."""
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def abort_uploads(self) -> None:
        """Abort uploads in parts that runs which died have begun. The lock must be held."""
        if isinstance(self.driver, HasMultipart):
            for upload in list(self.driver.list_multipart("")):
                self.driver.abort_multipart(upload)

    def forget_all_but(self, snapshots: Iterable[str]) -> None:
        """Drop what this host remembers of snapshots that are gone, and of all packs."""
        self._cache.keep_only({name for snapshot in snapshots for name in (snapshot, f"{snapshot}.source")})

    # As an origin of blobs: see `regstore.transfer.BlobOrigin`

    @property
    def is_local(self) -> bool:
        """Whether it lies in a directory."""
        return isinstance(self.driver, HasLocalPath)

    def size(self, digest: Digest) -> int:
        """Return the bytes of a blob."""
        packed = self.packed.get(digest)
        return packed.place.size if packed else self.driver.stat(layout.blob_key(digest)).size

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob. See `BlobOrigin.open`."""
        if digest in self.packed:
            return io.BytesIO(self.read(digest))
        return self.driver.open(layout.blob_key(digest))

    def path(self, digest: Digest) -> str | None:
        """Return the file of a blob that lies there verbatim in a directory."""
        if digest in self.packed or not isinstance(self.driver, HasLocalPath):
            return None
        return self.driver.local_path(layout.blob_key(digest))

    def content(self, digest: Digest) -> bytes | None:
        """Return a blob that is in a pack. See `BlobOrigin.content`."""
        return self.read(digest) if digest in self.packed else None

    def read(self, digest: Digest) -> bytes:
        """Return a small blob, which the caller hashes.

        Raises:
            NotFound: it is not there.
            DriverError: it cannot be read, or its pack is damaged.
        """
        packed = self.packed.get(digest)
        if packed is None:
            return self.driver.read(layout.blob_key(digest))
        try:
            return read_member(self._frames.get(packed), packed.place)
        except PackDamagedError as error:
            key = layout.pack_key(packed.pack)
            raise DriverError(
                f"the pack is damaged: {error}", operation="read", key=key, location=self.location
            ) from error

    def _read_frame(self, packed: Packed) -> bytes:
        key = layout.pack_key(packed.pack)
        return read_frame(self._read_range(key, packed.place.frame_offset, packed.place.frame_length))

    def _read_range(self, key: str, offset: int, length: int) -> bytes:
        with self.driver.open(key, offset, length) as stream:
            return stream.read(length) if length else b""

    def check_apart(self, driver: ReadDriver) -> None:
        """Refuse a registry in the store or around it. See `SnapshotStore.check_apart`."""
        check_apart(driver, self.driver, "the registry and the store")

    def close(self) -> None:
        """Free connections."""
        self.driver.close()


class StoreData:
    """The data of the snapshots of a native store. See `SnapshotData` for the methods.

    Args:
        store: whose packs are loaded.
        listing: what it holds.
        damaged: packs whose index cannot be read, with the reason.
    """

    def __init__(self, store: Store, listing: Listing, damaged: dict[str, str]) -> None:
        self.jobs = store.jobs
        self.listing = listing
        self.damaged = damaged
        self._store = store

    def find_lost(self, blobs: Mapping[Digest, int]) -> dict[Digest, tuple[str, str]]:
        """Compare with the listing. See `SnapshotData.find_lost`."""
        lost: dict[Digest, tuple[str, str]] = {}
        for digest, size in blobs.items():
            packed = self._store.packed.get(digest)
            found = packed.place.size if packed else self.listing.blobs.get(digest)
            if found is None:
                lost[digest] = ("store-blob-missing", "the store does not have it")
            elif found != size:
                lost[digest] = ("store-blob-size", f"it has {found} bytes in the store instead of {size}")
        return lost

    def read_manifest(self, digest: Digest) -> bytes:
        """Read a small blob. See `SnapshotData.read_manifest`."""
        return self._store.read(digest)

    def copy_blobs(
        self,
        items: Sequence[Item],
        target: Driver | BulkWriter,
        *,
        jobs: int,
        progress: Progress,
        cancel: Cancel,
        journal: Journal | None = None,
    ) -> Iterator[Item | Failed]:
        """Copy blobs out of the store. See `SnapshotData.copy_blobs`."""
        ordered = sorted(items, key=lambda item: self._order(item.digest))
        yield from copy_blobs(
            ordered, self._store, target, jobs=jobs, progress=progress, cancel=cancel, journal=journal
        )

    def _order(self, digest: Digest) -> tuple[str, int]:
        """Sort packed blobs by their frames, which are decompressed once then."""
        packed = self._store.packed.get(digest)
        return (packed.pack, packed.place.frame_offset) if packed else ("", 0)

"""Records of manifests: remembered ones from the state, new ones read, hashed and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import Digest, format_digest, is_digest_of
from regstore.manifest import MAX_MANIFEST_BYTES, ManifestError, decode_manifest
from regstore.record import Record, record_of
from regstore.work import map_bounded
from regstore_drivers.errors import NotFound, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore.registry.scan import Volume
    from regstore.state import State

_FLUSH_COUNT = 8_000
"""Records are remembered in sorted batches of so many, which an ordered table takes several times faster."""


class Trouble(NamedTuple):
    """Why a manifest cannot be believed: `manifest-missing`, `manifest-corrupt` or `manifest-unknown`, and the
    detail."""

    kind: str
    detail: str


class ManifestReader:
    """Gives the record of a manifest, or the trouble with it.

    A manifest is hashed before it is believed, and is read at most once a run; a remembered one is not read at all.

    Args:
        volume: where manifests are read.
        state: where records are remembered.
        jobs: how many are read at once.
    """

    def __init__(self, volume: Volume, state: State, jobs: int = 1) -> None:
        self._volume = volume
        self._state = state
        self._jobs = jobs
        self._records: dict[Digest, Record | Trouble] = {}
        self._new: dict[Digest, Record] = {}

    def load(self, digests: Iterable[Digest]) -> None:
        """Get a batch ready, and let go of the former batch."""
        records = self._records = {}
        wanted = list(digests)
        records.update(self._state.known_manifests(wanted))
        missing = []
        for digest in wanted:
            if digest in self._new:
                records[digest] = self._new[digest]
            elif digest not in records:
                missing.append(digest)
        for digest, found in zip(missing, map_bounded(self._read, missing, self._jobs), strict=True):
            self._take(digest, found)

    def get(self, digest: Digest) -> Record | Trouble:
        """Return one record, read now when no batch held it."""
        found = self._records.get(digest)
        if found is None:
            found = self._new.get(digest) or self._state.known_manifests([digest]).get(digest)
            if found is None:
                found = self._read(digest)
                self._take(digest, found)
            else:
                self._records[digest] = found
        return found

    def flush(self) -> None:
        """Hand what was learned to the state."""
        if self._new:
            self._state.remember_manifests(self._new)
            self._new.clear()

    def _take(self, digest: Digest, found: Record | Trouble) -> None:
        self._records[digest] = found
        if isinstance(found, Record):
            self._new[digest] = found
            if len(self._new) >= _FLUSH_COUNT:
                self.flush()

    def _read(self, digest: Digest) -> Record | Trouble:
        try:
            data = self._volume.read_manifest(digest)
        except NotFound:
            return Trouble("manifest-missing", f"the data of {format_digest(digest)} are not there")
        except TooLarge:
            return Trouble("manifest-unknown", f"{format_digest(digest)} is larger than a manifest can be")
        if not is_digest_of(digest, data):
            return Trouble(
                "manifest-corrupt", f"the {len(data)} bytes of {format_digest(digest)} do not hash to their name"
            )
        if len(data) > MAX_MANIFEST_BYTES:
            return Trouble(
                "manifest-unknown", f"{format_digest(digest)} has {len(data)} bytes, more than a registry accepts"
            )
        try:
            return record_of(decode_manifest(data), len(data))
        except ManifestError as error:
            return Trouble("manifest-unknown", f"{format_digest(digest)} cannot be understood: {error}")

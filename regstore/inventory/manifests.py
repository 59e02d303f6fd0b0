"""Records of manifests: remembered ones from the state, new ones read, hashed and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from regstore.digest import Digest, format_digest, is_digest_of
from regstore.manifest import MAX_MANIFEST_BYTES, ManifestError, decode_manifest
from regstore.record import Record, record_of
from regstore.work import map_bounded
from regstore_drivers.errors import DriverError, NotFound, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore.state import State


class Trouble(NamedTuple):
    """Why a manifest cannot be believed: `manifest-missing`, `manifest-corrupt` or `manifest-unknown`, and the
    detail."""

    kind: str
    detail: str


class ManifestOrigin(Protocol):
    """Where manifests are read: a volume, or a store of backups."""

    jobs: int
    """How many reads at once are worth while."""

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the bytes of a manifest, which the caller hashes.

        Raises:
            NotFound: the data are not there.
        """


class ManifestReader:
    """Gives the record of a manifest, or the trouble with it.

    A manifest is hashed before it is believed; a remembered one is not read at all. On storage where a read is a
    request (`Volume.jobs` above one) each is read at most once a run, and what is known of any repository serves all.

    Args:
        volume: where manifests are read.
        state: where records are remembered.
    """

    def __init__(self, volume: ManifestOrigin, state: State) -> None:
        self._volume = volume
        self._state = state
        self._repository = ""
        self._records: dict[Digest, Record | Trouble] = {}
        self._everywhere: dict[Digest, Record | Trouble] | None = None

    def load(self, repository: str, digests: Iterable[Digest]) -> None:
        """Get the manifests of a repository ready, and let go of the former one's."""
        self._repository = repository
        known = self._state.known_manifests(repository)
        self._records = {}
        missing = []
        for digest in digests:
            record = known.get(digest) or self._elsewhere(digest)
            if record is None:
                missing.append(digest)
            else:
                self._records[digest] = record
        for digest, found in zip(missing, map_bounded(self._read, missing, self._volume.jobs), strict=True):
            self._take(digest, found)

    def load_again(self, repository: str, digests: Iterable[Digest]) -> None:
        """Get the manifests of a repository ready, as they were when it was the last to be loaded, if it was."""
        digests = set(digests)
        if repository != self._repository or not digests <= self._records.keys():
            self.load(repository, digests)

    def get(self, digest: Digest) -> Record | Trouble:
        """Return one record, read now when the repository's batch did not hold it."""
        found = self._records.get(digest)
        if found is None:
            found = self._elsewhere(digest) or self._read(digest)
            self._take(digest, found)
        return found

    def remember(self) -> None:
        """Hand the records of the repository to the state."""
        records = {digest: found for digest, found in self._records.items() if isinstance(found, Record)}
        self._state.remember_manifests(self._repository, records)

    def _elsewhere(self, digest: Digest) -> Record | Trouble | None:
        if self._volume.jobs == 1:
            return None
        if self._everywhere is None:
            self._everywhere = dict(self._state.all_known_manifests())
        return self._everywhere.get(digest)

    def _take(self, digest: Digest, found: Record | Trouble) -> None:
        self._records[digest] = found
        if self._everywhere is not None and isinstance(found, Record):
            self._everywhere[digest] = found

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


class TolerantReader(ManifestReader):
    """Takes a manifest that the storage will not give for one more trouble, where a collection would stop."""

    def _read(self, digest: Digest) -> Record | Trouble:
        try:
            return super()._read(digest)
        except DriverError as error:
            return Trouble("storage-error", f"the manifest {format_digest(digest)} cannot be read: {error}")

"""Moving objects into the quarantine and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.errors import RegstoreError
from regstore.gc.actions import Action, Kind, Verb
from regstore.gc.journal import Entry, Ledger, entry_of
from regstore.hashing import is_whole
from regstore.registry.scan import expected_link, parse_link
from regstore.work import map_bounded
from regstore_drivers.base import HasDirectories, HasMultipart, MultipartUpload
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound, PermissionDenied, ShortRead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.digest import Digest
    from regstore.gc.replicas import Replicas
    from regstore.work import Cancel
    from regstore_drivers.base import Driver


class Outcome(NamedTuple):
    """What became of one step: done or not (it was gone already), the bytes that the storage got back, why it
    failed."""

    is_done: bool
    freed_bytes: int = 0
    failure: str = ""


class Remover:
    """Takes removals in batches: first the ledger, then the effect.

    Args:
        driver: the registry's.
        ledger: the run's.
        replicas: through which layer links are removed, when any are used.
        jobs: how many objects are moved at once.
        prunes: whether directories that become empty go too (never beside a running registry).
        cancel: asked before each step.
    """

    def __init__(
        self, driver: Driver, ledger: Ledger, replicas: Replicas, *, jobs: int, prunes: bool, cancel: Cancel
    ) -> None:
        self._driver = driver
        self._ledger = ledger
        self._replicas = replicas
        self._jobs = jobs
        self._prunes = prunes and isinstance(driver, HasDirectories)
        self._cancel = cancel

    def remove(self, batch: list[Action], now: float) -> Iterator[tuple[Action, Outcome]]:
        """Take some steps and yield the outcome of each that was taken.

        None is begun after an error or a request to stop.

        Raises:
            DriverError, StorageFailedError: the storage or a replica failed; what was taken has been yielded before.
            InterruptedRunError: somebody asked to stop; likewise.
        """
        work = [(action, self._objects(action)) for action in batch]
        self._ledger.write(self._entries(work, now))
        errors: list[Exception] = []

        def take(item: tuple[Action, list[str]]) -> Outcome | None:
            if errors or self._cancel.is_requested:
                return None
            try:
                return self._take(*item)
            except (DriverError, RegstoreError) as error:
                errors.append(error)
                return None

        for (action, _), outcome in zip(work, map_bounded(take, work, self._jobs), strict=True):
            if outcome is not None:
                yield action, outcome
        if errors:
            raise errors[0]
        self._cancel.check()

    def _objects(self, action: Action) -> list[str]:
        if action.kind is Kind.UPLOAD:
            return [entry.key for entry in self._driver.list(f"{action.key}/")]
        return [] if action.kind is Kind.REPOSITORY else [action.key]

    def _entries(self, work: list[tuple[Action, list[str]]], now: float) -> Iterator[Entry]:
        for action, keys in work:
            for key in keys:
                keeps = action.verb is Verb.REMOVE and action.kind is not Kind.MULTIPART
                yield entry_of(action, key, self._ledger.quarantine_key(key) if keeps else "", now)

    def _take(self, action: Action, keys: list[str]) -> Outcome:
        if action.verb is Verb.CONDEMN:
            return Outcome(is_done=True)
        try:
            if action.kind is Kind.MULTIPART:
                return self._abort(action)
            if action.kind is Kind.REPOSITORY:
                return Outcome(is_done=remove_empty_tree(self._driver, f"{action.key}/"))
            done = [self._move(action, key) for key in keys]
        except (PermissionDenied, AlreadyExists) as error:
            return Outcome(is_done=False, failure=str(error))
        return Outcome(any(done))

    def _abort(self, action: Action) -> Outcome:
        if not isinstance(self._driver, HasMultipart):
            return Outcome(is_done=False)
        key, _, upload_id = action.name.partition(" ")
        is_done = self._driver.abort_multipart(MultipartUpload(key, upload_id, 0.0))
        return Outcome(is_done, action.size if is_done else 0)

    def _move(self, action: Action, key: str) -> bool:
        to = self._ledger.quarantine_key(key)
        try:
            if action.kind is Kind.LAYER_LINK and self._replicas.are_used and action.digest is not None:
                if not self._copy_link(key, to):
                    return False
                self._replicas.delete_layer(action.repository, action.digest)
                # A replica that does not know the blob, since its data are gone, leaves the link.
                for deleted in self._driver.delete([key]):
                    if deleted.outcome == "failed":
                        raise PermissionDenied(deleted.reason, operation="delete", key=key)
            else:
                self._driver.move(key, to)
        except NotFound:
            return False
        if self._prunes:
            prune(self._driver, key)
        return True

    def _copy_link(self, key: str, to: str) -> bool:
        """Copy a link; not one that a registry is writing at this moment, since somebody needs it."""
        try:
            self._driver.copy(key, to)
        except ShortRead:
            return False
        if parse_link(self._driver.read(to)) is not None:
            return True
        list(self._driver.delete([to]))
        return False


def prune(driver: Driver, key: str) -> None:
    """Remove the directories above a removed object that became empty, up to those that the registry expects."""
    spec = layout.parse_key(key)
    of = spec.of if isinstance(spec, layout.Leftover) else spec
    levels = {
        layout.BlobData: 2,
        layout.LayerLink: 1,
        layout.RevisionLink: 1,
        layout.TagLink: 2,
        layout.TagIndexLink: 4,
    }
    depth = levels.get(type(of), 1)
    if isinstance(of, layout.UploadFile):
        depth = 1 + of.name.count("/")
    if not isinstance(driver, HasDirectories):
        return
    for _ in range(depth):
        key = key.rpartition("/")[0]
        if not driver.remove_empty_directory(f"{key}/"):
            return


def remove_empty_tree(driver: Driver, prefix: str) -> bool:
    """Remove a repository's own empty directories, never a file, never a nested repository; say whether all went."""
    if not isinstance(driver, HasDirectories):
        return False
    for name in list(driver.list_dir(prefix)):
        if name in ("_layers/", "_manifests/", "_uploads/") and not _remove_empty_below(driver, f"{prefix}{name}"):
            return False
    while prefix != layout.REPOSITORIES and driver.remove_empty_directory(prefix):
        prefix = prefix.rstrip("/").rpartition("/")[0] + "/"
    return True


def _remove_empty_below(driver: Driver, prefix: str) -> bool:
    for name in list(driver.list_dir(prefix)):
        if not name.endswith("/") or not _remove_empty_below(driver, f"{prefix}{name}"):
            return False
    return isinstance(driver, HasDirectories) and driver.remove_empty_directory(prefix)


def put_back(driver: Driver, source: str, key: str, digest: Digest | None, kind: Kind) -> bool:
    """Put one object back; say whether that was done. What lies there already wins if it is right.

    Args:
        source: the quarantine's key.
        key: the original key.
        digest: what the object is named by, where it is.
        kind: a blob that lies there is right when it hashes to its name, anything else as it is.
    """
    try:
        driver.move(source, key)
    except NotFound:
        return _write_link_anew(driver, key, digest, kind)
    except AlreadyExists:
        if kind is not Kind.BLOB or digest is None or is_whole(driver, key, digest):
            return False
        driver.move(key, f"{source}.replaced")
        driver.move(source, key)
    return True


def _write_link_anew(driver: Driver, key: str, digest: Digest | None, kind: Kind) -> bool:
    """The quarantine lost a link; its content is known from its path, if it is one whose path says it."""
    if kind not in (Kind.LAYER_LINK, Kind.REVISION_LINK) or digest is None or len(digest) != 32:
        return False
    content = expected_link(digest)
    try:
        driver.write(key, content, len(content), if_absent=True)
    except AlreadyExists:
        return False
    return True

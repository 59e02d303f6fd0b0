"""Images pulled whole through a registry's API, as a client does that has nothing yet: every byte is hashed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import Digest, format_digest, is_digest_of, split_digest
from regstore.manifest import FOREIGN, IS_MANIFEST, Kind, ManifestError, decode_manifest
from regstore.registry.http import RegistryFailedError
from regstore.registry.manifests import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.registry.http import RegistryClient
    from regstore.work import Cancel, Progress

_PIECE_BYTES = 256 * 1024
_INDEXES = (Kind.LIST, Kind.OCI_INDEX)


class Pulled(NamedTuple):
    """What a pull brought: bytes of manifests, configurations and layers, and what was wrong, or nothing."""

    total_bytes: int
    problems: tuple[str, ...]


class Puller:
    """Pulls images. What one pull took from a repository the next does not take again from there.

    Args:
        client: of the registry.
        progress, cancel: told of bytes, and asked.
    """

    def __init__(self, client: RegistryClient, progress: Progress, cancel: Cancel) -> None:
        self._client = client
        self._progress = progress
        self._cancel = cancel
        self._pulled: set[tuple[str, Digest]] = set()

    def pull(self, repository: str, tag: str, digest: Digest, may_lack: Callable[[Digest], bool]) -> Pulled:
        """Pull the manifest of a tag, and all that it reaches. What is wrong with one part does not hide the others.

        Args:
            repository, tag: the image.
            digest: what the tag must mean.
            may_lack: tells of a part whether it may be missing, as in a pull-through cache. Layers that lie elsewhere
                by their manifest's word may be in any case.

        Raises:
            RegistryFailedError: the registry as a whole does not answer any more.
            InterruptedRunError: somebody asked to stop.
        """
        pull = _Pull(self._client, repository, may_lack, self._pulled, self._progress, self._cancel)
        pull.image(digest, tag)
        return Pulled(pull.total_bytes, tuple(pull.problems))


class _Pull:
    """One pull: where it is, what it brought, and what is wrong."""

    def __init__(
        self, client: RegistryClient, repository: str, may_lack: Callable[[Digest], bool],
        pulled: set[tuple[str, Digest]], progress: Progress, cancel: Cancel,
    ) -> None:  # fmt: skip
        self._client = client
        self._repository = repository
        self._may_lack = may_lack
        self._pulled = pulled
        self._progress = progress
        self._cancel = cancel
        self._children: list[Digest] = []
        self.total_bytes = 0
        self.problems: list[str] = []

    def image(self, digest: Digest, tag: str) -> None:
        """Pull the manifest of a tag, and all that it reaches. Indexes may lie within each other to any depth."""
        self._manifest(digest, tag)
        while self._children:
            digest = self._children.pop()
            if (self._repository, digest) not in self._pulled:
                self._manifest(digest)

    def _manifest(self, digest: Digest, tag: str = "") -> None:
        """Pull a manifest by a tag or by its digest, and the blobs that it reaches; note its manifests."""
        self._cancel.check()
        text = format_digest(digest)
        name = tag or text
        try:
            data = read_manifest(self._client, f"/v2/{self._repository}/manifests/{name}")
        except RegistryFailedError as error:
            self._fail(f"manifest {name}: {error}", error)
            return
        if data is None:
            # What a tag means is the image itself: there is nothing to pull without it.
            if tag or not self._may_lack(digest):
                self.problems.append(f"manifest {name}: the registry does not know it (404)")
            return
        if not is_digest_of(digest, data):
            self.problems.append(f"manifest {name}: its {len(data)} bytes do not hash to {text}")
            return
        self._count(len(data))
        self._pulled.add((self._repository, digest))
        self._follow(data)

    def _follow(self, data: bytes) -> None:
        try:
            manifest = decode_manifest(data)
        except ManifestError:
            return  # of a kind that nobody knows: it is served, and what it reaches nobody can say
        for digest, flags in zip(manifest.digests, manifest.flags, strict=True):
            if manifest.kind in _INDEXES and flags & IS_MANIFEST:
                self._children.append(digest)
            else:
                self._blob(digest, may_lack=bool(flags & FOREIGN) or self._may_lack(digest))

    def _blob(self, digest: Digest, *, may_lack: bool) -> None:
        if (self._repository, digest) in self._pulled:
            return
        text = format_digest(digest)
        path = f"/v2/{self._repository}/blobs/{text}"
        algorithm, digits = split_digest(digest)
        hasher, count = hashlib.new(algorithm), 0
        try:
            with self._client.get_stream(path) as answer:
                if answer.status == 404:
                    if not may_lack:
                        self.problems.append(f"blob {text}: the registry does not know it (404)")
                    return
                if answer.status != 200:
                    raise self._client.error_of(answer, f"GET {path}")
                while piece := answer.stream.read(_PIECE_BYTES):
                    self._cancel.check()
                    hasher.update(piece)
                    count += len(piece)
                    self._count(len(piece))
        except RegistryFailedError as error:
            self._fail(f"blob {text}: {error}", error)
            return
        if hasher.hexdigest() != digits:
            self.problems.append(f"blob {text}: its {count} bytes do not hash to their name")
            return
        self._pulled.add((self._repository, digest))

    def _count(self, count: int) -> None:
        self.total_bytes += count
        self._progress.advance(count)

    def _fail(self, problem: str, error: RegistryFailedError) -> None:
        """Note what failed; when the registry itself is gone there is nothing to go on with."""
        if error.code == "registry-unreachable":
            self._client.check_registry()
        self.problems.append(problem)

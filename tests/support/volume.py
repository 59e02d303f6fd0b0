"""A writer of registry volumes: the layout that distribution keeps, made without a registry.

The keys are spelled out here a second time on purpose. Tests compare regstore's own map of the layout with them, so
neither may be made from the other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.images import DOCKER_SCHEMA1, Image, ImageSink, digest_of, schema1_manifest

V2 = "docker/registry/v2"

Put = Callable[[str, bytes], object]
"""What stores some bytes under a key below the registry's root directory."""


def blob_key(digest: str) -> str:
    """Return the key of a blob's data."""
    algorithm, hexadecimal = digest.split(":")
    return f"{V2}/blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}/data"


def layer_link_key(repository: str, digest: str) -> str:
    """Return the key of the link by which a repository holds a layer or configuration."""
    return f"{V2}/repositories/{repository}/_layers/{digest.replace(':', '/')}/link"


def revision_link_key(repository: str, digest: str) -> str:
    """Return the key of the link by which a repository holds a manifest."""
    return f"{V2}/repositories/{repository}/_manifests/revisions/{digest.replace(':', '/')}/link"


def tag_link_key(repository: str, tag: str) -> str:
    """Return the key of the link that says what a tag means."""
    return f"{V2}/repositories/{repository}/_manifests/tags/{tag}/current/link"


def tag_index_key(repository: str, tag: str, digest: str) -> str:
    """Return the key of a tag's index entry: one of the digests that it ever meant."""
    return f"{V2}/repositories/{repository}/_manifests/tags/{tag}/index/{digest.replace(':', '/')}/link"


def upload_prefix(repository: str, identity: str) -> str:
    """Return the directory of an upload, with a `/` at its end."""
    return f"{V2}/repositories/{repository}/_uploads/{identity}/"


def write_file(root: Path, key: str, data: bytes) -> None:
    """Write one file of a volume as registry 2.8 does: in place, below directories that are made as needed."""
    path = os.path.join(root, key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(data)


def delete_image(root: Path, image: Image) -> None:
    """Delete a manifest from a directory as a registry's API does: its revision link and its tag; all data stay."""
    (root / revision_link_key(image.repository, image.digest)).unlink()
    if image.tag:
        shutil.rmtree((root / tag_link_key(image.repository, image.tag)).parent.parent)


def write_sparse_blob(root: Path, size: int) -> str:
    """Store a blob of zeros that takes no room on the disk, and return its digest; `size` is in multiples of 16 MiB."""
    hasher = hashlib.sha256()
    for _ in range(size >> 24):
        hasher.update(bytes(1 << 24))
    digest = f"sha256:{hasher.hexdigest()}"
    place = root / blob_key(digest)
    place.parent.mkdir(parents=True)
    with open(place, "wb") as file:
        file.truncate(size)
    return digest


class VolumeWriter(ImageSink):
    """Writes a registry volume, in the order in which a registry would.

    Beside the `push_...` methods of `ImageSink` there is a method for each kind of file, for volumes that no registry
    would write (anymore).

    Args:
        target: the registry's root directory, or a function that stores bytes under a key, which makes the same volume
            in memory or in S3.
    """

    def __init__(self, target: Path | str | Put) -> None:
        if callable(target):
            self._put: Put = target
        else:
            root = Path(target)
            root.mkdir(parents=True, exist_ok=True)
            self._put = lambda key, data: write_file(root, key, data)

    def put(self, key: str, data: bytes | str) -> None:
        """Store any bytes under any key below the root directory (also to spoil what is there)."""
        self._put(key, data.encode() if isinstance(data, str) else data)

    def blob(self, data: bytes, algorithm: str = "sha256") -> str:
        """Store a blob that nothing links, and return its digest."""
        digest = digest_of(data, algorithm)
        self.put(blob_key(digest), data)
        return digest

    def layer_link(self, repository: str, digest: str, content: str | None = None) -> None:
        """Link a blob in a repository; `content` when the link shall hold something else than its own digest."""
        self.put(layer_link_key(repository, digest), digest if content is None else content)

    def revision_link(self, repository: str, digest: str, content: str | None = None) -> None:
        """Link a manifest in a repository."""
        self.put(revision_link_key(repository, digest), digest if content is None else content)

    def tag_index(self, repository: str, tag: str, digest: str) -> None:
        """Add an index entry to a tag."""
        self.put(tag_index_key(repository, tag, digest), digest)

    def tag(self, repository: str, tag: str, digest: str) -> None:
        """Make a tag, or move it: an index entry is added, then `current` is written."""
        self.tag_index(repository, tag, digest)
        self.put(tag_link_key(repository, tag), digest)

    def manifest(self, repository: str, data: bytes, *tags: str, digest: str | None = None) -> str:
        """Store any bytes as a manifest under any number of tags, and return its digest.

        `digest` names what the bytes pretend to be, for a manifest that is rotten.
        """
        digest = digest or digest_of(data)
        self.put(blob_key(digest), data)
        self.revision_link(repository, digest)
        for tag in tags:
            self.tag(repository, tag, digest)
        return digest

    def layer(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        """Store a blob linked in a repository, and return its digest in the asked algorithm.

        As in a registry, the data lie under the sha256 digest, and one of another algorithm is a link to that.
        """
        canonical = self.blob(data)
        self.layer_link(repository, canonical)
        digest = digest_of(data, algorithm)
        if digest != canonical:
            self.layer_link(repository, digest, canonical)
        return digest

    def upload(
        self,
        repository: str,
        data: bytes | None = b"",
        *,
        age: timedelta = timedelta(0),
        started_at: str | None = None,
        identity: str | None = None,
    ) -> str:
        """Leave an unfinished upload, begun `age` ago, and return its id.

        Args:
            repository: name of the repository.
            data: the bytes so far; None leaves no data file, as on S3 where they are parts of a multipart upload.
            age: how long ago it was begun.
            started_at: the text of `startedat`, when it shall not be a time; empty for no such file.
            identity: the id, when it matters.
        """
        identity = identity or str(uuid.uuid4())
        prefix = upload_prefix(repository, identity)
        if started_at is None:
            started_at = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        if started_at:
            self.put(f"{prefix}startedat", started_at)
        if data is not None:
            self.put(f"{prefix}data", data)
            self.put(f"{prefix}hashstates/sha256/0", bytes(108))
        return identity

    def signature_link(self, repository: str, revision: str, data: bytes) -> str:
        """Store a detached schema1 signature as registries up to 2.4 did, and return its digest."""
        digest = self.blob(data)
        directory = os.path.dirname(revision_link_key(repository, revision))
        self.put(f"{directory}/signatures/{digest.replace(':', '/')}/link", digest)
        return digest

    def push_schema1(self, repository: str, tag: str, layer_data: Sequence[bytes]) -> Image:
        """Store a docker schema1 image."""
        digests = tuple(self.layer(repository, data) for data in layer_data)
        data = schema1_manifest(repository, tag, digests)
        digest = self.manifest(repository, data, tag)
        return Image(repository, tag, digest, DOCKER_SCHEMA1, data, layers=digests)

    def _store_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        return self.layer(repository, data, algorithm)

    def _store_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        del media_type  # a volume does not record it
        return self.manifest(repository, data, *([] if ":" in reference else [reference]))

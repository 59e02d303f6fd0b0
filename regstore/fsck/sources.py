"""Where data that are missing or corrupt are fetched from: another volume, or a registry that still serves them.

The fetching itself is in `regstore.transfer.fetching`. Source of the rules: the distribution specification of the OCI
(spec.md, "Pull").
"""

from __future__ import annotations

import io
import os
import re
from functools import partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qs, urlsplit

from regstore import layout
from regstore.digest import format_digest
from regstore.errors import UsageError
from regstore.registry import open_registry
from regstore.registry.http import TIMEOUT_SECONDS, RegistryClient, RegistryFailedError
from regstore.registry.manifests import ACCEPT, read_manifest
from regstore.transfer.fetching import Found, Source
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import NotFound
from regstore_drivers.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regstore.digest import Digest
    from regstore.registry import Registry
    from regstore_drivers.base import ReadDriver

_BUFFER_BYTES = 256 * 1024
_KINDS = (
    "a directory, file:///path, s3://bucket/prefix, a registry's config.yml, a store of backups, or "
    "https://host/v2/REPOSITORY"
)
_API_URL = re.compile(r"([a-z]+://[^/]*(?:/.*?)??)/v2(?:/(.*))?", re.IGNORECASE)


class VolumeSource:
    """Another registry's volume, read only."""

    def __init__(self, driver: ReadDriver) -> None:
        self._driver = ReadOnly(driver)

    @property
    def name(self) -> str:
        """The root as a URL without credentials."""
        return self._driver.location

    def find(self, digest: Digest, repositories: Sequence[str]) -> Found | None:
        """Look at the digest's data key, whatever repositories link it. See `Source.find`."""
        key = layout.BlobData(digest).key
        try:
            size = self._driver.stat(key).size
        except NotFound:
            return None
        return Found(size, partial(self._driver.open, key))

    def has_manifest(self, digest: Digest, repository: str) -> bool:
        """Look for the revision link. See `Source.has_manifest`."""
        try:
            self._driver.stat(layout.RevisionLink(repository, digest).key)
        except NotFound:
            return False
        return True

    def close(self) -> None:
        """Close the driver."""
        self._driver.close()


class RegistrySource:
    """A registry, asked as a client that pulls.

    Args:
        client: of that registry.
        repository: the only one to look in; None: those that need the data, by the same names.
    """

    def __init__(self, client: RegistryClient, repository: str | None = None) -> None:
        self._client = client
        self._repository = repository
        self.name = f"{client.url}/v2/{repository}" if repository else client.url

    def find(self, digest: Digest, repositories: Sequence[str]) -> Found | None:
        """Ask each repository for a blob, then for a manifest. See `Source.find`.

        That one of them refuses access does not keep from asking the others.
        """
        refusal: RegistryFailedError | None = None
        for repository in self._names(repositories):
            try:
                found = self._find_in(repository, digest)
            except RegistryFailedError as error:
                if error.code != "registry-access":
                    raise
                refusal = refusal or error
                continue
            if found is not None:
                return found
        if refusal is not None:
            raise refusal
        return None

    def has_manifest(self, digest: Digest, repository: str) -> bool:
        """Ask for the manifest. See `Source.has_manifest`."""
        name = self._repository or repository
        path = f"/v2/{name}/manifests/{format_digest(digest)}"
        if not layout.is_repository_name(name):
            return False
        with self._client.get_stream(path, method="HEAD", headers={"Accept": ACCEPT}) as answer:
            if answer.status in (200, 404):
                return answer.status == 200
            raise self._client.error_of(answer, f"HEAD {path}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _names(self, repositories: Iterable[str]) -> Iterable[str]:
        if self._repository is not None:
            return (self._repository,)
        return filter(layout.is_repository_name, repositories)

    def _find_in(self, repository: str, digest: Digest) -> Found | None:
        path = f"/v2/{repository}/blobs/{format_digest(digest)}"
        size = self._blob_size(path)
        if size is not None:
            return Found(size, partial(self._open_blob, path))
        data = read_manifest(self._client, f"/v2/{repository}/manifests/{format_digest(digest)}")
        return None if data is None else Found(len(data), partial(io.BytesIO, data))

    def _blob_size(self, path: str) -> int | None:
        # What is in front of a registry may answer GET only; that body is dropped.
        for method in ("HEAD", "GET"):
            with self._client.get_stream(path, method=method) as answer:
                if answer.status == 404:
                    return None
                if answer.status == 200 and answer.stream.size is not None:
                    return answer.stream.size
                error = self._client.error_of(answer, f"{method} {path}")
        raise error

    def _open_blob(self, path: str) -> BinaryIO:
        answer = self._client.open_stream(path)
        if answer.status == 200:
            return io.BufferedReader(answer.stream, _BUFFER_BYTES)
        answer.stream.close()
        raise self._client.error_of(answer, f"GET {path}")


def open_source(location: str, target: Registry, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Source:
    """Open a place to fetch data from.

    Args:
        location: a registry location, or `http(s)://host[:port]/v2/REPOSITORY`; without `/v2/REPOSITORY` the
            repositories that need the data are looked for by name.
        target: the registry that is to be repaired.
        timeout_seconds: how long a registry that is asked by HTTP may take to connect, and then be silent.

    Raises:
        UsageError: it is none of these, or is the target itself.
        DriverError, StorageFailedError: it cannot be reached or refuses access.
    """
    if location.lower().startswith(("http:", "https:")):
        return _open_http(location, timeout_seconds)
    return _open_volume(location, target)


def _open_http(location: str, timeout_seconds: float) -> RegistrySource:
    base, repository = _split_url(location)
    client = RegistryClient(base, timeout_seconds=timeout_seconds)
    if repository and not layout.is_repository_name(repository):
        raise UsageError(f"{repository!r} is no name of a repository", hint=f"a source is {_KINDS}")
    try:
        client.check_registry()
    except RegistryFailedError as error:
        client.close()
        if error.code == "no-registry":
            error.hint = f"a source is {_KINDS}"
        raise
    return RegistrySource(client, repository or None)


def _split_url(location: str) -> tuple[str, str]:
    """Return the registry's URL and the repository, or an empty one."""
    match = _API_URL.fullmatch(location.rstrip("/"))
    return (match[1], match[2] or "") if match else (location, "")


def _open_volume(location: str, target: Registry) -> VolumeSource:
    try:
        registry = open_registry(location)
    except UsageError as error:
        if not error.hint:
            error.hint = f"a source is {_KINDS}"
        raise
    if _is_same(registry, target):
        registry.driver.close()
        raise UsageError(
            f"{registry.location} is the registry that is to be repaired", hint="name another one that has its data"
        )
    return VolumeSource(registry.driver)


def _is_same(registry: Registry, other: Registry) -> bool:
    mine, others = registry.driver, other.driver
    if isinstance(mine, HasLocalPath) and isinstance(others, HasLocalPath):
        return os.path.samefile(mine.local_path(layout.V2), others.local_path(layout.V2))
    return _place_of(registry.location) == _place_of(other.location)


def _place_of(location: str) -> tuple[str, str, str, list[str]]:
    """Return what of a URL says where the data lie; a region or storage class does not."""
    parts = urlsplit(location)
    endpoint = parse_qs(parts.query).get("endpoint", [])
    return parts.scheme, parts.netloc, parts.path.rstrip("/"), [url.rstrip("/") for url in endpoint]

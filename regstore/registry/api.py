"""The running registry's own HTTP API: removing links so that its cache forgets, and proof that it is quiet.

Source: registry/handlers/blob.go and registry/storage/linkedblobstore.go of distribution v2.8.3 and v3.1.1. DELETE of a
blob removes the repository's link and evicts it from that process's cache; a replica that finds the link gone answers
202 (2.8), 404 or 500 (3.x), and has evicted it in each case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from regstore.digest import format_digest
from regstore.errors import RefusedError, StorageFailedError
from regstore.registry.http import RegistryClient, RegistryFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regstore.digest import Digest

_NO_SUCH_DIGEST = "sha256:" + "0" * 64
_ACCEPT = ", ".join(
    f"application/vnd.{name}+json"
    for name in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


class RegistryApi:
    """One replica of a registry.

    Credentials come from the docker configuration (`$DOCKER_CONFIG/config.json`), never from the URL.

    Args:
        url: `http://host:port` or `https://host`, with a path prefix where the registry has one.

    Raises:
        UsageError: it is no such URL, or holds credentials.
    """

    def __init__(self, url: str) -> None:
        self._client = RegistryClient(url)
        self.url = self._client.url

    def ping(self) -> None:
        """See that it answers.

        Raises:
            StorageFailedError: it does not, or refuses the credentials.
        """
        status, _ = self._request("GET", "/v2/")
        self._client.check_access(status)
        if status != 200:
            raise StorageFailedError(f"{self.url} answers {status} to GET /v2/: it is no registry", code="no-registry")

    def check_deletes(self, repository: str) -> None:
        """See that it lets clients delete.

        Raises:
            RefusedError: deletion is disabled or it is read-only.
        """
        status, _ = self._request("DELETE", f"/v2/{repository}/blobs/{_NO_SUCH_DIGEST}")
        self._client.check_access(status)
        if status == 405:
            raise RefusedError(
                f"{self.url} does not let clients delete (405)",
                hint="set storage.delete.enabled (REGISTRY_STORAGE_DELETE_ENABLED=true) and restart it, or stop it and "
                "use --offline",
                code="delete-disabled",
            )

    def tag_digest(self, repository: str, tag: str) -> str | None:
        """Return the digest that the registry says a tag means, or None when it does not know the tag."""
        status, headers = self._request("HEAD", f"/v2/{repository}/manifests/{tag}")
        self._client.check_access(status)
        return headers.get("docker-content-digest") if status == 200 else None

    def delete_blob(self, repository: str, digest: Digest) -> int:
        """Remove a repository's link to a blob; return the HTTP status."""
        status, _ = self._request("DELETE", f"/v2/{repository}/blobs/{format_digest(digest)}")
        self._client.check_access(status)
        return status

    def prove_quiet(self, repository: str) -> bool:
        """See that nobody can push through it: the port is closed, or a manifest and an upload are answered by 405.

        Returns:
            Whether it says so itself; False where nothing listens, so that only the operator knows that it was there.

        Raises:
            RefusedError: neither is so.
        """
        headers: Mapping[str, str] = {}
        try:
            # A registry that takes writes answers 400 to this and keeps nothing; an upload leaves files behind.
            status, _ = self._request("PUT", f"/v2/{repository}/manifests/regstore-probe")
            if status == 405:
                status, headers = self._request("POST", f"/v2/{repository}/blobs/uploads/")
        except StorageFailedError as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                return False
            raise RefusedError(
                f"cannot tell whether {self.url} is quiet: {error}",
                hint="name the address on which it listens, or leave the URL out if it is stopped",
                code="not-quiet",
            ) from error
        if status == 405:
            return True
        if status == 202 and (location := headers.get("location")):
            parts = urlsplit(location)
            self._request("DELETE", f"{parts.path}?{parts.query}", is_whole_path=True)
        raise RefusedError(
            f"{self.url} is running and takes pushes (it answers {status} where a read-only registry answers 405)",
            hint="stop it, or set storage.maintenance.readonly.enabled and restart it",
            code="not-quiet",
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, method: str, path: str, *, is_whole_path: bool = False) -> tuple[int, Mapping[str, str]]:
        try:
            return self._client.request(method, path, headers={"Accept": _ACCEPT}, is_whole_path=is_whole_path)
        except RegistryFailedError as error:
            if error.code == "registry-unreachable":
                error.hint = (
                    "nothing is removed behind its back: start it, correct --registry-url, or stop it and use --offline"
                )
            raise


def open_apis(urls: Sequence[str]) -> list[RegistryApi]:
    """Open every replica and see that each answers.

    Raises:
        UsageError, StorageFailedError: see `RegistryApi`.
    """
    apis = [RegistryApi(url) for url in urls]
    try:
        for api in apis:
            api.ping()
    except BaseException:
        for api in apis:
            api.close()
        raise
    return apis

"""The running registry's own HTTP API: removing links so that its cache forgets, and proof that it is quiet.

Source: registry/handlers/blob.go and registry/storage/linkedblobstore.go of distribution v2.8.3 and v3.1.1. DELETE of a
blob removes the repository's link and evicts it from that process's cache; a replica that finds the link gone answers
202 (2.8), 404 or 500 (3.x), and has evicted it in each case.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from regstore.digest import format_digest
from regstore.errors import RefusedError, StorageFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.digest import Digest

_TIMEOUT_SECONDS = 30.0
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
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is no number
            host = None
        if not host or parts.scheme not in ("http", "https"):
            shown = url.rpartition("@")[2]
            raise UsageError(f"{shown!r} is no URL of a registry", hint="write it as http://registry.example:5000")
        if parts.username or parts.password:
            raise UsageError(
                "a registry URL must not hold credentials: they would be shown by ps",
                hint="use docker login, or set DOCKER_CONFIG",
            )
        self.url = url.rstrip("/")
        self._scheme, self._host, self._port = parts.scheme, host, port
        self._path = parts.path.rstrip("/")
        self._headers = {"Accept": _ACCEPT, **_authorization(parts.netloc)}
        self._idle: deque[http.client.HTTPConnection] = deque()

    def ping(self) -> None:
        """See that it answers.

        Raises:
            StorageFailedError: it does not, or refuses the credentials.
        """
        status, _ = self._request("GET", "/v2/")
        self._check_access(status)
        if status != 200:
            raise StorageFailedError(f"{self.url} answers {status} to GET /v2/: it is no registry", code="no-registry")

    def check_deletes(self, repository: str) -> None:
        """See that it lets clients delete.

        Raises:
            RefusedError: deletion is disabled or it is read-only.
        """
        status, _ = self._request("DELETE", f"/v2/{repository}/blobs/{_NO_SUCH_DIGEST}")
        self._check_access(status)
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
        self._check_access(status)
        return headers.get("docker-content-digest") if status == 200 else None

    def delete_blob(self, repository: str, digest: Digest) -> int:
        """Remove a repository's link to a blob; return the HTTP status."""
        status, _ = self._request("DELETE", f"/v2/{repository}/blobs/{format_digest(digest)}")
        self._check_access(status)
        return status

    def prove_quiet(self, repository: str) -> None:
        """See that nobody can push through it: the port is closed, or a manifest and an upload are answered by 405.

        Raises:
            RefusedError: neither is so.
        """
        headers: dict[str, str] = {}
        try:
            # A registry that takes writes answers 400 to this and keeps nothing; an upload leaves files behind.
            status, _ = self._request("PUT", f"/v2/{repository}/manifests/regstore-probe")
            if status == 405:
                status, headers = self._request("POST", f"/v2/{repository}/blobs/uploads/")
        except StorageFailedError as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                return
            raise RefusedError(
                f"cannot tell whether {self.url} is quiet: {error}",
                hint="name the address on which it listens, or leave the URL out if it is stopped",
                code="not-quiet",
            ) from error
        if status == 405:
            return
        if status == 202 and (location := headers.get("location")):
            parts = urlsplit(location)
            self._request("DELETE", f"{parts.path}?{parts.query}", is_whole_path=True)
        raise RefusedError(
            f"{self.url} is running and takes pushes (it answers {status} where a read-only registry answers 405)",
            hint="stop it, or set storage.maintenance.readonly.enabled and restart it; or collect online",
            code="not-quiet",
        )

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    def _check_access(self, status: int) -> None:
        if status in (401, 403):
            raise StorageFailedError(
                f"{self.url} refuses access ({status})",
                hint="use docker login for this registry; token authentication is not supported",
                code="registry-access",
            )

    def _request(self, method: str, path: str, *, is_whole_path: bool = False) -> tuple[int, dict[str, str]]:
        target = path if is_whole_path else self._path + path
        while True:
            connection, is_fresh = self._take_connection()
            try:
                connection.request(method, target, headers=self._headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A kept-alive connection may have been closed by the other side; deleting twice does no harm.
                if is_fresh:
                    raise StorageFailedError(
                        f"{self.url} does not answer: {error}",
                        hint="nothing is removed behind its back",
                        code="registry-unreachable",
                    ) from error
                continue
            self._idle.append(connection)
            return response.status, {name.lower(): value for name, value in response.getheaders()}

    def _take_connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """Take an idle connection, or a fresh one; threads ask at once."""
        try:
            return self._idle.pop(), False
        except IndexError:
            return self._connect(), True

    def _connect(self) -> http.client.HTTPConnection:
        if self._scheme == "http":
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)


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


def _authorization(host: str) -> dict[str, str]:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(f"{directory}/config.json", encoding="utf-8") as file:
            entries = json.load(file).get("auths") or {}
        for name in (host, f"https://{host}", f"http://{host}"):
            auth = (entries.get(name) or {}).get("auth")
            if auth and b":" in base64.b64decode(auth, validate=True):
                return {"Authorization": f"Basic {auth}"}
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # what is no docker configuration holds no credentials
    return {}

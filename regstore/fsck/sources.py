"""Where data that are missing or corrupt are fetched from: another volume, or a registry that still serves them.

Nothing that a source says is believed: the bytes are hashed while they stream, and take their final name only when they
are what the digest says. Sources of the rules: the distribution specification of the OCI (spec.md, "Pull"), and for
signed schema1 manifests, which a registry stores without and serves with their signatures, manifest/schema1 of
distribution v2.8.3.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import parse_qs, urlsplit

from regstore import layout
from regstore.digest import format_digest
from regstore.errors import StorageFailedError, UsageError
from regstore.registry import open_registry
from regstore.registry.http import TIMEOUT_SECONDS, RegistryClient, RegistryFailedError
from regstore_drivers.base import READ_LIMIT_BYTES, HasLocalPath
from regstore_drivers.errors import DigestMismatch, DriverError, NotFound
from regstore_drivers.streams import PieceStream
from regstore_drivers.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.digest import Digest
    from regstore.registry import Registry
    from regstore.work import Cancel
    from regstore_drivers.base import Driver, ReadDriver

PAUSES_SECONDS = (1.0, 5.0)
"""How long to wait before a registry that failed for the moment is asked again."""
LONGEST_PAUSE_SECONDS = 60.0
"""A registry that asks for a longer pause is given up for this blob."""

_BUFFER_BYTES = 256 * 1024
_KINDS = "a directory, file:///path, s3://bucket/prefix, a registry's config.yml, or https://host/v2/REPOSITORY"
_API_URL = re.compile(r"([a-z]+://[^/]*(?:/.*?)??)/v2(?:/(.*))?", re.IGNORECASE)
_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.artifact.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        _SIGNED,
        "application/vnd.docker.distribution.manifest.v1+json",
    )
)


@dataclass(frozen=True, slots=True)
class Found:
    """Data that a source says it has.

    Attributes:
        size: bytes.
        open: opens them from the beginning, as often as it is called; the caller closes the stream.
    """

    size: int
    open: Callable[[], BinaryIO]


class Source(Protocol):
    """Where data may be had. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """What it is called in messages, without credentials."""

    def find(self, digest: Digest, repositories: Sequence[str]) -> Found | None:
        """Look for the data of a digest; None when they are not there.

        Args:
            digest: of a layer, configuration or manifest.
            repositories: the names of those that need it.

        Raises:
            DriverError, StorageFailedError: the source cannot be read.
        """

    def has_manifest(self, digest: Digest, repository: str) -> bool:
        """Tell whether the repository of that name has the digest as a manifest.

        Raises:
            DriverError, StorageFailedError: the source cannot be read.
        """

    def close(self) -> None:
        """Free its connections."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a source did not give the data."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """Data that were fetched, verified and stored.

    Attributes:
        source: the name of the source that gave them.
        size: bytes.
        failures: of the sources before it.
    """

    source: str
    size: int
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class NotFetched:
    """No source gave the data; nothing was stored.

    Attributes:
        failures: one for each source, in their order.
    """

    failures: tuple[Failure, ...] = ()


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
        with self._client.get_stream(path, method="HEAD", headers={"Accept": _ACCEPT}) as answer:
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
        data = self._read_manifest(f"/v2/{repository}/manifests/{format_digest(digest)}")
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

    def _read_manifest(self, path: str) -> bytes | None:
        with self._client.get_stream(path, headers={"Accept": _ACCEPT}) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise self._client.error_of(answer, f"GET {path}")
            data = b"".join(_iter_limited(answer.stream, f"{self._client.url}{path}"))
        is_signed = answer.headers.get("content-type", "").partition(";")[0].strip() == _SIGNED
        return _schema1_payload(data) if is_signed else data


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


def fetch_blob(
    driver: Driver, digest: Digest, sources: Sequence[Source], repositories: Sequence[str], cancel: Cancel
) -> Fetched | NotFetched:
    """Fetch the data of a digest from the first source that has them whole, and store them under their key.

    A source that does not have them, has other bytes, breaks off, fails or is silent for too long is noted, and the
    next one is tried. A registry that fails for the moment is asked up to three times.

    Args:
        driver: the storage of the registry that lacks them.
        digest: of a layer, configuration or manifest.
        sources: in the order in which to try them.
        repositories: the names of those that need the data.
        cancel: stops between two pieces too, with nothing stored.

    Raises:
        AlreadyExists: there is an object of that key, which is left as it is.
        DriverError: the registry's own storage failed; no source is to blame.
        InterruptedRunError: the run is to stop.
    """
    failures: list[Failure] = []
    for source in sources:
        try:
            size = _fetch_patiently(driver, digest, source, repositories, cancel)
        except _SourceFailedError as error:
            failures.append(Failure(source.name, str(error)))
        else:
            return Fetched(source.name, size, tuple(failures))
    return NotFetched(tuple(failures))


class _SourceFailedError(Exception):
    """A source failed: never an error of the driver that is written to, and no reason for it to try again.

    Attributes:
        pause: the seconds that the source wants to be left alone before the next try; None: that would not help.
    """

    def __init__(self, problem: Exception | str) -> None:
        super().__init__(str(problem))
        is_passing = isinstance(problem, RegistryFailedError) and problem.retryable
        self.pause = problem.retry_after if isinstance(problem, RegistryFailedError) and is_passing else None


class _SourceStream(PieceStream):
    """The stream of a source, with its errors told from those of the storage that it is written to."""

    def __init__(self, stream: BinaryIO, cancel: Cancel) -> None:
        self._stream = stream
        self._cancel = cancel

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            _SourceFailedError: the source failed.
            InterruptedRunError: the run is to stop.
        """
        self._cancel.check()
        try:
            return self._stream.read(size)
        except (DriverError, StorageFailedError) as error:
            raise _SourceFailedError(error) from error

    def close(self) -> None:
        """Close the stream of the source."""
        if not self.closed:
            self._stream.close()
        super().close()


def _fetch_patiently(
    driver: Driver, digest: Digest, source: Source, repositories: Sequence[str], cancel: Cancel
) -> int:
    for pause in PAUSES_SECONDS:
        try:
            return _fetch(driver, digest, source, repositories, cancel)
        except _SourceFailedError as error:
            if error.pause is None or error.pause > LONGEST_PAUSE_SECONDS:
                raise
            cancel.wait(max(pause, error.pause))
    return _fetch(driver, digest, source, repositories, cancel)


def _fetch(driver: Driver, digest: Digest, source: Source, repositories: Sequence[str], cancel: Cancel) -> int:
    cancel.check()
    try:
        found = source.find(digest, repositories)
    except (DriverError, StorageFailedError) as error:
        raise _SourceFailedError(error) from error
    if found is None:
        raise _SourceFailedError("it is not there")
    key = layout.BlobData(digest).key
    try:
        return driver.write(
            key, partial(_open, found, cancel), found.size, digest=format_digest(digest), if_absent=True
        ).size
    except DigestMismatch as error:
        raise _SourceFailedError(error.reason) from error


def _open(found: Found, cancel: Cancel) -> BinaryIO:
    try:
        stream = found.open()
    except (DriverError, StorageFailedError) as error:
        raise _SourceFailedError(error) from error
    return io.BufferedReader(_SourceStream(stream, cancel), _BUFFER_BYTES)


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


def _iter_limited(stream: PieceStream, what: str) -> Iterator[bytes]:
    count = 0
    while piece := stream.read(READ_LIMIT_BYTES):
        count += len(piece)
        if count > READ_LIMIT_BYTES:
            raise RegistryFailedError(f"{what} is too large for a manifest", code="registry-refused")
        yield piece


def _schema1_payload(signed: bytes) -> bytes:
    """Return a signed manifest without its signatures, which is what its digest means; itself if that cannot be."""
    try:
        protected = json.loads(_unbase64(json.loads(signed)["signatures"][0]["protected"]))
        return signed[: protected["formatLength"]] + _unbase64(protected["formatTail"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return signed


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""A small client of the registry's HTTP API: pushes, deletes, and pulls with every byte hashed."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from support.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Image,
    ImageSink,
    digest_of,
    schema1_manifest,
)

ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, DOCKER_SCHEMA1_SIGNED, DOCKER_SCHEMA1))
CHUNK_BYTES = 1 << 20
OCTETS = "application/octet-stream"


class ApiError(AssertionError):
    """The registry answered otherwise than it must.

    Attributes:
        status: the HTTP status.
        body: what it said.
    """

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{method} {path} answered {status}: {body[:500].decode(errors='replace')}")
        self.status = status
        self.body = body


class BrokenImage(AssertionError):  # noqa: N818 - what it is
    """An image is not whole.

    Attributes:
        missing: the references that the registry does not have.
        rotten: the digests whose bytes are others.
    """

    def __init__(self, repository: str, reference: str, missing: Sequence[str], rotten: Sequence[str]) -> None:
        super().__init__(
            f"{repository}:{reference} is not whole: missing {', '.join(missing) or 'nothing'};"
            f" rotten {', '.join(rotten) or 'nothing'}"
        )
        self.missing = tuple(missing)
        self.rotten = tuple(rotten)


class Pusher(ImageSink):
    """A client with one kept-alive connection: for one thread only, and a context manager that closes it.

    The `push_image`, `push_index`, ... methods of `ImageSink` raise ApiError when the registry refuses.

    Args:
        url: the registry's URL, without `/v2/`.
        head_first: ask for a blob before it is pushed, as docker does; an existing one is then left alone.
    """

    def __init__(self, url: str, *, head_first: bool = False) -> None:
        parts = urlsplit(url)
        assert parts.hostname, url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        self._head_first = head_first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # Blobs

    def push_blob(self, repository: str, data: bytes, alg: str = "sha256", *, head_first: bool | None = None) -> str:
        """Push a blob by POST, PATCH and PUT, and return its digest."""
        digest = digest_of(data, alg)
        if (self._head_first if head_first is None else head_first) and self.has_blob(repository, digest):
            return digest
        location = self.append_upload(self.begin_upload(repository), data)
        return self.commit_upload(location, digest)

    def begin_upload(self, repository: str) -> str:
        """Begin an upload and return its location, for a blob that is pushed step by step or never finished."""
        _, headers, _ = self._call("POST", f"/v2/{repository}/blobs/uploads/", expect=(202,))
        return headers["Location"]

    def append_upload(self, location: str, data: bytes) -> str:
        """Send bytes to an upload and return its next location."""
        _, headers, _ = self._call("PATCH", location, data, {"Content-Type": OCTETS}, expect=(202,))
        return headers["Location"]

    def commit_upload(self, location: str, digest: str, data: bytes = b"") -> str:
        """Finish an upload and return the digest."""
        separator = "&" if "?" in location else "?"
        path = f"{location}{separator}{urlencode({'digest': digest})}"
        self._call("PUT", path, data, {"Content-Type": OCTETS}, expect=(201,))
        return digest

    def mount(self, repository: str, digest: str, from_repository: str) -> bool:
        """Mount a blob of another repository; False when the registry began an upload instead."""
        query = urlencode({"mount": digest, "from": from_repository})
        status, _, _ = self._call("POST", f"/v2/{repository}/blobs/uploads/?{query}", expect=(201, 202))
        return status == 201

    def has_blob(self, repository: str, digest: str) -> bool:
        """Ask by HEAD whether a repository has a blob."""
        return self._call("HEAD", f"/v2/{repository}/blobs/{digest}", expect=(200, 404))[0] == 200

    def delete_blob(self, repository: str, digest: str) -> int:
        """Unlink a layer or configuration, and return the status (202, or 404)."""
        return self._call("DELETE", f"/v2/{repository}/blobs/{digest}", expect=(202, 404))[0]

    # Manifests

    def push_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> tuple[int, str]:
        """Push a manifest and return the status, whatever it is, and the digest: the registry's, or else our own."""
        path = f"/v2/{repository}/manifests/{quote(reference, safe=':')}"
        status, headers, _ = self._call("PUT", path, data, {"Content-Type": media_type})
        return status, headers.get("Docker-Content-Digest") or digest_of(data)

    def has_manifest(self, repository: str, reference: str) -> bool:
        """Ask by HEAD whether a repository has a manifest."""
        path = f"/v2/{repository}/manifests/{reference}"
        return self._call("HEAD", path, headers={"Accept": ACCEPT}, expect=(200, 404))[0] == 200

    def delete_manifest(self, repository: str, digest: str) -> int:
        """Unlink a manifest and the tags that mean it, and return the status (202, or 404)."""
        return self._call("DELETE", f"/v2/{repository}/manifests/{digest}", expect=(202, 404))[0]

    def push_schema1(self, repository: str, tag: str, layer_data: Sequence[bytes]) -> Image:
        """Push a signed docker schema1 image (the registry must accept them)."""
        digests = tuple(self.push_blob(repository, data) for data in layer_data)
        data = schema1_manifest(repository, tag, digests)
        digest = self._store_manifest(repository, tag, sign_schema1(data), DOCKER_SCHEMA1_SIGNED)
        return Image(repository, tag, digest, DOCKER_SCHEMA1, data, layers=digests)

    # Listings

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; none when there is no such repository."""
        status, _, body = self._call("GET", f"/v2/{repository}/tags/list", expect=(200, 404))
        return sorted(json.loads(body)["tags"] or ()) if status == 200 else []

    def catalog(self) -> list[str]:
        """Return the names of all repositories, sorted."""
        names: list[str] = []
        path = "/v2/_catalog?n=1000"
        while path:
            _, headers, body = self._call("GET", path, expect=(200,))
            names += json.loads(body)["repositories"]
            link = headers.get("Link", "")
            path = link[link.index("<") + 1 : link.index(">")] if link else ""
        return sorted(names)

    # Pulling

    def pull(
        self, repository: str, reference: str, *, sparse: bool = False, verified: set[tuple[str, str]] | None = None
    ) -> set[str]:
        """Fetch and hash everything that a tag or digest reaches, and return the digests.

        Foreign layers (with URLs) may be absent and are then not among them; a subject is not fetched.

        Args:
            repository: name of the repository.
            reference: a tag or a digest.
            sparse: children of an index may be absent, as in a pull-through cache.
            verified: pairs of repository and digest that need not be fetched again; those of this pull are added.

        Raises:
            BrokenImage: something is missing or has other bytes; all of it is named.
        """
        walk = _Walk(self, repository, sparse, set() if verified is None else verified)
        walk.manifest(reference)
        if walk.missing or walk.rotten:
            raise BrokenImage(repository, reference, walk.missing, walk.rotten)
        return walk.digests

    def pull_all(self, *, sparse: bool = False) -> dict[tuple[str, str], set[str]]:
        """Pull every tag of every repository, and return the digests of each pair of repository and tag.

        Raises:
            BrokenImage: at the first one that is not whole.
        """
        verified: set[tuple[str, str]] = set()
        return {
            (repository, tag): self.pull(repository, tag, sparse=sparse, verified=verified)
            for repository in self.catalog()
            for tag in self.tags(repository)
        }

    def fetch_manifest(self, repository: str, reference: str) -> tuple[bytes, str] | None:
        """Return the bytes and media type of a manifest, or None when there is none.

        Of a signed schema1 manifest the bytes are the payload, which is what its digest is made of.
        """
        path = f"/v2/{repository}/manifests/{reference}"
        status, headers, body = self._call("GET", path, headers={"Accept": ACCEPT}, expect=(200, 404))
        if status == 404:
            return None
        media_type = headers.get("Content-Type", "")
        if media_type == DOCKER_SCHEMA1_SIGNED:
            body = schema1_payload(body)
        return body, media_type

    def fetch_digest(self, repository: str, digest: str) -> str | None:
        """Fetch a blob and return the digest that its bytes really have, or None when there is none."""
        hasher = hashlib.new(digest.partition(":")[0])
        path = f"/v2/{repository}/blobs/{digest}"
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        if response.status != 200:
            body = response.read()
            if response.status == 404:
                return None
            raise ApiError("GET", path, response.status, body)
        while chunk := response.read(CHUNK_BYTES):
            hasher.update(chunk)
        return f"{hasher.name}:{hasher.hexdigest()}"

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (),
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        if path.startswith("http"):
            path = path[path.index("/v2/") :]
        try:
            response = self._send(method, path, body, headers)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            # A restarted registry closed the idle connection; the request did not arrive.
            self._connection.close()
            response = self._send(method, path, body, headers)
        answer = response.read()
        if expect and response.status not in expect:
            raise ApiError(method, path, response.status, answer)
        return response.status, response.headers, answer

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, dict(headers or {}))
        return self._connection.getresponse()

    def _store_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        return self.push_blob(repository, data, algorithm)

    def _store_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        path = f"/v2/{repository}/manifests/{reference}"
        _, headers, _ = self._call("PUT", path, data, {"Content-Type": media_type}, expect=(201,))
        return headers["Docker-Content-Digest"]


class _Walk:
    """One pull: what it found, what is missing and what is rotten."""

    def __init__(self, client: Pusher, repository: str, sparse: bool, verified: set[tuple[str, str]]) -> None:
        self._client = client
        self._repository = repository
        self._sparse = sparse
        self._verified = verified
        self.digests: set[str] = set()
        self.missing: list[str] = []
        self.rotten: list[str] = []

    def manifest(self, reference: str, *, optional: bool = False) -> None:
        """Fetch a manifest and all that it names. It is small: it is fetched again even when it was verified before."""
        if reference in self.digests:
            return
        found = self._client.fetch_manifest(self._repository, reference)
        if found is None:
            if not optional:
                self.missing.append(reference)
            return
        data, media_type = found
        by_digest = ":" in reference
        digest = digest_of(data, reference.partition(":")[0] if by_digest else "sha256")
        if by_digest and digest != reference:
            self.rotten.append(reference)
            return
        self.digests.add(digest)
        document: dict[str, Any] = json.loads(data)
        if media_type in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED):
            for layer in document["fsLayers"]:
                self._blob({"digest": layer["blobSum"]})
            return
        for child in document.get("manifests", ()):
            if child["mediaType"] in MANIFEST_TYPES:
                self.manifest(child["digest"], optional=self._sparse)
            else:
                self._blob(child)
        if "config" in document:
            self._blob(document["config"])
        for layer in document.get("layers", ()):
            self._blob(layer)

    def _blob(self, described: Descriptor) -> None:
        digest = described["digest"]
        if digest in self.digests:
            return
        if (self._repository, digest) in self._verified:
            self.digests.add(digest)
            return
        actual = self._client.fetch_digest(self._repository, digest)
        if actual == digest:
            self.digests.add(digest)
            self._verified.add((self._repository, digest))
        elif actual is not None:
            self.rotten.append(digest)
        elif not described.get("urls"):
            self.missing.append(digest)


def sign_schema1(payload: bytes) -> bytes:
    """Sign a schema1 manifest with a new key, in the form of libtrust: a JWS inside the signed JSON itself."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    end = payload.rindex(b"}")
    head = payload[:end].rstrip()
    tail = payload[len(head) :]
    protected = _base64(json.dumps({"formatLength": len(head), "formatTail": _base64(tail)}).encode())
    r, s = utils.decode_dss_signature(key.sign(f"{protected}.{_base64(payload)}".encode(), ec.ECDSA(SHA256())))
    signature = {
        "header": {
            "jwk": {
                "kty": "EC",
                "crv": "P-256",
                "x": _base64(point.x.to_bytes(32, "big")),
                "y": _base64(point.y.to_bytes(32, "big")),
            },
            "alg": "ES256",
        },
        "signature": _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big")),
        "protected": protected,
    }
    return head + b',\n   "signatures": ' + json.dumps([signature]).encode() + b"\n}"


def schema1_payload(signed: bytes) -> bytes:
    """Return the payload of a signed schema1 manifest."""
    protected = json.loads(_unbase64(json.loads(signed)["signatures"][0]["protected"]))
    return signed[: protected["formatLength"]] + _unbase64(protected["formatTail"])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""Images as bytes: layers, configurations and manifests of every kind that a registry volume can hold.

Everything is deterministic: the same arguments give the same bytes, and so the same digests. `ImageSink` assembles
whole images from two operations, storing a blob and storing a manifest, so that the client of the HTTP API
(`support.pusher`) and the layout writer (`support.volume`) make the same images.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BUILDKIT_CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
IN_TOTO = "application/vnd.in-toto+json"
COSIGN_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"

MANIFEST_TYPES = frozenset(
    {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT}
)
FOREIGN_URL = "https://layers.example.org/base.tar.gz"

Flavour = Literal["docker", "oci"]
Descriptor = dict[str, Any]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes, as `algorithm:hex`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def encode(document: Mapping[str, Any]) -> bytes:
    """Return a document as the JSON that Docker's and the OCI's tools write (three spaces of indent)."""
    return json.dumps(document, indent=3).encode()


def layer(seed: object, size_bytes: int = 400) -> bytes:
    """Make a layer: a tar.gz with one directory and one file of `size_bytes` random bytes."""
    content = random.Random(f"layer {seed}").randbytes(size_bytes)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        directory = tarfile.TarInfo("app")
        directory.type = tarfile.DIRTYPE
        directory.mode = 0o755
        archive.addfile(directory)
        member = tarfile.TarInfo(f"app/{digest_of(content)[7:19]}.bin")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    # Random content does not shrink: a higher level would only cost time.
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)


def layers(count: int, seed: object, size_bytes: int = 400) -> list[bytes]:
    """Make several different layers."""
    return [layer(f"{seed}/{number}", size_bytes) for number in range(count)]


def image_config(layer_data: Iterable[bytes], architecture: str = "amd64", os: str = "linux") -> bytes:
    """Make the configuration of an image with these layers, with true diff ids."""
    diff_ids = [digest_of(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data) for data in layer_data]
    return encode(
        {
            "created": "2024-03-01T10:00:00Z",
            "architecture": architecture,
            "os": os,
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/app/run"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [
                {"created": "2024-03-01T10:00:00Z", "created_by": f"COPY {item[7:19]} /app"} for item in diff_ids
            ],
        }
    )


def descriptor(media_type: str, data: bytes, algorithm: str = "sha256", **fields: Any) -> Descriptor:
    """Describe some bytes; further fields (`platform`, `annotations`, `urls`) are taken as they are."""
    return {"mediaType": media_type, "size": len(data), "digest": digest_of(data, algorithm), **fields}


def foreign_layer(data: bytes) -> Descriptor:
    """Describe a layer that lies elsewhere and need not be in the registry."""
    return descriptor(DOCKER_FOREIGN_LAYER, data, urls=[FOREIGN_URL])


def image_manifest(
    config: Descriptor,
    layer_descriptors: Sequence[Descriptor],
    flavour: Flavour = "docker",
    **fields: Any,
) -> bytes:
    """Make a docker schema2 or OCI image manifest; further fields are `subject`, `artifactType`, `annotations`."""
    media_type = DOCKER_MANIFEST if flavour == "docker" else OCI_MANIFEST
    return encode(
        {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": list(layer_descriptors), **fields}
    )


def index_manifest(entries: Sequence[Descriptor], flavour: Flavour = "oci", **fields: Any) -> bytes:
    """Make a docker manifest list or an OCI index."""
    media_type = DOCKER_LIST if flavour == "docker" else OCI_INDEX
    return encode({"schemaVersion": 2, "mediaType": media_type, "manifests": list(entries), **fields})


def artifact_manifest(blobs: Sequence[Descriptor], **fields: Any) -> bytes:
    """Make an OCI artifact manifest (a kind that was withdrawn, that registries refuse and that volumes still hold)."""
    return encode(
        {"mediaType": OCI_ARTIFACT, "artifactType": "application/vnd.example.sbom", "blobs": list(blobs), **fields}
    )


def schema1_manifest(repository: str, tag: str, layer_digests: Sequence[str]) -> bytes:
    """Make a docker schema1 manifest as a registry stores it, without signatures; layers are given base first."""
    history = []
    parent = ""
    for number, digest in enumerate(layer_digests):
        identity = digest_of(f"{repository}:{tag}:{number}:{digest}".encode())[7:]
        entry = {"id": identity, "created": "2015-06-01T10:00:00Z", "container_config": {"Cmd": ["ADD", digest[7:19]]}}
        if parent:
            entry["parent"] = parent
        history.append({"v1Compatibility": json.dumps(entry)})
        parent = identity
    return encode(
        {
            "schemaVersion": 1,
            "name": repository,
            "tag": tag,
            "architecture": "amd64",
            "fsLayers": [{"blobSum": digest} for digest in reversed(layer_digests)],
            "history": history[::-1],
        }
    )


def referrers_tag(subject: str) -> str:
    """Return the tag under which clients look for the referrers of a digest where there is no referrers API."""
    return subject.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Image:
    """A stored manifest and the digests that it names.

    Attributes:
        repository, tag: where it was stored; an empty tag means by digest only.
        digest, media_type, data: of the manifest.
        config: digest of the configuration, or None where the kind has none.
        layers: digests of the layers, foreign ones included.
        children: digests of the entries of an index, manifests and plain blobs alike.
    """

    repository: str
    tag: str
    digest: str
    media_type: str
    data: bytes
    config: str | None = None
    layers: tuple[str, ...] = ()
    children: tuple[str, ...] = ()

    @property
    def digests(self) -> frozenset[str]:
        """The manifest's own digest and all that it names directly."""
        named = {self.digest, *self.layers, *self.children}
        return frozenset(named if self.config is None else named | {self.config})

    def descriptor(self, **fields: Any) -> Descriptor:
        """Describe the manifest, for an index or as a subject."""
        return {"mediaType": self.media_type, "size": len(self.data), "digest": self.digest, **fields}

    def platform(self, architecture: str = "amd64", os: str = "linux") -> Descriptor:
        """Describe the manifest as an index entry for a platform."""
        return self.descriptor(platform={"architecture": architecture, "os": os})


class ImageSink(ABC):
    """Something that images can be stored in, piece by piece; the pieces come in the order in which clients push."""

    @abstractmethod
    def _store_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        """Store a layer or configuration, linked in the repository, and return its digest."""

    @abstractmethod
    def _store_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        """Store a manifest under a tag, or under a digest, and return its digest."""

    def push_image(
        self,
        repository: str,
        tag: str,
        layer_data: Sequence[bytes] = (),
        config: bytes | None = None,
        *,
        flavour: Flavour = "docker",
        layer_type: str | None = None,
        config_type: str | None = None,
        foreign: Sequence[Descriptor] = (),
        algorithm: str = "sha256",
        subject: Descriptor | None = None,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
        architecture: str = "amd64",
    ) -> Image:
        """Store layers, configuration and manifest.

        Args:
            repository: name of the repository.
            tag: the tag; empty to store by digest only (an untagged manifest).
            layer_data: the layers, base first.
            config: the configuration; None makes one.
            flavour: docker schema2 or OCI.
            layer_type, config_type: media types other than the flavour's own.
            foreign: layers that are described and not stored, listed before the others.
            algorithm: of the layers' digests; the configuration's and the manifest's are sha256.
            subject, artifact_type, annotations: further fields of an OCI manifest.
            architecture: of a made configuration; different ones make different images from the same layers.
        """
        docker = flavour == "docker"
        layer_type = layer_type or (DOCKER_LAYER if docker else OCI_LAYER)
        config_type = config_type or (DOCKER_CONFIG if docker else OCI_CONFIG)
        described = list(foreign)
        for data in layer_data:
            self._store_blob(repository, data, algorithm)
            described.append(descriptor(layer_type, data, algorithm))
        if config is None:
            config = image_config(layer_data, architecture)
        self._store_blob(repository, config)
        optional = {"artifactType": artifact_type, "subject": subject, "annotations": annotations}
        data = image_manifest(
            descriptor(config_type, config),
            described,
            flavour,
            **{name: value for name, value in optional.items() if value is not None},
        )
        media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        digest = self._store_manifest(repository, tag or digest_of(data), data, media_type)
        return Image(
            repository, tag, digest, media_type, data, digest_of(config), tuple(item["digest"] for item in described)
        )

    def push_index(
        self,
        repository: str,
        tag: str,
        entries: Iterable[Image | Descriptor],
        *,
        flavour: Flavour = "oci",
        subject: Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Image:
        """Store an index over images, other indexes, or anything described (artifacts, plain blobs)."""
        described = [entry.platform() if isinstance(entry, Image) else entry for entry in entries]
        optional = {"subject": subject, "annotations": annotations}
        data = index_manifest(
            described, flavour, **{name: value for name, value in optional.items() if value is not None}
        )
        media_type = DOCKER_LIST if flavour == "docker" else OCI_INDEX
        digest = self._store_manifest(repository, tag or digest_of(data), data, media_type)
        return Image(repository, tag, digest, media_type, data, children=tuple(item["digest"] for item in described))

    def push_multi_arch(
        self, repository: str, tag: str, seed: object, *, attested: bool = False, size_bytes: int = 400
    ) -> tuple[Image, list[Image]]:
        """Store an index over an amd64 and an arm64 image, as buildx does; `attested` adds a provenance to each.

        Returns:
            The index, and its children in its order.
        """
        images = [
            self.push_image(repository, "", layers(2, f"{seed}/{name}", size_bytes), flavour="oci", architecture=name)
            for name in ("amd64", "arm64")
        ]
        entries = [image.platform(name) for image, name in zip(images, ("amd64", "arm64"), strict=True)]
        if attested:
            for image in images[:]:
                attestation = self.push_attestation(repository, image)
                images.append(attestation)
                entries.append(
                    attestation.descriptor(
                        platform={"architecture": "unknown", "os": "unknown"},
                        annotations={
                            "vnd.docker.reference.digest": image.digest,
                            "vnd.docker.reference.type": "attestation-manifest",
                        },
                    )
                )
        return self.push_index(repository, tag, entries), images

    def push_attestation(self, repository: str, image: Image) -> Image:
        """Store the provenance of an image as buildx does: a manifest whose layer is an in-toto statement."""
        statement = encode(
            {
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v0.2",
                "subject": [{"name": f"pkg:docker/{repository}", "digest": {"sha256": image.digest[7:]}}],
                "predicate": {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1"},
            }
        )
        config = image_config([statement], "unknown", "unknown")
        return self.push_image(repository, "", [statement], config, flavour="oci", layer_type=IN_TOTO)

    def push_referrer(self, repository: str, subject: Image, seed: object, *, fallback: bool = True) -> Image:
        """Store an artifact that refers to `subject`, and (`fallback`) the tag by which clients find it."""
        artifact = self.push_image(
            repository,
            "",
            [f'{{"sbom": "{seed}"}}'.encode()],
            b"{}",
            flavour="oci",
            layer_type="application/spdx+json",
            config_type=OCI_EMPTY,
            artifact_type="application/spdx+json",
            subject=subject.descriptor(),
        )
        if fallback:
            entry = artifact.descriptor(artifactType="application/spdx+json")
            self.push_index(repository, referrers_tag(subject.digest), [entry])
        return artifact

    def push_signature(self, repository: str, subject: Image, seed: object = "", suffix: str = "sig") -> Image:
        """Store a cosign signature (or `att`, `sbom`): an image tagged `sha256-<hex>.sig`, with no subject field."""
        payload = encode(
            {
                "critical": {
                    "identity": {"docker-reference": repository},
                    "image": {"docker-manifest-digest": subject.digest},
                    "type": "cosign container image signature",
                },
                "optional": {"seed": str(seed)},
            }
        )
        tag = f"{referrers_tag(subject.digest)}.{suffix}"
        return self.push_image(repository, tag, [payload], flavour="oci", layer_type=COSIGN_PAYLOAD)

    def push_build_cache(self, repository: str, tag: str, layer_data: Sequence[bytes]) -> Image:
        """Store a BuildKit cache: an index whose entries are layers and a cache configuration, none a manifest."""
        config = encode({"layers": [{"blob": digest_of(data), "parent": -1} for data in layer_data], "records": []})
        for data in (*layer_data, config):
            self._store_blob(repository, data)
        entries = [descriptor(OCI_LAYER, data) for data in layer_data]
        return self.push_index(repository, tag, [*entries, descriptor(BUILDKIT_CACHE_CONFIG, config)])

    def push_artifact(
        self, repository: str, tag: str, blobs: Sequence[bytes], subject: Descriptor | None = None
    ) -> Image:
        """Store an OCI artifact manifest. Registries refuse it: only a layout writer can."""
        for data in blobs:
            self._store_blob(repository, data)
        fields = {} if subject is None else {"subject": subject}
        manifest = artifact_manifest([descriptor("application/octet-stream", data) for data in blobs], **fields)
        digest = self._store_manifest(repository, tag or digest_of(manifest), manifest, OCI_ARTIFACT)
        return Image(repository, tag, digest, OCI_ARTIFACT, manifest, layers=tuple(digest_of(data) for data in blobs))

"""The registry's layout: a two-way pure map between keys and typed specs.

Keys are relative to the registry's `rootdirectory`. Source of the patterns: registry/storage/paths.go of
distribution v2.8.3 and v3.1.1; the temporary names are those of its file-system driver from v3.1.0 on.
`parse_key` never fails: what fits no pattern is a `Stray`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regstore.digest import Digest, pack_digest, split_digest

V2 = "docker/registry/v2/"
BLOBS = f"{V2}blobs/"
REPOSITORIES = f"{V2}repositories/"
HOME = "regstore/"
"""Where regstore keeps its lock, journals and quarantines, beside `docker/`."""
SCHEDULER_STATE = "scheduler-state.json"
"""Written beside `docker/` by a pull-through cache (registry/proxy/scheduler)."""
LOCKFILES = "docker/registry/lockfiles/"
"""Markers of GitLab's registry."""
SOFT_DELETED = "docker-backup/registry/v2/backup/"
"""Where docker-distribution-pruner keeps what it removed."""

MAX_NAME_LENGTH = 255
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TEMPORARY = re.compile(r"(?P<of>data|link|startedat)\.[0-9A-Za-z-]+\.tmp")
_OFFSET = re.compile(r"[0-9]+")


def is_repository_name(name: str) -> bool:
    """Tell whether a registry would accept the name (distribution/reference regexp.go)."""
    return 0 < len(name) <= MAX_NAME_LENGTH and all(map(_COMPONENT.fullmatch, name.split("/")))


def is_name_component(component: str) -> bool:
    """Tell whether one path component may stand in a repository name."""
    return _COMPONENT.fullmatch(component) is not None


def is_tag_name(tag: str) -> bool:
    """Tell whether a registry would accept the tag."""
    return _TAG.fullmatch(tag) is not None


def digest_path(digest: Digest) -> str:
    """Return `alg/hex`, as link paths have it."""
    algorithm, digits = split_digest(digest)
    return f"{algorithm}/{digits}"


@dataclass(frozen=True, slots=True)
class BlobData:
    """The bytes of a layer, config or manifest."""

    digest: Digest

    @property
    def key(self) -> str:
        """The key of this object."""
        algorithm, digits = split_digest(self.digest)
        return f"{BLOBS}{algorithm}/{digits[:2]}/{digits}/data"


@dataclass(frozen=True, slots=True)
class LayerLink:
    """A blob that a repository may serve. Its content may name another digest than its path: a sha512 alias."""

    repository: str
    digest: Digest

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{REPOSITORIES}{self.repository}/_layers/{digest_path(self.digest)}/link"


@dataclass(frozen=True, slots=True)
class RevisionLink:
    """A manifest of a repository."""

    repository: str
    digest: Digest

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{REPOSITORIES}{self.repository}/_manifests/revisions/{digest_path(self.digest)}/link"


@dataclass(frozen=True, slots=True)
class SignatureLink:
    """A detached schema1 signature of a revision, as registries up to 2.4 wrote it."""

    repository: str
    revision: Digest
    digest: Digest

    @property
    def key(self) -> str:
        """The key of this object."""
        revision = f"{REPOSITORIES}{self.repository}/_manifests/revisions/{digest_path(self.revision)}"
        return f"{revision}/signatures/{digest_path(self.digest)}/link"


@dataclass(frozen=True, slots=True)
class TagLink:
    """What a tag means now (`current/link`)."""

    repository: str
    tag: str

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{REPOSITORIES}{self.repository}/_manifests/tags/{self.tag}/current/link"


@dataclass(frozen=True, slots=True)
class TagIndexLink:
    """A digest that a tag meant once, or means now."""

    repository: str
    tag: str
    digest: Digest

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{REPOSITORIES}{self.repository}/_manifests/tags/{self.tag}/index/{digest_path(self.digest)}/link"


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file of an upload: `startedat`, `data`, or `hashstates/<alg>/<offset>`."""

    repository: str
    upload: str
    name: str

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{REPOSITORIES}{self.repository}/_uploads/{self.upload}/{self.name}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A half-written temporary file beside the object that it was to become."""

    of: BlobData | LayerLink | RevisionLink | TagLink | TagIndexLink | UploadFile
    name: str

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{self.of.key.rpartition('/')[0]}/{self.name}"


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """The expiry list of a pull-through cache."""

    @property
    def key(self) -> str:
        """The key of this object."""
        return SCHEDULER_STATE


@dataclass(frozen=True, slots=True)
class LockFile:
    """A marker of GitLab's registry, such as `database-in-use`."""

    name: str

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{LOCKFILES}{self.name}"


@dataclass(frozen=True, slots=True)
class SoftDeleted:
    """A file that docker-distribution-pruner set aside."""

    path: str

    @property
    def key(self) -> str:
        """The key of this object."""
        return f"{SOFT_DELETED}{self.path}"


@dataclass(frozen=True, slots=True)
class Stray:
    """A key that fits no pattern: never marked through, never removed."""

    key: str


Link = LayerLink | RevisionLink | TagLink | TagIndexLink
"""A link that a registry of the 2.x and 3.x lines writes."""

Spec = (
    BlobData
    | LayerLink
    | RevisionLink
    | SignatureLink
    | TagLink
    | TagIndexLink
    | UploadFile
    | Leftover
    | SchedulerState
    | LockFile
    | SoftDeleted
    | Stray
)


def parse_key(key: str) -> Spec:
    """Say what a key is. `parse_key(spec.key) == spec` for every spec, and `parse_key(key).key == key` for every
    key."""
    spec: Spec | None = None
    if key.startswith(BLOBS):
        spec = _parse_blob(key[len(BLOBS) :].split("/"))
    elif key.startswith(REPOSITORIES):
        spec = _parse_repository_key(key[len(REPOSITORIES) :].split("/"))
    elif key == SCHEDULER_STATE:
        spec = SchedulerState()
    elif key.startswith(LOCKFILES) and "/" not in key[len(LOCKFILES) :] and len(key) > len(LOCKFILES):
        spec = LockFile(key[len(LOCKFILES) :])
    elif key.startswith(SOFT_DELETED) and len(key) > len(SOFT_DELETED):
        spec = SoftDeleted(key[len(SOFT_DELETED) :])
    return spec or Stray(key)


def _parse_blob(parts: list[str]) -> Spec | None:
    if len(parts) != 4:
        return None
    algorithm, shard, digits, name = parts
    digest = _digest(algorithm, digits)
    if digest is None or shard != digits[:2]:
        return None
    blob = BlobData(digest)
    return blob if name == "data" else _leftover(blob, "data", name)


def _parse_repository_key(parts: list[str]) -> Spec | None:
    # A component of a repository name never starts with an underscore, a tag may: the first one decides.
    split = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
    if split is None:
        return None
    name = "/".join(parts[:split])
    if not is_repository_name(name):
        return None
    match parts[split:]:
        case ["_layers", algorithm, digits, file]:
            digest = _digest(algorithm, digits)
            return _link(LayerLink(name, digest), file) if digest else None
        case ["_manifests", "revisions", algorithm, digits, file]:
            digest = _digest(algorithm, digits)
            return _link(RevisionLink(name, digest), file) if digest else None
        case ["_manifests", "revisions", algorithm, digits, "signatures", alg, hex_digits, "link"]:
            revision, digest = _digest(algorithm, digits), _digest(alg, hex_digits)
            return SignatureLink(name, revision, digest) if revision and digest else None
        case ["_manifests", "tags", tag, "current", file] if is_tag_name(tag):
            return _link(TagLink(name, tag), file)
        case ["_manifests", "tags", tag, "index", algorithm, digits, file] if is_tag_name(tag):
            digest = _digest(algorithm, digits)
            return _link(TagIndexLink(name, tag, digest), file) if digest else None
        case ["_uploads", upload, "startedat" | "data" as file] if upload:
            return UploadFile(name, upload, file)
        case ["_uploads", upload, file] if upload:
            return _leftover(UploadFile(name, upload, "startedat"), "startedat", file)
        case ["_uploads", upload, "hashstates", algorithm, offset] if upload and algorithm in (
            "sha256",
            "sha384",
            "sha512",
        ):
            return UploadFile(name, upload, f"hashstates/{algorithm}/{offset}") if _OFFSET.fullmatch(offset) else None
    return None


def _digest(algorithm: str, digits: str) -> Digest | None:
    try:
        return pack_digest(algorithm, digits)
    except ValueError:
        return None


def _link(link: LayerLink | RevisionLink | TagLink | TagIndexLink, file: str) -> Spec | None:
    return link if file == "link" else _leftover(link, "link", file)


def _leftover(
    of: BlobData | LayerLink | RevisionLink | TagLink | TagIndexLink | UploadFile, what: str, name: str
) -> Leftover | None:
    match = _TEMPORARY.fullmatch(name)
    return Leftover(of, name) if match and match["of"] == what else None

"""What a collection does, as data: actions, their kinds, and the summary of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest

if TYPE_CHECKING:
    from regstore.findings import Finding
    from regstore.gc.options import Options


class Kind(StrEnum):
    """What an action concerns; the words of `removed` in JSON documents."""

    BLOB = "blob"
    LAYER_LINK = "layer-link"
    REVISION_LINK = "revision-link"
    TAG_LINK = "tag-link"
    TAG_INDEX = "tag-index"
    UPLOAD = "upload"
    MULTIPART = "multipart"
    LEFTOVER = "leftover"
    REPOSITORY = "repository"


class Verb(StrEnum):
    """What is done.

    `remove` moves into the quarantine (a multipart upload is aborted, the empty directories of a repository are
    removed); `condemn` notes that a blob without links was seen, so that a later run may remove it; `restore` puts
    back from the quarantine what is needed again. `spare`, in ledgers only, notes that a blob was seen linked or
    needed: what condemned it before counts no more.
    """

    REMOVE = "remove"
    CONDEMN = "condemn"
    SPARE = "spare"
    RESTORE = "restore"


class Action(NamedTuple):
    """One step.

    Attributes:
        verb: what is done.
        kind: to what.
        repository: its name, or empty for blobs.
        digest: the digest in the path, where it has one.
        name: the tag, the upload's id, the key of a leftover, or `key upload-id` of a multipart upload.
        size: bytes of the object, or of all files of an upload.
        reason: why, in words.
    """

    verb: Verb
    kind: Kind
    repository: str
    digest: Digest | None
    name: str
    size: int
    reason: str

    @property
    def key(self) -> str:
        """The key of the object; for an upload, repository or multipart upload the prefix or key that it stands for."""
        repository, digest, name = self.repository, self.digest, self.name
        match self.kind:
            case Kind.BLOB if digest is not None:
                return layout.BlobData(digest).key
            case Kind.LAYER_LINK if digest is not None:
                return layout.LayerLink(repository, digest).key
            case Kind.REVISION_LINK if digest is not None:
                # The name holds the path below the revision when it is a detached signature's link.
                key = layout.RevisionLink(repository, digest).key
                return f"{key.rpartition('/')[0]}/{name}" if name else key
            case Kind.TAG_LINK:
                return layout.TagLink(repository, name).key
            case Kind.TAG_INDEX if digest is not None:
                return layout.TagIndexLink(repository, name, digest).key
            case Kind.UPLOAD:
                return f"{layout.REPOSITORIES}{repository}/_uploads/{name}"
            case Kind.REPOSITORY:
                return f"{layout.REPOSITORIES}{repository}"
            case Kind.MULTIPART:
                return name.partition(" ")[0]
        return name

    @property
    def identity(self) -> tuple[Verb, Kind, str, Digest | None, str]:
        """What makes two actions the same step, whatever their sizes and reasons."""
        return self[:5]

    def to_json(self) -> dict[str, Any]:
        """Return the line of a plan file."""
        return {
            "action": self.verb.value,
            "kind": self.kind.value,
            "key": self.key,
            "repository": self.repository or None,
            "digest": format_digest(self.digest) if self.digest is not None else None,
            "name": self.name or None,
            "bytes": self.size,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Action:
        """Read the line of a plan file.

        Raises:
            KeyError, ValueError, TypeError: it is no such line.
        """
        digest = parse_digest(str(line["digest"])) if line["digest"] else None
        action = cls(
            Verb(line["action"]),
            Kind(line["kind"]),
            line["repository"] or "",
            digest,
            line["name"] or "",
            int(line["bytes"]),
            str(line["reason"]),
        )
        if action.key != line["key"]:
            raise ValueError(f"the key {line['key']!r} is not the one of this action, {action.key!r}")
        return action


@dataclass(slots=True)
class RepositorySummary:
    """What one repository has and gives back. Bytes count the blob data that only this run's removals make free."""

    name: str
    tag_count: int = 0
    revision_count: int = 0
    reclaimable_bytes: int = 0
    is_frozen: bool = False


@dataclass(slots=True)
class Summary:
    """The numbers of a plan. All bytes are those of blob data.

    `signature_tag_count` is the part of `tag_count` that is about another manifest. `removable_bytes` is what this plan
    sets out to free: the unreferenced blobs that it removes or condemns.
    """

    repository_count: int = 0
    tag_count: int = 0
    signature_tag_count: int = 0
    revision_count: int = 0
    blob_count: int = 0
    live_count: int = 0
    live_bytes: int = 0
    grace_count: int = 0
    grace_bytes: int = 0
    unreferenced_count: int = 0
    unreferenced_bytes: int = 0
    removable_bytes: int = 0
    largest: list[RepositorySummary] = field(default_factory=list)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all blob data."""
        return self.live_bytes + self.grace_bytes + self.unreferenced_bytes


class Refusal(NamedTuple):
    """A guard that stops a plan from being applied: a slug, what it guards, and what would satisfy it."""

    code: str
    message: str
    hint: str


@dataclass(slots=True)
class Plan:
    """What a collection would do, why, and what was found on the way.

    Attributes:
        location: the registry, without credentials.
        options: every option that decided.
        created_at: the storage's time, seconds since the epoch.
        summary: counts and bytes.
        actions: the steps, in the order in which they are applied.
        findings: what is not as it should be.
        spared: blobs that runs condemned, or this one would by removing one of their links, and that are linked or
            needed.
        refusals: the guards that `apply_plan` will not pass.
        config: the registry's config.yml, when the location was one: where the credentials come from.
    """

    location: str
    options: Options
    created_at: float
    summary: Summary
    actions: list[Action]
    findings: list[Finding]
    spared: list[Digest] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    config: str | None = None

    @property
    def removals(self) -> list[Action]:
        """The steps that remove something."""
        return [action for action in self.actions if action.verb is Verb.REMOVE]

"""The findings of a check: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from regstore.findings import Finding, FindingKind, Severity

_REFETCH = (
    "regstore fsck --repair --from SOURCE fetches it; or regstore fsck --repair moves bad data away, then push the "
    "images again"
)
_LINK = "regstore fsck --repair writes it where the evidence determines it; or push the image again"
_OWNER = "chown the subtree to the registry's user, and see that it may read files and write directories"
_NOTHING = "nothing to do"

CATALOGUE: dict[str, FindingKind] = {
    "blob-corrupt": FindingKind(Severity.CRITICAL, "data do not hash to their name", _REFETCH),
    "blob-missing": FindingKind(Severity.CRITICAL, "a manifest needs data that are not there", _REFETCH),
    "blob-size": FindingKind(Severity.CRITICAL, "data have another size than the descriptor that names them", _REFETCH),
    "manifest-missing": FindingKind(Severity.CRITICAL, "the data of a linked manifest are not there", _REFETCH),
    "manifest-corrupt": FindingKind(
        Severity.CRITICAL, "the bytes of a manifest do not hash to their name: truncated or rotten", _REFETCH
    ),
    "manifest-unknown": FindingKind(
        Severity.WARNING,
        "a manifest of a kind that is not understood: nobody can say what it needs",
        "regstore gc keeps everything in its repository; delete it by its digest if nobody needs it",
    ),
    "link-malformed": FindingKind(Severity.ERROR, "a link does not hold a digest", _LINK),
    "link-mismatch": FindingKind(Severity.ERROR, "a link names another digest than its path", _LINK),
    "tag-link-missing": FindingKind(
        Severity.ERROR,
        "a tag has an index and no current link",
        "regstore fsck --repair --accept-proposals takes the newest entry of its index; or push the tag again",
    ),
    "revision-missing": FindingKind(Severity.ERROR, "a tag means a manifest without a revision link", _LINK),
    "layer-link-missing": FindingKind(Severity.ERROR, "a manifest needs a blob without a layer link", _LINK),
    "child-missing": FindingKind(Severity.ERROR, "an index names a manifest that is not in its repository", _LINK),
    "tag-index-missing": FindingKind(
        Severity.INFO, "the index of a tag lacks what the tag means", "regstore fsck --repair writes the entry"
    ),
    "tag-index-old": FindingKind(
        Severity.INFO, "entries of tag indexes whose manifest is gone", "regstore gc removes them"
    ),
    "link-dangling": FindingKind(
        Severity.INFO, "a link that no manifest needs, and whose data are not there", "regstore fsck --repair --prune"
    ),
    "subject-missing": FindingKind(
        Severity.INFO, "a manifest refers to a subject that is not in its repository", _NOTHING
    ),
    "signature-orphan": FindingKind(
        Severity.INFO,
        "a signature or referrers tag whose subject is gone",
        "regstore gc run --delete-orphan-signatures removes such tags",
    ),
    "storage-error": FindingKind(
        Severity.ERROR,
        "something could not be read",
        "see the reason; check owner, mode, and the disk in the system log",
    ),
    "owner-unreadable": FindingKind(Severity.ERROR, "files that the registry's user cannot read", _OWNER),
    "owner-unwritable": FindingKind(Severity.ERROR, "directories that the registry's user cannot write", _OWNER),
    "owner-differs": FindingKind(Severity.WARNING, "another owner, group or mode than the rest of the tree", _OWNER),
    "name-illegal": FindingKind(
        Severity.WARNING,
        "a repository or tag whose name no registry accepts",
        "the registry's own collector stops at it; move it to a legal name or away",
    ),
    "layer-diffid": FindingKind(
        Severity.ERROR,
        "a layer's decompressed bytes are not what its image's configuration says",
        "the image was built or pushed wrong: build and push it again",
    ),
    "layer-undecodable": FindingKind(
        Severity.ERROR,
        "a layer cannot be decompressed as its media type says",
        "the image was built or pushed wrong: build and push it again",
    ),
    "config-undecodable": FindingKind(
        Severity.WARNING, "an image's configuration does not list its layers", "build and push it again"
    ),
    "stray": FindingKind(Severity.INFO, "a key that is not of the registry's layout", "regstore never removes it"),
    "leftover": FindingKind(
        Severity.INFO, "half-written temporary files", "regstore fsck --repair --prune, or regstore gc run"
    ),
    "upload-open": FindingKind(Severity.INFO, "uploads that were begun, not ended", "regstore gc run removes old ones"),
    "multipart-open": FindingKind(
        Severity.INFO, "multipart uploads that were begun and not ended", "regstore gc run aborts old ones"
    ),
    "blob-unreferenced": FindingKind(Severity.INFO, "blobs that no manifest needs", "regstore gc run"),
    "manifest-untagged": FindingKind(
        Severity.INFO, "manifests that no tag needs", "regstore gc run --delete-untagged removes them"
    ),
    "repository-empty": FindingKind(
        Severity.INFO, "repositories without tag, manifest, layer and upload", "regstore gc run --empty-repositories"
    ),
    "directory-empty": FindingKind(Severity.INFO, "empty directories", _NOTHING),
    "foreign-absent": FindingKind(
        Severity.INFO, "layers that lie elsewhere by their manifest's word are not here", _NOTHING
    ),
    "soft-deleted": FindingKind(
        Severity.INFO, "files that docker-distribution-pruner set aside", "remove docker-backup/ when nobody needs it"
    ),
}


@dataclass(frozen=True, slots=True)
class CheckFinding(Finding):
    """A finding of a check.

    Attributes:
        evidence: what it rests on, as JSON values: expected and seen digests, sizes in bytes, owners, counts.
        images: every `repository:tag` that can no longer be pulled whole, sorted.
    """

    evidence: dict[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        plain = super(CheckFinding, self).to_json()
        return {**plain, "evidence": self.evidence, "images": list(self.images)}


def finding(kind: str, subject: str, detail: str, **evidence: Any) -> CheckFinding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return CheckFinding(kind, entry.severity, subject, detail, entry.repair, evidence)

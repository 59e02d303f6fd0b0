"""The findings about a registry that is copied: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regstore.findings import Finding, FindingKind, Severity

_SOURCE = "regstore fsck SOURCE says more; push the image again, or regstore fsck --repair --from what has it"
_NOTHING = "nothing to do"

SOURCE_CATALOGUE: dict[str, FindingKind] = {
    "blob-corrupt": FindingKind(Severity.CRITICAL, "data of the source do not hash to their name", _SOURCE),
    "blob-missing": FindingKind(Severity.CRITICAL, "an image needs data that are not there", _SOURCE),
    "blob-unreadable": FindingKind(Severity.ERROR, "data of the source cannot be read", _SOURCE),
    "manifest-corrupt": FindingKind(Severity.CRITICAL, "a manifest does not hash to its name", _SOURCE),
    "manifest-missing": FindingKind(Severity.CRITICAL, "the data of a linked manifest are not there", _SOURCE),
    "manifest-unknown": FindingKind(
        Severity.INFO, "a manifest of a kind that is not understood: its whole repository is kept", _NOTHING
    ),
    "link-malformed": FindingKind(Severity.ERROR, "a link does not hold a digest", _SOURCE),
    "link-mismatch": FindingKind(Severity.ERROR, "a link names another digest than its path", _SOURCE),
    "link-unreadable": FindingKind(
        Severity.ERROR, "a link cannot be read", "check its owner and mode, and the disk in the system log"
    ),
    "tag-link-missing": FindingKind(Severity.ERROR, "a tag has an index and no current link", _SOURCE),
    "revision-missing": FindingKind(Severity.ERROR, "a tag means a manifest without a revision link", _SOURCE),
    "layer-link-missing": FindingKind(Severity.ERROR, "an image needs a blob without a layer link", _SOURCE),
    "child-missing": FindingKind(Severity.ERROR, "an index names a manifest that is not in its repository", _SOURCE),
    "storage-error": FindingKind(
        Severity.ERROR, "something of the source could not be read", "check owner, mode, and the disk in the system log"
    ),
    "tag-moved": FindingKind(Severity.INFO, "a tag was moved while its image was copied", _NOTHING),
    "tag-deleted": FindingKind(Severity.INFO, "a tag was deleted while its image was copied", _NOTHING),
    "blob-vanished": FindingKind(Severity.INFO, "data that no image needs were deleted meanwhile", _NOTHING),
    "left-out": FindingKind(Severity.INFO, "keys that are not of the registry's layout are not stored", _NOTHING),
    "upload-open": FindingKind(Severity.INFO, "uploads that were begun, not ended, are not stored", _NOTHING),
}


@dataclass(frozen=True, slots=True)
class ImageFinding(Finding):
    """A finding of a copy.

    Attributes:
        images: every `repository:tag` that it hurts, sorted.
    """

    images: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**super(ImageFinding, self).to_json(), "images": list(self.images)}


def source_finding(kind: str, subject: str, detail: str, images: tuple[str, ...] = ()) -> ImageFinding:
    """Make a finding of the catalogue."""
    entry = SOURCE_CATALOGUE[kind]
    return ImageFinding(kind, entry.severity, subject, detail, entry.repair, images)

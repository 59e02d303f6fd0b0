"""The findings of backups and restores: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regstore.findings import Finding, FindingKind, Severity

_SOURCE = "regstore fsck SOURCE says more; push the image again, or regstore fsck --repair --from what has it"
_STORE = (
    "regstore backup create stores it again if the registry still has it; or restore it from a second copy of the store"
)
_ROTTEN = (
    "remove that file from the store: regstore backup create stores again what the registry still has; or restore it "
    "from a second copy of the store"
)
_NOTHING = "nothing to do"

CATALOGUE: dict[str, FindingKind] = {
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
    "dead-run": FindingKind(Severity.INFO, "a former run died; what it had stored is used", _NOTHING),
    "snapshot-damaged": FindingKind(
        Severity.CRITICAL,
        "a snapshot cannot be read",
        "restore the file from a second copy of the store; other snapshots do not need it",
    ),
    "snapshot-missing": FindingKind(
        Severity.WARNING,
        "a snapshot is not there that was there at the last run of prune",
        "if nobody removed it, see why the listing is short before prune runs again",
    ),
    "delete-failed": FindingKind(Severity.ERROR, "something could not be deleted", "see the reason; run prune again"),
    "store-blob-corrupt": FindingKind(Severity.CRITICAL, "data in the store do not hash to their name", _ROTTEN),
    "store-blob-missing": FindingKind(Severity.CRITICAL, "a snapshot needs data that the store does not have", _STORE),
    "store-blob-size": FindingKind(Severity.CRITICAL, "data in the store have another size than recorded", _STORE),
    "pack-damaged": FindingKind(Severity.CRITICAL, "a pack in the store is damaged", _ROTTEN),
    "repository-damaged": FindingKind(
        Severity.CRITICAL,
        "borg found errors in its repository",
        "regstore backup test-restore and restore --dry-run say what is hurt; see borg check --repair, and keep a copy",
    ),
    "store-stray": FindingKind(Severity.INFO, "keys in the store that are none of its", _NOTHING),
    "tag-replaced": FindingKind(
        Severity.INFO, "a tag that meant something else at the target means what the snapshot says now", _NOTHING
    ),
    "image-lost": FindingKind(
        Severity.CRITICAL,
        "an image cannot be restored whole, and was left out",
        "restore it from an older snapshot (regstore backup list), or push it again",
    ),
}


@dataclass(frozen=True, slots=True)
class BackupFinding(Finding):
    """A finding of a backup or restore.

    Attributes:
        images: every `repository:tag` that it hurts, sorted.
        snapshots: the ids of the snapshots in which it hurts them; empty for a finding about a source.
    """

    images: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        plain = super(BackupFinding, self).to_json()
        return {**plain, "images": list(self.images), "snapshots": list(self.snapshots)}


def finding(
    kind: str, subject: str, detail: str, images: tuple[str, ...] = (), snapshots: tuple[str, ...] = ()
) -> BackupFinding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return BackupFinding(kind, entry.severity, subject, detail, entry.repair, images, snapshots)

"""The findings of backups and restores: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regstore.findings import FindingKind, Severity
from regstore.transfer.catalogue import SOURCE_CATALOGUE, ImageFinding

_STORE = (
    "regstore backup create stores it again if the registry still has it; or restore it from a second copy of the store"
)
_ROTTEN = (
    "remove that file from the store: regstore backup create stores again what the registry still has; or restore it "
    "from a second copy of the store"
)
_NOTHING = "nothing to do"

CATALOGUE: dict[str, FindingKind] = {
    **SOURCE_CATALOGUE,
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
    "pull-failed": FindingKind(
        Severity.CRITICAL,
        "an image that a drill restored cannot be pulled whole",
        "regstore backup verify --full says whether the store is whole; drill again with --keep to look at what was "
        "restored",
    ),
    "snapshot-incomplete": FindingKind(
        Severity.INFO,
        "a drill passed over a newer snapshot, of a registry that was not whole, or had to take it",
        "regstore backup show says what was broken; see regstore fsck of the registry",
    ),
    "registry-absent": FindingKind(
        Severity.INFO,
        "no registry program is installed on the host of a drill",
        "install docker-registry, or name a registry with --registry-program",
    ),
}


@dataclass(frozen=True, slots=True)
class BackupFinding(ImageFinding):
    """A finding of a backup or restore.

    Attributes:
        snapshots: the ids of the snapshots in which it hurts them; empty for a finding about a source.
    """

    snapshots: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**super(BackupFinding, self).to_json(), "snapshots": list(self.snapshots)}

    @classmethod
    def of_source(cls, found: ImageFinding) -> BackupFinding:
        """Return a finding about a source as one of its backup."""
        return cls(found.id, found.severity, found.subject, found.detail, found.repair, found.images)


def finding(
    kind: str, subject: str, detail: str, images: tuple[str, ...] = (), snapshots: tuple[str, ...] = ()
) -> BackupFinding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return BackupFinding(kind, entry.severity, subject, detail, entry.repair, images, snapshots)

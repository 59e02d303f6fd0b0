"""The findings of migrations: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from regstore.findings import FindingKind, Severity
from regstore.transfer import SOURCE_CATALOGUE, ImageFinding

_RUN = "regstore migrate run SOURCE TARGET brings it"
_MIRROR = "if it may go at the target too, regstore migrate run --mirror removes it"

CATALOGUE: dict[str, FindingKind] = {
    **SOURCE_CATALOGUE,
    "database-in-use": FindingKind(
        Severity.INFO,
        "the registry keeps tags or names in a database",
        "the volume alone is not the registry: move its database in the same window",
    ),
    "space-short": FindingKind(
        Severity.ERROR, "there is not enough room at the target", "make room, or name another target"
    ),
    "target-blob-replaced": FindingKind(
        Severity.INFO, "data at the target did not hash to their name, and were copied anew", "nothing to do"
    ),
    "target-blob-corrupt": FindingKind(
        Severity.CRITICAL,
        "data at the target do not hash to their name",
        "remove that file or object and run regstore migrate run again; see what damages the target's storage",
    ),
    "tag-gone": FindingKind(Severity.INFO, "a tag that the target has is not at the source any more", _MIRROR),
    "tag-removed": FindingKind(Severity.INFO, "a tag was removed at the target, as at the source", "nothing to do"),
    "mirror-withheld": FindingKind(
        Severity.WARNING,
        "nothing was removed at the target, because the source could not be read whole",
        "mend what the other findings name, then run again",
    ),
    "delete-failed": FindingKind(Severity.ERROR, "something could not be removed", "see the reason; run again"),
    "tag-missing": FindingKind(Severity.ERROR, "a tag is not at the target", _RUN),
    "tag-differs": FindingKind(Severity.ERROR, "a tag means something else at the target", _RUN),
    "tag-extra": FindingKind(Severity.WARNING, "a tag is at the target only", _MIRROR),
    "revision-absent": FindingKind(Severity.ERROR, "a manifest is not linked at the target", _RUN),
    "revision-extra": FindingKind(Severity.WARNING, "a manifest is linked at the target only", _MIRROR),
    "layer-link-absent": FindingKind(Severity.ERROR, "a layer is not linked at the target", _RUN),
    "layer-link-differs": FindingKind(Severity.ERROR, "a layer link holds something else at the target", _RUN),
    "layer-link-extra": FindingKind(Severity.WARNING, "a layer is linked at the target only", _MIRROR),
    "target-link-damaged": FindingKind(Severity.ERROR, "a link at the target does not hold its digest", _RUN),
    "target-blob-missing": FindingKind(Severity.CRITICAL, "data are not at the target", _RUN),
    "target-blob-size": FindingKind(Severity.CRITICAL, "data have another size at the target", _RUN),
    "target-blob-extra": FindingKind(
        Severity.INFO,
        "data are at the target only, and no image there needs them",
        "regstore gc at the target collects them",
    ),
}


def finding(kind: str, subject: str, detail: str, images: tuple[str, ...] = ()) -> ImageFinding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return ImageFinding(kind, entry.severity, subject, detail, entry.repair, images)

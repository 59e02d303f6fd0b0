"""The findings of a collection: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from regstore.findings import Finding, FindingKind, Severity

_FROZEN = "nothing is removed from this repository until it is repaired: run regstore fsck, or push the image again"

CATALOGUE: dict[str, FindingKind] = {
    "manifest-missing": FindingKind(Severity.ERROR, "the data of a linked manifest are not there", _FROZEN),
    "manifest-corrupt": FindingKind(
        Severity.ERROR, "the bytes of a manifest do not hash to their name: truncated or rotten", _FROZEN
    ),
    "manifest-unknown": FindingKind(Severity.WARNING, "a manifest of a kind that is not understood", _FROZEN),
    "link-malformed": FindingKind(Severity.ERROR, "a link does not hold a digest", _FROZEN),
    "link-mismatch": FindingKind(Severity.ERROR, "a link names another digest than its path", _FROZEN),
    "tag-link-missing": FindingKind(Severity.ERROR, "a tag has an index and no current link", _FROZEN),
    "revision-missing": FindingKind(Severity.ERROR, "a tag means a manifest without a revision link", _FROZEN),
    "layer-link-missing": FindingKind(Severity.ERROR, "a kept manifest needs a blob without a layer link", _FROZEN),
    "child-missing": FindingKind(Severity.WARNING, "a kept index names a manifest that is not here", _FROZEN),
    "blob-missing": FindingKind(
        Severity.ERROR,
        "a kept manifest needs a blob whose data are not there",
        "run regstore fsck to see which images are hurt, and push them again",
    ),
    "removal-failed": FindingKind(
        Severity.ERROR, "the storage refused to remove an item", "see the reason; the next run tries again"
    ),
    "restored": FindingKind(
        Severity.INFO, "something that was removed before is needed again and was put back", "nothing to do"
    ),
    "signature-orphan": FindingKind(
        Severity.INFO,
        "a signature or referrers tag whose subject is gone",
        "remove such tags with --delete-orphan-signatures",
    ),
    "signature-replaced": FindingKind(
        Severity.INFO,
        "an untagged signature that a newer one replaced goes with --delete-untagged",
        "keep them with --keep-signature-history",
    ),
    "stray": FindingKind(
        Severity.INFO, "keys that are not of the registry's layout: never removed", "regstore fsck lists them"
    ),
    "foreign-absent": FindingKind(
        Severity.INFO, "layers that lie elsewhere by their manifest's word are not here", "nothing to do"
    ),
}


def finding(kind: str, subject: str, detail: str) -> Finding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return Finding(kind, entry.severity, subject, detail, entry.repair)

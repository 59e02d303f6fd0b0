"""The findings of reports beside those of collections: stable ids, how bad each is, and what to do about it."""

from __future__ import annotations

from regstore.findings import Finding, FindingKind, Severity

CATALOGUE: dict[str, FindingKind] = {
    "layer-unreadable": FindingKind(
        Severity.WARNING,
        "a layer cannot be decompressed or read as an archive, and counts not at all",
        "regstore fsck --data --layers says what is wrong with it and which images it hurts",
    ),
    "reclaimable": FindingKind(
        Severity.INFO,
        "much of the volume is garbage of one repository",
        "regstore gc plan says what would go and why; gc run removes it",
    ),
    "tags-never-superseded": FindingKind(
        Severity.INFO,
        "a repository with many old tags, none of which was ever moved: every build stays for ever",
        "ask --what-if 'keep-last 20' what a rule would free; delete such tags in the registry, then collect",
    ),
    "files-overwritten": FindingKind(
        Severity.INFO,
        "a layer of an image holds files that a later layer overwrites or deletes",
        "remove such files in the step that makes them, or build in stages and copy what is needed",
    ),
    "layers-rebuilt": FindingKind(
        Severity.INFO,
        "layers with the same files and other digests: built again, with other times",
        "use the build cache, or set SOURCE_DATE_EPOCH and rewrite timestamps: the same files then give the same layer",
    ),
    "many-tiny-layers": FindingKind(
        Severity.INFO,
        "images of many layers, most of them tiny: each costs a request, a file and a link in every repository",
        "merge RUN and COPY steps in their Dockerfile, or squash them",
    ),
}


def finding(kind: str, subject: str, detail: str) -> Finding:
    """Make a finding of the catalogue."""
    entry = CATALOGUE[kind]
    return Finding(kind, entry.severity, subject, detail, entry.repair)

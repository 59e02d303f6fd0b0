"""Which images damage hurts: every `repository:tag` that reaches a bad digest, through indexes too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.digest import Digest, parse_digest
from regstore.findings import Severity
from regstore.inventory.reach import hurt_tags
from regstore.state import NOTHING_KNOWN
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regstore.fsck.catalogue import CheckFinding
    from regstore.inventory.manifests import ManifestReader
    from regstore.registry.scan import Volume
    from regstore.work import Cancel, Progress

_EVERYWHERE = ""
_HURTING = ("blob-", "child-", "config-", "layer-", "link-", "manifest-", "revision-", "tag-link-")


class Place(NamedTuple):
    """What a finding is about: a digest in one repository, or (with an empty name) in all; or one tag."""

    repository: str
    digest: Digest | None
    tag: str = ""


def name_images(
    findings: list[CheckFinding], volume: Volume, manifests: ManifestReader, progress: Progress, cancel: Cancel
) -> list[CheckFinding]:
    """Return the findings, each with the images that it hurts.

    The repositories are read once more: damage is rare, and remembering all references for its sake would cost more.
    """
    places = [_places_of(finding) if _hurts(finding) else [] for finding in findings]
    hurt = _find_images({place for of_one in places for place in of_one}, volume, manifests, progress, cancel)
    return [
        replace(finding, images=tuple(sorted(set().union(*(hurt.get(place, ()) for place in of_one)))))
        for finding, of_one in zip(findings, places, strict=True)
    ]


def _hurts(finding: CheckFinding) -> bool:
    return finding.severity > Severity.INFO and finding.id.startswith(_HURTING)


def _places_of(finding: CheckFinding) -> list[Place]:
    if "manifests" in finding.evidence:  # what an image says of a layer hurts no other that shares it
        return [Place(_EVERYWHERE, parse_digest(text)) for text in finding.evidence["manifests"]]
    place = _place_of(finding)
    return [place] if place else []


def _place_of(finding: CheckFinding) -> Place | None:
    """Tell what a finding is about from its subject: a key, a digest, `repository@digest` or `repository:tag`."""
    subject = finding.subject
    if subject.startswith(layout.V2):
        spec = layout.parse_key(subject)
        if isinstance(spec, layout.LayerLink | layout.RevisionLink):
            return Place(spec.repository, spec.digest)
        return Place(spec.repository, None, spec.tag) if isinstance(spec, layout.TagLink) else None
    repository, separator, text = subject.partition("@")
    if separator:
        return Place(repository, parse_digest(text))
    repository, _, tag = subject.rpartition(":")
    if finding.id == "revision-missing":
        return Place(repository, None, tag)
    return Place(_EVERYWHERE, parse_digest(subject))


def _find_images(
    places: set[Place], volume: Volume, manifests: ManifestReader, progress: Progress, cancel: Cancel
) -> dict[Place, set[str]]:
    hurt = {place: {f"{place.repository}:{place.tag}"} for place in places if place.tag}
    everywhere = {place.digest for place in places if place.repository == _EVERYWHERE and place.digest}
    local: dict[str, set[Digest]] = {}
    for place in places:
        if place.repository and place.digest:
            local.setdefault(place.repository, set()).add(place.digest)
    names: Iterable[str] = volume.list_repositories() if everywhere else sorted(local)
    names = list(names)
    progress.start("images that are hurt", len(names))
    for name in names:
        cancel.check()
        progress.advance()
        try:
            repository = volume.scan_repository(name, NOTHING_KNOWN)
            manifests.load(name, repository.revisions.union(repository.tags.values()))
            bad = everywhere | local.get(name, set())
            for tag, digests in hurt_tags(repository, manifests, bad).items():
                for digest in digests:
                    for place in (Place(name, digest), Place(_EVERYWHERE, digest)):
                        if place in places:
                            hurt.setdefault(place, set()).add(f"{name}:{tag}")
        except DriverError:
            continue  # the survey told of it
    progress.finish()
    return hurt

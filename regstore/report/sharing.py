"""`report dedup --level blob`: which layers repositories share, and what that saves. No data of layers are read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regstore import layout
from regstore.digest import format_digest
from regstore.gc.catalogue import finding
from regstore.gc.journal import Journal
from regstore.inventory.manifests import ManifestReader
from regstore.inventory.mark import Policy
from regstore.inventory.survey import Survey
from regstore.report.groups import Groups
from regstore.report.reach import Reach
from regstore.report.records import Records
from regstore.state import open_state
from regstore.work import Cancel, NoProgress

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from regstore.digest import Digest
    from regstore.findings import Finding
    from regstore.registry import Registry
    from regstore.registry.scan import Blobs, Repository, Volume
    from regstore.state import State
    from regstore.work import Progress

PAIR_COUNT = 1000
"""Pairs that are told: two thousand repositories have two millions."""


@dataclass(slots=True)
class Sharing:
    """How repositories share layers. Bytes are those of layers with data.

    Attributes:
        location: the registry, without credentials.
        layer_count: distinct layers.
        stored_bytes: of each once.
        logical_bytes: of each once for every repository that reaches it.
        layers: (digest, size, sorted names of its repositories), the most shared first.
        pairs: (name, name, bytes that both have), the largest first.
        findings: what could not be weighed.
    """

    location: str
    layer_count: int
    stored_bytes: int
    logical_bytes: int
    layers: list[tuple[Digest, int, list[str]]]
    pairs: list[tuple[str, str, int]]
    findings: list[Finding]

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """Return the fields of the JSON document, with at most `top` layers and pairs."""
        return {
            "level": "blob",
            "totals": {
                "layer_count": self.layer_count,
                "stored_bytes": self.stored_bytes,
                "logical_bytes": self.logical_bytes,
                "saved_bytes": self.logical_bytes - self.stored_bytes,
            },
            "layers": [
                {"digest": format_digest(digest), "size_bytes": size, "repositories": names}
                for digest, size, names in self.layers[:top]
            ],
            "pairs": [{"a": a, "b": b, "shared_bytes": size} for a, b, size in self.pairs[:top]],
        }


@dataclass(slots=True)
class Images:
    """The live images of a volume.

    Attributes:
        repositories: names, by number.
        kept: manifest to the numbers of the repositories that keep it.
        layers: layer and repository that reaches it.
        newest: repository to the image that its tag pushed last names, or one of the index that it names; only where
            the volume was opened to be measured.
        findings: what could not be believed.
        absent: layers without data whose absence is nothing to be told of.
    """

    repositories: list[str]
    kept: dict[Digest, list[int]]
    layers: Records
    newest: dict[str, Digest]
    findings: list[Finding]
    absent: set[Digest]


def find_images(
    registry: Registry, state: State, volume: Volume, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> Images:
    """Find the manifests that a collection without grace period keeps, untagged ones too, and their layers.

    Raises:
        DriverError, StorageFailedError: something could not be read for certain.
        InterruptedRunError: the run was asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    manifests = ManifestReader(volume, state)
    journal = Journal(registry.driver)
    is_cache = registry.has(layout.SCHEDULER_STATE)

    def policy_of(repository: Repository) -> Policy:
        return Policy(
            is_restorable=journal.quarantined.__contains__,
            signatures_of=functools.partial(volume.read_signatures, repository.name),
            sparse_is_normal=is_cache,
        )

    images = Images([], {}, Records("I"), {}, [], journal.quarantined_blobs)
    survey = Survey(volume, state, policy_of, manifests, cancel, journal.quarantined_layer_links)
    for repository, marks in survey.iter_repositories(progress):
        cancel.check()
        number = len(images.repositories)
        images.repositories.append(repository.name)
        images.findings += [finding(*trouble) for trouble in marks.troubles]
        images.absent |= marks.foreign | marks.absent
        manifests.load(repository.name, marks.kept)
        reach = Reach(repository, manifests)
        layers: set[Digest] = set()
        for manifest in marks.kept:
            images.kept.setdefault(manifest, []).append(number)
            layers.update(reach.layers_of(manifest))
        if pushed := {tag: at for tag, at in repository.pushed.items() if tag in repository.tags}:
            tag = max(pushed, key=lambda tag: (pushed[tag], tag))
            if image := reach.first_image(repository.tags[tag]):
                images.newest[repository.name] = image
        aliases = repository.aliases
        images.layers.add((digest, number) for digest in {aliases.get(layer, layer) for layer in layers})
    return images


def iter_missing(volume: Volume, layers: Set[Digest], images: Images) -> Iterator[Finding]:
    """Yield a finding for each of some layers that has no data."""
    wanted = sorted(layers - images.absent)
    there = {size.digest for size in volume.iter_blob_sizes(wanted)}
    for digest in wanted:
        if digest not in there:
            detail = "a kept manifest needs these data, and they are not there: they count not at all here"
            yield finding("blob-missing", format_digest(digest), detail)


def measure_sharing(
    registry: Registry,
    *,
    jobs: int = 16,
    state: State | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Sharing:
    """Say how repositories share layers. Writes nothing below the registry's root and takes no lock.

    Args:
        registry: what is looked at.
        jobs: requests at once on an object store.
        state: what is remembered between runs; by default that of the registry's location.
        progress, cancel: told and asked between items.

    Raises:
        DriverError, StorageFailedError: something could not be read for certain.
        InterruptedRunError: the run was asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    volume = registry.open_volume(jobs)
    own_state = state is None
    state = state or open_state(registry.location)
    try:
        progress.start("blobs")
        blobs = volume.list_blobs(progress.advance)
        progress.finish()
        images = find_images(registry, state, volume, progress=progress, cancel=cancel)
        sharing = _weigh(registry.location, volume, blobs, images, cancel)
        volume.check_unchanged()
    finally:
        if own_state:
            state.close()
    return sharing


def _weigh(location: str, volume: Volume, blobs: Blobs, images: Images, cancel: Cancel) -> Sharing:
    names, groups = images.repositories, Groups()
    stored = logical = 0
    layers: list[tuple[Digest, int, list[str]]] = []
    for shard, digests in enumerate(blobs.iter_shards()):
        cancel.check()
        owners: dict[Digest, list[int]] = {}
        for digest, number in images.layers.take_shard(shard):
            owners.setdefault(digest, []).append(number)
        missing = set(owners)
        for digest, size, _ in volume.iter_blob_sizes(sorted(owners.keys() & digests)):
            missing.discard(digest)
            members = owners[digest]
            stored += size
            logical += size * len(members)
            layers.append((digest, size, sorted(names[number] for number in members)))
            if len(members) > 1:
                groups.add(members, size)
        images.findings += iter_missing(volume, missing, images)
    layers.sort(key=lambda row: (-len(row[2]), -row[1], row[0]))
    pairs = [
        (min(names[a], names[b]), max(names[a], names[b]), size)
        for a, b, size in groups.largest_pairs(len(names), PAIR_COUNT)
    ]
    return Sharing(location, len(layers), stored, logical, layers, pairs, images.findings)

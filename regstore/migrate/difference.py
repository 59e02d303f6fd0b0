"""What of one repository is to be written at the target, and what the target has that the source has not. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from regstore import layout
from regstore.registry.scan import Repository
from regstore.transfer import Contents, iter_data, link_count, reduce_contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regstore.digest import Digest
    from regstore.migrate.options import Selection
    from regstore.transfer import Source


class Wanted(NamedTuple):
    """What of a repository is taken along: its links, and the digests of the data that it needs."""

    contents: Contents
    data: set[Digest]


@dataclass(slots=True)
class Difference:
    """How the repository at the target differs.

    Attributes:
        new: links that are to be written.
        replaced: tag to the digest that it means at the target, where that is another.
        gone_tags: tag to the digest that it means at the target, where the source has no such tag.
        gone_indexes: the digests that the indexes of those tags name.
        gone_revisions, gone_layers: digests of links that the source has not.
    """

    new: Contents
    replaced: dict[str, Digest] = field(default_factory=dict)
    gone_tags: dict[str, Digest] = field(default_factory=dict)
    gone_indexes: dict[str, list[Digest]] = field(default_factory=dict)
    gone_revisions: list[Digest] = field(default_factory=list)
    gone_layers: list[Digest] = field(default_factory=list)

    @property
    def new_count(self) -> int:
        """How many links are to be written."""
        return link_count(self.new)

    @property
    def gone_count(self) -> int:
        """How many tags, manifests and layers only the target links."""
        return len(self.gone_tags) + len(self.gone_revisions) + len(self.gone_layers)


def choose(source: Source, name: str, selection: Selection) -> Wanted:
    """Say what of a repository is taken along.

    Links of layers that no manifest needs stay behind, unless everything is wanted; not in a pull-through cache, where
    nobody can tell.
    """
    contents = source.contents(name)
    if selection.is_by_tag:
        tags = {tag for tag, meant in contents.tags.items() if selection.has_tag(tag, meant.pushed_ns)}
        contents = reduce_contents(contents, source.manifests, tags)
        return Wanted(contents, iter_data(contents))
    live = source.live(name)
    if not (selection.takes_all or source.is_cache):
        contents.layers = {path: held for path, held in contents.layers.items() if path in live or held in live}
    return Wanted(contents, iter_data(contents) | live)


def compare(
    wanted: Contents,
    full: Contents,
    there: Repository,
    selection: Selection,
    signatures_of: Callable[[Digest], list[Digest]],
) -> Difference:
    """Compare a repository with that of the target.

    Args:
        wanted: the links that are taken along.
        full: all links of the source.
        there: the repository at the target.
        selection: what is taken along: what else the target has is not looked at.
        signatures_of: the detached signatures of a revision at the target.
    """
    there = _without_damage(there)
    difference = Difference(
        Contents(
            wanted.name,
            layers=_new_layers(wanted.layers, there),
            revisions=[digest for digest in wanted.revisions if digest not in there.revisions],
            signatures=_new_signatures(wanted.signatures, signatures_of),
            tags={tag: meant for tag, meant in wanted.tags.items() if there.tags.get(tag) != meant.digest},
            indexes=_new_indexes(wanted, there),
        )
    )
    difference.replaced = {tag: there.tags[tag] for tag in difference.new.tags if tag in there.tags}
    _find_gone(difference, full, there, selection)
    return difference


def _new_layers(wanted: Mapping[Digest, Digest], there: Repository) -> dict[Digest, Digest]:
    return {
        path: held for path, held in wanted.items() if path not in there.layers or there.aliases.get(path, path) != held
    }


def _new_signatures(
    wanted: Mapping[Digest, list[Digest]], signatures_of: Callable[[Digest], list[Digest]]
) -> dict[Digest, list[Digest]]:
    new: dict[Digest, list[Digest]] = {}
    for revision, signatures in wanted.items():
        if missing := set(signatures).difference(signatures_of(revision)):
            new[revision] = sorted(missing)
    return new


def _new_indexes(wanted: Contents, there: Repository) -> dict[str, list[Digest]]:
    new: dict[str, list[Digest]] = {}
    for tag in wanted.tags:
        index, known = wanted.indexes.get(tag, []), there.tag_indexes.get(tag, [])
        if missing := [digest for digest in index if digest not in known]:
            new[tag] = missing
    return new


def _find_gone(difference: Difference, full: Contents, there: Repository, selection: Selection) -> None:
    """Note what only the target has. A tag that the source has, however damaged, is not gone."""
    for tag, digest in there.tags.items():
        if tag not in full.tags and tag not in full.indexes and selection.has_tag_name(tag):
            difference.gone_tags[tag] = digest
            difference.gone_indexes[tag] = there.tag_indexes.get(tag, [])
    if not selection.is_by_tag:
        difference.gone_revisions = sorted(there.revisions.difference(full.revisions))
        difference.gone_layers = sorted(there.layers.difference(full.layers))


def _without_damage(there: Repository) -> Repository:
    """Return the repository without the links that do not hold what they should: they are written anew."""
    damaged = {layout.parse_key(damage.key) for damage in there.damage}
    if not damaged:
        return there
    name = there.name
    return Repository(
        name,
        layers={digest for digest in there.layers if layout.LayerLink(name, digest) not in damaged},
        aliases=there.aliases,
        revisions={digest for digest in there.revisions if layout.RevisionLink(name, digest) not in damaged},
        tags=there.tags,
        tag_indexes={
            tag: [digest for digest in index if layout.TagIndexLink(name, tag, digest) not in damaged]
            for tag, index in there.tag_indexes.items()
        },
    )

"""The links of one repository, as a copy takes them: in memory, as lines of text, and as the files that they are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore import layout
from regstore.digest import Digest, format_digest, parse_digest, parse_digests
from regstore.registry.scan import Repository, expected_link

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


class ContentsDamagedError(ValueError):
    """Lines are no links of a repository."""


class Link(NamedTuple):
    """A small object that is to be there: its key, what it holds, and the time that it shall show."""

    key: str
    content: bytes
    mtime_ns: int | None = None


class Tag(NamedTuple):
    """What a tag means, and when it was pushed (nanoseconds since the epoch)."""

    digest: Digest
    pushed_ns: int


@dataclass(slots=True)
class Contents:
    """The links of one repository.

    Attributes:
        name: its name.
        layers: the digest in the path of a layer link to the digest that it holds.
        revisions: digests of its manifests.
        signatures: revision to the digests of its detached signatures.
        tags: what they mean.
        indexes: tag to the digests that its index names.
    """

    name: str
    layers: dict[Digest, Digest] = field(default_factory=dict)
    revisions: list[Digest] = field(default_factory=list)
    signatures: dict[Digest, list[Digest]] = field(default_factory=dict)
    tags: dict[str, Tag] = field(default_factory=dict)
    indexes: dict[str, list[Digest]] = field(default_factory=dict)

    def to_repository(self) -> Repository:
        """Return it as a scan would see it."""
        return Repository(
            self.name,
            layers=set(self.layers),
            aliases={path: held for path, held in self.layers.items() if path != held},
            revisions=set(self.revisions),
            tags={tag: meant.digest for tag, meant in self.tags.items()},
            tag_indexes=self.indexes,
        )


def encode_contents(contents: Contents) -> bytes:
    """Return the lines of a repository."""
    lines = [f'["repository", {json.dumps(contents.name)}]']
    for text, path, held in zip(digest_texts(contents.layers), contents.layers, contents.layers.values(), strict=True):
        lines.append(f'["layer", "{text}"]' if path == held else f'["layer", "{text}", "{format_digest(held)}"]')
    lines += [f'["revision", "{text}"]' for text in digest_texts(contents.revisions)]
    for revision, signatures in contents.signatures.items():
        lines += [f'["signature", "{format_digest(revision)}", "{format_digest(digest)}"]' for digest in signatures]
    for tag, index in contents.indexes.items():
        lines += [f'["index", {json.dumps(tag)}, "{format_digest(digest)}"]' for digest in index]
    for tag, meant in contents.tags.items():
        lines.append(f'["tag", {json.dumps(tag)}, "{format_digest(meant.digest)}", {meant.pushed_ns}]')
    lines.append("")
    return "\n".join(lines).encode()


def parse_contents(name: str, lines: bytes) -> Contents:
    """Read the lines of a repository.

    Raises:
        ContentsDamagedError: one cannot be understood.
    """
    contents = Contents(name)
    try:
        rows: list[list[Any]] = json.loads(b"[" + lines.rstrip().replace(b"\n", b",") + b"]")
        digest_of = _parser(rows)
        for row in rows:
            match row:
                case ["layer", path]:
                    digest = digest_of(path)
                    contents.layers[digest] = digest
                case ["layer", path, held]:
                    contents.layers[digest_of(path)] = digest_of(held)
                case ["revision", digest]:
                    contents.revisions.append(digest_of(digest))
                case ["signature", revision, digest]:
                    contents.signatures.setdefault(digest_of(revision), []).append(digest_of(digest))
                case ["index", tag, digest]:
                    contents.indexes.setdefault(tag, []).append(digest_of(digest))
                case ["tag", tag, digest, int(pushed_ns)]:
                    contents.tags[tag] = Tag(digest_of(digest), pushed_ns)
                case ["repository", _]:
                    pass
                case _:
                    raise ContentsDamagedError(f"an unknown line in the repository {name}: {row!r}")
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ContentsDamagedError):
            raise
        raise ContentsDamagedError(f"the repository {name} cannot be understood: {error}") from error
    return contents


def _parser(rows: list[list[Any]]) -> Callable[[str], Digest]:
    """Return what parses the digests in these rows: all SHA-256 at once, which costs a fraction of one by one."""
    texts = {text for row in rows for text in row[1:] if isinstance(text, str) and text.startswith("sha256:")}
    known = dict(zip(texts, parse_digests(tuple(texts)), strict=True))

    def parse(text: str) -> Digest:
        return known.get(text) or parse_digest(text)

    return parse


def digest_texts(digests: Collection[Digest]) -> list[str]:
    """Return the texts of digests, at once where all are SHA-256."""
    joined = b"".join(digests)
    if len(joined) != 32 * len(digests) or set(map(len, digests)) - {32}:
        return [format_digest(digest) for digest in digests]
    digits = joined.hex()
    return [f"sha256:{digits[i : i + 64]}" for i in range(0, len(digits), 64)]


def iter_data(contents: Contents) -> set[Digest]:
    """Return the digests of the data that the links of a repository name."""
    found = set(contents.layers.values())
    found.update(contents.revisions)
    for signatures in contents.signatures.values():
        found.update(signatures)
    return found


def link_count(contents: Contents) -> int:
    """Return how many links there are."""
    indexes = sum(map(len, contents.indexes.values()))
    signatures = sum(map(len, contents.signatures.values()))
    return len(contents.layers) + len(contents.revisions) + signatures + indexes + len(contents.tags)


def iter_layer_links(contents: Contents) -> Iterator[Link]:
    """Yield the links of layers."""
    for path, held in contents.layers.items():
        yield Link(layout.LayerLink(contents.name, path).key, expected_link(held))


def iter_manifest_links(contents: Contents) -> Iterator[Link]:
    """Yield the links of manifests, and of their signatures."""
    name = contents.name
    for digest in contents.revisions:
        yield Link(layout.RevisionLink(name, digest).key, expected_link(digest))
    for revision, signatures in contents.signatures.items():
        for digest in signatures:
            yield Link(layout.SignatureLink(name, revision, digest).key, expected_link(digest))


def iter_tag_links(contents: Contents, tag: str) -> Iterator[Link]:
    """Yield the links of a tag: its index, and last what it means."""
    name = contents.name
    for digest in contents.indexes.get(tag, ()):
        yield Link(layout.TagIndexLink(name, tag, digest).key, expected_link(digest))
    if meant := contents.tags.get(tag):
        yield Link(layout.TagLink(name, tag).key, expected_link(meant.digest), meant.pushed_ns or None)

"""The read model of a registry volume: what one pass over it sees.

A `Volume` is read in the order that keeps a live registry's references visible: blobs first, then for each repository
layer links, revisions, and tags last, so that whatever protects a blob is read after the blob.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from regstore.digest import Digest, format_digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.state import Known
    from regstore_drivers.base import MultipartUpload


class Damage(NamedTuple):
    """A link that cannot be believed, or is missing where it must be.

    `kind` is `link-malformed`, `tag-link-missing`, `link-mismatch` or, only where a pass copies, `link-unreadable`;
    `key` the link; `detail` what was seen.
    """

    kind: str
    key: str
    detail: str


@dataclass(slots=True)
class Upload:
    """An open upload: its files, their bytes, and the newest time (seconds since the epoch) that anything of it
    tells. `data_size` is the bytes of what a client sent, without the registry's notes on it."""

    id: str
    keys: list[str]
    size: int
    newest: float
    data_size: int = 0


@dataclass(slots=True)
class Repository:
    """What one pass saw of one repository.

    Attributes:
        layers: digests in the paths of its layer links.
        aliases: path digest to canonical digest, for layer links whose content names another digest.
        revisions: digests of its manifests.
        tags: tag to the digest it means.
        tag_indexes: tag to the digests that its index names; only where there is more than one, the tag is damaged, or
            the pass is thorough.
        uploads, leftovers, strays: open uploads, temporary files (key, bytes, newest time), keys that fit no pattern.
        damage: links that cannot be believed.
        sound_layers, sound_revisions: SHA-256 links that hold what their path says, or did when they were read.
        histories: tag to what it means and its index names, as `Known.histories`.
        pushed_ns: tag to the modification time of its current link, in nanoseconds since the epoch; only where a pass
            measures or copies.
        link_count: link files; only where a pass measures.
        name_count: files and directories below its own directory, without nested repositories, as far as their names
            tell; only where a pass measures, on a file system.
    """

    name: str
    layers: set[Digest] = field(default_factory=set)
    aliases: dict[Digest, Digest] = field(default_factory=dict)
    revisions: set[Digest] = field(default_factory=set)
    tags: dict[str, Digest] = field(default_factory=dict)
    tag_indexes: dict[str, list[Digest]] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    leftovers: list[tuple[str, int, float]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    sound_layers: set[bytes] = field(default_factory=set)
    sound_revisions: set[bytes] = field(default_factory=set)
    histories: dict[str, str] = field(default_factory=dict)
    pushed_ns: dict[str, int] = field(default_factory=dict)
    link_count: int = 0
    name_count: int = 0

    def drop_wrong_aliases(self) -> None:
        """Forget what links of one algorithm name by mistake: a collection keeps that to be safe, and a check calls the
        link damaged and nothing else."""
        self.aliases = {digest: named for digest, named in self.aliases.items() if len(digest) != len(named)}

    @property
    def pushed(self) -> dict[str, float]:
        """When each tag was pushed, in seconds since the epoch."""
        return {tag: at / 1e9 for tag, at in self.pushed_ns.items()}

    @property
    def is_empty(self) -> bool:
        """Whether no link, upload or unknown file lies in it."""
        return not (self.layers or self.revisions or self.tags or self.tag_indexes or self.uploads or self.strays)


class BlobInfo(NamedTuple):
    """Size in bytes and newest time (seconds since the epoch) of one blob's data."""

    digest: Digest
    size: int
    newest: float


class BlobSize(NamedTuple):
    """Bytes of one blob's data, and the bytes of the disk blocks that hold them; None on an object store."""

    digest: Digest
    size: int
    allocated: int | None


@dataclass(slots=True)
class Blobs:
    """The digests whose data are there.

    `shards[b]` holds the SHA-256 digests that begin with byte b, 32 bytes each, concatenated; `others` all other
    digests. `strays` are keys below `blobs/` that are no blob; `leftovers` half-written ones (key, bytes, newest time).
    `name_count` is the directories below `blobs/`, on a file system.
    """

    shards: list[bytes]
    others: set[Digest]
    strays: list[str] = field(default_factory=list)
    leftovers: list[tuple[str, int, float]] = field(default_factory=list)
    name_count: int = 0

    @property
    def count(self) -> int:
        """How many blobs there are."""
        return sum(map(len, self.shards)) // 32 + len(self.others)

    def iter_shards(self) -> Iterator[set[Digest]]:
        """Yield the digests shard by shard, the others last."""
        for packed in self.shards:
            yield cast("set[Digest]", {packed[i : i + 32] for i in range(0, len(packed), 32)})
        yield self.others


class Volume(Protocol):
    """A registry volume as a scan reads it. Storage failures raise DriverError or StorageFailedError."""

    newest_seen: float
    """The newest time, in seconds since the epoch, that the storage's own clock set on what was read.

    On a file system these are change times, which nobody can set, and access times of directories that do not lie in
    this host's future: a file dated into the future must not make all others look old.
    """

    strays: list[str]
    """Keys or directories below `repositories/` that the last listing of repositories saw and that lie in none."""

    directory_count: int | None
    """The directories below `repositories/` that the last listing of repositories walked, strays among them; None on an
    object store."""

    jobs: int
    """How many reads at once are worth while: one on a file system, where threads cost more than the reads."""

    def list_blobs(self, tick: Callable[[int], None]) -> Blobs:
        """List the blobs. `tick` is told how many more were seen."""

    def list_repositories(self) -> list[str]:
        """Return the names of all repositories, nested ones too."""

    def scan_repository(self, name: str, known: Known) -> Repository:
        """Read one repository; the content of links known to be good is not read again.

        A known layer link may be gone: only its directory is seen. Ask `link_newest` before counting on it.
        """

    def read_signatures(self, repository: str, revision: Digest) -> list[Digest]:
        """Return the detached schema1 signatures of a revision, as registries up to 2.4 wrote them."""

    def link_newest(self, key: str) -> float | None:
        """Return the newest time of a link that the last scan saw, or None when it is gone."""

    def iter_blob_info(self, digests: Sequence[Digest]) -> Iterator[BlobInfo]:
        """Yield size and age of blobs; those that are gone are left out."""

    def iter_blob_sizes(self, digests: Sequence[Digest]) -> Iterator[BlobSize]:
        """Yield the sizes of blobs; those that are gone are left out."""

    def list_leftovers(self, keys: Iterable[str]) -> Iterator[tuple[str, int, float]]:
        """Yield the temporary files (key, bytes, newest time) beside some objects that no scan looked for."""

    def check_unchanged(self) -> None:
        """Raise DriverError when what was read is no longer the tree that was opened."""

    def iter_multipart(self) -> Iterator[MultipartUpload]:
        """Yield the incomplete multipart uploads of an object store."""

    def read_manifest(self, digest: Digest) -> bytes:
        """Return the bytes of a manifest.

        Raises:
            NotFound: the data are not there.
        """


def expected_link(digest: Digest) -> bytes:
    """Return what the link of a digest holds: the text, no newline."""
    return format_digest(digest).encode()


def parse_link(content: bytes) -> Digest | None:
    """Return the digest that a link holds; None when it is malformed. Nothing is trimmed, as in a registry."""
    try:
        return parse_digest(content.decode("ascii"))
    except ValueError:
        return None


def take_tag_link(repository: Repository, tag: str, content: bytes, key: str) -> None:
    """Note what a tag's current link says, or its damage."""
    digest = parse_link(content)
    if digest is not None:
        repository.tags[tag] = digest
    else:
        detail = f"holds {describe_content(content)} instead of a digest"
        repository.damage.append(Damage("link-malformed", key, detail))


def take_other_content(repository: Repository, digest: Digest, content: bytes, key: str, *, is_layer: bool) -> None:
    """Note a layer or revision link that does not hold the digest of its path: a sha512 alias, or damage."""
    named = parse_link(content)
    if named is None:
        detail = f"holds {describe_content(content)} instead of a digest"
        repository.damage.append(Damage("link-malformed", key, detail))
        return
    if is_layer:
        repository.aliases[digest] = named
    if not is_layer or len(digest) == len(named):
        repository.damage.append(
            Damage("link-mismatch", key, f"names {format_digest(named)}, another digest than its path")
        )


def take_index_link(repository: Repository, digest: Digest, content: bytes, key: str) -> None:
    """Note the damage of a link of a tag's index that does not hold the digest of its path."""
    if content == expected_link(digest):
        return
    named = parse_link(content)
    if named is None:
        repository.damage.append(
            Damage("link-malformed", key, f"holds {describe_content(content)} instead of a digest")
        )
    else:
        repository.damage.append(
            Damage("link-mismatch", key, f"names {format_digest(named)}, another digest than its path")
        )


def describe_content(content: bytes) -> str:
    """Describe what a malformed link holds, for a message."""
    return f"{content[:80]!r}" if content else "nothing"


def upload_start(content: bytes) -> float:
    """Parse `startedat` (RFC 3339) into seconds since the epoch; 0.0 when it cannot be read."""
    try:
        return datetime.fromisoformat(content.decode("ascii").strip()).timestamp()
    except (ValueError, OverflowError):
        return 0.0

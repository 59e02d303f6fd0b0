"""Snapshots: everything that a registry held at one time but the data, in one small immutable file.

A snapshot is zstd-compressed JSON Lines. The first line is an object, the head: what it is, of what, when, and what was
found wrong. Then for each repository come arrays, `["repository", NAME]` followed by

    ["layer", DIGEST]                     a layer link; with a third element where the link holds another digest
    ["revision", DIGEST]                  a manifest
    ["signature", REVISION, DIGEST]       a detached schema1 signature
    ["index", TAG, DIGEST]                what the tag means or meant
    ["tag", TAG, DIGEST, MTIME_NS]        what it means now, and when it was pushed

then `["blob", DIGEST, BYTES]` for all data that the store holds for it, and last `{"sha256": HEX}` of all lines before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import zstandard

from regstore.digest import Digest, parse_digests
from regstore.transfer.contents import Contents, ContentsDamagedError, digest_texts, parse_contents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT = "regstore snapshot"
VERSION = 1

_LEVEL = 1
"""Digits of digests do not compress; higher levels take longer and end larger."""
_WINDOW_LOG = 24
"""16 MiB: layers that many repositories link are near enough to cost a few bytes each, and every zstd reads it."""
_REPOSITORY = b'["repository",'
_BLOB = b'["blob",'


class SnapshotDamagedError(ValueError):
    """The bytes are no snapshot, or not what they were."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a snapshot.

    Attributes:
        id: eight hexadecimal digits.
        sequence: counts the snapshots of a store, in the order made.
        created_at: when its tags had been read, seconds since the epoch.
        source: the registry's location, without credentials.
        is_complete: whether everything that it names can be restored.
        repository_count, tag_count, revision_count, layer_link_count, blob_count: of what it holds.
        total_bytes: of all its blobs.
        new_blob_count, new_bytes: of the blobs that this run stored.
        attributes: `uid`, `gid`, `directory_mode`, `file_mode` of the source's tree; empty for an object store.
        broken: images (`repository:tag`) that were not whole.
        findings: what was found wrong, as in the JSON of `backup create`.
        tool_version: which regstore wrote it.
        host: where.
    """

    id: str
    sequence: int
    created_at: float
    source: str
    is_complete: bool
    repository_count: int
    tag_count: int
    revision_count: int
    layer_link_count: int
    blob_count: int
    total_bytes: int
    new_blob_count: int
    new_bytes: int
    attributes: dict[str, int]
    broken: list[str]
    findings: list[dict[str, Any]]
    tool_version: str
    host: str

    @property
    def name(self) -> str:
        """The name of its file: sequence, time in UTC, id."""
        stamp = datetime.fromtimestamp(self.created_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        return f"{self.sequence:08}-{stamp}-{self.id}"

    def to_json(self) -> dict[str, Any]:
        """Return the line's form."""
        created = datetime.fromtimestamp(self.created_at, UTC).isoformat(timespec="microseconds")
        return {"format": FORMAT, "version": VERSION, **asdict(self), "created_at": created}

    @classmethod
    def parse(cls, line: bytes) -> Head:
        """Read the line; fields that a later version added are passed over.

        Raises:
            SnapshotDamagedError: it is none, or of a version that this regstore does not read.
        """
        try:
            content = json.loads(line)
            if content["format"] != FORMAT or content["version"] != VERSION:
                reason = f"a {content['format']} of version {content['version']}, which this regstore does not read"
                raise SnapshotDamagedError(reason)
            content["created_at"] = datetime.fromisoformat(content["created_at"]).timestamp()
            return cls(**{name: content[name] for name in cls.__slots__})
        except (ValueError, LookupError, TypeError) as error:
            if isinstance(error, SnapshotDamagedError):
                raise
            raise SnapshotDamagedError(f"its head cannot be understood: {error}") from error


class Snapshot:
    """A snapshot in memory: packed lines, parsed when they are asked for.

    Args:
        head: its head.
        repositories: the lines of each repository, by name, as `encode_contents` makes them.
        blobs: the lines of its blobs.
    """

    def __init__(self, head: Head, repositories: dict[str, bytes], blobs: bytes) -> None:
        self.head = head
        self._repositories = repositories
        self._blobs = blobs

    @property
    def repositories(self) -> list[str]:
        """The names of the repositories, sorted."""
        return sorted(self._repositories)

    def has(self, repository: str) -> bool:
        """Tell whether there is a repository of that name."""
        return repository in self._repositories

    def contents(self, repository: str) -> Contents:
        """Return the links of a repository.

        Raises:
            SnapshotDamagedError: a line cannot be understood.
        """
        try:
            return parse_contents(repository, self._repositories[repository])
        except ContentsDamagedError as error:
            raise SnapshotDamagedError(str(error)) from error

    def iter_contents(self) -> Iterator[Contents]:
        """Yield the links of every repository, by name."""
        for name in self.repositories:
            yield self.contents(name)

    def blobs(self) -> dict[Digest, int]:
        """Return digest to bytes of all its blobs.

        Raises:
            SnapshotDamagedError: a line cannot be understood.
        """
        try:
            rows = json.loads(b"[" + self._blobs.rstrip().replace(b"\n", b",") + b"]")
            return dict(zip(parse_digests([row[1] for row in rows]), [int(row[2]) for row in rows], strict=True))
        except (ValueError, TypeError) as error:
            raise SnapshotDamagedError(f"its list of blobs cannot be understood: {error}") from error

    def encode(self) -> bytes:
        """Return the bytes of its file."""
        lines = [json.dumps(self.head.to_json()).encode() + b"\n"]
        lines += [self._repositories[name] for name in self.repositories]
        lines.append(self._blobs)
        hasher = hashlib.sha256()
        for line in lines:
            hasher.update(line)
        lines.append(b'{"sha256": "%s"}\n' % hasher.hexdigest().encode())
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, window_log=_WINDOW_LOG, enable_ldm=True, ldm_min_match=64, write_checksum=True
        )
        return zstandard.ZstdCompressor(compression_params=parameters).compress(b"".join(lines))


def parse_snapshot(data: bytes) -> Snapshot:
    """Read the bytes of a snapshot file, all of which are hashed.

    Raises:
        SnapshotDamagedError: they are none, or damaged.
    """
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        plain = decompressor.decompress(data)
    except zstandard.ZstdError as error:
        raise SnapshotDamagedError(f"it cannot be decompressed: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise SnapshotDamagedError("it is cut off, or something follows its end")
    end = plain.rfind(b"\n", 0, -1) + 1
    if plain[end:] != b'{"sha256": "%s"}\n' % hashlib.sha256(plain[:end]).hexdigest().encode():
        raise SnapshotDamagedError("it does not hash to what its last line says")
    head_end = plain.index(b"\n") + 1
    head = Head.parse(plain[:head_end])
    blobs = plain.find(_BLOB, head_end)
    blobs = end if blobs < 0 else blobs
    repositories: dict[str, bytes] = {}
    for part in plain[head_end:blobs].split(_REPOSITORY)[1:]:
        name, _, _ = part.partition(b"]")
        repositories[str(json.loads(name))] = _REPOSITORY + part
    return Snapshot(head, repositories, plain[blobs:end])


def encode_blobs(blobs: Mapping[Digest, int]) -> bytes:
    """Return the lines of blobs, in order of their digests."""
    digests = sorted(blobs)
    rows = zip(digest_texts(digests), map(blobs.__getitem__, digests), strict=True)
    return "".join([f'["blob", "{text}", {size}]\n' for text, size in rows]).encode()

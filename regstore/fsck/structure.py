"""The structure of a volume: what its links, manifests and the sizes of its blobs say of each other.

No blob data are read but those of manifests. Digests are kept packed, in shards by first byte, as in a collection.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import Digest, format_digest, split_digest
from regstore.fsck.catalogue import finding
from regstore.inventory.manifests import Trouble
from regstore.manifest import Kind
from regstore.state import MARK, NOTHING_KNOWN, State
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regstore.fsck.catalogue import CheckFinding
    from regstore.inventory.manifests import ManifestReader
    from regstore.inventory.mark import Marks
    from regstore.record import Record
    from regstore.registry.scan import BlobInfo, Blobs, Repository, Volume
    from regstore.state import Known
    from regstore.work import Cancel, Progress


_SIGNS = {"manifest-missing": "-", "manifest-corrupt": "!"}


class NoMemory(State):
    """Remembers nothing: a check believes only what it reads."""

    def __init__(self) -> None:
        super().__init__(None)

    def known_repository(self, name: str) -> Known:
        """Know nothing."""
        return NOTHING_KNOWN

    def remember_repository(self, name: str, known: Known) -> None:
        """Forget it."""

    def remember_manifests(self, repository: str, known: Mapping[Digest, Record]) -> None:
        """Forget them."""


@dataclass(slots=True)
class Counts:
    """What was looked at; bytes are those of blob data. `verified`: hashed, and whole."""

    repository_count: int = 0
    tag_count: int = 0
    revision_count: int = 0
    layer_link_count: int = 0
    blob_count: int = 0
    stored_bytes: int = 0
    verified_count: int = 0
    verified_bytes: int = 0


class StructureCheck:
    """Takes the repositories of one survey, then the blobs.

    Attributes:
        findings: so far.
        counts: what was looked at so far.
        damaged: the repositories with troubles, as they were seen: what a repair is planned from.
        leftovers: key, bytes and newest time of temporary files in repositories.
        strays: keys in repositories that fit no pattern.
        signs: digests with another sign than `=` in a combined listing: `!` corrupt, `-` missing, `*` another size,
            `+` that no manifest needs it, nothing for a directory that no data lie in.

    Args:
        volume: whose blobs are looked at.
        blobs: what was listed, before the survey.
        manifests: the survey's reader.
        is_cache: a pull-through cache, in which what a manifest needs may be absent.
        upload_age: uploads older than that many seconds are called abandoned.
    """

    def __init__(
        self, volume: Volume, blobs: Blobs, manifests: ManifestReader, *, is_cache: bool, upload_age: float
    ) -> None:
        self.findings: list[CheckFinding] = []
        self.counts = Counts()
        self.damaged: dict[str, tuple[Repository, Marks]] = {}
        self.leftovers: list[tuple[str, int, float]] = []
        self.strays: list[str] = []
        self.signs: dict[Digest, str] = {}
        self._volume = volume
        self._blobs = blobs
        self._manifests = manifests
        self._is_cache = is_cache
        self._upload_age = upload_age
        self._needed = [bytearray() for _ in range(256)]
        self._needed_others: dict[Digest, set[int]] = {}
        self._loose: dict[Digest, str] = {}
        self._foreign: set[Digest] = set()
        self._troubled: set[Digest] = set()
        self._tallies: Counter[str] = Counter()
        self._upload_bytes = 0
        self._oldest_upload = 0.0

    def take(self, repository: Repository, marks: Marks) -> None:
        """Check one repository."""
        counts, name = self.counts, repository.name
        counts.repository_count += 1
        counts.tag_count += len(repository.tags)
        counts.revision_count += len(repository.revisions)
        counts.layer_link_count += len(repository.layers)
        self.findings += [finding(kind, subject, detail) for kind, subject, detail in marks.troubles]
        if marks.troubles:
            self.damaged[name] = (repository, marks)
        self._take_needs(repository, marks)
        self._check_referrers(repository, marks)
        self._check_indexes(repository)
        self.leftovers += repository.leftovers
        self.strays += repository.strays
        for upload in repository.uploads:
            self._tallies["upload-open"] += 1
            self._upload_bytes += upload.size
            age = self._volume.newest_seen - upload.newest
            self._tallies["upload-abandoned"] += age >= self._upload_age
            self._oldest_upload = max(self._oldest_upload, age)
        self._tallies["repository-empty"] += repository.is_empty
        self._tallies["manifest-untagged"] += len(repository.revisions - self._reached(repository))

    def _take_needs(self, repository: Repository, marks: Marks) -> None:
        """Note which data must be there, in what size, and which layer links nothing needs."""
        aliases = repository.aliases
        sizes = [(aliases.get(digest, digest), size) for digest, size in marks.needed.items()]
        for digest in marks.kept:
            record = self._manifests.get(digest)
            if isinstance(record, Trouble):
                self._troubled.add(digest)
                if record.kind in _SIGNS:
                    self.signs[digest] = _SIGNS[record.kind]
            else:
                sizes.append((digest, record.size))
                if record.kind is Kind.SCHEMA1:
                    sizes += [(signature, -1) for signature in self._volume.read_signatures(repository.name, digest)]
        pack = MARK.pack
        for digest, size in sizes:
            if len(digest) == 32:
                self._needed[digest[0]] += pack(digest, size)
            else:
                self._needed_others.setdefault(digest, set()).add(size)
        self._foreign |= marks.foreign
        for digest in repository.layers - marks.needed.keys() - marks.kept:
            if digest not in aliases:
                self._loose[digest] = repository.name

    def _check_referrers(self, repository: Repository, marks: Marks) -> None:
        name = repository.name
        for tag, about in marks.orphan_tags.items():
            detail = f"the manifest {format_digest(about)} that it is about is not here"
            self.findings.append(finding("signature-orphan", f"{name}:{tag}", detail))
        for digest in marks.kept:
            record = self._manifests.get(digest)
            about_digest = None if isinstance(record, Trouble) else record.subject
            if about_digest is not None and about_digest not in repository.revisions and not self._is_cache:
                detail = f"its subject {format_digest(about_digest)} is not here"
                self.findings.append(finding("subject-missing", f"{name}@{format_digest(digest)}", detail))

    def _check_indexes(self, repository: Repository) -> None:
        for tag, digest in repository.tags.items():
            history = repository.tag_indexes.get(tag, [])
            if digest not in history:
                detail = f"lacks {format_digest(digest)}, which the tag means"
                self.findings.append(
                    finding("tag-index-missing", f"{repository.name}:{tag}", detail, digest=format_digest(digest))
                )
            old = sum(entry != digest and entry not in repository.revisions for entry in history)
            self._tallies["tag-index-old"] += old

    def _reached(self, repository: Repository) -> set[Digest]:
        """Return the manifests that tags need: children of indexes, and what refers to any of them, too."""
        referrers: dict[Digest, list[Digest]] = {}
        for digest in repository.revisions:
            record = self._manifests.get(digest)
            if not isinstance(record, Trouble) and record.subject is not None:
                referrers.setdefault(record.subject, []).append(digest)
        reached: set[Digest] = set()
        pending = list(repository.tags.values())
        while pending:
            digest = pending.pop()
            if digest in reached:
                continue
            reached.add(digest)
            pending += referrers.get(digest, ())
            if digest not in repository.revisions:
                continue
            record = self._manifests.get(digest)
            if not isinstance(record, Trouble) and record.kind in (Kind.LIST, Kind.OCI_INDEX):
                pending += [child for child, _, _ in record.iter_references()]
        return reached

    def check_blobs(self, progress: Progress, cancel: Cancel) -> None:
        """Compare the blobs with what was needed, after all repositories were taken."""
        progress.start("blobs", self._blobs.count)
        unreachable: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for shard, present in enumerate(self._blobs.iter_shards()):
            cancel.check()
            needed = self._needs_of(shard)
            bare = present - needed.keys() - self._troubled
            for info in self._infos(present | needed.keys(), unreachable, reasons):
                sizes = needed.pop(info.digest, None)
                bare.discard(info.digest)
                self.counts.blob_count += 1
                self.counts.stored_bytes += info.size
                self._loose.pop(info.digest, None)
                if sizes is not None:
                    self._check_size(info, sizes)
                elif info.digest not in self._troubled:
                    self._tallies["blob-unreferenced"] += 1
                    self._tallies["unreferenced-bytes"] += info.size
                    self.signs[info.digest] = "+"
            self.signs.update(dict.fromkeys(bare, ""))
            for digest in needed:
                if _shard_key(digest) not in reasons:
                    self._note_missing(digest)
            progress.advance(len(present))
        for key, count in unreachable.items():
            self.findings.append(finding("storage-error", key, f"{count} blobs cannot be looked at: {reasons[key]}"))
        progress.finish()
        self._note_loose(reasons)
        self._note_tallies()

    def _needs_of(self, shard: int) -> dict[Digest, set[int]]:
        if shard == 256:
            return dict(self._needed_others)
        needs: dict[Digest, set[int]] = {}
        for digest, size in MARK.iter_unpack(self._needed[shard]):
            needs.setdefault(digest, set()).add(size)
        self._needed[shard] = bytearray()
        return needs

    def _infos(
        self, digests: Iterable[Digest], unreachable: Counter[str], reasons: dict[str, str]
    ) -> Iterator[BlobInfo]:
        for digest in digests:
            try:
                yield from self._volume.iter_blob_info([digest])
            except DriverError as error:
                key = _shard_key(digest)
                unreachable[key] += 1
                reasons[key] = str(error)

    def _check_size(self, info: BlobInfo, sizes: set[int]) -> None:
        wrong = sorted(sizes - {-1, info.size})
        if wrong and info.digest not in self._troubled:
            self.signs[info.digest] = "*"
            detail = f"has {info.size} bytes where a descriptor says {wrong[0]}"
            subject = format_digest(info.digest)
            self.findings.append(finding("blob-size", subject, detail, expected_bytes=wrong, seen_bytes=info.size))

    def _note_missing(self, digest: Digest) -> None:
        if digest in self._troubled or self._is_cache:
            return
        if digest in self._foreign:
            self.findings.append(finding("foreign-absent", format_digest(digest), "its manifest says where it lies"))
            return
        self.signs[digest] = "-"
        self.findings.append(finding("blob-missing", format_digest(digest), "a manifest needs these data"))

    def _note_loose(self, reasons: dict[str, str]) -> None:
        """Layer links that nothing needs and whose data were not there."""
        for digest, name in self._loose.items():
            if _shard_key(digest) not in reasons:
                key = layout.LayerLink(name, digest).key
                self.findings.append(finding("link-dangling", key, "no manifest needs it, and its data are not there"))

    def _note_tallies(self) -> None:
        tallies, where = self._tallies, layout.V2.rstrip("/")
        if count := tallies["tag-index-old"]:
            detail = f"{count} entries of tag indexes name manifests that are gone"
            self.findings.append(finding("tag-index-old", where, detail, count=count))
        if count := tallies["blob-unreferenced"]:
            size = tallies["unreferenced-bytes"]
            detail = f"{count} blobs with {size} bytes that no manifest needs"
            self.findings.append(finding("blob-unreferenced", where, detail, count=count, bytes=size))
        if count := tallies["manifest-untagged"]:
            self.findings.append(
                finding("manifest-untagged", where, f"{count} manifests that no tag needs", count=count)
            )
        if count := tallies["repository-empty"]:
            detail = f"{count} repositories without tag, manifest, layer and upload"
            self.findings.append(finding("repository-empty", where, detail, count=count))
        if count := tallies["upload-open"]:
            old = tallies["upload-abandoned"]
            detail = f"{count} uploads with {self._upload_bytes} bytes, {old} of them abandoned"
            evidence = {"count": count, "abandoned_count": old, "bytes": self._upload_bytes}
            self.findings.append(
                finding("upload-open", where, detail, **evidence, oldest_seconds=round(self._oldest_upload))
            )


def _shard_key(digest: Digest) -> str:
    algorithm, digits = split_digest(digest)
    return f"{layout.BLOBS}{algorithm}/{digits[:2]}"


def iter_signs(blobs: Blobs, signs: dict[Digest, str]) -> Iterator[tuple[str, Digest]]:
    """Yield sign and digest of every blob that is there or missing: `=` where nothing else was found."""
    rest = {digest for digest, sign in signs.items() if sign == "-"}
    for shard in blobs.iter_shards():
        for digest in sorted(shard):
            rest.discard(digest)
            if sign := signs.get(digest, "="):
                yield sign, digest
    for digest in sorted(rest):
        yield "-", digest

"""Reading a registry volume through flat listings: object stores, and every driver without local paths.

One request per thousand keys. Links need no request of their own where the entity tag is the MD5 of the expected text:
that of a digest in a layer or revision link, one of the tag's own index in a tag link.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING

from regstore import layout
from regstore.registry.scan import (
    BlobInfo,
    Blobs,
    BlobSize,
    Damage,
    Repository,
    Upload,
    expected_link,
    take_index_link,
    take_other_content,
    take_tag_link,
    upload_start,
)
from regstore.work import map_bounded
from regstore_drivers.base import HasClock, HasMultipart, HasSmallListing
from regstore_drivers.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.digest import Digest
    from regstore.state import Known
    from regstore_drivers.base import Entry, MultipartUpload, ReadDriver

_LINKS = (layout.LayerLink, layout.RevisionLink, layout.SignatureLink, layout.TagLink, layout.TagIndexLink)
_GROUP_COUNT = 1000


class ListingVolume:
    """A volume seen through a driver's listings. See `Volume` for the methods.

    Args:
        driver: keys are relative to the registry's rootdirectory.
        jobs: how many requests run at once.
        is_thorough: the links of tag indexes are checked too.
    """

    def __init__(self, driver: ReadDriver, jobs: int = 1, *, is_thorough: bool = False) -> None:
        self._driver = driver
        self.jobs = jobs
        self._is_thorough = is_thorough
        self._info: dict[Digest, tuple[int, float]] = {}
        self._pending: dict[str, list[Entry]] = {}
        self._scanned: set[str] = set()
        self._link_times: dict[str, float] = {}
        self._signatures: dict[Digest, list[Digest]] = {}
        self.newest_seen = 0.0
        self.strays: list[str] = []
        self.directory_count: int | None = None

    def list_blobs(self, tick: Callable[[int], None]) -> Blobs:
        """List everything below `blobs/`, with sizes and times."""
        packed = [bytearray() for _ in range(256)]
        blobs = Blobs([], set())
        self._info.clear()
        for entries in self._list_parts(layout.BLOBS):
            for entry in entries:
                self._see(entry)
                match layout.parse_key(entry.key):
                    case layout.BlobData(digest):
                        self._info[digest] = (entry.size, entry.newest)
                        if len(digest) == 32:
                            packed[digest[0]] += digest
                        else:
                            blobs.others.add(digest)
                    case layout.Leftover():
                        blobs.leftovers.append((entry.key, entry.size, entry.newest))
                    case _:
                        blobs.strays.append(entry.key)
            tick(len(entries))
        blobs.shards = [bytes(shard) for shard in packed]
        self._ask_clock()
        return blobs

    def list_repositories(self) -> list[str]:
        """List everything below `repositories/`; the entries are kept until each repository is scanned.

        Not those of repositories that were scanned before: whoever looks at one again wants it as it is then.
        """
        groups: dict[str, list[Entry]] = {}
        self.strays = []
        for entries in self._list_parts(layout.REPOSITORIES):
            for entry in entries:
                self._see(entry)
                name, separator, _ = entry.key[len(layout.REPOSITORIES) :].partition("/_")
                if separator and layout.is_repository_name(name):
                    groups.setdefault(name, [])
                    if name not in self._scanned:
                        groups[name].append(entry)
                else:
                    self.strays.append(entry.key)
        self._pending = {name: entries for name, entries in groups.items() if name not in self._scanned}
        self._ask_clock()
        return sorted(groups)

    def scan_repository(self, name: str, known: Known) -> Repository:
        """Sort the listed keys of one repository; read the links that no entity tag proves."""
        self._scanned.add(name)
        entries = self._pending.pop(name, None)
        if entries is None:
            entries = list(self._driver.list(f"{layout.REPOSITORIES}{name}/_"))
        self._link_times = {}
        reader = _RepositoryReader(
            self._driver, self.jobs, name, known, self._link_times, is_thorough=self._is_thorough
        )
        self._signatures = reader.signatures
        repository = reader.read(entries)
        if self._is_thorough:
            repository.drop_wrong_aliases()
        return repository

    def read_signatures(self, repository: str, revision: Digest) -> list[Digest]:
        """Return the detached schema1 signatures that the last scan of the repository saw."""
        return self._signatures.get(revision, [])

    def link_newest(self, key: str) -> float | None:
        """Return the time of a link as the last scan of its repository saw it."""
        return self._link_times.get(key)

    def iter_blob_info(self, digests: Sequence[Digest]) -> Iterator[BlobInfo]:
        """Yield size and age from the listing; what was not listed is asked for."""
        for digest in digests:
            info = self._info.get(digest)
            if info is None:
                try:
                    entry = self._driver.stat(layout.BlobData(digest).key)
                except NotFound:
                    continue
                info = (entry.size, entry.newest)
            yield BlobInfo(digest, *info)

    def iter_blob_sizes(self, digests: Sequence[Digest]) -> Iterator[BlobSize]:
        """Yield sizes from the listing."""
        for info in self.iter_blob_info(digests):
            yield BlobSize(info.digest, info.size, None)

    def list_leftovers(self, keys: Iterable[str]) -> Iterator[tuple[str, int, float]]:
        """Yield nothing: the listings held them."""
        return iter(())

    def iter_multipart(self) -> Iterator[MultipartUpload]:
        """Yield the incomplete multipart uploads of blobs and of open uploads."""
        if isinstance(self._driver, HasMultipart):
            yield from self._driver.list_multipart(layout.V2)

    def read_manifest(self, digest: Digest) -> bytes:
        """Read the data of a manifest."""
        return self._driver.read(layout.BlobData(digest).key)

    def check_unchanged(self) -> None:
        """Do nothing: a listing that failed has raised."""

    def _see(self, entry: Entry) -> None:
        self.newest_seen = max(self.newest_seen, entry.ctime or entry.mtime)

    def _ask_clock(self) -> None:
        if isinstance(self._driver, HasClock):
            self.newest_seen = self._driver.now()

    def _list_parts(self, prefix: str) -> Iterator[list[Entry]]:
        """List a prefix: a small one in one go, a large one by the beginnings of its children's names, in parallel.

        Every part is a prefix of its own, so that the order in which the storage lists does not matter.
        """
        if self.jobs <= 1:
            listing = self._driver.list(prefix)
            while group := list(islice(listing, _GROUP_COUNT)):
                yield group
        elif isinstance(self._driver, HasSmallListing) and (small := self._driver.list_small(prefix)) is not None:
            yield small
        else:
            parts = self._parts_of(prefix)
            yield from map_bounded(lambda part: list(self._driver.list(part)), parts, self.jobs)

    def _parts_of(self, prefix: str) -> list[str]:
        names = list(self._driver.list_dir(prefix))
        while len(names) == 1 and names[0].endswith("/") and not names[0].startswith("_"):
            prefix += names[0]
            names = list(self._driver.list_dir(prefix))
        # None may be the beginning of another: an object's name, which no slash ends, is not cut any longer.
        objects = [len(name) for name in names if not name.endswith("/")]
        longest = min(objects) if objects else max(map(len, names), default=0)
        length = 1
        while length < longest and len({name[:length] for name in names}) < self.jobs:
            length += 1
        return sorted({prefix + name[:length] for name in names})


class _RepositoryReader:
    """Reads one repository from its listed entries."""

    def __init__(
        self,
        driver: ReadDriver,
        jobs: int,
        name: str,
        known: Known,
        link_times: dict[str, float],
        *,
        is_thorough: bool,
    ) -> None:
        self._driver = driver
        self._jobs = jobs
        self._known = known
        self._link_times = link_times
        self._repository = Repository(name)
        self.signatures: dict[Digest, list[Digest]] = {}
        self._doubtful: list[layout.LayerLink | layout.RevisionLink] = []
        self._tag_entries: dict[str, Entry] = {}
        self._is_thorough = is_thorough
        self._doubtful_entries: list[layout.TagIndexLink] = []

    def read(self, entries: list[Entry]) -> Repository:
        repository = self._repository
        uploads: dict[str, list[Entry]] = {}
        histories: dict[str, list[Digest]] = {}
        for entry in entries:
            self._link_times[entry.key] = entry.newest
            spec = layout.parse_key(entry.key)
            repository.link_count += isinstance(spec, _LINKS)
            match spec:
                case layout.LayerLink(digest=digest) as link:
                    repository.layers.add(digest)
                    self._check_link(link, entry, self._known.layers, self._repository.sound_layers)
                case layout.RevisionLink(digest=digest) as link:
                    repository.revisions.add(digest)
                    self._check_link(link, entry, self._known.revisions, self._repository.sound_revisions)
                case layout.SignatureLink(revision=revision, digest=digest):
                    self.signatures.setdefault(revision, []).append(digest)
                case layout.TagLink(tag=tag):
                    self._tag_entries[tag] = entry
                    repository.pushed_ns[tag] = round(entry.mtime * 1e9)
                case layout.TagIndexLink(tag=tag, digest=digest):
                    histories.setdefault(tag, []).append(digest)
                    if self._is_thorough and entry.etag != _md5(digest):
                        self._doubtful_entries.append(layout.TagIndexLink(self._repository.name, tag, digest))
                case layout.UploadFile(upload=upload):
                    uploads.setdefault(upload, []).append(entry)
                case layout.Leftover():
                    repository.leftovers.append((entry.key, entry.size, entry.newest))
                case _:
                    repository.strays.append(entry.key)
        self._read_doubtful()
        self._read_doubtful_entries()
        self._take_uploads(uploads)
        self._take_tags(histories)
        return repository

    def _check_link(
        self, link: layout.LayerLink | layout.RevisionLink, entry: Entry, good: frozenset[bytes], sound: set[bytes]
    ) -> None:
        if (entry.etag == _md5(link.digest) and len(link.digest) == 32) or (entry.etag is None and link.digest in good):
            sound.add(link.digest)
        else:
            self._doubtful.append(link)

    def _read_doubtful(self) -> None:
        contents = map_bounded(lambda link: self._read(link.key), self._doubtful, self._jobs)
        for link, content in zip(self._doubtful, contents, strict=True):
            is_layer = isinstance(link, layout.LayerLink)
            if content is None:
                (self._repository.layers if is_layer else self._repository.revisions).discard(link.digest)
            elif content != expected_link(link.digest):
                take_other_content(self._repository, link.digest, content, link.key, is_layer=is_layer)
            elif len(link.digest) == 32:
                (self._repository.sound_layers if is_layer else self._repository.sound_revisions).add(link.digest)

    def _read_doubtful_entries(self) -> None:
        contents = map_bounded(lambda link: self._read(link.key), self._doubtful_entries, self._jobs)
        for link, content in zip(self._doubtful_entries, contents, strict=True):
            if content is not None:
                take_index_link(self._repository, link.digest, content, link.key)

    def _take_uploads(self, uploads: dict[str, list[Entry]]) -> None:
        for upload, entries in uploads.items():
            starts = [entry.key for entry in entries if entry.key.endswith("/startedat")]
            started = (self._read(starts[0]) if starts else None) or b""
            newest = max(upload_start(started), *(entry.newest for entry in entries))
            keys = sorted(entry.key for entry in entries)
            data_size = sum(entry.size for entry in entries if entry.key.endswith("/data"))
            size = sum(entry.size for entry in entries)
            self._repository.uploads.append(Upload(upload, keys, size, newest, data_size))

    def _take_tags(self, histories: dict[str, list[Digest]]) -> None:
        repository = self._repository
        unproven: list[tuple[str, Entry]] = []
        for tag, entry in self._tag_entries.items():
            for digest in histories.get(tag, ()):
                if entry.etag == _md5(digest):
                    repository.tags[tag] = digest
                    break
            else:
                unproven.append((tag, entry))
        contents = map_bounded(lambda item: self._read(item[1].key), unproven, self._jobs)
        for (tag, entry), content in zip(unproven, contents, strict=True):
            if content is not None:
                take_tag_link(repository, tag, content, entry.key)
            else:
                del self._tag_entries[tag]
        for tag, history in histories.items():
            if tag not in self._tag_entries:
                key = layout.TagLink(repository.name, tag).key
                repository.damage.append(Damage("tag-link-missing", key, "the tag has an index and no current link"))
            if self._is_thorough or tag not in repository.tags or len(history) > 1:
                repository.tag_indexes[tag] = history

    def _read(self, key: str) -> bytes | None:
        try:
            return self._driver.read(key)
        except NotFound:
            return None


def _md5(digest: Digest) -> str:
    return hashlib.md5(expected_link(digest), usedforsecurity=False).hexdigest()

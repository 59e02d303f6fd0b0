"""Reading a registry volume that is a directory, at the price of the system calls.

`os.open`, `os.read` and `os.listdir` on packed names, no object per file: a volume has millions of them. A link whose
content was good in a former scan is only looked for, not read.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import TYPE_CHECKING

from regstore import layout
from regstore.digest import HEX_LENGTHS, LINK_LENGTH, Digest, pack_digest, pack_sha256, parse_digests, split_digest
from regstore.registry.scan import (
    BlobInfo,
    Blobs,
    BlobSize,
    Damage,
    Repository,
    Upload,
    parse_link,
    take_index_link,
    take_other_content,
    take_tag_link,
    upload_start,
)
from regstore_drivers.base import READ_LIMIT_BYTES
from regstore_drivers.errors import DriverError, NotFound, PermissionDenied, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from regstore.state import Known
    from regstore_drivers.base import MultipartUpload

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_LINK_LIMIT = 256
_MANIFEST_CHUNK = 64 * 1024


class LocalVolume:
    """A volume below a directory. See `Volume` for the methods.

    Args:
        root: the registry's rootdirectory.
        is_thorough: every link is read, those of tag indexes too.
        is_measuring: names are counted, and it is noted when each tag was pushed.
        is_copying: tags are read before what they need, so that what a live registry pushes meanwhile is seen with all
            its links; it is noted when each was pushed, indexes are read even where one entry is likely, and uploads
            are only named.
        on_error: told of a directory that cannot be listed, which is then taken as empty; by default it raises.
    """

    jobs = 1

    def __init__(
        self,
        root: str,
        *,
        is_thorough: bool = False,
        is_measuring: bool = False,
        is_copying: bool = False,
        on_error: Callable[[DriverError], None] | None = None,
    ) -> None:
        self._root = os.path.abspath(root)
        self._is_thorough = is_thorough
        self._is_measuring = is_measuring
        self._is_copying = is_copying
        self._on_error = on_error
        self._identity = self._identify()
        self._opened_at = time.time()
        self.newest_seen = 0.0
        self.strays: list[str] = []
        self.directory_count: int | None = 0

    def _identify(self) -> tuple[int, int]:
        path = f"{self._root}/{layout.V2}"
        with _naming(path):
            status = os.stat(path)
        return status.st_dev, status.st_ino

    def check_unchanged(self) -> None:
        """Raise DriverError when the tree is no longer the one that was opened: unmounted, or mounted over."""
        try:
            same = self._identify() == self._identity
        except NotFound:
            same = False
        if not same:
            reason = "the tree was unmounted or replaced while it was read"
            raise DriverError(reason, operation="list", key=f"{self._root}/{layout.V2}")

    def list_blobs(self, tick: Callable[[int], None]) -> Blobs:
        """List the blobs by name, without stat."""
        shards = [b""] * 256
        blobs = Blobs(shards, set())
        top = f"{self._root}/{layout.BLOBS}"
        with _naming(top):
            for algorithm in _names(top):
                blobs.name_count += 1
                if algorithm not in HEX_LENGTHS:
                    blobs.strays.append(f"{layout.BLOBS}{algorithm}")
                    continue
                for shard in _names(f"{top}{algorithm}"):
                    with self._tolerating(f"{top}{algorithm}/{shard}"):
                        tick(self._list_shard(algorithm, shard, blobs))
                self._see(os.stat(f"{top}{algorithm}"), with_atime=True)
        return blobs

    def _list_shard(self, algorithm: str, shard: str, blobs: Blobs) -> int:
        prefix = f"{layout.BLOBS}{algorithm}/{shard}"
        names = _names(f"{self._root}/{prefix}")
        blobs.name_count += 1 + len(names)
        packed = _pack_names(names) if algorithm == "sha256" else None
        if packed and packed[::32] == packed[:1] * len(names) and packed[:1].hex() == shard:
            blobs.shards[packed[0]] = packed
        else:
            self._sort_out(prefix, algorithm, shard, names, blobs)
        self._see(os.stat(f"{self._root}/{prefix}"), with_atime=True)
        return len(names)

    @contextmanager
    def _tolerating(self, path: str) -> Iterator[None]:
        """Tell of an error below a path and go on, where that is wanted."""
        try:
            with _naming(path):
                yield
        except DriverError as error:
            if self._on_error is None:
                raise
            self._on_error(error)

    def _sort_out(self, prefix: str, algorithm: str, shard: str, names: list[str], blobs: Blobs) -> None:
        """Take the names of one shard apart one by one: something in it is no blob, or no SHA-256."""
        for name in names:
            try:
                digest = pack_digest(algorithm, name)
            except ValueError:
                digest = None
            if digest is None or not name.startswith(shard) or len(shard) != 2:
                blobs.strays.append(f"{prefix}/{name}")
            elif algorithm == "sha256":
                blobs.shards[digest[0]] += digest
            else:
                blobs.others.add(digest)

    def list_repositories(self) -> list[str]:
        """Walk the name space; a symbolic link is followed, as the registry does."""
        found: list[str] = []
        self.strays = []
        directory_count = 0
        pending = [""]
        top = f"{self._root}/{layout.REPOSITORIES}"
        with _naming(top):
            while pending:
                name = pending.pop()
                is_repository = False
                children: list[str] = []
                with self._tolerating(f"{top}{name}"):
                    children = _names(f"{top}{name}")
                for child in children:
                    if child.startswith("_"):
                        is_repository = is_repository or child in ("_layers", "_manifests", "_uploads")
                    else:
                        path = f"{name}/{child}" if name else child
                        directory_count += 1
                        if layout.is_name_component(child) and len(path) <= layout.MAX_NAME_LENGTH:
                            pending.append(path)
                        else:
                            self.strays.append(f"{layout.REPOSITORIES}{path}")
                if is_repository and name:
                    found.append(name)
            self._see(os.stat(top), with_atime=True)
        self.directory_count = directory_count
        return sorted(found)

    def scan_repository(self, name: str, known: Known) -> Repository:
        """Read layer links, revisions, uploads, and tags last."""
        repository = Repository(name)
        base = f"{layout.REPOSITORIES}{name}"
        if self._is_copying:
            self._scan_for_copy(base, known, repository)
            repository.drop_wrong_aliases()
            return repository
        with _naming(f"{self._root}/{base}"):
            self._scan_layers(f"{base}/_layers", known.layers, repository)
            self._scan_uploads(f"{base}/_uploads", repository)
            self._scan_revisions(f"{base}/_manifests/revisions", known.revisions, repository)
            self._scan_tags(f"{base}/_manifests/tags", known.histories, repository)
            if self._is_measuring:
                self._count_names(base, repository)
        if self._is_thorough:
            repository.drop_wrong_aliases()
        return repository

    def _scan_for_copy(self, base: str, known: Known, repository: Repository) -> None:
        """Read tags, then revisions, then layer links: a registry writes them in the other direction."""
        with _naming(f"{self._root}/{base}"):
            self._scan_tags(f"{base}/_manifests/tags", known.histories, repository)
            self._scan_revisions(f"{base}/_manifests/revisions", known.revisions, repository)
            self._scan_layers(f"{base}/_layers", known.layers, repository)
            repository.uploads += [Upload(name, [], 0, 0.0) for name in _names(f"{self._root}/{base}/_uploads")]

    def _count_names(self, base: str, repository: Repository) -> None:
        """Count links, files and directories from the names of directories: each digest and each tag has a link."""
        top = f"{self._root}/{base}"
        count = sum(name.startswith("_") for name in _names(top)) + len(_names(f"{top}/_manifests"))
        for kind in ("_layers", "_manifests/revisions"):
            for algorithm in _names(f"{top}/{kind}"):
                count += 1 + len(_names(f"{top}/{kind}/{algorithm}"))
        tags = _names(f"{top}/_manifests/tags")
        without_link = sum(damage.kind == "tag-link-missing" for damage in repository.damage)
        current_count = len(tags) - without_link
        histories = [repository.tag_indexes.get(tag, [digest]) for tag, digest in repository.tags.items()]
        histories += [history for tag, history in repository.tag_indexes.items() if tag not in repository.tags]
        entry_count = sum(map(len, histories))
        algorithm_count = sum(len({len(digest) for digest in history}) for history in histories)
        uploads: set[str] = set()
        for upload in repository.uploads:
            uploads.add(f"{base}/_uploads/{upload.id}")
            for key in upload.keys:
                while key not in uploads:
                    uploads.add(key)
                    key = key.rpartition("/")[0]
        repository.link_count = len(repository.layers) + len(repository.revisions) + current_count + entry_count
        count += len(repository.layers) + len(repository.revisions) + len(uploads) + len(repository.leftovers)
        count += len(tags) + 2 * current_count + len(histories) + algorithm_count + 2 * entry_count
        repository.name_count = count

    def _scan_layers(self, prefix: str, known: frozenset[bytes], repository: Repository) -> None:
        for algorithm, directory, digests in self._link_directories(prefix, repository):
            with _naming(f"{self._root}/{prefix}/{algorithm}"):
                # Whether a known link is still there matters only when nothing needs it: see link_newest.
                familiar = digests.keys() & known
                repository.layers.update(familiar)
                repository.sound_layers.update(familiar)
                for digest in digests.keys() - known if familiar else digests:
                    name = digests[digest]
                    is_read = self._is_thorough or algorithm != "sha256"
                    if not is_read and _size_of(f"{name}/link", directory) == LINK_LENGTH:
                        # A third of the price of reading it. What a link of the right size holds, fsck looks at.
                        repository.layers.add(digest)
                        repository.sound_layers.add(digest)
                        continue
                    content = _read_link(f"{name}/link", directory)
                    if content is None:
                        repository.leftovers += self._leftovers(f"{prefix}/{algorithm}/{name}")
                        continue
                    repository.layers.add(digest)
                    if content != f"{algorithm}:{name}".encode():
                        key = f"{prefix}/{algorithm}/{name}/link"
                        take_other_content(repository, digest, content, key, is_layer=True)

    def _scan_revisions(self, prefix: str, known: frozenset[bytes], repository: Repository) -> None:
        for algorithm, directory, digests in self._link_directories(prefix, repository):
            with _naming(f"{self._root}/{prefix}/{algorithm}"):
                for digest, name in digests.items():
                    if digest in known:
                        if _exists(f"{name}/link", directory):
                            repository.revisions.add(digest)
                            repository.sound_revisions.add(digest)
                        continue
                    try:
                        content = _read_link(f"{name}/link", directory)
                    except OSError as error:
                        self._note_unreadable(f"{prefix}/{algorithm}/{name}/link", error, repository)
                        repository.revisions.add(digest)  # what it holds its path says too
                        continue
                    if content is None:
                        repository.leftovers += self._leftovers(f"{prefix}/{algorithm}/{name}")
                        continue
                    repository.revisions.add(digest)
                    if content != f"{algorithm}:{name}".encode():
                        key = f"{prefix}/{algorithm}/{name}/link"
                        take_other_content(repository, digest, content, key, is_layer=False)
                    elif algorithm == "sha256":
                        repository.sound_revisions.add(digest)

    def _note_unreadable(self, key: str, error: OSError, repository: Repository) -> None:
        """Take a link that cannot be read for damage where the rest is to be copied; elsewhere it raises."""
        if not self._is_copying:
            raise error
        repository.damage.append(Damage("link-unreadable", key, error.strerror or str(error)))

    def _link_directories(self, prefix: str, repository: Repository) -> Iterator[tuple[str, int, dict[Digest, str]]]:
        """Yield (algorithm, open directory, digest to name) for what lies below `_layers` or `revisions`."""
        for algorithm in _names(f"{self._root}/{prefix}"):
            if algorithm not in HEX_LENGTHS:
                repository.strays.append(f"{prefix}/{algorithm}")
                continue
            with _directory(f"{self._root}/{prefix}/{algorithm}") as directory:
                if directory is None:
                    continue
                digests, strays = _digests(os.listdir(directory), algorithm)
                repository.strays += [f"{prefix}/{algorithm}/{name}" for name in strays]
                yield algorithm, directory, digests

    def read_signatures(self, repository: str, revision: Digest) -> list[Digest]:
        """Return the detached schema1 signatures of a revision, as registries up to 2.4 wrote them."""
        prefix = f"{layout.RevisionLink(repository, revision).key.rpartition('/')[0]}/signatures"
        with _naming(f"{self._root}/{prefix}"):
            return self._read_digests(prefix)

    def _scan_tags(self, prefix: str, known: dict[str, str], repository: Repository) -> None:
        with _directory(f"{self._root}/{prefix}") as directory:
            if directory is None:
                return
            contents: dict[str, bytes] = {}
            is_dated = self._is_measuring or self._is_copying
            for tag in os.listdir(directory):
                if tag not in known and not layout.is_tag_name(tag):
                    repository.strays.append(f"{prefix}/{tag}")
                    continue
                try:
                    if is_dated:
                        content, repository.pushed_ns[tag] = _read_dated_link(f"{tag}/current/link", directory)
                    else:
                        content = _read_link(f"{tag}/current/link", directory)
                except OSError as error:
                    self._note_unreadable(f"{prefix}/{tag}/current/link", error, repository)
                    continue
                if content is not None:
                    contents[tag] = content
                    continue
                repository.pushed_ns.pop(tag, None)
                key = f"{prefix}/{tag}/current/link"
                repository.leftovers += self._leftovers(f"{prefix}/{tag}/current")
                if history := self._read_digests(f"{prefix}/{tag}/index"):
                    repository.tag_indexes[tag] = history
                    detail = "the tag has an index and no current link"
                    repository.damage.append(Damage("tag-link-missing", key, detail))
            self._take_tags(prefix, contents, known, directory, repository)

    def _take_tags(
        self, prefix: str, contents: dict[str, bytes], known: dict[str, str], directory: int, repository: Repository
    ) -> None:
        """Note what tags say, and what they meant before where that is more than one digest."""
        for tag, digest in _parse_contents(contents).items():
            if digest is None:
                take_tag_link(repository, tag, contents[tag], f"{prefix}/{tag}/current/link")
                if history := self._read_digests(f"{prefix}/{tag}/index"):
                    repository.tag_indexes[tag] = history
                continue
            repository.tags[tag] = digest
            if self._is_thorough:
                repository.tag_indexes[tag] = self._read_index(f"{prefix}/{tag}/index", repository)
                continue
            remembered = known.get(tag, "")
            if remembered.startswith(digest.hex()) and remembered and not tag.startswith("sha256-"):
                # The tag did not move since its index was read. On a signature tag's roots may hang: it is read always.
                repository.histories[tag] = remembered
                if len(remembered) > 128 or self._is_copying:
                    history = [Digest(bytes.fromhex(remembered[i : i + 64])) for i in range(64, len(remembered), 64)]
                    repository.tag_indexes[tag] = history
            elif self._is_copying or self._may_have_history(f"{tag}/index/sha256", directory):
                history = self._read_digests(f"{prefix}/{tag}/index")
                if len(history) > 1 or self._is_copying:
                    repository.tag_indexes[tag] = history
                if all(len(entry) == 32 for entry in (digest, *history)):
                    repository.histories[tag] = digest.hex() + "".join(entry.hex() for entry in history)
            else:
                repository.histories[tag] = digest.hex() * 2

    def _may_have_history(self, path: str, directory: int) -> bool:
        """Tell from the link count, where the file system counts subdirectories, whether an index has several
        entries."""
        try:
            status = os.stat(path, dir_fd=directory)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        self._see(status)
        return status.st_nlink != 3

    def _read_index(self, prefix: str, repository: Repository) -> list[Digest]:
        """Return the digests of a tag's index, and note which of its links do not hold them."""
        history = self._read_digests(prefix)
        for digest in history:
            key = f"{prefix}/{layout.digest_path(digest)}/link"
            content = _read_link(f"{self._root}/{key}", None)
            if content is not None:
                take_index_link(repository, digest, content, key)
        return history

    def _read_digests(self, prefix: str) -> list[Digest]:
        """Return the digests of the links below a tag's index, or a revision's signatures."""
        found = []
        for algorithm in _names(f"{self._root}/{prefix}"):
            if algorithm in HEX_LENGTHS:
                digests, _ = _digests(_names(f"{self._root}/{prefix}/{algorithm}"), algorithm)
                found += [
                    d for d, name in digests.items() if _exists(f"{self._root}/{prefix}/{algorithm}/{name}/link", None)
                ]
        return found

    def _scan_uploads(self, prefix: str, repository: Repository) -> None:
        for upload in _names(f"{self._root}/{prefix}"):
            keys: list[str] = []
            size, newest, data_size = 0, 0.0, 0
            started = b""
            for key, status in self._walk(f"{prefix}/{upload}"):
                keys.append(key)
                size += status.st_size
                newest = max(newest, status.st_mtime, status.st_ctime)
                if key.endswith("/data"):
                    data_size += status.st_size
                if key.endswith("/startedat"):
                    started = _read_link(f"{self._root}/{key}", None) or b""
            if keys:
                newest = max(newest, upload_start(started))
                repository.uploads.append(Upload(upload, sorted(keys), size, newest, data_size))

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            with os.scandir(f"{self._root}/{prefix}") as listing:
                entries = list(listing)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return
        for entry in entries:
            key = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # one that vanishes must not end the walk
            self._see(status)
            yield key, status

    def _leftovers(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        for name in _names(f"{self._root}/{prefix}"):
            key = f"{prefix}/{name}"
            if name.endswith(".tmp") and isinstance(layout.parse_key(key), layout.Leftover):
                with suppress(FileNotFoundError):
                    status = os.stat(f"{self._root}/{key}", follow_symlinks=False)
                    self._see(status)
                    yield key, status.st_size, max(status.st_mtime, status.st_ctime)

    def link_newest(self, key: str) -> float | None:
        """Return the newest of the link's times and its directory's modification: its commit."""
        info = self._stat_with_directory(f"{self._root}/{key}")
        return info[1] if info else None

    def iter_blob_info(self, digests: Sequence[Digest]) -> Iterator[BlobInfo]:
        """Yield size and age; the age counts from the newest of the data's times and its directory's modification."""
        for digest in digests:
            info = self._stat_with_directory(f"{self._root}/{layout.BlobData(digest).key}")
            if info:
                yield BlobInfo(digest, *info)

    def iter_blob_sizes(self, digests: Sequence[Digest]) -> Iterator[BlobSize]:
        """Yield size and disk blocks, one `stat` each, those of one directory together."""
        for _, group in groupby(digests, key=_shard_of):
            members = list(group)
            shard = layout.BlobData(members[0]).key.rsplit("/", 2)[0]
            with _directory(f"{self._root}/{shard}") as directory:
                for digest in members if directory is not None else ():
                    name = digest.hex() if len(digest) == 32 else split_digest(digest)[1]
                    try:
                        status = os.stat(f"{name}/data", dir_fd=directory)
                    except OSError as error:
                        if error.errno in _ABSENT:
                            continue
                        raise
                    yield BlobSize(digest, status.st_size, status.st_blocks * 512)

    def _stat_with_directory(self, path: str) -> tuple[int, float] | None:
        try:
            status = os.stat(path)
            directory = os.stat(os.path.dirname(path))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _driver_error(error, path) from error
        self.newest_seen = max(self.newest_seen, status.st_ctime, directory.st_ctime)
        return status.st_size, max(status.st_mtime, status.st_ctime, directory.st_mtime)

    def list_leftovers(self, keys: Iterable[str]) -> Iterator[tuple[str, int, float]]:
        """Yield the temporary files (key, bytes, newest time) beside some objects."""
        for key in keys:
            prefix = key.rpartition("/")[0]
            with _naming(f"{self._root}/{prefix}"):
                yield from self._leftovers(prefix)

    def iter_multipart(self) -> Iterator[MultipartUpload]:
        """Yield nothing: a file system has no multipart uploads."""
        return iter(())

    def read_manifest(self, digest: Digest) -> bytes:
        """Read the data of a manifest, unbuffered."""
        path = f"{self._root}/{layout.BlobData(digest).key}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, _MANIFEST_CHUNK)
                while len(data) % _MANIFEST_CHUNK == 0 and (more := os.read(descriptor, READ_LIMIT_BYTES)):
                    data += more
                    if len(data) > READ_LIMIT_BYTES:
                        raise TooLarge("no manifest is that large", operation="read", key=path)
                return data
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _driver_error(error, path) from error

    def _see(self, status: os.stat_result, *, with_atime: bool = False) -> None:
        newest = status.st_ctime
        if with_atime and status.st_atime <= self._opened_at:
            newest = max(newest, status.st_atime)
        self.newest_seen = max(self.newest_seen, newest)


def _shard_of(digest: Digest) -> bytes:
    """Return what digests whose data lie in one directory have in common."""
    return digest[:1] if len(digest) == 32 else digest[: digest.index(b":") + 3]


def _driver_error(error: OSError, path: str) -> DriverError:
    if isinstance(error, DriverError):
        return error
    kind: type[DriverError] = DriverError
    if error.errno in _ABSENT:
        kind = NotFound
    elif error.errno in (errno.EACCES, errno.EPERM):
        kind = PermissionDenied
    return kind(error.strerror or str(error), operation="read", key=path)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn the errors of system calls into driver errors that name where it happened."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else ""
        raise _driver_error(
            error, where if where.startswith("/") else f"{path.rstrip('/')}/{where}".rstrip("/")
        ) from error


@contextmanager
def _directory(path: str) -> Iterator[int | None]:
    """Open a directory for lookups relative to it; None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        yield None
        return
    try:
        yield descriptor
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else ""
        raise _driver_error(error, f"{path}/{where}".rstrip("/")) from error
    finally:
        os.close(descriptor)


def _names(path: str) -> list[str]:
    """List a directory; one that is not there is empty."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise


def _size_of(path: str, directory: int | None) -> int:
    """Return the size of a file, -1 when it is not there."""
    try:
        return os.stat(path, dir_fd=directory).st_size
    except OSError as error:
        if error.errno in _ABSENT:
            return -1
        raise


def _exists(path: str, directory: int | None) -> bool:
    # access(2) cannot tell why it says no, and is cheaper for the yes.
    if os.access(path, os.F_OK, dir_fd=directory):
        return True
    try:
        os.stat(path, dir_fd=directory)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _read_link(path: str, directory: int | None) -> bytes | None:
    """Return the content of a link, cut after `_LINK_LIMIT` bytes, or None when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    try:
        return os.read(descriptor, _LINK_LIMIT)
    finally:
        os.close(descriptor)


def _read_dated_link(path: str, directory: int | None) -> tuple[bytes | None, int]:
    """Return the content of a link as `_read_link`, and its modification time in nanoseconds since the epoch."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in _ABSENT:
            return None, 0
        raise
    try:
        return os.read(descriptor, _LINK_LIMIT), os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def _parse_contents(contents: dict[str, bytes]) -> dict[str, Digest | None]:
    """Parse what links hold, all at once where all are right; None for what is no digest."""
    try:
        return dict(
            zip(contents, parse_digests([content.decode("ascii") for content in contents.values()]), strict=True)
        )
    except ValueError:
        return {tag: parse_link(content) for tag, content in contents.items()}


def _pack_names(names: list[str]) -> bytes | None:
    """Pack the names of a directory of SHA-256 digests at once, or None when one is something else."""
    return None if set(map(len, names)) - {64} else pack_sha256("".join(names))


def _digests(names: list[str], algorithm: str) -> tuple[dict[Digest, str], list[str]]:
    """Part names into digests (with their names) and what is none."""
    packed = _pack_names(names) if algorithm == "sha256" else None
    if packed is not None:
        return {Digest(packed[32 * i : 32 * i + 32]): name for i, name in enumerate(names)}, []
    found, strays = {}, []
    for name in names:
        try:
            found[pack_digest(algorithm, name)] = name
        except ValueError:
            strays.append(name)
    return found, strays

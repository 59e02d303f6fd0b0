"""Objects as files below a directory.

Writes are durable: a temporary file beside the destination, fsync, rename, fsync of the directory. New files and
directories take owner and mode from the tree that they are written into, so that a registry's own user can go on using
them.
Symbolic links are followed where a key leads through one, as a registry does, and never listed or walked into.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat as stat_module
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote_to_bytes, urlsplit

from regstore_drivers._linux import copy_content
from regstore_drivers.base import READ_LIMIT_BYTES, Capacity, Deleted, Driver, Entry, Source
from regstore_drivers.content import iter_promised
from regstore_drivers.errors import (
    AlreadyExists,
    DriverError,
    InvalidKey,
    NotFound,
    PermissionDenied,
    ShortRead,
    TooLarge,
    Unreachable,
)
from regstore_drivers.keys import check_key, check_prefix
from regstore_drivers.rename import rename_exclusive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE_BYTES = 1024 * 1024
_SMALL_BYTES = 64 * 1024
TEMPORARY_SUFFIX = ".regstore-tmp"
"""How the names of files and directories end that are being written; no listing shows them."""
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class FilesystemDriver(Driver):
    """A driver over the directory `root`, which must exist.

    Powers: HasLocalPath, HasCapacity, HasDirectories.
    """

    scheme = "file"

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._base = self._root if self._root.endswith("/") else f"{self._root}/"
        self._location = f"file://{quote(os.fsencode(self._root))}"

    @property
    def location(self) -> str:
        """`file://` and the root."""
        return self._location

    def local_path(self, key: str) -> str:
        """Return the absolute path of a key or prefix."""
        return self._base + key

    def stat(self, key: str) -> Entry:
        """Describe a regular file. See `ReadDriver.stat`."""
        try:
            status = os.stat(self._path("stat", key))
        except OSError as error:
            raise self._error(error, "stat", key) from error
        if not stat_module.S_ISREG(status.st_mode):
            raise NotFound("not a regular file", operation="stat", key=key, location=self.location)
        return _entry(key, status)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """Walk the regular files below a prefix. See `ReadDriver.list`."""
        check_prefix(prefix, "list", self.location)
        directory, slash, partial = prefix.rpartition("/")
        directory += slash
        self._check_root("list", prefix)
        yield from self._walk(directory, partial, os.fsencode(start_after))

    def _walk(self, directory: str, partial: str, start_after: bytes) -> Iterator[Entry]:
        try:
            with os.scandir(self._base + directory) as entries:
                names = [
                    (os.fsencode(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name), entry)
                    for entry in entries
                    if entry.name.startswith(partial) and not entry.name.endswith(TEMPORARY_SUFFIX)
                ]
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise self._error(error, "list", directory) from error
        for name, entry in sorted(names, key=lambda item: item[0]):
            key = directory + entry.name
            if name.endswith(b"/"):
                path = os.fsencode(f"{key}/")
                if start_after < path or start_after.startswith(path):
                    yield from self._walk(f"{key}/", "", start_after)
            elif os.fsencode(key) > start_after:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise self._error(error, "list", key) from error
                if stat_module.S_ISREG(status.st_mode):
                    yield _entry(key, status)

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield names one level down. See `ReadDriver.list_dir`."""
        check_prefix(prefix, "list_dir", self.location)
        self._check_root("list_dir", prefix)
        try:
            with os.scandir(self._base + prefix) as entries:
                names = []
                for entry in entries:
                    if entry.name.endswith(TEMPORARY_SUFFIX):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        names.append(f"{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        names.append(entry.name)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise self._error(error, "list_dir", prefix) from error
        names.sort(key=os.fsencode)
        yield from names

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Read a whole small file, unbuffered. See `ReadDriver.read`."""
        path = self._path("read", key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, _SMALL_BYTES)
                if len(data) == _SMALL_BYTES:
                    parts = [data]
                    while len(data) <= limit and (piece := os.read(descriptor, _PIECE_BYTES)):
                        parts.append(piece)
                        if sum(map(len, parts)) > limit:
                            break
                    data = b"".join(parts)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno == errno.EISDIR:
                raise NotFound("a directory", operation="read", key=key, location=self.location) from error
            raise self._error(error, "read", key) from error
        if len(data) > limit:
            raise TooLarge(f"more than {limit} bytes", operation="read", key=key, location=self.location)
        return data

    def open(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Open a range of a file. See `ReadDriver.open`."""
        try:
            descriptor = os.open(self._path("open", key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error, "open", key) from error
        status = os.fstat(descriptor)
        if not stat_module.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotFound("not a regular file", operation="open", key=key, location=self.location)
        end = status.st_size if length is None else offset + length
        if not 0 <= offset <= end <= status.st_size:
            os.close(descriptor)
            reason = f"bytes {offset} to {end} do not lie in its {status.st_size}"
            raise DriverError(reason, operation="open", key=key, location=self.location)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return io.BufferedReader(_Range(descriptor, end - offset, key, self.location), _PIECE_BYTES)

    def write(
        self,
        key: str,
        source: Source,
        size: int,
        digest: str | None = None,
        *,
        if_absent: bool = False,
        mtime_ns: int | None = None,
    ) -> Entry:
        """Store a file durably or not at all. See `Driver.write`."""
        path = self._path("write", key)
        with self._translated("write", key):
            if if_absent and os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            directory = self._make_directories("write", key)
            temporary, descriptor = _create_temporary(directory)
        try:
            try:
                for piece in iter_promised(source, size, digest, key=key, location=self.location):
                    with self._translated("write", key):
                        _write_all(descriptor, piece)
                with self._translated("write", key):
                    _take_attributes(descriptor, path, directory)
                    if mtime_ns is not None:
                        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
                    os.fsync(descriptor)
                    status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            with self._translated("write", key):
                if if_absent:
                    rename_exclusive(temporary, path)
                else:
                    os.rename(temporary, path)
        except BaseException:
            remove_quietly(temporary)
            raise
        with self._translated("write", key):
            _sync_directory(directory)
        return _entry(key, status)

    def copy(self, src: str, dst: str) -> Entry:
        """Copy a file with owner, mode and times, sharing extents where the file system can. See `Driver.copy`."""
        source, target = self._path("copy", src), self._path("copy", dst)
        if os.path.isdir(source):
            raise NotFound("a directory", operation="copy", key=src, location=self.location)
        with self._translated("copy", src), open(source, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat_module.S_ISREG(status.st_mode):
                raise NotFound("not a regular file", operation="copy", key=src, location=self.location)
            directory = self._make_directories("copy", dst)
            temporary, descriptor = _create_temporary(directory)
            try:
                try:
                    copy_content(file.fileno(), descriptor, status.st_size)
                    _chown(descriptor, status.st_uid, status.st_gid)
                    os.fchmod(descriptor, stat_module.S_IMODE(status.st_mode))
                    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
                    os.fsync(descriptor)
                    copied = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
                os.rename(temporary, target)
            except EOFError as error:
                remove_quietly(temporary)
                raise ShortRead(str(error), operation="copy", key=src, location=self.location) from error
            except BaseException:
                remove_quietly(temporary)
                raise
            _sync_directory(directory)
        return _entry(dst, copied)

    def move(self, src: str, dst: str) -> None:
        """Rename without overwriting. See `Driver.move`."""
        source, target = self._path("move", src), self._path("move", dst)
        try:
            if not stat_module.S_ISREG(os.stat(source, follow_symlinks=False).st_mode):
                raise NotFound("not a regular file", operation="move", key=src, location=self.location)
            directory = self._make_directories("move", dst)
            rename_exclusive(source, target)
            _sync_directory(directory)
            _sync_directory(os.path.dirname(source))
        except DriverError:
            raise
        except OSError as error:
            raise self._error(error, "move", dst if error.errno == errno.EEXIST else src) from error

    def delete(self, keys: Iterable[str]) -> Iterator[Deleted]:
        """Unlink files. See `Driver.delete`."""
        directories = set()
        for key in keys:
            try:
                path = self._path("delete", key)
                os.unlink(path)
            except InvalidKey as error:
                yield Deleted(key, "failed", error.reason)
                continue
            except OSError as error:
                if error.errno in _ABSENT:
                    yield Deleted(key, "absent")
                else:
                    yield Deleted(key, "failed", error.strerror or str(error))
                continue
            directories.add(os.path.dirname(path))
            yield Deleted(key, "gone")
        for directory in directories:
            try:
                _sync_directory(directory)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise self._error(error, "delete", directory) from error

    def capacity(self) -> Capacity:
        """Return size and space free to unprivileged users."""
        try:
            status = os.statvfs(self._root)
        except OSError as error:
            raise self._error(error, "capacity", "") from error
        blocks = status.f_frsize
        return Capacity(status.f_blocks * blocks, status.f_bavail * blocks, status.f_files or None, status.f_favail)

    def remove_empty_directory(self, prefix: str) -> bool:
        """Remove a directory if it is empty, or holds only what writes that died left, which no listing shows."""
        path = self._path("remove_empty_directory", prefix.rstrip("/"))
        try:
            with os.scandir(path) as entries:
                names = []
                for entry in entries:
                    if not entry.name.endswith(TEMPORARY_SUFFIX):
                        return False
                    names.append(entry.name)
            for name in names:
                remove_quietly(f"{path}/{name}")
            os.rmdir(path)
        except OSError as error:
            if error.errno in (*_ABSENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                return False
            raise self._error(error, "remove_empty_directory", prefix) from error
        return True

    def _path(self, operation: str, key: str) -> str:
        check_key(key, operation, self.location)
        return self._base + key

    def _check_root(self, operation: str, prefix: str) -> None:
        """Tell nothing stored from a root that is gone: whoever takes the one for the other may delete too much."""
        try:
            os.stat(self._base)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._error(error, operation, prefix) from error
            reason = "the root is no directory"
            raise Unreachable(reason, operation=operation, key=prefix, location=self.location) from error

    def _make_directories(self, operation: str, key: str) -> str:
        """Make the directory of a key with the owner and mode of the nearest one that exists; return its path."""
        wanted = os.path.dirname(self._base + key)
        missing = []
        directory = wanted
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        status = os.stat(directory) if missing else None
        for path in reversed(missing):
            try:
                os.mkdir(path)
            except FileExistsError as error:
                if os.path.isdir(path):
                    continue  # made by somebody else at this moment
                reason = f"{path.removeprefix(self._base)!r} is no directory"
                raise DriverError(reason, operation=operation, key=key, location=self.location) from error
            if status is not None:
                os.chmod(path, stat_module.S_IMODE(status.st_mode))
                _chown(path, status.st_uid, status.st_gid)
            _sync_directory(os.path.dirname(path))
        return wanted

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except DriverError:
            raise
        except OSError as error:
            raise self._error(error, operation, key) from error

    def _error(self, error: OSError, operation: str, key: str) -> DriverError:
        kind: type[DriverError] = DriverError
        if error.errno in _ABSENT:
            kind = NotFound
        elif error.errno in (errno.EEXIST, errno.EISDIR):
            kind = AlreadyExists
        elif error.errno in _DENIED:
            kind = PermissionDenied
        return kind(error.strerror or str(error), operation=operation, key=key, location=self.location)


def from_url(url: str) -> FilesystemDriver:
    """Open `file:///path`.

    Raises:
        ValueError: the URL names a host or a relative path.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError(f"{url!r} is no absolute file URL: write file:///path")
    return FilesystemDriver(os.fsdecode(unquote_to_bytes(os.fsencode(parts.path))))


class _Range(io.RawIOBase):
    """So many bytes of an open file, or an error."""

    def __init__(self, descriptor: int, length: int, key: str, location: str) -> None:
        self._descriptor = descriptor
        self._left = length
        self._key = key
        self._location = location

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)[: self._left]  # type: ignore[arg-type]
        if not view:
            return 0
        try:
            count = os.readv(self._descriptor, [view])
        except OSError as error:
            reason = error.strerror or str(error)
            raise DriverError(reason, operation="read", key=self._key, location=self._location) from error
        if count == 0:
            reason = f"the file ended {self._left} bytes early"
            raise ShortRead(reason, operation="read", key=self._key, location=self._location)
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _entry(key: str, status: os.stat_result) -> Entry:
    return Entry(key, status.st_size, status.st_mtime, None, None, status.st_ctime)


def _take_attributes(descriptor: int, path: str, directory: str) -> None:
    """Give a new file the owner and mode of the one that it replaces, or those of its directory."""
    try:
        status = os.stat(path)
        mode = stat_module.S_IMODE(status.st_mode)
    except FileNotFoundError:
        status = os.stat(directory)
        mode = stat_module.S_IMODE(status.st_mode) & 0o666
    _chown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, mode)


def _create_temporary(directory: str) -> tuple[str, int]:
    path = f"{directory}/.{secrets.token_hex(10)}{TEMPORARY_SUFFIX}"
    return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_all(descriptor: int, piece: bytes | memoryview) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _chown(file: int | str, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(file, uid, gid)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_quietly(path: str) -> None:
    """Remove a file, or a directory with all that is in it; one that is not there is no error."""
    with suppress(FileNotFoundError):
        try:
            os.unlink(path)
        except (IsADirectoryError, PermissionError):  # POSIX lets unlink(2) of a directory end with EPERM
            if not os.path.isdir(path):
                raise
            shutil.rmtree(path)

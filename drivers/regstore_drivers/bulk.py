"""Many files written together: each is whole when it takes its name, and all are durable at one moment.

A durable write of its own costs each small file three trips to the disk. Here small files wait under temporary names
until `flush` has asked the file system once to write everything (syncfs(2)), and then take their names; large ones
are synchronised by the thread that wrote them. A process that dies leaves temporary files, which no listing shows.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat as stat_module
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from regstore_drivers._linux import clone_content
from regstore_drivers.content import PIECE_BYTES, check_promised, iter_promised
from regstore_drivers.errors import AlreadyExists, DigestMismatch, DriverError, NotFound, PermissionDenied
from regstore_drivers.filesystem import TEMPORARY_SUFFIX, remove_quietly
from regstore_drivers.keys import check_key
from regstore_drivers.rename import rename_exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regstore_drivers.base import Source

SYNC_BYTES = 64 * 1024
"""Files at least that large are synchronised one by one, which other threads do not wait for."""
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Owner and modes of what is written; None leaves what the process and its umask give."""

    uid: int | None = None
    gid: int | None = None
    directory_mode: int | None = None
    file_mode: int | None = None


class BulkWriter:
    """Writes files below a directory. Safe to use from several threads, but for `flush` and `sync`.

    Args:
        root: the directory, which must exist.
        attributes: of new files and directories.
        small_jobs: how many threads may write small files at once. On a disk of this host a second one only slows the
            first down: they take turns in the interpreter, at every call of the kernel. On a network file system each
            waits for the server.
    """

    def __init__(self, root: str, attributes: Attributes = Attributes(), small_jobs: int = 1) -> None:
        self.small_lane = threading.BoundedSemaphore(small_jobs)
        """To be held by a thread while it writes many small files."""
        self._base = os.path.join(os.path.abspath(root), "")
        self._attributes = attributes
        self._is_root = os.geteuid() == 0
        self._temporary_names = map(f"{secrets.token_hex(8)}-{{:x}}{TEMPORARY_SUFFIX}".format, count())
        self._pending: list[tuple[str, str, bool]] = []
        self._lock = threading.Lock()

    def write(
        self,
        key: str,
        source: Source,
        size: int,
        digest: str | None = None,
        *,
        if_absent: bool = False,
        mtime_ns: int | None = None,
    ) -> None:
        """Store a file. See `Driver.write`; it has its name after the next `flush`, and is durable after `sync`.

        Raises:
            AlreadyExists: `if_absent` and there is one; a file that comes into being later is found by `flush`, which
                leaves it.
            DigestMismatch: other bytes than promised came.
        """
        if isinstance(source, bytes) and size < SYNC_BYTES:
            check_promised(source, size, digest, key=key, location=self._base)
            self._write_small(key, source, if_absent=if_absent, mtime_ns=mtime_ns)
            return
        with self._new_file(key, size, if_absent=if_absent, mtime_ns=mtime_ns) as descriptor:
            for piece in iter_promised(source, size, digest, key=key, location=self._base):
                with self._naming(key):
                    _write_all(descriptor, piece)

    def copy_file(self, key: str, path: str, size: int, digest: str, on_bytes: Callable[[int], None]) -> None:
        """Store a copy of a file, which is read once: its extents are shared where the file system can.

        Args:
            key: where.
            path: the file.
            size: its bytes.
            digest: what it hashes to.
            on_bytes: told of each piece, and may end the copy by an error.

        Raises:
            NotFound: there is no regular file at `path`.
            DigestMismatch: it has other bytes than promised.
            OSError: it cannot be read; errors of the target are DriverErrors.
        """
        source = _open_regular(path)
        try:
            found = os.fstat(source).st_size
            if found != size:
                raise self._mismatch(key, f"{path} has {found} bytes instead of {size}")
            if size < SYNC_BYTES:
                content = _read_all(source, size)
                check_promised(content, size, digest, key=key, location=self._base)
                self._write_small(key, content, if_absent=False, mtime_ns=None)
                on_bytes(size)
                return
            with self._new_file(key, size, if_absent=False, mtime_ns=None) as descriptor:
                is_shared = clone_content(source, descriptor)
                self._hash(key, source, None if is_shared else descriptor, size, digest, on_bytes)
        finally:
            os.close(source)

    def write_directory(self, key: str, files: Iterable[tuple[str, bytes, int | None]], *, beside: str) -> bool:
        """Store a new directory, which takes its name with all its files in it at once, at the next `flush`.

        Args:
            key: where.
            files: path below it, bytes, and modification time (nanoseconds since the epoch, or None); not taken when
                there is something of that name.
            beside: the directory in which it is made, on the same file system. Its name begins with `_` until then: a
                registry that looks for repositories goes into no such directory.

        Returns:
            False, with nothing done, when there is something of that name.
        """
        check_key(key, "write", self._base)
        path = self._base + key
        with self._naming(key):
            if os.path.lexists(path):
                return False
            temporary = f"{self._base}{beside}/_{next(self._temporary_names)}"
            self._make_directory(temporary)
        try:
            with self._naming(key):
                self._make_directory(os.path.dirname(path))
            for name, content, mtime_ns in files:
                check_key(f"{key}/{name}", "write", self._base)
                self._write_below(temporary, name, content, mtime_ns, key)
        except BaseException:
            remove_quietly(temporary)
            raise
        with self._lock:
            self._pending.append((temporary, path, False))
        return True

    def remove_directory(self, key: str, *, beside: str) -> None:
        """Remove a directory with all that is in it. Its name is gone at once, before anything in it is.

        Args:
            key: which; one that is not there is no error.
            beside: where it lies until it is removed, on the same file system.
        """
        check_key(key, "delete", self._base)
        temporary = f"{self._base}{beside}/_{next(self._temporary_names)}"
        with self._naming(key):
            try:
                os.rename(self._base + key, temporary)
            except FileNotFoundError:
                return
            remove_quietly(temporary)

    def _write_below(self, directory: str, name: str, content: bytes, mtime_ns: int | None, key: str) -> None:
        path = f"{directory}/{name}"
        try:
            self._make_directory(path.rpartition("/")[0])
            self._write_file(path, content, mtime_ns)
        except OSError as error:
            raise self._error(key, error) from error

    def _write_file(self, path: str, content: bytes, mtime_ns: int | None) -> None:
        descriptor = self._create(path)
        try:
            try:
                _write_all(descriptor, content)
                self._finish(descriptor, mtime_ns)
            finally:
                os.close(descriptor)
        except BaseException:
            remove_quietly(path)
            raise

    def flush(self, *, gives_way: bool = False) -> list[str]:
        """Give all files and directories their names; what they hold is durable.

        Args:
            gives_way: when another has made one of the directories meanwhile, remove ours, and go on.

        Returns:
            The keys of directories that gave way.

        Raises:
            DriverError: the file system failed; what has no name by then gets none.
        """
        with self._lock:
            pending, self._pending = self._pending, []
        beaten: list[str] = []
        if not pending:
            return beaten
        named_count = 0
        try:
            with self._naming(""):
                sync_file_system(self._base)
            for temporary, path, if_absent in pending:
                try:
                    self._name(temporary, path, if_absent=if_absent)
                except AlreadyExists as error:
                    if not gives_way:
                        raise
                    remove_quietly(temporary)
                    beaten.append(error.key)
                named_count += 1
        finally:
            for temporary, _, _ in pending[named_count:]:
                remove_quietly(temporary)
        return beaten

    def sync(self) -> None:
        """Flush, and make the names durable too."""
        self.flush()
        with self._naming(""):
            sync_file_system(self._base)

    def discard(self) -> None:
        """Remove the files that have no name yet."""
        with self._lock:
            pending, self._pending = self._pending, []
        for temporary, _, _ in pending:
            remove_quietly(temporary)

    def _write_small(self, key: str, content: bytes, *, if_absent: bool, mtime_ns: int | None) -> None:
        check_key(key, "write", self._base)
        path = self._base + key
        directory = path.rpartition("/")[0]
        name = f".{next(self._temporary_names)}"
        if if_absent and os.path.lexists(path):
            raise self._error(key, FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
        self._write_below(directory, name, content, mtime_ns, key)
        with self._lock:
            self._pending.append((f"{directory}/{name}", path, if_absent))

    @contextmanager
    def _new_file(self, key: str, size: int, *, if_absent: bool, mtime_ns: int | None) -> Iterator[int]:
        """Open a temporary file beside the final place, and give it its name when all went well."""
        check_key(key, "write", self._base)
        path = self._base + key
        with self._naming(key):
            if if_absent and os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            directory = os.path.dirname(path)
            self._make_directory(directory)
            temporary = f"{directory}/.{next(self._temporary_names)}"
            descriptor = self._create(temporary)
        try:
            try:
                yield descriptor
                with self._naming(key):
                    self._finish(descriptor, mtime_ns)
                    if size >= SYNC_BYTES:
                        os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if size >= SYNC_BYTES:
                with self._naming(key):
                    self._name(temporary, path, if_absent=if_absent)
                return
        except BaseException:
            remove_quietly(temporary)
            raise
        with self._lock:
            self._pending.append((temporary, path, if_absent))

    def _finish(self, descriptor: int, mtime_ns: int | None) -> None:
        wanted = self._attributes
        if wanted.file_mode is not None:
            os.fchmod(descriptor, wanted.file_mode)
        if self._is_root and (wanted.uid is not None or wanted.gid is not None):
            os.fchown(descriptor, -1 if wanted.uid is None else wanted.uid, -1 if wanted.gid is None else wanted.gid)
        if mtime_ns is not None:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    def _name(self, temporary: str, path: str, *, if_absent: bool) -> None:
        try:
            if not if_absent:
                os.rename(temporary, path)
                return
            try:
                rename_exclusive(temporary, path)
            except FileExistsError:
                remove_quietly(temporary)  # whoever made it meanwhile wins
        except OSError as error:
            raise self._error(path.removeprefix(self._base), error) from error

    def _create(self, path: str) -> int:
        mode = 0o666 if self._attributes.file_mode is None else 0o600
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def _make_directory(self, path: str) -> None:
        try:
            os.mkdir(path)
        except FileExistsError:
            return  # made by another thread
        except FileNotFoundError:
            self._make_directory(os.path.dirname(path))
            with suppress(FileExistsError):
                os.mkdir(path)
        wanted = self._attributes
        if wanted.directory_mode is not None:
            os.chmod(path, wanted.directory_mode)
        if self._is_root and (wanted.uid is not None or wanted.gid is not None):
            os.chown(path, -1 if wanted.uid is None else wanted.uid, -1 if wanted.gid is None else wanted.gid)

    def _hash(
        self, key: str, source: int, target: int | None, size: int, digest: str, on_bytes: Callable[[int], None]
    ) -> None:
        """Read a file once, hash it, and write it on unless its extents are shared already."""
        algorithm, _, expected = digest.partition(":")
        hasher = hashlib.new(algorithm)
        view = memoryview(bytearray(min(PIECE_BYTES, max(size, 1))))
        left = size
        while left and (count := os.readv(source, [view[: min(left, len(view))]])):
            hasher.update(view[:count])
            if target is not None:
                with self._naming(key):
                    _write_all(target, view[:count])
            left -= count
            on_bytes(count)
        if left or hasher.hexdigest() != expected:
            reason = f"{size - left} of {size} bytes came, with the digest {algorithm}:{hasher.hexdigest()}"
            raise self._mismatch(key, reason)

    def _mismatch(self, key: str, reason: str) -> DigestMismatch:
        return DigestMismatch(reason, operation="write", key=key, location=self._base)

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        try:
            yield
        except DriverError:
            raise
        except OSError as error:
            raise self._error(key, error) from error

    def _error(self, key: str, error: OSError) -> DriverError:
        kind: type[DriverError] = DriverError
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            kind = AlreadyExists
        elif error.errno in _DENIED:
            kind = PermissionDenied
        return kind(error.strerror or str(error), operation="write", key=key, location=self._base)


def sync_file_system(path: str) -> None:
    """Write everything of the file system of a path to its disk.

    From Linux 5.8 on the call tells of data that could not be written.

    Raises:
        OSError: it failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _syncfs is None:
            os.sync()
        elif _syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def remove_temporary_files(directory: str) -> int:
    """Remove what writes that died left below a directory, and return how many. No write may be under way there.

    Raises:
        OSError: one cannot be removed.
    """
    count = 0
    for path, directories, names in os.walk(directory):
        for name in (*directories, *names):
            if name.endswith(TEMPORARY_SUFFIX):
                remove_quietly(f"{path}/{name}")
                count += 1
    return count


_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def _open_regular(path: str) -> int:
    try:
        # Opening a pipe would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotFound(error.strerror or str(error), operation="open", key=path) from error
        raise
    if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound("not a regular file", operation="open", key=path)
    return descriptor


def _read_all(descriptor: int, size: int) -> bytes:
    """Return what a file holds, but no more than one byte beyond the size that it should have."""
    content = b""
    while len(content) <= size and (piece := os.read(descriptor, size + 1 - len(content))):
        content += piece
    return content


def _write_all(descriptor: int, piece: bytes | memoryview) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]

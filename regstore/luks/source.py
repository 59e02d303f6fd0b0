"""Reading a device, an image or a file of a header: never more than reading."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from regstore.errors import UsageError
from regstore.luks.metadata import SECTOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PIECE_BYTES = 1024 * 1024


class ReadFailedError(Exception):
    """The device did not give what lies there.

    Attributes:
        offset: of the first byte that cannot be read.
        reason: the system's word.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)  # so that it can come from another process
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} at byte {self.offset}, sector {self.offset // SECTOR_BYTES}"


class Source:
    """Something that holds a header, open for reading only.

    Attributes:
        path: where it is.
        size: in bytes.
        is_block_device: it is no regular file.
        number: `major:minor` of a block device.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            UsageError: it is neither a block device nor a regular file.
            OSError: it cannot be opened.
        """
        # Looking first: opening a tape or a watchdog does something.
        _require_kind(path, path.stat().st_mode)
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            found = os.fstat(self._file)
            _require_kind(path, found.st_mode)
            self.is_block_device = stat.S_ISBLK(found.st_mode)
            self.number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if self.is_block_device else ""
            self.size = os.lseek(self._file, 0, os.SEEK_END) if self.is_block_device else found.st_size
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def read(self, offset: int, length: int) -> bytes:
        """Return these bytes; fewer only where the source ends.

        Raises:
            ReadFailedError: the device gives an error. A read across a bad sector ends before it and the next one
                fails, so the offset is exact.
        """
        pieces = []
        end = min(offset + length, self.size)
        while offset < end:
            try:
                piece = os.pread(self._file, min(end - offset, _PIECE_BYTES), offset)
            except OSError as error:
                raise ReadFailedError(offset, os.strerror(error.errno or errno.EIO)) from error
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def find_unreadable(self, offset: int, length: int) -> ReadFailedError | None:
        """Read these bytes piece by piece and return the first error."""
        end = min(offset + length, self.size)
        while offset < end:
            try:
                self.read(offset, min(_PIECE_BYTES, end - offset))
            except ReadFailedError as error:
                return error
            offset += _PIECE_BYTES
        return None

    @contextmanager
    def shared_lock(
        self, locks: Path, patience_seconds: float, sleep: Callable[[float], object] = time.sleep
    ) -> Iterator[bool]:
        """Hold the lock that cryptsetup takes for reading, if it can be had, and say whether it was.

        cryptsetup locks a file itself, and for a block device the file `L_MAJOR:MINOR` of its directory
        (lib/utils_device_locking.c); a lock file that is not there is not made.

        Args:
            locks: the directory, `/run/cryptsetup`.
            patience_seconds: how long to wait for whoever writes.
        """
        file = self._file
        if self.is_block_device:
            try:
                file = os.open(locks / f"L_{self.number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                yield False
                return
        try:
            yield _lock(file, patience_seconds, sleep)
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            if file != self._file:
                os.close(file)


def _lock(file: int, patience_seconds: float, sleep: Callable[[float], object]) -> bool:
    step = 0.1
    waited = 0.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if waited >= patience_seconds:
                return False
            sleep(step)
            waited += step
        except OSError:
            return False
        else:
            return True


def _require_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise UsageError(
            f"{path} is neither a block device nor a file",
            hint="name the encrypted device, an image, or the directory of a registry",
        )

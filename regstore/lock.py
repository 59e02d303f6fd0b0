"""One run at a time per registry, or per store of backups: a lock beside what it protects.

On a file system it is a `flock` on a file, which dies with its holder; on an object store an object that is created
only if absent. The file says who holds it. A holder on this host that is dead is no obstacle; one on another host is
named and never broken, since nobody here can tell whether it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

from regstore.errors import LockedError
from regstore.layout import HOME
from regstore.work import Cancel
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore_drivers.base import Driver, ReadDriver

LOCK = f"{HOME}lock"
_POLL_SECONDS = 0.5
_LIMIT = 64 * 1024


def clock_resolution(driver: ReadDriver) -> float:
    """Return in which steps, in seconds, the storage tells the time: object stores cut it to whole seconds."""
    return 0.0 if isinstance(driver, HasLocalPath) else 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `started_at` is when the process began, so that a reused pid is not taken for it."""

    host: str
    pid: int
    started_at: float
    command: str
    token: str

    @classmethod
    def this_process(cls, command: str) -> Holder:
        """Describe this process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time(), command, secrets.token_hex(8))

    @classmethod
    def parse(cls, data: bytes) -> Holder | None:
        """Read what a lock says; None when it says nothing that can be understood."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process of this host that took the lock still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started_at) < 1.0
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid} on {self.host})"


@contextmanager
def hold_lock(
    driver: Driver,
    command: str,
    *,
    key: str = LOCK,
    remedy: str = "",
    wait_seconds: float = 0.0,
    cancel: Cancel | None = None,
) -> Iterator[tuple[float, Holder | None]]:
    """Hold a lock.

    Args:
        driver: where it lies.
        command: who holds it, for others to read.
        key: its key; by default that of a registry.
        remedy: what an operator can do about one of which nobody here can tell whether its run is dead; empty: remove
            the file.
        wait_seconds: how long to wait for another run.
        cancel: ends the wait.

    Yields:
        The storage's time at which it was taken (seconds since the epoch), and the dead holder it was taken from, if
        any.

    Raises:
        LockedError: another run holds it.
        DriverError: the lock cannot be written.
        InterruptedRunError: somebody asked to stop while it waited.
    """
    holder = Holder.this_process(command)
    lock: _FileLock | _ObjectLock
    lock = _FileLock(driver, key, remedy) if isinstance(driver, HasLocalPath) else _ObjectLock(driver, key, remedy)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            dead = lock.take(holder)
            break
        except LockedError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            (cancel or Cancel()).wait(min(left, _POLL_SECONDS))
    try:
        yield driver.stat(key).newest + clock_resolution(driver), dead
    finally:
        lock.release(holder)


def remove_lock(driver: Driver, key: str) -> tuple[bool, Holder | None]:
    """Remove a lock, whoever holds it, on another host too.

    Returns:
        Whether there was one, and whose it was; None for what cannot be understood.

    Raises:
        DriverError: it cannot be read or removed.
    """
    try:
        content = _read(driver, key)
    except NotFound:
        return False, None
    if isinstance(driver, HasLocalPath) and not content:
        return False, None  # the file of a run that ended stays
    for outcome in driver.delete([key]):
        if outcome.outcome == "failed":
            raise DriverError(outcome.reason, operation="delete", key=key, location=driver.location)
    return True, Holder.parse(content)


def current_holder(driver: ReadDriver) -> Holder | None:
    """Return who holds the lock, or None when nobody living does, as far as can be told."""
    holder = _read_holder(driver, LOCK)
    return None if holder is None or (holder.is_here and not holder.is_alive) else holder


class _FileLock:
    """A `flock` on a file."""

    def __init__(self, driver: Driver, key: str, remedy: str) -> None:
        self._driver = driver
        self._key = key
        self._remedy = remedy
        self._file = -1

    def take(self, holder: Holder) -> Holder | None:
        """Take it, and return the dead holder that it was taken from."""
        while True:
            with suppress(AlreadyExists):
                self._driver.write(self._key, b"", 0, if_absent=True)
            with suppress(FileNotFoundError):
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    former = self._lock_file()
                    if self._is_in_place():
                        _overwrite(self._file, json.dumps(asdict(holder)).encode())
                        return former
                except BaseException:
                    self._close()
                    raise
                self._close()  # somebody removed it meanwhile: there is a new one, or none

    def release(self, _: Holder) -> None:
        """Let go of it; the file stays, and says nothing."""
        if self._is_in_place():
            _overwrite(self._file, b"")
        self._close()

    @property
    def _path(self) -> str:
        assert isinstance(self._driver, HasLocalPath)  # noqa: S101 - for the type checker
        return self._driver.local_path(self._key)

    def _lock_file(self) -> Holder | None:
        content = os.pread(self._file, _LIMIT, 0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(Holder.parse(content), self._driver, self._key, self._remedy) from None
        former = Holder.parse(os.pread(self._file, _LIMIT, 0))
        if former is not None and not former.is_here:
            raise _locked(former, self._driver, self._key, self._remedy)
        return former

    def _is_in_place(self) -> bool:
        """Tell whether the file is still the one that its path names: `remove_lock` takes it away from under us."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1


class _ObjectLock:
    """An object that is created only if absent."""

    def __init__(self, driver: Driver, key: str, remedy: str) -> None:
        self._driver = driver
        self._key = key
        self._remedy = remedy

    def take(self, holder: Holder) -> Holder | None:
        """Take it, and return the dead holder that it was taken from."""
        data = json.dumps(asdict(holder)).encode()
        former = None
        try:
            self._driver.write(self._key, data, len(data), if_absent=True)
        except AlreadyExists:
            former = _read_holder(self._driver, self._key)
            if former is None or not former.is_here or former.is_alive:
                raise _locked(former, self._driver, self._key, self._remedy) from None
            self._driver.write(self._key, data, len(data))
        if _read_holder(self._driver, self._key) != holder:
            raise _locked(_read_holder(self._driver, self._key), self._driver, self._key, self._remedy)
        return former

    def release(self, holder: Holder) -> None:
        """Remove it, if it is still ours."""
        if _read_holder(self._driver, self._key) == holder:
            list(self._driver.delete([self._key]))


def _overwrite(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
    os.fsync(descriptor)


def _read(driver: ReadDriver, key: str) -> bytes:
    try:
        return driver.read(key)
    except TooLarge:
        return b"no lock of ours"


def _read_holder(driver: ReadDriver, key: str) -> Holder | None:
    try:
        return Holder.parse(_read(driver, key))
    except NotFound:
        return None


def _locked(holder: Holder | None, driver: ReadDriver, key: str, remedy: str) -> LockedError:
    where = f"{driver.location.rstrip('/')}/{key}"
    if_dead = f"if that run is dead, {remedy or f'remove {where}'} and try again"
    if holder is None:
        return LockedError(f"another run holds the lock {where}", hint=f"wait for it to end; {if_dead}")
    if holder.is_here:
        return LockedError(f"locked by {holder}", hint=f"wait for it to end; the lock is {where}")
    return LockedError(
        f"locked by {holder}, another host, where this one cannot see whether it still runs", hint=if_dead
    )

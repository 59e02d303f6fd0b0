"""One run at a time per registry: a lock beside its tree.

On a file system it is a `flock` on `regstore/lock`, which dies with its holder; on an object store an object that is
created only if absent. The file says who holds it. A holder on this host that is dead is no obstacle; one on another
host is named and never broken, since nobody here can tell whether it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

from regstore.errors import LockedError
from regstore.layout import HOME
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore_drivers.base import Driver, ReadDriver

LOCK = f"{HOME}lock"


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
def hold_lock(driver: Driver, command: str) -> Iterator[tuple[float, Holder | None]]:
    """Hold the lock of a registry.

    Yields:
        The storage's time at which it was taken (seconds since the epoch), and the dead holder it was taken from, if
        any.

    Raises:
        LockedError: another run holds it.
        DriverError: the lock cannot be written.
    """
    holder = Holder.this_process(command)
    if isinstance(driver, HasLocalPath):
        with _hold_file(driver, driver.local_path(LOCK), holder) as dead:
            yield driver.stat(LOCK).newest, dead
        return
    now, dead = _take_object(driver, holder)
    try:
        yield now, dead
    finally:
        if _read_holder(driver) == holder:
            list(driver.delete([LOCK]))


def current_holder(driver: ReadDriver) -> Holder | None:
    """Return who holds the lock, or None when nobody living does, as far as can be told."""
    holder = _read_holder(driver)
    return None if holder is None or (holder.is_here and not holder.is_alive) else holder


@contextmanager
def _hold_file(driver: Driver, path: str, holder: Holder) -> Iterator[Holder | None]:
    with suppress(AlreadyExists):
        driver.write(LOCK, b"", 0, if_absent=True)
    with open(path, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(Holder.parse(file.read()), driver) from None
        former = Holder.parse(file.read())
        if former is not None and not former.is_here:
            raise _locked(former, driver)
        _overwrite(file.fileno(), json.dumps(asdict(holder)).encode())
        try:
            yield former
        finally:
            _overwrite(file.fileno(), b"")


def _overwrite(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
    os.fsync(descriptor)


def _take_object(driver: Driver, holder: Holder) -> tuple[float, Holder | None]:
    data = json.dumps(asdict(holder)).encode()
    former = None
    try:
        driver.write(LOCK, data, len(data), if_absent=True)
    except AlreadyExists:
        former = _read_holder(driver)
        if former is None or not former.is_here or former.is_alive:
            raise _locked(former, driver) from None
        driver.write(LOCK, data, len(data))
    if _read_holder(driver) != holder:
        raise _locked(_read_holder(driver), driver)
    return driver.stat(LOCK).newest + clock_resolution(driver), former


def _read_holder(driver: ReadDriver) -> Holder | None:
    try:
        return Holder.parse(driver.read(LOCK))
    except NotFound:
        return None


def _locked(holder: Holder | None, driver: ReadDriver) -> LockedError:
    where = f"{driver.location.rstrip('/')}/{LOCK}"
    if holder is None:
        return LockedError(f"another run holds the lock {where}", hint="wait for it; gc status shows runs")
    if holder.is_here:
        return LockedError(f"locked by {holder}", hint=f"wait for it to end; the lock is {where}")
    return LockedError(
        f"locked by {holder}, another host, where this one cannot see whether it still runs",
        hint=f"if that run is dead, remove {where} and try again",
    )

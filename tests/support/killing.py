"""Deaths at any chosen change of the file system."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Generator
from typing import Any

from support.collection import Volume

CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.utime", "os.link"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_at(number: int, act: Callable[[], object]) -> bool:
    """Do something in a child that is gone, as by SIGKILL, just before its n-th change of the file system.

    Changes are what Python's audit events tell (opening for writing, renaming, removing, ...) and every fsync, before
    which a rename that Python has no function for has happened. Return False when it ended before.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1
            if count == number:
                os._exit(9)

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
                step()

        fsync = os.fsync

        def fsync_or_die(descriptor: int) -> None:
            step()
            fsync(descriptor)

        sys.addaudithook(audit)
        os.fsync = fsync_or_die
        try:
            act()
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


def copies(volume: Volume) -> Generator[Volume]:
    """Copy a volume, again and again; each copy is gone when the next is asked for."""
    for number in itertools.count():
        workdir = volume.root.parent / f"copy-{number}"
        shutil.copytree(volume.root, workdir / "volume", symlinks=True)
        yield Volume(workdir / "volume", workdir)
        shutil.rmtree(workdir)

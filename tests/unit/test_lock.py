"""One run at a time: a lock on a file, and one that is an object."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from regstore import gc
from regstore.errors import InterruptedRunError, LockedError
from regstore.lock import LOCK, Holder, clock_resolution, current_holder, hold_lock, remove_lock
from regstore.registry import Registry
from regstore.work import Cancel
from regstore_drivers.base import READ_LIMIT_BYTES, Driver, Entry
from regstore_drivers.errors import DriverError, Unavailable
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support.memory_registry import MemoryRegistry
from support.random_volumes import NOW

Make = Callable[[], Driver]

HOLDING = """
import sys
from regstore.lock import hold_lock
from regstore_drivers.filesystem import FilesystemDriver
with hold_lock(FilesystemDriver(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["file", "object"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    """A driver of either kind."""
    if request.param == "file":
        (tmp_path / "data").mkdir()
        return FilesystemDriver(str(tmp_path / "data"))
    return MemoryDriver(clock=lambda: NOW)


def hold(driver: Driver, holder: Holder | bytes) -> None:
    """Leave a lock behind."""
    data = holder if isinstance(holder, bytes) else json.dumps(asdict(holder)).encode()
    driver.write(LOCK, data, len(data))


def dead_holder() -> Holder:
    """Describe a process of this host that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Holder(socket.gethostname(), process.pid, 1.0, "gc run", "token")


@contextmanager
def another_process(root: Path, command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has taken the lock, and gives it back at the end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(root), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


def end(process: subprocess.Popen[str]) -> None:
    """Let it give the lock back."""
    process.communicate()
    assert process.returncode == 0


class Meddled(FilesystemDriver):
    """Something happens to the lock between its opening and the look whether it still is the one at its path."""

    def __init__(self, root: Path, meddle: Callable[[], object]) -> None:
        super().__init__(str(root))
        self._steps: Iterator[Callable[[], object]] = iter([lambda: None, meddle])

    def local_path(self, key: str) -> str:
        next(self._steps, lambda: None)()
        return super().local_path(key)


def test_a_free_lock_is_taken_and_given_back(driver: Driver) -> None:
    assert current_holder(driver) is None

    with hold_lock(driver, "gc run") as (now, dead):
        assert dead is None
        assert now >= driver.stat(LOCK).newest
        holder = current_holder(driver)
        assert holder is not None
        assert (holder.host, holder.pid, holder.command) == (socket.gethostname(), os.getpid(), "gc run")
        assert holder.is_here
        assert holder.is_alive

    assert current_holder(driver) is None
    with hold_lock(driver, "gc undo") as (_, dead):
        assert dead is None


def test_a_held_lock_names_its_holder(driver: Driver) -> None:
    with hold_lock(driver, "gc run"):
        with pytest.raises(LockedError) as caught, hold_lock(driver, "gc purge"):
            pytest.fail("taken twice")

        assert f"gc run (pid {os.getpid()} on {socket.gethostname()})" in str(caught.value)
        assert caught.value.exit_code == 5
        assert LOCK in caught.value.hint
        assert current_holder(driver) is not None


def test_an_error_inside_gives_it_back(driver: Driver) -> None:
    with pytest.raises(KeyError), hold_lock(driver, "gc run"):
        raise KeyError

    assert current_holder(driver) is None


def test_a_dead_holders_lock_is_no_obstacle_and_is_mentioned(driver: Driver) -> None:
    holder = dead_holder()
    hold(driver, holder)
    assert current_holder(driver) is None

    with hold_lock(driver, "gc run") as (_, dead):
        assert dead == holder
        now = current_holder(driver)
        assert now is not None
        assert now.pid == os.getpid()
    with hold_lock(driver, "gc run") as (_, dead):
        assert dead is None


def test_a_process_with_the_dead_ones_number_is_not_taken_for_it(driver: Driver) -> None:
    holder = replace(Holder.this_process("gc run"), started_at=psutil.Process().create_time() - 1000)
    hold(driver, holder)

    assert not holder.is_alive
    with hold_lock(driver, "gc run") as (_, dead):
        assert dead == holder


def test_a_holder_on_another_host_is_named_and_never_broken(driver: Driver) -> None:
    hold(driver, replace(dead_holder(), host="elsewhere"))
    data = driver.read(LOCK)

    with pytest.raises(LockedError, match="on elsewhere") as caught, hold_lock(driver, "gc run"):
        pytest.fail("broken")

    assert "remove" in caught.value.hint
    assert LOCK in caught.value.hint
    assert driver.read(LOCK) == data
    assert current_holder(driver) is not None


CONTENTS = [b"nonsense", b"[]", b"null", b'{"host": "x"}', b"\xff", b"7"]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_lock_that_says_nothing(driver: Driver, content: bytes) -> None:
    """On a file system nobody holds it, since there is no flock; an object may be a newer version's."""
    hold(driver, content)

    if isinstance(driver, FilesystemDriver):
        with hold_lock(driver, "gc run") as (_, dead):
            assert dead is None
    else:
        with pytest.raises(LockedError, match="another run holds the lock"), hold_lock(driver, "gc run"):
            pytest.fail("broken")
        assert driver.read(LOCK) == content
    assert Holder.parse(content) is None


def test_the_file_is_locked_by_the_kernel(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    with hold_lock(driver, "gc run"):
        pass
    with open(tmp_path / LOCK, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LockedError), hold_lock(driver, "gc run"):
            pytest.fail("taken twice")
    with hold_lock(driver, "gc run"):
        pass


def test_a_lost_race_for_an_object_is_noticed() -> None:
    memory = MemoryDriver(clock=lambda: NOW)
    faulty = Faulty(memory)
    rival = replace(Holder.this_process("gc run"), host="elsewhere")
    hold(memory, dead_holder())
    faulty.call_after("write", LOCK, lambda: hold(memory, rival), nth=2)  # the first one finds the dead holder's

    with pytest.raises(LockedError, match="on elsewhere"), hold_lock(faulty, "gc run"):
        pytest.fail("both hold it")
    assert current_holder(memory) == rival


def test_somebody_elses_lock_is_not_removed_at_the_end() -> None:
    memory = MemoryDriver(clock=lambda: NOW)
    rival = replace(Holder.this_process("gc run"), host="elsewhere")
    with hold_lock(memory, "gc run"):
        hold(memory, rival)

    assert current_holder(memory) == rival


def test_a_lock_that_cannot_be_written_is_a_storage_error() -> None:
    faulty = Faulty(MemoryDriver())
    faulty.fail("write", LOCK, Unavailable)

    with pytest.raises(Unavailable), hold_lock(faulty, "gc run"):
        pytest.fail("taken")


def test_the_time_is_the_storages(tmp_path: Path) -> None:
    memory = MemoryDriver(clock=lambda: NOW)
    with hold_lock(memory, "gc run") as (now, _):
        # An object store cuts its times to whole seconds: what was written just before must not be in the future.
        assert now == NOW + clock_resolution(memory) == NOW + 1
    files = FilesystemDriver(str(tmp_path))
    with hold_lock(files, "gc run") as (now, _):
        assert now == files.stat(LOCK).newest
        assert clock_resolution(files) == 0


def test_everything_that_writes_takes_the_lock_and_what_reads_does_not() -> None:
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    plan = bench.plan()
    registry: Registry = bench.registry

    with hold_lock(bench.memory, "fsck --repair"):
        before = bench.everything
        for call in (
            bench.collect,
            lambda: bench.apply(plan),
            bench.undo,
            lambda: gc.purge(registry, 0.0, state=bench.state),
        ):
            with pytest.raises(LockedError, match="fsck --repair"):
                call()
        assert bench.plan().actions == []
        status = gc.read_status(registry)
        assert status.holder is not None
        assert status.holder.command == "fsck --repair"
        assert bench.everything == before


def test_a_run_tells_of_the_dead_one() -> None:
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    holder = dead_holder()
    hold(bench.memory, holder)

    assert bench.collect().dead_holder == holder
    assert bench.collect().dead_holder is None
    hold(bench.memory, holder)
    assert bench.apply(bench.plan()).dead_holder == holder


def test_a_lock_of_another_key_is_another_lock(driver: Driver) -> None:
    with hold_lock(driver, "backup create", key="lock"), hold_lock(driver, "gc run"):
        assert Holder.parse(driver.read("lock")).command == "backup create"  # type: ignore[union-attr]

        with pytest.raises(LockedError, match="locked by backup create"), hold_lock(driver, "x", key="lock"):
            pass


def test_what_can_be_done_about_a_lock_is_said_as_the_caller_wants(driver: Driver) -> None:
    hold(driver, replace(dead_holder(), host="elsewhere"))

    with pytest.raises(LockedError) as caught, hold_lock(driver, "x", remedy="regstore backup unlock STORE"):
        pass

    assert "regstore backup unlock STORE" in caught.value.hint
    assert "remove" not in caught.value.hint


@pytest.mark.parametrize("content", [b"nonsense", bytes(READ_LIMIT_BYTES + 1)], ids=["unknown", "huge"])
@pytest.mark.parametrize(("remedy", "expected"), [("", LOCK), ("run regstore backup unlock", "backup unlock")])
def test_a_lock_that_cannot_be_understood_comes_with_a_way_out(remedy: str, expected: str, content: bytes) -> None:
    driver = MemoryDriver()
    hold(driver, content)

    with pytest.raises(LockedError) as caught, hold_lock(driver, "x", remedy=remedy):
        pytest.fail("broken")

    assert expected in caught.value.hint


def test_a_lock_is_waited_for(driver: Driver) -> None:
    taken, released = threading.Event(), threading.Event()

    def hold_for_a_while() -> None:
        with hold_lock(driver, "first"):
            taken.set()
            released.wait(0.7)

    thread = threading.Thread(target=hold_for_a_while)
    thread.start()
    taken.wait()
    with pytest.raises(LockedError), hold_lock(driver, "second", wait_seconds=0.1):
        pass
    with hold_lock(driver, "third", wait_seconds=30) as (_, dead):
        assert dead is None
    thread.join()


def test_waiting_for_a_lock_ends_when_asked_to(driver: Driver) -> None:
    cancel = Cancel()
    cancel.request()

    with (
        hold_lock(driver, "first"),
        pytest.raises(InterruptedRunError),
        hold_lock(driver, "second", wait_seconds=30, cancel=cancel),
    ):
        pass


@pytest.mark.parametrize(
    "content", [b"nonsense", bytes(READ_LIMIT_BYTES + 1), None], ids=["unknown", "huge", "another host"]
)
def test_any_lock_can_be_removed(driver: Driver, content: bytes | None) -> None:
    holder = replace(dead_holder(), host="elsewhere")
    hold(driver, content or holder)

    assert remove_lock(driver, LOCK) == (True, None if content else holder)

    with hold_lock(driver, "gc run") as (_, dead):
        assert dead is None
    assert remove_lock(driver, LOCK) == (False, None)


def test_a_removed_lock_is_not_given_back_by_its_former_holder(driver: Driver) -> None:
    with hold_lock(driver, "first"):
        assert remove_lock(driver, LOCK)[0]
        second = hold_lock(driver, "second")
        second.__enter__()

    assert Holder.parse(driver.read(LOCK)).command == "second"  # type: ignore[union-attr]
    second.__exit__(None, None, None)
    assert current_holder(driver) is None


def test_a_lock_removed_while_a_process_holds_it_is_free_for_the_next(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    with another_process(tmp_path, "first") as first:
        is_removed, holder = remove_lock(driver, LOCK)
        assert is_removed
        assert holder is not None
        assert (holder.command, holder.pid) == ("first", first.pid)
        assert remove_lock(driver, LOCK) == (False, None)

        with another_process(tmp_path, "second") as second:
            content = driver.read(LOCK)
            end(first)

            assert driver.read(LOCK) == content
            with pytest.raises(LockedError, match=f"locked by second .pid {second.pid} "), hold_lock(driver, "third"):
                pytest.fail("the first one gave back what is not its own")
            end(second)

    with hold_lock(driver, "third") as (_, dead):
        assert dead is None


def test_a_process_that_ends_is_waited_for_and_one_that_was_killed_is_mentioned(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    with another_process(tmp_path, "first") as first:
        timer = threading.Timer(0.3, end, [first])
        timer.start()
        with hold_lock(driver, "second", wait_seconds=60) as (_, dead):
            assert dead is None
        timer.join()
    with another_process(tmp_path, "killed") as killed:
        killed.kill()
        with hold_lock(driver, "third", wait_seconds=60) as (_, dead):
            assert dead is not None
            assert dead.pid == killed.pid


def test_a_file_that_is_removed_before_it_is_locked_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    meddled = Meddled(tmp_path, lambda: os.unlink(tmp_path / LOCK))

    with hold_lock(meddled, "first"):
        holder = current_holder(meddled)
        assert holder is not None
        assert holder.command == "first"
        with pytest.raises(LockedError, match="locked by first"), hold_lock(meddled, "second"):
            pytest.fail("taken twice")


def test_a_lock_that_another_took_instead_is_not_taken_from_it(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def replace_lock() -> None:
            os.unlink(tmp_path / LOCK)
            stack.enter_context(another_process(tmp_path, "rival"))

        with pytest.raises(LockedError, match="locked by rival"), hold_lock(Meddled(tmp_path, replace_lock), "first"):
            pytest.fail("both hold it")


def test_a_lock_that_cannot_be_removed_is_a_storage_error() -> None:
    faulty = Faulty(MemoryDriver())
    hold(faulty, b"nonsense")
    faulty.fail_key(LOCK, "not allowed")

    with pytest.raises(DriverError, match="not allowed"):
        remove_lock(faulty, LOCK)


def test_a_lock_that_cannot_be_looked_at_is_given_back(driver: Driver) -> None:
    class Blind(type(driver)):  # type: ignore[misc]
        def stat(self, key: str) -> Entry:
            raise Unavailable("no", operation="stat", key=key)

    blind = object.__new__(Blind)
    blind.__dict__ = driver.__dict__
    with pytest.raises(Unavailable), hold_lock(blind, "first"):
        pass

    with hold_lock(driver, "second") as (_, dead):
        assert dead is None

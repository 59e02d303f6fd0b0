"""What survives a crash: the order of system calls, what a killed write leaves, and what replaces missing calls."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regstore_drivers import rename
from regstore_drivers.errors import AlreadyExists, DriverError, NotFound
from regstore_drivers.filesystem import FilesystemDriver

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def driver(tmp_path: Path) -> FilesystemDriver:
    return FilesystemDriver(str(tmp_path))


def put(driver: FilesystemDriver, *keys: str, content: bytes = b"content") -> None:
    for key in keys:
        driver.write(key, content, len(content))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The system calls that make things durable or visible, as they are made; temporary files are called `*`."""
    made: list[str] = []
    fsync, mkdir, unlink = os.fsync, os.mkdir, os.unlink
    renames: dict[str, Callable[[str, str], None]] = {"rename": os.rename, "link": os.link}

    def name(path: str) -> str:
        relative = os.path.relpath(path, tmp_path)
        return os.path.join(os.path.dirname(relative), "*") if relative.endswith(".regstore-tmp") else relative

    def record_fsync(descriptor: int) -> None:
        made.append(f"fsync {name(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def record_rename(verb: str, source: str, target: str, **options: bool) -> None:
        made.append(f"{verb} {name(source)} {name(target)}")
        renames[verb](source, target, **options)

    def record_mkdir(path: str) -> None:
        made.append(f"mkdir {name(path)}")
        mkdir(path)

    def record_unlink(path: str) -> None:
        made.append(f"unlink {name(path)}")
        unlink(path)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "mkdir", record_mkdir)
    monkeypatch.setattr(os, "unlink", record_unlink)
    for verb in renames:
        monkeypatch.setattr(os, verb, lambda *names, verb=verb, **options: record_rename(verb, *names, **options))
    return made


@pytest.fixture
def no_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel or file system without RENAME_NOREPLACE."""

    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(rename, "_renameat2", refuse)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch, no_renameat2: None) -> None:
    """A file system without hard links either."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


class TestOrder:
    def test_a_write_is_durable_before_it_is_visible(self, driver: FilesystemDriver, calls: list[str]) -> None:
        put(driver, "a/b")
        assert calls == ["mkdir a", "fsync .", "fsync a/*", "rename a/* a/b", "fsync a"]
        calls.clear()
        put(driver, "a/b")
        assert calls == ["fsync a/*", "rename a/* a/b", "fsync a"]

    def test_new_directories_are_durable_from_the_top(self, driver: FilesystemDriver, calls: list[str]) -> None:
        put(driver, "a/b/c/d")
        assert calls[:6] == ["mkdir a", "fsync .", "mkdir a/b", "fsync a", "mkdir a/b/c", "fsync a/b"]

    @pytest.mark.usefixtures("no_renameat2")
    def test_a_write_of_what_is_absent_too(self, driver: FilesystemDriver, calls: list[str]) -> None:
        driver.write("a", b"content", 7, if_absent=True)
        assert calls == ["fsync *", "link * a", "unlink *", "fsync ."]

    def test_a_copy_too(self, driver: FilesystemDriver, calls: list[str]) -> None:
        put(driver, "a", "d/b")
        calls.clear()
        driver.copy("a", "d/b")
        assert calls == ["fsync d/*", "rename d/* d/b", "fsync d"]

    def test_a_move_makes_both_directories_durable(self, driver: FilesystemDriver, calls: list[str]) -> None:
        put(driver, "d/a", "e/x")
        calls.clear()
        driver.move("d/a", "e/b")
        assert calls == ["fsync e", "fsync d"]
        assert driver.read("e/b") == b"content"

    def test_a_deletion_makes_each_directory_durable_once(self, driver: FilesystemDriver, calls: list[str]) -> None:
        put(driver, "d/a", "d/b", "e/c")
        calls.clear()
        assert len([*driver.delete(["d/a", "e/c", "d/b", "f/x"])]) == 4
        unlinked = ["unlink d/a", "unlink e/c", "unlink d/b", "unlink f/x"]
        assert calls[:4] == unlinked
        assert sorted(calls[4:]) == ["fsync d", "fsync e"]

    @pytest.mark.parametrize(
        "call",
        [lambda driver: driver.write("b", b"new", 3), lambda driver: driver.copy("a", "b")],
        ids=["write", "copy"],
    )
    def test_what_cannot_be_made_durable_is_not_stored(
        self,
        driver: FilesystemDriver,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: Callable[[FilesystemDriver], object],
    ) -> None:
        put(driver, "a", "b", content=b"former")

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DriverError, match="Input/output error"):
            call(driver)
        assert driver.read("b") == b"former"
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_a_full_disk_leaves_the_former_object(
        self, driver: FilesystemDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(driver, "a", content=b"former")

        def fail(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(DriverError, match="No space left"):
            driver.write("a", CONTENT, len(CONTENT))
        assert driver.read("a") == b"former"
        assert os.listdir(tmp_path) == ["a"]


class TestKill:
    @pytest.mark.parametrize(
        ("victim", "call"),
        [
            ("os.rename", "driver.write('d/a', b'new', 3)"),
            ("os.fsync", "driver.write('d/a', b'new', 3)"),
            ("os.rename", "driver.copy('b', 'd/a')"),
            ("os.utime", "driver.copy('b', 'd/a')"),
        ],
    )
    def test_a_killed_write_leaves_the_former_object(
        self, driver: FilesystemDriver, tmp_path: Path, victim: str, call: str
    ) -> None:
        put(driver, "d/a", "b", content=b"former")
        program = (
            "import os, signal, sys\n"
            "from regstore_drivers.filesystem import FilesystemDriver\n"
            "driver = FilesystemDriver(sys.argv[1])\n"
            f"{victim} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"{call}\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert len(os.listdir(tmp_path / "d")) == 2, "it was killed too early to leave a temporary file"
        assert driver.read("d/a") == b"former"
        assert [entry.key for entry in driver.list("")] == ["b", "d/a"]
        assert [entry.key for entry in driver.list("d/.")] == []
        assert [*driver.list_dir("d/")] == ["a"]
        put(driver, "d/a", content=b"new")
        assert driver.read("d/a") == b"new"


class TestRename:
    @pytest.fixture(params=["renameat2", "links", "neither"], autouse=True)
    def way(self, request: pytest.FixtureRequest) -> str:
        """How the file system lets a file be renamed without overwriting another."""
        if request.param == "links":
            request.getfixturevalue("no_renameat2")
        elif request.param == "neither":
            request.getfixturevalue("no_links")
        name: str = request.param
        return name

    def test_a_file_gets_another_name(self, driver: FilesystemDriver, tmp_path: Path) -> None:
        put(driver, "a")
        inode = (tmp_path / "a").stat().st_ino
        driver.move("a", "d/b")
        assert (tmp_path / "d/b").stat().st_ino == inode
        assert (tmp_path / "d/b").stat().st_nlink == 1
        assert not (tmp_path / "a").exists()

    def test_nothing_is_overwritten(self, driver: FilesystemDriver, tmp_path: Path) -> None:
        put(driver, "a", "b")
        (tmp_path / "broken").symlink_to("nowhere")
        for target in ("a", "b", "broken"):
            with pytest.raises(AlreadyExists) as caught:
                driver.move("a", target)
            assert caught.value.key == target
        assert sorted(os.listdir(tmp_path)) == ["a", "b", "broken"]

    def test_what_is_absent_is_written(self, driver: FilesystemDriver, tmp_path: Path) -> None:
        driver.write("a", b"first", 5, if_absent=True)
        with pytest.raises(AlreadyExists):
            driver.write("a", b"second", 6, if_absent=True)
        assert driver.read("a") == b"first"
        assert os.listdir(tmp_path) == ["a"]

    def test_one_thread_of_several_wins(self, driver: FilesystemDriver, tmp_path: Path) -> None:
        barrier = threading.Barrier(8)

        def work(number: int) -> bool:
            barrier.wait(60)
            try:
                driver.write("a", bytes([number]), 1, if_absent=True)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [*pool.map(work, range(8))]
        assert sum(won) == 1
        assert driver.read("a") == bytes([won.index(True)])
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("no_renameat2")
def test_a_file_whose_first_name_stays_does_not_get_a_second(
    driver: FilesystemDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(driver, "a")
    unlink = os.unlink

    def refuse(path: str) -> None:
        if path.endswith("/a"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(DriverError):
        driver.move("a", "b")
    assert os.listdir(tmp_path) == ["a"]


class TestCopy:
    """The ways to copy content."""

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_it_goes_through_memory_where_the_kernel_cannot(
        self, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        put(driver, "a", content=CONTENT)

        def refuse(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "copy_file_range", refuse)
        assert driver.copy("a", "b").size == len(CONTENT)
        assert driver.read("b") == CONTENT

    def test_the_kernel_may_copy_in_pieces(self, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch) -> None:
        put(driver, "a", content=CONTENT)
        copy_file_range = os.copy_file_range
        monkeypatch.setattr(
            os, "copy_file_range", lambda source, target, count: copy_file_range(source, target, min(count, 70_000))
        )
        driver.copy("a", "b")
        assert driver.read("b") == CONTENT

    def test_a_failure_leaves_the_former_object(
        self, driver: FilesystemDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(driver, "a", content=CONTENT)
        put(driver, "b", content=b"former")

        def fail(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "copy_file_range", fail)
        with pytest.raises(DriverError, match="No space left"):
            driver.copy("a", "b")
        assert driver.read("b") == b"former"
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_a_source_that_became_shorter_is_no_copy(
        self, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(driver, "a", content=CONTENT)
        monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
        with pytest.raises(DriverError, match="shorter"):
            driver.copy("a", "b")
        with pytest.raises(NotFound):
            driver.stat("b")

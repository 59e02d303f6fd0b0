"""What the file system driver has beyond the contract: names, links, owners, modes and errors."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from regstore_drivers.errors import AlreadyExists, DriverError, ShortRead, Unreachable
from regstore_drivers.filesystem import FilesystemDriver, from_url
from regstore_drivers.url import open_driver

STRANGER = 1234 if os.geteuid() == 0 else os.geteuid()
"""The owner of a volume: not the one who runs the tests, where that is possible."""


REFUSED = {
    "list(driver.list(''))": "PermissionDenied list closed/",
    "list(driver.list('closed/'))": "PermissionDenied list closed/",
    "list(driver.list_dir('closed/'))": "PermissionDenied list_dir closed/",
    "driver.stat('closed/a')": "PermissionDenied stat closed/a",
    "driver.read('closed/a')": "PermissionDenied read closed/a",
    "driver.open('file')": "PermissionDenied open file",
    "driver.copy('file', 'new')": "PermissionDenied copy file",
    "driver.move('fixed/a', 'fixed/b')": "PermissionDenied move fixed/a",
    "driver.write('fixed/new', b'', 0)": "PermissionDenied write fixed/new",
    "driver.write('fixed/new/er', b'', 0)": "PermissionDenied write fixed/new/er",
    "driver.write('fixed/new', b'', 0, if_absent=True)": "PermissionDenied write fixed/new",
    "driver.remove_empty_directory('closed/')": "PermissionDenied remove_empty_directory closed/",
    "list(FilesystemDriver(driver.local_path('closed/root')).list(''))": "PermissionDenied list ",
    "list(driver.delete(['fixed/a', 'fixed/b']))": "failed absent",
}
"""Calls on what is closed to others, and what the program prints of each."""


@pytest.fixture
def driver(tmp_path: Path) -> FilesystemDriver:
    return FilesystemDriver(str(tmp_path))


def put(driver: FilesystemDriver, *keys: str, content: bytes = b"content") -> None:
    for key in keys:
        driver.write(key, content, len(content))


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_a_file_that_is_cut_off_while_it_is_copied(
    driver: FilesystemDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(driver, "link")

    def cut(*_: object) -> int:
        os.truncate(tmp_path / "link", 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", unsupported)
    monkeypatch.setattr(os, "copy_file_range", cut)
    with pytest.raises(ShortRead, match="became shorter"):
        driver.copy("link", "copy")

    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def unsupported(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "no shared extents here")


def test_what_dead_writes_left_does_not_keep_a_directory(driver: FilesystemDriver, tmp_path: Path) -> None:
    put(driver, "full/file")
    for name in ("dead", "full"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / ".0123.regstore-tmp").touch()

    assert driver.remove_empty_directory("dead/")
    assert not driver.remove_empty_directory("full/")
    assert not (tmp_path / "dead").exists()
    assert (tmp_path / "full/.0123.regstore-tmp").exists()


class TestOwners:
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Path:
        """A directory of somebody else's, with a mode that no umask makes."""
        path = tmp_path / "volume"
        path.mkdir()
        os.chown(path, STRANGER, STRANGER if os.geteuid() == 0 else -1)
        path.chmod(0o2775)
        return path

    def test_new_files_and_directories_are_like_the_directory(self, volume: Path, driver: FilesystemDriver) -> None:
        uid, gid, _ = owner_and_mode(volume)
        put(driver, "volume/a/b/c")
        for directory in ("a", "a/b"):
            assert owner_and_mode(volume / directory) == (uid, gid, 0o2775)
        assert owner_and_mode(volume / "a/b/c") == (uid, gid, 0o664)
        driver.copy("volume/a/b/c", "volume/d/e")
        driver.move("volume/a/b/c", "volume/f/g")
        for directory in ("d", "f"):
            assert owner_and_mode(volume / directory) == (uid, gid, 0o2775)

    def test_a_file_that_is_replaced_keeps_its_own(self, volume: Path, driver: FilesystemDriver) -> None:
        put(driver, "volume/a")
        os.chown(volume / "a", STRANGER + 1 if os.geteuid() == 0 else -1, -1)
        (volume / "a").chmod(0o640)
        before = owner_and_mode(volume / "a")
        put(driver, "volume/a", content=b"new")
        assert owner_and_mode(volume / "a") == before

    def test_copies_and_moved_files_keep_theirs(self, volume: Path, driver: FilesystemDriver) -> None:
        put(driver, "volume/a")
        (volume / "a").chmod(0o604)
        os.utime(volume / "a", ns=(10**18, 10**18 + 7))
        before = owner_and_mode(volume / "a")
        entry = driver.copy("volume/a", "b")
        driver.move("volume/a", "c")
        for path in (volume.parent / "b", volume.parent / "c"):
            assert owner_and_mode(path) == before
            assert path.stat().st_mtime_ns == 10**18 + 7
        assert entry.mtime == 1e9


class TestRefusals:
    """As a user who is not root, in a process of its own: it gives the right up for good."""

    @pytest.fixture
    def volume(self) -> Iterator[Path]:
        """A directory below which everybody may look; those of pytest are closed to others."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            path.chmod(0o755)
            (path / "closed").mkdir()
            (path / "closed/a").write_bytes(b"a")
            (path / "closed").chmod(0o000)
            (path / "fixed").mkdir()
            (path / "fixed/a").write_bytes(b"a")
            (path / "fixed").chmod(0o555)
            (path / "file").write_bytes(b"a")
            (path / "file").chmod(0o000)
            yield path
            (path / "closed").chmod(0o755)
            (path / "fixed").chmod(0o755)

    def test_they_are_told_from_absence(self, volume: Path) -> None:
        program = """if True:
            import os, sys
            from regstore_drivers.errors import DriverError
            from regstore_drivers.filesystem import FilesystemDriver

            driver = FilesystemDriver(sys.argv[1])
            os.geteuid() or os.setuid(65534)
            for call in sys.argv[2:]:
                try:
                    print(*(outcome.outcome for outcome in eval(call)))
                except DriverError as error:
                    print(type(error).__name__, error.operation, error.key)
        """
        arguments = [sys.executable, "-c", program, str(volume), *REFUSED]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
        assert dict(zip(REFUSED, done.stdout.splitlines(), strict=True)) == REFUSED


class TestListing:
    def test_links_and_special_files_are_not_listed(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        put(driver, "d/a", "e/b")
        (tmp_path / "d/link").symlink_to("a")
        (tmp_path / "d/loop").symlink_to("..")
        (tmp_path / "d/broken").symlink_to("nowhere")
        os.mkfifo(tmp_path / "d/pipe")
        assert [entry.key for entry in driver.list("")] == ["d/a", "e/b"]
        assert [*driver.list_dir("d/")] == ["a"]

    def test_keys_lead_through_links(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        put(driver, "real/a")
        (tmp_path / "link").symlink_to("real")
        assert driver.read("link/a") == b"content"
        assert driver.stat("link/a").size == 7
        assert [entry.key for entry in driver.list("link/")] == ["link/a"]
        put(driver, "link/b")
        assert [*driver.list_dir("real/")] == ["a", "b"]

    def test_empty_directories_hold_no_objects(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        assert [*driver.list("")] == []
        assert [*driver.list_dir("a/")] == ["b/"]

    def test_what_vanishes_during_the_walk_is_left_out(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        put(driver, "d/1", "d/2", "d/3/x", "d/4")
        listing = driver.list("")
        assert next(listing).key == "d/1"
        (tmp_path / "d/2").unlink()
        (tmp_path / "d/3/x").unlink()
        (tmp_path / "d/3").rmdir()
        assert [entry.key for entry in listing] == ["d/4"]

    def test_names_need_not_be_text(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        names = [b"a\x80", b"a\xc3\xa9", b"a\xef\xbf\xbd", b"a\xff"]
        for name in names:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
        keys = [entry.key for entry in driver.list("")]
        assert [os.fsencode(key) for key in keys] == names
        assert [driver.read(key) for key in keys] == names
        assert [entry.key for entry in driver.list("", keys[1])] == keys[2:]
        assert [*driver.list_dir("")] == keys
        driver.move(keys[0], keys[0] + "\udcfe")
        assert (tmp_path / os.fsdecode(b"a\x80\xfe")).read_bytes() == names[0]

    def test_names_may_be_as_long_as_the_file_system_allows(self, driver: FilesystemDriver) -> None:
        longest = 63 * "\N{GRINNING FACE}"
        put(driver, longest)
        driver.copy(longest, "x" * 255)
        assert [entry.key for entry in driver.list("")] == ["x" * 255, longest]
        with pytest.raises(DriverError):
            put(driver, "x" * 256)

    @pytest.mark.parametrize("root", ["missing", "file", "file/below"])
    def test_a_root_that_is_gone_is_no_empty_one(self, tmp_path: Path, root: str) -> None:
        (tmp_path / "file").touch()
        driver = FilesystemDriver(str(tmp_path / root))
        for prefix in ("", "a/"):
            with pytest.raises(Unreachable):
                next(driver.list(prefix))
            with pytest.raises(Unreachable):
                next(driver.list_dir(prefix))


class TestStreams:
    def test_a_file_that_became_shorter_is_an_error(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        put(driver, "a", content=bytes(3_000_000))
        with driver.open("a") as stream:
            assert len(stream.read(10)) == 10
            os.truncate(tmp_path / "a", 2_000_000)
            with pytest.raises(ShortRead) as caught:
                stream.read()
        assert caught.value.retryable
        assert caught.value.key == "a"

    def test_a_file_that_is_replaced_is_read_to_its_own_end(self, driver: FilesystemDriver) -> None:
        put(driver, "a", content=3_000_000 * b"1")
        with driver.open("a") as stream:
            assert stream.read(1) == b"1"
            put(driver, "a", content=3_000_000 * b"2")
            assert set(stream.read()) == {ord("1")}


class TestConflicts:
    """A file where a key needs a directory, and the other way round."""

    def test_a_file_is_no_directory(self, driver: FilesystemDriver) -> None:
        put(driver, "a", "b")
        for key in ("a/x", "a/x/y"):
            for call in (
                lambda key=key: driver.write(key, b"", 0),
                lambda key=key: driver.copy("b", key),
                lambda key=key: driver.move("b", key),
            ):
                with pytest.raises(DriverError) as caught:
                    call()
                assert type(caught.value) is DriverError, "the source is there"
                assert caught.value.key == key
        assert [entry.key for entry in driver.list("")] == ["a", "b"]

    def test_a_directory_is_not_replaced(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        put(driver, "b")
        (tmp_path / "a").mkdir()
        for call in (
            lambda: driver.write("a", b"", 0),
            lambda: driver.write("a", b"", 0, if_absent=True),
            lambda: driver.copy("b", "a"),
            lambda: driver.move("b", "a"),
        ):
            with pytest.raises(AlreadyExists):
                call()
        assert (tmp_path / "a").is_dir()
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_deleting_a_directory_fails(self, tmp_path: Path, driver: FilesystemDriver) -> None:
        (tmp_path / "a").mkdir()
        (outcome,) = driver.delete(["a"])
        assert outcome.outcome == "failed"
        assert (tmp_path / "a").is_dir()


class TestLocation:
    @pytest.mark.parametrize(
        "name", ["plain", "with space", "100%", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "\udcff"]
    )
    def test_it_is_a_url_of_the_root(self, tmp_path: Path, name: str) -> None:
        root = tmp_path / name
        root.mkdir()
        driver = FilesystemDriver(str(root))
        put(driver, "a")
        assert driver.location.isascii()
        for again in (from_url(driver.location), open_driver(driver.location), open_driver(str(root))):
            assert again.location == driver.location
            assert again.read("a") == b"content"

    def test_it_may_be_the_root_of_all(self) -> None:
        driver = FilesystemDriver("/")
        assert driver.location == "file:///"
        assert driver.local_path("etc/passwd") == "/etc/passwd"

    def test_a_host_may_be_this_one_only(self) -> None:
        assert from_url("file://localhost/tmp").location == "file:///tmp"
        for url in ("file://server/tmp", "file:tmp", "file://"):
            with pytest.raises(ValueError, match="file:///path"):
                from_url(url)

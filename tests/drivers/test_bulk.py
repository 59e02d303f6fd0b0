"""Many files written together: whole when they have their name, durable at one moment, and never half."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore_drivers import bulk
from regstore_drivers.bulk import SYNC_BYTES, Attributes, BulkWriter, remove_temporary_files, sync_file_system
from regstore_drivers.errors import AlreadyExists, DigestMismatch, DriverError, InvalidKey, NotFound
from support.programs import require_root

SMALL, LARGE = b"small", b"large" * SYNC_BYTES


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files(root: Path) -> dict[str, bytes]:
    """What has a name, and what has none yet."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def writer(tmp_path: Path) -> BulkWriter:
    (tmp_path / "root").mkdir()
    return BulkWriter(str(tmp_path / "root"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_a_small_file_has_its_name_after_the_flush(writer: BulkWriter, root: Path) -> None:
    writer.write("a/b/small", SMALL, len(SMALL), digest(SMALL))
    assert not (root / "a/b/small").exists()

    writer.flush()

    assert files(root) == {"a/b/small": SMALL}


def test_a_large_file_has_its_name_at_once(writer: BulkWriter, root: Path) -> None:
    writer.write("a/large", lambda: io.BytesIO(LARGE), len(LARGE), digest(LARGE), mtime_ns=10**18 + 7)

    assert files(root) == {"a/large": LARGE}
    assert os.stat(root / "a/large").st_mtime_ns == 10**18 + 7


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_everything_is_on_the_disk_before_it_has_its_name(
    writer: BulkWriter, root: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append((root / "file").exists())
        fsync(descriptor)

    monkeypatch.setattr(bulk, "sync_file_system", lambda _: seen.append((root / "file").exists()))
    monkeypatch.setattr(os, "fsync", watch)

    writer.write("file", content, len(content))
    writer.flush()

    assert seen[0] is False
    assert (root / "file").exists()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("former", [None, b"former"], ids=["new", "replacing"])
def test_other_bytes_than_promised_change_nothing(
    writer: BulkWriter, root: Path, content: bytes, former: bytes | None
) -> None:
    if former:
        (root / "file").write_bytes(former)
    before = files(root)
    for size, named in ((len(content), digest(b"other")), (len(content) - 1, None), (len(content) + 1, None)):
        with pytest.raises(DigestMismatch):
            writer.write("file", content, size, named)
    writer.flush()

    assert files(root) == before


def test_a_file_that_exists_can_be_left(writer: BulkWriter, root: Path) -> None:
    (root / "file").write_bytes(b"former")
    with pytest.raises(AlreadyExists):
        writer.write("file", SMALL, len(SMALL), if_absent=True)
    writer.write("later", SMALL, len(SMALL), if_absent=True)
    (root / "later").write_bytes(b"by another")

    writer.flush()

    assert files(root) == {"file": b"former", "later": b"by another"}


def test_what_is_discarded_leaves_nothing(writer: BulkWriter, root: Path) -> None:
    writer.write("a/file", SMALL, len(SMALL))
    writer.discard()
    writer.flush()

    assert files(root) == {}


def test_a_flush_that_fails_names_nothing_and_leaves_nothing(
    writer: BulkWriter, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer.write("a/one", SMALL, len(SMALL))
    writer.write("a/two", SMALL, len(SMALL))
    monkeypatch.setattr(bulk, "sync_file_system", fail)
    with pytest.raises(DriverError, match="Input/output error"):
        writer.flush()
    monkeypatch.undo()

    writer.flush()
    assert files(root) == {}


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_file_is_copied(
    writer: BulkWriter, root: Path, tmp_path: Path, content: bytes, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source: int, target: int) -> bool:
        os.sendfile(target, source, 0, len(content))
        return True

    (tmp_path / "source").write_bytes(content)
    if is_shared:  # as a file system that shares extents does
        monkeypatch.setattr(bulk, "clone_content", clone)
    counts: list[int] = []

    writer.copy_file("a/copy", str(tmp_path / "source"), len(content), digest(content), counts.append)
    writer.sync()

    assert files(root) == {"a/copy": content}
    assert sum(counts) == len(content)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.write_bytes(LARGE[:-1]), DigestMismatch),
        (lambda path: path.write_bytes(b"x" + LARGE[1:]), DigestMismatch),
        (lambda path: path.unlink(), NotFound),
        (lambda path: (path.unlink(), path.mkdir()), NotFound),
        (lambda path: (path.unlink(), os.mkfifo(path)), NotFound),
    ],
    ids=["cut", "rotten", "gone", "directory", "pipe"],
)
def test_a_file_that_is_not_what_it_should_be_is_not_copied(
    writer: BulkWriter, root: Path, tmp_path: Path, spoil: Callable[[Path], object], error: type[Exception]
) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    spoil(tmp_path / "source")

    with pytest.raises(error):
        writer.copy_file("copy", str(tmp_path / "source"), len(LARGE), digest(LARGE), lambda _: None)
    writer.flush()

    assert files(root) == {}


def test_a_copy_can_be_stopped_between_two_pieces(writer: BulkWriter, root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(5_000_000))

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.copy_file("copy", str(tmp_path / "source"), 5_000_000, digest(bytes(5_000_000)), stop)

    assert files(root) == {}


def test_owner_and_modes(tmp_path: Path) -> None:
    require_root("give files away")
    (tmp_path / "root").mkdir()
    writer = BulkWriter(str(tmp_path / "root"), Attributes(1234, 2345, 0o2750, 0o640))
    writer.write("a/b/small", SMALL, len(SMALL))
    writer.write("a/c/large", LARGE, len(LARGE))
    writer.sync()

    for path in (tmp_path / "root").rglob("*"):
        status = path.stat()
        mode = 0o2750 if path.is_dir() else 0o640
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, mode)


def test_without_attributes_the_umask_decides(writer: BulkWriter, root: Path) -> None:
    former = os.umask(0o027)
    try:
        writer.write("a/file", SMALL, len(SMALL))
        writer.sync()
    finally:
        os.umask(former)

    assert stat.S_IMODE((root / "a/file").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750


@pytest.mark.parametrize("key", ["", "/a", "a/../b", "a//b"])
def test_an_invalid_key_is_not_written(writer: BulkWriter, key: str) -> None:
    with pytest.raises(InvalidKey):
        writer.write(key, b"", 0)


def test_a_directory_that_is_a_file_is_an_error(writer: BulkWriter, root: Path) -> None:
    (root / "a").write_bytes(b"")

    with pytest.raises(DriverError):
        writer.write("a/b", SMALL, len(SMALL))


def test_syncing_a_file_system_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    sync_file_system(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_file_system(str(tmp_path / "absent"))


def test_what_dead_writes_left_is_removed_and_nothing_else(writer: BulkWriter, root: Path) -> None:
    writer.write("a/b/one", SMALL, len(SMALL))
    writer.write("a/two", SMALL, len(SMALL))
    (root / "kept").write_bytes(b"kept")
    assert len(files(root)) == 3

    assert remove_temporary_files(str(root)) == 2

    assert files(root) == {"kept": b"kept"}
    assert remove_temporary_files(str(root / "absent")) == 0

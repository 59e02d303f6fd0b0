"""Locations, command lines, listings and locks of a borg repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regstore.backup.borg.program import Program
from regstore.backup.borg.repository import ArchivedFile, Repository, iter_chunks
from regstore.errors import StorageFailedError, UsageError


def repository(location: str, program: str = "/bin/false") -> Repository:
    return Repository(location, b"", program=Program(program, (1, 4, 0)))


def answering(path: Path, script: str) -> Repository:
    """Return a repository whose borg runs a shell script."""
    (path / "repository").mkdir(exist_ok=True)
    program = path / "fake-borg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return repository(f"borg:{path}/repository", str(program))


@pytest.mark.parametrize(
    ("location", "place", "is_local"),
    [
        ("borg:/srv/backup/", "/srv/backup", True),
        ("borg:file:///srv/backup", "/srv/backup", True),
        ("borg:/srv/a:b", "/srv/a:b", True),
        ("borg:ssh://user@host:2222/./backup", "ssh://user@host:2222/./backup", False),
        ("borg:user@host:backup", "user@host:backup", False),
    ],
)
def test_places(location: str, place: str, is_local: bool) -> None:
    made = repository(location)

    assert made.place == place
    assert (made.local_path == place) is is_local
    assert made.location == location


def test_a_relative_place_does_not_follow_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert repository("borg:backup").place == f"{tmp_path}/backup"


def test_no_place_at_all() -> None:
    with pytest.raises(UsageError, match="names no repository"):
        repository("borg:")


def test_paths_fit_into_command_lines() -> None:
    paths = [f"{number:06}/{'x' * 110}" for number in range(20_000)]

    chunks = list(iter_chunks(paths))

    assert [path for chunk in chunks for path in chunk] == paths
    assert 1 < len(chunks) < 10
    assert all(sum(len(f"pf:{path}") + 1 for path in chunk) <= 512 * 1024 for chunk in chunks)
    assert list(iter_chunks([])) == []


def test_files_are_listed_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    rows = [{"path": "a", "size": 3, "healthy": True}, {"path": "b", "size": 4, "healthy": False}]
    (tmp_path / "rows").write_text("\n".join(map(json.dumps, rows)) + '\n{"path": "cut o')
    error = {"type": "log_message", "levelname": "ERROR", "msgid": "IntegrityError", "message": "bad chunk"}
    (tmp_path / "error").write_text(json.dumps(error))
    made = answering(tmp_path, f"cat {tmp_path}/rows; cat {tmp_path}/error >&2; exit 2")

    files, problem = made.list_files("one")

    assert files == {"a": ArchivedFile(3, True), "b": ArchivedFile(4, False)}
    assert problem == "bad chunk"


def test_a_listing_that_fails_otherwise_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailedError, match="ended with 3"):
        answering(tmp_path, "exit 3").list_files("one")


def test_holders_of_the_lock_are_told_as_far_as_files_tell(tmp_path: Path) -> None:
    made = answering(tmp_path, "exit 0")
    assert made.lock_holders() == []
    place = tmp_path / "repository"
    (place / "lock.exclusive").mkdir()
    (place / "lock.exclusive" / "some.host@1f.123-0").touch()
    (place / "lock.roster").write_text(json.dumps({"shared": [["other@2", 77, 0]]}))

    assert made.break_lock() == ["pid 123 on some.host@1f", "pid 77 on other@2"]

    (place / "lock.roster").write_text("not JSON")
    assert made.lock_holders() == ["pid 123 on some.host@1f"]


def test_a_repository_needs_its_parent_and_a_new_file_for_the_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        repository(f"borg:{tmp_path}/a/b").init(str(tmp_path / "key"))
    assert not (tmp_path / "key").exists()

    (tmp_path / "key").write_text("of another one")
    with pytest.raises(UsageError, match="File exists"):
        answering(tmp_path, "exit 0").init(str(tmp_path / "key"))
    assert (tmp_path / "key").read_text() == "of another one"


def test_a_key_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    """borg prints nothing: an empty file must not be taken for the key."""
    with pytest.raises(StorageFailedError, match="was made") as caught:
        answering(tmp_path, "exit 0").init(str(tmp_path / "key"))

    assert caught.value.code == "key-export"
    assert not (tmp_path / "key").exists()

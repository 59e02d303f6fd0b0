"""What former reports found."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from regstore.errors import StorageFailedError
from regstore.report.history import Entry, History


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History("file:///srv/registry", tmp_path / "state")


def test_before_the_first_report_there_is_nothing(history: History) -> None:
    assert history.entries() == []
    assert history.last_stored() is None
    assert not history.path.parent.exists()


def test_entries_come_oldest_first(history: History) -> None:
    history.add(Entry(2.0, {"stored_bytes": 20, "inode_count": None}), {"app": 20})
    history.add(Entry(1.0, {"stored_bytes": 10, "inode_count": 5}), {"app": 10, "web": 0})

    assert history.entries() == [
        Entry(1.0, {"stored_bytes": 10, "inode_count": 5}),
        Entry(2.0, {"stored_bytes": 20, "inode_count": None}),
    ]
    assert history.last_stored() == {"app": 10, "web": 0}


def test_each_location_has_its_own(tmp_path: Path) -> None:
    one, other = (History(f"s3://bucket/{name}", tmp_path) for name in ("a b", "a-b"))
    one.add(Entry(1.0, {}), {})

    assert other.entries() == []


@pytest.mark.parametrize("content", [b"no database at all, but long enough", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_one_is_told_and_kept(history: History, content: bytes) -> None:
    history.path.parent.mkdir()
    history.path.write_bytes(content)

    for call in (history.entries, history.last_stored, lambda: history.add(Entry(1.0, {}), {})):
        with pytest.raises(StorageFailedError, match=r"history.*cannot be used") as caught:
            call()
        assert "move the file away" in caught.value.hint
    assert history.path.read_bytes() == content


def test_one_of_a_later_version_is_told_and_kept(history: History) -> None:
    history.add(Entry(1.0, {}), {})
    database = sqlite3.connect(history.path)
    database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(StorageFailedError, match="version 99"):
        history.entries()

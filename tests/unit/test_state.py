"""What is remembered between runs, and that losing it is no error."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import state as state_module
from regstore.digest import Digest, parse_digest
from regstore.manifest import decode_manifest
from regstore.record import Record, record_of
from regstore.state import MARK, NOTHING_KNOWN, Known, State, open_state, parse_manifests, state_directory
from support import images
from support.examples import examples

LOCATION = "file:///srv/registry"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for databases, not made yet."""
    return tmp_path / "somewhere" / "state"


@pytest.fixture
def opened(directory: Path) -> Iterator[State]:
    """A database in a file."""
    state = open_state(LOCATION, directory)
    yield state
    state.close()


def records(*seeds: str) -> dict[Digest, Record]:
    """Make records of different manifests, with SHA-512 layers too."""
    made = {}
    for seed in seeds:
        layers = [images.descriptor(images.OCI_LAYER, seed.encode(), name) for name in ("sha256", "sha512")]
        data = images.image_manifest(images.descriptor(images.OCI_CONFIG, b"{}"), layers, "oci", seed=seed)
        made[parse_digest(images.digest_of(data))] = record_of(decode_manifest(data), len(data))
    return made


KNOWN = Known(
    frozenset({b"a" * 32, b"b" * 32}),
    frozenset({b"c" * 32}),
    {"latest": "63" * 32 + "63" * 32 + "64" * 32, "_layers": "63" * 64},
    MARK.pack(b"c" * 32, 7) + MARK.pack(b"a" * 32, -1),
)


def test_nothing_is_known_at_first(opened: State) -> None:
    assert opened.known_repository("app") == NOTHING_KNOWN
    assert opened.known_manifests("app") == {}
    assert opened.all_known_manifests() == {}


@pytest.mark.parametrize("is_committed", [True, False])
def test_what_is_remembered_is_known_at_once(opened: State, is_committed: bool) -> None:
    opened.remember_repository("app", KNOWN)
    opened.remember_manifests("app", records("one", "two"))
    if is_committed:
        opened.commit()

    assert opened.known_repository("app") == KNOWN
    assert opened.known_manifests("app") == records("one", "two")
    assert opened.known_repository("app/nested") == NOTHING_KNOWN
    assert opened.known_manifests("other") == {}


def test_what_is_committed_is_known_to_the_next_run(opened: State, directory: Path) -> None:
    opened.remember_repository("app", KNOWN)
    opened.remember_manifests("app", records("one"))
    opened.commit()
    opened.remember_repository("app", NOTHING_KNOWN)
    opened.remember_manifests("app", {})
    opened.close()

    again = open_state(LOCATION, directory)

    assert again.known_repository("app") == KNOWN
    assert again.known_manifests("app") == records("one")
    again.close()


def test_remembering_replaces_and_forgetting_forgets(opened: State) -> None:
    opened.remember_manifests("app", records("one"))
    opened.remember_manifests("app", records("two"))
    opened.remember_repository("app", KNOWN)
    opened.commit()
    opened.remember_manifests("other", records("one", "three"))

    assert opened.known_manifests("app") == records("two")
    assert opened.all_known_manifests() == records("one", "two", "three")
    opened.forget_repository("app")
    assert opened.known_repository("app") == NOTHING_KNOWN
    opened.commit()
    assert opened.known_repository("app") == NOTHING_KNOWN


def test_many_are_written_on_the_way(opened: State, directory: Path) -> None:
    for number in range(state_module._WRITE_COUNT):
        opened.remember_repository(f"app-{number}", KNOWN)
        opened.remember_manifests(f"app-{number}", records(str(number)))

    reader = open_state(LOCATION, directory)
    assert reader.known_repository("app-7") == KNOWN
    assert len(reader.all_known_manifests()) >= state_module._WRITE_COUNT - 1
    reader.close()


def test_two_runs_may_use_it_at_once(opened: State, directory: Path) -> None:
    other = open_state(LOCATION, directory)
    opened.remember_repository("app", KNOWN)
    other.remember_repository("other", KNOWN)
    opened.commit()
    other.commit()

    assert other.known_repository("app") == opened.known_repository("other") == KNOWN
    other.close()


def test_every_registry_has_a_file_of_its_own(directory: Path) -> None:
    locations = ["s3://bucket/a", "s3://bucket-a", "s3://bucket/a/", "file:///" + "x" * 500, "memory://\x00/../é"]
    states = [open_state(location, directory) for location in locations]
    for location, state in zip(locations, states, strict=True):
        state.remember_repository("app", Known(histories={"location": location}))
        state.commit()
        state.close()

    assert len(list(directory.iterdir())) == len(locations)
    assert {path.parent for path in directory.rglob("*")} == {directory}
    for location in locations:
        state = open_state(location, directory)
        assert state.known_repository("app").histories == {"location": location}
        state.close()


def test_the_directory_is_the_owners_only(opened: State, directory: Path) -> None:
    assert opened.path is not None
    assert opened.path.parent == directory
    assert directory.stat().st_mode & 0o777 == 0o700


def spoil_version(path: Path) -> None:
    """Make it one of another version."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 999")
    database.commit()
    database.close()


def spoil_bytes(path: Path) -> None:
    """Write something else into it."""
    path.write_bytes(b"no database at all" * 100)


def spoil_length(path: Path) -> None:
    """Leave the first bytes only."""
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("spoil", [spoil_version, spoil_bytes, spoil_length])
def test_a_damaged_one_is_set_aside_and_begun_anew(spoil: object, directory: Path) -> None:
    state = open_state(LOCATION, directory)
    state.remember_repository("app", KNOWN)
    state.commit()
    state.close()
    assert state.path is not None
    assert callable(spoil)
    spoil(state.path)

    again = open_state(LOCATION, directory)

    assert again.path == state.path
    assert again.known_repository("app") == NOTHING_KNOWN
    assert state.path.with_suffix(".damaged").is_file()
    again.remember_repository("app", KNOWN)
    again.commit()
    again.close()
    third = open_state(LOCATION, directory)
    assert third.known_repository("app") == KNOWN
    third.close()


def test_a_damaged_one_that_cannot_be_set_aside_leaves_one_in_memory(directory: Path) -> None:
    state = open_state(LOCATION, directory)
    state.close()
    assert state.path is not None
    spoil_bytes(state.path)
    state.path.with_suffix(".damaged").mkdir()

    again = open_state(LOCATION, directory)

    assert again.path is None


@pytest.mark.parametrize("table", ["repository", "manifests"])
def test_rows_that_cannot_be_understood_are_unknown(opened: State, table: str) -> None:
    opened.remember_repository("app", KNOWN)
    opened.remember_manifests("app", records("one"))
    opened.commit()
    assert opened.path is not None
    database = sqlite3.connect(opened.path)
    column = "histories" if table == "repository" else "records"
    database.execute(f"UPDATE {table} SET {column} = ?", (b"\xff{damaged",))
    database.commit()
    database.close()

    known = opened.known_repository("app"), opened.known_manifests("app"), opened.all_known_manifests()

    assert known == ((NOTHING_KNOWN, records("one"), records("one")) if table == "repository" else (KNOWN, {}, {}))


def test_a_database_that_vanishes_is_no_error(opened: State) -> None:
    opened.remember_repository("app", KNOWN)
    assert opened.path is not None
    database = sqlite3.connect(opened.path)
    database.executescript("DROP TABLE repository; DROP TABLE manifests")
    database.close()

    opened.commit()

    assert opened.known_repository("app") == NOTHING_KNOWN
    assert opened.all_known_manifests() == {}


@pytest.mark.parametrize("where", ["file", "below a file", "no file system"])
def test_where_none_can_be_written_it_is_in_memory(tmp_path: Path, where: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    directory = {"file": file, "below a file": file / "state", "no file system": Path("/proc/regstore")}[where]

    state = open_state(LOCATION, directory)

    assert state.path is None
    state.remember_repository("app", KNOWN)
    state.commit()
    assert state.known_repository("app") == KNOWN
    state.close()
    assert open_state(LOCATION, directory).known_repository("app") == NOTHING_KNOWN


def test_a_directory_in_the_files_place_leaves_one_in_memory(opened: State, directory: Path) -> None:
    assert opened.path is not None
    opened.path.unlink()
    opened.path.mkdir()

    assert open_state(LOCATION, directory).path is None


def test_the_place_of_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_directory() == tmp_path / "xdg" / "regstore"
    for unset in ("", None):
        monkeypatch.setenv("XDG_STATE_HOME", "") if unset == "" else monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert state_directory() == Path("/var/lib/regstore")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", "/home/somebody")
        assert state_directory() == Path("/home/somebody/.local/state/regstore")


def test_the_default_place_is_used(state_home: Path) -> None:
    state = open_state(LOCATION)
    state.close()

    assert state.path is not None
    assert state.path.parent == state_home / "regstore"


@examples(60)
@given(st.lists(st.text("abc", max_size=3), max_size=5, unique=True), st.data())
def test_damaged_manifests_are_an_error_or_fewer(seeds: list[str], data: st.DataObject) -> None:
    state = State(None)
    known = records(*seeds)
    state.remember_manifests("app", known)
    packed = state._manifests["app"]
    assert parse_manifests(packed) == known

    cut = data.draw(st.integers(0, len(packed)))
    try:
        parsed = parse_manifests(packed[:cut])
    except (ValueError, state_module.struct.error):
        return
    assert parsed.items() <= known.items()

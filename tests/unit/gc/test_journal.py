"""What collections note, and what is read from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import gc
from regstore.digest import Digest, parse_digest
from regstore.errors import StorageFailedError
from regstore.gc import Action, Kind, Verb
from regstore.gc.journal import Entry, Journal, Ledger, entry_of
from regstore_drivers.errors import Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support import images
from support.memory_registry import NOW_OFFLINE, MemoryRegistry
from support.random_volumes import DAY, NOW
from support.volume import blob_key, layer_link_key

DIGEST = parse_digest("sha256:" + "ab" * 32)
OTHER = parse_digest("sha256:" + "cd" * 32)
LONG = parse_digest("sha512:" + "ef" * 64)

ENTRIES = st.builds(
    Entry,
    st.sampled_from(Verb),
    st.sampled_from(Kind),
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["", "app", "app/web"]),
    st.sampled_from([None, DIGEST, LONG]),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 40).map(lambda milliseconds: milliseconds / 1000),
)


@given(ENTRIES)
def test_a_line_keeps_an_entry(entry: Entry) -> None:
    line = entry.to_line()

    assert Entry.from_line(line) == entry
    assert b"\n" not in line


def entry(verb: Verb, kind: Kind, digest: Digest | None = DIGEST, **fields: Any) -> Entry:
    """Make an entry as a collection does."""
    action = Action(verb, kind, "app", digest, "", 7, "")
    key, to = fields.get("key", action.key), fields.get("to", "")
    return entry_of(action, key, to, fields.get("at", NOW))._replace(repository=fields.get("repository", "app"))


def write_run(driver: MemoryDriver, *entries: Entry, at: float = NOW, finish: bool = True) -> Ledger:
    """Write the ledger of a run."""
    ledger = Ledger(driver, at, {"options": {"offline": True}})
    ledger.write(entries)
    if finish:
        ledger.finish({"finished_at": at + 1})
    return ledger


def test_a_registry_without_runs_has_an_empty_journal() -> None:
    journal = Journal(MemoryDriver())

    assert (journal.runs, journal.condemned, journal.unlinked_in, journal.quarantined) == ([], {}, {}, {})


def test_nothing_is_written_before_the_first_entry() -> None:
    driver = MemoryDriver()
    ledger = Ledger(driver, NOW, {})

    ledger.write([])
    ledger.finish({})

    assert not ledger.is_begun
    assert list(driver.list("")) == []


def test_a_run_comes_back_with_its_entries_in_order() -> None:
    driver = MemoryDriver()
    first = [entry(Verb.REMOVE, Kind.LAYER_LINK, to="q1"), entry(Verb.CONDEMN, Kind.BLOB)]
    second = [entry(Verb.REMOVE, Kind.BLOB, OTHER, to="q2")]
    ledger = write_run(driver, *first, finish=False)
    ledger.write(second)

    killed = Journal(driver)
    ledger.finish({"finished_at": NOW + 5, "removed": {}})
    journal = Journal(driver)

    assert [run.finished for run in killed.runs] == [None]
    run = journal.runs[0]
    assert (run.id, run.started_at, run.options) == (ledger.run.id, NOW, {"offline": True})
    assert run.id.startswith("20270115T080000Z-")
    assert run.finished == {"finished_at": NOW + 5, "removed": {}}
    assert (run.is_undone, run.is_purged) == (False, False)
    assert list(journal.iter_entries(run)) == first + second
    assert ledger.quarantine_key("a/b") == f"regstore/runs/{run.id}/quarantine/a/b"


def test_runs_come_oldest_first() -> None:
    driver = MemoryDriver()
    late = write_run(driver, entry(Verb.CONDEMN, Kind.BLOB), at=NOW + DAY)
    early = write_run(driver, entry(Verb.CONDEMN, Kind.BLOB), at=NOW)

    assert [run.id for run in Journal(driver).runs] == [early.run.id, late.run.id]


def test_runs_of_the_same_second_have_an_order() -> None:
    driver = MemoryDriver()
    ids = [write_run(driver, entry(Verb.CONDEMN, Kind.BLOB)).run.id for _ in range(6)]

    assert [run.id for run in Journal(driver).runs] == ids
    assert len(set(ids)) == 6


def test_what_is_condemned_is_known_with_its_newest_time() -> None:
    driver = MemoryDriver()
    write_run(
        driver, entry(Verb.CONDEMN, Kind.BLOB, OTHER, at=NOW), entry(Verb.REMOVE, Kind.LAYER_LINK, at=NOW, to="q")
    )
    write_run(driver, entry(Verb.REMOVE, Kind.LAYER_LINK, at=NOW + 9, repository="web", to="q"), at=NOW + 9)
    write_run(driver, entry(Verb.REMOVE, Kind.REVISION_LINK, LONG, at=NOW + 9, to="q"), at=NOW + 10)

    journal = Journal(driver)

    assert journal.condemned == {OTHER: NOW, DIGEST: NOW + 9}
    assert journal.unlinked_in == {DIGEST: {"app", "web"}, LONG: {"app"}}


@pytest.mark.parametrize("is_undone", [False, True])
def test_what_was_seen_linked_is_condemned_no_more(*, is_undone: bool) -> None:
    driver = MemoryDriver()
    write_run(driver, entry(Verb.CONDEMN, Kind.BLOB), entry(Verb.CONDEMN, Kind.BLOB, OTHER))
    sparing = write_run(driver, entry(Verb.SPARE, Kind.BLOB), entry(Verb.REMOVE, Kind.LAYER_LINK, to="q"), at=NOW + DAY)
    if is_undone:
        driver.write(f"{sparing.run.prefix}undone.json", b"{}", 2)

    assert Journal(driver).condemned == {OTHER: NOW}
    write_run(driver, entry(Verb.REMOVE, Kind.LAYER_LINK, at=NOW + 2 * DAY, to="q"), at=NOW + 2 * DAY)
    assert Journal(driver).condemned == {OTHER: NOW, DIGEST: NOW + 2 * DAY}


def test_what_is_in_the_quarantine_is_known_until_it_is_put_back() -> None:
    driver = MemoryDriver()
    removed = entry(Verb.REMOVE, Kind.BLOB, key="a/b", to="q/a/b")
    aborted = entry(Verb.REMOVE, Kind.MULTIPART, None, key="upload")
    write_run(driver, removed, aborted)
    assert Journal(driver).quarantined == {"a/b": "q/a/b"}
    write_run(driver, entry(Verb.RESTORE, Kind.BLOB, key="q/a/b", to="a/b"), at=NOW + 1)
    assert Journal(driver).quarantined == {}
    write_run(driver, removed._replace(to="q2/a/b"), at=NOW + 2)
    assert Journal(driver).quarantined == {"a/b": "q2/a/b"}


@pytest.mark.parametrize("mark", ["undone.json", "purged.json"])
def test_runs_taken_back_or_purged_count_for_nothing(mark: str) -> None:
    driver = MemoryDriver()
    ledger = write_run(driver, entry(Verb.CONDEMN, Kind.BLOB), entry(Verb.REMOVE, Kind.LAYER_LINK, to="q"))
    driver.write(f"{ledger.run.prefix}{mark}", b"{}", 2)

    journal = Journal(driver)

    assert (journal.condemned, journal.unlinked_in, journal.quarantined) == ({}, {}, {})
    assert (journal.runs[0].is_undone, journal.runs[0].is_purged) == (mark == "undone.json", mark == "purged.json")


def test_a_run_that_wrote_nothing_but_a_directory_is_none() -> None:
    driver = MemoryDriver()
    driver.write("regstore/runs/20270115T080000Z-abc/other", b"", 0)
    driver.write("regstore/runs/file", b"", 0)

    assert Journal(driver).runs == []


LINES = [b"nonsense", b"{}", b"[]", b"7", b"null", b'{"action": "remove"', b"\xff"]


@pytest.mark.parametrize("line", LINES)
def test_a_ledger_that_cannot_be_understood_stops_everything(line: bytes) -> None:
    bench = MemoryRegistry()
    bench.writer.layer("app", b"garbage")
    bench.collect(**NOW_OFFLINE)
    key = next(key for key in bench.everything if "/ledger/" in key)
    bench.put(key, bench.everything[key] + line + b"\n")
    before = bench.contents

    for call in (bench.plan, bench.collect, bench.undo, lambda: gc.purge(bench.registry, 0.0, state=bench.state)):
        with pytest.raises(StorageFailedError, match="ledger") as caught:
            call()
        assert caught.value.code == "ledger-damaged"
        assert caught.value.exit_code == 4
    assert bench.contents == before


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b"{}", b'{"started_at": "today", "options": {}}'])
def test_a_head_that_cannot_be_understood_stops_everything(content: bytes) -> None:
    bench = MemoryRegistry()
    bench.writer.layer("app", b"garbage")
    bench.collect(**NOW_OFFLINE)
    bench.put(next(key for key in bench.everything if key.endswith("/run.json")), content)

    with pytest.raises(StorageFailedError) as caught:
        bench.plan()
    assert caught.value.code == "ledger-damaged"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b'{"finished_at": "today"}'])
def test_an_outcome_that_cannot_be_understood_stops_a_purge_or_is_ignored(content: bytes) -> None:
    """How a run ended is needed for its age alone."""
    bench = MemoryRegistry()
    bench.writer.layer("app", b"garbage")
    bench.collect(**NOW_OFFLINE)
    before = bench.contents
    bench.put(next(key for key in bench.everything if key.endswith("/finished.json")), content)

    try:
        gc.purge(bench.registry, DAY, state=bench.state)
    except StorageFailedError as error:
        message = str(error)
    else:
        message = ""
    assert "finished" in message or not message
    assert bench.contents == before


def test_entries_are_durable_before_the_effects() -> None:
    """Whatever was moved is named by a segment that was there before."""
    bench = MemoryRegistry(wrap=Faulty)
    for number in range(5):
        bench.writer.layer("app", str(number).encode())
    faulty = bench.driver
    assert isinstance(faulty, Faulty)
    noted: set[str] = set()

    def look() -> None:
        for key, data in bench.everything.items():
            if "/ledger/" in key:
                noted.update(json.loads(line)["key"] for line in data.splitlines())

    faulty.call_before("move", "*", look, times=None)
    moved_before_noted: list[str] = []
    original = bench.memory.move

    def move(src: str, dst: str) -> None:
        if src not in noted and src.startswith("docker/"):
            moved_before_noted.append(src)
        original(src, dst)

    bench.memory.move = move  # type: ignore[method-assign]
    result = bench.collect(**NOW_OFFLINE)

    assert bench.removed(result) == {"layer-link": 5, "blob": 5}
    assert moved_before_noted == []


def test_a_ledger_that_cannot_be_written_stops_before_the_first_effect() -> None:
    bench = MemoryRegistry(wrap=Faulty)
    bench.writer.layer("app", b"garbage")
    before = bench.contents
    assert isinstance(bench.driver, Faulty)
    bench.driver.fail("write", "*/ledger/*", Unavailable, times=None)

    with pytest.raises(Unavailable):
        bench.collect(**NOW_OFFLINE)

    assert bench.contents == before


def test_the_journal_lies_beside_the_tree_and_keeps_the_original_keys() -> None:
    bench = MemoryRegistry()
    digest = bench.writer.layer("app", b"garbage")
    result = bench.collect(**NOW_OFFLINE)
    prefix = f"regstore/runs/{result.run_id}/"

    written = {key for key in bench.everything if not key.startswith("docker/")}

    assert written == {
        f"{prefix}run.json",
        f"{prefix}finished.json",
        f"{prefix}ledger/000001.jsonl",
        f"{prefix}ledger/000002.jsonl",
        f"{prefix}quarantine/{layer_link_key('app', digest)}",
        f"{prefix}quarantine/{blob_key(images.digest_of(b'garbage'))}",
    }
    head = json.loads(bench.everything[f"{prefix}run.json"])
    assert head["id"] == result.run_id
    assert head["options"]["offline"] is True

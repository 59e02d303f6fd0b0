"""The command lines of backups and restores: documents, texts, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.backup import contents_of
from support.collection import Done, run_cli
from support.images import digest_of, layers
from support.volume import VolumeWriter, blob_key, tag_link_key

LARGE = b"large" * 30_000


class Place:
    """A volume, a store, and the commands on them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root, self.store, self.new = base / "volume", base / "store", base / "new"
        self.writer = VolumeWriter(self.root)
        self.first = self.writer.push_image("app", "v1", [LARGE, b"small"])
        self.writer.push_image("team/web", "latest", layers(1, "web"))

    def run(self, *words: object, **options: Any) -> Done:
        return run_cli(self.base / "state", *words, **options)

    def backup(self, command: str, *words: object, **options: Any) -> Done:
        return self.run("backup", command, *words, **options)

    def create(self) -> dict[str, Any]:
        return self.backup("create", "--json", self.root, self.store).expect(0).json


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A volume of two images and an empty store."""
    made = Place(tmp_path)
    made.backup("init", made.store).expect(0)
    return made


def test_documents_of_a_store(place: Place) -> None:
    first = place.create()
    assert first["command"] == "backup create"
    assert first["findings"] == []
    assert first["snapshot"]["complete"] is True
    assert first["snapshot"]["new_bytes"] == first["snapshot"]["bytes"] > len(LARGE)
    old = (place.root / tag_link_key("app", "v1")).read_text()
    place.writer.push_image("app", "v1", [LARGE, b"moved"])
    place.writer.push_image("app", "v2", [b"new"])
    second = place.create()

    listed = place.backup("list", "--json", place.store).expect(0).json["snapshots"]

    assert [one["id"] for one in listed] == [first["snapshot"]["id"], second["snapshot"]["id"]]
    assert {"id", "created_at", "source", "complete", "tags", "bytes"} <= listed[0].keys()
    assert [one["tags"] for one in listed] == [2, 3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", listed[0]["created_at"])
    shown = place.backup("show", "--json", place.store).expect(0).json
    tags = {one["name"]: {tag["tag"]: tag["digest"] for tag in one["tags"]} for one in shown["repositories"]}
    new = (place.root / tag_link_key("app", "v1")).read_text()
    assert tags["app"]["v1"] == new
    assert list(tags["team/web"]) == ["latest"]
    difference = place.backup("diff", "--json", place.store, listed[0]["id"], "latest").expect(0).json
    assert difference["moved"] == {"app:v1": {"old": old, "new": new}}
    assert list(difference["added"]) == ["app:v2"]
    assert difference["deleted"] == {}
    assert difference["added_blobs"] == second["snapshot"]["new_blobs"]


def test_texts_of_a_store(place: Place) -> None:
    text = place.backup("create", place.root, place.store).expect(0).stdout
    assert "holds     2 repositories, 2 tags, 2 manifests" in text
    place.writer.push_image("app", "v2", [b"new"])
    place.create()

    listed = place.backup("list", place.store).expect(0).stdout.splitlines()
    assert listed[0].split() == ["SNAPSHOT", "MADE", "TAGS", "DATA", "NEW", "STATE", "REGISTRY"]
    assert len(listed) == 3
    id_ = listed[1].split()[0]
    assert "team/web" in place.backup("show", place.store, id_[:5]).expect(0).stdout
    text = place.backup("diff", place.store, id_).expect(0).stdout
    assert text.startswith("+ app:v2  sha256:")
    assert "1 tags new, 0 moved, 0 deleted" in text
    assert "all hashed" in place.backup("verify", "--full", place.store).expect(0).stdout
    assert "whole" in place.backup("test-restore", "--count", "1", place.store).expect(0).stdout
    assert "there is no lock" in place.backup("unlock", place.store).expect(0).stdout


def test_a_clean_night_prints_nothing(place: Place) -> None:
    for words in (
        ("create", "-q", place.root, place.store),
        ("verify", "-q", "--full", place.store),
        ("test-restore", "-q", place.store),
        ("prune", "-q", "--keep-last", "1", place.store),
        ("export", "-q", "--plain", place.store, "latest", place.base / "plain"),
    ):
        done = place.backup(*words).expect(0)
        assert (done.stdout, done.stderr) == ("", "")
    done = place.run("restore", "-q", place.store, place.new).expect(0)
    assert (done.stdout, done.stderr) == ("", "")


def test_damage_is_told_even_when_quiet(place: Place) -> None:
    (place.root / blob_key(digest_of(b"small"))).write_bytes(b"rotten")

    done = place.backup("create", "-q", place.root, place.store).expect(1)

    assert done.stdout == ""
    assert f"critical blob-corrupt: {digest_of(b'small')}" in done.stderr
    assert "hurts app:v1" in done.stderr
    done = place.run("restore", "--json", place.store, place.new).expect(1)
    assert list(done.json["lost"]) == ["app:v1"]
    assert [found["id"] for found in done.json["findings"]] == ["image-lost"]
    assert done.json["findings"][0]["images"] == ["app:v1"]
    assert "incomplete" in place.backup("show", place.store).expect(0).stdout
    assert place.backup("list", "--json", place.store).expect(0).json["snapshots"][0]["complete"] is False


def test_a_restore_says_what_it_would_do_and_what_it_did(place: Place) -> None:
    place.create()

    planned = place.run("restore", "--dry-run", place.store, place.new).expect(0)
    assert "restores  2 repositories, 2 tags" in planned.stdout
    assert list(place.new.iterdir()) == []
    done = place.run("restore", place.store, place.new).expect(0)
    assert "restored  2 repositories, 2 tags" in done.stdout
    assert "all hashed" in done.stdout
    assert contents_of(place.new) == contents_of(place.root)
    place.run("restore", place.store, place.new).expect_error(3, "target-not-empty", "--merge")
    merged = place.run("restore", "--merge", "--json", place.store, place.new).expect(0).json
    assert merged["written_blobs"] == 0
    assert merged["kept_blobs"] == merged["blobs"] > 0


def test_a_dry_run_names_the_images_that_cannot_come_back(place: Place) -> None:
    data = b"lost" * 30_000
    place.writer.push_image("app", "big", [data])
    place.create()
    digits = digest_of(data).partition(":")[2]
    (place.store / f"blobs/sha256/{digits[:2]}/{digits}").unlink()

    planned = place.run("restore", "--dry-run", "--json", place.store, place.new).expect(1).json

    lost = [found for found in planned["findings"] if found["id"] == "image-lost"]
    assert [found["images"] for found in lost] == [["app:big"]]
    assert "app:big" in place.run("restore", "--dry-run", place.store, place.new).expect(1).stdout


def test_tags_that_a_merge_moves_are_listed_first(place: Place) -> None:
    place.create()
    mine = VolumeWriter(place.new).push_image("app", "v1", [b"mine"])

    done = place.run("restore", "--merge", "--tag", "v1", place.store, place.new).expect(0)

    assert f"app:v1  {mine.digest}" in done.stderr
    assert (place.new / tag_link_key("app", "v1")).read_text() == place.first.digest


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["backup", "create", "{root}", "{base}/absent"], 2, "mounted"),
        (["backup", "create", "{base}/absent", "{store}"], 2, "there is no"),
        (["backup", "init", "{store}"], 2, "already"),
        (["backup", "init", "{base}/a/b"], 2, "make it"),
        (["backup", "init", "{root}"], 3, "not empty"),
        (["backup", "show", "{store}", "latest"], 2, "no snapshot"),
        (["backup", "verify", "--subset", "8/7", "{store}"], 2, "1/7"),
        (["backup", "verify", "--full", "--quick", "{store}"], 2, "exclude"),
        (["backup", "prune", "{store}"], 3, "--keep-daily"),
        (["backup", "export", "{store}", "latest", "{base}/x"], 2, "--plain"),
        (["restore", "{store}", "{base}/x"], 2, "no snapshot"),
        (["restore", "--at", "tomorrow", "{store}", "{base}/x"], 2, "2026-11-20 03:00"),
        (["restore", "--at", "2026-11-20 03:00", "--snapshot", "abcd", "{store}", "{base}/x"], 2, "one of them"),
        (["restore", "--owner", "root", "{store}", "{base}/x"], 2, "1000:1000"),
        (["restore", "--mode", "rwx", "{store}", "{base}/x"], 2, "0755"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals(place: Place, words: list[str], code: int, hint: str) -> None:
    names = {"root": str(place.root), "base": str(place.base), "store": str(place.store)}

    done = place.run(*(word.format(**names) for word in words)).expect(code)

    assert done.stdout == ""
    assert hint in done.stderr


def test_a_damaged_snapshot_is_a_finding_of_the_list_and_an_error_by_its_id(place: Place) -> None:
    id_ = place.create()["snapshot"]["id"]
    place.create()
    path = min((place.store / "snapshots").iterdir())
    path.write_bytes(path.read_bytes()[:-1])

    listed = place.backup("list", "--json", place.store).expect(1).json
    assert [(found["id"], found["subject"]) for found in listed["findings"]] == [("snapshot-damaged", id_)]
    assert len(listed["snapshots"]) == 1
    place.backup("show", place.store, id_).expect_error(4, "corruption", id_)
    place.backup("verify", place.store).expect(1)


def test_prune_says_what_goes_and_why_the_rest_stays(place: Place) -> None:
    ids = [place.create()["snapshot"]["id"] for _ in range(3)]

    planned = place.backup("prune", "--dry-run", "--json", "--keep-last", "1", place.store).expect(0).json
    assert planned["removed"] == ids[:2]
    assert planned["kept"] == {ids[2]: ["newest complete", "last"]}
    assert len(place.backup("list", "--json", place.store).expect(0).json["snapshots"]) == 3
    text = place.backup("prune", "--keep-last", "1", place.store).expect(0).stdout
    assert "2 snapshots removed, 1 kept" in text


def test_safety_is_not_in_the_environment(place: Place) -> None:
    environment = {"REGSTORE_BACKUP_PRUNE_KEEP_LAST": "1", "REGSTORE_RESTORE_MERGE": "1"}
    place.create()
    VolumeWriter(place.new).push_image("app", "v1", [b"mine"])

    place.backup("prune", place.store, environment=environment).expect(3)
    place.run("restore", place.store, place.new, environment=environment).expect(3)


def test_a_stop_ends_with_the_signals_code_and_the_next_run_goes_on(place: Place) -> None:
    place.writer.push_image("app", "big", [os.urandom(4_000_000)])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "regstore",
            "backup",
            "create",
            "--bandwidth",
            "500KiB",
            str(place.root),
            str(place.store),
        ],
        env={**os.environ, "XDG_STATE_HOME": str(place.base / "state")},
        stderr=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.5)
    process.terminate()
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 143, errors
    assert place.backup("list", "--json", place.store).expect(0).json["snapshots"] == []
    assert place.create()["snapshot"]["complete"]


def test_jobs_are_noted_for_metrics(place: Place) -> None:
    place.create()

    (notes,) = (place.base / "state/regstore").glob("*volume*.jobs.json")
    noted = json.loads(notes.read_text())["backup"]
    assert noted["exit_code"] == 0
    assert noted["numbers"]["snapshot_bytes"] > len(LARGE)

"""The command line of migrations: documents, texts, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.backup import contents_of
from support.collection import Done, run_cli
from support.images import digest_of, layers
from support.volume import VolumeWriter, blob_key, tag_link_key

LARGE = b"large" * 30_000


class Place:
    """A volume, where it goes, and the commands on the two."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.old, self.new = base / "old", base / "new"
        self.writer = VolumeWriter(self.old)
        self.first = self.writer.push_image("app", "v1", [LARGE, b"small"])
        self.writer.push_image("team/web", "latest", layers(1, "web"))

    def run(self, command: str, *words: object, **options: Any) -> Done:
        return run_cli(self.base / "state", "migrate", command, *words, self.old, self.new, **options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A volume of two images."""
    return Place(tmp_path)


def test_a_plan_changes_nothing_and_says_what_and_how_long(place: Place) -> None:
    document = place.run("plan", "--json", "--out", place.base / "plan").expect(0).json

    assert document["command"] == "migrate plan"
    assert document["target_kind"] == "empty"
    assert (document["repositories"], document["tags"], document["blobs"]) == (2, 2, 7)
    assert document["new_tags"] == ["app:v1", "team/web:latest"]
    assert document["estimate"]["seconds"] >= 0
    assert document["features"] is None
    assert not place.new.exists()
    head, *lines = map(json.loads, (place.base / "plan").read_text().splitlines())
    assert head["total_bytes"] == document["bytes"] == sum(line.get("size_bytes", 0) for line in lines)
    assert {line["image"] for line in lines if line["action"] == "write-tag"} == {"app:v1", "team/web:latest"}
    text = place.run("plan").expect(0).stdout
    assert "which is empty" in text
    assert "7 blobs" in text
    assert place.run("plan", "-q").expect(0).stdout == ""


def test_documents_of_runs(place: Place) -> None:
    first = place.run("run", "--json").expect(0).json
    assert (first["copied_blobs"], first["written_tags"]) == (7, 2)
    old = (place.old / tag_link_key("app", "v1")).read_text()
    moved = place.writer.push_image("app", "v1", [LARGE, b"moved"])

    second = place.run("run", "--json").expect(0).json

    assert second["target_kind"] == "former-run"
    assert second["moved_tags"] == {"app:v1": {"old": old, "new": moved.digest}}
    assert place.run("run", "-q").expect(0).stdout == ""
    assert "copied    0 blobs" in place.run("run").expect(0).stdout


def test_verify_marks_every_item(place: Place) -> None:
    place.run("run", "-q").expect(0)
    (place.new / blob_key(digest_of(b"small"))).write_bytes(b"SMALL")
    (place.new / blob_key(digest_of(LARGE))).write_bytes(LARGE[1:])
    place.writer.push_image("app", "v2", [b"fresh"])
    place.writer.tag("team/web", "latest", place.first.digest)
    VolumeWriter(place.new).push_image("only/there", "v1", [b"there"])

    done = place.run("verify", "--readback", "--json", "--combined", place.base / "items").expect(1)

    lines = (place.base / "items").read_text().splitlines()
    marks = {line.split(" ", 1)[1]: line[0] for line in lines}
    assert marks["tag app:v1"] == "="
    assert marks["tag app:v2"] == "+"
    assert marks["tag only/there:v1"] == "-"
    assert marks["tag team/web:latest"] in "*!"
    assert marks[f"blob {digest_of(b'small')}"] == "!"
    assert marks[f"blob {digest_of(b'fresh')}"] == "+"
    assert marks[f"blob {digest_of(LARGE)}"] == "!"
    assert not done.json["is_equal"]
    for kind, counts in done.json["items"].items():
        assert sum(counts.values()) == sum(line.split(" ")[1] + "s" == kind for line in lines)
    hurt = {found["subject"]: found["images"] for found in done.json["findings"]}
    assert "app:v1" in hurt[digest_of(b"small")]
    to_stdout = place.run("verify", "--combined", "-").expect(1)
    assert {line[0] for line in to_stdout.stdout.splitlines()} <= set("=+-*!")
    assert "tag-missing" in to_stdout.stderr
    place.run("verify", "--combined", "-", "--json").expect_error(2, "stdout")


def test_a_cut_over_proves_and_hands_over(place: Place) -> None:
    config = place.base / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {place.old}\n  delete:\n    enabled: true\n"
    )
    words = ("migrate", "run", "--cut-over", config, place.new)

    done = run_cli(place.base / "state", *words, "--json").expect(0)

    document = done.json
    assert document["verification"]["is_equal"]
    storage = yaml.safe_load(document["configuration"])["storage"]
    assert storage == {"filesystem": {"rootdirectory": str(place.new)}, "delete": {"enabled": True}}
    assert f"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={place.new}" in document["configuration"]
    text = run_cli(place.base / "state", *words).expect(0).stdout
    assert document["configuration"] in text
    assert run_cli(place.base / "state", *words, "-q").expect(0).stdout == ""


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--mirror", "--since", "7d"], "do not go together"),
        (["--max-delete", "5GiB"], "share"),
        (["--since", "yesterday"], "7d"),
        (["--registry-url", "http://127.0.0.1:1"], "--cut-over"),
        (["--owner", "root"], "numbers"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_usage(place: Place, words: list[str], word: str) -> None:
    place.run("run", *words).expect_error(2, word)
    assert not place.new.exists() or not contents_of(place.new)


def test_exit_codes(place: Place) -> None:
    place.run("verify").expect_error(2)
    run_cli(place.base / "state", "migrate", "run", place.base / "none", place.new).expect_error(2)
    run_cli(place.base / "state", "migrate", "run", place.old, place.base / "no" / "parent").expect_error(2, "mount")
    run_cli(place.base / "state", "migrate", "run", place.old, place.old / "in").expect_error(3, "nested")
    place.run("run", "-q").expect(0)
    run_cli(place.base / "state", "migrate", "run", place.new, place.old).expect_error(3, "swapped")
    run_cli(place.base / "state", "migrate", "run", "--mirror", place.new, place.old).expect_error(3, "swapped")
    (place.old / blob_key(digest_of(b"small"))).write_bytes(b"rotten")
    VolumeWriter(place.old).push_image("app", "v3", [b"small", b"more"])
    (place.old / blob_key(digest_of(b"more"))).write_bytes(b"rotten")
    done = place.run("run", "-q").expect(1)
    assert "app:v3" in done.stderr
    assert done.stdout == ""


def test_safety_options_are_deaf_to_the_environment(place: Place) -> None:
    place.run("run", "-q").expect(0)
    VolumeWriter(place.new).push_image("gone", "v1", [b"gone"])

    place.run("run", "-q", environment={"REGSTORE_MIGRATE_RUN_MIRROR": "1"}).expect(0)

    assert os.path.exists(place.new / tag_link_key("gone", "v1"))

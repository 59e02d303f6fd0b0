"""Plan files: written whole, read strictly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from regstore import gc
from regstore.errors import UsageError
from support.memory_registry import NOW_OFFLINE, MemoryRegistry
from support.random_volumes import DAY, NOW
from support.volume import blob_key


@pytest.fixture
def bench() -> MemoryRegistry:
    """A registry with something of every kind to remove."""
    made = MemoryRegistry()
    made.time = NOW - 10 * DAY
    made.writer.push_image("app", "latest", [b"layer"], b"{}")
    made.writer.push_image("app", "", [b"untagged"], b"{}")
    made.writer.layer("team/base", b"unused", "sha512")
    made.writer.upload("app", b"x", started_at="")
    made.writer.put(f"{blob_key(made.writer.blob(b'half'))}.1.tmp", b"half")
    made.time = NOW
    return made


@pytest.fixture
def plan(bench: MemoryRegistry) -> gc.Plan:
    """Its plan."""
    return bench.plan(**NOW_OFFLINE, delete_untagged=True, registry_urls=("http://a:1", "http://b:2"))


def rewrite(path: Path, change: dict[str, Any], number: int = 0) -> None:
    """Change some fields of one line."""
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **change})
    path.write_text("\n".join(lines) + "\n")


def test_a_plan_comes_back_as_it_was(plan: gc.Plan, tmp_path: Path) -> None:
    path = tmp_path / "tonight.plan"
    gc.write_plan(plan, str(path))

    read = gc.read_plan(str(path))

    assert len(plan.actions) > 5
    assert read.actions == plan.actions
    assert read.options == plan.options
    assert (read.location, read.config) == (plan.location, plan.config)
    assert read.created_at == pytest.approx(plan.created_at, abs=1e-5)


def test_the_file_is_json_lines_and_readable(plan: gc.Plan, tmp_path: Path) -> None:
    path = tmp_path / "tonight.plan"
    gc.write_plan(plan, str(path))
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert header["command"] == "gc plan"
    assert header["location"] == "memory://test"
    assert header["action_count"] == len(lines) == len(plan.actions)
    assert header["options"]["registry_urls"] == ["http://a:1", "http://b:2"]
    assert {tuple(line) for line in lines} == {
        ("action", "kind", "key", "repository", "digest", "name", "bytes", "reason")
    }
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_empty_plan_is_one_too(tmp_path: Path) -> None:
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    gc.write_plan(bench.plan(), str(tmp_path / "plan"))

    assert gc.read_plan(str(tmp_path / "plan")).actions == []


def test_a_read_plan_does_what_the_plan_does(bench: MemoryRegistry, plan: gc.Plan, tmp_path: Path) -> None:
    plan.options = gc.Options(**{**plan.options.to_json(), "registry_urls": ()})
    gc.write_plan(plan, str(tmp_path / "plan"))
    before = bench.contents

    result = bench.apply(gc.read_plan(str(tmp_path / "plan")))

    assert sum(bench.removed(result).values()) == len(plan.actions)
    assert result.skipped_count == 0
    assert before.items() > bench.contents.items()
    again = bench.apply(gc.read_plan(str(tmp_path / "plan")))
    assert again.removed == {}
    assert again.skipped_count == len(plan.actions)


def test_a_step_that_is_no_longer_right_is_skipped(bench: MemoryRegistry, plan: gc.Plan) -> None:
    plan.options = gc.Options(**{**plan.options.to_json(), "registry_urls": ()})
    bench.writer.push_image("app", "wanted", [b"untagged"], b"{}")

    result = bench.apply(plan)

    assert result.skipped_count == 4  # the revision, its layer, the data of both; the configuration is shared
    assert bench.apply(plan).removed == {}


def test_what_came_after_the_plan_stays(bench: MemoryRegistry, plan: gc.Plan) -> None:
    plan.options = gc.Options(**{**plan.options.to_json(), "registry_urls": ()})
    late = bench.writer.layer("app", b"garbage that came later")

    bench.apply(plan)

    assert blob_key(late) in bench.keys


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_file_that_is_cut_off_is_refused(plan: gc.Plan, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "plan"
    gc.write_plan(plan, str(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-cut]))

    with pytest.raises(UsageError, match="cut off"):
        gc.read_plan(str(path))
    path.write_text("".join([*lines[:-1], lines[-1][:-10]]))
    with pytest.raises(UsageError, match=r"no plan|cut off"):
        gc.read_plan(str(path))


def test_a_file_with_more_steps_is_refused(plan: gc.Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    gc.write_plan(plan, str(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]))

    with pytest.raises(UsageError):
        gc.read_plan(str(path))


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"schema_version": "1"}, {"command": "fsck"}])
def test_another_version_is_refused(plan: gc.Plan, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "plan"
    gc.write_plan(plan, str(path))
    rewrite(path, change)

    with pytest.raises(UsageError, match="another version"):
        gc.read_plan(str(path))


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"options": {}}),
        (0, {"options": None}),
        (0, {"options": {"force": True}}),
        (0, {"created_at": "yesterday"}),
        (0, {"created_at": 7}),
        (0, {"action_count": "many"}),
        (0, {"location": 7}),
        (0, {"config": 7}),
        (1, {"key": "docker/registry/v2/blobs/sha256/00/other/data"}),
        (1, {"digest": "sha256:00"}),
        (1, {"digest": 7}),
        (1, {"kind": "everything"}),
        (1, {"repository": "../.."}),
        (1, {"repository": 7}),
        (1, {"bytes": None}),
    ],
)
def test_a_tampered_file_is_refused(plan: gc.Plan, tmp_path: Path, number: int, change: dict[str, Any]) -> None:
    path = tmp_path / "plan"
    gc.write_plan(plan, str(path))
    rewrite(path, change, number)

    with pytest.raises(UsageError) as caught:
        gc.read_plan(str(path))
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"null\n", b"[]\n", b"7\n", b"text\n", b"\xff\xfe", b'{"a": 1}\n', b"{}"]
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan"
    path.write_bytes(content)

    with pytest.raises(UsageError):
        gc.read_plan(str(path))


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match="cannot read the plan"):
            gc.read_plan(str(path))


def test_a_plan_that_cannot_be_written_is_a_usage_error_and_leaves_nothing(plan: gc.Plan, tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    for path in (tmp_path / "absent/plan", target):
        with pytest.raises(UsageError, match="cannot write the plan"):
            gc.write_plan(plan, str(path))

    assert os.listdir(tmp_path) == ["directory"]
    assert os.listdir(target) == []


def test_a_former_plan_is_replaced_whole(plan: gc.Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.write_text("former")
    gc.write_plan(plan, str(path))

    assert gc.read_plan(str(path)).actions == plan.actions
    assert os.listdir(tmp_path) == ["plan"]

"""`regstore gc`: what it prints, for people and for scripts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore.cli import gc as module
from regstore.errors import RefusedError, UsageError
from regstore.lock import Holder, hold_lock
from regstore_drivers.filesystem import FilesystemDriver
from support.shell import Shell
from support.volume import VolumeWriter, blob_key, tag_link_key

NOW = ("--offline", "--grace", "0s", "--max-delete", "none")


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """A function that runs `regstore gc ...`."""
    return Shell(capfd, "gc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with one image and one unneeded layer of 1500 bytes."""
    root = tmp_path / "data"
    writer = VolumeWriter(root)
    writer.push_image("app", "latest", [b"layer"], b"{}")
    writer.layer("app", bytes(1500))
    return root


def test_a_plan_for_people(shell: Shell, root: Path) -> None:
    out = shell("plan", root, *NOW)

    assert f"registry       file://{root}" in out
    assert "repositories   1, with 1 tags and 1 manifests" in out
    assert re.search(r"unreferenced +1 +1\.5 KiB", out)
    assert re.search(r"layer-link +1 +71 B", out)
    assert re.search(r"app +1 +1\.5 KiB", out)
    assert shell.err == ""


def test_a_plan_for_scripts(shell: Shell, root: Path) -> None:
    document = shell.json("plan", root, *NOW)

    assert document["removed"] == [
        {"kind": "blob", "count": 1, "bytes": 1500},
        {"kind": "layer-link", "count": 1, "bytes": 71},
    ]
    assert (document["freed_bytes"], document["condemned_count"]) == (0, 0)
    assert (document["refusals"], document["findings"]) == ([], [])
    summary = document["summary"]
    assert (summary["unreferenced_bytes"], summary["blob_count"]) == (1500, 4)
    assert summary["stored_bytes"] == summary["live_bytes"] + 1500
    assert summary["largest_reclaimable"] == [{"repository": "app", "reclaimable_bytes": 1500}]
    assert document["location"] == f"file://{root}"


def test_a_plan_says_what_a_run_would_refuse(shell: Shell, root: Path) -> None:
    out = shell("plan", root, "--grace", "0s", "--max-delete", "10B")

    assert "gc run would refuse [cache]" in out
    assert "gc run would refuse [max-delete]" in out
    refusals = shell.json("plan", root, "--grace", "0s")["refusals"]
    assert [refusal["code"] for refusal in refusals] == ["cache", "max-delete"]
    with pytest.raises(RefusedError):
        shell("run", root, "--grace", "0s")


def test_a_plan_in_a_file_is_applied_twice(shell: Shell, root: Path, tmp_path: Path) -> None:
    out = shell("plan", root, *NOW, "--out", tmp_path / "tonight.plan")
    assert f"regstore gc apply {tmp_path}/tonight.plan" in out

    document = shell.json("apply", tmp_path / "tonight.plan")
    assert [entry["kind"] for entry in document["removed"]] == ["blob", "layer-link"]
    assert document["skipped_count"] == 0
    again = shell("apply", tmp_path / "tonight.plan")
    assert "skipped 2 steps that were no longer right" in again


def test_a_run_and_its_undo_for_people(shell: Shell, root: Path) -> None:
    out = shell("run", root, *NOW)
    run = re.search(r"regstore gc undo \S+ (\S+)", out)
    assert run is not None
    assert re.search(r"blob +1 +1\.5 KiB", out)
    assert "nothing to do" in shell("run", root, *NOW)

    assert f"run {run[1]} is undone: 2 items are back" in shell("undo", root)
    assert "nothing to undo" in shell("undo", root)


def test_a_run_undo_and_purge_for_scripts(shell: Shell, root: Path) -> None:
    first = shell.json("run", root, *NOW)
    assert first["removed"] == shell_removed(1500)
    assert (first["freed_bytes"], first["purged_bytes"], first["restored_count"]) == (0, 0, 0)

    undone = shell.json("undo", root)
    assert (undone["run_id"], undone["restored_count"], undone["restored_bytes"]) == (first["run_id"], 2, 1571)
    assert (undone["kept_count"], undone["lost_count"]) == (0, 0)
    assert shell.json("undo", root)["run_id"] is None
    second = shell.json("run", root, *NOW)
    purged = shell.json("purge", root, "--quarantine-retention", "0s")
    assert (purged["runs"], purged["deleted_count"], purged["freed_bytes"]) == (
        [first["run_id"], second["run_id"]],
        2,
        1571,
    )
    assert shell.json("run", root, *NOW)["run_id"] is None


def shell_removed(size: int) -> list[dict[str, Any]]:
    """Return what a run removes of the fixture."""
    return [{"kind": "blob", "count": 1, "bytes": size}, {"kind": "layer-link", "count": 1, "bytes": 71}]


def test_a_run_without_quarantine(shell: Shell, root: Path) -> None:
    out = shell("run", root, *NOW, "--no-quarantine")

    assert "deleted 1.5 KiB from the quarantine" in out
    assert "take it back" not in out


def test_online_blobs_are_condemned(shell: Shell, root: Path, tmp_path: Path) -> None:
    VolumeWriter(root).blob(b"nobody's")
    config = tmp_path / "config.yml"
    config.write_text(f"storage: {{filesystem: {{rootdirectory: {root}}}}}")

    assert "1 blobs without links would be condemned" in shell("plan", config, "--grace", "0s")
    out = shell("run", config, "--grace", "0s", "--max-delete", "none")

    assert "condemned 1 blobs without links; a later run collects them" in out


def test_purges_for_people(shell: Shell, root: Path) -> None:
    assert "nothing to purge" in shell("purge", root)
    shell("run", root, *NOW)
    assert "nothing to purge" in shell("purge", root)

    assert "purged 1 runs: 2 items, 1.5 KiB freed" in shell("purge", root, "--quarantine-retention", "0s")


def test_the_status(shell: Shell, root: Path) -> None:
    out = shell("status", root)
    assert "lock         free" in out
    assert "runs         none" in out
    run = shell.json("run", root, *NOW)

    out = shell("status", root)
    assert re.search(rf"{run['run_id']} .*quarantined +2 +1 +1\.5 KiB", out)
    assert "quarantine   1.5 KiB" in out
    document = shell.json("status", root)
    assert [(r["id"], r["state"], r["item_count"], r["blob_bytes"]) for r in document["runs"]] == [
        (run["run_id"], "quarantined", 2, 1500)
    ]
    assert (document["quarantined_bytes"], document["locked_by"]) == (1500, None)
    with hold_lock(FilesystemDriver(str(root)), "fsck --repair"):
        assert f"fsck --repair (pid {os.getpid()}" in shell("status", root)
        assert "fsck --repair" in shell.json("status", root)["locked_by"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_quiet_says_nothing_when_all_is_well(shell: Shell, root: Path, command: str) -> None:
    assert shell(command, root, *NOW, "-q") == ""
    assert shell.err == ""


@pytest.mark.parametrize("command", ["plan", "run"])
def test_quiet_says_on_stderr_what_is_not_well(shell: Shell, root: Path, command: str) -> None:
    (root / tag_link_key("app", "latest")).write_bytes(b"")

    assert shell(command, root, *NOW, "-q", code=1) == ""

    assert "error link-malformed: docker/registry/v2/repositories/app/_manifests/tags/latest/current/link" in shell.err
    assert shell.json(command, root, *NOW, code=1)["findings"][0]["id"] == "link-malformed"
    assert "findings: 1" in shell(command, root, *NOW, code=1)


def test_information_is_no_reason_to_end_with_1(shell: Shell, root: Path) -> None:
    VolumeWriter(root).put("docker/registry/v2/blobs/sha256/zz/zzzz/data", b"stray")

    document = shell.json("plan", root, *NOW)

    assert [(finding["id"], finding["severity"]) for finding in document["findings"]] == [("stray", "info")]


def test_what_is_needed_again_is_said(shell: Shell, root: Path) -> None:
    shell("run", root, *NOW)
    digest = VolumeWriter(root).layer("other", bytes(1500))
    (root / blob_key(digest)).unlink()

    assert "1 items that an earlier run removed are needed again" in shell("plan", root, "--offline")
    assert shell.json("run", root, "--offline")["restored_count"] == 1


def test_a_dead_holders_lock_is_mentioned(shell: Shell, root: Path) -> None:
    shell("run", root, *NOW)
    holder = Holder(os.uname().nodename, 2**22 + 1, 1.0, "gc purge", "token")
    (root / "regstore/lock").write_text(json.dumps({name: getattr(holder, name) for name in Holder.__slots__}))

    shell("run", root, *NOW)

    assert "took over the lock of a dead run, gc purge" in shell.err


Write = Callable[[Path], object]


@pytest.mark.parametrize(
    "write",
    [lambda path: path.write_text("{}"), lambda path: path.write_text(""), lambda path: path.mkdir()],
    ids=["no plan", "empty", "directory"],
)
def test_what_is_no_plan_is_a_usage_error(shell: Shell, tmp_path: Path, write: Write) -> None:
    write(tmp_path / "plan")

    with pytest.raises(UsageError):
        shell("apply", tmp_path / "plan")


def test_selection_options_reach_the_options(shell: Shell, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    shell(
        "plan",
        root,
        *("--offline", "--delete-untagged", "--untagged-older-than", "3d", "--grace", "2h", "--upload-age", "1d"),
        *("--registry-url", "http://a:1", "--registry-url", "http://b:2", "--max-delete", "5GiB"),
        *("--empty-repositories", "--keep-signature-history", "--delete-orphan-signatures", "--no-quarantine"),
        *("--quarantine-retention", "1w", "--repository", "app*", "--jobs", "3", "--out", path),
    )

    options = json.loads(path.read_text().splitlines()[0])["options"]
    assert options == {
        "offline": True,
        "delete_untagged": True,
        "untagged_older_than": 259200.0,
        "grace": 7200.0,
        "registry_urls": ["http://a:1", "http://b:2"],
        "max_delete_percent": None,
        "max_delete_bytes": 5 * 1024**3,
        "upload_age": 86400.0,
        "empty_repositories": True,
        "keep_signature_history": True,
        "delete_orphan_signatures": True,
        "no_quarantine": True,
        "quarantine_retention": 604800.0,
        "repository": "app*",
        "jobs": 3,
    }
    assert {parameter.name for parameter in module.command.commands["plan"].params} >= set(options) - {
        "max_delete_percent",
        "max_delete_bytes",
    }

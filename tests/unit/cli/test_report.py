"""`regstore report`: what it prints, for people and for scripts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import time
from pathlib import Path

import pytest

from regstore.errors import RefusedError, UsageError
from regstore.report.history import Entry, History
from support import images
from support.shell import Shell
from support.volume import V2, VolumeWriter, blob_key, tag_link_key


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """A function that runs `regstore report ...`."""
    return Shell(capfd, "report")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with three images in two repositories that share a layer, and an unneeded layer of 1500 bytes."""
    root = tmp_path / "data"
    writer = VolumeWriter(root)
    writer.push_image("team/app", "v1", [b"shared", b"one"], b'{"n": 1}')
    writer.push_image("team/app", "v2", [b"shared", b"two"], b'{"n": 2}')
    writer.push_image("team/web", "latest", [b"shared", b"three"], b'{"n": 3}')
    writer.layer("team/app", bytes(1500))
    return root


def test_a_report_for_people(shell: Shell, root: Path) -> None:
    out = shell("capacity", "--grace", "0s", root)

    assert f"registry        file://{root}" in out
    assert re.search(r"stored +\S+ KiB in 11 blobs", out)
    assert re.search(r"unreferenced +1\.5 KiB: what a collection frees", out)
    assert re.search(r"^team/ +3 +3", out, re.MULTILINE)
    assert re.search(r"^  team/app +2 +2 .* \d{4}-\d\d-\d\d +team/web$", out, re.MULTILINE)
    assert "not enough data" in out
    assert "info reclaimable: team/app" in out
    assert shell.err == ""


def test_a_report_for_scripts(shell: Shell, root: Path) -> None:
    document = shell.json("capacity", "--grace", "0s", "--tags", "--history", "--what-if", "keep-last 1", root)

    totals = document["totals"]
    assert set(totals) == {
        *("stored_bytes", "allocated_bytes", "logical_bytes", "live_bytes", "unreferenced_bytes", "grace_bytes"),
        *("quarantined_bytes", "upload_bytes", "multipart_bytes", "link_count", "inode_count", "repository_count"),
        *("tag_count", "revision_count", "blob_count", "tag_history_count"),
    }
    assert totals["unreferenced_bytes"] == 1500
    assert set(document["volume"]) == {"total_bytes", "free_bytes", "total_inodes", "free_inodes"}
    assert set(document["repositories"][0]) == {
        *("name", "tag_count", "revision_count", "logical_bytes", "stored_bytes", "unique_bytes", "shared_bytes"),
        *("reclaimable_bytes", "newest_push_at", "growth_bytes", "shared_with"),
    }
    app, web = document["repositories"]
    assert app["shared_with"] == [{"name": "team/web", "bytes": 6}]
    assert (app["shared_bytes"], web["shared_bytes"]) == (6, 6)
    (space,) = document["namespaces"]
    assert space["name"] == "team/"
    assert space["stored_bytes"] == app["stored_bytes"] + web["stored_bytes"]
    assert set(document["tags"][0]) == {
        *("repository", "tag", "digest", "size_bytes", "unique_bytes", "layer_count", "platforms", "pushed_at"),
    }
    assert document["what_if"][0]["rule"] == "keep-last 1"
    assert document["what_if"][0]["tag_count"] == 1
    assert document["forecast"]["state"] == "not-enough-data"
    assert [entry["totals"] for entry in document["history"]] == [totals]
    assert document["strays"] == []
    assert (document["schema_version"], document["exit_code"]) == (1, 0)


def test_what_was_not_asked_for_is_not_there(shell: Shell, root: Path) -> None:
    document = shell.json("capacity", root)

    assert not {"tags", "what_if", "history"} & set(document)


def test_rows_are_chosen_and_the_totals_stay(shell: Shell, root: Path) -> None:
    shell("capacity", "-q", root)
    everything = shell.json("capacity", root)

    chosen = shell.json("capacity", "--repository", "*/web", "--tags", root)
    first = shell.json("capacity", "--top", "1", "--sort", "name", root)

    assert [row["name"] for row in everything["repositories"]] == ["team/app", "team/web"]
    assert [row["name"] for row in chosen["repositories"]] == ["team/web"]
    assert [row["tag"] for row in chosen["tags"]] == ["latest"]
    assert [row["name"] for row in first["repositories"]] == ["team/app"]
    assert chosen["totals"] == first["totals"] == everything["totals"]
    assert chosen["namespaces"] == first["namespaces"] == everything["namespaces"]


@pytest.mark.parametrize("sort", ["stored", "logical", "unique", "shared", "reclaimable", "growth", "tags", "newest"])
def test_rows_are_sorted_largest_first(shell: Shell, root: Path, sort: str) -> None:
    at = time.time()
    os.utime(root / tag_link_key("team/web", "latest"), (at + 50, at + 50))

    names = [row["name"] for row in shell.json("capacity", "--sort", sort, root)["repositories"]]

    assert names == (["team/web", "team/app"] if sort == "newest" else ["team/app", "team/web"])


def test_csv_is_the_main_list_with_raw_numbers(shell: Shell, root: Path) -> None:
    document = shell.json("capacity", "--tags", root)

    repositories = list(csv.DictReader(io.StringIO(shell("capacity", "--format", "csv", root))))
    tags = list(csv.DictReader(io.StringIO(shell("capacity", "--format", "csv", "--tags", root))))

    assert [row["name"] for row in repositories] == [row["name"] for row in document["repositories"]]
    assert [int(row["stored_bytes"]) for row in repositories] == [r["stored_bytes"] for r in document["repositories"]]
    assert [row["newest_push_at"] for row in repositories] == [r["newest_push_at"] for r in document["repositories"]]
    assert [row["digest"] for row in tags] == [row["digest"] for row in document["tags"]]


def test_csv_of_nothing_has_a_header(shell: Shell, tmp_path: Path) -> None:
    for name in ("blobs", "repositories"):
        (tmp_path / "empty" / V2 / name).mkdir(parents=True)

    assert shell("capacity", "--format", "csv", tmp_path / "empty").startswith("name,tag_count,")


def test_plain_is_for_awk(shell: Shell, root: Path) -> None:
    lines = [line.split("\t") for line in shell("capacity", "--plain", root).splitlines()]

    assert lines[0][:3] == ["name", "tag_count", "revision_count"]
    assert {len(line) for line in lines} == {10}
    assert lines[1][0] == "team/app"
    assert lines[1][4].isdigit()


def test_metrics_have_the_promised_names(shell: Shell, root: Path) -> None:
    out = shell("capacity", "--grace", "0s", "--format", "prom", "--metrics-top", "1", root)

    values = dict(line.rsplit(" ", 1) for line in out.splitlines() if not line.startswith("#"))
    label = f'{{registry="file://{root}"}}'
    assert values[f"regstore_reclaimable_bytes{label}"] == "1500"
    assert values[f"registry_storage_size_bytes{label}"] == values[f"regstore_stored_bytes{label}"]
    assert values[f"regstore_repositories{label}"] == "2"
    assert sum(name.startswith("regstore_repository_stored_bytes{") for name in values) == 1
    assert f'regstore_findings{{registry="file://{root}",job="report",check="reclaimable",severity="info"}}' in values


def test_a_file_is_written_whole_and_stdout_stays_empty(shell: Shell, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    umask = os.umask(0o027)
    try:
        assert shell("capacity", "--format", "json", "--out", path, root) == ""
    finally:
        os.umask(umask)

    assert json.loads(path.read_text())["command"] == "report capacity"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.glob("report*")] == ["report.json"]


def test_a_failed_run_leaves_the_old_file(shell: Shell, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")

    with pytest.raises(UsageError):
        shell("capacity", "--format", "csv", "--out", path, "--what-if", "nonsense", root)

    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_is_a_usage_error(shell: Shell, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write the report to"):
        shell("capacity", "--out", tmp_path / "no/such/report", root)


def test_quiet_says_nothing_when_all_is_well(shell: Shell, root: Path) -> None:
    assert shell("capacity", "-q", root) == ""
    assert shell.err == ""
    assert shell("dedup", "-q", root) == ""


def test_quiet_says_on_stderr_what_is_not_well(shell: Shell, root: Path) -> None:
    (root / tag_link_key("team/web", "latest")).write_bytes(b"")

    out = shell("capacity", "-q", "--format", "csv", root, code=1)

    assert out.startswith("name,")
    assert "link-malformed" in shell.err


def test_a_history_is_shown_and_grows(shell: Shell, root: Path) -> None:
    shell("capacity", "-q", root)

    out = shell("capacity", "--history", root)

    assert len(re.findall(r"^\d{4}-\d\d-\d\d .* KiB", out, re.MULTILINE)) == 2


def test_a_forecast_from_seven_days(shell: Shell, root: Path) -> None:
    history = History(f"file://{root}")
    for day in range(1, 10):
        history.add(Entry(time.time() - day * 86400, {"stored_bytes": 10**6 - 10**5 * day}), {})

    forecast = shell.json("capacity", root)["forecast"]

    assert forecast["state"] == "ok"
    assert forecast["growth_bytes_per_day"] == pytest.approx(10**5, rel=0.2)
    assert forecast["full_at"] > forecast["full_at_earliest"] or forecast["full_at"] == forecast["full_at_earliest"]
    assert "full on" in shell("capacity", root)


def test_without_a_writable_state_it_goes_on(
    shell: Shell, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    out = shell("capacity", root)

    assert "team/app" in out
    assert "this run is not recorded" in shell.err


def test_names_cannot_drive_the_terminal(shell: Shell, root: Path) -> None:
    stray = root / V2 / "blobs" / "evil\x1b[2Jname"
    stray.mkdir()

    document = shell.json("capacity", root)

    assert document["strays"] == [f"{V2}/blobs/evil\x1b[2Jname"]
    for form in ("table", "csv", "html", "prom"):
        assert "\x1b[2J" not in shell("capacity", "--format", form, root)


def test_untagged_deletion_is_refused_where_a_collection_refuses_it(shell: Shell, root: Path) -> None:
    for link in root.glob("**/current/link"):
        link.unlink()
        for path in (link.parent.parent / "index").rglob("link"):
            path.unlink()

    with pytest.raises(RefusedError, match="Harbor"):
        shell("capacity", "--delete-untagged", root)
    assert shell.json("capacity", root)["totals"]["tag_count"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "--format", "csv"),
        ("--plain", "--json"),
        ("--plain", "--format", "html"),
    ],
)
def test_forms_that_exclude_each_other(shell: Shell, root: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        shell("capacity", *arguments, root)


def test_shared_layers_for_people(shell: Shell, root: Path) -> None:
    out = shell("dedup", root)

    assert re.search(r"saved +12 B by sharing layers|saved +6 B by sharing layers", out)
    assert re.search(r"sha256:\S+ +6 B +2  team/app, team/web", out)
    assert re.search(r"^team/app +team/web +6 B", out, re.MULTILINE)


def test_shared_layers_for_scripts(shell: Shell, root: Path) -> None:
    document = shell.json("dedup", root)

    assert document["level"] == "blob"
    assert document["totals"] == {"layer_count": 4, "stored_bytes": 17, "logical_bytes": 23, "saved_bytes": 6}
    assert len(document["layers"]) == 4
    assert document["layers"][0]["repositories"] == ["team/app", "team/web"]
    assert document["pairs"] == [{"a": "team/app", "b": "team/web", "shared_bytes": 6}]
    assert len(shell.json("dedup", "--top", "1", root)["layers"]) == 1


@pytest.mark.parametrize("form", ["csv", "prom", "html"])
def test_other_forms_of_shared_layers(shell: Shell, root: Path, form: str) -> None:
    out = shell("dedup", "--format", form, root)

    expected = {
        "csv": "digest,size_bytes,repositories",
        "prom": "regstore_dedup_saved_bytes{",
        "html": "<!DOCTYPE html>",
    }
    assert expected[form] in out
    assert shell("dedup", "--plain", root).startswith("digest\tsize_bytes\trepositories\n")


def test_a_pipe_is_written_to_and_stays_a_pipe(shell: Shell, root: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        shell("capacity", "--format", "csv", "--out", pipe, root)
        assert os.read(reader, 100).startswith(b"name,tag_count")
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_symbolic_link_to_a_file_stays_one(shell: Shell, root: Path, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")

    shell("capacity", "--format", "csv", "--out", tmp_path / "link.csv", root)

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("name,tag_count")


def test_missing_layers_are_a_warning_at_every_level(shell: Shell, root: Path) -> None:
    lost = images.digest_of(b"three")
    (root / blob_key(lost)).unlink()

    for command in (("capacity",), ("dedup",), ("dedup", "--level", "file")):
        findings = shell.json(*command, root, code=1)["findings"]
        assert ("blob-missing", lost) in {(finding["id"], finding["subject"]) for finding in findings}


def test_tags_are_sorted_by_what_is_asked_for(shell: Shell, root: Path) -> None:
    VolumeWriter(root).push_image("big", "a", [b"shared", bytes(5000)], b"{}")
    VolumeWriter(root).push_image("big", "b", [b"shared", bytes(5000), b"own"], b"{}")

    rows = shell.json("capacity", "--tags", "--sort", "unique", root)["tags"]

    assert [row["unique_bytes"] for row in rows] == sorted((row["unique_bytes"] for row in rows), reverse=True)
    assert rows != sorted(rows, key=lambda row: -row["size_bytes"])


def test_the_largest_repositories_are_those_of_the_volume(shell: Shell, root: Path) -> None:
    out = shell("capacity", "--format", "prom", "--metrics-top", "1", "--repository", "team/web", root)

    assert 'repository="team/app"' in out

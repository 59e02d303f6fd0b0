"""`regstore metrics`."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from regstore.errors import UsageError
from support.shell import Shell
from support.volume import VolumeWriter, tag_link_key


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """A function that runs `regstore metrics ...`."""
    return Shell(capfd, "metrics")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with one image."""
    root = tmp_path / "data"
    VolumeWriter(root).push_image("app", "latest", [b"layer"], b"{}")
    return root


def values(text: str) -> dict[str, float]:
    """Return the samples of an exposition."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def run(*arguments: object) -> int:
    """Run the command line in a process of its own, where jobs are noted."""
    command = [sys.executable, "-m", "regstore", *map(str, arguments)]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def test_numbers_and_jobs_are_exported(shell: Shell, root: Path) -> None:
    assert run("gc", "run", "-q", "--offline", root) == 0
    (root / tag_link_key("app", "latest")).write_bytes(b"")
    assert run("fsck", "--json", root) == 1

    found = values(shell(root))

    label = f'registry="file://{root}"'
    assert found[f"regstore_tags{{{label}}}"] == 0
    assert found[f'regstore_job_exit_code{{{label},job="gc"}}'] == 0
    assert found[f'regstore_job_exit_code{{{label},job="fsck"}}'] == 1
    assert found[f"regstore_gc_deleted_blobs{{{label}}}"] == 0
    assert found[f'regstore_findings{{{label},job="fsck",check="link-malformed",severity="error"}}'] == 1
    assert found[f'regstore_findings{{{label},job="report",check="link-malformed",severity="error"}}'] == 1
    assert not list((root.parent / "state/regstore").glob("*.history.sqlite"))


def test_a_run_that_is_refused_is_noted(shell: Shell, root: Path) -> None:
    VolumeWriter(root).layer("app", bytes(10**6))
    assert run("gc", "run", "-q", "--offline", "--grace", "0s", root) == 3

    found = values(shell(root))

    label = f'registry="file://{root}",job="gc"'
    assert found[f"regstore_job_exit_code{{{label}}}"] == 3
    assert f"regstore_job_last_success_timestamp_seconds{{{label}}}" not in found


def test_a_textfile_is_replaced_whole(shell: Shell, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "registry.prom"
    path.write_text("old")

    assert shell("--textfile", path, root) == ""

    assert "regstore_stored_bytes" in path.read_text()
    assert [entry.name for entry in tmp_path.glob("registry.prom*")] == ["registry.prom"]


def test_it_serves_until_it_is_stopped(root: Path) -> None:
    command = [sys.executable, "-m", "regstore", "metrics", "--listen", "127.0.0.1:0", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            match = re.search(r"http://127\.0\.0\.1:\d+/metrics", process.stderr.readline())
            assert match
            with urllib.request.urlopen(match[0], timeout=60) as answer:
                first = answer.read()
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            VolumeWriter(root).push_image("app", "other", [b"other"], b"{}")
            with urllib.request.urlopen(match[0], timeout=60) as answer:
                assert answer.read() == first, "scanned again within a minute"
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(match[0].replace("/metrics", "/"), timeout=60)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(60) == 143
        finally:
            process.kill()
    assert b"regstore_stored_bytes" in first


@pytest.mark.parametrize("address", ["9119", "localhost:http", "localhost:70000", ":"])
def test_what_is_no_address_says_how_to_write_one(shell: Shell, root: Path, address: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        shell("--listen", address, root)


def test_two_ways_at_once_are_refused(shell: Shell, root: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        shell("--listen", "127.0.0.1:0", "--textfile", "x", root)


def test_a_failed_scan_counts_as_one_and_a_reader_may_go_away(root: Path) -> None:
    command = [sys.executable, "-m", "regstore", "metrics", "--listen", "127.0.0.1:0", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            match = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", process.stderr.readline())
            assert match
            repositories = root / "docker/registry/v2/repositories"
            repositories.rename(root / "away")
            for _ in range(3):
                with pytest.raises(urllib.error.HTTPError, match="500"):
                    urllib.request.urlopen(match[0], timeout=60)
            with socket.create_connection(("127.0.0.1", int(match[1]))) as client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            errors = process.stderr.read()
        finally:
            process.kill()
    assert errors.count("repositories") == 1, errors
    assert "Traceback" not in errors

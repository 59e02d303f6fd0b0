"""The servers for tests themselves: they start beside each other, end for certain, and are missed aloud."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import seaweed as support
from support.seaweed import SeaweedServer, require_weed, running_seaweed


def weeds() -> set[int]:
    """Return the process ids of this process's SeaweedFS servers."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if name == "weed" and state != "Z" and int(parent) == os.getpid():
            found.add(int(status.parent.name))
    return found


@pytest.mark.s3
def test_servers_run_beside_each_other_and_leave_nothing(seaweed: SeaweedServer) -> None:
    before = weeds()
    with running_seaweed(require_weed()) as other:
        (process,) = weeds() - before
        other.create_bucket("bucket")
        names = [bucket["Name"] for bucket in seaweed.client().list_buckets()["Buckets"]]
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        assert "bucket" not in names
        assert other.secret_key.encode() not in b" ".join(arguments)
        assert other.secret_key not in repr(other)

    assert weeds() == before
    (directory,) = [Path(os.fsdecode(word[5:])) for word in arguments if word.startswith(b"-dir=")]
    ports = [os.fsdecode(word.partition(b"=")[2]) for word in arguments if b".port.grpc=" in word]
    assert not directory.exists()
    assert not [port for port in ports if [*Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]]


def test_a_missing_weed_skips_or_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "weed_program", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="SeaweedFS is not installed"):
        require_weed()

    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="SeaweedFS is not installed"):
        require_weed()


def test_a_server_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho no such port; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(support, "START_ATTEMPTS", 2)

    with pytest.raises(RuntimeError, match="no such port"), running_seaweed(str(program)):
        pass


@pytest.mark.parametrize("module", ["base", "errors", "url", "filesystem", "memory"])
def test_boto3_is_imported_by_the_s3_driver_only(module: str) -> None:
    program = (
        f"import sys, regstore_drivers.{module}; sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

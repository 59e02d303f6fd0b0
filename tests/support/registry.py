"""A real registry: Debian's docker-registry over a directory or a bucket, on a free port of the loopback interface."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import random
import re
import socket
import subprocess
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import yaml

BINARY = "docker-registry"

START_SECONDS = 60.0
START_ATTEMPTS = 20

# Below the range from which the kernel takes ports for outgoing connections, so that none of those can be in the way.
PORTS = range(20000, 32000)

_running: weakref.WeakSet[Registry] = weakref.WeakSet()


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Registry:
    """A running registry; a context manager that starts and stops it.

    Args:
        workdir: where its configuration and log are written.
        root: the root directory (the one that has `docker/registry/v2` below it); None: `workdir/data`.
        storage: a storage section instead, such as `{"s3": {...}}`.
        delete_enabled: whether the API deletes.
        cache: the blob descriptor cache: none, or in memory, as in the packaged default.
        readonly: read-only maintenance mode, in which writes are answered by 405.
        schema1: whether docker schema1 manifests are accepted.
        foreign_urls: whether layers with URLs are accepted.
        proxy: the URL of a registry to be a pull-through cache of.
    """

    def __init__(
        self,
        workdir: Path,
        root: Path | None = None,
        *,
        storage: dict[str, Any] | None = None,
        delete_enabled: bool = True,
        cache: Literal["inmemory"] | None = None,
        readonly: bool = False,
        schema1: bool = False,
        foreign_urls: bool = False,
        proxy: str | None = None,
    ) -> None:
        self.root = root or workdir / "data"
        self.config_path = workdir / "config.yml"
        self.log_path = workdir / "registry.log"
        self.port = 0
        if storage is None:
            self.root.mkdir(parents=True, exist_ok=True)
            storage = {"filesystem": {"rootdirectory": str(self.root)}}
        self.config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "fields": {"service": "registry"}},
            "storage": {
                **storage,
                "delete": {"enabled": delete_enabled},
                "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": readonly}},
                "redirect": {"disable": True},
            },
            "http": {"secret": "loopback"},
            "compatibility": {"schema1": {"enabled": schema1}},
        }
        if cache:
            self.config["storage"]["cache"] = {"blobdescriptor": cache}
        if foreign_urls:
            self.config["validation"] = {"manifests": {"urls": {"allow": ["."]}}}
        if proxy:
            self.config["proxy"] = {"remoteurl": proxy}
        self._process: subprocess.Popen[bytes] | None = None
        self._use_port(free_port())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Host and port, as in the name of an image."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the API, without `/v2/`."""
        return f"http://{self.address}"

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """Return what the registry logged since its first start."""
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers; it keeps its port unless another program took that meanwhile.

        Raises:
            RuntimeError: it does not start; the end of its log is in the message.
        """
        if self.is_running:
            return
        for _ in range(START_ATTEMPTS):
            log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._spawn()
            if self._wait_until_ready(log_start):
                return
            self._use_port(free_port())
        raise RuntimeError(f"no free port for {BINARY}")

    def stop(self) -> None:
        """Stop it; harmless when it is stopped already."""
        process, self._process = self._process, None
        _running.discard(self)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill it as a power failure would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def restart(self, **storage: Any) -> None:
        """Stop and start it, which empties its cache; keywords replace parts of the storage section.

        `restart(maintenance={"readonly": {"enabled": True}})` makes it read-only.
        """
        self.stop()
        self.config["storage"].update(storage)
        self._use_port(self.port)
        self.start()

    def _use_port(self, port: int) -> None:
        self.port = port
        self.config["http"]["addr"] = self.address
        self.config_path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def _spawn(self) -> None:
        # Such a variable would override the configuration, or make its S3 client fail.
        foreign = ("REGISTRY_", "AWS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                # A test process that is killed takes its registry along.
                ["setpriv", "--pdeathsig", "KILL", BINARY, "serve", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        _running.add(self)

    def _wait_until_ready(self, log_start: int) -> bool:
        """Wait for the answer of this very process; False when its port was taken.

        The log proves whose port it is: an answer alone could come from another registry that was quicker.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            running = self.is_running
            with self.log_path.open("rb") as log:
                log.seek(log_start)
                text = log.read().decode(errors="replace")
            if not running:
                self.stop()
                if "address already in use" in text:
                    return False
                raise RuntimeError(f"{BINARY} does not start:\n{text[-2000:]}")
            if f"listening on {self.address}" in text and self._answers():
                return True
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"{BINARY} does not answer after {START_SECONDS:.0f} s:\n{self.log_text()[-2000:]}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def registry_version() -> str:
    """Return the version of the registry's program, such as `2.8.2`."""
    text = subprocess.run([BINARY, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found.group() if found else text.strip()


def garbage_collect(config_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the registry's own collector, for tests that compare with it."""
    return subprocess.run(
        [BINARY, "garbage-collect", *arguments, str(config_path)], check=False, capture_output=True, text=True
    )


@atexit.register
def _stop_all() -> None:
    for registry in list(_running):
        registry.stop()

"""A registry of the drill's own: the real program over what was restored, on the loopback interface.

It has a configuration of its own, cannot write or delete, and caches nothing. Sources: registry/handlers/app.go and
configuration/configuration.go of distribution v2.8.3 and v3.1.1.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from regstore.backup.drill import tied
from regstore.errors import StorageFailedError, UsageError
from regstore.registry.http import RegistryClient, RegistryFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.work import Cancel

_PROGRAMS = ("docker-registry", "registry")
"""As Debian calls it, and as the project does."""
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_PORT_ATTEMPTS = 5
_LOG_LINES = 10
_LOG_LINE_LENGTH = 300
_MARK = "x-regstore-drill"


def find_program(name: str | None = None) -> str | None:
    """Return the path of a registry's program: the named one, else the one on PATH; None where there is none.

    Raises:
        UsageError: there is no program of that name.
    """
    if name is None:
        return next((path for program in _PROGRAMS if (path := shutil.which(program))), None)
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"there is no program {name}", hint="--registry-program takes a name on PATH, or a path")
    return os.path.abspath(path)


class Server:
    """A registry that runs: where it answers, and what it logged.

    Attributes:
        client: of its API.
    """

    def __init__(self, program: str, process: subprocess.Popen[bytes], client: RegistryClient, log: str) -> None:
        self._program = program
        self._process = process
        self.client = client
        self._log = log

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    @property
    def is_port_taken(self) -> bool:
        """Whether its log says that something else listens on its port."""
        return any("address already in use" in line for line in _read_lines(self._log))

    def failed(self, what: str) -> StorageFailedError:
        """Make the error of a registry that does not do its work, with the end of its log."""
        code = self._process.poll()
        how = "" if code is None else f" (it ended with {code})"
        error = StorageFailedError(
            f"{self._program} {what}{how}: the images could not be pulled from it",
            hint="this says nothing of the backup: see that the program runs, or name another with --registry-program",
            code="registry-failed",
        )
        for line in _read_lines(self._log)[-_LOG_LINES:]:
            error.add_note(f"its log: {line[:_LOG_LINE_LENGTH]}")
        return error

    def stop(self) -> None:
        """Stop it, and whatever it started."""
        self.client.close()
        if self.is_running:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def serving(program: str, root: str, home: str, cancel: Cancel) -> Iterator[Server]:
    """Serve a registry's root directory for one block.

    Args:
        program: the path of a registry's program.
        root: the directory that has `docker/registry/v2` below it.
        home: a directory for its configuration and its log.
        cancel: asked while it starts.

    Raises:
        StorageFailedError: it does not start, with the end of its log.
        InterruptedRunError: somebody asked to stop.
    """
    for _ in range(_PORT_ATTEMPTS):
        server = _start(program, root, home, mark := secrets.token_hex(8))
        try:
            if _wait_until_ready(server, mark, cancel):
                yield server
                return
        finally:
            server.stop()
    raise server.failed("finds no free port")


def _start(program: str, root: str, home: str, mark: str) -> Server:
    port = _free_port()
    configuration, log = os.path.join(home, "registry.yml"), os.path.join(home, "registry.log")
    with open(configuration, "w", encoding="utf-8") as file:
        json.dump(_configure(root, port, mark), file)  # JSON is YAML
    foreign = ("REGISTRY_", "OTEL_")  # such variables go before the configuration
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["OTEL_TRACES_EXPORTER"] = "none"  # 3.x looks for a collector of traces otherwise
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(tied.__file__), str(os.getpid()), program, "serve", configuration],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for regstore, which then stops it
        )
    return Server(program, process, RegistryClient(f"http://127.0.0.1:{port}"), log)


def _configure(root: str, port: int, mark: str) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": root},
            "delete": {"enabled": False},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": True}},
        },
        "http": {
            "addr": f"127.0.0.1:{port}",
            "secret": secrets.token_hex(16),
            "headers": {_MARK: [mark]},  # proves whose answer it is: another program may have been quicker
        },
        "compatibility": {"schema1": {"enabled": True}},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server, mark: str, cancel: Cancel) -> bool:
    """Wait for the answer of this very process; False when its port was taken meanwhile."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        is_running = server.is_running
        with suppress(RegistryFailedError):
            status, headers = server.client.request("GET", "/v2/")
            if status == 200 and headers.get(_MARK) == mark:
                return True
        if not is_running:
            if server.is_port_taken:
                return False
            raise server.failed("does not start")
        cancel.wait(_POLL_SECONDS)
    raise server.failed(f"does not answer {_START_SECONDS:.0f} s after its start")


def _read_lines(path: str) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip() for line in file if line.strip()]
    return []

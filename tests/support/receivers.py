"""Those who are told of a night: a server for webhooks and pings, and sendmail programs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Receiver:
    """A server of HTTP that keeps what it is sent.

    Attributes:
        url: a URL with a secret path.
        requests: method, path, headers and body of each request.
        status, headers: what it answers.
        hangs: whether it never answers.
        trickles: whether it answers a letter a second.
    """

    url: str = ""
    requests: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    trickles: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The bodies, as JSON."""
        return self.documents_of("")

    def documents_of(self, end: str) -> list[dict[str, Any]]:
        """The bodies of requests whose path ends so."""
        return [json.loads(body) for _, path, _, body in self.requests if path.endswith(end)]

    @property
    def paths(self) -> list[str]:
        """The paths, without their queries."""
        return [path.partition("?")[0] for _, path, _, _ in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            receiver.requests.append((self.command, self.path, dict(self.headers), body))
            if receiver.hangs:
                receiver.is_over.wait(60)
                return
            if receiver.trickles:
                for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60:
                    if receiver.is_over.wait(0.2):
                        return
                    self.wfile.write(bytes([letter]))
                return
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/secret-path"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Sendmail:
    """A directory with a program `sendmail` that keeps what it is given."""

    directory: Path

    def install(self, then: str = "exit 0") -> None:
        """Make the program; `then` is what it does after it has read the mail."""
        self.directory.mkdir(exist_ok=True)
        program = self.directory / "sendmail"
        base = self.directory / "mail"
        program.write_text(f'#!/bin/sh\necho "$*" >> {base}.arguments\ncat >> {base}.$$\n{then}\n')
        program.chmod(0o755)

    @property
    def mails(self) -> list[EmailMessage]:
        """What it was given, in order."""
        paths = [path for path in self.directory.glob("mail.*") if path.suffix[1:].isdecimal()]
        paths.sort(key=lambda path: path.stat().st_mtime_ns)
        return [message_from_bytes(path.read_bytes(), policy=default) for path in paths]

    @property
    def arguments(self) -> list[str]:
        """The arguments of each call."""
        return (self.directory / "mail.arguments").read_text().splitlines()


def wait_until_gone(pid: int) -> None:
    """Wait until a process is gone."""
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")

"""The parts of a registry's HTTP API that collections use, answered as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


class FakeRegistry:
    """Answers every request, and remembers it.

    Attributes:
        requests: what was asked, in order.
        answers: (method, start of the path) to status and headers; the longest start wins.
        hangs_up: close each connection after an answer without saying so, as a proxy does with idle ones.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[Request] = []
        self.answers: dict[tuple[str, str], tuple[int, dict[str, str]]] = {("GET", "/v2/"): (200, {})}
        self.hangs_up = False
        self.connection_count = 0

    def answer(self, method: str, path: str, status: int, **headers: str) -> None:
        """Answer requests of a method to paths that start so."""
        self.answers[method, path] = (status, {name.replace("_", "-"): value for name, value in headers.items()})

    def answer_to(self, request: Request) -> tuple[int, dict[str, str]]:
        """Choose the answer; 404 where none fits."""
        self.requests.append(request)
        fitting = [key for key in self.answers if key[0] == request.method and request.path.startswith(key[1])]
        return self.answers[max(fitting, key=lambda key: len(key[1]))] if fitting else (404, {})

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [f"{request.method} {request.path}" for request in self.requests]


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """Serve one on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            fake.connection_count += 1

        def handle_any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, fields = fake.answer_to(Request(self.command, self.path, headers))
            body = b"" if self.command == "HEAD" else b'{"errors": []}'
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = self.close_connection or fake.hangs_up

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeRegistry(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The parts of a registry's HTTP API that clients use, answered as a test wants."""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

NO_BODY = b'{"errors": []}'


class Request(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status, headers, body: what it says; a HEAD is answered without the body.
        sent: after so many bytes of the body the connection is cut.
        is_silent: instead of cutting the connection, send nothing more until the server ends.
        has_length: say how long the body is; else it is sent in chunks.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = NO_BODY
    sent: int | None = None
    is_silent: bool = False
    has_length: bool = True


class FakeRegistry:
    """Answers every request, and remembers it.

    Attributes:
        requests: what was asked, in order.
        answers: (method, start of the path) to answers; the longest start wins.
        guard: is asked first; what it returns is the answer, unless that is None.
        hangs_up: close each connection after an answer without saying so, as a proxy does with idle ones.
    """

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.requests: list[Request] = []
        self.answers: dict[tuple[str, str], Reply] = {("GET", "/v2/"): Reply(200)}
        self.guard: Callable[[Request], Reply | None] = lambda _: None
        self.hangs_up = False
        self.connection_count = 0
        self.is_over = threading.Event()

    def answer(self, method: str, path: str, status: int, **headers: str) -> None:
        """Answer requests of a method to paths that start so."""
        self.answers[method, path] = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()})

    def serve(self, path: str, body: bytes, status: int = 200, **more: Any) -> None:
        """Answer GET and HEAD of paths that start so with a body; keywords are those of `Reply`."""
        self.answers["GET", path] = self.answers["HEAD", path] = Reply(status, body=body, **more)

    def answer_to(self, request: Request) -> Reply:
        """Choose the answer; 404 where none fits."""
        self.requests.append(request)
        if (guarded := self.guard(request)) is not None:
            return guarded
        fitting = [key for key in self.answers if _fits(request, *key)]
        return self.answers[max(fitting, key=lambda key: len(key[1]))] if fitting else Reply(404)

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [f"{request.method} {request.path}" for request in self.requests]


def _fits(request: Request, method: str, path: str) -> bool:
    if method == "GET" and path.endswith("/v2/"):  # the question whether it is a registry, and nothing below it
        return (request.method, request.path) == (method, path)
    return request.method == method and request.path.startswith(path)


@contextmanager
def fake_registry(certificate: Path | None = None) -> Iterator[FakeRegistry]:
    """Serve one on a free port; with a file of a key and its certificate by https."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            fake.connection_count += 1

        def handle_any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            reply = fake.answer_to(Request(self.command, self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if self.command == "HEAD" and reply.body is NO_BODY:
                self.send_header("Content-Length", "0")
            elif reply.has_length:
                self.send_header("Content-Length", str(len(reply.body)))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                self.send_body(reply)
            self.close_connection = self.close_connection or fake.hangs_up

        def send_body(self, reply: Reply) -> None:
            sent = reply.body[: reply.sent]
            try:
                if reply.has_length:
                    self.wfile.write(sent)
                else:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b"")
                    self.wfile.write(b"" if reply.sent is not None else b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            if reply.is_silent:
                fake.is_over.wait()
            if reply.sent is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), OSError):  # a client that goes away is what some tests are about
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    fake = FakeRegistry(server.server_port, "http" if certificate is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()

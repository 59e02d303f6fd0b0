"""An S3 server that answers exactly what a test tells it to: the faults that real servers have on bad days only."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape

from support.s3_server import S3Server

TIME = "2024-05-06T07:08:09.000Z"
HTTP_TIME = "Mon, 06 May 2024 07:08:09 GMT"
ETAG = '"5d41402abc4b2a76b9719d911017c592"'


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: of HTTP.
        body: what the Content-Length counts.
        headers: over the usual ones; an empty value leaves a header out.
        cut_after: end the connection after so many bytes of the body.
        reset: end it with a reset and not in good order.
        drop: end the connection without any answer.
        hang: wait until the server stops before the rest of the body is sent.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    reset: bool = False
    drop: bool = False
    hang: bool = False


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class FakeS3(S3Server):
    """The server: give it replies, in order, and look at the requests afterwards."""

    def __init__(self, endpoint: str, http: _Server) -> None:
        super().__init__(endpoint, "fake-access-key", "fake-secret-key")
        object.__setattr__(self, "http", http)

    http: _Server

    def reply(self, *replies: Reply) -> None:
        """Answer the next requests so, one after the other; without a reply left it is a 404."""
        self.http.replies.extend(replies)

    @property
    def requests(self) -> list[Request]:
        """The requests so far."""
        return self.http.requests


@contextmanager
def running_fake_s3(server: str = "AmazonS3") -> Iterator[FakeS3]:
    """Run one on a free port of the loopback; `server` is the name that it gives itself in its answers."""
    http = _Server(("127.0.0.1", 0), _Handler, server)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield FakeS3(f"http://127.0.0.1:{http.server_address[1]}", http)
    finally:
        http.stopping.set()
        http.shutdown()
        thread.join()
        http.server_close()


def error(status: int, code: str, message: str = "as told", **headers: str) -> Reply:
    """An error document."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Reply(status, body.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def listing(keys: Iterable[str], *, prefix: str | None = None, token: str | None = None, **elements: Any) -> Reply:
    """A page of a listing; `elements` replace or (None) remove what the page says about itself."""
    keys = list(keys)
    told = {
        "Prefix": prefix and quote(prefix),
        "KeyCount": len(keys),
        "IsTruncated": str(token is not None).lower(),
        "NextContinuationToken": token,
        "EncodingType": "url",
        **elements,
    }
    parts = [f"<{name}>{escape(str(value))}</{name}>" for name, value in told.items() if value is not None]
    parts += [
        f"<Contents><Key>{quote(key)}</Key><Size>1</Size><LastModified>{TIME}</LastModified>"
        f"<ETag>{escape(ETAG)}</ETag></Contents>"
        for key in keys
    ]
    return Reply(200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())


def head(size: int = 5, **headers: str) -> Reply:
    """The answer to a HEAD, or the start of an object."""
    usual = {"Content-Length": str(size), "ETag": ETAG, "Last-Modified": HTTP_TIME}
    return Reply(200, b"", {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], name: str) -> None:
        super().__init__(address, handler)
        self.name = name
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: that is what tests make them do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.server.requests.append(Request(self.command, url.path, query, headers, body))
        reply = self.server.replies.pop(0) if self.server.replies else error(404, "NoSuchKey")
        usual = {"Date": formatdate(usegmt=True), "Server": self.server.name, "Content-Length": str(len(reply.body))}
        if reply.drop:
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        for name, value in {**usual, **reply.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if reply.cut_after is None else reply.body[: reply.cut_after])
        if reply.hang:
            self.server.stopping.wait(30)
        if reply.cut_after is not None or reply.hang:
            self.close_connection = True
        if reply.reset:
            # A socket that is closed without lingering sends a reset.
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the names that the server calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""

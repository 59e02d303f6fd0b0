"""Between a client and a real S3 server: what networks, proxies and overloaded servers do to requests and answers."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HANG_SECONDS = 45
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Asked:
    """A request: its method, the query behind its path, its headers in small letters, and how many bytes it brings."""

    method: str
    query: str
    headers: Mapping[str, str]
    size: int


Fault = Callable[[random.Random, Asked], str]
"""What happens to a request: the name of a fault, or an empty text."""


def fails_often(dice: random.Random, asked: Asked) -> str:
    """Three requests in ten meet 500 or 503; half of these have had their effect."""
    return dice.choice(["500", "503", "503 done"]) if dice.random() < 0.3 else ""


def cuts_often(dice: random.Random, asked: Asked) -> str:
    """Three connections in ten end in the midst."""
    return dice.choice(["cut", "drop", "drop done"]) if dice.random() < 0.3 else ""


def is_old(dice: random.Random, asked: Asked) -> str:
    """A server from before checksums and conditional writes."""
    new = ("x-amz-checksum-", "x-amz-sdk-checksum-", "if-none-match")
    return "501" if asked.method != "GET" and any(name.startswith(new) for name in asked.headers) else ""


class Hangs:
    """The first uploads and downloads of data get no answer for longer than anybody waits."""

    def __init__(self, count: int = 1) -> None:
        self._left = {"PUT": count, "GET": count}

    def __call__(self, dice: random.Random, asked: Asked) -> str:
        if self._left.get(asked.method, 0) and not asked.query:
            self._left[asked.method] -= 1
            return "hang"
        return ""


class Lies:
    """Each kind of request that may say 200 and fail does so, three times."""

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()

    def __call__(self, dice: random.Random, asked: Asked) -> str:
        kind = {"POST": "delete" if asked.query.startswith("delete") else "complete"}.get(asked.method, "")
        kind = kind if "uploads" not in asked.query else ""
        if "x-amz-copy-source" in asked.headers:
            kind = "copy"
        if not kind or self._told[kind] == 3:
            return ""
        self._told[kind] += 1
        return "200"


@dataclass
class Line:
    """A running one.

    Attributes:
        endpoint: what clients are given.
        met: how often each fault happened.
    """

    endpoint: str
    met: Counter[str]


@contextmanager
def bad_line(endpoint: str, fault: Fault, seed: int = 1) -> Iterator[Line]:
    """Pass requests on to an endpoint, with faults; signatures stay valid, because the Host is passed on too."""
    server = _Server(endpoint, fault, seed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Line(f"http://127.0.0.1:{server.server_address[1]}", server.met)
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: str, fault: Fault, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(endpoint).netloc
        self.fault = fault
        self.dice = random.Random(seed)
        self.lock = threading.Lock()
        self.met: Counter[str] = Counter()
        self.stopping = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _pass(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        size = int(headers.get("content-length", 0))
        body = self.rfile.read(size)
        with self.server.lock:
            fault = self.server.fault(self.server.dice, Asked(self.command, self.path.partition("?")[2], headers, size))
            self.server.met[fault] += 1
        if fault.endswith("done") or fault in ("", "cut"):
            status, told, data = self._ask(body)
        word = fault.partition(" ")[0]
        if word == "hang":
            self.server.stopping.wait(HANG_SECONDS)
        if word in ("hang", "drop"):
            self.close_connection = True
        elif word in ("200", "500", "501", "503"):
            code = {"501": "NotImplemented", "503": "SlowDown"}.get(word, "InternalError")
            text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>a bad line</Message></Error>'
            self._answer(int(word), {"Content-Type": "application/xml"}, text.encode())
        else:
            self._answer(status, told, data, cut=word == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {*_HOP_BY_HOP, "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return answer.status, told, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: Mapping[str, str], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        is_counted = self.command == "HEAD" or status == 204
        for name, value in headers.items():
            if is_counted or name.lower() != "content-length":
                self.send_header(name, value)
        if not is_counted:
            self.send_header("Content-Length", str(len(data)))
        if not any(name.lower() == "date" for name in headers):
            self.send_header("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        if cut:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)

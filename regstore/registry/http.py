"""A client of a registry's HTTP API: connections, credentials, redirects, and bodies as streams.

Sources: the distribution specification of the OCI (spec.md, "Pull"); docs/spec/auth/{token,oauth}.md of distribution
v2.8.3. Registries that keep their data in an object store redirect the download of a blob there.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections import deque
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode, urljoin, urlsplit

from regstore._version import __version__
from regstore.errors import StorageFailedError, UsageError
from regstore.registry.credentials import parse_challenge, read_credentials
from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from regstore.registry.credentials import Challenge

TIMEOUT_SECONDS = 30.0
"""How long a connection may take to come about, and how long it may then be silent."""

_PIECE_BYTES = 256 * 1024
_DRAINED_BYTES = 1024 * 1024
_TOKEN_BYTES = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_PASSING = frozenset({429, 500, 502, 503, 504})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REPOSITORY = re.compile(r"/v2/(.+)/(?:blobs|manifests|tags)/")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class RegistryFailedError(StorageFailedError):
    """A registry, or a server that it sends its clients to, does not do what it is asked.

    Attributes:
        retryable: the same request may succeed in a moment.
        retry_after: the seconds that the server asks to wait before that, or 0.
    """

    def __init__(
        self, message: str, *, hint: str = "", code: str = "", retryable: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retryable = retryable
        self.retry_after = retry_after


class Origin(NamedTuple):
    """The server of a URL: what credentials are for, and what a connection leads to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


class Body(PieceStream):
    """The body of an answer as a stream, which never ends early without an error.

    Attributes:
        size: bytes, by the answer's Content-Length (of a HEAD: those that a GET would bring); None when it has none.
        origin: the server that sends it, which after a redirect is not the registry.
    """

    def __init__(self, response: http.client.HTTPResponse, origin: Origin, end: Callable[[bool], None]) -> None:
        self._response = response
        self._end = end
        self._left = response.length
        self._count = 0
        length = response.headers.get("Content-Length", "")
        self.size = int(length) if length.isascii() and length.isdigit() else None
        self.origin = origin

    def read_piece(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end.

        Raises:
            RegistryFailedError: the body broke off, or nothing came for too long.
        """
        try:
            piece = self._response.read(min(size, _PIECE_BYTES))
        except TimeoutError as error:
            raise self._broken("nothing more came in time", retryable=False) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(str(error) or type(error).__name__) from error
        self._count += len(piece)
        if self._left is not None:
            self._left -= len(piece)
            if self._left and not piece:
                raise self._broken("the body ended")
        return piece

    def drain(self) -> None:
        """Read what is left, if that is little, so that the connection can be used again; then close.

        What goes wrong meanwhile only costs the connection.
        """
        with closing(self), suppress(RegistryFailedError):
            while self._count < _DRAINED_BYTES and self.read_piece(_PIECE_BYTES):
                pass

    def close(self) -> None:
        """Give the connection back, or drop it when there is more to come."""
        if not self.closed:
            is_reusable = self._response.isclosed() and not self._response.will_close
            self._response.close()
            self._end(is_reusable)
        super().close()

    def _broken(self, why: str, *, retryable: bool = True) -> RegistryFailedError:
        total = "" if self.size is None else f" of {self.size}"
        return RegistryFailedError(
            f"{self.origin} stopped after {self._count}{total} bytes: {why}",
            code="registry-unreachable",
            retryable=retryable,
        )


class Answer(NamedTuple):
    """An answer whose body is still to be read.

    Attributes:
        status: the HTTP status.
        headers: by lower-case name; values of the same name are joined by commas.
        stream: the body.
    """

    status: int
    headers: Mapping[str, str]
    stream: Body


class RegistryClient:
    """A client of one registry, for any number of threads.

    Credentials come from the docker configuration (`$DOCKER_CONFIG/config.json`), never from the URL. They go to the
    registry and to the token server that it names, and never to where it redirects.

    Args:
        url: `http://host:port` or `https://host`, with a path prefix where the registry has one.
        timeout_seconds: how long a connection may take to come about, and how long it may then be silent.

    Raises:
        UsageError: it is no such URL, or holds credentials.
    """

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url) if _is_sound(url) else None
        if parts is not None and (parts.username or parts.password):
            raise UsageError(
                "a registry URL must not hold credentials: they would be shown by ps",
                hint="use docker login, or set DOCKER_CONFIG",
            )
        if parts is None or (origin := _origin_of(url)) is None or parts.query or parts.fragment:
            shown = re.split(r"[?#]", url.rpartition("@")[2], maxsplit=1)[0]
            raise UsageError(f"{shown!r} is no URL of a registry", hint="write it as http://registry.example:5000")
        self.url = url.rstrip("/")
        self._origin = origin
        self._prefix = parts.path.rstrip("/")
        self._credentials = read_credentials(parts.netloc)
        self._tokens: dict[tuple[str, str], str] = {}
        self._pool = _Pool(timeout_seconds)

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, is_whole_path: bool = False
    ) -> tuple[int, Mapping[str, str]]:
        """Ask for something whose body does not matter; redirects are not followed.

        Args:
            method: the HTTP method.
            path: from `/v2/` on.
            headers: further headers.
            is_whole_path: the path already has the registry's prefix, and maybe a query.

        Returns:
            The status and the headers by lower-case name.

        Raises:
            RegistryFailedError: it does not answer (code `registry-unreachable`), or its token server gives no token
                (code `registry-access`).
        """
        target = path if is_whole_path else self._prefix + path
        status, answered, body = self._send(method, target, headers or {})
        body.drain()
        return status, answered

    @contextmanager
    def get_stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Iterator[Answer]:
        """Open what a path (from `/v2/` on) leads to as a stream, for one block; see `open_stream`."""
        answer = self.open_stream(path, headers=headers, method=method)
        with closing(answer.stream):
            yield answer

    def open_stream(self, path: str, *, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        """Open what a path (from `/v2/` on) leads to as a stream, which the caller closes; redirects are followed.

        Args:
            path: from `/v2/` on.
            headers: further headers.
            method: GET, or HEAD to learn the status and the size.

        Raises:
            RegistryFailedError: see `request`; or it redirects too often, from https to http, or to what is no
                URL (code `registry-redirect`).
        """
        return self._follow(method, self._prefix + path, headers or {})

    def check_registry(self) -> None:
        """See that a registry is there. One with tokens says only at a repository whom it gives access.

        Raises:
            RegistryFailedError: it does not answer, refuses access (code `registry-access`), or is no registry (code
                `no-registry`).
        """
        headers = self._credentials.headers
        status, answered, body = self._ask(self._origin, "GET", f"{self._prefix}/v2/", headers)
        body.drain()
        if status == 401 and parse_challenge(answered.get("www-authenticate", "")):
            return
        self.check_access(status)
        if status != 200:
            raise RegistryFailedError(
                f"{self.url} answers {status} to GET /v2/: it is no registry",
                code="no-registry",
                retryable=status in _PASSING,
            )

    def check_access(self, status: int) -> None:
        """Make an error of a status that refuses access.

        Raises:
            RegistryFailedError: it is 401 or 403 (code `registry-access`).
        """
        if status in (401, 403):
            raise RegistryFailedError(
                f"{self.url} refuses access ({status})",
                hint="use docker login for this registry; credential helpers are not run",
                code="registry-access",
            )

    def error_of(self, answer: Answer, what: str) -> RegistryFailedError:
        """Make the error of an answer that is neither what was wanted nor says that it is not there.

        Args:
            answer: the answer.
            what: what was asked for, such as `GET /v2/app/blobs/sha256:...`.
        """
        status, headers, body = answer
        if body.origin == self._origin:
            try:
                self.check_access(status)
            except RegistryFailedError as error:
                return error
            where = self.url
        else:
            where = f"{body.origin}, to which {self.url} redirects,"
        pause = headers.get("retry-after", "")
        return RegistryFailedError(
            f"{where} answers {status} to {what}",
            code="registry-refused",
            retryable=status in _PASSING,
            retry_after=float(pause) if pause.isascii() and pause.isdigit() else 0.0,
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def _follow(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        answer = self._send(method, target, headers)
        here, is_own = str(self._origin) + target, True
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in _REDIRECTS:
                return answer
            answer.stream.drain()
            here, origin = self._check_redirect(answer, here)
            # What came back from elsewhere is a stranger's request: it gets no credentials either.
            is_own = is_own and origin == self._origin
            target = _target_of(here)
            answer = self._send(method, target, headers) if is_own else self._ask(origin, method, target, headers)
        if answer.status not in _REDIRECTS:
            return answer
        answer.stream.close()
        raise self._bad_redirect(f"more than {_MOST_REDIRECTS} times")

    def _check_redirect(self, answer: Answer, here: str) -> tuple[str, Origin]:
        """Return where to go. A signed URL is a credential, so that errors name the server only."""
        try:
            url = urljoin(here, answer.headers.get("location", ""))
        except ValueError:
            url = ""
        origin = _origin_of(url)
        if origin is None:
            raise self._bad_redirect("to what is no URL")
        if (answer.stream.origin.scheme, origin.scheme) == ("https", "http"):
            raise self._bad_redirect(f"from https to {origin}, which is not encrypted")
        return url, origin

    def _bad_redirect(self, how: str) -> RegistryFailedError:
        return RegistryFailedError(f"{self.url} redirects {how}", code="registry-redirect")

    def _send(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """Ask the registry, with a token when it wants one.

        No clock tells when a token is over: the registry's 401 does.
        """
        area = _area_of(method, target)
        token = self._tokens.get(area)
        authorization = {"Authorization": f"Bearer {token}"} if token else self._credentials.headers
        answer = self._ask(self._origin, method, target, {**headers, **authorization})
        challenge = parse_challenge(answer.headers.get("www-authenticate", "")) if answer.status == 401 else None
        if challenge is None:
            return answer
        answer.stream.drain()
        token = self._tokens[area] = self._fetch_token(challenge)
        return self._ask(self._origin, method, target, {**headers, "Authorization": f"Bearer {token}"})

    def _fetch_token(self, challenge: Challenge) -> str:
        """Get a token as docker does: for an identity token by POST, else by GET, with the basic login if any."""
        origin = _origin_of(challenge.realm)
        if origin is None or (self._origin.scheme, origin.scheme) == ("https", "http"):
            raise self._no_token("names a token server that is not to be trusted with credentials")
        target = _target_of(challenge.realm)
        asked = [("service", challenge.service)] if challenge.service else []
        try:
            if self._credentials.identity_token:
                form = [
                    *asked,
                    ("scope", " ".join(challenge.scopes)),
                    ("grant_type", "refresh_token"),
                    ("client_id", "regstore"),
                    ("refresh_token", self._credentials.identity_token),
                ]
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                answer = self._ask(origin, "POST", target, headers, urlencode(form).encode())
            else:
                query = urlencode([*asked, *(("scope", scope) for scope in challenge.scopes)])
                target += ("&" if "?" in target else "?") + query
                answer = self._ask(origin, "GET", target, self._credentials.headers)
            with closing(answer.stream):
                return self._token_of(answer)
        except RegistryFailedError as error:
            if error.code == "registry-access":
                raise
            # The registry itself did answer: this must not look as if nobody listened there.
            raise self._no_token(f"wants a token, and {error}", retryable=error.retryable) from error

    def _token_of(self, answer: Answer) -> str:
        status, _, body = answer
        if status != 200:
            reason = f"wants a token, and {body.origin} gives none ({status})"
            raise self._no_token(reason, retryable=status in _PASSING)
        data = bytearray()
        while len(data) < _TOKEN_BYTES and (piece := body.read(_PIECE_BYTES)):
            data += piece
        try:
            content = json.loads(data)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not _VISIBLE.fullmatch(token):
            raise self._no_token(f"wants a token, and {body.origin} answers with something else")
        return token

    def _no_token(self, what: str, *, retryable: bool = False) -> RegistryFailedError:
        return RegistryFailedError(
            f"{self.url} {what}",
            hint="use docker login for this registry; credential helpers are not run",
            code="registry-access",
            retryable=retryable,
        )

    def _ask(
        self, origin: Origin, method: str, target: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Answer:
        sent = {"User-Agent": f"regstore/{__version__}", **headers}
        while True:
            connection, is_fresh = self._pool.take(origin)
            try:
                connection.request(method, target, content, sent)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A kept-alive connection may have been closed by the other side; deleting twice does no harm.
                if is_fresh or isinstance(error, TimeoutError):
                    raise self._unreachable(origin, error) from error
                continue
            return self._answer_of(response, connection, origin)

    def _answer_of(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, origin: Origin
    ) -> Answer:
        def end(is_reusable: bool) -> None:
            if is_reusable:
                self._pool.give(origin, connection)
            else:
                connection.close()

        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Answer(response.status, headers, Body(response, origin, end))

    def _unreachable(self, origin: Origin, error: Exception) -> RegistryFailedError:
        where = self.url if origin == self._origin else str(origin)
        is_passing = isinstance(error, (ConnectionError, http.client.HTTPException))
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        return RegistryFailedError(
            f"{where} does not answer: {why}",
            code="registry-unreachable",
            retryable=is_passing and not isinstance(error, ConnectionRefusedError),
        )


class _Pool:
    """Kept-alive connections by server; threads take and give at once."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: dict[Origin, deque[http.client.HTTPConnection]] = {}
        self._context: ssl.SSLContext | None = None

    def take(self, origin: Origin) -> tuple[http.client.HTTPConnection, bool]:
        """Take an idle connection, or a fresh one; the second value says which."""
        try:
            return self._idle[origin].pop(), False
        except LookupError:
            return self._connect(origin), True

    def give(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        """Keep a connection for the next one who asks."""
        self._idle.setdefault(origin, deque()).append(connection)

    def close(self) -> None:
        """Close what is idle."""
        for connections in list(self._idle.values()):
            while connections:
                connections.pop().close()

    def _connect(self, origin: Origin) -> http.client.HTTPConnection:
        if origin.scheme == "http":
            return http.client.HTTPConnection(origin.host, origin.port, timeout=self._timeout_seconds)
        if self._context is None:
            self._context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            origin.host, origin.port, timeout=self._timeout_seconds, context=self._context
        )


def _is_sound(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:  # a bracket without its other half
        return False
    return True


def _origin_of(url: str) -> Origin | None:
    """Return the server of an HTTP URL; None when it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number
        return None
    if not host or parts.scheme not in _DEFAULT_PORTS:
        return None
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


def _target_of(url: str) -> str:
    """Return path and query of a URL as a request line has them, with what may not stand there percent-encoded."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="%/?:@!$&'()*+,;=-._~")


def _area_of(method: str, target: str) -> tuple[str, str]:
    """Return what one token is good for: a kind of access to a repository."""
    match = _REPOSITORY.search(target)
    return "pull" if method in ("GET", "HEAD") else method, match[1] if match else ""

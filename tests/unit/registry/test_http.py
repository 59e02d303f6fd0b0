"""A client of a registry's HTTP API, against small servers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from regstore.errors import UsageError
from regstore.registry.credentials import Challenge, Credentials, parse_challenge, read_credentials
from regstore.registry.http import RegistryClient, RegistryFailedError
from support.fake_registry import FakeRegistry, Reply, Request, fake_registry

BLOB = "/v2/app/blobs/sha256:" + "ab" * 32
BASIC = base64.b64encode(b"user:s3cret").decode()


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry."""
    with fake_registry() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[FakeRegistry]:
    """Another server: a storage, or a token server."""
    with fake_registry() as running:
        yield running


@pytest.fixture
def client(fake: FakeRegistry) -> Iterator[RegistryClient]:
    """A client of the registry that loses patience soon."""
    made = RegistryClient(fake.url, timeout_seconds=0.5)
    yield made
    made.close()


@pytest.fixture
def log_in(fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A function that makes a client of the registry with a login."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with ExitStack() as opened:

        def make(**login: str) -> RegistryClient:
            content = {"auths": {f"127.0.0.1:{fake.port}": login or {"auth": BASIC}}}
            (tmp_path / "config.json").write_text(json.dumps(content))
            made = RegistryClient(fake.url, timeout_seconds=0.5)
            opened.callback(made.close)
            return made

        yield make


def read(client: RegistryClient, path: str = BLOB, **more: Any) -> tuple[int, bytes]:
    with client.get_stream(path, **more) as (status, _, stream):
        return status, stream.read()


def want_token(fake: FakeRegistry, realm: str, token: str = "t0ken", scope: str = "repository:app:pull") -> None:
    """Let a registry take this token only."""
    challenge = f'Bearer realm="{realm}",service="the registry",scope="{scope}"'

    def check(request: Request) -> Reply | None:
        is_known = request.headers.get("authorization") == f"Bearer {token}"
        return None if is_known else Reply(401, {"WWW-Authenticate": challenge})

    fake.guard = check


@pytest.mark.parametrize("url", ["http://host?token=s3cret", "https://host/#s3cret", "https://me@x:s3cret@host"])
def test_what_else_may_be_secret_in_a_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        RegistryClient(url)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_body_comes_in_pieces_over_one_connection(fake: FakeRegistry, client: RegistryClient) -> None:
    data = bytes(range(256)) * 8192
    fake.serve(BLOB, data)

    for _ in range(3):
        with client.get_stream(BLOB) as (status, headers, stream):
            assert (status, stream.size, headers["content-length"]) == (200, len(data), str(len(data)))
            assert b"".join(iter(lambda: stream.read(1000_000), b"")) == data

    assert fake.connection_count == 1
    assert str(stream.origin) == fake.url
    assert fake.requests[0].headers["accept-encoding"] == "identity"


def test_a_body_in_chunks_and_an_empty_one(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.serve(BLOB, b"chunk", has_length=False)
    fake.serve("/v2/empty", b"")

    with client.get_stream(BLOB) as (_, _, stream):
        assert stream.size is None
        assert stream.read() == b"chunk"
    assert read(client, "/v2/empty") == (200, b"")
    assert fake.connection_count == 1


def test_a_head_says_how_large_it_is(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.serve(BLOB, b"12345")

    for _ in range(2):
        with client.get_stream(BLOB, method="HEAD") as (status, _, stream):
            assert (status, stream.size, stream.read()) == (200, 5, b"")
    assert (fake.asked, fake.connection_count) == ([f"HEAD {BLOB}"] * 2, 1)


def test_a_body_that_is_not_wanted_costs_the_connection_only(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.serve(BLOB, b"x" * 30_000_000)
    with client.get_stream(BLOB):
        pass
    with client.get_stream(BLOB) as (_, _, stream):
        assert stream.read(3) == b"xxx"

    assert fake.connection_count == 2


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_that_breaks_off_is_an_error(fake: FakeRegistry, client: RegistryClient, has_length: bool) -> None:
    fake.serve(BLOB, b"0123456789", sent=4, has_length=has_length)

    with pytest.raises(RegistryFailedError, match="stopped after") as caught:
        read(client)
    assert (caught.value.code, caught.value.retryable) == ("registry-unreachable", True)

    fake.serve(BLOB, b"0123456789")
    assert read(client) == (200, b"0123456789")


@pytest.mark.parametrize("sent", [0, 4])
def test_a_silent_server_is_given_up(fake: FakeRegistry, client: RegistryClient, sent: int) -> None:
    fake.serve(BLOB, b"0123456789", sent=sent, is_silent=True)

    with pytest.raises(RegistryFailedError, match="nothing more came in time") as caught:
        read(client)
    assert not caught.value.retryable


def test_a_server_that_never_answers_is_given_up(fake: FakeRegistry, client: RegistryClient) -> None:
    assert client.request("GET", "/v2/")[0] == 200  # leaves an idle connection, which is no reason to try again

    def wait(_: Request) -> None:
        fake.is_over.wait()

    fake.guard = wait
    with pytest.raises(RegistryFailedError, match="does not answer: timed out") as caught:
        read(client)
    assert not caught.value.retryable
    assert len(fake.requests) == 2


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_followed_without_credentials(
    fake: FakeRegistry, elsewhere: FakeRegistry, log_in: Callable[..., RegistryClient], status: int
) -> None:
    client = log_in()
    fake.answer("GET", BLOB, status, Location=f"{elsewhere.url}/bucket/data?X-Amz-Signature=abc")
    elsewhere.serve("/bucket/data?X-Amz-Signature=abc", b"data")

    with client.get_stream(BLOB, headers={"Accept": "a/b"}) as answer:
        assert (answer.status, answer.stream.read()) == (200, b"data")
        assert str(answer.stream.origin) == elsewhere.url

    assert fake.requests[0].headers["authorization"] == f"Basic {BASIC}"
    assert "authorization" not in elsewhere.requests[0].headers
    assert elsewhere.requests[0].headers["accept"] == "a/b"
    assert elsewhere.requests[0].headers["host"] == f"127.0.0.1:{elsewhere.port}"


def test_a_token_is_not_forwarded_and_a_stranger_gets_none(
    fake: FakeRegistry, elsewhere: FakeRegistry, log_in: Callable[..., RegistryClient]
) -> None:
    """A storage that asks for a token is not answered, or any host could have the login."""
    client = log_in()
    with fake_registry() as tokens:
        tokens.serve("/token", b'{"token": "t0ken"}')
        want_token(fake, f"{tokens.url}/token")
        want_token(elsewhere, f"{elsewhere.url}/token")
        fake.answer("GET", BLOB, 307, Location=f"{elsewhere.url}/data")

        assert read(client)[0] == 401

        assert len(tokens.requests) == 1
    assert [request.path for request in elsewhere.requests] == ["/data"]
    assert "authorization" not in elsewhere.requests[0].headers


def test_a_redirect_on_the_registry_itself_keeps_credentials(
    fake: FakeRegistry, log_in: Callable[..., RegistryClient]
) -> None:
    fake.answer("GET", BLOB, 302, Location="../../other/blobs/here?a=b c")
    fake.serve("/v2/other/blobs/here", b"data")

    assert read(log_in()) == (200, b"data")
    assert fake.requests[1].path == "/v2/other/blobs/here?a=b%20c"
    assert fake.requests[1].headers["authorization"] == f"Basic {BASIC}"


def test_what_comes_back_from_elsewhere_has_no_credentials(
    fake: FakeRegistry, elsewhere: FakeRegistry, log_in: Callable[..., RegistryClient]
) -> None:
    fake.answer("GET", BLOB, 302, Location=f"{elsewhere.url}/back")
    elsewhere.answer("GET", "/back", 302, Location=f"{fake.url}/v2/secret/blobs/x")
    fake.serve("/v2/secret", b"data")

    assert read(log_in()) == (200, b"data")
    assert "authorization" not in fake.requests[1].headers


@pytest.mark.parametrize("location", ["ftp://host/x", "http://[::1", "http://host:x/"])
def test_a_redirect_to_no_url_is_an_error(fake: FakeRegistry, client: RegistryClient, location: str) -> None:
    fake.answer("GET", BLOB, 302, Location=location)

    with pytest.raises(RegistryFailedError, match="to what is no URL") as caught:
        read(client)
    assert caught.value.code == "registry-redirect"


def test_redirects_end(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.answer("GET", "/v2/app", 302, Location=BLOB)

    with pytest.raises(RegistryFailedError, match="more than 5 times"):
        read(client)
    assert len(fake.requests) == 6


def test_a_redirect_from_https_to_http_is_refused(
    fake: FakeRegistry, elsewhere: FakeRegistry, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    with fake_registry(certificate) as secure:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        secure.answer("GET", BLOB, 307, Location=f"{elsewhere.url}/data?X-Amz-Signature=abc")
        client = RegistryClient(secure.url)

        with pytest.raises(RegistryFailedError, match="not encrypted") as caught:
            read(client)
        assert "abc" not in str(caught.value)

        secure.guard = lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="{elsewhere.url}/token"'})
        with pytest.raises(RegistryFailedError, match="not to be trusted"):
            read(client)
        assert elsewhere.requests == []

        # The other way round is safe.
        secure.guard = lambda _: None
        secure.serve("/data", b"data")
        fake.answer("GET", BLOB, 307, Location=f"{secure.url}/data")
        other = RegistryClient(fake.url)
        assert read(other) == (200, b"data")
        client.close()
        other.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key with a certificate of its own for the loopback address."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    path = tmp_path / "loopback.pem"
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with fake_registry(certificate) as secure:
        client = RegistryClient(secure.url)
        with pytest.raises(RegistryFailedError, match="certificate verify failed"):
            client.check_registry()
        client.close()


# Tokens


@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_is_fetched_without_a_login(
    fake: FakeRegistry, elsewhere: FakeRegistry, client: RegistryClient, name: str
) -> None:
    want_token(fake, f"{elsewhere.url}/token?x=1")
    fake.serve(BLOB, b"data")
    elsewhere.serve("/token", json.dumps({name: "t0ken"}).encode())

    assert read(client) == (200, b"data")

    asked = urlsplit(elsewhere.requests[0].path)
    assert (asked.path, parse_qs(asked.query)) == (
        "/token",
        {"x": ["1"], "service": ["the registry"], "scope": ["repository:app:pull"]},
    )
    assert "authorization" not in elsewhere.requests[0].headers


def test_a_token_is_fetched_with_the_login_and_kept_per_scope(
    fake: FakeRegistry, elsewhere: FakeRegistry, log_in: Callable[..., RegistryClient]
) -> None:
    client = log_in()
    want_token(fake, f"{elsewhere.url}/token")
    fake.serve("/v2/app", b"data")
    fake.serve("/v2/other", b"data")
    elsewhere.serve("/token", b'{"token": "t0ken"}')

    for path in (BLOB, BLOB, "/v2/app/manifests/latest"):
        assert read(client, path)[0] == 200
    assert len(elsewhere.requests) == 1
    assert elsewhere.requests[0].headers["authorization"] == f"Basic {BASIC}"
    read(client, "/v2/other/blobs/x")
    fake.answer("DELETE", "/v2/app", 202)
    assert client.request("DELETE", BLOB)[0] == 202

    assert len(elsewhere.requests) == 3
    # Each scope costs one refusal; what has a token is asked once.
    assert len(fake.requests) == 2 + 1 + 1 + 2 + 2


def test_a_token_that_is_over_is_fetched_anew(
    fake: FakeRegistry, elsewhere: FakeRegistry, client: RegistryClient
) -> None:
    fake.serve(BLOB, b"data")
    for number in range(3):
        want_token(fake, f"{elsewhere.url}/token", token=f"token-{number}")
        elsewhere.serve("/token", b'{"token": "token-%d"}' % number)
        assert read(client) == (200, b"data")
    assert len(elsewhere.requests) == 3


def test_an_identity_token_is_changed_for_an_access_token(
    fake: FakeRegistry, elsewhere: FakeRegistry, log_in: Callable[..., RegistryClient]
) -> None:
    client = log_in(auth=base64.b64encode(b"00000000-0000:").decode(), identitytoken="r3fresh&more")
    want_token(fake, f"{elsewhere.url}/oauth2/token")
    fake.serve(BLOB, b"data")
    elsewhere.answers["POST", "/oauth2/token"] = Reply(200, body=b'{"access_token": "t0ken"}')

    assert read(client) == (200, b"data")

    request = elsewhere.requests[0]
    assert (request.method, request.path) == ("POST", "/oauth2/token")
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["r3fresh&more"],
        "client_id": ["regstore"],
        "service": ["the registry"],
        "scope": ["repository:app:pull"],
    }


def test_a_refused_token_is_asked_for_once(fake: FakeRegistry, elsewhere: FakeRegistry, client: RegistryClient) -> None:
    """A registry that gives a token and then does not take it: no endless exchange."""
    want_token(fake, f"{elsewhere.url}/token", token="another")
    elsewhere.serve("/token", b'{"token": "t0ken"}')

    assert read(client)[0] == 401
    assert (len(fake.requests), len(elsewhere.requests)) == (2, 1)


@pytest.mark.parametrize(
    ("status", "body", "words", "is_retryable"),
    [
        (401, b"", r"gives none \(401\)", False),
        (503, b"", r"gives none \(503\)", True),
        (200, b"", "something else", False),
        (200, b"[]", "something else", False),
        (200, b'{"token": 7}', "something else", False),
        (200, b'{"token": ""}', "something else", False),
        (200, b"[" * 99_999, "something else", False),
        (200, b'{"token": "a\\r\\nX-Injected: 1"}', "something else", False),
        (200, b'{"token": "' + b"x" * 3_000_000 + b'"}', "something else", False),
    ],
    ids=range(9),
)
def test_no_token_is_an_error(
    fake: FakeRegistry,
    elsewhere: FakeRegistry,
    client: RegistryClient,
    status: int,
    body: bytes,
    words: str,
    is_retryable: bool,
) -> None:
    want_token(fake, f"{elsewhere.url}/token")
    elsewhere.serve("/token", body, status)

    with pytest.raises(RegistryFailedError, match=words) as caught:
        read(client)
    assert (caught.value.code, caught.value.retryable) == ("registry-access", is_retryable)


def test_a_dead_token_server_is_not_a_dead_registry(fake: FakeRegistry, client: RegistryClient) -> None:
    with fake_registry() as dead:
        realm = f"{dead.url}/token"
    want_token(fake, realm)

    with pytest.raises(RegistryFailedError, match="does not answer") as caught:
        read(client)
    assert caught.value.code == "registry-access"
    assert not isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("realm", ["", "/token", "ftp://host/token", "http://[::1"])
def test_a_realm_that_is_no_url(fake: FakeRegistry, client: RegistryClient, realm: str) -> None:
    want_token(fake, realm)
    if not realm:
        assert read(client)[0] == 401
        return
    with pytest.raises(RegistryFailedError, match="not to be trusted"):
        read(client)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ("", None),
        ('Basic realm="Registry"', None),
        ("Bearer", None),
        ('Bearer service="s"', None),
        ('NotBearer realm="https://a/t"', None),
        ('Bearer realm="https://a/t"', Challenge("https://a/t")),
        ("bearer realm=https://a/t", Challenge("https://a/t")),
        (
            'Bearer realm="https://a/t", service="s, \\"x\\"",scope="repository:a:pull repository:b:pull,push"',
            Challenge("https://a/t", 's, "x"', ("repository:a:pull", "repository:b:pull,push")),
        ),
        ('Basic realm="x", Bearer realm="https://a/t",error="invalid_token"', Challenge("https://a/t")),
        ('Bearer realm="https://a/t", Basic realm="x"', Challenge("https://a/t")),
    ],
)
def test_challenges(header: str, challenge: Challenge | None) -> None:
    assert parse_challenge(header) == challenge


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("host:5000", "host:5000"),
        ("host:5000", "https://host:5000/v2/"),
        ("host", "http://host/v1/"),
        ("registry-1.docker.io", "https://index.docker.io/v1/"),
        ("index.docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_names_of_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    content = {"auths": {"host.example": {"auth": "eDp5"}, "hos": {"auth": "eDp5"}, name: {"auth": BASIC}}}
    (tmp_path / "config.json").write_text(json.dumps(content))

    found = read_credentials(host)

    assert found == Credentials(BASIC)
    assert BASIC not in repr(found)
    assert read_credentials("st") == Credentials()


# What it is and what it says


def test_check_registry(fake: FakeRegistry, client: RegistryClient, log_in: Callable[..., RegistryClient]) -> None:
    client.check_registry()
    fake.answer("GET", "/v2/", 401, WWW_Authenticate='Bearer realm="http://127.0.0.1:1/token"')
    client.check_registry()
    for status, code in ((401, "registry-access"), (403, "registry-access"), (404, "no-registry")):
        fake.answer("GET", "/v2/", status)
        with pytest.raises(RegistryFailedError, match=str(status)) as caught:
            client.check_registry()
        assert caught.value.code == code

    fake.requests.clear()
    fake.answer("GET", "/v2/", 200)
    log_in().check_registry()
    assert fake.requests[0].headers["authorization"] == f"Basic {BASIC}"


@pytest.mark.parametrize(
    ("status", "pause", "code", "is_retryable"),
    [
        (401, "", "registry-access", False),
        (403, "", "registry-access", False),
        (400, "", "registry-refused", False),
        (429, "7", "registry-refused", True),
        (500, "", "registry-refused", True),
        (503, "soon", "registry-refused", True),
    ],
)
def test_errors_of_answers(
    fake: FakeRegistry,
    elsewhere: FakeRegistry,
    client: RegistryClient,
    status: int,
    pause: str,
    code: str,
    is_retryable: bool,
) -> None:
    for server in (fake, elsewhere):
        server.answer("GET", "/v2/app", status, Retry_After=pause)
    with client.get_stream(BLOB) as answer:
        error = client.error_of(answer, f"GET {BLOB}")
    assert (error.code, error.retryable) == (code, is_retryable)
    assert error.retry_after == (7.0 if pause == "7" else 0.0)
    assert str(status) in str(error)

    fake.answer("GET", "/v2/app", 302, Location=f"{elsewhere.url}{BLOB}")
    with client.get_stream(BLOB) as answer:
        error = client.error_of(answer, f"GET {BLOB}")
    assert f"{elsewhere.url}, to which {fake.url} redirects, answers {status}" in str(error)
    assert error.code == "registry-refused"


def test_threads_read_at_once(fake: FakeRegistry, elsewhere: FakeRegistry, client: RegistryClient) -> None:
    for number in range(50):
        fake.answer("GET", f"/v2/app/blobs/{number}-", 302, Location=f"{elsewhere.url}/{number}-")
        elsewhere.serve(f"/{number}-", b"%d" % number * 100_000)
    want_token(fake, f"{elsewhere.url}/token")
    elsewhere.serve("/token", b'{"token": "t0ken"}')

    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda number: read(client, f"/v2/app/blobs/{number}-"), range(50)))

    assert bodies == [(200, b"%d" % number * 100_000) for number in range(50)]
    assert fake.connection_count <= 8
    assert elsewhere.connection_count <= 8


def test_an_idle_connection_that_was_closed_is_opened_again(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.serve(BLOB, b"data")
    fake.hangs_up = True

    assert [read(client) for _ in range(5)] == [(200, b"data")] * 5
    assert len(fake.requests) == 5

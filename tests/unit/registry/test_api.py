"""The registry's HTTP API as a collection uses it, against a small server."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regstore.digest import parse_digest
from regstore.errors import RefusedError, StorageFailedError, UsageError
from regstore.registry.api import RegistryApi, open_apis
from support.fake_registry import FakeRegistry, fake_registry

TEXT = "sha256:" + "ab" * 32
DIGEST = parse_digest(TEXT)
NOBODY = "/v2/app/blobs/sha256:" + "0" * 64


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A server that answers as it is told."""
    with fake_registry() as running:
        yield running


@pytest.fixture
def api(fake: FakeRegistry) -> Iterator[RegistryApi]:
    """A client of it."""
    made = RegistryApi(fake.url)
    yield made
    made.close()


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the docker configuration is looked for."""
    directory = tmp_path / "docker"
    directory.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory / "config.json"


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:5000",
        "registry",
        "ftp://host",
        "http://",
        "http://:5000",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
    ],
)
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of a registry"):
        RegistryApi(url)


@pytest.mark.parametrize(
    "url", ["http://me:s3cret@host", "https://me@host", "http://:s3cret@host", "http://me:s3cret@host:x"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        RegistryApi(url)

    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_registry_answers(fake: FakeRegistry) -> None:
    for api in open_apis([fake.url, f"{fake.url}/"]):
        assert api.url == fake.url
        api.close()

    assert fake.asked == ["GET /v2/", "GET /v2/"]


def test_a_path_prefix_stands_before_every_request(fake: FakeRegistry) -> None:
    fake.answer("GET", "/registry/v2/", 200)
    fake.answer("DELETE", "/registry/v2/", 202)
    api = RegistryApi(f"{fake.url}/registry/")

    api.ping()
    assert api.delete_blob("app", DIGEST) == 202
    api.close()

    assert fake.asked == ["GET /registry/v2/", f"DELETE /registry/v2/app/blobs/{TEXT}"]


@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_another_answer_is_no_registry(fake: FakeRegistry, api: RegistryApi, status: int) -> None:
    fake.answer("GET", "/v2/", status)

    with pytest.raises(StorageFailedError, match=f"answers {status}") as caught:
        api.ping()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_said(fake: FakeRegistry, api: RegistryApi, status: int) -> None:
    for method in ("GET", "DELETE", "HEAD"):
        fake.answer(method, "/v2/", status)

    for call in (
        api.ping,
        lambda: api.check_deletes("app"),
        lambda: api.tag_digest("app", "latest"),
        lambda: api.delete_blob("app", DIGEST),
    ):
        with pytest.raises(StorageFailedError, match=f"refuses access \\({status}\\)") as caught:
            call()
        assert caught.value.code == "registry-access"
        assert "docker login" in caught.value.hint


def test_a_registry_that_forbids_deletions_is_refused(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("DELETE", "/v2/", 405)
    with pytest.raises(RefusedError, match="does not let clients delete") as caught:
        api.check_deletes("app")
    assert (caught.value.code, caught.value.exit_code) == ("delete-disabled", 3)

    for status in (404, 202):
        fake.answer("DELETE", "/v2/", status)
        api.check_deletes("app")
    assert set(fake.asked) == {f"DELETE {NOBODY}"}


def test_what_a_tag_means(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("HEAD", "/v2/app/manifests/latest", 200, Docker_Content_Digest=TEXT)
    fake.answer("HEAD", "/v2/app/manifests/odd", 200)

    assert api.tag_digest("app", "latest") == TEXT
    assert api.tag_digest("app", "other") is None
    assert api.tag_digest("app", "odd") is None
    accepted = fake.requests[0].headers["accept"]
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2"):
        assert f"application/vnd.{kind}+json" in accepted


@pytest.mark.parametrize("status", [202, 404, 500, 405])
def test_deletions_return_the_status(fake: FakeRegistry, api: RegistryApi, status: int) -> None:
    fake.answer("DELETE", "/v2/app/web/blobs/", status)

    assert api.delete_blob("app/web", DIGEST) == status
    assert fake.asked == [f"DELETE /v2/app/web/blobs/{TEXT}"]


def test_one_connection_serves_many_requests(fake: FakeRegistry, api: RegistryApi) -> None:
    for _ in range(20):
        api.ping()

    assert fake.connection_count == 1


def test_an_idle_connection_that_was_closed_is_opened_again(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("DELETE", "/v2/", 202)
    fake.hangs_up = True

    for _ in range(5):
        assert api.delete_blob("app", DIGEST) == 202

    assert len(fake.requests) == 5
    assert fake.connection_count >= 5


def test_threads_ask_at_once(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("DELETE", "/v2/", 202)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: api.delete_blob(f"app-{number}", DIGEST), range(100)))

    assert statuses == [202] * 100
    assert len(set(fake.asked)) == 100
    assert fake.connection_count <= 8


def test_a_closed_port_is_unreachable() -> None:
    api = RegistryApi(f"http://127.0.0.1:{closed_port()}")

    with pytest.raises(StorageFailedError, match="does not answer") as caught:
        api.ping()
    assert (caught.value.code, caught.value.exit_code) == ("registry-unreachable", 4)


def test_what_speaks_no_http_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"+PONG\r\n")

        done = pool.submit(answer)
        with pytest.raises(StorageFailedError, match="does not answer"):
            RegistryApi(f"http://127.0.0.1:{server.getsockname()[1]}").ping()
        done.result(10)


def test_a_closed_port_is_quiet() -> None:
    assert not RegistryApi(f"http://127.0.0.1:{closed_port()}").prove_quiet("app")


def test_a_dead_token_server_proves_nothing(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("PUT", "/v2/", 401, WWW_Authenticate=f'Bearer realm="http://127.0.0.1:{closed_port()}/token"')

    with pytest.raises(RefusedError, match="cannot tell"):
        api.prove_quiet("app")


def test_a_registry_that_refuses_writes_is_quiet(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("PUT", "/v2/", 405)
    fake.answer("POST", "/v2/", 405)

    assert api.prove_quiet("app/web")

    assert fake.asked == ["PUT /v2/app/web/manifests/regstore-probe", "POST /v2/app/web/blobs/uploads/"]


@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 403, 404, 500, 503])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_every_other_answer_is_not_quiet(fake: FakeRegistry, api: RegistryApi, method: str, status: int) -> None:
    fake.answer("PUT", "/v2/", 405)
    fake.answer("POST", "/v2/", 405)
    fake.answer(method, "/v2/", status)

    with pytest.raises(RefusedError) as caught:
        api.prove_quiet("app")

    assert (caught.value.code, caught.value.exit_code) == ("not-quiet", 3)


def test_an_upload_that_the_proof_opened_is_cancelled(fake: FakeRegistry, api: RegistryApi) -> None:
    fake.answer("PUT", "/v2/", 405)
    fake.answer("POST", "/v2/", 202, Location="http://elsewhere/v2/app/blobs/uploads/1234?_state=abc")
    fake.answer("DELETE", "/v2/app/blobs/uploads/1234", 204)

    with pytest.raises(RefusedError):
        api.prove_quiet("app")

    assert fake.asked[1:] == ["POST /v2/app/blobs/uploads/", "DELETE /v2/app/blobs/uploads/1234?_state=abc"]


def test_a_host_that_cannot_be_found_is_not_proven_quiet() -> None:
    with pytest.raises(RefusedError, match="cannot tell") as caught:
        RegistryApi("http://no-such-host.invalid:5000").prove_quiet("app")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("prefix", ["", "http://", "https://"])
def test_credentials_come_from_the_docker_configuration(fake: FakeRegistry, docker_config: Path, prefix: str) -> None:
    auth = base64.b64encode(b"user:s3cret").decode()
    host = fake.url.removeprefix("http://")
    docker_config.write_text(json.dumps({"auths": {f"{prefix}{host}": {"auth": auth}, "other": {"auth": "eDp5"}}}))
    api = RegistryApi(fake.url)

    api.ping()
    api.close()

    assert fake.requests[0].headers["authorization"] == f"Basic {auth}"
    assert auth not in repr(api)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '{"auths": null}',
        '{"auths": []}',
        '{"auths": {"HOST": null}}',
        '{"auths": {"HOST": {}}}',
        '{"auths": {"HOST": "text"}}',
        '{"auths": {"HOST": {"auth": ""}}}',
        '{"auths": {"HOST": {"auth": 7}}}',
        '{"auths": {"HOST": {"auth": "no base64!"}}}',
        '{"auths": {"HOST": {"auth": "bm8gY29sb24="}}}',
        '{"auths": {"HOST": {"auth": "eDp5\\r\\nX-Injected: 1"}}}',
        '{"auths": {"other": {"auth": "eDp5"}}}',
        '{"credsStore": "desktop"}',
    ],
    ids=range(16),
)
def test_a_docker_configuration_without_credentials_sends_none(
    fake: FakeRegistry, docker_config: Path, content: str
) -> None:
    docker_config.write_text(content.replace("HOST", fake.url.removeprefix("http://")))
    api = RegistryApi(fake.url)

    api.ping()
    api.close()

    assert "authorization" not in fake.requests[0].headers


def test_without_a_docker_configuration_none_are_sent(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    bare = RegistryApi(fake.url)
    bare.ping()
    bare.close()
    assert "authorization" not in fake.requests[0].headers

    (tmp_path / ".docker").mkdir()
    host = fake.url.removeprefix("http://")
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": "eDp5"}}}))
    api = RegistryApi(fake.url)
    api.ping()
    api.close()
    assert fake.requests[1].headers["authorization"] == "Basic eDp5"

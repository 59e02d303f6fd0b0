"""Where missing data are fetched from: a memory volume is repaired, from others and from small registries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from regstore import layout
from regstore.digest import parse_digest
from regstore.errors import InterruptedRunError, StorageFailedError, UsageError
from regstore.fsck import sources
from regstore.fsck.sources import VolumeSource, open_source
from regstore.registry import Registry, manifests, open_registry
from regstore.transfer.fetching import Failure, Fetched, Found, NotFetched, Source, fetch_blob
from regstore.work import Cancel
from regstore_drivers.errors import AlreadyExists, DriverError, Unavailable
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty, Retrying
from support.fake_registry import FakeRegistry, Reply, fake_registry
from support.images import DOCKER_SCHEMA1_SIGNED, digest_of, schema1_manifest
from support.pusher import sign_schema1
from support.volume import VolumeWriter

DATA = b"0123456789" * 100_000
TEXT = digest_of(DATA)
DIGEST = parse_digest(TEXT)
KEY = layout.BlobData(DIGEST).key
OpenSource = Callable[..., Source]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a run made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(Cancel, "wait", lambda _, seconds: made.append(seconds))
    return made


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry."""
    with fake_registry() as running:
        yield running


@pytest.fixture
def driver() -> MemoryDriver:
    """The storage that lacks the data."""
    return MemoryDriver("target")


@pytest.fixture
def opened(driver: MemoryDriver) -> Iterator[OpenSource]:
    """A function that opens a source, to be closed at the end."""
    with ExitStack() as stack:

        def open_one(location: object) -> Source:
            source = open_source(str(location), Registry(driver), timeout_seconds=0.5)
            stack.callback(source.close)
            return source

        yield open_one


def volume(data: bytes, name: str = "backup") -> VolumeSource:
    """Make a source that has these bytes under the digest."""
    other = MemoryDriver(name)
    other.write(KEY, data, len(data))
    return VolumeSource(other)


def fetch(driver: Any, *tried: Source, repositories: tuple[str, ...] = ("app",)) -> Fetched | NotFetched:
    return fetch_blob(driver, DIGEST, tried, repositories, Cancel())


def reasons(result: Fetched | NotFetched) -> str:
    return " | ".join(failure.reason for failure in result.failures)


# Opening


def test_a_directory_with_a_registry(tmp_path: Path, opened: OpenSource, driver: MemoryDriver) -> None:
    VolumeWriter(tmp_path).layer("app", DATA)

    for location in (tmp_path, f"file://{tmp_path}", tmp_path / "docker/registry/v2"):
        source = opened(location)
        assert source.name == f"file://{tmp_path}"
        driver.delete([KEY])
    assert fetch(driver, source) == Fetched(f"file://{tmp_path}", len(DATA))
    assert driver.read(KEY) == DATA


def test_a_registrys_configuration(tmp_path: Path, opened: OpenSource, driver: MemoryDriver) -> None:
    VolumeWriter(tmp_path / "data").layer("app", DATA)
    config = tmp_path / "config.yml"
    config.write_text(f"storage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}")

    assert fetch(driver, opened(config)) == Fetched(f"file://{tmp_path}/data", len(DATA))


@pytest.mark.parametrize("url", ["", "/", "/v2", "/v2/", "/v2/app", "/v2/app/", "/v2/team/v2/app"])
def test_a_registrys_url(fake: FakeRegistry, opened: OpenSource, url: str) -> None:
    repository = url.strip("/").removeprefix("v2").strip("/")
    fake.serve("/v2/app/blobs/", DATA)
    fake.serve("/v2/team/v2/app/blobs/", DATA)

    source = opened(f"{fake.url}{url}")

    assert source.name == f"{fake.url}/v2/{repository}".removesuffix("/v2/")
    assert source.find(DIGEST, ["app"]) is not None
    assert fake.asked == ["GET /v2/", f"HEAD /v2/{repository or 'app'}/blobs/{TEXT}"]


def test_a_registry_below_a_path(fake: FakeRegistry, opened: OpenSource) -> None:
    fake.answer("GET", "/proxy/v2/", 200)
    fake.serve("/proxy/v2/app/blobs/", DATA)

    assert opened(f"{fake.url}/proxy/v2/app").name == f"{fake.url}/proxy/v2/app"
    assert opened(f"{fake.url}/proxy").find(DIGEST, ["app"]) is not None


def test_a_host_called_v2() -> None:
    assert sources._split_url("https://v2/v2/app") == ("https://v2", "app")
    assert sources._split_url("https://v2/app") == ("https://v2/app", "")


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/no/such/directory",
        "ftp://host/v2/app",
        "http://",
        "http:/host/v2/app",
        "http://host:x/v2/app",
        "https://me:s3cret@host/v2/app",
        "https://host/v2/App",
        "https://host/v2/app?x=1",
        "https://host/v2/app:latest",
        "https://host/v2/../app",
        "s3://",
        "file://host/srv",
    ],
)
def test_what_is_no_source_is_a_usage_error(tmp_path: Path, opened: OpenSource, location: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(location or tmp_path)

    assert caught.value.hint
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_the_target_itself_is_refused(tmp_path: Path) -> None:
    VolumeWriter(tmp_path / "data").layer("app", DATA)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/docker").symlink_to(tmp_path / "data/docker")
    target = open_registry(str(tmp_path / "data"))

    for name in ("data", "data/docker", "link", "other"):
        with pytest.raises(UsageError, match="that is to be repaired"):
            open_source(str(tmp_path / name), target)


def test_the_same_bucket_is_refused() -> None:
    def is_same(one: str, other: str) -> bool:
        class Named(MemoryDriver):
            location = ""

        def named(location: str) -> Registry:
            driver = Named()
            driver.location = location
            return Registry(driver)

        return sources._is_same(named(one), named(other))

    assert is_same("s3://b/p?region=x", "s3://b/p/?region=y&storage_class=z")
    assert is_same("s3://b/p?endpoint=http://h", "s3://b/p?endpoint=http://h/&path_style=true")
    assert not is_same("s3://b/p", "s3://b/q")
    assert not is_same("s3://b/p", "s3://c/p")
    assert not is_same("s3://b/p", "s3://b/p?endpoint=http://h")
    assert not is_same("file:///b/p", "s3:///b/p")


@pytest.mark.parametrize(
    ("status", "code"), [(404, "no-registry"), (500, "no-registry"), (401, "registry-access"), (403, "registry-access")]
)
def test_what_answers_otherwise_is_no_source(fake: FakeRegistry, opened: OpenSource, status: int, code: str) -> None:
    fake.answer("GET", "/v2/", status)

    with pytest.raises(StorageFailedError) as caught:
        opened(f"{fake.url}/v2/app")
    assert caught.value.code == code
    assert caught.value.hint


# Finding


def test_a_volume_that_lacks_it(driver: MemoryDriver) -> None:
    result = fetch(driver, VolumeSource(MemoryDriver("empty")))

    assert result == NotFetched((Failure("memory://empty", "it is not there"),))
    assert list(driver.list("")) == []


def test_sha512(driver: MemoryDriver, fake: FakeRegistry, opened: OpenSource) -> None:
    text = digest_of(DATA, "sha512")
    digest = parse_digest(text)
    fake.serve(f"/v2/app/blobs/{text}", DATA)

    assert isinstance(fetch_blob(driver, digest, [opened(fake.url)], ["app"], Cancel()), Fetched)
    assert driver.read(layout.BlobData(digest).key) == DATA


def test_the_repositories_that_need_it_are_asked(fake: FakeRegistry, opened: OpenSource) -> None:
    fake.serve("/v2/three/blobs/", DATA)
    fake.serve("/v2/four/blobs/", DATA)

    assert opened(fake.url).find(DIGEST, ["one", "Il/legal", "a b", "three", "four"]) is not None

    assert fake.asked[1:] == [
        f"HEAD /v2/one/blobs/{TEXT}",
        f"GET /v2/one/manifests/{TEXT}",
        f"HEAD /v2/three/blobs/{TEXT}",
    ]


def test_a_repository_that_refuses_access_hides_no_other(fake: FakeRegistry, opened: OpenSource) -> None:
    """Docker Hub answers 401 for a repository that does not exist."""
    for method in ("HEAD", "GET"):
        fake.answer(method, "/v2/secret/", 401)
    source = opened(fake.url)

    with pytest.raises(StorageFailedError, match="refuses access"):
        source.find(DIGEST, ["secret", "app"])
    fake.serve("/v2/app/blobs/", DATA)
    assert source.find(DIGEST, ["secret", "app"]) is not None


def test_a_manifest_that_is_not_served_as_a_blob(fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver) -> None:
    fake.serve(f"/v2/app/manifests/{TEXT}", DATA, has_length=False)

    assert fetch(driver, opened(fake.url)) == Fetched(fake.url, len(DATA))

    assert driver.read(KEY) == DATA
    accepted = fake.requests[-1].headers["accept"]
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.v1",
    ):
        assert f"application/vnd.{kind}+json" in accepted


def test_a_manifest_of_any_size_is_not_read_into_memory(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "READ_LIMIT_BYTES", len(DATA) - 1)
    fake.serve(f"/v2/app/manifests/{TEXT}", DATA)

    assert "too large" in reasons(fetch(driver, opened(fake.url)))


def test_a_signed_manifest_is_stored_without_its_signatures(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver
) -> None:
    payload = schema1_manifest("app", "old", [TEXT])
    digest = parse_digest(digest_of(payload))
    headers = {"Content-Type": f"{DOCKER_SCHEMA1_SIGNED}; charset=utf-8"}
    fake.serve("/v2/app/manifests/", sign_schema1(payload), headers=headers)

    assert isinstance(fetch_blob(driver, digest, [opened(fake.url)], ["app"], Cancel()), Fetched)
    assert driver.read(layout.BlobData(digest).key) == payload


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"signatures": []}', b'{"signatures": [{"protected": "!"}]}', b"[" * 99_999],
    ids=range(6),
)
def test_a_signed_manifest_that_is_none(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver, body: bytes
) -> None:
    """It is judged as it came."""
    fake.serve("/v2/app/manifests/", body, headers={"Content-Type": DOCKER_SCHEMA1_SIGNED})

    assert f"have the digest {digest_of(body)} instead" in reasons(fetch(driver, opened(fake.url)))


def test_a_registry_that_answers_no_head(fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver) -> None:
    fake.serve("/v2/app/blobs/", DATA)
    fake.answer("HEAD", "/v2/app/blobs/", 405)

    assert isinstance(fetch(driver, opened(fake.url)), Fetched)


# Fetching


def test_the_login_of_the_docker_configuration_is_used(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    fake.serve("/v2/app/blobs/", DATA)
    fake.guard = lambda request: (
        None
        if request.headers.get("authorization") == "Basic dXNlcjpzM2NyZXQ="
        else Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
    )
    with pytest.raises(StorageFailedError, match="refuses access"):
        opened(fake.url)

    content = {"auths": {f"127.0.0.1:{fake.port}": {"auth": "dXNlcjpzM2NyZXQ="}}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert isinstance(fetch(driver, opened(fake.url)), Fetched)


def test_tokens_and_a_redirect_to_a_storage(fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver) -> None:
    with fake_registry() as storage:
        storage.serve("/bucket/data", DATA)
        storage.serve("/token", b'{"token": "t0ken"}')
        for method in ("GET", "HEAD"):
            fake.answer(method, "/v2/app/blobs/", 307, Location=f"{storage.url}/bucket/data?sig=1")
        challenge = {"WWW-Authenticate": f'Bearer realm="{storage.url}/token",scope="repository:app:pull"'}
        fake.guard = lambda request: (
            None if request.headers.get("authorization") == "Bearer t0ken" else Reply(401, challenge)
        )

        assert fetch(driver, opened(fake.url)) == Fetched(fake.url, len(DATA))
        assert [request.path.partition("?")[0] for request in storage.requests] == ["/token", *["/bucket/data"] * 2]
        assert not any("authorization" in request.headers for request in storage.requests)


@pytest.mark.parametrize(
    ("reply", "reason", "asked"),
    [
        (Reply(200, body=DATA[:-1] + b"x"), "have the digest sha256:", 1),
        (Reply(200, body=DATA[:-1]), "have the digest sha256:", 1),
        (Reply(200, body=b""), "have the digest sha256:", 1),
        (Reply(200, body=DATA, sent=500_000), "stopped after 500000 of 1000000 bytes", 3),
        (Reply(200, body=DATA, sent=500_000, is_silent=True), "nothing more came in time", 1),
        (Reply(500), "answers 500", 3),
        (Reply(429, {"Retry-After": "3600"}), "answers 429", 1),
        (Reply(400), "answers 400", 1),
        (Reply(403), "refuses access (403)", 1),
        (Reply(404), "it is not there", 1),
        (Reply(302, {"Location": "ftp://x"}), "redirects to what is no URL", 1),
    ],
    ids=["rotten", "short", "empty", "cut", "silent", "500", "429", "400", "403", "404", "redirect"],
)
def test_a_bad_registry_is_noted_and_the_next_source_tried(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver, reply: Reply, reason: str, asked: int
) -> None:
    fake.answers["GET", "/v2/app/blobs/"] = fake.answers["HEAD", "/v2/app/blobs/"] = reply
    source = opened(f"{fake.url}/v2/app")

    alone = fetch(driver, source)
    assert isinstance(alone, NotFetched)
    assert list(driver.list("")) == []
    assert sum(request.startswith("HEAD") for request in fake.asked) == asked

    result = fetch(driver, source, VolumeSource(MemoryDriver("empty")), volume(DATA))
    assert isinstance(result, Fetched)
    assert (result.source, result.size) == ("memory://backup", len(DATA))
    assert [failure.source for failure in result.failures] == [f"{fake.url}/v2/app", "memory://empty"]
    assert reason in result.failures[0].reason
    assert driver.read(KEY) == DATA


def test_a_registry_that_fails_for_the_moment_is_asked_again(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver, pauses: list[float]
) -> None:
    fake.serve("/v2/app/blobs/", DATA)
    replies = iter([Reply(503, {"Retry-After": "2"})] * 2 + [Reply(200, body=DATA), Reply(200, body=DATA, sent=9)])
    source = opened(fake.url)
    fake.guard = lambda _: next(replies, None)

    assert fetch(driver, source) == Fetched(fake.url, len(DATA))
    assert pauses == [2.0, 5.0]


def test_a_registry_that_died_is_not_asked_again(opened: OpenSource, driver: MemoryDriver, pauses: list[float]) -> None:
    with fake_registry() as dying:
        source = opened(dying.url)

    assert "does not answer" in reasons(fetch(driver, source))
    assert pauses == []


def test_a_rotten_or_empty_copy_is_noted(driver: MemoryDriver) -> None:
    result = fetch(driver, volume(DATA[1:] + b"x", "rotten"), volume(b"", "empty"), volume(DATA))

    assert isinstance(result, Fetched)
    assert result.source == "memory://backup"
    assert [failure.source for failure in result.failures] == ["memory://rotten", "memory://empty"]
    assert reasons(result).count(f"instead of {TEXT}") == 2


@pytest.mark.parametrize("operation", ["stat", "open"])
def test_a_volume_that_cannot_be_read_is_noted(driver: MemoryDriver, operation: str) -> None:
    broken = MemoryDriver("broken")
    broken.write(KEY, DATA, len(DATA))
    faulty = Faulty(broken)
    faulty.fail(operation, error=DriverError)

    result = fetch(driver, VolumeSource(faulty), volume(DATA))

    assert isinstance(result, Fetched)
    assert result.source == "memory://backup"
    assert len(result.failures) == 1


def test_an_object_that_exists_is_never_overwritten(driver: MemoryDriver) -> None:
    driver.write(KEY, b"corrupt", 7)

    with pytest.raises(AlreadyExists):
        fetch(driver, volume(DATA))
    assert driver.read(KEY) == b"corrupt"


def test_the_targets_own_failure_blames_no_source(driver: MemoryDriver) -> None:
    faulty = Faulty(driver)
    faulty.fail("write", error=DriverError)

    with pytest.raises(DriverError):
        fetch(faulty, volume(DATA), volume(DATA, "other"))


def test_the_target_tries_again_with_a_fresh_stream(
    fake: FakeRegistry, opened: OpenSource, driver: MemoryDriver
) -> None:
    """A busy target opens the source anew; a source that fails is no reason for the target to try again."""
    fake.serve("/v2/app/blobs/", DATA)
    faulty = Faulty(driver)
    faulty.fail("write", error=Unavailable, times=2)
    waits: list[float] = []
    patient = Retrying(faulty, sleep=waits.append)

    assert isinstance(fetch(patient, opened(fake.url)), Fetched)
    assert len(waits) == 2

    fake.serve("/v2/app/blobs/", DATA, sent=5)
    list(driver.delete([KEY]))
    assert isinstance(fetch(patient, opened(fake.url)), NotFetched)
    assert len(waits) == 2


def test_nothing_half_written_is_left_on_a_file_system(fake: FakeRegistry, opened: OpenSource, tmp_path: Path) -> None:
    fake.serve("/v2/app/blobs/", DATA, sent=500_000)
    target = FilesystemDriver(str(tmp_path))

    assert isinstance(fetch(target, opened(fake.url), volume(DATA[1:] + b"x")), NotFetched)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    assert isinstance(fetch(target, opened(fake.url), volume(DATA)), Fetched)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / KEY]
    assert (tmp_path / KEY).read_bytes() == DATA


def test_a_run_that_is_to_stop_stops_between_two_pieces(driver: MemoryDriver) -> None:
    cancel = Cancel()
    pieces = []

    class Stopping:
        name = "stopping"

        def find(self, *_: object) -> Found:
            return Found(len(DATA), self.open)

        def open(self) -> Any:
            class Stream:
                def read(self, size: int) -> bytes:
                    pieces.append(size)
                    cancel.request()
                    return DATA[:size]

                def close(self) -> None:
                    pass

            return Stream()

        def close(self) -> None:
            pass

    with pytest.raises(InterruptedRunError):
        fetch_blob(driver, DIGEST, [Stopping(), volume(DATA)], ["app"], cancel)
    assert len(pieces) == 1
    assert list(driver.list("")) == []


def test_without_sources_nothing_is_fetched(driver: MemoryDriver) -> None:
    assert fetch(driver) == NotFetched()

"""Fetching every blob of a volume from a real registry, or from a bucket that one wrote; then every tag is whole."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from regstore.digest import Digest
from regstore.errors import StorageFailedError
from regstore.fsck.sources import open_source
from regstore.layout import BlobData, parse_key
from regstore.registry import Registry as Location
from regstore.transfer.fetching import Fetched, NotFetched, Source, fetch_blob
from regstore.work import Cancel, map_bounded
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.s3 import S3Driver
from support import images
from support.programs import require_program
from support.pusher import Pusher
from support.registry import BINARY, Registry
from support.seaweed import SeaweedServer

pytestmark = pytest.mark.registry
MakeRegistry = Callable[..., Registry]

PASSWORD = "s3cret"
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n"


class ProtectedRegistry(Registry):
    """A registry that lets nobody in without the password."""

    def __init__(self, workdir: Path, root: Path) -> None:
        super().__init__(workdir, root)
        path = workdir / "htpasswd"
        path.write_text(HTPASSWD)
        self.config["auth"] = {"htpasswd": {"realm": "test", "path": str(path)}}
        self.config_path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except OSError:
            return False
        finally:
            connection.close()


def push_all(registry: Registry) -> None:
    """Push images of every kind, in several repositories, with a layer of several megabytes."""
    with Pusher(registry.url) as client:
        client.push_image("app", "latest", [images.layer("large", 3_000_000), *images.layers(2, "app")])
        client.push_image("team/app", "oci", images.layers(2, "oci"), flavour="oci")
        client.push_image("team/app", "sha512", images.layers(1, "sha512"), algorithm="sha512")
        client.push_multi_arch("team/multi", "latest", "multi")
        client.push_schema1("old", "v1", images.layers(2, "old"))


@pytest.fixture
def whole(tmp_path: Path, make_registry: MakeRegistry) -> Path:
    """The root directory of a registry with all its data."""
    root = tmp_path / "whole"
    registry = make_registry(root, schema1=True)
    push_all(registry)
    registry.stop()
    return root


@pytest.fixture
def bare(tmp_path: Path, whole: Path) -> FilesystemDriver:
    """The storage of the same registry without any blob data."""
    root = tmp_path / "bare"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "docker/registry/v2/blobs")
    return FilesystemDriver(str(root))


def blobs_of(driver: Any) -> list[Digest]:
    """Return the digests that have data."""
    specs = (parse_key(entry.key) for entry in driver.list("docker/registry/v2/blobs/"))
    return [spec.digest for spec in specs if isinstance(spec, BlobData)]


def repositories_of(root: Path) -> list[str]:
    """Return the names of all repositories, those without the data first."""
    base = root / "docker/registry/v2/repositories"
    return sorted(str(path.parent.relative_to(base)) for path in base.rglob("_manifests"))


def refetch_all(driver: FilesystemDriver, digests: list[Digest], source: Source) -> None:
    """Fetch in several threads, and see that each came from the source."""
    names = repositories_of(Path(driver.local_path("")))
    results = list(map_bounded(lambda digest: fetch_blob(driver, digest, [source], names, Cancel()), digests, jobs=4))
    assert [result for result in results if not isinstance(result, Fetched)] == []
    assert {result.source for result in results if isinstance(result, Fetched)} == {source.name}


def check_whole(make_registry: MakeRegistry, driver: FilesystemDriver) -> None:
    """Pull and hash everything through a freshly started registry."""
    registry = make_registry(Path(driver.local_path("")), schema1=True)
    with Pusher(registry.url) as client:
        assert len(client.pull_all()) == 5
    registry.stop()


@pytest.fixture
def opened(bare: FilesystemDriver) -> Iterator[Callable[[object], Source]]:
    """A function that opens a source, to be closed at the end."""
    sources: list[Source] = []

    def open_one(location: object) -> Source:
        sources.append(open_source(str(location), Location(bare)))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def test_a_registry_gives_everything_back(
    make_registry: MakeRegistry, whole: Path, bare: FilesystemDriver, opened: Callable[[object], Source]
) -> None:
    """Layers, configurations, manifests, indexes, sha512 layers and signed manifests, found by repository name."""
    with pytest.raises(AssertionError):
        check_whole(make_registry, bare)
    registry = make_registry(whole, schema1=True)

    refetch_all(bare, blobs_of(FilesystemDriver(str(whole))), opened(registry.url))

    assert blobs_of(bare) == blobs_of(FilesystemDriver(str(whole)))
    check_whole(make_registry, bare)


def test_one_repository_gives_what_it_has(
    make_registry: MakeRegistry, whole: Path, bare: FilesystemDriver, opened: Callable[[object], Source]
) -> None:
    registry = make_registry(whole, schema1=True)
    source = opened(f"{registry.url}/v2/team/multi")
    with Pusher(registry.url) as client:
        wanted = client.pull("team/multi", "latest")

    results = [
        fetch_blob(bare, digest, [source], ["app"], Cancel()) for digest in blobs_of(FilesystemDriver(str(whole)))
    ]

    assert sum(isinstance(result, Fetched) for result in results) == len(wanted)
    assert {f.reason for result in results for f in result.failures} == {"it is not there"}


def test_what_is_rotten_there_is_not_taken(
    make_registry: MakeRegistry, whole: Path, bare: FilesystemDriver, opened: Callable[[object], Source]
) -> None:
    """A registry serves corrupt data as if nothing had happened; the next source has them."""
    driver = FilesystemDriver(str(whole))
    entry = max(driver.list("docker/registry/v2/blobs/"), key=lambda entry: entry.size)
    spec = parse_key(entry.key)
    assert isinstance(spec, BlobData)
    backup = whole.parent / "backup"
    shutil.copytree(whole, backup)
    with open(driver.local_path(entry.key), "r+b") as file:
        file.seek(entry.size // 2)
        file.write(b"rotten")
    registry = make_registry(whole)
    sources = [opened(registry.url), opened(whole), opened(backup)]

    assert isinstance(fetch_blob(bare, spec.digest, sources[:2], ["app"], Cancel()), NotFetched)
    assert blobs_of(bare) == []
    result = fetch_blob(bare, spec.digest, sources, ["app"], Cancel())

    assert isinstance(result, Fetched)
    assert (result.source, result.size) == (f"file://{backup}", entry.size)
    assert [failure.source for failure in result.failures] == [registry.url, f"file://{whole}"]
    assert all("came have the digest" in failure.reason for failure in result.failures)
    assert bare.read(entry.key) == FilesystemDriver(str(backup)).read(entry.key)


def test_a_protected_registry_wants_the_login(
    make_registry: MakeRegistry,
    whole: Path,
    bare: FilesystemDriver,
    opened: Callable[[object], Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_program(BINARY, "docker-registry")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    workdir = tmp_path / "protected"
    workdir.mkdir()
    with ProtectedRegistry(workdir, whole) as registry:

        def log_in(password: str) -> None:
            auth = base64.b64encode(f"user:{password}".encode()).decode()
            (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))

        for password in ("", "wrong"):
            if password:
                log_in(password)
            with pytest.raises(StorageFailedError, match="refuses access \\(401\\)"):
                opened(registry.url)
        log_in(PASSWORD)
        refetch_all(bare, blobs_of(FilesystemDriver(str(whole))), opened(registry.url))
    check_whole(make_registry, bare)


@pytest.mark.s3
@pytest.mark.parametrize("form", ["url", "config", "redirect"])
def test_a_bucket_gives_everything_back(
    seaweed: SeaweedServer,
    driver: S3Driver,
    start: Callable[..., Registry],
    make_registry: MakeRegistry,
    bare: FilesystemDriver,
    opened: Callable[[object], Source],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """Read by its URL, by the registry's configuration, or through a registry that redirects to signed URLs."""
    registry = start(schema1=True)
    push_all(registry)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    location: object = registry.url
    if form == "redirect":
        registry.restart(redirect={"disable": False})
    else:
        registry.stop()
        location = driver.location if form == "url" else registry.config_path
    source = opened(location)
    assert seaweed.secret_key not in source.name

    refetch_all(bare, blobs_of(driver), source)

    if form == "redirect":
        assert "http.response.status=307" in registry.log_text()
    registry.stop()
    check_whole(make_registry, bare)

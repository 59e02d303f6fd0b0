"""From what an operator writes to a registry."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from regstore.errors import UsageError
from regstore.registry import open_registry
from regstore.registry.listing import ListingVolume
from regstore.registry.local import LocalVolume
from regstore_drivers.errors import DriverError
from regstore_drivers.memory import from_url
from support.volume import V2, VolumeWriter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of a small registry."""
    root = tmp_path / "data"
    VolumeWriter(root).push_image("app", "latest", [b"layer"], b"{}")
    return root


@pytest.mark.parametrize("below", ["", "docker", "docker/registry", "docker/registry/v2", "docker/registry/v2/"])
@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://localhost{}", "file:{}"])
def test_a_directory_or_its_v2(root: Path, below: str, form: str) -> None:
    registry = open_registry(form.format(root / below))

    assert registry.location == f"file://{root}"
    assert registry.config is None
    assert registry.has(f"{V2}/repositories/app/_manifests/tags/latest/current/link")
    assert not registry.has(f"{V2}/repositories/app")
    assert isinstance(registry.open_volume(), LocalVolume)


def test_a_relative_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert open_registry("data").location == f"file://{root}"
    monkeypatch.chdir(root / V2)
    assert open_registry(".").location == f"file://{root}"


def test_names_with_odd_characters(tmp_path: Path) -> None:
    root = tmp_path / "my registry?x=%41#é"
    VolumeWriter(root).push_image("app", "latest", [b"layer"], b"{}")

    by_path = open_registry(str(root))
    by_url = open_registry(by_path.location)

    assert by_url.location == by_path.location
    assert by_url.has(f"{V2}/repositories/app/_manifests/tags/latest/current/link")


def test_a_root_inside_another_registrys_name(tmp_path: Path) -> None:
    """A rootdirectory whose own path ends like a registry's tree is taken as it is."""
    root = tmp_path / "docker/registry/v2"
    VolumeWriter(root).push_image("app", "latest", [b"layer"], b"{}")

    assert open_registry(str(root)).location == f"file://{root}"


def test_a_symbolic_link_is_followed(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)

    assert open_registry(str(link)).has(f"{V2}/repositories/app/_manifests/tags/latest/current/link")


def test_a_config_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"storage: {{filesystem: {{rootdirectory: {root}}}, cache: {{blobdescriptor: redis}}}}")

    registry = open_registry(str(path))

    assert registry.location == f"file://{root}"
    assert registry.config is not None
    assert (registry.config.path, registry.config.cache) == (str(path), "redis")
    path.write_text(f"storage: {{filesystem: {{rootdirectory: {root / V2}}}}}")
    assert open_registry(str(path)).location == f"file://{root}"


def test_an_object_store_is_listed() -> None:
    url = f"memory://{uuid.uuid4()}"
    driver = from_url(url)
    with pytest.raises(UsageError, match="there is no registry") as caught:
        open_registry(url)
    assert caught.value.code == "no-registry"
    VolumeWriter(lambda key, data: driver.write(key, data, len(data))).push_image("app", "latest", [b"x"], b"{}")

    registry = open_registry(url)

    assert registry.location == url
    volume = registry.open_volume(7)
    assert isinstance(volume, ListingVolume)
    assert volume.jobs == 7


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("absent", "there is no "),
        ("absent/docker/registry/v2", "there is no "),
        ("empty", "there is no registry at "),
        ("half", "there is no registry at "),
        ("blocked", "there is no registry at "),
        ("file/below", "lies below a file"),
        ("file", "no storage section"),
        ("config.yml", "there is no "),
        ("", "there is no registry at "),
    ],
)
def test_what_is_no_registry_is_a_usage_error(
    tmp_path: Path, location: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half/docker/registry").mkdir(parents=True)
    (tmp_path / "blocked/docker/registry").mkdir(parents=True)
    (tmp_path / "blocked/docker/registry/v2").write_text("a file")
    (tmp_path / "file").write_text("text")
    (tmp_path / "config.yml").write_text(f"storage: {{filesystem: {{rootdirectory: {tmp_path}/absent}}}}")

    with pytest.raises(UsageError, match=words) as caught:
        open_registry(location)

    assert caught.value.exit_code == 2
    assert caught.value.hint or "file" in location


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file://elsewhere/srv/registry", "names a host"),
        ("gopher://host/registry", "gopher"),
        ("memory://", "memory"),
        ("s3://", "s3|bucket"),
    ],
)
def test_a_wrong_url_is_a_usage_error(location: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_registry(location)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        open_registry("s3://AKIAEXAMPLE:s3cr3t@bucket/prefix")

    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        open_registry("s3://bucket/prefix?secret_key=s3cr3t")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("place", ["root", "v2"])
def test_a_directory_that_cannot_be_read_is_a_storage_error(tmp_path: Path, place: str) -> None:
    """A circle of links stands for it: root may read everything else."""
    path = tmp_path / "data" if place == "root" else tmp_path / "data" / V2
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)

    with pytest.raises(DriverError) as caught:
        open_registry(str(tmp_path / "data"))

    assert not isinstance(caught.value, UsageError)
    assert os.fspath(path) in str(caught.value)

"""The registry's own config.yml: where its data are, and whether it caches."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regstore.errors import UsageError
from regstore.registry.config import RegistryConfig, read_config
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.s3 import S3Driver
from support.examples import examples

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

PACKAGED = """
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /srv/registry
  delete:
    enabled: true
http:
  addr: :5000
"""

HARBOR = """
version: 0.1
log:
  level: info
storage:
  cache:
    layerinfo: redis
  s3:
    accesskey: AKIAIOSFODNN7EXAMPLE
    secretkey: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
    region: eu-west-1
    bucket: harbor
    regionendpoint: http://127.0.0.1:9000
    rootdirectory: /images
  maintenance:
    uploadpurging:
      enabled: true
      age: 168h
    readonly:
      enabled: true
  delete:
    enabled: true
  redirect:
    disable: true
redis:
  addr: redis:6379
auth:
  htpasswd:
    realm: harbor-registry-basic-realm
    path: /etc/registry/passwd
"""

Read = Callable[..., RegistryConfig]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A function that writes a configuration, text or document, and reads it in an environment of its own."""

    def write_and_read(content: object, **environment: str) -> RegistryConfig:
        path = tmp_path / "config.yml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return read_config(str(path), environment)

    return write_and_read


def s3(**parameters: Any) -> dict[str, Any]:
    """Return a document with an S3 section."""
    return {"storage": {"s3": {"bucket": "images", "region": "us-east-1", **parameters}}}


def test_a_packaged_file(read: Read, tmp_path: Path) -> None:
    config = read(PACKAGED)

    assert (config.driver, config.parameters) == ("filesystem", {"rootdirectory": "/srv/registry"})
    assert (config.cache, config.deletes, config.is_read_only) == ("inmemory", True, False)
    assert config.path == str(tmp_path / "config.yml")
    driver = config.open_driver()
    assert isinstance(driver, FilesystemDriver)
    assert driver.location == "file:///srv/registry"


@pytest.mark.parametrize(
    ("http", "url"),
    [
        ({"addr": ":5000"}, "http://127.0.0.1:5000"),
        ({"addr": "0.0.0.0:80", "net": "tcp"}, "http://127.0.0.1:80"),
        ({"addr": "[::]:5000", "tls": {}}, "http://127.0.0.1:5000"),
        ({"addr": "10.1.2.3:5001"}, "http://10.1.2.3:5001"),
        ({"addr": ":5000", "tls": {"certificate": "/x.pem"}}, ""),
        ({"addr": ":443", "tls": {"letsencrypt": {"email": "a@b"}}}, ""),
        ({"addr": "/run/registry.sock", "net": "unix"}, ""),
        ({"addr": "host"}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_where_it_listens(read: Read, http: object, url: str) -> None:
    assert read({"storage": "filesystem", "http": http}).url == url


def test_a_harbor_file(read: Read) -> None:
    config = read(HARBOR)

    assert (config.driver, config.cache, config.deletes, config.is_read_only) == ("s3", "redis", True, True)
    driver = config.open_driver()
    assert isinstance(driver, S3Driver)
    assert driver.location.startswith("s3://harbor/images?endpoint=")
    driver.close()


def test_the_root_directory_has_a_default(read: Read) -> None:
    for storage in ({"filesystem": None}, {"filesystem": {}}, {"filesystem": {"rootdirectory": ""}}, "filesystem"):
        config = read({"storage": storage})
        assert config.driver == "filesystem"
        assert config.open_driver().location == "file:///var/lib/registry"
        assert (config.cache, config.deletes, config.is_read_only) == ("", False, False)


def test_names_of_keys_may_have_any_case(read: Read) -> None:
    config = read({"storage": {"FileSystem": {"RootDirectory": "/x"}, "Cache": {"BlobDescriptor": "redis"}}})

    assert (config.driver, config.parameters, config.cache) == ("filesystem", {"rootdirectory": "/x"}, "redis")


@pytest.mark.parametrize("key", ["blobdescriptor", "layerinfo"])
@pytest.mark.parametrize(("value", "cache"), [("redis", "redis"), ("inmemory", "inmemory"), ("", ""), (None, "")])
def test_both_names_of_the_cache(read: Read, key: str, value: str | None, cache: str) -> None:
    assert read({"storage": {"filesystem": {}, "cache": {key: value}}}).cache == cache


@pytest.mark.parametrize("text", ["true", "yes", "on", '"true"', "1"])
def test_what_is_true(read: Read, text: str) -> None:
    config = read(
        f"storage: {{filesystem: {{}}, delete: {{enabled: {text}}}, maintenance: {{readonly: {{enabled: {text}}}}}}}"
    )

    assert (config.deletes, config.is_read_only) == (True, True)


@pytest.mark.parametrize(
    ("environment", "driver", "parameters"),
    [
        ({}, "filesystem", {"rootdirectory": "/srv/registry"}),
        ({"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/other"}, "filesystem", {"rootdirectory": "/other"}),
        ({"REGISTRY_STORAGE": "s3"}, "s3", {}),
        ({"REGISTRY_STORAGE": "s3", "REGISTRY_STORAGE_S3_BUCKET": "b"}, "s3", {"bucket": "b"}),
        ({"REGISTRY_STORAGES": "s3", "STORAGE": "s3", "REGISTRY_HTTP_ADDR": ":1"}, "filesystem", None),
    ],
)
def test_the_environment_overrides(
    read: Read, environment: dict[str, str], driver: str, parameters: dict[str, Any] | None
) -> None:
    config = read(PACKAGED, **environment)

    assert config.driver == driver
    assert parameters is None or config.parameters == parameters
    assert config.cache == "inmemory"


def test_the_environment_sets_what_is_beside_the_driver(read: Read) -> None:
    config = read(
        PACKAGED,
        REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR="redis",
        REGISTRY_STORAGE_DELETE_ENABLED="false",
        REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED="true",
    )
    assert (config.cache, config.deletes, config.is_read_only) == ("redis", False, True)

    config = read(PACKAGED, REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR="")
    assert config.cache == ""
    config = read(PACKAGED, REGISTRY_STORAGE_MAINTENANCE_READONLY="{enabled: true}")
    assert config.is_read_only


def test_the_environment_of_the_process_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yml"
    path.write_text(PACKAGED)
    monkeypatch.setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/from/environment")

    assert read_config(str(path)).parameters == {"rootdirectory": "/from/environment"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no storage section"),
        ("[]", "no storage section"),
        ("version: 0.1", "no storage section"),
        ("storage:", "no storage section"),
        ("storage: []", "no storage section"),
        ("storage: {}", "names none"),
        ("storage: {cache: {blobdescriptor: redis}}", "names none"),
        ("storage: {filesystem: {}, s3: {}}", "it names filesystem, s3"),
        ("storage: {\n  filesystem: {\n]", "is no YAML, line 3"),
        ("\tstorage: x", "is no YAML"),
        ("a: !!python/object:os.system x", "is no YAML"),
    ],
)
def test_what_is_no_configuration_is_a_usage_error(read: Read, content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read(content)

    assert caught.value.exit_code == 2
    assert str(tmp_path / "config.yml") in str(caught.value)


def test_files_that_cannot_be_read_are_usage_errors(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "absent", binary):
        with pytest.raises(UsageError, match=str(path)):
            read_config(str(path), {})


def test_a_bad_value_of_the_environment_is_named_and_not_shown(read: Read) -> None:
    with pytest.raises(UsageError) as caught:
        read(HARBOR, REGISTRY_STORAGE_S3_SECRETKEY=f"@{SECRET}")

    assert "REGISTRY_STORAGE_S3_SECRETKEY" in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.__cause__} {caught.value.hint}"


@pytest.mark.parametrize("name", ["azure", "gcs", "swift", "inmemory", "unknown"])
def test_other_drivers_are_named(read: Read, name: str) -> None:
    with pytest.raises(UsageError, match=f"there is no driver for storage.{name}"):
        read({"storage": {name: {}}}).open_driver()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bucket": None}, "bucket"),
        ({"bucket": "a/b"}, "bucket"),
        ({"accesskey": ACCESS}, "together"),
        ({"secretkey": SECRET}, "together"),
        ({"rootdirectory": "a/../b"}, "prefix"),
    ],
)
def test_wrong_parameters_are_usage_errors_and_keep_secrets(read: Read, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read(s3(**parameters)).open_driver()

    assert "storage.s3" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("driver", ["s3", "s3aws"])
def test_secrets_are_never_shown(read: Read, driver: str) -> None:
    config = read(
        {"storage": {driver: s3(accesskey=ACCESS, secretkey=SECRET, sessiontoken="token-x")["storage"]["s3"]}}
    )
    opened = config.open_driver()

    for shown in (repr(config), str(config), f"{config}", repr(opened), str(opened), opened.location):
        for secret in (SECRET, ACCESS, "token-x"):
            assert secret not in shown
    assert copy.copy(config) == config == pickle.loads(pickle.dumps(config))
    opened.close()


@pytest.mark.parametrize(
    ("parameters", "location"),
    [
        ({}, "s3://images?region=us-east-1"),
        ({"rootdirectory": "/a/b/"}, "s3://images/a/b?region=us-east-1"),
        ({"regionendpoint": "http://127.0.0.1:9000"}, "s3://images?endpoint=http://127.0.0.1:9000&region=us-east-1"),
        ({"regionendpoint": "127.0.0.1:9000", "secure": False}, "endpoint=http://127.0.0.1:9000"),
        ({"regionendpoint": "s3.example.org"}, "endpoint=https://s3.example.org"),
        ({"regionendpoint": "s3.example.org", "secure": "true"}, "endpoint=https://s3.example.org"),
        ({"skipverify": True}, "skip_verify=true"),
        ({"storageclass": "STANDARD_IA"}, "storage_class=STANDARD_IA"),
        ({"encrypt": True, "keyid": "key-1"}, "key_id=key-1"),
        ({"encrypt": False, "keyid": "key-1"}, "s3://images?region=us-east-1"),
        ({"objectacl": "private"}, "acl=private"),
        ({"regionendpoint": "http://h", "forcepathstyle": False}, "path_style=false"),
    ],
)
def test_the_parameters_of_s3(read: Read, parameters: dict[str, Any], location: str) -> None:
    driver = read(s3(**parameters)).open_driver()

    assert location in driver.location
    driver.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["filesystem", "s3", "cache", "delete", "maintenance", "redirect", "readonly", "rootdirectory"])


@examples(100)
@given(
    st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6),
    st.dictionaries(
        st.sampled_from(["", "_S3", "_S3_BUCKET", "_CACHE", "_CACHE_BLOBDESCRIPTOR", "_", "__A", "_DELETE_ENABLED_X"]),
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=6),
        max_size=3,
    ),
)
def test_whatever_the_file_says_is_understood_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, storage: object, environment: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yml"
    path.write_text(yaml.safe_dump({"storage": storage}))
    try:
        config = read_config(os.fspath(path), {f"REGISTRY_STORAGE{k}": v for k, v in environment.items()})
    except UsageError:
        return
    assert isinstance(config.driver, str)

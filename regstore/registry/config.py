"""The registry's own config.yml, read only: where it keeps its data, and whether it caches.

Source of the keys: configuration/configuration.go and registry/storage/driver/s3-aws/s3.go of distribution v2.8.3 and
v3.1.1. Parsed as YAML 1.1, like distribution does. `REGISTRY_STORAGE_...` variables override, one level an underscore.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regstore.errors import UsageError
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regstore_drivers.base import Driver

_NOT_A_DRIVER = {"maintenance", "cache", "delete", "redirect", "tag"}
_DEFAULT_ROOT = "/var/lib/registry"
_SECRETS = ("accesskey", "secretkey", "sessiontoken")


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """What of a registry's configuration concerns its storage.

    Attributes:
        path: the file.
        driver: `filesystem`, `s3` or `s3aws`.
        parameters: the driver's section; it may hold secrets and is never shown.
        cache: `inmemory`, `redis` or another name, or empty when blob descriptors are not cached.
        deletes: whether the API may delete.
        is_read_only: whether maintenance.readonly is on.
        purges_uploads: whether the registry removes abandoned uploads itself.
        redirects: whether clients are sent to the bucket for layers.
        url: where this host reaches the registry, or empty where the file does not say it for sure.
    """

    path: str
    driver: str
    parameters: Mapping[str, Any] = field(repr=False)
    cache: str = ""
    deletes: bool = False
    is_read_only: bool = False
    purges_uploads: bool = True
    redirects: bool = False
    url: str = ""

    @property
    def root_directory(self) -> str:
        """The directory of the `filesystem` driver, or empty for another one."""
        return str(self.parameters.get("rootdirectory") or _DEFAULT_ROOT) if self.driver == "filesystem" else ""

    @property
    def has_secrets(self) -> bool:
        """Tell whether credentials of the storage stand in the file."""
        return any(self.parameters.get(name) for name in _SECRETS)

    def open_driver(self) -> Driver:
        """Open the storage that the registry uses.

        Raises:
            UsageError: a driver that regstore does not have.
        """
        if self.driver == "filesystem":
            return open_driver(self.root_directory)
        if self.driver in ("s3", "s3aws"):
            return self._open_s3()
        raise UsageError(
            f"{self.path}: there is no driver for storage.{self.driver}", hint="regstore reads filesystem and s3"
        )

    def _open_s3(self) -> Driver:
        from regstore_drivers.s3 import S3Driver, S3Options

        get = self.parameters.get
        endpoint = get("regionendpoint")
        secure = _is_true(get("secure", True))
        if endpoint and "://" not in str(endpoint):
            endpoint = f"{'https' if secure else 'http'}://{endpoint}"
        encrypt = _is_true(get("encrypt", False))
        try:
            options = S3Options(
                bucket=str(get("bucket") or ""),
                prefix=str(get("rootdirectory") or "").strip("/"),
                endpoint=str(endpoint) if endpoint else None,
                region=str(get("region")) if get("region") else None,
                path_style=_is_true(get("forcepathstyle", bool(endpoint))),
                secure=secure,
                verify=not _is_true(get("skipverify", False)),
                storage_class=str(get("storageclass")) if get("storageclass") else None,
                encrypt=encrypt,
                key_id=str(get("keyid")) if get("keyid") and encrypt else None,
                acl=str(get("objectacl")) if get("objectacl") else None,
                access_key=str(get("accesskey")) if get("accesskey") else None,
                secret_key=str(get("secretkey")) if get("secretkey") else None,
                session_token=str(get("sessiontoken")) if get("sessiontoken") else None,
            )
        except ValueError as error:
            raise UsageError(f"{self.path}: storage.{self.driver}: {error}") from error
        return S3Driver(options)


def read_config(path: str, environment: Mapping[str, str] | None = None) -> RegistryConfig:
    """Read a registry's config.yml.

    Raises:
        UsageError: it cannot be read, is no YAML, or has no storage section.
    """
    import yaml  # only here and below: commands on a directory start sooner

    environment = os.environ if environment is None else environment
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UsageError(f"{path} is no YAML{line}", hint="name the registry's config.yml") from None
    storage = content.get("storage") if isinstance(content, dict) else None
    if isinstance(storage, str):
        storage = {storage: {}}
    if not isinstance(storage, dict):
        raise UsageError(f"{path} has no storage section", hint="name the config.yml that the registry is started with")
    storage = _override(storage, environment)
    cache = _section(storage, "cache")  # `layerinfo` is its name in old files, and in Harbor's
    drivers = sorted(set(storage) - _NOT_A_DRIVER)
    if len(drivers) != 1:
        raise UsageError(f"{path}: storage must name exactly one driver, it names {', '.join(drivers) or 'none'}")
    return RegistryConfig(
        path=path,
        driver=drivers[0],
        parameters=_section(storage, drivers[0]),
        cache=str(cache.get("blobdescriptor") or cache.get("layerinfo") or ""),
        deletes=_is_true(_section(storage, "delete").get("enabled", False)),
        is_read_only=_is_true(_section(_section(storage, "maintenance"), "readonly").get("enabled", False)),
        purges_uploads=_is_true(_section(_section(storage, "maintenance"), "uploadpurging").get("enabled", True)),
        redirects=drivers[0] in ("s3", "s3aws") and not _is_true(_section(storage, "redirect").get("disable", False)),
        url=_url_of(_section(content, "http")),
    )


def _url_of(http: Mapping[str, Any]) -> str:
    """Return the URL of a listener on TCP without TLS, whose certificate would be for a name that is not known here."""
    host, separator, port = str(http.get("addr") or "").rpartition(":")
    if not separator or not port.isdecimal() or http.get("net", "tcp") != "tcp" or any(_section(http, "tls").values()):
        return ""
    return f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '[::]') else host}:{port}"  # noqa: S104 - read, not listened on


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    if not isinstance(section, dict):
        return {}
    return {str(key).lower(): value for key, value in section.items()}


def _override(storage: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Apply `REGISTRY_STORAGE_<KEY>_<KEY>...`; a variable for another driver replaces the driver, as in
    distribution."""
    import yaml

    result = {str(key).lower(): value for key, value in storage.items()}
    for name, text in sorted(environment.items()):
        if name != "REGISTRY_STORAGE" and not name.startswith("REGISTRY_STORAGE_"):
            continue
        keys = name.split("_")[2:]
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            # The parser's own message would show a secret.
            raise UsageError(f"the environment variable {name} is no YAML", hint="quote its value") from None
        if not keys:
            if isinstance(value, str):
                result = {key: section for key, section in result.items() if key in _NOT_A_DRIVER} | {value: {}}
            continue
        target = result
        for key in keys[:-1]:
            section = target.get(key.lower())
            if not isinstance(section, dict):
                section = {}
            target[key.lower()] = section = {str(k).lower(): v for k, v in section.items()}
            target = section
        target[keys[-1].lower()] = value
    return result


def _is_true(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes", "on", "t")
    return bool(value)


def s3_parameters(location: str) -> dict[str, Any]:
    """Return what the `s3` section of a registry's configuration says about a location, without credentials.

    Args:
        location: as `S3Driver.location` gives it.
    """
    from regstore_drivers.s3.options import parse_url

    options = parse_url(location)
    parameters: dict[str, Any] = {"bucket": options.bucket, "region": options.region or "us-east-1"}
    if options.prefix:
        parameters["rootdirectory"] = f"/{options.prefix}"
    if options.endpoint:
        parameters |= {"regionendpoint": options.endpoint, "secure": options.endpoint.startswith("https:")}
        parameters["forcepathstyle"] = options.has_path_style
    if not options.verify:
        parameters["skipverify"] = True
    if options.storage_class:
        parameters["storageclass"] = options.storage_class
    if options.encrypt:
        parameters["encrypt"] = True
    if options.key_id:
        parameters["keyid"] = options.key_id
    if options.acl:
        parameters["objectacl"] = options.acl
    return parameters

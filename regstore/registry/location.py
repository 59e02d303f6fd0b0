"""From a location as an operator writes it to a driver."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from regstore import layout
from regstore.errors import UsageError
from regstore.registry.config import RegistryConfig, read_config
from regstore.registry.listing import ListingVolume
from regstore.registry.local import LocalVolume
from regstore_drivers.base import READ_LIMIT_BYTES, Driver, HasLocalPath, HasTransferOptions
from regstore_drivers.errors import DriverError, NotFound, PermissionDenied
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regstore.registry.scan import Volume
    from regstore_drivers.base import Entry

_V2_PATH = layout.V2.rstrip("/")


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry's data: the driver below its root, and what its own configuration says.

    Attributes:
        driver: keys are relative to the registry's rootdirectory.
        config: what its `config.yml` says, when the location was one.
    """

    driver: Driver
    config: RegistryConfig | None = None

    @property
    def location(self) -> str:
        """The root as a URL without credentials."""
        return self.driver.location

    def open_volume(
        self,
        jobs: int = 1,
        *,
        is_thorough: bool = False,
        is_measuring: bool = False,
        is_copying: bool = False,
        on_error: Callable[[DriverError], None] | None = None,
    ) -> Volume:
        """Return the volume for one pass, read with `jobs` requests at once where that helps.

        Args:
            jobs: requests at once on an object store.
            is_thorough: whether every link is looked into, not only those that decide what is live.
            is_measuring: whether names are counted, and it is noted when each tag was pushed.
            is_copying: whether all links are wanted, in an order that suits a copy of a live volume.
            on_error: told of a directory that cannot be listed; without it, and on an object store, that raises.
        """
        if isinstance(self.driver, HasLocalPath):
            return LocalVolume(
                self.driver.local_path(""),
                is_thorough=is_thorough,
                is_measuring=is_measuring,
                is_copying=is_copying,
                on_error=on_error,
            )
        return ListingVolume(self.driver, jobs, is_thorough=is_thorough or is_copying)

    def has(self, key: str) -> bool:
        """Tell whether there is such an object."""
        try:
            self.driver.stat(key)
        except NotFound:
            return False
        return True


def open_registry(location: str, jobs: int = 16, *, multipart_threshold: int | None = None) -> Registry:
    """Open the registry at a location: a directory, a URL, or the registry's own config.yml.

    Args:
        location: of the registry.
        jobs: requests at once on an object store.
        multipart_threshold: bytes above which an object store gets its objects in parts; None for 64 MiB.

    Raises:
        UsageError: there is no such path, no registry there, or the configuration cannot be understood.
        DriverError: the storage refused or cannot be reached.
    """
    config = None
    if "://" not in location and os.path.isfile(location):
        config = read_config(location)
        driver = config.open_driver()
    elif "://" not in location or location.startswith("file:"):
        driver = open_driver(_find_root(path_of_location(location)))
    else:
        driver = _open_url(location)
    driver = _prepared(driver, jobs, multipart_threshold)
    registry = Registry(driver, config)
    if isinstance(driver, HasLocalPath):
        root = _find_root(driver.local_path(""))
        if root != driver.local_path("").rstrip("/"):
            registry = Registry(open_driver(root), config)
    elif next(iter(driver.list_dir(layout.V2)), None) is None:
        raise _no_registry(driver.location)
    return registry


def settled_location(location: str) -> str:
    """Return the location that `open_registry` gives its registry, also while the storage is not there.

    Raises:
        UsageError: the location or the configuration cannot be understood.
    """
    if "://" in location and not location.startswith("file:"):
        return _open_url(location).location
    path = path_of_location(location)
    if os.path.isfile(path):
        config = read_config(path)
        if config.driver != "filesystem":
            return config.open_driver().location
        path = config.root_directory
    try:
        path = _find_root(path)
    except (UsageError, DriverError):
        path = os.path.abspath(path)
    return _AbsentDirectory(path).location


def open_target(
    location: str, jobs: int = 16, *, is_making: bool = True, multipart_threshold: int | None = None
) -> Registry:
    """Open the place where a registry is, or is to be: what `open_registry` takes, or an empty or new directory.

    A directory is made when its parent exists; without `is_making` it is only seen that it could be.
    `multipart_threshold` is the size in bytes above which a bucket gets its objects in parts.

    Raises:
        UsageError: there is no such parent, or the configuration cannot be understood.
        DriverError: the storage refused or cannot be reached.
    """
    is_path = "://" not in location or location.startswith("file:")
    if is_path and not os.path.isfile(path_of_location(location)):
        _make_directory(path_of_location(location), is_making=is_making)
    try:
        return open_registry(location, jobs, multipart_threshold=multipart_threshold)
    except UsageError as error:
        if error.code != "no-registry" and (is_making or not is_path or os.path.exists(path_of_location(location))):
            raise
    if is_path and os.path.isfile(path_of_location(location)):
        config = read_config(location)
        return Registry(_prepared(config.open_driver(), jobs, multipart_threshold), config)
    if not is_path:
        return Registry(_prepared(_open_url(location), jobs, multipart_threshold))
    path = path_of_location(location)
    return Registry(open_driver(path) if os.path.isdir(path) else _AbsentDirectory(path))


class _AbsentDirectory(FilesystemDriver):
    """A directory that is not there yet, for those who only look: there is nothing in it."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return iter(())

    def list_dir(self, prefix: str) -> Iterator[str]:
        return iter(())

    def read(self, key: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        raise NotFound("the directory is not there yet", operation="read", key=key, location=self.location)


def _make_directory(path: str, *, is_making: bool) -> None:
    if not is_making and os.path.isdir(os.path.dirname(os.path.abspath(path))):
        return
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise UsageError(
            f"there is no {os.path.dirname(os.path.abspath(path))}", hint="make it, or mount its disk, first"
        ) from None
    except OSError as error:
        raise _failed(error, "make", path) from error


def path_of_location(location: str) -> str:
    """Return the path that a location without another scheme than `file` names.

    Raises:
        UsageError: the URL names a host.
    """
    if not location.startswith("file:"):
        return location
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{location!r} names a host", hint="a file URL has three slashes: file:///srv/registry")
    return unquote(parts.path)


def _find_root(path: str) -> str:
    """Find the rootdirectory for a path that is it, or points at its `docker/registry/v2`."""
    path = os.path.abspath(path)
    try:
        os.stat(path)
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}", hint="name the registry's rootdirectory; is its disk mounted?"
        ) from None
    except NotADirectoryError:
        raise UsageError(f"{path} lies below a file") from None
    except OSError as error:
        raise _failed(error, "stat", path) from error
    candidates = [path]
    suffix = ""
    for part in reversed(_V2_PATH.split("/")):
        suffix = f"/{part}{suffix}"
        if path.endswith(suffix):
            candidates.append(path[: -len(suffix)] or "/")
    for index in range(len(_V2_PATH.split("/"))):
        ending = "/" + "/".join(_V2_PATH.split("/")[: index + 1])
        if path.endswith(ending):
            candidates.append(path[: -len(ending)] or "/")
    for candidate in candidates:
        try:
            os.listdir(f"{candidate.rstrip('/')}/{_V2_PATH}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _failed(error, "list", f"{candidate.rstrip('/')}/{_V2_PATH}") from error
        return candidate
    raise _no_registry(path)


def _failed(error: OSError, operation: str, path: str) -> DriverError:
    kind = PermissionDenied if isinstance(error, PermissionError) else DriverError
    return kind(error.strerror or str(error), operation=operation, key=path)


def _no_registry(location: str) -> UsageError:
    return UsageError(
        f"there is no registry at {location}: it has no {_V2_PATH} below it",
        hint="name the registry's rootdirectory (storage.filesystem.rootdirectory, by default /var/lib/registry), "
        "an s3:// URL with its prefix, or the registry's config.yml",
        code="no-registry",
    )


def _prepared(driver: Driver, jobs: int, multipart_threshold: int | None) -> Driver:
    """Return the driver of an object store with so many connections, and with retries."""
    if isinstance(driver, HasLocalPath):
        return driver
    if isinstance(driver, HasTransferOptions):
        driver = driver.with_transfer_options(jobs=jobs, multipart_threshold=multipart_threshold)
    from regstore_drivers.wrappers import Retrying  # only object stores are slow to load, and need it

    return Retrying(driver)


def _open_url(location: str) -> Driver:
    try:
        return open_driver(location)
    except ValueError as error:
        hint = ""
        if location.startswith(("http://", "https://")):
            hint = (
                "name the registry's data (a directory, an s3:// URL or its config.yml); its own URL goes to an option"
            )
        raise UsageError(str(error), hint=hint) from error

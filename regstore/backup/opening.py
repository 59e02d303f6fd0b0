"""Making stores and opening them."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

from regstore.backup import layout
from regstore.backup.listing import FOREIGN
from regstore.backup.store import Store
from regstore.errors import RefusedError, StorageFailedError, UsageError
from regstore.registry.location import path_of_location
from regstore_drivers.base import HasLocalPath, HasTransferOptions
from regstore_drivers.errors import AlreadyExists, NotFound
from regstore_drivers.url import open_driver

if TYPE_CHECKING:
    from regstore_drivers.base import Driver

_FORMAT = "regstore store"
_VERSION = 1


def init_store(location: str, jobs: int = 16) -> Store:
    """Make a store: `backup init`.

    Raises:
        UsageError: there is one already, or the parent directory or bucket does not exist.
        RefusedError: something else lies there.
        DriverError: it cannot be written.
    """
    driver = _open_location(location, jobs, is_new=True)
    names = [name for name in driver.list_dir("") if name not in FOREIGN]
    if layout.FORMAT in names:
        raise UsageError(f"there is a store at {driver.location} already", code="store-exists")
    if names:
        raise RefusedError(
            f"{driver.location} is not empty: it holds {names[0]}",
            hint="name a directory or prefix of the store's own",
            code="store-not-empty",
        )
    identity = secrets.token_hex(16)
    content = {"format": _FORMAT, "version": _VERSION, "id": identity, "hash": "sha256"}
    data = json.dumps(content, indent=1).encode() + b"\n"
    try:
        driver.write(layout.FORMAT, data, len(data), if_absent=True)
    except AlreadyExists:
        raise UsageError(f"there is a store at {driver.location} already", code="store-exists") from None
    return Store(driver, identity, 1 if isinstance(driver, HasLocalPath) else jobs)


def open_store(location: str, jobs: int = 16) -> Store:
    """Open a store.

    Raises:
        UsageError: there is none, or it is of a version that this regstore does not read.
        DriverError: the storage cannot be reached.
    """
    driver = _open_location(location, jobs, is_new=False)
    try:
        version, identity = _parse_format(driver.read(layout.FORMAT))
    except NotFound:
        raise _no_store(driver.location) from None
    except (ValueError, LookupError, TypeError) as error:
        raise StorageFailedError(
            f"{driver.location.rstrip('/')}/{layout.FORMAT} cannot be understood: {error}",
            hint="restore that file from a second copy of the store",
            code="corruption",
        ) from error
    if version != _VERSION:
        raise UsageError(
            f"the store at {driver.location} is of version {version}, this regstore reads {_VERSION}",
            hint="use a newer regstore",
        )
    return Store(driver, identity, 1 if isinstance(driver, HasLocalPath) else jobs)


def _parse_format(data: bytes) -> tuple[int, str]:
    content = json.loads(data)
    if content["format"] != _FORMAT:
        raise ValueError("it describes something else")
    return content["version"], str(content["id"])


def _no_store(location: str) -> UsageError:
    return UsageError(
        f"there is no store at {location}",
        hint="is its disk mounted? regstore backup init makes a new one",
        code="store-missing",
    )


def _open_location(location: str, jobs: int, *, is_new: bool) -> Driver:
    if "://" in location and not location.startswith("file:"):
        from regstore_drivers.wrappers import Retrying  # only object stores need it

        try:
            driver = open_driver(location)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if isinstance(driver, HasTransferOptions):
            driver = driver.with_transfer_options(jobs=jobs)
        return driver if isinstance(driver, HasLocalPath) else Retrying(driver)
    path = os.path.abspath(path_of_location(location))
    if not os.path.isdir(path):
        if not is_new:
            raise _no_store(path)
        try:
            os.mkdir(path)
        except FileNotFoundError:
            raise UsageError(
                f"there is no {os.path.dirname(path)}", hint="make it, or mount its disk, first", code="store-missing"
            ) from None
        except FileExistsError:
            raise UsageError(f"{path} is no directory", code="store-missing") from None
    return open_driver(path)

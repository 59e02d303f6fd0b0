"""What an operator needs after a migration: the new registry's configuration, the lines for a new disk, the way back.

Source of the keys: registry/storage/driver/s3-aws/s3.go of distribution v2.8.3 and v3.1.1; fstab(5), crypttab(5).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from regstore.migrate.disk import Disk, find_disk
from regstore.registry.config import s3_parameters
from regstore_drivers.base import HasLocalPath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.registry import Registry


def describe_handover(source: Registry, target: Registry) -> str:
    """Return the `storage` section of the new registry as YAML; everything else is in comments.

    Credentials are never in it.
    """
    return "\n".join(_iter_lines(source, target)) + "\n"


def storage_parameters(target: Registry) -> tuple[str, dict[str, Any]]:
    """Return the name of the registry's driver for a target, and its parameters without credentials."""
    if isinstance(target.driver, HasLocalPath):
        return "filesystem", {"rootdirectory": os.path.abspath(target.driver.local_path(""))}
    return "s3", s3_parameters(target.driver.location)


def _iter_lines(source: Registry, target: Registry) -> Iterator[str]:
    driver, parameters = storage_parameters(target)
    yield "# The new registry's config.yml. Keep its other sections; no maintenance.readonly in `storage` any more."
    yield "storage:"
    yield f"  {driver}:"
    for name, value in parameters.items():
        yield f"    {name}: {_yaml(value)}"
    config = source.config
    if config and config.deletes:
        yield "  delete:"
        yield "    enabled: true"
    if driver == "s3":
        yield "# Where clients cannot reach the bucket by themselves: redirect, with disable: true, beside s3."
        yield "# Credentials: accesskey and secretkey beside the bucket, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
        yield "# or the role of the machine."
    yield "#"
    yield "# The same as environment variables:"
    yield f"#   REGISTRY_STORAGE={driver}"
    for name, value in parameters.items():
        yield f"#   REGISTRY_STORAGE_{driver.upper()}_{name.upper()}={_plain(value)}"
    if isinstance(target.driver, HasLocalPath):
        yield from _iter_disk_lines(find_disk(target.driver.local_path("")))
    yield "#"
    yield "# The way back, as long as nothing was pushed to the new registry: start the old one with its old"
    yield f"# configuration on {source.location}"
    yield "# which this migration only read. What was pushed to the new one since is not there."


def _iter_disk_lines(disk: Disk | None) -> Iterator[str]:
    if disk is None:
        return
    yield "#"
    yield "# /etc/fstab:"
    yield f"#   {disk.name}  {disk.mount_point}  {disk.file_system}  defaults,nofail,x-systemd.device-timeout=30s  0  2"
    yield "#   nofail: the machine boots without the disk. Start the registry only when it is mounted"
    yield f"#   (systemd: RequiresMountsFor={disk.mount_point})."
    if disk.mapping:
        yield "# /etc/crypttab:"
        yield f"#   {disk.mapping}  {disk.backing}  none  luks,nofail"


def _yaml(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

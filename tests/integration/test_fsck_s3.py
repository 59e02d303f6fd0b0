"""Checks and repairs of a bucket that a real registry wrote through a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regstore import fsck
from regstore.findings import Severity
from regstore.registry import Registry as Location
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.s3 import S3Driver
from support import images
from support.pusher import Pusher
from support.registry import Registry
from support.volume import blob_key, layer_link_key, tag_link_key

pytestmark = [pytest.mark.s3, pytest.mark.registry]
CHECK = fsck.Options(data=True)


def contents(driver: S3Driver) -> dict[str, bytes]:
    """Return what the registry has in the bucket."""
    return {entry.key: driver.read(entry.key) for entry in list(driver.list("docker/"))}


def bad(result: fsck.CheckResult) -> list[tuple[str, tuple[str, ...]]]:
    """Return id and images of the findings of severity warning or worse."""
    return sorted((found.id, found.images) for found in result.findings if found.severity >= Severity.WARNING)


def repair(driver: S3Driver, *sources: fsck.Source) -> fsck.RepairResult:
    """Check and repair."""
    location, options = Location(driver), fsck.RepairOptions()
    result = fsck.check_registry(location, CHECK)
    plan = fsck.plan_repair(location, result, options, sources)
    return fsck.repair_registry(location, result, plan, options, sources, check_options=CHECK)


def test_damage_in_a_bucket_is_found_repaired_and_the_repair_taken_back(
    start: Callable[..., Registry], driver: S3Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing and corrupt objects, links that are empty or gone; a directory gives back what is missing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with start() as registry, Pusher(registry.url) as client:
        app = client.push_image("team/app", "v1", images.layers(2, "app"))
        other = client.push_image("other", "v1", images.layers(1, "other"))
        client.push_multi_arch("team/app", "multi", "multi")
        expected = client.pull_all()
    whole = contents(driver)
    backup = FilesystemDriver(str(tmp_path))
    for key, data in whole.items():
        backup.write(f"backup/{key}", data, len(data))
    assert bad(fsck.check_registry(Location(driver), CHECK)) == []
    layer = whole[blob_key(app.layers[0])]
    rotten = bytes([layer[0] ^ 1]) + layer[1:]
    driver.write(blob_key(app.layers[0]), rotten, len(rotten))
    driver.write(layer_link_key("other", other.layers[0]), b"", 0)
    newline = other.digest.encode() + b"\n"
    driver.write(tag_link_key("other", "v1"), newline, len(newline))
    assert other.config is not None
    gone = [blob_key(other.config), layer_link_key("team/app", app.layers[1])]
    assert [deleted.outcome for deleted in driver.delete(gone)] == ["gone", "gone"]
    damaged = contents(driver)

    result = fsck.check_registry(Location(driver), CHECK)
    assert bad(result) == [
        ("blob-corrupt", ("team/app:v1",)),
        ("blob-missing", ("other:v1",)),
        ("layer-link-missing", ("team/app:v1",)),
        ("link-malformed", ("other:v1",)),
        ("link-malformed", ("other:v1",)),
    ]
    assert contents(driver) == damaged

    done = repair(driver)
    assert bad(done.left) == [("blob-missing", ("other:v1",)), ("blob-missing", ("team/app:v1",))]
    assert fsck.undo_repair(Location(driver)).restored_count == 3
    assert contents(driver) == damaged

    done = repair(driver, fsck.open_source(str(tmp_path / "backup"), Location(driver)))
    assert bad(done.left) == []
    assert contents(driver) == whole
    with start() as registry, Pusher(registry.url) as client:
        assert client.pull_all() == expected

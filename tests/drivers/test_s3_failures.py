"""Buckets that are not there, servers that are not there, and credentials that are not there."""

from __future__ import annotations

import time

import pytest

from fixtures_s3 import S3Store
from regstore_drivers.errors import (
    PermissionDenied,
    Unreachable,
)


def test_a_missing_bucket_is_no_missing_object(s3_store: S3Store) -> None:
    driver = s3_store.open(s3_store.server, "no-such-bucket", "root")
    operations = [
        lambda: driver.stat("a"),
        lambda: driver.read("a"),
        lambda: driver.write("a", b"", 0),
        lambda: driver.write("a", b"", 0, if_absent=True),
        lambda: driver.move("a", "b"),
        lambda: list(driver.list("")),
        lambda: list(driver.list_dir("")),
        lambda: list(driver.delete(["a"])),
        lambda: list(driver.list_multipart("")),
        driver.is_versioned,
    ]
    for operation in operations:
        with pytest.raises(Unreachable, match="no such bucket"):
            operation()


def test_unreachable_servers_fail_at_once(s3_store: S3Store) -> None:
    driver = s3_store.open(s3_store.server, s3_store.bucket, endpoint="http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(Unreachable, match="Connection refused"):
        driver.stat("a")
    with pytest.raises(Unreachable, match="Connection refused"):
        list(driver.list(""))
    with pytest.raises(Unreachable, match="Connection refused"):
        driver.now()
    assert time.monotonic() - started < 10
    assert not Unreachable.retryable


def test_no_credentials_is_said_so(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    driver = s3_store.open(s3_store.server, s3_store.bucket, access_key=None, secret_key=None)

    with pytest.raises(PermissionDenied, match="no credentials found: set AWS_ACCESS_KEY_ID"):
        driver.stat("a")


def test_credentials_of_the_environment_are_used(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_store.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_store.server.secret_key)
    driver = s3_store.open(s3_store.server, s3_store.bucket, access_key=None, secret_key=None)

    assert driver.write("a", b"", 0).size == 0

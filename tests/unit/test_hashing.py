"""Hashing stored objects."""

from __future__ import annotations

import pytest

from regstore.digest import parse_digest
from regstore.hashing import is_whole
from regstore_drivers.errors import NotFound
from regstore_drivers.memory import MemoryDriver
from support import images

DATA = b"data"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_objects_are_hashed_whole(algorithm: str) -> None:
    driver = MemoryDriver()
    large = bytes(3 << 20)
    for key, data in {"right": DATA, "wrong": b"dat", "empty": b"", "large": large}.items():
        driver.write(key, data, len(data))
    digest = parse_digest(images.digest_of(DATA, algorithm))

    assert is_whole(driver, "right", digest)
    assert not is_whole(driver, "wrong", digest)
    assert not is_whole(driver, "empty", digest)
    assert is_whole(driver, "large", parse_digest(images.digest_of(large, algorithm)))
    with pytest.raises(NotFound):
        is_whole(driver, "absent", digest)

"""Layers against the configurations of their images."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from regstore import fsck
from regstore.decompression import UndecodableError, iter_plain
from regstore.digest import Digest, parse_digest
from regstore.fsck import layers as module
from regstore.fsck.layers import check_layers
from regstore.layout import BlobData
from regstore.registry import open_registry
from regstore.state import State
from regstore_drivers.errors import Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support import images
from support.volume import VolumeWriter

PLAIN = b"".join(b"line %d of a layer\n" % number for number in range(50_000))


def two_frames() -> bytes:
    return zstandard.compress(PLAIN[:1000]) + zstandard.compress(PLAIN[1000:])


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:70_000]) + gzip.compress(PLAIN[70_000:]),
        gzip.compress(PLAIN) + bytes(512),
        zstandard.compress(PLAIN),
        two_frames(),
    ],
    ids=["plain", "gzip", "members", "blanks", "zstd", "frames"],
)
def test_layers_are_decompressed(data: bytes) -> None:
    assert b"".join(iter_plain(io.BytesIO(data))) == PLAIN


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(PLAIN)[:-20], "cut off"),
        (gzip.compress(PLAIN)[:30] + b"x" * 300, "no gzip data"),
        (gzip.compress(PLAIN) + b"rubbish", "no gzip data"),
        (zstandard.compress(PLAIN)[:20] + b"x" * 300_000, "no zstd data"),
    ],
)
def test_damaged_layers_are_told(data: bytes, why: str) -> None:
    with pytest.raises(UndecodableError, match=why):
        list(iter_plain(io.BytesIO(data)))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_passes_in_small_pieces(pack: Any) -> None:
    bomb = pack(bytes(200 << 20))
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in iter_plain(io.BytesIO(bomb)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == 200 << 20
    assert peak < 24 << 20


@pytest.fixture
def state() -> Iterator[State]:
    made = State(None)
    yield made
    made.close()


@pytest.fixture
def driver() -> Faulty:
    return Faulty(MemoryDriver())


def store(driver: Faulty, data: bytes, digest: str = "") -> str:
    digest = digest or images.digest_of(data)
    driver.write(BlobData(parse_digest(digest)).key, data, len(data))
    return digest


def push(driver: Faulty, layers: list[bytes], media_type: str = images.OCI_LAYER, **rootfs: Any) -> Digest:
    """Store an image whose configuration says what its layers decompress to, or what else it is told to say."""
    config: dict[str, Any] = json.loads(images.image_config(layers))
    config["rootfs"] |= rootfs
    data = images.encode(config)
    for blob in (data, *layers):
        store(driver, blob)
    descriptors = [images.descriptor(media_type, layer) for layer in layers]
    manifest = images.image_manifest(images.descriptor(images.OCI_CONFIG, data), descriptors, "oci")
    return parse_digest(store(driver, manifest))


def check(driver: Faulty, state: State, *manifests: Digest) -> list[tuple[str, str]]:
    """Return id and subject of the findings."""
    return [(found.id, found.subject) for found in check_layers(driver, manifests, state, jobs=2)]


def test_true_layers_are_no_finding_and_are_remembered(driver: Faulty, state: State) -> None:
    layer = images.layer("one")
    image, other = push(driver, [layer, images.layer("two")]), push(driver, [layer])

    assert check(driver, state, image, other) == []
    assert state.diff_id(parse_digest(images.digest_of(layer))) == parse_digest(
        images.digest_of(gzip.decompress(layer))
    )
    driver.fail("open", times=None)
    assert check(driver, state, image, other) == []


def test_another_layer_than_was_built(driver: Faulty, state: State) -> None:
    layer, wrong = images.layer("one"), "sha256:" + "0" * 64
    false, true = push(driver, [layer], diff_ids=[wrong]), push(driver, [layer])

    findings = list(check_layers(driver, [false, true], state, jobs=1))

    assert [(found.id, found.subject) for found in findings] == [("layer-diffid", images.digest_of(layer))]
    assert findings[0].evidence == {
        "manifests": [f"sha256:{false.hex()}"],
        "expected": wrong,
        "seen": images.digest_of(gzip.decompress(layer)),
    }
    assert check(driver, state, false) == [("layer-diffid", images.digest_of(layer))]  # from memory


def test_a_layer_that_cannot_be_decompressed(driver: Faulty, state: State) -> None:
    broken = images.layer("one")[:-9]
    config = images.image_config([images.layer("one")])
    for blob in (config, broken):
        store(driver, blob)
    data = images.image_manifest(
        images.descriptor(images.OCI_CONFIG, config), [images.descriptor(images.OCI_LAYER, broken)], "oci"
    )
    manifest = parse_digest(store(driver, data))

    assert check(driver, state, manifest) == [("layer-undecodable", images.digest_of(broken))]
    assert state.diff_id(parse_digest(images.digest_of(broken))) is None


def test_a_layer_larger_than_any(driver: Faulty, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT_BYTES", 1000)
    layer = gzip.compress(bytes(5000))

    assert check(driver, state, push(driver, [layer])) == [("layer-undecodable", images.digest_of(layer))]


@pytest.mark.parametrize("rootfs", [{"diff_ids": None}, {"diff_ids": ["x"]}, {"diff_ids": ["sha256:" + "0" * 64] * 2}])
def test_a_configuration_that_does_not_list_its_layers(driver: Faulty, state: State, rootfs: dict[str, Any]) -> None:
    manifest = push(driver, [images.layer("one")], **rootfs)

    assert [kind for kind, _ in check(driver, state, manifest)] == ["config-undecodable"]


@pytest.mark.parametrize("media_type", [images.IN_TOTO, "application/vnd.cncf.helm.chart.content.v1.tar+gzip"])
def test_what_is_no_layer_of_a_file_system_is_left_alone(driver: Faulty, state: State, media_type: str) -> None:
    manifest = push(driver, [bz2.compress(b"not for us")], media_type)

    assert check(driver, state, manifest) == []


def test_what_is_absent_or_unreadable_is_for_others_to_tell(driver: Faulty, state: State) -> None:
    layer = images.layer("one")
    manifest = push(driver, [layer])
    driver.fail("open", BlobData(parse_digest(images.digest_of(layer))).key, Unavailable("tired"))
    assert check(driver, state, manifest) == []
    list(driver.delete([BlobData(parse_digest(images.digest_of(layer))).key]))
    assert check(driver, state, manifest) == []
    assert check(driver, state, parse_digest("sha256:" + "0" * 64)) == []
    assert check(driver, state, parse_digest(store(driver, b"[1]"))) == []


def test_a_check_names_the_images_of_wrong_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    writer = VolumeWriter(tmp_path / "volume")
    layer = images.layer("one")
    writer.push_image("app", "false", [layer], images.image_config([images.layer("other")]))
    writer.push_image("app", "true", [layer], images.image_config([layer]))
    writer.push_image("app", "odd", [images.layer("two")], b'{"rootfs": 5}')

    result = fsck.check_registry(open_registry(str(tmp_path / "volume")), fsck.Options(layers=True))

    found = [(finding.id, finding.images) for finding in result.findings]
    assert found == [("layer-diffid", ("app:false",)), ("config-undecodable", ("app:odd",))]

"""Layers against the configurations of their images: what each decompresses to, and what it was built to be.

A layer's digest is that of its compressed bytes; the configuration lists the digests of the plain ones
(`rootfs.diff_ids`, opencontainers/image-spec config.md). A layer that hashes right and is another one than was built is
found here only. Nothing is ever unpacked: the bytes pass through.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from regstore.decompression import LAYER_TYPES, UndecodableError, iter_plain
from regstore.digest import Digest, format_digest, is_digest_of, parse_digest, split_digest
from regstore.fsck.catalogue import CheckFinding, finding
from regstore.layout import BlobData
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regstore.state import State
    from regstore.work import Progress
    from regstore_drivers.base import ReadDriver

_LIMIT_BYTES = 1 << 40
"""No layer is larger than that; what decompresses to more is a bomb."""
_CONFIG_TYPES = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)


class _StoppedError(Exception):
    """Somebody asked to stop in the midst of a layer."""


def check_layers(
    driver: ReadDriver,
    images: Iterable[Digest],
    state: State,
    *,
    jobs: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Iterator[CheckFinding]:
    """Compare the layers of images with their configurations.

    Each layer is decompressed once, whatever images share it, and never again when its diff id is remembered. What is
    not a layer of a file system (attestations, charts, modules) is left alone; so is what is absent, which other checks
    find. A layer whose data do not hash to their name is undecodable, and nothing is remembered of it.

    Args:
        driver: the registry's.
        images: manifests; those of other kinds than images are passed over.
        state: what layers are known to decompress to.
        jobs: how many are decompressed at once.
        progress: told of each layer.
        cancel: asked between pieces; what was decompressed by then is remembered.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    wanted: dict[Digest, dict[Digest, list[Digest]]] = {}
    for image in images:
        cancel.check()
        expected = _expectations(driver, image)
        if isinstance(expected, CheckFinding):
            yield expected
            continue
        for layer, diff_id in expected:
            wanted.setdefault(layer, {}).setdefault(diff_id, []).append(image)
    progress.start("layers", len(wanted))
    try:
        yield from _compare_all(driver, wanted, state, jobs, progress, cancel)
    finally:
        state.commit()
    cancel.check()
    progress.finish()


def _compare_all(
    driver: ReadDriver,
    wanted: Mapping[Digest, Mapping[Digest, list[Digest]]],
    state: State,
    jobs: int,
    progress: Progress,
    cancel: Cancel,
) -> Iterator[CheckFinding]:
    def look(layer: Digest) -> Digest | UndecodableError | None:
        try:
            return None if cancel.is_requested else _diff_id_of(driver, layer, cancel)
        except _StoppedError:
            return None

    unknown = []
    for layer, images_by_diff_id in wanted.items():
        if diff_id := state.diff_id(layer):
            progress.advance()
            yield from _compare(layer, images_by_diff_id, diff_id)
        else:
            unknown.append(layer)
    for layer, seen in zip(unknown, map_bounded(look, unknown, jobs), strict=True):
        progress.advance()
        if isinstance(seen, UndecodableError):
            images = sorted({format_digest(image) for images in wanted[layer].values() for image in images})
            yield finding("layer-undecodable", format_digest(layer), str(seen), manifests=images)
        elif seen is not None:
            state.remember_diff_id(layer, seen)
            yield from _compare(layer, wanted[layer], seen)


def _compare(layer: Digest, images_by_diff_id: Mapping[Digest, list[Digest]], seen: Digest) -> Iterator[CheckFinding]:
    for diff_id, images in images_by_diff_id.items():
        if diff_id != seen:
            detail = (
                f"decompresses to {format_digest(seen)}, and the configuration of {format_digest(images[0])} says "
                f"{format_digest(diff_id)}"
            )
            yield finding(
                "layer-diffid",
                format_digest(layer),
                detail,
                manifests=sorted({format_digest(image) for image in images}),
                expected=format_digest(diff_id),
                seen=format_digest(seen),
            )


def _expectations(driver: ReadDriver, image: Digest) -> list[tuple[Digest, Digest]] | CheckFinding:
    """Return layers and diff ids as an image's configuration says; nothing where it is no image, or is not there."""
    manifest = _read_json(driver, image)
    config = manifest.get("config")
    layers = manifest.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list) or config.get("mediaType") not in _CONFIG_TYPES:
        return []
    try:
        digest = parse_digest(config["digest"])
        names = [parse_digest(layer["digest"]) for layer in layers]
        types = [layer.get("mediaType") for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # a manifest that is not understood, a finding of others
    are_layers = [kind in LAYER_TYPES for kind in types]
    if not any(are_layers):
        return []
    try:
        data = driver.read(BlobData(digest).key)
    except NotFound:
        return []
    except DriverError as error:
        return finding("storage-error", BlobData(digest).key, str(error))
    try:
        diff_ids = _diff_ids_in(data, digest, len(names))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = f"the configuration of {format_digest(image)} does not list its layers: {error!r}"
        return finding("config-undecodable", format_digest(digest), detail, manifests=[format_digest(image)])
    rows = zip(names, diff_ids, are_layers, strict=True)
    return [(name, diff_id) for name, diff_id, is_layer in rows if is_layer]


def _diff_ids_in(data: bytes, digest: Digest, count: int) -> list[Digest]:
    """Return the diff ids of a configuration for that many layers.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it does not list them.
    """
    if not is_digest_of(digest, data):
        raise ValueError("its bytes do not hash to its name")
    diff_ids = [parse_digest(text) for text in json.loads(data)["rootfs"]["diff_ids"] or []]
    if len(diff_ids) != count:
        raise ValueError(f"{count} layers, and {len(diff_ids)} diff ids")
    return diff_ids


def _read_json(driver: ReadDriver, digest: Digest) -> dict[str, Any]:
    """Read a manifest; what cannot be read as one is empty, and a finding of others."""
    try:
        content = json.loads(driver.read(BlobData(digest).key))
    except (DriverError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _diff_id_of(driver: ReadDriver, layer: Digest, cancel: Cancel) -> Digest | UndecodableError | None:
    """Hash what a layer decompresses to; None when it is not there or cannot be read."""
    hasher = hashlib.sha256()
    size = 0
    try:
        with driver.open(BlobData(layer).key) as stream:
            packed = _Hashing(stream, layer)
            for piece in iter_plain(cast("BinaryIO", packed)):
                hasher.update(piece)
                size += len(piece)
                if size > _LIMIT_BYTES:
                    return UndecodableError(f"decompresses to more than {_LIMIT_BYTES} bytes")
                if cancel.is_requested:
                    raise _StoppedError
    except UndecodableError as error:
        return error
    except DriverError:
        return None
    return packed.trouble() or Digest(hasher.digest())


class _Hashing:
    """A stream that hashes what is read from it: what rotten data decompress to must not be remembered."""

    def __init__(self, stream: BinaryIO, digest: Digest) -> None:
        self._stream = stream
        algorithm, self._digits = split_digest(digest)
        self._hasher = hashlib.new(algorithm)

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        return data

    def trouble(self) -> UndecodableError | None:
        """Say that all the bytes do not hash to the name, if that is so."""
        if self._hasher.hexdigest() == self._digits:
            return None
        return UndecodableError(f"its data are corrupt: they hash to {self._hasher.name}:{self._hasher.hexdigest()}")

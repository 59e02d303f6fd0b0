"""Layers against the configurations of their images: what each decompresses to, and what it was built to be.

A layer's digest is that of its compressed bytes; the configuration lists the digests of the plain ones
(`rootfs.diff_ids`, opencontainers/image-spec config.md). A layer that hashes right and is another one than was built is
found here only. Nothing is ever unpacked: the bytes pass through.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import zstandard

from regstore.digest import Digest, format_digest, parse_digest
from regstore.fsck.catalogue import CheckFinding, finding
from regstore.layout import BlobData
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.errors import DriverError, NotFound, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regstore.state import State
    from regstore.work import Progress
    from regstore_drivers.base import ReadDriver

_PIECE_BYTES = 1024 * 1024
_LIMIT_BYTES = 1 << 40
"""No layer is larger than that; what decompresses to more is a bomb."""
_LAYER_TYPES = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
)
_CONFIG_TYPES = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class UndecodableError(Exception):
    """The bytes cannot be decompressed. The message says why."""


class _Expected(NamedTuple):
    """What an image says of one of its layers."""

    layer: Digest
    diff_id: Digest
    image: Digest


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
    find.

    Args:
        driver: the registry's.
        images: manifests; those of other kinds than images are passed over.
        state: what layers are known to decompress to.
        jobs: how many are decompressed at once.
        progress, cancel: told and asked between layers.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    wanted: dict[Digest, list[_Expected]] = {}
    for image in images:
        cancel.check()
        expected = _expectations(driver, image)
        if isinstance(expected, CheckFinding):
            yield expected
            continue
        for one in expected:
            others = wanted.setdefault(one.layer, [])
            if all(one.diff_id != other.diff_id for other in others):
                others.append(one)
    progress.start("layers", len(wanted))

    def look(layer: Digest) -> Digest | UndecodableError | None:
        cancel.check()
        return _diff_id_of(driver, layer)

    known = {layer: diff_id for layer in wanted if (diff_id := state.diff_id(layer))}
    unknown = [layer for layer in wanted if layer not in known]
    progress.advance(len(known))
    for layer, diff_id in known.items():
        yield from _compare(wanted[layer], diff_id)
    for layer, seen in zip(unknown, map_bounded(look, unknown, jobs), strict=True):
        progress.advance()
        if isinstance(seen, UndecodableError):
            images_of = [format_digest(one.image) for one in wanted[layer]]
            yield finding("layer-undecodable", format_digest(layer), str(seen), manifests=images_of)
        elif seen is not None:
            state.remember_diff_id(layer, seen)
            yield from _compare(wanted[layer], seen)
    progress.finish()


def _compare(expected: list[_Expected], seen: Digest) -> Iterator[CheckFinding]:
    for one in expected:
        if one.diff_id != seen:
            detail = (
                f"decompresses to {format_digest(seen)}, and the configuration of {format_digest(one.image)} says "
                f"{format_digest(one.diff_id)}"
            )
            yield finding(
                "layer-diffid",
                format_digest(one.layer),
                detail,
                manifests=[format_digest(one.image)],
                expected=format_digest(one.diff_id),
                seen=format_digest(seen),
            )


def _expectations(driver: ReadDriver, image: Digest) -> list[_Expected] | CheckFinding:
    """Return what an image's configuration says of its layers; nothing where it is no image, or is not there."""
    manifest = _read_json(driver, image)
    config = manifest.get("config")
    layers = manifest.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list) or config.get("mediaType") not in _CONFIG_TYPES:
        return []
    try:
        digest = parse_digest(config["digest"])
        data = driver.read(BlobData(digest).key)
    except (NotFound, KeyError, ValueError, TypeError):
        return []
    except DriverError as error:
        return finding("storage-error", BlobData(digest).key, str(error))
    try:
        diff_ids = [parse_digest(text) for text in json.loads(data)["rootfs"]["diff_ids"] or []]
        names = [parse_digest(layer["digest"]) for layer in layers]
        types = [str(layer.get("mediaType", "")) for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail = f"the configuration of {format_digest(image)} does not list diff ids: {error!r}"
        return finding("config-undecodable", format_digest(digest), detail, manifests=[format_digest(image)])
    if len(diff_ids) != len(names):
        if not any(kind.startswith(_LAYER_TYPES) for kind in types):
            return []
        detail = f"{len(names)} layers in {format_digest(image)} and {len(diff_ids)} diff ids in its configuration"
        return finding("config-undecodable", format_digest(digest), detail, manifests=[format_digest(image)])
    rows = zip(names, diff_ids, types, strict=True)
    return [_Expected(name, diff_id, image) for name, diff_id, kind in rows if kind.startswith(_LAYER_TYPES)]


def _read_json(driver: ReadDriver, digest: Digest) -> dict[str, Any]:
    """Read a manifest; what cannot be read as one is empty, and a finding of others."""
    try:
        content = json.loads(driver.read(BlobData(digest).key))
    except (DriverError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _diff_id_of(driver: ReadDriver, layer: Digest) -> Digest | UndecodableError | None:
    """Hash what a layer decompresses to; None when it is not there or cannot be read."""
    hasher = hashlib.sha256()
    size = 0
    try:
        with driver.open(BlobData(layer).key) as stream:
            for piece in iter_plain(stream):
                hasher.update(piece)
                size += len(piece)
                if size > _LIMIT_BYTES:
                    return UndecodableError(f"decompresses to more than {_LIMIT_BYTES} bytes")
    except UndecodableError as error:
        return error
    except (NotFound, TooLarge, DriverError):
        return None
    return Digest(hasher.digest())


def iter_plain(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the decompressed bytes of a layer in pieces of bounded size, gzip and zstd told by their first bytes.

    Raises:
        UndecodableError: damaged, or (of gzip data; cut zstd data are just other ones) cut off.
    """
    first = stream.read(_PIECE_BYTES)
    if first.startswith(_GZIP):
        yield from _iter_gzip(stream, first)
    elif first.startswith(_ZSTD):
        yield from _iter_zstd(stream, first)
    else:
        while first:
            yield first
            first = stream.read(_PIECE_BYTES)


def _iter_gzip(stream: BinaryIO, data: bytes) -> Iterator[bytes]:
    decoder = zlib.decompressobj(31)
    try:
        while data:
            yield decoder.decompress(data, _PIECE_BYTES)
            data = decoder.unconsumed_tail
            if decoder.eof:
                # Members on end are one layer; blanks after the last are what tapes leave.
                rest = (decoder.unused_data or b"").lstrip(b"\0") or stream.read(_PIECE_BYTES).lstrip(b"\0")
                if not rest:
                    return
                decoder, data = zlib.decompressobj(31), rest
            elif not data:
                data = stream.read(_PIECE_BYTES)
        if not decoder.eof:
            raise UndecodableError("the gzip data are cut off")
    except zlib.error as error:
        raise UndecodableError(f"no gzip data: {error}") from error


def _iter_zstd(stream: BinaryIO, data: bytes) -> Iterator[bytes]:
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(
            cast("BinaryIO", _Rest(data, stream)), read_across_frames=True, closefd=False
        )
        while piece := reader.read(_PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise UndecodableError(f"no zstd data: {error}") from error


class _Rest:
    """A stream whose first bytes were read already."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int) -> bytes:
        if self._first:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return self._stream.read(size)

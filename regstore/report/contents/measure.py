"""From images to the sums of what is in their layers: which layers there are, reading the new ones, summing up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.digest import format_digest
from regstore.layout import BlobData
from regstore.report.catalogue import finding
from regstore.report.chunks import load_cutter
from regstore.report.contents.image_layers import find_layers, layers_in
from regstore.report.contents.layer_file import Sums, iter_files, load_sums
from regstore.report.contents.layer_reading import LayerSpec
from regstore.report.contents.memory import open_memory, remembered_path, telling_failures
from regstore.report.contents.merge import Layer, Merge
from regstore.report.contents.outcome import CHUNKS, FILES, ContentsReport
from regstore.report.contents.processes import read_all
from regstore.report.layering import HiddenFiles, count_hidden, iter_hidden_advice, iter_twin_advice
from regstore.work import Cancel, NoProgress, map_bounded
from regstore_drivers.base import HasLocalPath
from regstore_drivers.errors import DriverError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from regstore.digest import Digest
    from regstore.findings import Finding
    from regstore.registry import Registry
    from regstore.registry.config import RegistryConfig
    from regstore.work import Progress
    from regstore_drivers.base import ReadDriver

_ADVISED_RECORDS = 1_000_000
"""An image of more files is not looked at for what its layers hide: their paths are held in memory."""


def read_contents(
    registry: Registry,
    images: Mapping[Digest, Sequence[str]],
    *,
    level: str = FILES,
    jobs: int = 1,
    top: int = 20,
    newest: Mapping[str, Digest] | None = None,
    directory: Path | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ContentsReport:
    """Read the layers of images, those that are not remembered, and sum up what is in them.

    What is no tar archive by its media type is passed over, and so is what is not there, which other checks tell of.

    Args:
        registry: where they lie.
        images: manifest to the names of the repositories that keep it; those of other kinds than images have no layers.
        level: `file` or `chunk`.
        jobs: processes at once.
        top: rows of the longest lists.
        newest: repository to an image of it, for advice on what its layers hide.
        directory: the state directory; None for the usual one. Where it cannot be written nothing is remembered.
        progress: told of manifests, then of stored bytes of layers, then of layers as they are summed up.
        cancel: asked between pieces; the layers that were read by then are remembered.

    Raises:
        UsageError: chunks are asked for and the extra is not installed.
        InterruptedRunError: somebody asked to stop.
        StorageFailedError: the state directory is full.
    """
    if level not in (FILES, CHUNKS):
        raise ValueError(f"no level: {level!r}")
    if level == CHUNKS:
        load_cutter()
    progress, cancel = progress or NoProgress(), cancel or Cancel()
    images_of = find_layers(registry.driver, list(images), jobs, progress, cancel)
    with open_memory(directory) as (memory, scratch):
        findings, sums = _read_layers(registry, sorted(images_of), level, jobs, memory, scratch, progress, cancel)
        layers = [Layer(digest, remembered_path(memory, digest, level), *sums[digest]) for digest in sorted(sums)]
        merge = Merge(layers, [images_of[layer.digest] for layer in layers], images, level, top, scratch)
        with telling_failures(scratch):
            report = merge.run(findings, progress, cancel)
        if level == FILES:
            report.findings.extend(_iter_advice(registry.driver, newest or {}, layers, cancel))
        return report


def _iter_advice(
    driver: ReadDriver, newest: Mapping[str, Digest], layers: Sequence[Layer], cancel: Cancel
) -> Iterator[Finding]:
    yield from iter_twin_advice(
        (layer.digest, layer.fingerprint, layer.item_count, layer.size_bytes) for layer in layers
    )
    known = {layer.digest: layer for layer in layers}
    seen: dict[Digest, HiddenFiles] = {}
    for image in newest.values():
        cancel.check()
        own = [known[digest] for digest in layers_in(driver, image) if digest in known]
        if image not in seen and sum(layer.record_count for layer in own) <= _ADVISED_RECORDS:
            seen[image] = count_hidden([iter_files(layer.path) for layer in own])
    yield from iter_hidden_advice((name, image, seen[image]) for name, image in newest.items() if image in seen)


def _read_layers(
    registry: Registry,
    layers: list[Digest],
    level: str,
    jobs: int,
    memory: Path,
    scratch: Path,
    progress: Progress,
    cancel: Cancel,
) -> tuple[list[Finding], dict[Digest, Sums]]:
    """Read what is not remembered; return a finding for each layer that cannot be read, and the sums of the others."""
    reasons: dict[Digest, str] = {}
    sizes: dict[Digest, int] = {}
    for layer, size in zip(
        layers, map_bounded(lambda layer: _size_of(registry.driver, layer), layers, jobs), strict=True
    ):
        cancel.check()
        if isinstance(size, DriverError):
            reasons[layer] = str(size)
        elif size is not None:
            sizes[layer] = size
    progress.start("layers", sum(sizes.values()))
    sums: dict[Digest, Sums] = {}
    source = _source_of(registry)
    specs = []
    for layer, size in sizes.items():
        cancel.check()
        target = remembered_path(memory, layer, level)
        known = load_sums(target)
        if known:
            sums[layer] = known
            progress.advance(size)
        else:
            specs.append(LayerSpec(source, layer, size, level, target, scratch))
    specs.sort(key=lambda spec: -spec.packed_bytes)  # the largest first: none of them is left to one process at the end
    for spec, result in read_all(registry.driver, specs, jobs, progress, cancel):
        known = load_sums(spec.target) if result.is_read else None
        if known:
            sums[spec.digest] = known
        elif result.reason or result.is_read:
            reasons[spec.digest] = result.reason or f"{spec.target} cannot be read again"
    cancel.check()
    progress.finish()
    return [finding("layer-unreadable", format_digest(layer), reasons[layer]) for layer in sorted(reasons)], sums


def _source_of(registry: Registry) -> str | RegistryConfig:
    if isinstance(registry.driver, HasLocalPath):
        return registry.driver.local_path("")
    return registry.config or registry.location


def _size_of(driver: ReadDriver, layer: Digest) -> int | DriverError | None:
    try:
        return driver.stat(BlobData(layer).key).size
    except NotFound:
        return None
    except DriverError as error:
        return error

"""Which layers images have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regstore.decompression import LAYER_TYPES
from regstore.digest import parse_digest
from regstore.layout import BlobData
from regstore.work import map_bounded
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from regstore.digest import Digest
    from regstore.work import Cancel, Progress
    from regstore_drivers.base import ReadDriver


def find_layers(
    driver: ReadDriver, images: list[Digest], jobs: int, progress: Progress, cancel: Cancel
) -> dict[Digest, list[Digest]]:
    """Return which images have each layer that is a tar archive."""
    images_of: dict[Digest, list[Digest]] = {}
    progress.start("manifests", len(images))
    for image, layers in zip(images, map_bounded(lambda image: layers_in(driver, image), images, jobs), strict=True):
        cancel.check()
        progress.advance()
        for layer in layers:
            images_of.setdefault(layer, []).append(image)
    progress.finish()
    return images_of


def layers_in(driver: ReadDriver, image: Digest) -> list[Digest]:
    """Return the tar archives that a manifest names, the lowest first; what cannot be read or understood names none."""
    try:
        manifest = json.loads(driver.read(BlobData(image).key))
        if manifest.get("schemaVersion") == 1:
            named = [layer["blobSum"] for layer in reversed(manifest["fsLayers"])]
        else:
            layers = manifest.get("layers") or []
            named = [layer["digest"] for layer in layers if layer.get("mediaType") in LAYER_TYPES]
        return list(dict.fromkeys(map(parse_digest, named)))
    except (DriverError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []

"""What the layers of images waste: files that a later layer hides, and layers that were built again.

Findings are advice. Files are hidden by the rules of opencontainers/image-spec, layer.md: the same path in a later
layer, or a whiteout of it, of a directory above it, or of all that a directory had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regstore.digest import format_digest
from regstore.report.catalogue import finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from regstore.digest import Digest
    from regstore.findings import Finding

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_WORTH_BYTES = 1 << 20
_SHOWN_COUNT = 5


class HiddenFiles(NamedTuple):
    """What lower layers of an image hold and nobody sees: files, and their bytes."""

    file_count: int
    size_bytes: int


def count_hidden(layers: Sequence[Iterable[tuple[bytes, int]]]) -> HiddenFiles:
    """Count what later layers hide of earlier ones.

    Args:
        layers: of one image, the lowest first; each with path and size in bytes of its regular files, whiteouts among
            them.
    """
    gone: set[bytes] = set()
    emptied: set[bytes] = set()
    file_count = size_bytes = 0
    for layer in reversed(layers):
        own_gone: list[bytes] = []
        own_emptied: list[bytes] = []
        for path, size in layer:
            directory, _, name = path.rpartition(b"/")
            if name == _OPAQUE:
                own_emptied.append(directory)
            elif name.startswith(_WHITEOUT):
                own_gone.append(b"/".join((directory, name[len(_WHITEOUT) :])) if directory else name[len(_WHITEOUT) :])
            elif path in gone or _is_below(directory, gone, emptied):
                file_count += 1
                size_bytes += size
            else:
                own_gone.append(path)
        # A layer's own whiteouts are about the layers below it.
        gone.update(own_gone)
        emptied.update(own_emptied)
    return HiddenFiles(file_count, size_bytes)


def _is_below(directory: bytes, gone: set[bytes], emptied: set[bytes]) -> bool:
    while True:
        if directory in emptied or (directory and directory in gone):
            return True
        if not directory:
            return False
        directory = directory.rpartition(b"/")[0]


def iter_hidden_advice(images: Iterable[tuple[str, Digest, HiddenFiles]]) -> Iterator[Finding]:
    """Yield advice on the images that waste most: repository, manifest, and what is hidden in it."""
    worth = [image for image in images if image[2].size_bytes >= _WORTH_BYTES]
    for repository, manifest, hidden in sorted(worth, key=lambda image: -image[2].size_bytes)[:_SHOWN_COUNT]:
        detail = f"{hidden.file_count} files with {hidden.size_bytes} bytes are overwritten or deleted by later layers"
        yield finding("files-overwritten", f"{repository}@{format_digest(manifest)}", detail)


def iter_twin_advice(layers: Iterable[tuple[Digest, int, int, int]]) -> Iterator[Finding]:
    """Yield advice on layers that hold the same files.

    Args:
        layers: digest, fingerprint of paths and contents, files, and bytes of those.
    """
    groups: dict[tuple[int, int, int], list[Digest]] = {}
    for digest, fingerprint, file_count, size_bytes in layers:
        if size_bytes:
            groups.setdefault((fingerprint, file_count, size_bytes), []).append(digest)
    twins = [(size * (len(group) - 1), group) for (_, _, size), group in groups.items() if len(group) > 1]
    for wasted, group in sorted(twins, key=lambda twin: (-twin[0], twin[1]))[:_SHOWN_COUNT]:
        if wasted < _WORTH_BYTES:
            continue
        detail = f"{len(group)} layers hold the same files under other digests: {wasted} bytes were built again"
        yield finding("layers-rebuilt", format_digest(min(group)), detail)

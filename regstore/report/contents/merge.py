"""The sums over what is in all layers, made from the files that remember it."""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from regstore.report.contents.layer_file import RECORD, iter_blocks, read_names
from regstore.report.contents.outcome import CHUNKS, ContentsReport
from regstore.report.contents.partitions import Partitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from regstore.digest import Digest
    from regstore.findings import Finding
    from regstore.work import Cancel, Progress

_COPY = struct.Struct("<24sIIQ")
"""A content, the layer's number, the record's number in it, and the hash of its directory."""
_DIRECTORY = struct.Struct("<QQQQ")
"""The hash of a directory, duplicate bytes, files, and the place of one of them."""
_PARTITION_RECORDS = 200_000
_MAX_PARTITIONS = 4096
_BUFFER_BYTES = 32 << 20


class Layer(NamedTuple):
    """A layer, the file that remembers what is in it, and the sums of that."""

    digest: Digest
    path: Path
    item_count: int
    size_bytes: int
    record_count: int
    fingerprint: int


class _Scope(NamedTuple):
    """Where a content lies that is in some layers: its repositories, and the layers that repeat it, counted by scope
    (within an image, across images, across repositories)."""

    repositories: tuple[int, ...]
    repeats: tuple[int, int, int]


class Merge:
    """The sums over the files of all layers.

    Args:
        layers: in their order, which says what the first copy of a content is.
        images_of: the images that have each.
        images: manifest to repositories.
        level: `file` or `chunk`.
        top: rows of the longest lists.
        scratch: a directory for the partitions.
    """

    def __init__(
        self,
        layers: list[Layer],
        images_of: list[list[Digest]],
        images: Mapping[Digest, Sequence[str]],
        level: str,
        top: int,
        scratch: Path,
    ) -> None:
        self._layers = layers
        self._images_of = images_of
        self._names = sorted({name for names in images.values() for name in names})
        number_of = {name: number for number, name in enumerate(self._names)}
        self._repositories_of = [
            sorted({number_of[name] for image in found for name in images[image]}) for found in images_of
        ]
        self._level = level
        self._top = top
        records = sum(layer.record_count for layer in layers)
        count = min(1 << (records // _PARTITION_RECORDS).bit_length(), _MAX_PARTITIONS)
        self._copies = Partitions(scratch, "copies", count)
        self._directories = Partitions(scratch, "directories", count)
        self._unique_count = self._unique_bytes = self._saving = 0
        self._scopes = [0, 0, 0]
        self._by_repositories: Counter[tuple[int, ...]] = Counter()
        self._most: list[tuple[int, int, int, int, bytes]] = []
        self._known_scope_of = lru_cache(maxsize=10_000)(self._find_scope)

    def run(self, findings: list[Finding], progress: Progress, cancel: Cancel) -> ContentsReport:
        """Make the report."""
        progress.start("contents", len(self._layers) + len(self._copies.buffers))
        self._distribute(progress, cancel)
        for number in range(len(self._copies.buffers)):
            cancel.check()
            self._sum_up(number)
            progress.advance()
        directories = self._most_duplicated(cancel)
        progress.finish()
        return self._report(findings, directories)

    def _distribute(self, progress: Progress, cancel: Cancel) -> None:
        buffers, mask, pack = self._copies.buffers, len(self._copies.buffers) - 1, _COPY.pack
        buffered = 0
        for number, layer in enumerate(self._layers):
            index = 0
            for fixed, _ in iter_blocks(layer.path):
                cancel.check()
                for content, directory in RECORD.iter_unpack(fixed):
                    # Python's own hash is seeded anew in each run: no archive can be made to fill one partition.
                    buffers[hash(content) & mask] += pack(content, number, index, directory)
                    index += 1
                buffered += len(fixed)
                if buffered > _BUFFER_BYTES:
                    self._copies.flush()
                    buffered = 0
            progress.advance()
        self._copies.flush()

    def _sum_up(self, number: int) -> None:
        first: dict[bytes, int] = {}
        again: dict[bytes, list[int]] = {}
        directories: dict[int, list[int]] = {}
        for records in self._copies.take(number, _COPY):
            for content, layer, index, directory in records:
                place = first.get(content)
                if place is None:
                    first[content] = layer << 32 | index
                    continue
                seen = again.get(content)
                if seen is None:
                    again[content] = seen = [1, place >> 32]
                seen[0] += 1
                if seen[-1] != layer:
                    seen.append(layer)
                size = int.from_bytes(content[16:], "little")
                if size:
                    known = directories.get(directory)
                    if known is None:
                        directories[directory] = [size, 1, layer << 32 | index]
                    else:
                        known[0] += size
                        known[1] += 1
        self._add_contents(first, again)
        mask = len(self._directories.buffers) - 1
        for directory, (size, count, place) in directories.items():
            self._directories.buffers[directory & mask] += _DIRECTORY.pack(directory, size, count, place)
        if sum(map(len, self._directories.buffers)) > _BUFFER_BYTES:
            self._directories.flush()

    def _add_contents(self, first: dict[bytes, int], again: dict[bytes, list[int]]) -> None:
        by_layers: Counter[tuple[int, ...]] = Counter()
        self._unique_count += len(first)
        for content, place in first.items():
            size = int.from_bytes(content[16:], "little")
            seen = again.get(content)
            if seen is None:
                by_layers[(place >> 32,)] += size
            else:
                copies, *layers = seen
                by_layers[tuple(layers)] += size
                self._scopes[0] += size * (copies - len(layers))
                self._note(size, copies, place, content)
        for key, size in by_layers.items():
            # Partitions repeat the same few sets of layers; long ones would make the cache large.
            scope = self._known_scope_of(key) if len(key) <= 64 else self._find_scope(key)
            self._unique_bytes += size
            self._saving += size * (len(key) - 1)
            self._by_repositories[scope.repositories] += size
            for index, count in enumerate(scope.repeats):
                self._scopes[index] += size * count

    def _note(self, size: int, copies: int, place: int, content: bytes) -> None:
        """Keep a content if it is among those that waste most."""
        if not size or self._top <= 0:
            return
        row = (size * (copies - 1), size, -place, copies, content)
        if len(self._most) < self._top:
            heapq.heappush(self._most, row)
        elif row > self._most[0]:
            heapq.heapreplace(self._most, row)

    def _find_scope(self, layers: tuple[int, ...]) -> _Scope:
        images = set(self._images_of[layers[0]])
        repositories = set(self._repositories_of[layers[0]])
        within = across_images = across_repositories = 0
        for layer in layers[1:]:
            if not images.isdisjoint(self._images_of[layer]):
                within += 1
            elif not repositories.isdisjoint(self._repositories_of[layer]):
                across_images += 1
            else:
                across_repositories += 1
            images.update(self._images_of[layer])
            repositories.update(self._repositories_of[layer])
        return _Scope(tuple(sorted(repositories)), (within, across_images, across_repositories))

    def _most_duplicated(self, cancel: Cancel) -> list[tuple[int, int, int]]:
        """Return bytes, files and the place of one file of the directories with most duplicates."""
        if self._level == CHUNKS:
            return []
        self._directories.flush()
        most: list[tuple[int, int, int]] = []
        for number in range(len(self._directories.buffers)):
            cancel.check()
            found: dict[int, list[int]] = {}
            for records in self._directories.take(number, _DIRECTORY):
                for directory, size, count, place in records:
                    known = found.setdefault(directory, [0, 0, place])
                    known[0] += size
                    known[1] += count
                    known[2] = min(known[2], place)
            rows = ((size, count, -place) for size, count, place in found.values())
            most = heapq.nlargest(self._top, [*most, *heapq.nlargest(self._top, rows)])
        return [(size, count, -place) for size, count, place in most]

    def _report(self, findings: list[Finding], directories: list[tuple[int, int, int]]) -> ContentsReport:
        noun = self._level
        size_bytes = sum(layer.size_bytes for layer in self._layers)
        most = sorted(self._most, reverse=True)
        if noun == CHUNKS:
            labels = [{"digest": f"xxh3:{content[:16].hex()}"} for *_, content in most]
            rows = []
        else:
            names = self._names_at([-row[2] for row in most] + [place for *_, place in directories])
            labels = [{"path": _text(names[-row[2]])} for row in most]
            rows = [
                {
                    "path": _text(names[place].rpartition(b"/")[0]) or ".",
                    "duplicate_bytes": size,
                    "file_count": count,
                }
                for size, count, place in directories
            ]
        return ContentsReport(
            totals={
                "layer_count": len(self._layers),
                f"{noun}_count": sum(layer.item_count for layer in self._layers),
                f"{noun}_bytes": size_bytes,
                f"unique_{noun}_count": self._unique_count,
                "unique_bytes": self._unique_bytes,
                "duplicate_bytes": size_bytes - self._unique_bytes,
            },
            top=[
                {**label, "size_bytes": size, "copies": copies}
                for label, (_, size, _, copies, _) in zip(labels, most, strict=True)
            ],
            directories=rows,
            repositories=self._repository_rows(),
            pairs=self._pair_rows(),
            scopes={
                "within_image_bytes": self._scopes[0],
                "across_images_bytes": self._scopes[1],
                "across_repositories_bytes": self._scopes[2],
            },
            base_image_saving_bytes=self._saving,
            findings=findings,
        )

    def _names_at(self, places: list[int]) -> dict[int, bytes]:
        wanted: dict[int, set[int]] = {}
        for place in places:
            wanted.setdefault(place >> 32, set()).add(place & 0xFFFFFFFF)
        names: dict[int, bytes] = {}
        for number, indexes in wanted.items():
            for index, name in read_names(self._layers[number].path, indexes).items():
                names[number << 32 | index] = name
        return names

    def _repository_rows(self) -> list[dict[str, Any]]:
        counts, sizes, unique, distinct = ([0] * len(self._names) for _ in range(4))
        for layer, numbers in zip(self._layers, self._repositories_of, strict=True):
            for number in numbers:
                counts[number] += layer.item_count
                sizes[number] += layer.size_bytes
        for together, size in self._by_repositories.items():
            for number in together:
                distinct[number] += size
            if len(together) == 1:
                unique[together[0]] += size
        rows = [
            {
                "name": name,
                f"{self._level}_count": counts[number],
                f"{self._level}_bytes": sizes[number],
                "unique_bytes": unique[number],
                "duplicate_bytes": sizes[number] - distinct[number],
            }
            for number, name in enumerate(self._names)
        ]
        return sorted(rows, key=lambda row: (-row[f"{self._level}_bytes"], row["name"]))

    def _pair_rows(self) -> list[dict[str, Any]]:
        """Return the pairs that share most, with one repository's pairs in memory at a time."""
        groups: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in self._names]
        for numbers, size in self._by_repositories.items():
            for index, number in enumerate(numbers[:-1]):
                groups[number].append((numbers[index + 1 :], size))
        most: list[tuple[int, int, int]] = []
        for number, group in enumerate(groups):
            shared: Counter[int] = Counter()
            for others, size in group:
                for other in others:
                    shared[other] += size
            rows = [(size, -number, -other) for other, size in shared.items() if size]
            most = heapq.nlargest(self._top, most + rows)
        return [{"a": self._names[-a], "b": self._names[-b], "shared_bytes": size} for size, a, b in most]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")

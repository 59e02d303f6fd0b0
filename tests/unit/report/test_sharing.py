"""Layers that repositories share."""

from __future__ import annotations

import json
from itertools import combinations

from hypothesis import given

from regstore import report
from regstore.digest import format_digest, parse_digest
from regstore.layout import BlobData, RevisionLink, parse_key
from support.examples import examples
from support.images import digest_of
from support.memory_registry import MemoryRegistry
from support.random_volumes import Tree, trees
from support.volume import blob_key


def layers_by_hand(tree: Tree) -> dict[str, set[str]]:
    """Return layer to repositories, by reading the manifests of every revision as JSON."""
    found: dict[str, set[str]] = {}
    revisions = {
        (spec.repository, format_digest(spec.digest)) for spec in map(parse_key, tree) if isinstance(spec, RevisionLink)
    }
    for repository, digest in revisions:
        content = json.loads(tree[blob_key(digest)].data)
        entries = content.get("layers", []) + content.get("blobs", []) if "manifests" not in content else []
        entries += [
            entry
            for entry in content.get("manifests", [])
            if "manifest" not in entry.get("mediaType", "") and (repository, entry["digest"]) not in revisions
        ]
        entries += [{"digest": layer["blobSum"]} for layer in content.get("fsLayers", [])]
        for entry in entries:
            layer = entry["digest"]
            if layer.startswith("sha512:"):
                key = f"docker/registry/v2/repositories/{repository}/_layers/sha512/{layer[7:]}/link"
                layer = tree[key].data.decode() if key in tree else layer
            if BlobData(parse_digest(layer)).key in tree:
                found.setdefault(layer, set()).add(repository)
    return found


@examples(60)
@given(trees(max_steps=14))
def test_layers_and_pairs_are_those_of_the_manifests(tree: Tree) -> None:
    bench = MemoryRegistry(tree)
    before = bench.everything

    found = report.measure_sharing(bench.registry, state=bench.state)

    expected = layers_by_hand(tree)
    sizes = {layer: len(tree[blob_key(layer)].data) for layer in expected}
    assert {format_digest(digest): set(names) for digest, _, names in found.layers} == expected
    assert {format_digest(digest): size for digest, size, _ in found.layers} == sizes
    assert found.layer_count == len(expected)
    assert found.stored_bytes == sum(sizes.values())
    assert found.logical_bytes == sum(sizes[layer] * len(names) for layer, names in expected.items())
    counts = [len(names) for _, _, names in found.layers]
    assert counts == sorted(counts, reverse=True)
    pairs: dict[tuple[str, str], int] = {}
    for layer, names in expected.items():
        for pair in combinations(sorted(names), 2):
            pairs[pair] = pairs.get(pair, 0) + sizes[layer]
    assert {(a, b): size for a, b, size in found.pairs} == pairs
    shared = [size for _, _, size in found.pairs]
    assert shared == sorted(shared, reverse=True)
    assert bench.everything == before


def test_what_a_collection_quarantined_is_not_missing() -> None:
    """The next run puts it back: its absence is no damage of any image."""
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.layer("app", b"garbage")
    bench.collect(offline=True, grace=0.0)
    bench.writer.push_image("app", "again", [b"layer", b"garbage"], b'{"n": 2}')
    bench.drop(blob_key(digest_of(b"garbage")))

    found = report.measure_sharing(bench.registry, state=bench.state)

    assert found.findings == []

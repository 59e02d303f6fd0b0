"""Whatever the volume: the numbers of a report are what collections and deletions really free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regstore import gc, report
from regstore.digest import parse_digest
from regstore.errors import RefusedError
from regstore.inventory.mark import signature_subject
from regstore.layout import BlobData, LayerLink, RevisionLink, parse_key
from support.examples import examples
from support.memory_registry import MemoryRegistry
from support.random_volumes import DAY, NOW, Tree, tags_of, trees
from support.volume import V2, VolumeWriter, blob_key, revision_link_key


def at_rest(tree: Tree) -> Tree:
    """Return the volume without what is dated into the future, and without data that half-belong to uploads."""
    made = Tree({key: stored._replace(at=min(stored.at, NOW)) for key, stored in tree.items()})
    made.multiparts = list(tree.multiparts)
    return made


def blobs_of(contents: Iterable[str]) -> set[str]:
    return {key for key in contents if isinstance(parse_key(key), BlobData)}


def weight(tree: Tree, keys: Iterable[str]) -> int:
    return sum(len(tree[key].data) for key in keys)


def freed(tree: Tree, **options: Any) -> set[str]:
    """Return the blobs that an offline collection removes."""
    bench = MemoryRegistry(tree)
    bench.collect(**{"offline": True, "grace": 0.0, **options})
    return blobs_of(tree) - blobs_of(bench.keys)


def measure(tree: Tree, **options: Any) -> report.Capacity:
    bench = MemoryRegistry(tree)
    before = bench.everything
    found = report.measure_capacity(bench.registry, report.Options(**options), state=bench.state, now=NOW)
    assert bench.everything == before
    return found


def without(tree: Tree, prefixes: Iterable[str]) -> Tree:
    prefixes = tuple(prefixes)
    made = Tree({key: stored for key, stored in tree.items() if not key.startswith(prefixes)} if prefixes else tree)
    made.multiparts = list(tree.multiparts)
    return made


@examples(30)
@given(trees(damage=True), st.booleans(), st.sampled_from([0.0, 3600.0, DAY, 3 * DAY]))
def test_stored_is_live_and_unreferenced_and_grace(tree: Tree, delete_untagged: bool, grace: float) -> None:
    try:
        plan = MemoryRegistry(tree).plan(offline=True, grace=grace, delete_untagged=delete_untagged)
        at_once = MemoryRegistry(tree).plan(offline=True, grace=0.0, delete_untagged=delete_untagged)
    except RefusedError:
        with pytest.raises(RefusedError):
            measure(tree, grace=grace, delete_untagged=delete_untagged)
        return

    totals = measure(tree, grace=grace, delete_untagged=delete_untagged).totals

    assert totals["stored_bytes"] == weight(tree, blobs_of(tree))
    assert totals["blob_count"] == len(blobs_of(tree))
    assert totals["unreferenced_bytes"] == plan.summary.unreferenced_bytes
    assert totals["live_bytes"] == totals["stored_bytes"] - at_once.summary.unreferenced_bytes
    assert totals["grace_bytes"] == totals["stored_bytes"] - totals["live_bytes"] - totals["unreferenced_bytes"]
    assert (totals["repository_count"], totals["tag_count"], totals["revision_count"]) == (
        plan.summary.repository_count,
        plan.summary.tag_count,
        plan.summary.revision_count,
    )


@examples(30)
@given(trees(damage=True).map(at_rest))
def test_unique_is_what_deleting_the_repository_frees_beyond_a_collection(tree: Tree) -> None:
    alone = freed(tree)

    for row in measure(tree).repositories:
        prefix = f"{V2}/repositories/{row.name}/"
        left = without(tree, [f"{prefix}_layers/", f"{prefix}_manifests/", f"{prefix}_uploads/"])
        assert row.unique_bytes == weight(tree, freed(left) - alone), row.name
        assert row.shared_bytes == row.stored_bytes - row.unique_bytes >= 0
        assert sum(size for _, size in row.shared_with) >= row.shared_bytes


@examples(30)
@given(trees(damage=True).map(at_rest), st.booleans())
def test_reclaimable_is_what_a_collection_frees_of_what_the_repository_names(tree: Tree, delete_untagged: bool) -> None:
    bench = MemoryRegistry(tree)
    try:
        plan = bench.plan(offline=True, grace=0.0, delete_untagged=delete_untagged)
    except RefusedError:
        return
    gone = {action.key for action in plan.removals if action.kind is gc.Kind.BLOB}
    frozen = {finding.subject for finding in plan.findings}

    for row in measure(tree, delete_untagged=delete_untagged).repositories:
        named = set()
        for key, stored in tree.items():
            spec = parse_key(key)
            if isinstance(spec, LayerLink) and spec.repository == row.name:
                named.add(blob_key(stored.data.decode()) if stored.data.startswith(b"sha") else "")
            if isinstance(spec, RevisionLink) and spec.repository == row.name:
                named.add(BlobData(spec.digest).key)
        expected = weight(tree, named & gone)
        is_frozen = any(subject.startswith((f"{row.name}@", f"{row.name}:")) for subject in frozen) or any(
            f"/repositories/{row.name}/_" in subject for subject in frozen
        )
        if row.reclaimable_bytes != expected:
            assert is_frozen
            assert row.reclaimable_bytes == 0


RULES = [
    "delete app:*",
    "delete app*:latest",
    "delete *:1.0",
    "keep-last 1",
    "keep-last 0",
    "older-than 1d",
    "delete nothing:x",
]


def chosen_by_hand(tree: Tree, rule: str) -> set[tuple[str, str]]:
    """Return the tags that a rule means, by another way than the code's."""
    tags = {
        (r, t): tree[f"{V2}/repositories/{r}/_manifests/tags/{t}/current/link"].at for r, t in tags_of(tree.contents)
    }
    tags = {key: at for key, at in tags.items() if not signature_subject(key[1])}
    match rule.split():
        case ["delete", pattern]:
            repository, _, tag = pattern.rpartition(":")
            return {
                (r, t)
                for r, t in tags
                if (r.startswith(repository[:-1]) if repository.endswith("*") else r == repository)
                and (t.startswith(tag[:-1]) if tag.endswith("*") else t == tag)
            }
        case ["keep-last", count]:
            going = set()
            for name in {r for r, _ in tags}:
                order = sorted(((at, t) for (r, t), at in tags.items() if r == name), reverse=True)
                going |= {(name, t) for _, t in order[int(count) :]}
            return going
        case _:
            return {key for key, at in tags.items() if NOW - at > DAY}


def freed_by_hand(tree: Tree, going: set[tuple[str, str]]) -> set[str] | None:
    """Delete tags, collect, then delete the signatures whose subject went, and collect again until none is left."""
    try:
        alone = freed(tree, delete_untagged=True)
    except RefusedError:
        return None
    before = revisions_after(tree)
    left = without(tree, [f"{V2}/repositories/{r}/_manifests/tags/{t}/" for r, t in going])
    while True:
        try:
            gone = freed(left, delete_untagged=True)
        except RefusedError:
            return None  # the guard of collections, which a report does not ask
        after = revisions_after(left)
        widowed = {
            (r, t)
            for r, t in tags_of(left.contents)
            if (subject := signature_subject(t)) and (r, subject) in before - after
        }
        if not widowed:
            return gone - alone
        left = without(left, [f"{V2}/repositories/{r}/_manifests/tags/{t}/" for r, t in widowed])


def revisions_after(tree: Tree) -> set[tuple[str, bytes]]:
    bench = MemoryRegistry(tree)
    bench.collect(offline=True, grace=0.0, delete_untagged=True)
    specs = map(parse_key, bench.keys)
    return {(spec.repository, spec.digest) for spec in specs if isinstance(spec, RevisionLink)}


@examples(30)
@given(trees().map(at_rest), st.sampled_from(RULES))
def test_what_if_is_what_deletion_and_collection_free(tree: Tree, rule: str) -> None:
    going = chosen_by_hand(tree, rule)
    expected = freed_by_hand(tree, going)
    assume(expected is not None)
    assert expected is not None

    ((text, tag_count, freed_bytes),) = measure(tree, what_if=(report.parse_rule(rule),)).what_if

    assert text == rule
    assert tag_count == len(going)
    assert freed_bytes == weight(tree, expected)


@examples(30)
@given(trees().map(at_rest))
def test_unique_of_a_tag_is_the_what_if_of_that_tag_alone(tree: Tree) -> None:
    rows = measure(tree, with_tags=True).tags
    assert {(row.repository, row.tag) for row in rows} == set(tags_of(tree.contents))

    rules = tuple(report.parse_rule(f"delete {row.repository}:{row.tag}") for row in rows)
    for row, (_, _, freed_bytes) in zip(rows, measure(tree, what_if=rules).what_if, strict=True):
        if not signature_subject(row.tag):
            assert row.unique_bytes == freed_bytes, (row.repository, row.tag)


@examples(40)
@given(trees().map(at_rest))
def test_logical_is_the_sum_over_tags(tree: Tree) -> None:
    found = measure(tree, with_tags=True)

    for row in found.repositories:
        assert row.logical_bytes == sum(tag.size_bytes for tag in found.tags if tag.repository == row.name)
        assert row.tag_count == sum(tag.repository == row.name for tag in found.tags)
    assert found.totals["logical_bytes"] == sum(row.logical_bytes for row in found.repositories)
    digests = {tag.digest for tag in found.tags}
    assert all(parse_digest(digest) for digest in digests)


@examples(30)
@given(trees(damage=True).map(at_rest))
def test_a_second_report_says_the_same(tree: Tree) -> None:
    bench = MemoryRegistry(tree)
    options = report.Options(with_tags=True, what_if=(report.parse_rule("keep-last 1"),))

    first, second = (report.measure_capacity(bench.registry, options, state=bench.state, now=NOW) for _ in range(2))

    assert first == second


def test_one_tag_that_freezes_many_is_found_by_halves() -> None:
    """And signatures of many tags are looked up, not searched: neither grows with the square of the tags."""
    tree = Tree()
    writer = VolumeWriter(tree.put)
    pushed = [writer.push_image("app", f"v{number}", [f"layer {number}".encode()], b"{}") for number in range(40)]
    for image in pushed[:20]:
        writer.push_signature("app", image, "a", "sig")
    broken = pushed[17]
    del tree[revision_link_key("app", broken.digest)]
    tree.clock = NOW

    rows = {row.tag: row for row in measure(tree, with_tags=True).tags}

    ((_, _, freed_bytes),) = measure(tree, what_if=(report.parse_rule("delete app:v17"),)).what_if
    assert rows["v17"].unique_bytes == freed_bytes > 0
    assert {row.unique_bytes for tag, row in rows.items() if tag != "v17"} == {0}


def test_sizes_in_a_cache_are_of_what_it_fetched() -> None:
    """The child of an index that another repository has is nothing that this one fetched."""
    tree = Tree()
    writer = VolumeWriter(tree.put)
    child = writer.push_image("b/x", "", [b"of the child"], b"{}")
    other = writer.push_image("a/x", "", [b"fetched"], b"{}")
    writer.push_index("a/x", "latest", [child, other])
    tree.put("scheduler-state.json", b"{}")

    found = measure(tree, with_tags=True)

    sums = {row.name: row.logical_bytes for row in found.repositories}
    assert sums["a/x"] == sum(tag.size_bytes for tag in found.tags if tag.repository == "a/x")

"""Random volumes, there and back: nothing is invented, nothing whole is lost, and what is lost is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import backup
from regstore.findings import is_clean
from regstore_drivers.memory import from_url
from support.backup import back_up, bring_back, contents_of, kept_of, new_name, objects_of
from support.examples import examples
from support.random_volumes import REPOSITORIES, Tree, lay_out, load, tags_of, trees
from support.volume import V2, VolumeWriter


def has_repository(tree: Tree) -> bool:
    """Tell whether a volume has a repository that a registry would list."""
    starts = tuple(f"{V2}/repositories/{name}/_" for name in REPOSITORIES)
    return any(key.startswith(starts) for key in tree)


def check(before: dict[str, bytes], after: dict[str, bytes], created: backup.CreateResult, lost: set[str]) -> None:
    """Compare a registry with what came back."""
    source = kept_of(before)
    if is_clean(created.findings):
        assert after.keys() == source.keys()
        # The links of a tag's index are not looked into: what they hold is what their paths say.
        assert [key for key in after if after[key] != source[key] and "/index/" not in key] == []
        return
    # Links are written with what their paths say, where the source held something else.
    for key, data in after.items():
        assert source.get(key) in (data, None) or key.endswith("/link"), key
    for (repository, tag), digest in tags_of(before).items():
        if f"{repository}:{tag}" not in lost:
            assert tags_of(after).get((repository, tag)) == digest
    assert {f"{repository}:{tag}" for repository, tag in tags_of(after)}.isdisjoint(lost)


@given(trees().filter(has_repository))
@examples(60)
def test_an_undamaged_volume_comes_back_as_it_was(tmp_path: Path, tree: Tree) -> None:
    place = tmp_path / new_name()
    lay_out(tree, place / "volume")
    store = backup.init_store(str(place / "store"))

    created = back_up(place / "volume", store)
    restored = bring_back(store, place / "restored")

    check(tree.contents, contents_of(place / "restored"), created, set(restored.plan.chosen.lost))
    shutil.rmtree(place)


@given(trees(damage=True).filter(has_repository))
@examples(150)
def test_of_a_damaged_volume_all_that_is_whole_comes_back(tmp_path: Path, tree: Tree) -> None:
    place = tmp_path / new_name()
    lay_out(tree, place / "volume")
    store = backup.init_store(str(place / "store"))

    created = back_up(place / "volume", store)
    restored = bring_back(store, place / "restored")

    lost = set(restored.plan.chosen.lost)
    check(tree.contents, contents_of(place / "restored"), created, lost | set(created.head.broken))
    again = back_up(place / "restored", store) if (place / "restored" / V2 / "repositories").exists() else None
    assert again is None or not again.head.broken  # what came back is whole
    shutil.rmtree(place)


@given(trees(damage=True).filter(has_repository), st.booleans())
@examples(60)
def test_object_stores_give_and_take_the_same(tree: Tree, is_second: bool) -> None:
    names = [new_name() for _ in range(3)]
    load(tree, from_url(f"memory://{names[0]}"), lambda _: None)
    store = backup.init_store(f"memory://{names[1]}")

    created = back_up(f"memory://{names[0]}", store)
    if is_second:
        created = back_up(f"memory://{names[0]}", backup.open_store(f"memory://{names[1]}"))
        assert created.head.new_blob_count == 0
    restored = bring_back(store, f"memory://{names[2]}")

    lost = set(restored.plan.chosen.lost) | set(created.head.broken)
    check(objects_of(from_url(f"memory://{names[0]}")), objects_of(from_url(f"memory://{names[2]}")), created, lost)


@given(trees().filter(has_repository), st.randoms(use_true_random=False))
@examples(40)
def test_some_tags_bring_exactly_what_they_need(tmp_path: Path, tree: Tree, random: object) -> None:
    place = tmp_path / new_name()
    lay_out(tree, place / "volume")
    store = backup.init_store(str(place / "store"))
    created = back_up(place / "volume", store)
    tags = sorted(set(tags_of(tree.contents)) - {tuple(image.rsplit(":", 1)) for image in created.head.broken})
    if tags:
        repository, tag = random.choice(tags)  # type: ignore[attr-defined]
        options = backup.RestoreOptions(backup.Selection((repository,), (tag,)))

        bring_back(store, place / "restored", options=options)

        after = contents_of(place / "restored")
        assert tags_of(after)[repository, tag] == tags_of(tree.contents)[repository, tag]
        assert after.items() <= kept_of(tree.contents).items()
        again = back_up(place / "restored", store)
        assert is_clean(again.findings), again.findings
    shutil.rmtree(place)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
def test_data_of_any_size_come_back(tmp_path: Path, size: int) -> None:
    writer = VolumeWriter(tmp_path / "volume")
    writer.push_image("app", "v1", [bytes(size), b"another"])
    store = backup.init_store(str(tmp_path / "store"))

    created = back_up(tmp_path / "volume", store)
    bring_back(store, tmp_path / "restored")

    assert is_clean(created.findings)
    assert contents_of(tmp_path / "restored") == contents_of(tmp_path / "volume")

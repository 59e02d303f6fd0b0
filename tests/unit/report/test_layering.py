"""What the layers of images waste."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import pack_digest
from regstore.report.layering import HiddenFiles, count_hidden, iter_hidden_advice, iter_twin_advice
from support.examples import examples

MIB = 1 << 20
A, B, C = (pack_digest("sha256", letter * 64) for letter in "abc")


def hidden(*layers: dict[str, int]) -> tuple[int, int]:
    """Count, from the lowest layer to the highest."""
    return count_hidden([[(path.encode(), size) for path, size in layer.items()] for layer in layers])


def test_nothing_is_hidden_in_layers_of_their_own() -> None:
    assert hidden({"a": 1}, {"b": 2}, {"d/a": 4}) == (0, 0)


def test_a_file_written_again_hides_the_former_ones() -> None:
    assert hidden({"a": 1, "b": 10}, {"a": 2}, {"a": 4}) == (2, 3)


def test_a_whiteout_hides_a_file_or_all_below_a_directory() -> None:
    assert hidden({"d/a": 1, "e/x": 10, "e/y/z": 100, "f": 1000}, {".wh.e": 0, "d/.wh.a": 0}) == (3, 111)


def test_an_opaque_directory_hides_what_was_in_it_before() -> None:
    assert hidden({"d/a": 1, "d/b/c": 10, "e": 100}, {"d/.wh..wh..opq": 0, "d/a": 5}) == (2, 11)
    assert hidden({"a": 1, "d/b": 10}, {".wh..wh..opq": 0}) == (2, 11)


def test_a_whiteout_hides_nothing_of_its_own_layer_or_later() -> None:
    assert hidden({".wh.a": 0, "a": 1}, {"b": 1}) == (0, 0)
    assert hidden({".wh.a": 0}, {"a": 1}) == (0, 0)


def test_a_file_in_place_of_a_directory_hides_what_was_below_it() -> None:
    assert hidden({"d/a": 1, "d/b": 2}, {"d": 4}) == (2, 3)


PATHS = st.sampled_from(
    ["a", "b", "d", "d/a", "d/e", "d/e/f", "d/.wh.a", ".wh.d", "d/.wh..wh..opq", "d/.wh.e", ".wh.b"]
)


@examples(80)
@given(st.lists(st.dictionaries(PATHS, st.integers(1, 100), max_size=6), max_size=5))
def test_it_is_what_unpacking_would_lose(layers: list[dict[str, int]]) -> None:
    seen: dict[str, int] = {}
    total = 0
    for layer in layers:
        for path in layer:
            directory, _, name = path.rpartition("/")
            base = f"{directory}/" if directory else ""
            if name == ".wh..wh..opq":
                seen = {old: size for old, size in seen.items() if not old.startswith(base)}
            elif name.startswith(".wh."):
                target = base + name[4:]
                seen = {old: size for old, size in seen.items() if old != target and not old.startswith(f"{target}/")}
        files = {path: size for path, size in layer.items() if not path.rpartition("/")[2].startswith(".wh.")}
        for path in files:
            seen = {old: size for old, size in seen.items() if not old.startswith(f"{path}/")}
        seen |= files
        total += sum(files.values())

    assert hidden(*layers)[1] == total - sum(seen.values())


def test_the_most_wasteful_images_are_named() -> None:
    images = [
        ("app", A, HiddenFiles(3, 5 * MIB)),
        ("web", B, HiddenFiles(1, MIB - 1)),
        ("big", C, HiddenFiles(9, 9 * MIB)),
    ]

    found = list(iter_hidden_advice(images))

    assert [finding.subject for finding in found] == ["big@sha256:" + "c" * 64, "app@sha256:" + "a" * 64]
    assert found[0].detail == f"9 files with {9 * MIB} bytes are overwritten or deleted by later layers"


def test_layers_with_the_same_files_are_twins() -> None:
    layers = [(A, 77, 10, 3 * MIB), (B, 77, 10, 3 * MIB), (C, 78, 10, 3 * MIB)]

    (found,) = iter_twin_advice(layers)

    assert (found.id, found.subject) == ("layers-rebuilt", "sha256:" + "a" * 64)
    assert f"2 layers hold the same files under other digests: {3 * MIB} bytes" in found.detail
    assert list(iter_twin_advice([(A, 0, 0, 0), (B, 0, 0, 0)])) == []

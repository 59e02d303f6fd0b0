"""The mount table, and which mount a path lies on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.luks.mounts import Mount, find_mount, parse_mountinfo, relative
from support.luks_trees import MOUNTS


def mounts(*lines: str) -> list[Mount]:
    return parse_mountinfo("\n".join([*MOUNTS.splitlines(), *lines]))


def number_at(found: list[Mount], path: str) -> str:
    mount = find_mount(found, path)
    assert mount is not None
    return mount.number


def test_a_line_is_read_with_escapes_and_optional_fields() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/r\134x rw,errors=continue"

    mount = parse_mountinfo(line)[0]

    assert (mount.id, mount.parent, mount.number, mount.fsroot) == (36, 35, "98:0", "/mnt1")
    assert (mount.target, mount.type, mount.source) == ("/mnt 2", "ext3", "/dev/r\\x")
    assert mount.options == {"rw", "noatime", "errors=continue"}


@pytest.mark.parametrize(
    "line",
    ["", "36 35 98:0 / /mnt", "36 35 98:0 / /mnt rw - ext3", "x 1 1:1 / / rw - a b c", "1 1 1:1 / /a\\000 rw - a b c"],
)
def test_lines_that_are_none_are_left_out(line: str) -> None:
    assert parse_mountinfo(line) == []


def test_the_longest_target_counts_by_components() -> None:
    found = mounts("30 25 1:1 / /data rw - ext4 a rw", "31 30 1:2 / /data/registry rw - ext4 b rw")

    assert number_at(found, "/data/registry/docker") == "1:2"
    assert number_at(found, "/data/registry2") == "1:1"
    assert number_at(found, "/database") == "254:0"


def test_the_last_of_several_at_one_place_covers_the_others() -> None:
    found = mounts("30 25 1:1 / /data rw - ext4 a rw", "31 30 1:2 / /data rw - ext4 b rw")

    assert number_at(found, "/data") == "1:2"


def test_a_later_mount_above_covers() -> None:
    found = mounts("30 25 1:1 / /data/registry rw - ext4 a rw", "31 25 1:2 / /data rw - ext4 b rw")

    assert number_at(found, "/data/registry") == "1:2"


def test_a_mount_in_a_later_one_is_not_covered() -> None:
    """As the root file system, which stands behind what was mounted for it by the initial one."""
    assert number_at(mounts(), "/proc/1") == "0:20"


def test_ids_in_a_circle_end() -> None:
    found = parse_mountinfo("1 2 1:1 / / rw - a b c\n2 1 1:2 / /x rw - a b c")

    assert number_at(found, "/x") == "1:2"


def test_nothing_is_mounted_in_an_empty_table() -> None:
    assert find_mount([], "/data") is None


def test_relative_paths() -> None:
    assert relative("/data/registry", "/data") == "registry"
    assert relative("/data", "/data") == ""
    assert relative("/data", "/") == "data"


@given(st.text() | st.lists(st.sampled_from(["1", "1:1", "/", "\\040", "-", " - ", "\n", "rw", "a"])).map(" ".join))
def test_any_text_is_read(text: str) -> None:
    find_mount(parse_mountinfo(text), "/a/b")

"""Texts and sizes as they are shown."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.wording import human_bytes, human_seconds, iso_time, plain


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (1024**3, "1.0 GiB"),
        (84 * 1024**4, "84.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_bytes_have_binary_units(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1023, "1,023 B"), (0.6, "1 B"), (1024, "1.0 KiB"), (-5000 * 1024**4, "-5,000.0 TiB")]
)
def test_commas_may_part_thousands(count: float, text: str) -> None:
    assert human_bytes(count, grouping=",") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (119, "119 s"), (150, "2 min"), (7200, "2.0 h"), (172800, "2.0 d")],
)
def test_spans_have_one_unit(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, \u00e9\u4e2d", "plain text, \u00e9\u4e2d"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("right\u202eleft", "right\\u202eleft"),
        ("line\u2028end", "line\\u2028end"),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
        ("", ""),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_what_is_shown_is_printable_and_can_be_written(text: str) -> None:
    shown = plain(text)

    assert shown.isprintable()
    assert shown.encode("utf-8")[:0] == b""
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00+00:00"),
        (1_800_000_000.7, "2027-01-15T08:00:00+00:00"),
        (None, None),
        (1e12, None),
        (-1e15, None),
        (float("inf"), None),
    ],
)
def test_times_for_scripts(at: float | None, text: str | None) -> None:
    assert iso_time(at) == text

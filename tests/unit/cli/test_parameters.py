"""Durations, sizes and limits as operators write them."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.cli.parameters import DELETE_LIMIT, DURATION, parse_size


def convert(kind: click.ParamType[Any], text: object) -> Any:
    """Convert as click does."""
    return kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("1s", 1), ("90m", 5400), ("24h", 86400), ("7d", 604800), ("2w", 1209600), (5, 5), (2.5, 2.5)],
)
def test_durations(text: object, seconds: float) -> None:
    assert convert(DURATION, text) == seconds
    assert isinstance(convert(DURATION, text), float)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "d",
        "7 d",
        " 7d",
        "7d ",
        "7d\n",
        "-1h",
        "+1h",
        "1.5h",
        "1h30m",
        "7D",
        "7days",
        "\u0663d",
        "9" * 40 + "d",
    ],
)
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration: write it as 90m, 24h or 7d"):
        convert(DURATION, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("500B", 500),
        ("1k", 1024),
        ("1K", 1024),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("10MiB", 10 * 1024**2),
        ("5G", 5 * 1024**3),
        ("5GB", 5 * 1000**3),
        ("2TiB", 2 * 1024**4),
        ("1PiB", 1024**5),
        (" 7 ", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "B", "-1", "1.5G", "1 G", "5X", "5GiBs", "1ki", "half"])
def test_what_is_no_size_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 500MiB or 5GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("50%", (50.0, None)),
        ("0%", (0.0, None)),
        ("100%", (100.0, None)),
        ("12.5%", (12.5, None)),
        ("20GiB", (None, 20 * 1024**3)),
        ("0", (None, 0)),
        ("none", (None, None)),
        ((None, 7), (None, 7)),
    ],
)
def test_limits(text: object, limit: tuple[float | None, int | None]) -> None:
    assert convert(DELETE_LIMIT, text) == limit


@pytest.mark.parametrize("text", ["", "%", "-1%", "100.1%", "101%", "50 %", "5.%", "all", "None", "50%%", "nan%"])
def test_what_is_no_limit_says_how_to_write_one(text: str) -> None:
    with pytest.raises(
        click.BadParameter, match=r"is not a limit: write it as 50%, 20GiB or none|more than everything"
    ):
        convert(DELETE_LIMIT, text)


@given(st.text(max_size=12))
def test_any_text_is_understood_or_a_bad_parameter(text: str) -> None:
    for kind in (DURATION, DELETE_LIMIT):
        try:
            value = convert(kind, text)
        except click.BadParameter:
            continue
        assert value is not None

"""Option types: durations, sizes, limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regstore.bandwidth import Bandwidth, Timetable, parse_timetable
from regstore.durations import parse_duration
from regstore.errors import UsageError
from regstore_drivers.bulk import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE_UNITS: dict[str, int] = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _SIZE_UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


F = TypeVar("F", bound="Callable[..., Any]")


def safety_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """An option that no environment variable can set."""
    return click.option(*names, allow_from_autoenv=False, **attributes)


class Duration(click.ParamType[float]):
    """A duration such as 90m, 24h, 7d or 0s; seconds as float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_size(text: str) -> int:
    """Parse bytes such as 500, 10MiB or 5G (1024) or 5GB (1000).

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"([0-9]+)([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _SIZE_UNITS:
        raise ValueError(f"{text!r} is not a size: write it as 500MiB or 5GiB")
    return int(match[1]) * _SIZE_UNITS[match[2]]


class Size(click.ParamType[int]):
    """A number of bytes such as 500MiB; at least 1."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        if isinstance(value, int):
            return value
        try:
            size = parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if size < 1:
            self.fail(f"{value!r} is nothing", param, ctx)
        return size


class DeleteLimit(click.ParamType[tuple[float | None, int | None]]):
    """`50%`, a size, or `none`; as (percent or None, bytes or None)."""

    name = "limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, int | None]:
        """Parse."""
        if isinstance(value, tuple):
            return value
        if value == "none":
            return None, None
        if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", value):
            percent = float(match[1])
            if percent > 100:
                self.fail(f"{value!r} is more than everything", param, ctx)
            return percent, None
        try:
            return None, parse_size(value)
        except ValueError:
            self.fail(f"{value!r} is not a limit: write it as 50%, 20GiB or none", param, ctx)


class BandwidthLimit(click.ParamType[Bandwidth]):
    """Bytes a second, such as 50MiB, or a timetable of them: `08:00,10MiB 20:00,off`."""

    name = "bandwidth"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bandwidth:
        """Parse."""
        if isinstance(value, (int, Timetable)):
            return value
        if ":" not in value:
            return SIZE.convert(value, param, ctx)
        try:
            return parse_timetable(value, lambda text: SIZE.convert(text, param, ctx))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_attributes(owner: str | None, mode: str | None) -> Attributes:
    """Parse `--owner UID:GID` and `--mode MODE`.

    Raises:
        UsageError: one of them cannot be understood.
    """
    uid = gid = directory_mode = None
    if owner is not None:
        match = re.fullmatch(r"([0-9]+):([0-9]+)", owner)
        if match is None:
            raise UsageError(f"{owner!r} is no owner", hint="write it in numbers, as 1000:1000")
        uid, gid = int(match[1]), int(match[2])
    if mode is not None:
        if not re.fullmatch(r"[0-7]{3,4}", mode):
            raise UsageError(f"{mode!r} is no mode", hint="write it in octal, as 0755")
        directory_mode = int(mode, 8)
    return Attributes(uid, gid, directory_mode, None if directory_mode is None else directory_mode & 0o666)


DURATION = Duration()
SIZE = Size()
DELETE_LIMIT = DeleteLimit()
BANDWIDTH = BandwidthLimit()

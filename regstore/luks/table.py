"""The tables and states of device-mapper devices, as `dmsetup table` and `dmsetup status` print them.

The fields are those of the kernel's Documentation/admin-guide/device-mapper/dm-crypt.rst and dm-integrity.rst. Nothing
here asks for keys to be shown, and key text that comes all the same is not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.isolation import DeadlineError, IsolatedError, run

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTOR_BYTES = 512
LINES_MAX = 10_000
_LINE = re.compile(r"([0-9]{1,18}) ([0-9]{1,18}) (\S+)(?: (.*))?")
_KEYRING = re.compile(r":([0-9]{1,4}):(logon|user|encrypted|trusted):(.*)")
_HEX_KEY = re.compile(r"(?:[0-9a-fA-F]{2}){1,1024}")


class TableError(Exception):
    """dmsetup did not tell."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a table or state: from which sector on, how many, of what kind, and the rest."""

    start: int
    sectors: int
    type: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crypt:
    """The arguments of a `crypt` line. Offsets in 512-byte sectors.

    Attributes:
        keyring: the kind and description of a key that the keyring holds; empty when dm-crypt itself holds it.
        device: the `major:minor` below.
        options: `allow_discards`, `sector_size:4096`...
    """

    cipher: str
    key_bytes: int
    keyring: str
    iv_offset: int
    device: str
    offset: int
    options: tuple[str, ...]

    @property
    def sector_bytes(self) -> int:
        """The unit of encryption."""
        sizes = [option.removeprefix("sector_size:") for option in self.options if option.startswith("sector_size:")]
        return int(sizes[0]) if sizes and sizes[0].isascii() and sizes[0].isdigit() and len(sizes[0]) < 7 else 512


def parse_lines(text: str, name: str) -> list[Target]:
    """Return the lines of one mapping; those of all are printed with `NAME: ` before each.

    Lines that are none, and those of other mappings, are left out.
    """
    targets = []
    for line in text.split("\n", LINES_MAX)[:LINES_MAX]:
        match = _LINE.fullmatch(line.removeprefix(f"{name}: ").rstrip(" \r"))
        if match:
            arguments = tuple((match[4] or "").split())
            targets.append(Target(int(match[1]), int(match[2]), match[3], _without_key(match[3], arguments)))
    return targets


def parse_crypt(target: Target) -> Crypt | None:
    """Return what a `crypt` line says; None for other lines and for what cannot be understood."""
    arguments = target.arguments
    if target.type != "crypt" or len(arguments) < 5:
        return None
    cipher, key, iv_offset, device, offset, *rest = arguments
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in (iv_offset, offset)):
        return None
    keyring = _KEYRING.fullmatch(key)
    if keyring:
        key_bytes, description = int(keyring[1]), f"{keyring[2]}:{keyring[3]}"
    elif re.fullmatch(r"[0-9]{1,4}", key):
        key_bytes, description = int(key), ""
    else:
        return None
    return Crypt(cipher, key_bytes, description, int(iv_offset), device, int(offset), tuple(rest[1:]))


def read_table(name: str, seconds: float) -> list[Target]:
    """Return the table of one mapping.

    Raises:
        TableError: dmsetup did not tell.
    """
    return _ask(("dmsetup", "table", _argument(name)), name, seconds)


def read_status(name: str, seconds: float) -> list[Target]:
    """Return the state of one mapping, without making it write anything out.

    Raises:
        TableError: dmsetup did not tell.
    """
    return _ask(("dmsetup", "status", "--noflush", _argument(name)), name, seconds)


def _argument(name: str) -> str:
    """Return how dmsetup is told a name, which may look like an option."""
    return f"/dev/mapper/{name}" if name.startswith("-") else name


def _ask(arguments: Sequence[str], name: str, seconds: float) -> list[Target]:
    try:
        output = run(arguments, seconds)
    except DeadlineError as error:
        raise TableError(str(error)) from error
    except IsolatedError as error:
        raise TableError(f"dmsetup cannot be run: {error}") from error
    if output.code != 0:
        raise TableError(f"dmsetup failed: {output.complaint}")
    targets = parse_lines(output.stdout, name)
    if not targets:
        raise TableError(f"dmsetup told nothing about {name}")
    return targets


def _without_key(kind: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of a line with its key replaced by its length, unless it is one of the keyring."""
    if kind != "crypt" or len(arguments) < 2 or _KEYRING.fullmatch(arguments[1]):
        return arguments
    key = arguments[1]
    length = str(len(key) // 2) if _HEX_KEY.fullmatch(key) else "0" if key == "-" else "?"
    return (arguments[0], length, *arguments[2:])

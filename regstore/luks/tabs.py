"""The files that say how volumes are opened and mounted at the next start: crypttab and fstab."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.mounts import unescape
from regstore.luks.udev import find_link, find_tag

if TYPE_CHECKING:
    from regstore.luks.devices import BlockDevices, Device
    from regstore.luks.sysroot import Sysroot

LINES_MAX = 100_000
_TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(.*)", re.DOTALL)
# `\0ooo` of crypttab's dialects and `\ooo` as in fstab; four digits are tried first.
_ESCAPE = re.compile(r"\\(0[0-3][0-7]{2}|[0-3][0-7]{2})")
_NO_KEY = ("", "none", "-")
# Keys of the volumes that are made anew at every start.
_RANDOM = ("/dev/urandom", "/dev/random", "/dev/hw_random", "/dev/hwrng")


@dataclass(frozen=True, slots=True)
class Spec:
    """What names a device: `tag` is UUID, LABEL, PARTUUID, PARTLABEL, or empty for a path."""

    tag: str
    value: str

    def __str__(self) -> str:
        """Return it as the files write it."""
        return f"{self.tag}={self.value}" if self.tag else self.value

    @property
    def is_unstable(self) -> bool:
        """Tell whether it is a path such as `/dev/sdb1`, which another disk may have after the next start."""
        return not self.tag and bool(
            re.fullmatch(r"/dev/((sd|vd|xvd|hd)[a-z]+[0-9]*|(nvme|mmcblk)[0-9a-z]+)", self.value)
        )


@dataclass(frozen=True, slots=True)
class CryptEntry:
    """One line of crypttab, of systemd (crypttab(5)) or of Debian's cryptsetup.

    Attributes:
        key: the key file as written, or empty when the passphrase is asked for or comes from elsewhere.
        options: with their values; an option without one has an empty value.
    """

    name: str
    source: Spec
    key: str
    options: dict[str, str]

    @property
    def header(self) -> str:
        """The file or device with a detached header, or empty."""
        return self.options.get("header", "")

    @property
    def is_read_only(self) -> bool:
        """Tell whether it is opened for reading only."""
        return not self.options.keys().isdisjoint(("readonly", "read-only"))


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of fstab (fstab(5))."""

    source: Spec
    target: str
    type: str
    options: frozenset[str]


def parse_spec(text: str) -> Spec:
    """Return what names a device; the value of a tag may be quoted."""
    match = _TAG.fullmatch(text)
    if not match:
        return Spec("", text)
    value = match[2]
    return Spec(match[1], value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value)


def parse_crypttab(text: str) -> list[CryptEntry]:
    """Return the entries; lines that are none are left out."""
    entries = []
    for fields in _fields(text):
        if len(fields) > 1 and not _has_zero(fields):
            name, source, key, options = (*(_unescape(field) for field in fields[:4]), "", "")[:4]
            settings = _parse_options(options)
            # With Debian's keyscript the field is an argument of that program.
            is_key = key not in _NO_KEY and key not in _RANDOM and "keyscript" not in settings
            entries.append(CryptEntry(name, parse_spec(source), key if is_key else "", settings))
    return entries


def parse_fstab(text: str) -> list[MountEntry]:
    """Return the entries that are mounted somewhere; lines that are none are left out."""
    entries = []
    for fields in _fields(text):
        if len(fields) > 2 and fields[1].startswith("/") and not _has_zero(fields):
            source, target, kind, options = (*(unescape(field) for field in fields[:4]), "")[:4]
            target = target.rstrip("/") or "/"
            entries.append(MountEntry(parse_spec(source), target, kind, frozenset(options.split(","))))
    return entries


def read_crypttab(sysroot: Sysroot) -> list[CryptEntry] | None:
    """Return the entries of /etc/crypttab; None when there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    text = sysroot.text("/etc/crypttab")
    return None if text is None else parse_crypttab(text)


def read_fstab(sysroot: Sysroot) -> list[MountEntry] | None:
    """Return the entries of /etc/fstab; None when there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    text = sysroot.text("/etc/fstab")
    return None if text is None else parse_fstab(text)


def resolve(sysroot: Sysroot, blocks: BlockDevices, spec: Spec) -> list[Device]:
    """Return the devices that a spec names: none, one, or several with the same tag.

    Raises:
        NotKnownError: nobody knows which devices there are.
        OSError: the tree cannot be read.
    """
    if spec.tag:
        return find_tag(sysroot, blocks, spec.tag, spec.value)
    device = blocks.by_path(spec.value)
    if device is None and spec.value.startswith("/dev/disk/by-"):
        return _resolve_link(sysroot, blocks, spec.value)
    return [device] if device else []


def _resolve_link(sysroot: Sysroot, blocks: BlockDevices, path: str) -> list[Device]:
    """Understand a link below `/dev/disk` by udev's database, which keeps the tags and most links."""
    _, _, kind, value = path.removeprefix("/").split("/", 3) if path.count("/") > 3 else ("", "", "", "")
    tag = kind.removeprefix("by-").upper()
    if tag in ("UUID", "LABEL", "PARTUUID", "PARTLABEL"):
        return find_tag(sysroot, blocks, tag, value)
    return find_link(sysroot, blocks, path)


def _fields(text: str) -> list[list[str]]:
    lines = (line.strip(" \t\r") for line in text.split("\n", LINES_MAX)[:LINES_MAX])
    return [re.split(r"[ \t]+", line) for line in lines if line and not line.startswith("#")]


def _has_zero(fields: list[str]) -> bool:
    """Tell whether a field holds the one character that no path can hold."""
    return any("\x00" in _unescape(field) for field in fields)


def _unescape(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def _parse_options(text: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(",") if part)
    return {name: value for name, _, value in parts}

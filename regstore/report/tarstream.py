"""Tar archives as a stream: what regular files are in them, and the hash of each content.

Written by hand over pieces of plain bytes, because `tarfile` holds every member and is slow with small files.
Nothing is extracted and no content is held.

Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU and star, as their readers take them: where they differ, this
follows archive/tar of Go, with which Docker and containerd unpack layers. Sparse files: GNU tar's manual, "Sparse
Formats".
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_TEXT_LIMIT_BYTES = 1 << 20
"""Of a name or of the PAX records of a member: more is hostile."""
_SIZE_LIMIT_BYTES = 1 << 62

_REGULAR = b"0\x007S"
_HEADER_ONLY = b"123456"
"""Links, devices, directories and pipes: they have no data, whatever size their header says."""
_OLD_SPARSE, _HARD_LINK, _DIRECTORY = b"S", b"1", b"5"
_GNU_NAME, _GNU_LINK = b"L", b"K"
_PAX_LOCAL, _PAX_GLOBAL = b"xX", b"g"


class BrokenTarError(Exception):
    """It is no tar archive, or a damaged, cut or hostile one. The message says why, and at which byte."""


class Kind(IntEnum):
    """What a member is."""

    REGULAR = 0
    HARD_LINK = 1
    OTHER = 2


class Entry(NamedTuple):
    """One member.

    Attributes:
        path: its name without a leading `/` or `./`; never more than 1 MiB.
        kind: what it is; whiteouts are regular files.
        size: bytes of its content that are stored; 0 for all but regular files. Holes of sparse files weigh nothing.
        digest: XXH3-128 of those bytes, 16 bytes; empty for all but regular files.
    """

    path: bytes
    kind: Kind
    size: int
    digest: bytes


def iter_entries(pieces: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the members of an archive in its order; what follows its end is read and ignored.

    Args:
        pieces: the plain bytes, in pieces of any size, empty ones too; all are consumed.

    Raises:
        BrokenTarError: see the class. What was yielded before is as the archive said.
    """
    source = _Source(pieces)
    while True:
        entry = _next_entry(source)
        if entry is None:
            break
        yield entry
    source.drain()


class _Source:
    """Pieces of bytes with a position."""

    __slots__ = ("_at", "_before", "_piece", "_pieces")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0
        self._before = 0

    @property
    def offset(self) -> int:
        """The bytes taken so far."""
        return self._before + self._at

    def take(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        at = self._at
        end = at + size
        if end <= len(self._piece):
            self._at = end
            return self._piece[at:end]
        parts: list[bytes | memoryview] = []
        self._pass_through(size, parts.append)
        return b"".join(parts)

    def take_all(self, size: int, what: str) -> bytes:
        """Return so many bytes.

        Raises:
            BrokenTarError: there are fewer.
        """
        data = self.take(size)
        if len(data) < size:
            raise _broken(self.offset, f"the archive is cut off within {what}")
        return data

    def digest(self, size: int) -> bytes:
        """Hash so many bytes.

        Raises:
            BrokenTarError: there are fewer.
        """
        at = self._at
        end = at + size
        if end <= len(self._piece):
            self._at = end
            return xxhash.xxh3_128_digest(memoryview(self._piece)[at:end])
        hasher = xxhash.xxh3_128()
        if self._pass_through(size, hasher.update) < size:
            raise _broken(self.offset, "the archive is cut off within a file")
        return hasher.digest()

    def skip(self, size: int) -> int:
        """Leave out so many bytes; fewer at the end. Return how many."""
        end = self._at + size
        if end <= len(self._piece):
            self._at = end
            return size
        return self._pass_through(size, _forget)

    def drain(self) -> None:
        """Read to the end."""
        for _ in self._pieces:
            pass

    def _pass_through(self, size: int, receive: Callable[[memoryview], object]) -> int:
        left = size
        while left > 0:
            rest = len(self._piece) - self._at
            if rest == 0:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._before += self._at
                self._piece, self._at = piece, 0
                continue
            count = min(rest, left)
            receive(memoryview(self._piece)[self._at : self._at + count])
            self._at += count
            left -= count
        return size - left


def _forget(_: memoryview) -> None:
    return


class _Extended:
    """What extended headers say of the next member."""

    __slots__ = ("gnu_name", "records")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.gnu_name = b""


_NOTHING = _Extended()


def _next_entry(source: _Source) -> Entry | None:
    """Read one member with the extended headers before it; None at the end of the archive."""
    extended = _NOTHING
    while True:
        start = source.offset
        header = _read_header(source)
        if header is None:
            if extended is not _NOTHING:
                raise _broken(start, "the archive ends after an extended header")
            return None
        kind = header[156:157]
        if kind in _PAX_LOCAL or kind in (_GNU_NAME, _GNU_LINK):
            if extended is _NOTHING:
                extended = _Extended()
            _extend(extended, source, header, start)
        elif kind == _PAX_GLOBAL:
            # Docker takes nothing from global headers, and git writes its commit in them.
            _parse_records(_read_text(source, header, start), start)
        else:
            return _read_member(source, header, kind, extended, start)


def _read_header(source: _Source) -> bytes | None:
    start = source.offset
    header = source.take(_BLOCK)
    if len(header) < _BLOCK:
        if header:
            raise _broken(start, "the archive is cut off within a header")
        return None
    if header == _ZEROS:
        # The end is two such blocks; readers take one that nothing follows.
        second = source.take(_BLOCK)
        if not second or second == _ZEROS:
            return None
        raise _broken(start, "a block of zeros is followed by something else than another")
    said = _number(header[148:156], start, "checksum")
    # The lower half of Adler-32 is one more than the sum of the bytes, modulo 65521: a fast sum, and names in ASCII
    # stay below that. The sum counts its own field as eight spaces.
    if said - 256 + sum(header[148:156]) + 1 != zlib.adler32(header) & 0xFFFF and not _is_sum(header, said):
        raise _broken(start, "the checksum of a header is wrong")
    return header


def _is_sum(header: bytes, said: int) -> bool:
    """Tell whether it is the sum of a header's bytes, taken as unsigned or, as some old tars did, as signed ones."""
    counted = header[:148] + b" " * 8 + header[156:]
    return said in (sum(counted), sum(counted) - 256 * sum(byte > 127 for byte in counted))


def _extend(extended: _Extended, source: _Source, header: bytes, start: int) -> None:
    kind = header[156:157]
    text = _read_text(source, header, start)
    if kind == _GNU_NAME:
        extended.gnu_name = text.split(b"\0", 1)[0]
    elif kind != _GNU_LINK:
        extended.records = _parse_records(text, start)


def _read_text(source: _Source, header: bytes, start: int) -> bytes:
    size = _number(header[124:136], start, "size")
    if size > _TEXT_LIMIT_BYTES:
        raise _broken(start, f"an extended header of {size} bytes")
    data = source.take_all(size, "an extended header")
    source.skip(-size % _BLOCK)
    return data


def _parse_records(data: bytes, start: int) -> dict[bytes, bytes]:
    """Parse PAX records: `LENGTH KEY=VALUE`, newline; the length counts all of it."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not key or not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise _broken(start, "a PAX record that cannot be parsed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pass  # format 0.0 repeats them, and the stored bytes come without them
        elif value:
            records[key] = value
        else:
            records.pop(key, None)  # takes back what was said before
        at = end
    return records


def _read_member(source: _Source, header: bytes, kind: bytes, extended: _Extended, start: int) -> Entry:
    size = _number(header[124:136], start, "size")
    if extended is _NOTHING and kind == b"0":  # the usual case, fast
        if size > _SIZE_LIMIT_BYTES:
            raise _broken(start, f"a size of {size} bytes")
        digest = source.digest(size)
        _skip_padding(source, -size % _BLOCK)
        return Entry(_normalised(_plain_name(header)), Kind.REGULAR, size, digest)
    records = extended.records
    if b"size" in records:
        text = records[b"size"]
        if not text.isdigit() or len(text) > 20:
            raise _broken(start, f"a size that is no number: {text[:40]!r}")
        size = int(text)
    if size > _SIZE_LIMIT_BYTES:
        raise _broken(start, f"a size of {size} bytes")
    path = extended.gnu_name or records.get(b"GNU.sparse.name") or records.get(b"path") or _plain_name(header)
    if kind == b"\0" and path.endswith(b"/"):
        kind = _DIRECTORY
    path = _normalised(path)
    if kind in _HEADER_ONLY:
        return Entry(path, Kind.HARD_LINK if kind == _HARD_LINK else Kind.OTHER, 0, b"")
    if kind not in _REGULAR:
        _skip_data(source, size)
        return Entry(path, Kind.OTHER, 0, b"")
    if kind == _OLD_SPARSE:
        _skip_old_map(source, header)
    padding = -size % _BLOCK
    if records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
        size -= _skip_map(source, size, start)
    digest = source.digest(size)
    _skip_padding(source, padding)
    return Entry(path, Kind.REGULAR, size, digest)


def _skip_data(source: _Source, size: int) -> None:
    if source.skip(size) < size:
        raise _broken(source.offset, "the archive is cut off within the data of a member")
    _skip_padding(source, -size % _BLOCK)


def _skip_padding(source: _Source, size: int) -> None:
    if size and source.skip(size) not in (0, size):
        raise _broken(source.offset, "the archive is cut off within the padding of a file")


def _skip_old_map(source: _Source, header: bytes) -> None:
    """Leave out the map of a GNU sparse file: four extents in its header, then blocks that its size does not count."""
    has_more = header[482]
    while has_more:
        has_more = source.take_all(_BLOCK, "the map of a sparse file")[504]


def _skip_map(source: _Source, size: int, start: int) -> int:
    """Leave out the map of a sparse file of format 1.0, the first part of its data, and return its bytes.

    It is a count of extents and two numbers for each, each on a line, and ends with its block.
    """
    read = 0
    lines_left = -1
    first = b""
    while lines_left:
        if read + _BLOCK > size:
            raise _broken(start, "the map of a sparse file is larger than the file")
        block = source.take_all(_BLOCK, "the map of a sparse file")
        read += _BLOCK
        if lines_left < 0:
            first += block
            digits, newline, block = first.partition(b"\n")
            if not newline and len(first) < 2 * _BLOCK:
                continue
            if not digits.isdigit() or len(digits) > 20:
                raise _broken(start, "the map of a sparse file does not begin with a count")
            lines_left = 2 * int(digits)
        lines_left = max(lines_left - block.count(b"\n"), 0)
    return read


def _number(field: bytes, start: int, what: str) -> int:
    """Parse a number: octal digits, or big-endian binary where the highest bit is set.

    Raises:
        BrokenTarError: it is none, or negative.
    """
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise _broken(start, f"a negative {what}")
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        digits = field.strip(b" \0").partition(b"\0")[0] or b"0"
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise _broken(start, f"a {what} that is no number: {field!r}")


def _plain_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":
        end = 476 if header[508:512] == b"tar\0" else 500  # star keeps times behind a shorter prefix
        prefix = header[345:end].partition(b"\0")[0]
        if prefix:
            return prefix + b"/" + name
    return name


def _normalised(path: bytes) -> bytes:
    if path.startswith((b"/", b"./")):
        lead = path[: len(path) - len(path.lstrip(b"./"))].partition(b"..")[0]
        path = path[lead.rfind(b"/") + 1 :]
    return path.rstrip(b"/")


def _broken(offset: int, why: str) -> BrokenTarError:
    return BrokenTarError(f"{why} (at byte {offset} of the plain layer)")

"""Tar archives as a stream, against the standard library's reader and against hostile hands."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from regstore.report.tarstream import BrokenTarError, Entry, Kind, iter_entries
from support.examples import examples

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
EMPTY = xxhash.xxh3_128_digest(b"")
END = bytes(1024)


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    return info


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def read(data: bytes, piece_bytes: int = 1 << 20) -> list[Entry]:
    return list(iter_entries(data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)))


def files(data: bytes, piece_bytes: int = 1 << 20) -> list[tuple[bytes, int, bytes]]:
    """Return path, size and digest of the regular files and hard links."""
    return [entry[:1] + entry[2:] for entry in read(data, piece_bytes) if entry.kind is not Kind.OTHER]


def naive(data: bytes) -> list[tuple[bytes, int, bytes]]:
    """Do the same with the standard library, by holding everything."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            # The library forgets the name of a sparse file in format 0.1.
            name = re.sub(rb"GNUSparseFile\.[0-9]+/", b"", info.name.encode("utf-8", "surrogateescape"))
            while name.startswith((b"/", b"./")):
                name = name.lstrip(b"/").removeprefix(b"./")
            if info.islnk():
                found.append((name, 0, b""))
            elif info.isreg():
                stream = tar.extractfile(info)
                assert stream is not None
                content = stream.read()
                if info.sparse is not None:
                    content = b"".join(content[at : at + size] for at, size in info.sparse)
                found.append((name, len(content), xxhash.xxh3_128_digest(content)))
    return found


def header(
    name: bytes = b"file",
    size: bytes = b"00000000000\0",
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
) -> bytes:
    """Make a header by hand, with a true checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = magic
    block[345 : 345 + len(prefix)] = prefix
    return seal(block)


def seal(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(data: bytes, kind: bytes = b"x") -> bytes:
    return header(b"PaxHeaders/file", b"%011o\0" % len(data), kind) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


COMPONENTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)
NAMES = st.one_of(
    st.lists(COMPONENTS, min_size=1, max_size=12).map("/".join),
    st.sampled_from(
        ["a" * 99, "a" * 100, "a" * 101, "d/" * 60 + "f", "./x", "/abs", "../../etc/passwd", ".wh..wh..opq"]
    ),
    st.integers(1, 4).map(lambda count: "/".join(["l" * 120] * count)),
)
MEMBERS = st.lists(
    st.tuples(
        NAMES, st.binary(max_size=1500), st.sampled_from([b"0", b"0", b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7"])
    ),
    max_size=8,
)


@examples(60)
@given(MEMBERS, st.sampled_from(sorted(FORMATS)), st.integers(1, 3000))
def test_archives_read_as_the_standard_library_reads_them(
    members: list[tuple[str, bytes, bytes]], form: str, piece_bytes: int
) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=FORMATS[form]) as tar:
        for name, content, kind in members:
            if kind == b"\0" and len(name.encode()) > 99:
                kind = b"0"  # the library takes it for a directory when its cut-off name ends with a slash
            data = content if kind in b"0\x007" else b""
            try:
                tar.addfile(member(name, data, kind, "target" if kind in b"12" else ""), io.BytesIO(data))
            except (ValueError, UnicodeError):  # a name that is too long for ustar
                continue
    data = raw.getvalue()

    assert files(data, piece_bytes) == naive(data)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files with holes, hard links and others."""
    path = tmp_path / "tree"
    (path / "deep").mkdir(parents=True)
    (path / "empty").touch()
    (path / "full").write_bytes(b"full" * 1000)
    (path / "deep/link").hardlink_to(path / "full")
    (path / "deep/soft").symlink_to("../full")
    with (path / "holes").open("wb") as file:
        for number in range(40):  # more extents than a header of old GNU format and one block after it hold
            file.seek(number * 200_000)
            file.write(b"data %d" % number)
        file.truncate(20_000_000)
    with (path / ("h" * 120)).open("wb") as file:
        file.truncate(1 << 20)
    return path


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_of_gnu_tar_weigh_their_data(tree: Path, options: list[str]) -> None:
    command = ["tar", "--sparse", "--hole-detection=raw", "--sort=name", *options, "-C", str(tree), "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout

    found = files(data)

    assert found == naive(data)
    sizes = {path: size for path, size, _ in found}
    assert sizes[b"holes"] < 200_000
    assert (sizes[b"h" * 120], sizes[b"empty"]) == (0, 0)
    assert sorted([sizes[b"full"], sizes[b"deep/link"]]) == [0, 4000]


def test_what_is_not_regular_weighs_nothing() -> None:
    data = archive(
        (member("dir", kind=tarfile.DIRTYPE), b""),
        (member("soft", kind=tarfile.SYMTYPE, target="dir"), b""),
        (member("pipe", kind=tarfile.FIFOTYPE), b""),
        (member("dir/.wh.gone"), b""),
    )

    assert [(entry.path, entry.kind) for entry in read(data)] == [
        (b"dir", Kind.OTHER),
        (b"soft", Kind.OTHER),
        (b"pipe", Kind.OTHER),
        (b"dir/.wh.gone", Kind.REGULAR),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        END,
        END + b"rubbish after the end" * 1000,
        bytes(512),
        header() + END,
        header(),  # no end at all
        header(size=b"00000000003\0") + b"abc",  # no padding
        header(size=b"       3 \0\0\0") + padded(b"abc"),
        header(size=b"\x80" + bytes(10) + b"\x03") + padded(b"abc"),
        header(kind=b"g") + header(),
        pax(record(b"comment", b"commit"), b"g") + header(),
    ],
)
def test_odd_archives_that_are_none_the_worse(data: bytes) -> None:
    assert len(read(data)) == (0 if data[:1] in (b"", b"\0") else 1)


def test_all_is_read_to_the_end() -> None:
    pieces = iter([END, b"more", b"and more"])
    assert list(iter_entries(pieces)) == []
    assert list(pieces) == []


def test_extended_headers_name_what_follows() -> None:
    name = b"n" * 300
    pieces = [
        header(b"././@LongLink", b"%011o\0" % (len(name) + 1), b"L", b"ustar  \0") + padded(name + b"\0"),
        header(b"short", magic=b"ustar  \0"),
        header(b"x", magic=b"ustar  \0", prefix=b"00000000000 no prefix"),
        pax(record(b"path", b"from pax") + record(b"size", b"3")) + header(b"x") + padded(b"abc"),
        pax(record(b"GNU.sparse.name", b"sparse") + record(b"path", b"GNUSparseFile.0/sparse")) + header(b"x"),
        header(b"name", prefix=b"some/prefix"),
        header(b"last/", kind=b"\0"),
    ]

    found = list(iter_entries([*pieces, END]))

    assert [entry.path for entry in found] == [name, b"x", b"from pax", b"sparse", b"some/prefix/name", b"last"]
    assert [entry.kind for entry in found] == [Kind.REGULAR] * 5 + [Kind.OTHER]
    assert found[2][2:] == (3, xxhash.xxh3_128_digest(b"abc"))


def broken() -> Iterator[tuple[bytes, str]]:
    good = header(size=b"00000001000\0") + b"x" * 512
    yield good[:700], "cut off within a file"
    yield good + header()[:100], "cut off within a header"
    yield header(size=b"00000000003\0") + b"abc" + bytes(9), "cut off within the padding"
    yield b"no tar archive at all" * 100, "checksum that is no number"
    yield bytes(512) + header(), "a block of zeros"
    flipped = bytearray(good)
    flipped[3] ^= 1
    yield bytes(flipped), "checksum of a header is wrong"
    yield header(size=b"\xff" * 12), "a negative size"
    yield header(size=b"-0000000001\0"), "size that is no number"
    yield header(size=b"\x80" + b"\xff" * 11), "a size of"
    yield header(size=b"\x80" + b"\xff" * 11, kind=b"1")[:512] + good[:600], "a size of"
    yield header(size=b"77777777777\0") + b"x" * 5000, "cut off within a file"
    yield header(size=b"77777777777\0", kind=b"V") + b"x" * 5000, "cut off within the data"
    yield pax(b"x" * (2 << 20)), "an extended header of 2097152 bytes"
    yield header(b"././@LongLink", b"%011o\0" % (2 << 20), b"L"), "an extended header of 2097152 bytes"
    yield header(b"././@LongLink", b"%011o\0" % (2 << 20), b"K"), "an extended header of 2097152 bytes"
    yield header(size=b"%011o\0" % 1000, kind=b"x") + b"x" * 999, "cut off within an extended header"
    yield pax(record(b"path", b"x")), "ends after an extended header"
    for records in (
        b"12 a=b\n",
        b"0 a=b\n",
        b"x a=b\n",
        b"6 =abc\n",
        b"6 abcd\n",
        b"5 a=b",
        b"99999999999 a=b\n",
        b"\0",
    ):
        yield pax(records) + header(), "a PAX record that cannot be parsed"
    yield pax(record(b"size", b"-1")) + header(), "a size that is no number"
    yield pax(record(b"size", b"9" * 20)) + header(), "a size of"
    yield pax(record(b"size", b"9" * 2000)) + header(), "a size that is no number"
    one = pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"))
    yield one + header(size=b"00000001000\0") + padded(b"900\n0\n1\n"), "map of a sparse file is larger"
    yield one + header(size=b"00000004000\0") + padded(b"many\n") + bytes(2000), "does not begin with a count"
    yield one + header(size=b"00000010000\0") + b"1" * 4096, "does not begin with a count"
    old = bytearray(header(kind=b"S", magic=b"ustar  \0"))
    old[482] = 1
    yield seal(old) + b"\1" * 1000, "cut off within the map"


@pytest.mark.parametrize(("data", "why"), list(broken()))
@pytest.mark.parametrize("piece_bytes", [1 << 20, 100])
def test_broken_and_hostile_archives_are_told(data: bytes, why: str, piece_bytes: int) -> None:
    with pytest.raises(BrokenTarError, match=rf"{why}.*\(at byte [0-9]+"):
        read(data, piece_bytes)


def test_checksums_of_signed_bytes_are_as_good() -> None:
    block = bytearray(header("caf\u00e9".encode()))
    unsigned = sum(block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % (unsigned - 2 * 256)

    assert [entry.path for entry in read(bytes(block))] == ["caf\u00e9".encode()]


@examples(60)
@given(st.binary(max_size=2000), st.integers(0, 2000), MEMBERS)
def test_no_bytes_make_another_error(noise: bytes, at: int, members: list[tuple[str, bytes, bytes]]) -> None:
    data = archive(*[(member(name, content), content) for name, content, _ in members])
    with suppress(BrokenTarError):
        read(data[:at] + noise + data[at + len(noise) :])


@pytest.mark.parametrize(
    "make",
    [
        lambda: [header(size=b"%011o\0" % (256 << 20))] + [bytes(1 << 20)] * 256,
        lambda: [header(size=b"%011o\0" % (256 << 20), kind=b"V")] + [bytes(1 << 20)] * 256,
        lambda: [header() * 2000] * 20,
        lambda: [pax(record(b"path", b"n" * 1_000_000))] * 100 + [header()],
        lambda: [pax(record(b"path", b"./" * 500_000)) + header()] * 20,
    ],
    ids=["large", "skipped", "many", "extended", "dots"],
)
def test_memory_is_bounded(make: Callable[[], list[bytes]]) -> None:
    pieces = make()
    tracemalloc.start()
    try:
        for _ in iter_entries(pieces):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20

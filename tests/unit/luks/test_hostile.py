"""Whatever lies on a device: an answer, in bounded time and memory, and nothing but an answer."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regstore.luks.luks2 import COPY_SIZES
from regstore.luks.strict_json import JsonError, parse_json, parse_uint64
from support.luks_headers import COPY_BYTES, DATA_OFFSET, Image, healthy, make_luks1, pack_copy
from support.luks_judging import judge, put, read

_SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2**65)
    | st.text(max_size=8)
    | st.sampled_from(["0", "dynamic", "luks2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def paths_of(document: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path] if path else []
    if isinstance(document, dict):
        for key, value in document.items():
            found += paths_of(value, (*path, key))
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of header and slots only, of which a part can be overwritten quickly."""
    return tmp_path_factory.mktemp("hostile") / "disk.img"


class TestFuzz:
    @_SETTINGS
    @given(
        content=st.binary(max_size=8192),
        kind=st.sampled_from([b"LUKS\xba\xbe\0\2", b"LUKS\xba\xbe\0\1", b"SKUL\xba\xbe\0\2", b""]),
    )
    def test_any_bytes(self, small: Path, content: bytes, kind: bytes) -> None:
        small.write_bytes(kind + content)
        judge(small)

    @_SETTINGS
    @given(path=st.sampled_from(paths_of(healthy())), value=_JSON)
    def test_any_value_anywhere(self, small: Path, path: tuple[str, ...], value: Any) -> None:
        document = healthy()
        put(".".join(path), value)(document)
        small.write_bytes(pack_copy(document, is_first=True) + pack_copy(document, is_first=False))
        judge(small)

    @_SETTINGS
    @given(value=_JSON)
    def test_any_document(self, small: Path, value: Any) -> None:
        text = json.dumps(value).encode()
        small.write_bytes(pack_copy(text, is_first=True) + pack_copy(text, is_first=False))
        reading = read(small)
        assert reading.metadata is None

    @_SETTINGS
    @given(spots=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=20))
    def test_luks1_with_any_bytes_changed(self, small: Path, spots: list[tuple[int, int]]) -> None:
        make_luks1(small, size=0x1000)
        with small.open("r+b") as file:
            for offset, byte in spots:
                file.seek(offset)
                file.write(bytes([byte]))
        judge(small)

    @_SETTINGS
    @given(text=st.text(max_size=30))
    def test_numbers(self, text: str) -> None:
        try:
            value = parse_uint64(text)
        except JsonError:
            return
        assert text.isascii()
        assert text.isdigit()
        assert value == int(text) < 2**64

    @_SETTINGS
    @given(content=st.binary(max_size=200))
    def test_json(self, content: bytes) -> None:
        with suppress(JsonError):
            parse_json(content)


def large_header(text: bytes) -> bytes:
    """Return both copies of the largest size, filled with a text."""
    size = COPY_SIZES[-1]
    filled = (text * (size // len(text) + 1))[: size - 4096 - 1]
    return pack_copy(filled, is_first=True, copy_bytes=size) + pack_copy(filled, is_first=False, copy_bytes=size)


def costly_slots(path: Path) -> None:
    """Make the largest key slot area, with as much key material as it can hold."""
    document = healthy(0)
    size = 2_048_000
    for number in range(32):
        document["keyslots"][str(number)] = {
            "type": "luks2",
            "key_size": 512,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {
                "type": "raw", "offset": str(2 * COPY_BYTES + number * size), "size": str(size),
                "encryption": "aes-xts-plain64", "key_size": 64,
            },
            "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 2_000_000, "salt": "AAAA"},
        }  # fmt: skip
    document["digests"]["0"]["keyslots"] = [str(number) for number in range(32)]
    document["config"]["keyslots_size"] = str(128 * 1024 * 1024)
    document["segments"]["0"]["offset"] = str(2 * COPY_BYTES + 128 * 1024 * 1024)
    image = Image(path, healthy(0), size=2 * COPY_BYTES + 129 * 1024 * 1024)
    image.document = document
    image.write()
    noise = random.Random(3).randbytes(size)
    for number in range(32):
        image.put(2 * COPY_BYTES + number * size, noise)


def processor_seconds() -> float:
    """Return what ended children have used: unlike time on a clock, not longer on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class TestBounds:
    """At most 10 s and 256 MiB for any header, in a process of its own whose memory is limited."""

    @pytest.mark.parametrize(
        "text", [b"[", b"[],", b'{"":0},', b'{"a":', b'"a",', b"1,", b'"\\u0000', b"[[[],", b" ", b"9"]
    )
    def test_large_headers(self, tmp_path: Path, text: bytes) -> None:
        path = tmp_path / "disk.img"
        path.write_bytes(large_header(text))
        assert "hdr.schema" in self.check(path)

    def test_large_slots(self, tmp_path: Path) -> None:
        costly_slots(tmp_path / "disk.img")
        assert self.check(tmp_path / "disk.img", expected=0) == set()

    def check(self, path: Path, *, expected: int = 1) -> set[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (256 * 1024**2, 256 * 1024**2))
            with suppress(PermissionError):
                os.nice(-19)  # the check's own deadline is one of the clock, and other tests run beside this one

        before = processor_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "regstore", "luks", "check", "--json", str(path)],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limit,
            timeout=60,
        )
        assert done.returncode == expected, done.stderr
        assert processor_seconds() - before < 10
        findings = json.loads(done.stdout)["findings"]
        assert not [found for found in findings if "does not answer" in found["detail"]]
        return {found["id"] for found in findings if found["severity"] in ("warning", "critical")}


def test_a_cut_anywhere(tmp_path: Path) -> None:
    image = Image(tmp_path / "disk.img")
    content = image.path.read_bytes()
    path = tmp_path / "cut.img"
    for length in (0, 1, 5, 6, 8, 100, 511, 512, 592, 4095, 4096, 4097, COPY_BYTES, COPY_BYTES + 4096, 40000):
        path.write_bytes(content[:length])
        assert [finding for finding in judge(path) if finding.severity.word in ("warning", "critical")]
    assert DATA_OFFSET == 16777216

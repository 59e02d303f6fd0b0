"""What is in the layers of images, against a reference that holds everything in memory."""

from __future__ import annotations

import gzip
import io
import os
import random
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from regstore.digest import Digest, parse_digest
from regstore.errors import InterruptedRunError, StorageFailedError, UsageError
from regstore.findings import Severity
from regstore.layout import BlobData
from regstore.registry import Registry, open_registry
from regstore.report.contents import ContentsReport, layer_file, layer_reading, merge, read_contents
from regstore.work import Cancel, NoProgress
from regstore_drivers.errors import Unavailable
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.url import open_driver
from regstore_drivers.wrappers import Counting, Faulty
from support import images
from support.examples import examples
from support.volume import VolumeWriter

Files = Sequence[tuple[str, bytes]]
NO_STATE = Path("/dev/null")
"""No directory can be made below it."""
LINK = b"a hard link"
"""What stands for a hard link among contents."""


def layer_of(files: Files) -> bytes:
    """Make a plain layer."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            if content is LINK:
                info.type, info.linkname = tarfile.LNKTYPE, "target"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def squeeze(data: bytes) -> bytes:
    """Pack a layer, the same way at any time."""
    return gzip.compress(data, mtime=0)


class Volume:
    """A registry in memory, behind counters or faults, and the images that are live in it."""

    def __init__(self, wrap: Callable[[Any], Any] = Counting) -> None:
        self.memory = MemoryDriver("test")
        self.driver = wrap(self.memory)
        self.registry = Registry(self.driver)
        self.writer = VolumeWriter(lambda key, data: self.memory.write(key, data, len(data)))
        self.images: dict[Digest, list[str]] = {}
        self.layers: dict[Digest, bytes] = {}

    def push(self, repository: str, *layers: bytes, **options: Any) -> Digest:
        """Store an image, in one repository more if it was stored already."""
        image = self.writer.push_image(repository, "", layers, b"{}", **options)
        digest = parse_digest(image.digest)
        self.images[digest] = sorted({*self.images.get(digest, ()), repository})
        for name, data in zip(image.layers, layers, strict=True):
            self.layers[parse_digest(name)] = data
        return digest

    def read(self, **options: Any) -> ContentsReport:
        return read_contents(self.registry, self.images, **options)


def digest_of(data: bytes) -> Digest:
    return parse_digest(images.digest_of(data))


def naive(images_of: dict[bytes, list[int]], repositories_of: list[list[str]]) -> dict[str, Any]:
    """Sum up layers (their plain bytes to their images) whose images lie in repositories."""
    copies: dict[bytes, list[tuple[bytes, str]]] = {}
    counts, sizes = {}, {}
    for layer in sorted(images_of, key=digest_of):
        counts[layer] = sizes[layer] = 0
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for info in tar:
                counts[layer] += 1
                if info.isreg():
                    stream = tar.extractfile(info)
                    assert stream is not None
                    sizes[layer] += info.size
                    copies.setdefault(stream.read(), []).append((layer, info.name))
    names = sorted({name for names in repositories_of for name in names})
    held = {
        name: {layer for layer, found in images_of.items() if any(name in repositories_of[image] for image in found)}
        for name in names
    }
    contents = {
        name: {content for content, places in copies.items() if any(layer in held[name] for layer, _ in places)}
        for name in names
    }
    scopes = {"within_image_bytes": 0, "across_images_bytes": 0, "across_repositories_bytes": 0}
    directories: dict[str, list[int]] = {}
    for content, places in copies.items():
        for index, (layer, name) in enumerate(places[1:], 1):
            before = {other for other, _ in places[:index]}
            if any(set(images_of[layer]) & set(images_of[other]) for other in before):
                scopes["within_image_bytes"] += len(content)
            elif any(layer in held[name] and before & held[name] for name in names):
                scopes["across_images_bytes"] += len(content)
            else:
                scopes["across_repositories_bytes"] += len(content)
            if content:
                row = directories.setdefault(name.rpartition("/")[0] or ".", [0, 0])
                row[0] += len(content)
                row[1] += 1
    file_bytes, unique_bytes = sum(sizes.values()), sum(map(len, copies))
    return {
        "totals": {
            "layer_count": len(images_of),
            "file_count": sum(counts.values()),
            "file_bytes": file_bytes,
            "unique_file_count": len(copies),
            "unique_bytes": unique_bytes,
            "duplicate_bytes": file_bytes - unique_bytes,
        },
        "top": sorted(
            [
                (places[0][1], len(content), len(places))
                for content, places in copies.items()
                if content and len(places) > 1
            ]
        ),
        "directories": {path: tuple(row) for path, row in directories.items()},
        "repositories": {
            name: (
                sum(counts[layer] for layer in held[name]),
                sum(sizes[layer] for layer in held[name]),
                sum(len(c) for c in contents[name] if not any(c in contents[o] for o in names if o != name)),
                sum(sizes[layer] for layer in held[name]) - sum(map(len, contents[name])),
            )
            for name in names
        },
        "pairs": {
            (a, b): shared
            for a in names
            for b in names
            if a < b and (shared := sum(map(len, contents[a] & contents[b])))
        },
        "scopes": scopes,
        "saving": sum(len(c) * (len({layer for layer, _ in places}) - 1) for c, places in copies.items()),
    }


def summary(report: ContentsReport) -> dict[str, Any]:
    """Bring a report into the reference's form."""
    return {
        "totals": report.totals,
        "top": sorted((row["path"], row["size_bytes"], row["copies"]) for row in report.top),
        "directories": {row["path"]: (row["duplicate_bytes"], row["file_count"]) for row in report.directories},
        "repositories": {
            row["name"]: (row["file_count"], row["file_bytes"], row["unique_bytes"], row["duplicate_bytes"])
            for row in report.repositories
        },
        "pairs": {(row["a"], row["b"]): row["shared_bytes"] for row in report.pairs},
        "scopes": report.scopes,
        "saving": report.base_image_saving_bytes,
    }


CONTENTS = st.sampled_from([b"", b"a", b"bb", b"c" * 700, b"dd" * 300, LINK])
PATHS = st.sampled_from(["f", "usr/f", "usr/lib/g", "etc/passwd", "etc/.wh.gone", "var/log/x"])
LAYERS = st.lists(st.lists(st.tuples(PATHS, CONTENTS), max_size=6), min_size=1, max_size=5)
REPOSITORIES = st.lists(st.sampled_from(["a", "b/c", "d"]), min_size=1, max_size=3, unique=True)


@pytest.fixture(scope="module")
def _small_steps() -> Any:
    """Blocks, buffers and partitions so small that few files need many."""
    with (
        mock.patch.multiple(merge, _PARTITION_RECORDS=3, _BUFFER_BYTES=100),
        mock.patch.object(layer_file, "_BLOCK_RECORDS", 2),
    ):
        yield


@pytest.mark.usefixtures("_small_steps")
@examples(60)
@given(st.data(), LAYERS)
def test_sums_are_those_of_the_reference(data: st.DataObject, layers: list[Files]) -> None:
    volume = Volume()
    plain = [layer_of(files) for files in layers]
    graph = data.draw(
        st.lists(st.tuples(REPOSITORIES, st.sets(st.integers(0, len(layers) - 1), min_size=1)), min_size=1, max_size=4)
    )
    images_of: dict[bytes, list[int]] = {}
    for index, (repositories, numbers) in enumerate(graph):
        chosen = sorted({plain[number] for number in numbers})
        for name in repositories:
            volume.push(name, *chosen, architecture=f"arch{index}", config_type=f"{images.DOCKER_CONFIG};n={index}")
        for layer in chosen:
            images_of.setdefault(layer, []).append(index)

    report = volume.read(directory=NO_STATE, top=1000)

    expected = naive(images_of, [repositories for repositories, _ in graph])
    assert summary(report) == expected
    assert sum(report.scopes.values()) == report.totals["duplicate_bytes"]
    wasted = [row["size_bytes"] * (row["copies"] - 1) for row in report.top]
    assert wasted == sorted(wasted, reverse=True)
    for rows, key in (
        (report.directories, "duplicate_bytes"),
        (report.repositories, "file_bytes"),
        (report.pairs, "shared_bytes"),
    ):
        assert [row[key] for row in rows] == sorted((row[key] for row in rows), reverse=True)
    fewer = volume.read(directory=NO_STATE, top=2)
    assert (fewer.top, fewer.directories, fewer.pairs) == (report.top[:2], report.directories[:2], report.pairs[:2])


ONE = layer_of([("etc/a", b"same" * 100), ("etc/b", b"other")])
TWO = layer_of([("usr/a", b"same" * 100), ("usr/c", b"new")])


@pytest.mark.parametrize("pack", [bytes, squeeze, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_layers_of_every_packing(pack: Callable[[bytes], bytes], algorithm: str, tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", pack(ONE))
    volume.push("other", pack(TWO))
    if algorithm != "sha256":
        data = pack(ONE)
        digest = parse_digest(images.digest_of(data, algorithm))
        volume.writer.put(BlobData(digest).key, data)
        volume.push("app", data, algorithm=algorithm)

    report = volume.read(directory=tmp_path)

    extra = algorithm != "sha256"
    assert report.findings == []
    assert report.totals["layer_count"] == 2 + extra
    assert report.totals["unique_bytes"] == 408
    assert report.top[0] == {"path": mock.ANY, "size_bytes": 400, "copies": 2 + extra}
    assert report.pairs == [{"a": "app", "b": "other", "shared_bytes": 400}]


def test_the_second_run_reads_no_layer(tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", squeeze(ONE), squeeze(TWO))
    first = volume.read(directory=tmp_path)
    assert volume.driver.counts["open"] == 2
    volume.driver.reset()

    assert volume.read(directory=tmp_path) == first
    assert "open" not in volume.driver.counts
    volume.push("app", squeeze(ONE), layer_of([("new", b"new")]))
    assert volume.read(directory=tmp_path).totals["layer_count"] == 3
    assert volume.driver.counts["open"] == 1
    assert not list((tmp_path / "contents").glob("run-*"))


def test_the_usual_state_directory(state_home: Path) -> None:
    volume = Volume()
    volume.push("app", ONE)
    volume.read()
    assert len(list((state_home / "regstore/contents").glob("*/*.files"))) == 1


@pytest.mark.parametrize(
    "hurt",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[:7] + b"\x63" + data[8:],
        lambda data: data + b"x",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["cut", "empty", "flipped", "version", "longer", "checksum"],
)
def test_damaged_memory_is_made_anew(hurt: Callable[[bytes], bytes], tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", ONE)
    first = volume.read(directory=tmp_path)
    (path,) = (tmp_path / "contents").glob("*/*.files")
    good = path.read_bytes()
    path.write_bytes(hurt(good))

    assert volume.read(directory=tmp_path) == first
    assert volume.driver.counts["open"] == 2
    assert path.read_bytes() == good


def test_leftovers_of_old_runs_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "contents/run-old", tmp_path / "contents/run-young"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    volume = Volume()
    volume.push("app", ONE)
    volume.read(directory=tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_full_state_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume()
    volume.push("app", ONE)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layer_file.LayerFileWriter, "finish", refuse)
    with pytest.raises(StorageFailedError, match=r"the state directory fails: .*No space left"):
        volume.read(directory=tmp_path)


def unreadable() -> list[Any]:
    noise = layer_of([("noise", random.Random(5).randbytes(300_000))])
    return [
        pytest.param(squeeze(noise)[:-9], "the gzip data are cut off", id="cut gzip"),
        pytest.param(squeeze(noise[:200_000]), "the archive is cut off within a file", id="cut tar"),
        pytest.param(b"this is no tar archive" * 100, "checksum", id="no tar"),
        pytest.param(squeeze(bytes(512) + b"x" * 512), "a block of zeros", id="no end"),
        pytest.param(zstandard.compress(noise)[:100] + b"x" * 300_000, "no zstd data", id="zstd"),
    ]


@pytest.mark.parametrize(("data", "why"), unreadable())
def test_a_broken_layer_is_a_finding_and_the_rest_counts(data: bytes, why: str, tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", data, squeeze(ONE))
    for _ in range(2):
        report = volume.read(directory=tmp_path)
        assert [(f.id, f.severity, f.subject) for f in report.findings] == [
            ("layer-unreadable", Severity.WARNING, images.digest_of(data))
        ]
        assert why in report.findings[0].detail
        assert (report.totals["layer_count"], report.totals["file_bytes"]) == (1, 405)


@pytest.mark.parametrize("pack", [bytes, squeeze, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_rotten_layer_is_a_finding(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", pack(ONE), pack(TWO))
    volume.writer.put(BlobData(digest_of(pack(ONE))).key, pack(layer_of([("another", b"layer")])))

    report = volume.read(directory=tmp_path)

    assert [finding.subject for finding in report.findings] == [images.digest_of(pack(ONE))]
    assert "they hash to sha256:" in report.findings[0].detail
    assert report.totals["file_bytes"] == 403
    assert len(list((tmp_path / "contents").glob("*/*"))) == 1


@pytest.mark.parametrize("operation", ["open", "stat", "read_stream"])
def test_storage_that_fails_is_a_finding(operation: str, tmp_path: Path) -> None:
    volume = Volume(Faulty)
    volume.push("app", ONE, TWO)
    key = BlobData(digest_of(ONE)).key
    if operation == "read_stream":
        volume.driver.fail("open", key, Unavailable("tired"), times=None)
    else:
        volume.driver.fail(operation, key, Unavailable("tired"), times=None)

    report = volume.read(directory=tmp_path)

    assert [(f.subject, "tired" in f.detail) for f in report.findings] == [(images.digest_of(ONE), True)]
    assert report.totals["layer_count"] == 1


def test_bombs_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_reading, "_EXPANSION_FREE_BYTES", 100_000)
    volume = Volume()
    fine, bomb = layer_of([("fine", b"fine" * 1000)]), layer_of([("bomb", bytes(30 << 20))])
    volume.push("app", squeeze(fine), squeeze(bomb))

    report = volume.read(directory=tmp_path)

    assert [(f.subject, f.detail[:8]) for f in report.findings] == [(images.digest_of(squeeze(bomb)), "given up")]
    assert report.totals["file_bytes"] == 4000
    monkeypatch.setattr(layer_reading, "_PLAIN_LIMIT_BYTES", 1000)
    assert len(volume.read(directory=tmp_path / "other").findings) == 2


@pytest.mark.parametrize("before", [b"", zstandard.compress(ONE[:512])], ids=["first frame", "later frame"])
def test_windows_of_zstd_are_bounded(tmp_path: Path, before: bytes) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = before + compressor.compress(ONE) + compressor.flush()
    volume = Volume()
    volume.push("app", data)

    assert "memory" in volume.read(directory=tmp_path).findings[0].detail


def test_what_is_no_tar_or_absent_is_passed_over(tmp_path: Path) -> None:
    volume = Volume()
    volume.push("chart", b"no tar", flavour="oci", layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    image = volume.writer.push_image("app", "v1", [ONE], b"{}", foreign=[images.foreign_layer(b"elsewhere")])
    volume.push("app", TWO)
    list(volume.memory.delete([BlobData(digest_of(TWO)).key]))
    index = volume.writer.push_index("app", "index", [image])
    schema1 = volume.writer.push_schema1("old", "v1", [squeeze(TWO)])
    for digest in (image.digest, index.digest, schema1.digest, "sha256:" + "0" * 64):
        volume.images[parse_digest(digest)] = ["app"]
    for text in (b"[1]", b'{"layers": 5}', b'{"layers": [{"digest": 7}]}', b"\xff"):
        volume.images[parse_digest(volume.writer.manifest("app", text))] = ["app"]

    report = volume.read(directory=tmp_path)

    assert report.findings == []
    assert (report.totals["layer_count"], report.totals["file_bytes"]) == (2, 808)
    assert {row["name"]: row["file_bytes"] for row in report.repositories} == {"app": 808, "chart": 0}


def test_nothing_at_all(tmp_path: Path) -> None:
    report = Volume().read(directory=tmp_path)
    assert set(report.totals.values()) == {0}
    assert (report.top, report.directories, report.repositories, report.pairs, report.findings) == ([], [], [], [], [])
    assert report.base_image_saving_bytes == 0


def test_names_that_are_no_text_and_too_long_ones(tmp_path: Path) -> None:
    same = b"x" * 10
    names = ["caf\udce9/\udcff", "n" * 5000 + "/file"]
    volume = Volume()
    volume.push("app", layer_of([(names[0], same), (names[0], same)]), layer_of([(names[1], b"y"), (names[1], b"y")]))

    report = volume.read(directory=tmp_path)

    assert [row["path"] for row in report.top] == ["caf\\xe9/\\xff", "n" * 4096]
    assert report.directories[0] == {"path": "caf\\xe9", "duplicate_bytes": 10, "file_count": 1}


class Counted(NoProgress):
    """Notes what it is told, and does something at each advance."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.phases: dict[str, list[int]] = {}
        self._then = then

    def start(self, phase: str, total: int | None = None) -> None:
        assert total is not None
        self._now = self.phases[phase] = [total, 0]

    def advance(self, count: int = 1) -> None:
        self._now[1] += count
        if "layers" in self.phases:
            self._then()


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    volume = Volume()
    volume.push("app", squeeze(ONE), TWO)
    size = len(squeeze(ONE)) + len(TWO)
    for _ in range(2):
        progress = Counted()
        volume.read(directory=tmp_path, progress=progress)
        assert progress.phases["layers"] == [size, size]
        assert progress.phases["manifests"] == [1, 1]
        assert progress.phases["contents"][0] == progress.phases["contents"][1]


def test_a_request_to_stop_leaves_finished_layers_remembered(tmp_path: Path) -> None:
    volume = Volume()
    large = [layer_of([(f"f{number}", os.urandom(3 << 20))]) for number in range(3)]
    volume.push("app", *large)
    cancel = Cancel()
    progress = Counted(lambda: progress.phases["layers"][1] > 4 << 20 and cancel.request())

    with pytest.raises(InterruptedRunError):
        volume.read(directory=tmp_path, progress=progress, cancel=cancel)

    assert progress.phases["layers"][1] < 6 << 20
    assert len(list((tmp_path / "contents").glob("*/*"))) == 1
    volume.driver.reset()
    assert volume.read(directory=tmp_path).totals["layer_count"] == 3
    assert volume.driver.counts["open"] == 2


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Registry, dict[Digest, list[str]]]:
    """Some layers below a directory, one of them broken and one missing."""
    writer = VolumeWriter(tmp_path / "volume")
    layers = [squeeze(layer_of([(f"f{number}", os.urandom(200_000))] * 2)) for number in range(5)]
    image = writer.push_image("app", "v1", [*layers, squeeze(ONE)[:-5], TWO], b"{}")
    (tmp_path / "volume" / BlobData(digest_of(TWO)).key).unlink()
    return open_registry(str(tmp_path / "volume")), {parse_digest(image.digest): ["app"]}


def test_processes_give_the_same(on_disk: tuple[Registry, dict[Digest, list[str]]], tmp_path: Path) -> None:
    registry, live = on_disk
    progress = Counted()

    many = read_contents(registry, live, jobs=2, directory=tmp_path / "many", progress=progress)

    assert many == read_contents(registry, live, directory=tmp_path / "one")
    assert many.totals["file_bytes"] == 2_000_000
    assert [finding.subject for finding in many.findings] == [images.digest_of(squeeze(ONE)[:-5])]
    assert progress.phases["layers"][0] == progress.phases["layers"][1]
    files = [sorted(path.name for path in (tmp_path / name / "contents").glob("*/*")) for name in ("many", "one")]
    assert files[0] == files[1]
    assert len(files[0]) == 5


def test_processes_open_a_bucket_anew(
    moto: Any, moto_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    location = f"s3://{moto_bucket}/root?endpoint={moto.endpoint}&region=us-east-1"
    driver = open_driver(location)
    writer = VolumeWriter(lambda key, data: driver.write(key, data, len(data)))
    image = writer.push_image("app", "v1", images.layers(3, "x", 100_000), b"{}")
    driver.close()
    registry = open_registry(location)

    report = read_contents(registry, {parse_digest(image.digest): ["app"]}, jobs=2, directory=tmp_path)

    registry.driver.close()
    assert report.findings == []
    assert (report.totals["layer_count"], report.totals["file_bytes"]) == (3, 300_000)


def test_processes_stop_on_request(on_disk: tuple[Registry, dict[Digest, list[str]]], tmp_path: Path) -> None:
    cancel = Cancel()
    progress = Counted(cancel.request)
    with pytest.raises(InterruptedRunError):
        read_contents(*on_disk, jobs=2, directory=tmp_path, progress=progress, cancel=cancel)


class Cutter:
    """Cuts as pyfastcdc does, only simpler: after each `|`."""

    def __init__(self, _: int) -> None:
        pass

    def cut_stream(self, stream: Any) -> Any:
        data = bytearray()
        buffer = bytearray(7)
        while count := stream.readinto(memoryview(buffer)):
            data += buffer[:count]
        for part in bytes(data).split(b"|"):
            yield mock.Mock(length=len(part), data=part)


def test_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", mock.Mock(FastCDC=Cutter))
    volume = Volume()
    volume.push("a", squeeze(b"one|two|three|two"))
    volume.push("b", squeeze(b"two|four"))

    for _ in range(2):
        report = volume.read(level="chunk", directory=tmp_path)
        assert report.totals == {
            "layer_count": 2,
            "chunk_count": 6,
            "chunk_bytes": 21,
            "unique_chunk_count": 4,
            "unique_bytes": 15,
            "duplicate_bytes": 6,
        }
        assert [(row["size_bytes"], row["copies"]) for row in report.top] == [(3, 3)]
        assert report.top[0]["digest"].startswith("xxh3:")
        assert report.directories == []
        assert report.repositories[0] == {
            "name": "a",
            "chunk_count": 4,
            "chunk_bytes": 14,
            "unique_bytes": 8,
            "duplicate_bytes": 3,
        }
        assert report.pairs == [{"a": "a", "b": "b", "shared_bytes": 3}]
    assert volume.driver.counts["open"] == 2
    assert len(list((tmp_path / "contents").glob("*/*.chunks"))) == 2


def test_chunks_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    with pytest.raises(UsageError) as caught:
        Volume().read(level="chunk", directory=tmp_path)
    assert (caught.value.exit_code, caught.value.hint) == (2, "pip install 'regstore[chunk]'")


def test_true_chunks_cover_the_layer() -> None:
    pytest.importorskip("pyfastcdc")
    from regstore.report.chunks import iter_chunks

    data = os.urandom(3 << 20)
    sizes = [size for size, _ in iter_chunks(data[at : at + 99_999] for at in range(0, len(data), 99_999))]
    assert sum(sizes) == len(data)
    assert all(16 << 10 <= size <= 256 << 10 for size in sizes[:-1])


def test_another_level() -> None:
    with pytest.raises(ValueError, match="no level"):
        Volume().read(level="blob")


def test_advice_on_hidden_files_and_rebuilt_layers(tmp_path: Path) -> None:
    """Of the image that is given for a repository, and of all layers."""
    volume = Volume()
    data = [random.Random(number).randbytes(2 << 20) for number in range(3)]
    base = layer_of([("opt/tool", data[0]), ("etc/kept", data[1])])
    image = volume.push("app", base, layer_of([("opt/.wh.tool", b""), ("etc/new", data[2])]))
    volume.push("web", layer_of([("etc/kept", data[1]), ("opt/tool", data[0])]))

    found = [
        finding
        for _ in range(2)
        for finding in volume.read(newest={"app": image}, directory=tmp_path / "state").findings
    ]

    assert [finding.id for finding in found] == ["layers-rebuilt", "files-overwritten"] * 2
    assert f"{4 << 20} bytes were built again" in found[0].detail
    assert found[1].subject.startswith("app@sha256:")
    assert f"1 files with {2 << 20} bytes" in found[1].detail
    assert volume.read(level="chunk", newest={"app": image}, directory=tmp_path / "state").findings == []

"""Hashing blobs: which, in which order, what came of each, and what is remembered."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import fsck
from regstore.digest import Digest, parse_digest
from regstore.errors import InterruptedRunError
from regstore.fsck.data import Checked, Coverage, Selection, select_blobs, verify_blobs
from regstore.layout import BlobData
from regstore.registry import open_registry
from regstore.state import State
from regstore.work import Cancel
from regstore_drivers.base import Driver
from regstore_drivers.errors import Unavailable
from regstore_drivers.filesystem import FilesystemDriver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support import images
from support.damaged import Sample

NOW = 1_800_000_000.0
DAY = 86400.0
DIGESTS = st.lists(st.binary(min_size=32, max_size=32).map(Digest), unique=True, max_size=60)


@pytest.fixture
def state() -> Iterator[State]:
    """A state that is forgotten at the end."""
    made = State(None)
    yield made
    made.close()


def shards_of(digests: list[Digest]) -> list[set[Digest]]:
    """Sort digests as a listing does."""
    return [{digest for digest in digests if digest[0] == shard} for shard in range(256)]


def select(digests: list[Digest], state: State, seed: int = 0, **options: object) -> list[Digest]:
    """Select."""
    return select_blobs(shards_of(digests), Selection(**options), state, NOW, random.Random(seed))  # type: ignore[arg-type]


@given(DIGESTS, st.integers(1, 9))
def test_each_blob_is_in_exactly_one_part(digests: list[Digest], parts: int) -> None:
    state = State(None)
    selected = [select(digests, state, subset=(part, parts)) for part in range(1, parts + 1)]
    state.close()

    assert sorted(digest for part in selected for digest in part) == sorted(digests)


@given(DIGESTS, st.data())
def test_the_longest_unverified_come_first(digests: list[Digest], data: st.DataObject) -> None:
    state = State(None)
    ages = {digest: data.draw(st.none() | st.integers(0, 100), label="age") for digest in digests}
    for digest, age in ages.items():
        if age is not None:
            state.remember_verified([digest], NOW - age * DAY)

    selected = select(digests, state, older_than=30 * DAY)
    state.close()

    assert set(selected) == {digest for digest, age in ages.items() if age is None or age >= 30}
    order = [1000 if ages[digest] is None else ages[digest] for digest in selected]
    assert order == sorted(order, key=lambda age: -(age or 0))


def test_a_sample_is_drawn_at_random(state: State) -> None:
    digests = [parse_digest(images.digest_of(bytes([n % 256, n // 256]))) for n in range(1000)]

    drawn = [set(select(digests, state, seed, sample=0.05)) for seed in (1, 2)]

    assert all(20 < len(part) < 90 for part in drawn)
    assert drawn[0] != drawn[1]


@pytest.fixture(params=["directory", "object store"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    """Both ways of reading."""
    return FilesystemDriver(str(tmp_path)) if request.param == "directory" else MemoryDriver()


def store(driver: Driver, data: bytes, name: bytes | None = None, algorithm: str = "sha256") -> Digest:
    """Store data under the digest of those that they should be."""
    digest = parse_digest(images.digest_of(data if name is None else name, algorithm))
    driver.write(BlobData(digest).key, data, len(data))
    return digest


def verify(driver: Driver, state: State, *digests: Digest, **options: object) -> dict[Digest, Checked]:
    """Verify blobs."""
    settings = {"jobs": 2, "now": NOW, **options}
    return {one.digest: one for one in verify_blobs(driver, digests, state, **settings)}  # type: ignore[arg-type]


def test_what_comes_of_each(driver: Driver, state: State) -> None:
    large = random.Random(1).randbytes(3_000_000)
    good, empty, big = store(driver, b"good"), store(driver, b""), store(driver, large)
    long = store(driver, b"sha512", algorithm="sha512")
    flipped = bytearray(large)
    flipped[-1] ^= 1
    rotten, short = store(driver, bytes(flipped), large + b"1"), store(driver, b"go", b"gone")
    gone = parse_digest(images.digest_of(b"never stored"))
    state.remember_verified([rotten, gone], NOW - DAY)

    seen = verify(driver, state, good, empty, big, long, rotten, short, gone)

    assert {digest: (one.outcome, one.size) for digest, one in seen.items()} == {
        good: ("good", 4),
        empty: ("good", 0),
        big: ("good", 3_000_000),
        long: ("good", 6),
        rotten: ("corrupt", 3_000_000),
        short: ("corrupt", 2),
        gone: ("gone", 0),
    }
    assert images.digest_of(b"go") in seen[short].detail
    remembered = {digest: at for shard in range(256) for digest, at in state.verified_times(shard).items()}
    assert remembered == dict.fromkeys([good, empty, big], NOW)


def test_one_that_cannot_be_read_does_not_end_it(state: State) -> None:
    driver = Faulty(MemoryDriver())
    first, second = store(driver, b"first"), store(driver, b"second")
    state.remember_verified([first], NOW - DAY)
    driver.fail("open", BlobData(first).key, Unavailable("the disk is tired"))

    seen = verify(driver, state, first, second)

    assert (seen[first].outcome, seen[second].outcome) == ("unreadable", "good")
    assert "the disk is tired" in seen[first].detail
    assert state.verified_times(first[0])[first] == NOW - DAY  # it was whole then


def test_a_stopped_run_remembers_what_it_did_and_the_next_one_goes_on(driver: Driver, state: State) -> None:
    digests = [store(driver, b"%d" % number) for number in range(200)]
    cancel = Cancel()
    seen = []

    def run() -> None:
        for one in verify_blobs(driver, select(digests, state), state, jobs=1, now=NOW, cancel=cancel):
            seen.append(one.digest)
            if len(seen) == 50:
                cancel.request()

    with pytest.raises(InterruptedRunError):
        run()
    left = select(digests, state, older_than=DAY)

    assert 50 <= len(seen) < 200
    assert set(left) == set(digests) - set(seen)


def test_a_blob_is_left_in_its_midst_when_the_run_is_to_stop(driver: Driver, state: State) -> None:
    large = store(driver, bytes(5_000_000))
    cancel = Cancel()

    class Stopping:
        seen = 0

        def start(self, phase: str, total: int | None = None) -> None: ...

        def advance(self, count: int = 1) -> None:
            self.seen += count
            cancel.request()

        def finish(self) -> None: ...

    progress = Stopping()
    with pytest.raises(InterruptedRunError):
        verify(driver, state, large, progress=progress, cancel=cancel)

    assert 0 < progress.seen < 5_000_000
    assert state.verified_times(large[0]) == {}


def test_no_blob_is_begun_when_the_time_is_over(driver: Driver, state: State) -> None:
    digests = [store(driver, b"%d" % number) for number in range(100)]
    ticks = iter(range(1000))

    seen = verify(driver, state, *digests, jobs=1, time_budget=5.0, clock=lambda: float(next(ticks)))

    assert 0 < len(seen) < 100
    assert all(one.outcome == "good" for one in seen.values())


def test_a_limited_bandwidth_gives_the_same_answers(driver: Driver, state: State) -> None:
    good, rotten = store(driver, b"good"), store(driver, b"bad", b"worse")

    seen = verify(driver, state, good, rotten, bandwidth=1 << 20)

    assert (seen[good].outcome, seen[rotten].outcome) == ("good", "corrupt")


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_stored_checksum_counts_only_when_it_is_trusted(state: State, *, is_trusted: bool) -> None:
    class Vouching(MemoryDriver):
        def stored_checksum(self, key: str) -> str | None:
            return vouched.get(key)

    driver = Vouching()
    good, rotten, odd = store(driver, b"good"), store(driver, b"bad", b"worse"), store(driver, b"odd", b"other")
    vouched = {BlobData(rotten).key: images.digest_of(b"worse"), BlobData(odd).key: images.digest_of(b"odd")}

    seen = verify(driver, state, good, rotten, odd, trust_stored_checksums=is_trusted)

    outcomes = [seen[digest].outcome for digest in (good, rotten, odd)]
    assert outcomes == ["good", "good" if is_trusted else "corrupt", "corrupt"]


def test_shares_by_age() -> None:
    coverage = Coverage()
    for size, age in ((100, None), (200, 0.5), (300, 10), (400, 400)):
        coverage.add(size, None if age is None else NOW - age * DAY, NOW)

    assert (coverage.blob_count, coverage.total_bytes) == (4, 1000)
    assert coverage.verified_count == {"1d": 1, "7d": 1, "30d": 2, "90d": 2, "ever": 3}
    assert coverage.verified_bytes == {"1d": 200, "7d": 200, "30d": 500, "90d": 500, "ever": 900}


class TestInACheck:
    @pytest.fixture
    def sample(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
        """A whole volume."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        return Sample(tmp_path / "volume")

    def check(self, sample: Sample, **options: object) -> fsck.CheckResult:
        """Check the data."""
        return fsck.check_registry(open_registry(str(sample.root)), fsck.Options(data=True, **options))  # type: ignore[arg-type]

    def test_a_flipped_bit_is_found_and_hurts_images(self, sample: Sample) -> None:
        sample.flip(sample.shared)
        assert fsck.check_registry(open_registry(str(sample.root)), fsck.Options()).findings == []

        result = self.check(sample)

        found = result.findings[0]
        assert [f.id for f in result.findings] == ["blob-corrupt"]
        assert (found.subject, found.images) == (sample.shared, ("app:moved", "app:v1", "app:v2", "other:v1"))
        assert [digest for sign, digest in result.iter_signs() if sign == "!"] == [parse_digest(sample.shared)]
        assert result.counts.verified_count == result.counts.blob_count - 1

    def test_a_cut_off_blob_is_one_finding(self, sample: Sample) -> None:
        sample.cut(sample.shared, 5)

        assert [f.id for f in self.check(sample).findings] == ["blob-corrupt"]

    def test_what_is_being_written_is_looked_at_twice(self, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
        sample.flip(sample.shared)
        waited: list[float] = []

        def heal(cancel: Cancel, seconds: float) -> None:
            waited.append(seconds)
            sample.flip(sample.shared)

        monkeypatch.setattr(Cancel, "wait", heal)

        result = self.check(sample)

        assert result.findings == []
        assert [seconds > 1 for seconds in waited] == [True]

    def test_the_next_run_reads_only_what_is_due(self, sample: Sample) -> None:
        first = self.check(sample)
        assert first.coverage is not None
        assert first.coverage.verified_bytes["1d"] == first.coverage.total_bytes == first.counts.stored_bytes
        sample.flip(sample.shared)

        again = self.check(sample, older_than=DAY)

        assert (again.counts.verified_count, again.findings) == (0, [])
        assert self.check(sample).findings != []
        after = self.check(sample, older_than=DAY)
        assert [f.id for f in after.findings] == ["blob-corrupt"]  # what was bad is not forgotten

    def test_a_repair_moves_bad_data_away_and_undo_brings_them_back(self, sample: Sample) -> None:
        sample.flip(sample.shared)
        damaged = sample.contents
        registry = open_registry(str(sample.root))
        options, result = fsck.RepairOptions(), self.check(sample)
        plan = fsck.plan_repair(registry, result, options)

        done = fsck.repair_registry(registry, result, plan, options, check_options=fsck.Options(data=True))

        assert [f.id for f in done.left.findings] == ["blob-missing", "directory-empty"]
        assert not os.path.exists(sample.path(BlobData(parse_digest(sample.shared)).key))
        assert fsck.undo_repair(registry).restored_count == 1
        assert sample.contents == damaged

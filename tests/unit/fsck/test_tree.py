"""The walk over a directory: owners, names, strays, leftovers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore import layout
from regstore.errors import InterruptedRunError
from regstore.findings import Severity
from regstore.fsck.catalogue import CheckFinding
from regstore.fsck.owners import Spots, iter_findings
from regstore.fsck.tree import TreeResult, walk_tree
from regstore.work import Cancel, NoProgress
from support.damaged import Sample
from support.volume import V2, blob_key, layer_link_key, revision_link_key, tag_link_key, write_file

USER = 4711
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A whole volume."""
    return Sample(tmp_path / "volume")


def walk(root: Path) -> TreeResult:
    """Walk."""
    return walk_tree(str(root), NoProgress(), Cancel())


def give(path: str | Path, uid: int = USER, gid: int = USER) -> None:
    """Give a file, or all below a directory, to a user."""
    os.chown(path, uid, gid)
    for directory, names, files in os.walk(path):
        for name in [*names, *files]:
            os.chown(os.path.join(directory, name), uid, gid)


def told(result: TreeResult) -> list[tuple[str, str]]:
    """Return id and subject of what is not only counted."""
    return sorted((f.id, f.subject) for f in result.findings if f.id != "directory-empty")


def test_a_whole_volume_has_nothing_to_tell(sample: Sample) -> None:
    result = walk(sample.root)

    assert told(result) == []
    assert result.file_count == len(sample.contents)
    assert result.total_bytes == sum(map(len, sample.contents.values()))
    assert result.directory_count == 1 + sum(path.is_dir() for path in (sample.root / V2).rglob("*"))


def test_what_does_not_belong_is_told(sample: Sample) -> None:
    root = sample.root
    for key in (
        f"{V2}/blobs/sha256/zz/file",
        f"{V2}/blobs/sha256/ab/{'ab' * 31}AB/data",
        f"{V2}/readme",
        f"{V2}/repositories/app/notes.txt",
        f"{V2}/repositories/Upper/_layers/sha256/x",
        f"{V2}/repositories/app/_manifests/tags/-bad/current/link",
        f"{V2}/repositories/app/_manifests/tags/-odd/file",
        f"{V2}/repositories/app/_uploads/one/other",
        f"{V2}/repositories/Stray/below/file",
        f"{layout.SOFT_DELETED}blobs/x",
    ):
        write_file(root, key, b"12345")

    assert told(walk(root)) == [
        ("name-illegal", f"{V2}/repositories/Upper"),
        ("name-illegal", f"{V2}/repositories/app/_manifests/tags/-bad"),
        ("soft-deleted", "docker-backup"),
        ("stray", f"{V2}/blobs/sha256/ab/{'ab' * 31}AB"),
        ("stray", f"{V2}/blobs/sha256/zz"),
        ("stray", f"{V2}/readme"),
        ("stray", f"{V2}/repositories/Stray"),
        ("stray", f"{V2}/repositories/app/_manifests/tags/-odd"),
        ("stray", f"{V2}/repositories/app/_uploads/one/other"),
        ("stray", f"{V2}/repositories/app/notes.txt"),
    ]


def test_half_written_files_are_left_over(sample: Sample) -> None:
    root = sample.root
    names = [
        blob_key(sample.shared).replace("/data", "/data.5b1c.tmp"),
        tag_link_key("app", "v1").replace("/link", "/link.5b1c.tmp"),
        f"{V2}/repositories/app/_manifests/.nfs000012",
        f"{V2}/blobs/.0011.regstore-tmp",
    ]
    for key in names:
        write_file(root, key, b"123")
        os.utime(root / key, (1_700_000_000, 1_700_000_000))

    result = walk(root)

    assert sorted(key for key, _, _ in result.leftovers) == sorted(names)
    assert {size for _, size, _ in result.leftovers} == {3}
    assert all(newest > 1_700_000_000 for _, _, newest in result.leftovers)  # the change time counts too
    assert told(result) == []


def test_more_strays_than_anybody_reads(sample: Sample) -> None:
    for number in range(1003):
        write_file(sample.root, f"{V2}/stray-{number:04}", b"")

    strays = [finding for finding in walk(sample.root).findings if finding.id == "stray"]

    assert len(strays) == 1001
    assert strays[-1].detail.startswith("3 more keys")


HEX = st.sampled_from(["ab" * 32, "cd" * 32, "ab" * 31 + "AB", "ab" * 64, "ab"])
NAMES = (
    "_layers _manifests _uploads revisions tags current index signatures hashstates blobs sha256 sha512 md5 link data "
    "startedat link.1.tmp data.1.tmp app Upper v1 -x ab cd 0 12"
)
PART = st.sampled_from(NAMES.split())
KEYS = st.builds(
    lambda area, parts: f"{V2}/{area}/{'/'.join(parts)}",
    st.sampled_from(["blobs", "repositories", "repositories/app", "repositories/app/_manifests", "other"]),
    st.lists(PART | HEX, min_size=1, max_size=7),
)


@given(st.lists(KEYS, min_size=1, max_size=12, unique=True))
def test_a_file_is_told_if_it_fits_no_pattern(keys: list[str]) -> None:
    """The walk knows the layout by position; the map of the layout knows it by pattern."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        written = []
        for key in keys:
            try:
                write_file(root, key, b"")
            except OSError:
                continue  # a file where a directory is, or the other way round
            written.append(key)
        result = walk(root)
        named = [f.subject for f in result.findings if f.id in ("stray", "name-illegal")]
        leftovers = {key for key, _, _ in result.leftovers}
        for key in written:
            is_told = any(key == subject or key.startswith(f"{subject}/") for subject in named)
            spec = layout.parse_key(key)
            assert (key in leftovers) == (isinstance(spec, layout.Leftover) and not is_told), key
            assert is_told == isinstance(spec, layout.Stray), key


@needs_root
class TestOwners:
    @pytest.fixture
    def owned(self, sample: Sample) -> Sample:
        """A volume of the registry's user."""
        give(sample.root)
        return sample

    def test_one_file_is_named(self, owned: Sample) -> None:
        link = tag_link_key("app", "v1")
        os.chown(owned.path(link), 0, 0)
        os.chmod(owned.path(link), 0o600)

        result = walk(owned.root)

        assert told(result) == [("owner-unreadable", link)]
        found = next(f for f in result.findings if f.id == "owner-unreadable")
        assert (found.evidence["count"], found.evidence["uid"], found.evidence["majority_uid"]) == (1, 0, USER)

    @pytest.mark.parametrize(
        ("mode", "kind"), [(0o755, "owner-unwritable"), (0o777, "owner-differs"), (0o750, "owner-unreadable")]
    )
    def test_a_subtree_is_one_finding(self, owned: Sample, mode: int, kind: str) -> None:
        subtree = f"{V2}/repositories/app"
        give(owned.path(subtree), 1234, 1234)
        for number, path in enumerate((owned.root / subtree).rglob("*")):
            path.chmod(mode & (0o777 if path.is_dir() else 0o666))
            if number % 2 and path.is_dir():
                path.chmod(mode | 0o100)  # modes are mixed, as 2.8 leaves them
        os.chmod(owned.path(subtree), mode)

        result = walk(owned.root)

        assert told(result) == [(kind, subtree)]
        found = next(f for f in result.findings if f.id == kind)
        assert found.evidence["count"] == 1 + sum(1 for _ in (owned.root / subtree).rglob("*"))

    def test_a_directory_above_the_tree(self, owned: Sample) -> None:
        os.chown(owned.path("docker"), 0, 0)
        os.chmod(owned.path("docker"), 0o700)

        assert told(walk(owned.root)) == [("owner-unwritable", "docker")]

    def test_what_the_user_may_use_all_the_same_is_a_warning(self, owned: Sample) -> None:
        link = revision_link_key("other", owned.other.digest)
        os.chown(owned.path(link), 0, 0)
        os.chmod(owned.path(link), 0o644)

        found = [f for f in walk(owned.root).findings if f.id.startswith("owner-")]

        assert [(f.id, f.severity, f.subject) for f in found] == [("owner-differs", Severity.WARNING, link)]

    def test_a_directory_that_the_user_cannot_write(self, owned: Sample) -> None:
        directory = os.path.dirname(layer_link_key("other", owned.shared))
        os.chmod(owned.path(directory), 0o555)

        assert told(walk(owned.root)) == [("owner-unwritable", directory)]

    def test_root_may_do_everything(self, owned: Sample) -> None:
        give(owned.root, 0, 0)
        os.chmod(owned.path(tag_link_key("app", "v1")), 0)

        assert told(walk(owned.root)) == []

    def test_a_directory_that_cannot_be_listed_is_told_and_the_rest_goes_on(self, owned: Sample) -> None:
        closed = f"{V2}/repositories/app/_manifests/tags"
        os.chown(owned.path(closed), 0, 0)
        os.chmod(owned.path(closed), 0o700)
        write_file(owned.root, f"{V2}/stray", b"")
        os.chown(owned.path(f"{V2}/stray"), USER, USER)
        program = f"""
import os
from regstore.fsck.tree import walk_tree
from regstore.work import Cancel, NoProgress
os.chmod({str(owned.root.parent)!r}, 0o755)
os.setuid({USER})
for found in walk_tree({str(owned.root)!r}, NoProgress(), Cancel()).findings:
    print(found.id, found.subject)
"""
        for parent in owned.root.parents[:-2]:
            os.chmod(parent, os.stat(parent).st_mode | 0o055)
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        lines = result.stdout.splitlines()
        assert f"storage-error {owned.path(closed)}" in lines
        assert f"stray {V2}/stray" in lines


def test_links_are_followed_where_a_registry_does(sample: Sample, tmp_path: Path) -> None:
    repository, blobs = tmp_path / "repository", tmp_path / "blobs"
    (sample.root / V2 / "repositories/other").rename(repository)
    (sample.root / V2 / "repositories/other").symlink_to(repository)
    (sample.root / V2 / "blobs").rename(blobs)
    (sample.root / V2 / "blobs").symlink_to(blobs)
    (repository / "loop").symlink_to(repository)
    (sample.root / V2 / "repositories/app/up").symlink_to(sample.root / V2 / "repositories")
    write_file(repository, "stray", b"")
    write_file(blobs, "stray", b"")
    before = sum(path.is_file() for top in (sample.root, repository, blobs) for path in top.rglob("*"))

    result = walk(sample.root)

    assert told(result) == [("stray", f"{V2}/blobs/stray"), ("stray", f"{V2}/repositories/other/stray")]
    assert result.file_count == before


def test_deep_and_long_names(sample: Sample) -> None:
    deep = f"{V2}/repositories/" + "/".join(["a"] * 400)
    long = f"{V2}/repositories/" + "/".join(["a" * 100] * 3)
    write_file(sample.root, f"{deep}/file", b"")
    write_file(sample.root, f"{long}/_layers/sha256/{'0' * 64}/link", b"")

    assert [(kind, subject[:40]) for kind, subject in told(walk(sample.root))] == [
        ("name-illegal", long[:40]),
        ("stray", f"{V2}/repositories/a"),
    ]


def test_a_strange_directory_with_a_legal_name_is_one_stray(sample: Sample) -> None:
    for number in range(5):
        write_file(sample.root, f"{V2}/repositories/dump/2020/{number}", b"")
        write_file(sample.root, f"{V2}/repositories/app/dump/{number}", b"")

    assert told(walk(sample.root)) == [("stray", f"{V2}/repositories/app/dump"), ("stray", f"{V2}/repositories/dump")]


def test_what_is_no_file_is_strange_wherever_it_lies(sample: Sample) -> None:
    sample.drop(blob_key(sample.shared))
    os.mkfifo(sample.path(blob_key(sample.shared)))

    assert told(walk(sample.root)) == [("stray", blob_key(sample.shared))]


def test_a_request_to_stop(sample: Sample) -> None:
    cancel = Cancel()
    cancel.request()
    with pytest.raises(InterruptedRunError):
        walk_tree(str(sample.root), NoProgress(), cancel)


def test_a_volume_that_is_gone_is_told_by_others(tmp_path: Path) -> None:
    assert walk(tmp_path).findings == []


def status(uid: int, mode: int = 0o644) -> os.stat_result:
    """Return the status of a file of a user, in the group of the same number."""
    return os.stat_result((mode | 0o100000, 0, 0, 1, uid, uid, 0, 0, 0, 0))


def judge(*owners: int) -> list[CheckFinding]:
    """Return the findings of some files of these owners."""
    spots = Spots()
    for number, owner in enumerate(owners):
        spots.add(f"{owner}-{number}", status(owner))
    return list(iter_findings(spots, "all"))


def test_the_majority_does_not_depend_on_an_order() -> None:
    assert [f.subject.partition("-")[0] for f in judge(1, 2)] == ["2"]
    assert [f.subject.partition("-")[0] for f in judge(2, 1)] == ["2"]
    assert judge() == []


def test_what_is_too_much_to_be_listed_is_counted() -> None:
    found = judge(*[1] * 200, *[2] * 120)

    assert len(found) == 51
    assert (found[-1].subject, found[-1].evidence["count"]) == ("all", 70)
    assert sum(f.evidence["count"] for f in found) == 120

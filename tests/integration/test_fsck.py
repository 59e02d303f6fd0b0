"""Volumes that a real registry wrote: every damage is found, repaired, and the repair taken back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.collection import Volume, files_of
from support.damaged import Files
from support.hurt_volume import CASES, HurtVolume, push_cases
from support.images import layers
from support.programs import require_program
from support.pusher import ApiError, BrokenImage, Pusher
from support.registry import BINARY

pytestmark = pytest.mark.registry
SERVED = {"schema1": True, "foreign_urls": True}
OWNER = 12345
BAD = ("warning", "error", "critical")


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> HurtVolume:
    """A whole volume that a real registry wrote once for all tests, and that another user owns."""
    require_program(BINARY, "docker-registry")
    workdir = tmp_path_factory.mktemp("backup")
    whole = push_cases(Volume(workdir / "volume", workdir))
    for path in (whole.volume.root, *whole.volume.root.rglob("*")):
        path.chmod(0o2750 if path.is_dir() else 0o640)
    give_to_owner(whole.volume.root)
    return whole


@pytest.fixture
def hurt(backup: HurtVolume, tmp_path: Path) -> HurtVolume:
    """A copy of it with every damage at once."""
    volume = Volume(tmp_path / "volume", tmp_path)
    copy_tree(backup.volume.root, volume.root)
    copy = HurtVolume(volume, backup.pushed, backup.whole)
    copy.damage()
    give_to_owner(volume.root)
    return copy


def give_to_owner(root: Path) -> None:
    """Give everything to the owner of the volume: what a registry writes here is of the user of the tests."""
    for path in (root, *root.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, OWNER, OWNER)


def copy_tree(source: Path, target: Path) -> None:
    """Copy with owners."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def bad(document: dict[str, object]) -> list[tuple[str, str, list[str]]]:
    """Return id, subject and images of the findings of severity warning or worse, sorted."""
    found: list[dict[str, object]] = document["findings"]  # type: ignore[assignment]
    return sorted((f["id"], f["subject"], f["images"]) for f in found if f["severity"] in BAD)  # type: ignore[misc]


def by_repository(findings: list[tuple[str, str, list[str]]]) -> dict[str, list[str]]:
    """Return repository to the ids that hurt it; those that hurt no image are under an empty name."""
    found: dict[str, list[str]] = {}
    for kind, _, images in findings:
        found.setdefault(images[-1].partition(":")[0] if images else "", []).append(kind)
    return found


def left(hurt: HurtVolume, which: Callable[[str], tuple[str, ...]]) -> dict[str, list[str]]:
    """Return what `by_repository` says when that is left of each case."""
    return {hurt.pushed[name].name: list(which(name)) for name in CASES if which(name)}


def test_every_damage_is_found_with_the_images_that_it_hurts(hurt: HurtVolume, tmp_path: Path) -> None:
    """Exactly these findings with exactly these images; not a byte, mode, owner or time is other afterwards."""
    before = hurt.volume.snapshot()
    combined = tmp_path / "combined"

    done = hurt.volume.fsck("--data", "--combined", combined).expect(1)

    assert bad(done.json) == hurt.expected
    assert hurt.volume.snapshot() == before
    assert os.listdir(hurt.volume.root) == ["docker"]
    signs = dict(line.split(" ")[::-1] for line in combined.read_text().splitlines())
    pushed = hurt.pushed
    assert signs[pushed["layer-flipped"].layer] == "!"
    assert signs[pushed["manifest-empty"].app.digest] == "!"
    assert signs[pushed["shared-layer-missing"].layer] == "-"
    assert signs[pushed["tag-newline"].layer] == "="


def test_a_whole_volume_has_no_findings(backup: HurtVolume) -> None:
    """Foreign, nested, signed, cached, of the first kind: all is well, and the exit code 0."""
    before = backup.volume.snapshot()
    done = backup.volume.fsck("--data", "--layers").expect(0)
    assert bad(done.json) == []
    assert backup.volume.snapshot() == before


def test_without_reading_data_a_flipped_bit_is_not_seen_and_a_wrong_size_is(hurt: HurtVolume) -> None:
    """The check of the structure finds all the rest."""
    done = hurt.volume.fsck().expect(1)

    expected = [found for found in hurt.expected if found[0] != "blob-corrupt"]
    cut = hurt.pushed["layer-cut"]
    assert bad(done.json) == sorted([*expected, ("blob-size", cut.layer, [f"{cut.name}:v1"])])


def assert_repaired_from(
    hurt: HurtVolume, backup: HurtVolume, source: object, environment: dict[str, str] | None = None
) -> None:
    """Repair, and see that all files are as in the backup, modes and owners too, and every tag is served whole."""
    volume = hurt.volume
    first = volume.fsck("--repair", "--yes", "--data", "--from", source, environment=environment).expect(1)
    assert by_repository(bad(first.json)) == left(hurt, lambda name: CASES[name].left_with_backup)
    assert len(first.json["repair"]["proposals"]) == 2

    options = ("--repair", "--yes", "--accept-proposals")
    second = volume.fsck(*options, "--from", source, environment=environment).expect(1)
    assert [kind for kind, _, _ in bad(second.json)] == ["manifest-unknown"]
    before, after = files_of(backup.volume.snapshot()), files_of(volume.snapshot())
    assert {path: after[path][:4] for path in before} == {path: state[:4] for path, state in before.items()}
    volume.assert_whole(hurt.whole, others=False, **SERVED)


def test_a_directory_gives_everything_back(hurt: HurtVolume, backup: HurtVolume, tmp_path: Path) -> None:
    """Every tag whole, owner and modes as before, and skopeo copies what it asks for."""
    skopeo = require_program("skopeo", "skopeo")
    assert_repaired_from(hurt, backup, backup.volume.root)

    with hurt.volume.registry() as registry:
        for name in ("child-link-missing", "manifest-rotten-json", "layer-flipped"):
            source = f"docker://{registry.address}/{name}:v1"
            command = [skopeo, "--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", source]
            subprocess.run([*command, f"dir:{tmp_path}/{name}"], check=True, capture_output=True)


def test_a_running_registry_gives_everything_back(hurt: HurtVolume, backup: HurtVolume) -> None:
    """By URL, the repositories found by their names."""
    with backup.volume.registry(**SERVED) as registry:
        assert_repaired_from(hurt, backup, registry.url)


def test_without_a_source_links_are_repaired_and_bad_data_moved_away(hurt: HurtVolume) -> None:
    """What is left is what must be pushed again, each with its images; undo brings back bytes, owners and times."""
    volume = hurt.volume
    damaged = files_of(volume.snapshot())

    done = volume.fsck("--repair", "--yes", "--data").expect(1)

    assert by_repository(bad(done.json)) == left(hurt, lambda name: CASES[name].left)
    again = volume.fsck("--repair", "--yes", "--data").expect(1)
    assert again.json["repair"]["run_id"] is None
    assert bad(again.json) == bad(done.json)
    undone = volume.fsck_undo()
    assert undone["run_id"] == done.json["repair"]["run_id"]
    assert files_of(volume.snapshot()) == damaged
    assert volume.fsck_undo()["run_id"] is None


def test_an_undo_leaves_what_was_fetched(hurt: HurtVolume, backup: HurtVolume) -> None:
    """Right data stay where bad or no data were; all the rest is as before the repair."""
    volume = hurt.volume
    damaged, good = files_of(volume.snapshot()), files_of(backup.volume.snapshot())
    done = volume.fsck("--repair", "--yes", "--data", "--from", backup.volume.root).expect(1)

    undone = volume.fsck_undo()

    after = files_of(volume.snapshot())
    other = {path for path in after.keys() | damaged.keys() if after.get(path) != damaged.get(path)}
    assert {path.split("/")[2] for path in other} == {"blobs"}
    assert len(other) == done.json["repair"]["done"]["fetch"]
    assert {path: after[path][:4] for path in other} == {path: good[path][:4] for path in other}
    assert undone["kept_count"] == done.json["repair"]["done"]["quarantine"]
    assert undone["withdrawn_count"] == done.json["repair"]["done"]["write"]


@pytest.mark.parametrize("client_kind", ["pusher", "skopeo"])
def test_pushing_again_heals_what_was_moved_away_and_nothing_before(
    backup: HurtVolume, volume: Volume, tmp_path: Path, client_kind: str
) -> None:
    """A registry says 201 and keeps the corrupt data; once they are moved away, a push stores them anew."""
    names = ("layer-flipped", "config-flipped", "manifest-flipped")
    copy_tree(backup.volume.root, volume.root)
    for name in names:
        CASES[name].inflict(Files(volume.root), backup.pushed[name])
    skopeo = require_program("skopeo", "skopeo")

    def push(address: str) -> None:
        if client_kind == "pusher":
            with Pusher(f"http://{address}", head_first=True) as client:
                for name in names:
                    assert client.push_image(name, "v1", layers(2, name)).digest == backup.pushed[name].app.digest
            return
        with backup.volume.registry() as origin:
            for name in names:
                command = [skopeo, "--insecure-policy", "copy", "-q", "--preserve-digests", "--src-tls-verify=false"]
                paths = [f"docker://{origin.address}/{name}:v1", f"docker://{address}/{name}:v1"]
                subprocess.run([*command, "--dest-tls-verify=false", *paths], check=True, capture_output=True)

    def broken() -> set[str]:
        found = set()
        with volume.serving() as client:
            for name in names:
                try:
                    client.pull(name, "v1")
                except (BrokenImage, ApiError):
                    found.add(name)
        return found

    with volume.registry() as registry:
        push(registry.address)
    assert broken() == set(names)
    done = volume.fsck("--repair", "--yes", "--data").expect(1)
    assert sorted(image for _, _, images in bad(done.json) for image in images) == [f"{n}:v1" for n in sorted(names)]

    with volume.registry(cache="inmemory") as registry:
        push(registry.address)
    give_to_owner(volume.root)

    assert broken() == set()
    assert bad(volume.fsck("--data").expect(0).json) == []

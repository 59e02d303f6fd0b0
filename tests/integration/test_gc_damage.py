"""Damaged volumes: what cannot be believed freezes its own repository and nothing else; what cannot be read stops all.

The volumes are a real registry's; the damage is done to their files.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.collection import OFFLINE, Volume, Whole, contents_of, pulled, push_garbage
from support.foreign import Foreign, foreign_copy
from support.images import Image, digest_of, encode, layer, layers
from support.programs import require_program
from support.pusher import Pusher
from support.registry import BINARY
from support.volume import (
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
)

pytestmark = pytest.mark.registry

OTHER = digest_of(b"another digest")


@dataclass
class Hurt:
    """What one repository holds before it is hurt: a tagged image, an index over two, and a deleted image."""

    name: str
    app: Image
    index: Image
    children: list[Image]
    deleted: Image

    def link(self, key: Callable[..., str], *rest: str) -> str:
        """Return a key in this repository."""
        return key(self.name, *rest)


def push_hurt(client: Pusher, name: str) -> Hurt:
    """Push what a case is about."""
    index, children = client.push_multi_arch(name, "multi", f"{name} multi")
    app = client.push_image(name, "v1", layers(2, f"{name} app"))
    return Hurt(name, app, index, children, push_garbage(client, name))


Spoil = Callable[[Volume, Hurt], None]
Findings = Callable[[Hurt], list[tuple[str, str, str]]]


def write(key: Callable[[Hurt], str], data: bytes | str) -> Spoil:
    """Make a spoiler that replaces the content of a file."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        assert volume.path(key(hurt)).exists()
        volume.writer.put(key(hurt), data)

    return spoil


def remove(*keys: Callable[[Hurt], str]) -> Spoil:
    """Make a spoiler that removes files, or directories with all that is in them."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        for key in keys:
            path = volume.path(key(hurt))
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    return spoil


def tag_key(hurt: Hurt) -> str:
    return tag_link_key(hurt.name, "v1")


def revision_key(hurt: Hurt) -> str:
    return revision_link_key(hurt.name, hurt.app.digest)


def layer_key(hurt: Hurt) -> str:
    return layer_link_key(hurt.name, hurt.app.layers[0])


def config_key(hurt: Hurt) -> str:
    return layer_link_key(hurt.name, str(hurt.app.config))


def manifest_key(hurt: Hurt) -> str:
    return blob_key(hurt.app.digest)


def child_key(hurt: Hurt) -> str:
    return blob_key(hurt.children[1].digest)


def child_revision_key(hurt: Hurt) -> str:
    return revision_link_key(hurt.name, hurt.children[1].digest)


def flip(key: Callable[[Hurt], str]) -> Spoil:
    """Make a spoiler that flips one bit in the middle."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        data = bytearray(volume.path(key(hurt)).read_bytes())
        data[len(data) // 2] ^= 4
        volume.writer.put(key(hurt), bytes(data))

    return spoil


def truncate(key: Callable[[Hurt], str]) -> Spoil:
    """Make a spoiler that cuts a file in the middle."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        data = volume.path(key(hurt)).read_bytes()
        volume.writer.put(key(hurt), data[: len(data) // 2])

    return spoil


def end_with_newline(key: Callable[[Hurt], str]) -> Spoil:
    """Make a spoiler that appends what an editor appends."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        volume.writer.put(key(hurt), volume.path(key(hurt)).read_bytes() + b"\n")

    return spoil


def add_manifest(data: bytes) -> Spoil:
    """Make a spoiler that tags bytes that are no manifest of a known kind, under their true digest."""

    def spoil(volume: Volume, hurt: Hurt) -> None:
        volume.writer.manifest(hurt.name, data, "strange")

    return spoil


def one(finding: str, severity: str, subject: Callable[[Hurt], str]) -> Findings:
    return lambda hurt: [(finding, severity, subject(hurt))]


def of_manifest(finding: str, severity: str, digest: Callable[[Hurt], str]) -> Findings:
    return lambda hurt: [(finding, severity, f"{hurt.name}@{digest(hurt)}")]


def strange(data: bytes) -> tuple[Spoil, Findings]:
    """Return a case of a manifest of no known kind."""
    return add_manifest(data), of_manifest("manifest-unknown", "warning", lambda _: digest_of(data))


def all_layer_links(hurt: Hurt) -> list[tuple[str, str, str]]:
    digests = {d for image in (hurt.app, *hurt.children) for d in (*image.layers, str(image.config))}
    return sorted(("layer-link-missing", "error", layer_link_key(hurt.name, digest)) for digest in digests)


UNKNOWN_TYPE = encode({"schemaVersion": 2, "mediaType": "application/vnd.example.thing.v1+json", "layers": []})
WRONG_FIELD = encode({"schemaVersion": 2, "manifests": {"digest": OTHER}})
TWO_KINDS = encode(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
        "layers": [{"digest": OTHER}],
    }
)

CASES: dict[str, tuple[Spoil, Findings]] = {
    "tag link empty": (write(tag_key, b""), one("link-malformed", "error", tag_key)),
    "tag link short": (write(tag_key, b"sha256:0123"), one("link-malformed", "error", tag_key)),
    "tag link ends with newline": (end_with_newline(tag_key), one("link-malformed", "error", tag_key)),
    "tag link binary": (write(tag_key, b"\0\xff\xfe" * 30), one("link-malformed", "error", tag_key)),
    "tag link unknown algorithm": (write(tag_key, "md5:" + "0" * 32), one("link-malformed", "error", tag_key)),
    "tag link upper case": (write(tag_key, OTHER.upper()), one("link-malformed", "error", tag_key)),
    "tag link missing": (remove(tag_key), one("tag-link-missing", "error", tag_key)),
    "tag of no revision": (
        write(tag_key, OTHER),
        lambda hurt: [
            ("manifest-missing", "error", f"{hurt.name}@{OTHER}"),
            ("revision-missing", "error", f"{hurt.name}:v1"),
        ],
    ),
    "revision link empty": (write(revision_key, b""), one("link-malformed", "error", revision_key)),
    "revision link short": (write(revision_key, b"sha256:0123"), one("link-malformed", "error", revision_key)),
    "revision link ends with newline": (end_with_newline(revision_key), one("link-malformed", "error", revision_key)),
    "revision link of other digest": (write(revision_key, OTHER), one("link-mismatch", "error", revision_key)),
    "revision link missing under live tag": (
        remove(revision_key),
        one("revision-missing", "error", lambda hurt: f"{hurt.name}:v1"),
    ),
    "layer link empty": (write(layer_key, b""), one("link-malformed", "error", layer_key)),
    "layer link short": (write(layer_key, b"sha256:0123"), one("link-malformed", "error", layer_key)),
    "layer link ends with newline": (end_with_newline(layer_key), one("link-malformed", "error", layer_key)),
    "layer link missing": (remove(layer_key), one("layer-link-missing", "error", layer_key)),
    "config link missing": (remove(config_key), one("layer-link-missing", "error", config_key)),
    "manifest empty": (
        write(manifest_key, b""),
        of_manifest("manifest-corrupt", "error", lambda hurt: hurt.app.digest),
    ),
    "manifest truncated": (
        truncate(manifest_key),
        of_manifest("manifest-corrupt", "error", lambda hurt: hurt.app.digest),
    ),
    "manifest bit flip": (flip(manifest_key), of_manifest("manifest-corrupt", "error", lambda hurt: hurt.app.digest)),
    "manifest missing": (
        remove(manifest_key),
        of_manifest("manifest-missing", "error", lambda hurt: hurt.app.digest),
    ),
    "manifest directory missing": (
        remove(lambda hurt: manifest_key(hurt).removesuffix("/data")),
        of_manifest("manifest-missing", "error", lambda hurt: hurt.app.digest),
    ),
    "manifest of unknown type": strange(UNKNOWN_TYPE),
    "manifest with field of wrong type": strange(WRONG_FIELD),
    "manifest of two kinds": strange(TWO_KINDS),
    "manifest no JSON": strange(b"<html>502 Bad Gateway</html>"),
    "index rotten": (
        flip(lambda hurt: blob_key(hurt.index.digest)),
        of_manifest("manifest-corrupt", "error", lambda hurt: hurt.index.digest),
    ),
    "child without revision link": (
        remove(child_revision_key),
        of_manifest("child-missing", "warning", lambda hurt: hurt.index.digest),
    ),
    "child without data": (
        remove(child_key),
        of_manifest("manifest-missing", "error", lambda hurt: hurt.children[1].digest),
    ),
    "child without link and data": (
        remove(child_revision_key, child_key),
        of_manifest("child-missing", "warning", lambda hurt: hurt.index.digest),
    ),
    "repository without _layers": (
        remove(lambda hurt: f"docker/registry/v2/repositories/{hurt.name}/_layers"),
        all_layer_links,
    ),
    "repository without revisions": (
        remove(lambda hurt: f"docker/registry/v2/repositories/{hurt.name}/_manifests/revisions"),
        lambda hurt: [
            ("child-missing", "warning", f"{hurt.name}@{hurt.index.digest}"),
            ("child-missing", "warning", f"{hurt.name}@{hurt.index.digest}"),
            ("revision-missing", "error", f"{hurt.name}:multi"),
            ("revision-missing", "error", f"{hurt.name}:v1"),
        ],
    ),
}
"""What is done to a repository, and what is found."""


@dataclass
class Template:
    """A volume that cases copy: one repository to be hurt, and one that shares nothing but luck with it."""

    volume: Volume
    hurt: Hurt
    whole: Whole
    sound: Whole
    garbage: Image

    def copy(self, to: Path) -> Volume:
        """Copy it for one case."""
        shutil.copytree(self.volume.root, to / "volume", symlinks=True)
        return Volume(to / "volume", to)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A volume that a real registry wrote once for all cases."""
    require_program(BINARY, "docker-registry")
    workdir = tmp_path_factory.mktemp("template")
    volume = Volume(workdir / "volume", workdir)
    with volume.serving() as client:
        hurt = push_hurt(client, "hurt/app")
        kept = client.push_image("sound", "v1", layers(2, "sound"))
        garbage = push_garbage(client, "sound")
        # Of the same layers, so that only the frozen repository's links keep them.
        for data in layers(2, "deleted hurt/app garbage"):
            client.push_blob("sound", data)
        whole = pulled(client, hurt.app, hurt.index)
        sound = pulled(client, kept)
    return Template(volume, hurt, whole, sound, garbage)


class Damage:
    """The difference between a volume as it was and as it is now, which can be made good again."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._before = {key: volume.path(key).read_bytes() for key in volume.file_keys()}

    def note(self) -> None:
        """Remember what was spoiled until now."""
        now = {key: self._volume.path(key).read_bytes() for key in self._volume.file_keys()}
        self._spoiled = {key: data for key, data in self._before.items() if now.get(key) != data}
        self._added = now.keys() - self._before.keys()
        assert self._spoiled or self._added

    def repair(self) -> None:
        """Write back what was spoiled, and nothing else."""
        for key in self._added:
            path = self._volume.path(key)
            path.unlink(missing_ok=True)
        for key, data in self._spoiled.items():
            self._volume.writer.put(key, data)


@pytest.mark.parametrize("case", CASES)
def test_damage_freezes_its_own_repository(template: Template, tmp_path: Path, case: str) -> None:
    """Exactly that is found, nothing of the repository goes, the rest is collected, and the exit code is 1.

    With the damage made good every tag is whole: nothing that it hid was taken for garbage.
    """
    volume, hurt = template.copy(tmp_path), template.hurt
    spoil, findings = CASES[case]
    damage = Damage(volume)
    spoil(volume, hurt)
    damage.note()
    mine = f"docker/registry/v2/repositories/{hurt.name}/"
    before = {key for key in volume.file_keys() if key.startswith(mine)}
    # Of the deleted image nothing links the manifest's data; its layers are linked, if any layer is.
    gone = {*template.garbage.digests, hurt.deleted.digest}
    if not volume.path(layer_link_key(hurt.name, hurt.deleted.layers[0])).exists():
        gone |= hurt.deleted.digests
    blobs = volume.blobs()

    done = volume.collect("--delete-untagged", code=1)

    assert done.findings == findings(hurt)
    for finding in done.json["findings"]:
        assert finding["detail"]
        assert "regstore fsck" in finding["repair"]
    assert {key for key in volume.file_keys() if key.startswith(mine)} == before
    assert blobs - volume.blobs() == gone
    assert done.removed == {"layer-link": 3 + 2, "blob": len(gone)}
    damage.repair()
    volume.assert_whole({**template.whole, **template.sound}, others=False)


def test_damage_that_is_new_to_the_memory_costs_nothing_live(volume: Volume) -> None:
    """What the state remembers may hide damage that came since, never makes a run remove more; tags are read always."""
    with volume.serving() as client:
        hurts = {case: push_hurt(client, f"case-{number}") for number, case in enumerate(CASES)}
        whole = pulled(client, *(image for hurt in hurts.values() for image in (hurt.app, hurt.index)))
    assert volume.plan(*OFFLINE).expect(0).removed["blob"] == 4 * len(hurts)
    damage = Damage(volume)
    for case, (spoil, _) in CASES.items():
        spoil(volume, hurts[case])
    damage.note()

    done = volume.collect("--delete-untagged", code=1)

    found = set(done.findings)
    for case, hurt in hurts.items():
        if case.startswith("tag "):
            assert found >= set(CASES[case][1](hurt)), case
    damage.repair()
    # A manifest that the damage added is rightly gone or kept; every image from before must be whole.
    with volume.serving() as client:
        assert {key: client.pull(*key) for key in whole} == whole


def test_plan_reports_damage_and_changes_nothing(template: Template, tmp_path: Path) -> None:
    """The same findings and code as the run, and not a byte or time is other."""
    volume = template.copy(tmp_path)
    CASES["manifest bit flip"][0](volume, template.hurt)
    CASES["tag link empty"][0](volume, template.hurt)
    before = volume.snapshot()

    plan = volume.plan(*OFFLINE).expect(1)
    quiet = volume.gc("plan", "-q", *OFFLINE, volume.root).expect(1)

    expected = CASES["manifest bit flip"][1](template.hurt) + CASES["tag link empty"][1](template.hurt)
    assert plan.findings == sorted(expected)
    assert quiet.stdout == ""
    for word in ("link-malformed", "manifest-corrupt", "hurt/app"):
        assert word in quiet.stderr
    assert volume.snapshot() == before
    assert volume.collect(code=1).json["removed"] == plan.json["removed"]


def test_missing_layer_data_are_found_and_freeze_nothing(template: Template, tmp_path: Path) -> None:
    """Links and manifests tell what is live, so a lost layer hinders no collection, not even of its repository."""
    volume, hurt = template.copy(tmp_path), template.hurt
    shutil.rmtree(volume.path(blob_key(hurt.app.layers[0])).parent)

    done = volume.collect(code=1)

    assert done.findings == [("blob-missing", "error", hurt.app.layers[0])]
    assert not set(hurt.deleted.digests) & volume.blobs()
    whole = {key: digests for key, digests in template.whole.items() if key[1] == "multi"}
    volume.assert_whole(whole | template.sound, others=False)


def test_shared_manifest_freezes_all_its_repositories(template: Template, tmp_path: Path) -> None:
    """The same rotten manifest in two repositories is a finding in each."""
    volume, hurt = template.copy(tmp_path), template.hurt
    with volume.serving() as client:
        client.push_image("second", "v1", layers(2, "hurt/app app"))
        second = push_garbage(client, "second")
    CASES["manifest bit flip"][0](volume, hurt)

    done = volume.collect(code=1)

    assert done.findings == [
        ("manifest-corrupt", "error", f"{hurt.name}@{hurt.app.digest}"),
        ("manifest-corrupt", "error", f"second@{hurt.app.digest}"),
    ]
    assert {*second.layers, *hurt.deleted.layers} <= volume.blobs()


def test_repository_of_uploads_without_manifests_is_collected(template: Template, tmp_path: Path) -> None:
    """Without `_manifests` a repository looks like one whose pushes all failed: it is garbage, and no damage."""
    volume, hurt = template.copy(tmp_path), template.hurt
    shutil.rmtree(volume.tree / f"repositories/{hurt.name}/_manifests")
    before = contents_of(volume.snapshot())

    done = volume.collect()

    assert done.findings == []
    assert not (set(hurt.app.digests) | set(hurt.index.digests)) & volume.blobs()
    volume.assert_whole(template.sound)
    volume.undo()
    assert contents_of(volume.snapshot()) == before


def test_repository_without_tags_directory_keeps_its_manifests(template: Template, tmp_path: Path) -> None:
    """Images pushed by digest only look like this: all are kept, unless untagged ones are to go."""
    volume, hurt = template.copy(tmp_path), template.hurt
    shutil.rmtree(volume.tree / f"repositories/{hurt.name}/_manifests/tags")

    done = volume.collect()

    assert done.findings == []
    whole = {(hurt.name, hurt.app.digest): template.whole[hurt.name, "v1"]}
    whole[hurt.name, hurt.index.digest] = template.whole[hurt.name, "multi"]
    volume.assert_whole({**whole, **template.sound})
    volume.collect("--delete-untagged")
    assert not (set(hurt.app.digests) | set(hurt.index.digests)) & volume.blobs()
    volume.assert_whole(template.sound)


def test_strays_are_told_and_never_touched(template: Template, tmp_path: Path) -> None:
    """What fits no pattern is no reason to stop, is not marked through, and stays."""
    volume = template.copy(tmp_path)
    put = volume.writer.put
    digits = OTHER.removeprefix("sha256:")
    strays = [
        "docker/registry/v2/blobs/sha256/zz/zzzz/data",
        "docker/registry/v2/blobs/sha256/README",
        "docker/registry/v2/blobs/README",
        "docker/registry/v2/blobs/md5/d4/d41d8cd98f00b204e9800998ecf8427e/data",
        f"docker/registry/v2/blobs/sha256/{'00' if digits[:2] != '00' else '01'}/{digits}/data",
        f"docker/registry/v2/blobs/sha256/{digits[:2].upper()}/{digits.upper()}/data",
        "docker/registry/v2/repositories/README",
        f"docker/registry/v2/repositories/Upper/Case/_layers/sha256/{digits}/link",
        f"docker/registry/v2/repositories/sound/Upper/_layers/sha256/{digits}/link",
        "docker/registry/v2/repositories/sound/_layers/sha256/short/link",
        "docker/registry/v2/repositories/sound/_manifests/revisions/md5/00/link",
        "docker/registry/v2/repositories/sound/_manifests/tags/.hidden/current/link",
        "docker/registry/v2/elsewhere/file",
        "docker/lost+found/file",
    ]
    for stray in strays:
        put(stray, b"not of the layout")

    done = volume.collect("--delete-untagged", "--empty-repositories")

    assert [finding[:2] for finding in done.findings] == [("stray", "info")]
    assert all(volume.path(stray).read_bytes() == b"not of the layout" for stray in strays)
    assert not set(template.garbage.digests) & volume.blobs()
    volume.assert_whole(template.sound, others=False)


@pytest.mark.parametrize(
    "stray",
    [
        "docker/registry/v2/blobs/sha256/zz/zzzz/data",
        "docker/registry/v2/repositories/Upper/_layers/sha256/00/link",
        "docker/registry/v2/repositories/sound/Upper/_manifests/tags/v1/current/link",
        "docker/registry/v2/repositories/sound/_manifests/tags/.hidden/current/link",
    ],
)
def test_each_stray_is_told(template: Template, tmp_path: Path, stray: str) -> None:
    """An info finding names it, or the directory that it lies in."""
    volume = template.copy(tmp_path)
    volume.writer.put(stray, b"not of the layout")

    plan = volume.plan().expect(0)

    [finding] = plan.json["findings"]
    named = finding["detail"].rpartition("such as ")[2]
    assert finding["id"] == "stray"
    assert stray.startswith(named)
    assert len(named) > len("docker/registry/v2/repositories/")


def test_names_that_are_no_text(template: Template, tmp_path: Path) -> None:
    """A name may hold any bytes: it is escaped where it is shown, and never touched."""
    volume = template.copy(tmp_path)
    names = [
        b"repositories/\xff\xfe\x1b[31m",
        b"repositories/sound/_manifests/tags/new\nline",
        b"blobs/sha256/\xf0\x9f",
    ]
    for name in names:
        os.makedirs(os.fsencode(volume.tree) + b"/" + name)

    table = volume.gc("plan", *OFFLINE, volume.root).expect(0)
    plan = volume.plan(*OFFLINE, "--out", tmp_path / "plan").expect(0)
    done = volume.collect()

    assert [finding[:2] for finding in plan.findings] == [("stray", "info")]
    assert table.stdout.isprintable() or "\x1b" not in table.stdout
    assert done.removed == plan.removed
    assert all(os.path.isdir(os.fsencode(volume.tree) + b"/" + name) for name in names)
    volume.assert_whole(template.sound, others=False)


# Links in flight


def wait_until_locked(volume: Volume) -> None:
    """Wait until a run has begun."""
    lock = volume.path("regstore/lock")
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_link_that_is_half_written_is_no_finding(template: Template, tmp_path: Path) -> None:
    """A registry of the 2.x line truncates a link before it writes it: an empty one is read again for a second."""
    volume, hurt = template.copy(tmp_path), template.hurt
    links = [volume.path(key(hurt)) for key in (tag_key, revision_key, layer_key)]
    contents = [link.read_bytes() for link in links]
    for link in links:
        link.write_bytes(b"")

    def write_late() -> None:
        wait_until_locked(volume)
        time.sleep(0.8)
        for link, content in zip(links, contents, strict=True):
            link.write_bytes(content)

    writer = threading.Thread(target=write_late)
    writer.start()
    done = volume.collect("--delete-untagged")
    writer.join()

    assert done.findings == []
    assert not set(hurt.deleted.digests) & volume.blobs()
    volume.assert_whole({**template.whole, **template.sound})


def test_link_that_is_rewritten_all_the_time_is_no_finding(template: Template, tmp_path: Path) -> None:
    """Runs beside a registry that moves a tag for ever end with 0, and what they may not touch now they leave."""
    volume, hurt = template.copy(tmp_path), template.hurt
    link = volume.path(tag_key(hurt))
    content = link.read_bytes()
    is_over = threading.Event()

    def rewrite() -> None:
        while not is_over.is_set():
            with link.open("wb") as file:
                time.sleep(0.1)
                file.write(content)
            time.sleep(0.45)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        runs = [volume.collect("--delete-untagged") for _ in range(3)]
    finally:
        is_over.set()
        writer.join()
    volume.collect("--delete-untagged")

    assert [run.findings for run in runs] == [[]] * 3
    assert not set(hurt.deleted.digests) & volume.blobs()
    volume.assert_whole({**template.whole, **template.sound})


# What cannot be read


@pytest.fixture
def foreign(template: Template) -> Iterator[Foreign]:
    """A copy of the template that somebody without privileges owns."""
    with foreign_copy(template.volume) as copy:
        yield copy


def repository_path(rest: str) -> Callable[[Foreign, Template], Path]:
    return lambda foreign, template: foreign.volume.tree / f"repositories/{template.hurt.name}/{rest}"


UNREADABLE: dict[str, Callable[[Foreign, Template], Path]] = {
    "v2": lambda foreign, _: foreign.volume.tree,
    "blobs": lambda foreign, _: foreign.volume.tree / "blobs",
    "blobs of an algorithm": lambda foreign, _: foreign.volume.tree / "blobs/sha256",
    "a shard of blobs": lambda foreign, template: foreign.volume.path(manifest_key(template.hurt)).parent.parent,
    "a manifest's directory": lambda foreign, template: foreign.volume.path(manifest_key(template.hurt)).parent,
    "a manifest": lambda foreign, template: foreign.volume.path(manifest_key(template.hurt)),
    "a blob's directory": lambda foreign, template: foreign.volume.path(blob_key(template.garbage.layers[0])).parent,
    "repositories": lambda foreign, _: foreign.volume.tree / "repositories",
    "a name space": lambda foreign, _: foreign.volume.tree / "repositories/hurt",
    "a repository": repository_path(""),
    "layers": repository_path("_layers"),
    "layers of an algorithm": repository_path("_layers/sha256"),
    "a layer's directory": lambda foreign, template: foreign.volume.path(layer_key(template.hurt)).parent,
    "manifests": repository_path("_manifests"),
    "revisions": repository_path("_manifests/revisions"),
    "revisions of an algorithm": repository_path("_manifests/revisions/sha256"),
    "a revision's directory": lambda foreign, template: foreign.volume.path(revision_key(template.hurt)).parent,
    "a revision link": lambda foreign, template: foreign.volume.path(revision_key(template.hurt)),
    "tags": repository_path("_manifests/tags"),
    "a tag": repository_path("_manifests/tags/v1"),
    "a tag's current": repository_path("_manifests/tags/v1/current"),
    "a tag link": lambda foreign, template: foreign.volume.path(tag_key(template.hurt)),
    "uploads": repository_path("_uploads"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_stops_everything(foreign: Foreign, template: Template, what: str) -> None:
    """Nobody knows what is live then: exit 4, nothing is removed anywhere, and the message names the place."""
    path = UNREADABLE[what](foreign, template)
    before = foreign.volume.snapshot()
    mode, owner = path.stat().st_mode, path.stat().st_uid
    foreign.deny(path)

    plan = foreign.run("gc", "plan", *OFFLINE, foreign.volume.root)
    run = foreign.run("gc", "run", *OFFLINE, "--delete-untagged", foreign.volume.root)

    os.chown(path, owner, owner)
    path.chmod(mode & 0o7777)
    for done in (plan, run):
        done.expect_error(4, "Permission denied", str(path).rstrip("/"))
    assert foreign.volume.snapshot() == before
    assert foreign.volume.quarantined() == {}


def test_without_permission_to_write_nothing_changes(foreign: Foreign) -> None:
    """Who may only read can plan; a run ends with 4 and one clear line."""
    for path in (foreign.volume.root, *foreign.volume.root.rglob("*")):
        if foreign.user is not None:
            os.chown(path, 0, 0)
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = foreign.volume.snapshot()

    foreign.run("gc", "plan", *OFFLINE, foreign.volume.root).expect(0)
    done = foreign.run("gc", "run", *OFFLINE, foreign.volume.root)

    done.expect_error(4, "Permission denied", "run as the registry's user or as root")
    assert foreign.volume.snapshot() == before
    for path in (foreign.volume.root, *foreign.volume.root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def test_volume_that_is_replaced_while_it_is_read(template: Template, tmp_path: Path) -> None:
    """A tree that is another one at the end than at the beginning (unmounted, mounted over) stops the run."""
    volume = template.copy(tmp_path)
    away = tmp_path / "away"
    CASES["tag link empty"][0](volume, template.hurt)  # read again for a second, so there is time

    def replace() -> None:
        wait_until_locked(volume)
        time.sleep(0.4)
        volume.tree.rename(away)
        (volume.tree / "blobs").mkdir(parents=True)
        (volume.tree / "repositories").mkdir(parents=True)

    thread = threading.Thread(target=replace)
    thread.start()
    done = volume.gc("run", *OFFLINE, volume.root)
    thread.join()

    done.expect_error(4, "unmounted or replaced")
    assert volume.quarantined() == {}
    shutil.rmtree(volume.tree)
    away.rename(volume.tree)
    volume.assert_whole(template.sound, others=False)


def test_tag_history_keeps_what_an_unreadable_tag_may_have_meant(volume: Volume) -> None:
    """Every digest in the index of a tag whose link is lost stays, also with --delete-untagged."""
    with volume.serving() as client:
        first = client.push_image("app", "v1", [layer(1)])
        second = client.push_image("app", "v1", [layer(2)])
        other = client.push_image("other", "v1", [layer(3)])
        garbage = push_garbage(client, "other")
        whole = {("app", image.digest): client.pull("app", image.digest) for image in (first, second)}
        whole |= pulled(client, other)
    volume.path(tag_link_key("app", "v1")).write_bytes(b"")

    done = volume.collect("--delete-untagged", code=1)

    assert done.findings == [("link-malformed", "error", tag_link_key("app", "v1"))]
    assert volume.path(tag_index_key("app", "v1", first.digest)).exists()
    assert not set(garbage.digests) & volume.blobs()
    volume.writer.put(tag_link_key("app", "v1"), second.digest)
    volume.assert_whole(whole)

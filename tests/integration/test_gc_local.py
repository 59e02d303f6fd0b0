"""Collections on a directory that a real registry wrote: what stays, what goes, and what nothing may change."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures_cli import RunRegstore
from regstore import gc
from regstore.registry import open_registry
from regstore.state import State
from regstore_drivers.errors import PermissionDenied
from support import images
from support.pusher import Pusher
from support.registry import Registry
from support.volume import blob_key, layer_link_key, revision_link_key, tag_link_key

pytestmark = pytest.mark.registry
MakeRegistry = Callable[..., Registry]
OFFLINE = ("--offline", "--grace", "0s", "--upload-age", "0s", "--max-delete", "none")


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return bytes, mode, owner and time of every file below the registry's tree."""
    found = {}
    for path in sorted((root / "docker").rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (content, status.st_mode, status.st_uid, status.st_gid)
        if path.is_file():
            found[str(path.relative_to(root))] += (status.st_mtime_ns,)
    return found


def files(root: Path) -> set[str]:
    """Return the keys of all files."""
    return {str(path.relative_to(root)) for path in (root / "docker").rglob("*") if path.is_file()}


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """Return the JSON document of a command that ended with a code."""
    assert done.returncode == code, done.stdout + done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    assert parsed["exit_code"] == code
    return parsed


def removed(parsed: dict[str, Any]) -> dict[str, int]:
    """Return kind to count."""
    return {entry["kind"]: entry["count"] for entry in parsed["removed"]}


def push(client: Pusher, repository: str, tag: str, seed: object) -> images.Image:
    """Push an image with two layers of its own."""
    return client.push_image(repository, tag, images.layers(2, seed))


@pytest.fixture
def volume(make_registry: MakeRegistry, tmp_path: Path) -> Path:
    """A volume with a kept and a deleted image and an abandoned upload."""
    root = tmp_path / "volume"
    with make_registry(root) as registry, Pusher(registry.url) as client:
        push(client, "team/app", "v2", "kept")
        gone = push(client, "team/app", "v1", "gone")
        client.delete_manifest("team/app", gone.digest)
        client.begin_upload("team/app")
    return root


def assert_whole(make_registry: MakeRegistry, root: Path, expected: dict[tuple[str, str], set[str]]) -> None:
    """A freshly started registry serves every tag, every byte hashed."""
    with make_registry(root) as registry, Pusher(registry.url) as client:
        assert client.pull_all() == expected


def test_everything_that_is_needed_stays(
    make_registry: MakeRegistry, tmp_path: Path, run_regstore: RunRegstore
) -> None:
    """Indexes, nested ones, attestations, referrers, signatures, aliases, schema1, caches: whole after a collection."""
    root = tmp_path / "volume"
    with make_registry(root, schema1=True, foreign_urls=True) as registry, Pusher(registry.url) as client:
        multi, *_ = client.push_multi_arch("team/app", "multi", "multi", attested=True)
        client.push_index("team/app", "nested", [multi.descriptor()])
        image = push(client, "team/app", "v1", 1)
        client.push_referrer("team/app", image, "sbom", fallback=False)
        client.push_signature("team/app", image)
        client.push_image("team/app", "alias", images.layers(1, "alias"), algorithm="sha512")
        client.push_schema1("old", "v1", images.layers(2, "old"))
        client.push_build_cache("cache", "main", images.layers(2, "cache"))
        client.push_image("foreign", "v1", images.layers(1, "f"), foreign=[images.foreign_layer(b"elsewhere")])
        for nested in ("a", "a/b", "a/b/c"):
            client.push_image(nested, "v1", images.layers(1, "shared"))
        expected = client.pull_all()
        before = files(root)
    done = document(run_regstore("gc", "run", "--json", *OFFLINE, "--delete-untagged", root))
    assert removed(done) == {}
    assert files(root) == before
    assert_whole(lambda *a, **k: make_registry(*a, schema1=True, **k), root, expected)


def test_a_plan_changes_nothing_and_the_run_does_what_it_says(
    volume: Path, tmp_path: Path, run_regstore: RunRegstore, make_registry: MakeRegistry
) -> None:
    """Not a byte, mode or time; then exactly the listed keys go; then nothing is left to do."""
    before = snapshot(volume)
    plan = tmp_path / "plan"
    planned = document(run_regstore("gc", "plan", "--json", "--out", plan, *OFFLINE, volume))
    assert snapshot(volume) == before
    assert sorted(os.listdir(volume)) == ["docker"]
    header, *lines = [json.loads(line) for line in plan.read_text().splitlines()]
    assert header["options"]["offline"] is True
    was = files(volume)
    done = document(run_regstore("gc", "run", "--json", *OFFLINE, volume))
    assert done["removed"] == planned["removed"]
    assert done["freed_bytes"] == 0
    gone = was - files(volume)
    keys = {line["key"] for line in lines}
    assert {key for key in gone if "/_uploads/" not in key} == {key for key in keys if "/_uploads/" not in key}
    again = run_regstore("gc", "run", *OFFLINE, volume)
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")
    with make_registry(volume) as registry, Pusher(registry.url) as client:
        assert client.pull_all().keys() == {("team/app", "v2")}


def test_undo_restores_bytes_owner_mode_and_times(volume: Path, run_regstore: RunRegstore) -> None:
    """Also on a tree that belongs to somebody else."""
    if os.geteuid() == 0:
        for path in [volume, *volume.rglob("*")]:
            os.chown(path, 4321, 4322)
    for path in volume.rglob("data"):
        path.chmod(0o640)
    before = snapshot(volume)
    document(run_regstore("gc", "run", "--json", *OFFLINE, volume))
    assert snapshot(volume) != before
    done = document(run_regstore("gc", "undo", "--json", volume))
    assert done["restored_count"] > 0
    assert snapshot(volume) == before
    assert "nothing to undo" in run_regstore("gc", "undo", volume).stdout


def test_purge_frees_and_no_quarantine_frees_at_once(volume: Path, tmp_path: Path, run_regstore: RunRegstore) -> None:
    """The bytes of the quarantine are freed by a purge, or at the end of a run without quarantine."""
    other = tmp_path / "other"
    shutil.copytree(volume, other, symlinks=True)
    done = document(run_regstore("gc", "run", "--json", *OFFLINE, volume))
    total = sum(entry["bytes"] for entry in done["removed"])
    young = document(run_regstore("gc", "purge", "--json", volume))
    assert young["freed_bytes"] == 0
    purged = document(run_regstore("gc", "purge", "--json", "--quarantine-retention", "0s", volume))
    assert purged["freed_bytes"] == total
    assert os.listdir(volume / "regstore/runs") == []
    at_once = document(run_regstore("gc", "run", "--json", "--no-quarantine", *OFFLINE, other))
    assert at_once["freed_bytes"] == total


def test_grace_keeps_what_is_young(volume: Path, run_regstore: RunRegstore) -> None:
    """By default nothing of a volume written just now goes."""
    before = snapshot(volume)
    done = document(run_regstore("gc", "run", "--json", "--offline", volume))
    assert done["removed"] == []
    assert snapshot(volume) == before
    assert done["summary"]["grace_count"] > 0


def damage_tag_link(content: bytes) -> Callable[[Path, images.Image], str]:
    """Overwrite the tag's link."""

    def damage(root: Path, _: images.Image) -> str:
        (root / tag_link_key("bad", "v1")).write_bytes(content)
        return "link-malformed"

    return damage


def damage_blob(content: bytes | None) -> Callable[[Path, images.Image], str]:
    """Overwrite or remove the data of the manifest."""

    def damage(root: Path, image: images.Image) -> str:
        path = root / blob_key(image.digest)
        if content is None:
            path.unlink()
            return "manifest-missing"
        path.write_bytes(content)
        return "manifest-corrupt"

    return damage


def damage_revision(content: bytes | None) -> Callable[[Path, images.Image], str]:
    """Overwrite or remove the revision link."""

    def damage(root: Path, image: images.Image) -> str:
        path = root / revision_link_key("bad", image.digest)
        if content is None:
            path.unlink()
            return "revision-missing"
        path.write_bytes(content)
        return "link-malformed" if len(content) != 71 else "link-mismatch"

    return damage


def damage_layer_link(content: bytes | None) -> Callable[[Path, images.Image], str]:
    """Overwrite or remove a layer's link."""

    def damage(root: Path, image: images.Image) -> str:
        path = root / layer_link_key("bad", image.layers[0])
        if content is None:
            path.unlink()
            return "layer-link-missing"
        path.write_bytes(content)
        return "link-malformed"

    return damage


def remove_tag_link(root: Path, _: images.Image) -> str:
    """Remove the tag's current link; its index stays."""
    (root / tag_link_key("bad", "v1")).unlink()
    return "tag-link-missing"


@pytest.mark.parametrize(
    "damage",
    [
        damage_tag_link(b""),
        damage_tag_link(b"sha256:abc"),
        damage_tag_link(b"sha256:" + b"a" * 64 + b"\n"),
        remove_tag_link,
        damage_blob(b""),
        damage_blob(b"{}"),
        damage_blob(None),
        damage_revision(b""),
        damage_revision(b"sha256:" + b"a" * 64),
        damage_revision(None),
        damage_layer_link(b""),
        damage_layer_link(None),
    ],
    ids=[
        "tag-empty",
        "tag-short",
        "tag-newline",
        "tag-missing",
        "manifest-empty",
        "manifest-rotten",
        "manifest-missing",
        "revision-empty",
        "revision-other",
        "revision-missing",
        "layer-link-empty",
        "layer-link-missing",
    ],
)
def test_damage_freezes_its_repository_only(
    volume: Path,
    make_registry: MakeRegistry,
    run_regstore: RunRegstore,
    damage: Callable[[Path, images.Image], str],
) -> None:
    """The damaged repository keeps all that it links, is reported, and the rest is collected."""
    with make_registry(volume) as registry, Pusher(registry.url) as client:
        image = push(client, "bad", "v1", "bad")
        client.push_blob("bad", b"never used")
        expected = client.pull("team/app", "v2")
    kind = damage(volume, image)
    before = {key for key in files(volume) if "/bad/" in key}
    done = document(run_regstore("gc", "run", "--json", *OFFLINE, volume), 1)
    found = {finding["id"]: finding for finding in done["findings"]}
    assert kind in found
    assert found[kind]["severity"] in ("warning", "error")
    assert "bad" in found[kind]["subject"] or found[kind]["subject"].startswith("sha256:")
    assert found[kind]["repair"]
    assert {key for key in files(volume) if "/bad/" in key} == before
    assert all((volume / blob_key(digest)).exists() for digest in (*image.layers, image.config))
    assert removed(done)["blob"] == 4
    with make_registry(volume) as registry, Pusher(registry.url) as client:
        assert client.pull("team/app", "v2") == expected


def test_an_unreadable_directory_stops_the_run(volume: Path, tmp_path: Path) -> None:
    """Nobody knows what is live: an error that names the directory, nothing changed. As a user whom modes bind."""
    if os.geteuid() != 0:
        pytest.fail("this test needs to be root, to become somebody else")
    for path in [volume, *volume.rglob("*")]:
        os.chown(path, 65534, 65534)
    (volume / "docker/registry/v2/repositories/team/app/_manifests/tags").chmod(0)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    before = files(volume)
    options = gc.Options(offline=True, grace=0.0, upload_age=0.0, max_delete_percent=None)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            gc.collect(open_registry(str(volume)), options, state=State(None))
        except PermissionDenied as error:
            os._exit(4 if "_manifests/tags" in str(error) else 5)
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            os._exit(6)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 4
    assert files(volume) == before


def test_guards_refuse_and_change_nothing(volume: Path, run_regstore: RunRegstore) -> None:
    """Too large a plan, a cache that would answer, Harbor, GitLab: exit 3, with what to do."""
    before = snapshot(volume)
    limit = run_regstore("gc", "run", "--offline", "--grace", "0s", "--max-delete", "10%", volume)
    assert limit.returncode == 3
    assert "--max-delete" in limit.stderr
    cache = run_regstore("gc", "run", "--grace", "0s", "--max-delete", "none", volume)
    assert cache.returncode == 3
    assert "--registry-url" in cache.stderr
    shutil.rmtree(volume / "docker/registry/v2/repositories/team/app/_manifests/tags")
    harbor = run_regstore("gc", "run", *OFFLINE, "--delete-untagged", volume)
    assert harbor.returncode == 3
    assert "Harbor" in harbor.stderr
    marker = volume / "docker/registry/lockfiles/database-in-use"
    marker.parent.mkdir()
    marker.touch()
    gitlab = run_regstore("gc", "run", *OFFLINE, volume)
    assert gitlab.returncode == 3
    assert "GitLab" in gitlab.stderr
    kept = {key for key in before if "/tags" not in key}
    assert kept <= set(snapshot(volume))


def test_a_second_run_is_locked_out(volume: Path, run_regstore: RunRegstore) -> None:
    """A living holder: exit 5. A dead one is mentioned. Another host's is named and not broken."""
    import fcntl

    lock = volume / "regstore/lock"
    lock.parent.mkdir()
    lock.touch()
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_regstore("gc", "run", *OFFLINE, volume).returncode == 5
        assert run_regstore("gc", "plan", *OFFLINE, volume).returncode == 0
    holder = {"host": socket.gethostname(), "pid": 999999, "started_at": 1.0, "command": "gc run", "token": "x"}
    lock.write_text(json.dumps({**holder, "host": "elsewhere"}))
    other = run_regstore("gc", "run", *OFFLINE, volume)
    assert other.returncode == 5
    assert "elsewhere" in other.stderr
    lock.write_text(json.dumps(holder))
    dead = run_regstore("gc", "run", *OFFLINE, volume)
    assert dead.returncode == 0
    assert "dead run" in dead.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("gc", "plan", "/no/such/path"), 2),
        (("gc", "plan", "/usr"), 2),
        (("gc", "plan", "--grace", "soon", "/usr"), 2),
        (("gc", "run", "--max-delete", "lots", "/usr"), 2),
        (("gc", "apply", "/no/such/plan"), 2),
        (("gc", "plan", "gopher://x"), 2),
    ],
)
def test_bad_input_is_one_clear_line(run_regstore: RunRegstore, arguments: tuple[str, ...], code: int) -> None:
    """The right exit code, words, no traceback."""
    done = run_regstore(*arguments)
    assert done.returncode == code
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_environment_cannot_set_safety_options(
    volume: Path, run_regstore: RunRegstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten variable must not make a run offline or graceless."""
    monkeypatch.setenv("REGSTORE_GC_PLAN_OFFLINE", "1")
    monkeypatch.setenv("REGSTORE_GC_PLAN_GRACE", "0s")
    done = document(run_regstore("gc", "plan", "--json", volume))
    assert done["removed"] == []


def test_apply_skips_what_is_no_longer_right(
    volume: Path, tmp_path: Path, make_registry: MakeRegistry, run_regstore: RunRegstore
) -> None:
    """A push between plan and apply makes steps wrong; they are skipped. Applying twice changes nothing."""
    plan = tmp_path / "plan"
    document(run_regstore("gc", "plan", "--json", "--out", plan, *OFFLINE, volume))
    with make_registry(volume) as registry, Pusher(registry.url) as client:
        again = push(client, "team/app", "v1", "gone")
    done = document(run_regstore("gc", "apply", "--json", plan))
    assert done["skipped_count"] > 0
    with make_registry(volume) as registry, Pusher(registry.url) as client:
        assert again.digest in client.pull("team/app", "v1")
    assert document(run_regstore("gc", "apply", "--json", plan))["removed"] == []


@pytest.mark.parametrize("cache", [None, "inmemory"])
def test_online_condemns_through_the_api_and_collects_later(
    make_registry: MakeRegistry, tmp_path: Path, run_regstore: RunRegstore, cache: str | None
) -> None:
    """Links first; data in a later run, when the grace period is over; a push in between wins."""
    root = tmp_path / "volume"
    with make_registry(root, cache=cache) as registry, Pusher(registry.url) as client:
        push(client, "app", "v2", "kept")
        gone, back = push(client, "app", "v1", "gone"), push(client, "app", "v3", "back")
        for image in (gone, back):
            client.delete_manifest("app", image.digest)
        time.sleep(1.1)
        options = ("--grace", "1s", "--max-delete", "none", "--registry-url", registry.url, root)
        first = document(run_regstore("gc", "run", "--json", *options))
        assert removed(first)["layer-link"] == 6
        assert "blob" not in removed(first)
        assert not client.has_blob("app", gone.layers[0])
        assert push(client, "app", "v3", "back").digest == back.digest
        time.sleep(1.1)
        second = document(run_regstore("gc", "run", "--json", *options))
        assert removed(second)["blob"] == 3
        client.pull("app", "v2")
        client.pull("app", "v3")
        assert push(client, "app", "v1", "gone").digest == gone.digest
    with make_registry(root) as registry, Pusher(registry.url) as client:
        assert client.pull_all().keys() == {("app", "v1"), ("app", "v2"), ("app", "v3")}


def test_offline_proof_and_wrong_urls(
    make_registry: MakeRegistry, volume: Path, tmp_path: Path, run_regstore: RunRegstore
) -> None:
    """Running: 3. Read-only or stopped: goes on. Another volume's registry, or deletes disabled: 3. Silent: 4."""
    before = files(volume)
    with make_registry(volume) as registry:
        assert run_regstore("gc", "run", *OFFLINE, "--registry-url", registry.url, volume).returncode == 3
        closed = registry.url
    online = ("--grace", "0s", "--max-delete", "none", "--registry-url")
    assert run_regstore("gc", "run", *online, closed, volume).returncode == 4
    with make_registry(volume, delete_enabled=False) as registry:
        disabled = run_regstore("gc", "run", *online, registry.url, volume)
        assert disabled.returncode == 3
        assert "DELETE_ENABLED" in disabled.stderr
    with make_registry(tmp_path / "another") as registry:
        wrong = run_regstore("gc", "run", *online, registry.url, volume)
        assert wrong.returncode == 3
        assert "does not serve" in wrong.stderr
    assert {key for key in before if "_uploads" not in key} <= files(volume)
    with make_registry(volume, readonly=True) as registry:
        document(run_regstore("gc", "run", "--json", *OFFLINE, "--registry-url", registry.url, volume))
    document(run_regstore("gc", "run", "--json", *OFFLINE, "--registry-url", closed, volume))


def test_config_without_cache_needs_no_url(
    make_registry: MakeRegistry, tmp_path: Path, run_regstore: RunRegstore
) -> None:
    """ROOT may be a config.yml; one without a cache proves that nothing answers from memory."""
    with make_registry(tmp_path / "volume") as registry, Pusher(registry.url) as client:
        push(client, "app", "v2", "kept")
        client.delete_manifest("app", push(client, "app", "v1", "gone").digest)
        options = ("--json", "--grace", "0s", "--max-delete", "none", registry.config_path)
        assert removed(document(run_regstore("gc", "run", *options)))["layer-link"] == 3
        assert removed(document(run_regstore("gc", "run", *options)))["blob"] == 3
        client.pull_all()

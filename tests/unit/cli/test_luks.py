"""`regstore luks`: forms of output, exit codes, and whole checks of recorded systems."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regstore.jobs import read_jobs
from regstore.luks.check import CheckOptions, check_volume
from regstore.luks.sysroot import Sysroot
from support import luks_trees
from support.collection import Done, run_cli
from support.luks_headers import Image
from support.luks_judging import put
from support.luks_trees import Tree


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Done]:
    """A function that runs `luks check`."""

    def run(*words: object, **options: Any) -> Done:
        return run_cli(tmp_path / "state", "luks", "check", *words, **options)

    return run


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "disk.img")


def test_a_healthy_image(check: Callable[..., Done], image: Image) -> None:
    done = check("--json", image.path).expect(0)
    assert {
        name: done.json[name] for name in ("command", "location", "target", "device", "uuid", "luks_version")
    } == {
        "command": "luks check",
        "location": str(image.path),
        "target": "regular file",
        "device": str(image.path),
        "uuid": "8c469436-ef0c-4437-a790-575ee6180f6b",
        "luks_version": 2,
    }  # fmt: skip
    assert {severity for _, severity, _ in done.findings} == {"ok"}
    assert not any(name.startswith(("bak.", "place.", "map.", "conf.", "fs.")) for name, _, _ in done.findings)
    text = check(image.path).expect(0).stdout
    assert "hdr.copies" in text
    assert check("-q", image.path).expect(0).stdout == ""


def test_the_worst_comes_first(check: Callable[..., Done], image: Image) -> None:
    image.put(4200, b"X").put(0x8000 + 258048, bytes(4096))
    text = check("-q", image.path).expect(1).stdout
    words = re.findall(r"^(critical|warning|ok)", text, re.MULTILINE)
    assert words == ["critical", "warning", "warning", "ok"]
    assert text.count(" -> ") == 3


@pytest.mark.parametrize(
    ("damage", "code", "word"),
    [
        (lambda image: None, 0, "OK"),
        (lambda image: image.put(4200, b"X"), 1, "WARNING"),
        (lambda image: image.put(0, bytes(6)), 2, "CRITICAL"),
    ],
    ids=["ok", "warning", "critical"],
)
def test_nagios(
    check: Callable[..., Done], image: Image, damage: Callable[[Image], object], code: int, word: str
) -> None:
    damage(image)
    done = check("--nagios", image.path).expect(code)
    assert done.stdout.startswith(f"LUKS {word} - ")
    assert done.stdout.count("\n") == 1
    assert check("--nagios", "--json", image.path).expect(code).json["exit_code"] == code


def test_metrics(check: Callable[..., Done], image: Image, tmp_path: Path) -> None:
    text = check("--format", "prom", image.path).expect(0).stdout
    assert f'regstore_luks_header_ok{{registry="{image.path}"}} 1' in text
    wiped = tmp_path / "wiped.img"
    wiped.write_bytes(bytes(65536))
    assert "regstore_luks_header_ok" in check("--format", "prom", wiped).expect(1).stdout
    image.put(4200, b"X")
    out = tmp_path / "luks.prom"
    assert check("--format", "prom", "--out", out, image.path).expect(1).stdout == ""
    text = out.read_text()
    assert f'regstore_luks_header_ok{{registry="{image.path}"}} 0' in text
    assert re.search(r'regstore_findings\{.*check="hdr.copies",severity="warning"\} 1', text)


def test_demands(check: Callable[..., Done], image: Image) -> None:
    check("--min-keyslots", 3, image.path).expect(1)
    check("--min-argon2-memory", "128MiB", image.path).expect(1)
    check("--min-argon2-time", 5, image.path).expect(1)
    check("--cipher", "serpent-*", image.path).expect(1)
    check("--rescue-memory", "100MiB", image.path).expect(1)
    weak = {"type": "pbkdf2", "hash": "sha256", "iterations": 500_000, "salt": "c2FsdA=="}
    image.change(put("keyslots.1.kdf", weak))
    check(image.path).expect(1)
    check("--policy", "legacy", image.path).expect(0)
    check("--policy", "legacy", "--min-keyslots", 3, image.path).expect(1)
    check("--min-pbkdf2-iterations", 400_000, image.path).expect(0)


def test_wrong_use(check: Callable[..., Done], image: Image, tmp_path: Path) -> None:
    check().expect_error(2, "name the registry's directory")
    check(tmp_path / "none").expect_error(2, "not there")
    check("/dev/null").expect_error(2)
    check("--test-key-file", tmp_path / "none", image.path).expect_error(2, "key file")
    os.mkfifo(tmp_path / "pipe")
    check("--test-key-file", tmp_path / "pipe", image.path).expect_error(2, "regular")
    check(tmp_path / "pipe").expect_error(2)


_HANGING = """
import os, sys, time
target, real = sys.argv[-1], os.stat

def stat(path, *arguments, **options):
    if isinstance(path, (str, os.PathLike)) and os.fspath(path) == target:
        time.sleep(60)
    return real(path, *arguments, **options)

os.stat = stat
from regstore.cli.main import main
main()
"""


def test_a_directory_that_does_not_answer(tmp_path: Path) -> None:
    """As on a suspended volume whose inodes are no longer in memory: whoever asks for it never returns."""
    root = tmp_path / "registry"
    root.mkdir()
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _HANGING, "luks", "check", "--json", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
    )
    assert time.monotonic() - started < 20
    assert json.loads(done.stdout)["target"] == "directory"


class TestKeyFiles:
    """How cryptsetup is asked, seen by a program in its place."""

    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        then = f"ulimit -c > {tmp_path}/core; tr '\\0' '\\n' < /proc/$$/environ > {tmp_path}/environ"
        luks_trees.fake_program(tmp_path / "bin", "cryptsetup", "Key slot 1 unlocked.\n", then=then)
        monkeypatch.setenv("PATH", luks_trees.first_on_path(tmp_path / "bin"))
        return tmp_path / "bin"

    def opens(self, check: Callable[..., Done], image: Image, *words: object) -> dict[str, str]:
        key = image.path.with_name("key")
        key.write_text("Zwetschgenknoedel")
        document = check("--json", "--test-key-file", key, *words, image.path).json
        (found,) = [finding for finding in document["findings"] if finding["id"] == "slot.opens"]
        assert isinstance(found, dict)
        return found

    def test_without_locks_tokens_and_core_dumps(
        self, check: Callable[..., Done], image: Image, programs: Path, tmp_path: Path
    ) -> None:
        assert self.opens(check, image)["detail"] == "it opens keyslot 1"
        (call,) = (programs / "cryptsetup.calls").read_text().splitlines()
        assert "--disable-locks" in call
        assert "--test-passphrase" in call
        assert "--token-type none-of-the-tokens" in call
        assert "Zwetsch" not in call + (tmp_path / "environ").read_text()
        assert (tmp_path / "core").read_text().strip() == "0"

    def test_memory_is_looked_at_first(
        self, check: Callable[..., Done], image: Image, programs: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "tree/proc").mkdir(parents=True)
        (tmp_path / "tree/proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 60000 kB\n")
        found = self.opens(check, image, "--sysroot", tmp_path / "tree")
        assert (found["severity"], found["detail"][:9]) == ("unknown", "not tried")
        assert not (programs / "cryptsetup.calls").exists()


def test_text_from_a_header_is_escaped(check: Callable[..., Done], image: Image) -> None:
    image.change(put("config.requirements", {"mandatory": ["\x1b[31mnew\x07"]}))
    for words in ((), ("--nagios",), ("--json",)):
        text = check(*words, image.path).stdout
        assert "\x1b" not in text
        assert "\x07" not in text


def test_since_when_no_header_backup_is_named(tmp_path: Path, check: Callable[..., Done], image: Image) -> None:
    location = str(image.path)
    check(image.path).expect(0)
    directory = tmp_path / "state" / "regstore"
    first = read_jobs(location, directory)["luks check"]
    check(image.path).expect(0)
    again = read_jobs(location, directory)["luks check"]
    assert again.last_run_at > first.last_run_at
    assert again.numbers == first.numbers == {"no_header_backup_since": pytest.approx(first.last_run_at, abs=1)}
    check("--header-backup", image.path, image.path)
    assert read_jobs(location, directory)["luks check"].numbers == {}


@pytest.mark.parametrize(("days", "severity"), [(0, "warning"), (29, "warning"), (31, "critical")])
def test_a_volume_without_header_backup(tmp_path: Path, days: int, severity: str) -> None:
    tree = luks_trees.luks2(tmp_path / "tree")
    (tree.directory / "dev").mkdir(exist_ok=True)
    Image(tree.directory / "dev" / "vdb").write(uuid=luks_trees.UUID)
    options = CheckOptions(no_backup_seconds=days * 86400.0, sysroot=Sysroot(tree.directory))
    findings = check_volume(Path(luks_trees.ROOT), options).findings
    assert [finding.severity.word for finding in findings if finding.id == "bak.exists"] == [severity]


class TestRecordedSystems:
    """Whole checks of systems of which only the files are there."""

    def bad(self, check: Callable[..., Done], tree: Tree, *words: object) -> set[tuple[str, str]]:
        done = check("--json", "--sysroot", tree.directory, *words, luks_trees.ROOT)
        found = done.findings
        assert done.code == int(any(severity in ("warning", "critical") for _, severity, _ in found))
        return {(name, severity) for name, severity, _ in found if severity in ("warning", "critical")}

    def test_a_healthy_one(self, check: Callable[..., Done], tmp_path: Path) -> None:
        tree = luks_trees.luks2(tmp_path / "tree")
        done = check("--json", "--sysroot", tree.directory, luks_trees.ROOT)
        assert ("place.crypt", "ok") in {(name, severity) for name, severity, _ in done.findings}
        unknown = {name for name, severity, _ in done.findings if severity == "unknown"}
        assert {"hdr.copies", "slot.count"} <= unknown  # the recorded disk is not here

    def test_its_header_is_read_where_the_tree_has_the_disk(self, check: Callable[..., Done], tmp_path: Path) -> None:
        tree = luks_trees.luks2(tmp_path / "tree")
        (tree.directory / "dev").mkdir(exist_ok=True)
        Image(tree.directory / "dev" / "vdb").write(uuid=luks_trees.UUID)
        done = check("--json", "--sysroot", tree.directory, luks_trees.ROOT)
        found = {(name, severity) for name, severity, _ in done.findings}
        assert {("hdr.copies", "ok"), ("slot.count", "ok"), ("bak.exists", "warning")} <= found
        assert done.json["device"] == "vdb"
        assert done.json["uuid"] == luks_trees.UUID

    def test_a_header_of_another_volume_under_an_open_one(self, check: Callable[..., Done], tmp_path: Path) -> None:
        tree = luks_trees.luks2(tmp_path / "tree")
        (tree.directory / "dev").mkdir(exist_ok=True)
        Image(tree.directory / "dev" / "vdb").write(uuid="11111111-2222-3333-4444-555555555555")
        assert ("map.header", "critical") in self.bad(check, tree)

    def test_not_encrypted(self, check: Callable[..., Done], tmp_path: Path) -> None:
        assert ("place.crypt", "critical") in self.bad(check, luks_trees.plainfs(tmp_path / "tree"))

    def test_closed(self, check: Callable[..., Done], tmp_path: Path) -> None:
        found = self.bad(check, luks_trees.closed(tmp_path / "tree"))
        assert {("place.crypt", "critical"), ("place.mounted", "critical")} <= found

    def test_suspended(self, check: Callable[..., Done], tmp_path: Path) -> None:
        assert ("map.suspended", "critical") in self.bad(check, luks_trees.suspended(tmp_path / "tree"))

    def test_the_expected_volume(self, check: Callable[..., Done], tmp_path: Path) -> None:
        tree = luks_trees.luks2(tmp_path / "tree")
        assert ("place.expected", "critical") not in self.bad(check, tree, "--uuid", luks_trees.UUID)
        other = "11111111-2222-3333-4444-555555555555"
        assert ("place.expected", "critical") in self.bad(check, tree, "--uuid", other)

    def test_an_absent_detached_header(self, check: Callable[..., Done], tmp_path: Path) -> None:
        tree = luks_trees.detached(tmp_path / "tree")
        found = self.bad(check, tree, "--header", tmp_path / "none.hdr")
        assert ("hdr.detached", "critical") in found

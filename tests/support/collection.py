"""Collections as an operator runs them: the command line in a process of its own, on a volume of a real registry.

A `Volume` is a registry's root directory. Tests serve it (`serving`), stop the registry, run `regstore gc ...` on it,
and look at what is left: by file (`snapshot`), and through a freshly started registry (`assert_whole`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from regstore import gc
from regstore.registry import open_registry
from regstore.state import State
from support.images import Image, layers
from support.pusher import Pusher
from support.registry import Registry
from support.volume import V2, VolumeWriter

NOW = ("--grace", "0s", "--max-delete", "none")
OFFLINE = ("--offline", *NOW)

Whole = dict[tuple[str, str], set[str]]
"""Pairs of repository and tag (or digest), and every digest that a pull of it fetches."""


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The document that `--json` printed."""
        document: dict[str, Any] = json.loads(self.stdout)
        assert document["exit_code"] == self.code
        return document

    @property
    def removed(self) -> dict[str, int]:
        """How many items of each kind were (or would be) removed."""
        return {entry["kind"]: entry["count"] for entry in self.json["removed"]}

    @property
    def removed_bytes(self) -> dict[str, int]:
        """The bytes of each kind."""
        return {entry["kind"]: entry["bytes"] for entry in self.json["removed"]}

    @property
    def findings(self) -> list[tuple[str, str, str]]:
        """Id, severity and subject of each finding, sorted."""
        return sorted((entry["id"], entry["severity"], entry["subject"]) for entry in self.json["findings"])

    def expect(self, code: int) -> Done:
        """Fail unless the command ended with this code and without a traceback."""
        assert self.code == code, f"exit code {self.code} instead of {code}\n{self.stdout}\n{self.stderr}"
        assert "Traceback" not in self.stderr, self.stderr
        return self

    def expect_error(self, code: int, *words: str) -> Done:
        """Fail unless it ended with this code, nothing on stdout, and one clear message that has these words."""
        self.expect(code)
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        messages = [line for line in lines if not line.startswith(("  -> ", "Usage: ", "Try ")) and line]
        assert len(messages) == 1, self.stderr
        for word in words:
            assert word in self.stderr, self.stderr
        return self


class FileState(NamedTuple):
    """What a file or directory is: `digest` of its bytes, or `directory`, or where a symbolic link leads."""

    digest: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int


Snapshot = dict[str, FileState]


def snapshot(root: Path) -> Snapshot:
    """Describe every file and directory below a directory, and itself, by relative path."""
    found: Snapshot = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            content = "directory"
        elif stat.S_ISLNK(status.st_mode):
            content = f"-> {path.readlink()}"
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = FileState(
            content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns
        )
    return found


def files_of(state: Snapshot) -> Snapshot:
    """Return the part of a snapshot that is no directory."""
    return {path: state for path, state in state.items() if state.digest != "directory"}


def directories_of(state: Snapshot) -> dict[str, tuple[int, int, int]]:
    """Return mode and owner of the directories that have a file somewhere below; times change as files come and go."""
    used = {str(parent) for path in files_of(state) for parent in Path(path).parents}
    return {path: state[path][1:4] for path in used}


def contents_of(state: Snapshot) -> dict[str, str]:
    """Return path and digest of every file."""
    return {path: state.digest for path, state in files_of(state).items()}


def run_cli(
    state_home: Path,
    *arguments: object,
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> Done:
    """Run `regstore` in a process of its own.

    Args:
        state_home: where it remembers what it learned.
        arguments: of the command line.
        user: the uid (and gid) to run as, without further groups. The interpreter may lie where only root can read,
            so privileges are dropped once everything is imported.
        environment: further variables.
        timeout: seconds.
    """
    program = ["-m", "regstore"] if user is None else ["-c", _RUN_AS, str(user)]
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**_environment(user), "XDG_STATE_HOME": str(state_home), **(environment or {})},
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _environment(user: int | None) -> dict[str, str]:
    """Return this process's variables; another user cannot write the measurements of coverage here."""
    return {name: text for name, text in os.environ.items() if user is None or not name.startswith("COVERAGE_")}


_RUN_AS = """\
import difflib, os, sys  # click asks for the first when it meets a short option
import regstore.backup.borg.create, regstore.backup.borg.maintain
import regstore.cli.backup, regstore.cli.fsck, regstore.cli.gc, regstore.cli.report, regstore.cli.restore
# What commands import when they run.
import regstore.backup, regstore.fsck, regstore.gc, regstore.jobs, regstore.migrate, regstore.nightly, regstore.registry
import regstore.report.capacity, regstore.report.exposition, regstore.report.forecast, regstore.report.history
import regstore.report.options, regstore.report.whatif, regstore.status
from regstore.cli.main import main

user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
main()
"""
_DIE_AFTER = """\
import os, sys
from regstore.cli.main import main
from regstore_drivers.filesystem import FilesystemDriver

limit, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
move = FilesystemDriver.move
count = 0

def move_or_die(self, src, dst):
    global count
    if count == limit and number == 9:
        os._exit(9)
    move(self, src, dst)
    count += 1
    if count == limit and number != 9:
        os.kill(os.getpid(), number)

FilesystemDriver.move = move_or_die
main()
"""


class Volume:
    """A registry's root directory, written by real registries and collected by the command line.

    Args:
        root: the root directory.
        workdir: where registries write their logs and regstore its state; a test's own.
    """

    def __init__(self, root: Path, workdir: Path) -> None:
        self.root = root
        self.state_home = workdir / "state"
        self._workdir = workdir
        self._count = 0
        root.mkdir(parents=True, exist_ok=True)

    @property
    def tree(self) -> Path:
        """`docker/registry/v2`."""
        return self.root / V2

    @property
    def writer(self) -> VolumeWriter:
        """A writer for what no registry would write."""
        return VolumeWriter(self.root)

    def path(self, key: str) -> Path:
        """Return the path of a key."""
        return self.root / key

    def registry(self, **options: Any) -> Registry:
        """Make a registry over this volume; see `support.registry.Registry`."""
        self._count += 1
        workdir = self._workdir / f"{self.root.name}-server-{self._count}"
        workdir.mkdir()
        return Registry(workdir, self.root, **options)

    @contextmanager
    def serving(self, **options: Any) -> Iterator[Pusher]:
        """Serve it with a fresh registry for as long as a client is needed."""
        with self.registry(**options) as registry, Pusher(registry.url) as client:
            yield client

    def fsck(self, *arguments: object, **options: Any) -> Done:
        """Run `regstore fsck --json` on this volume; see `run_cli` for the options."""
        return run_cli(self.state_home, "fsck", "--json", *arguments, self.root, **options)

    def fsck_undo(self) -> dict[str, Any]:
        """Run `regstore fsck undo --json`, which must find nothing wrong, and return its document."""
        return run_cli(self.state_home, "fsck", "undo", "--json", self.root).expect(0).json

    def gc(self, *arguments: object, **options: Any) -> Done:
        """Run `regstore gc` with some arguments; see `run_cli` for the options."""
        return run_cli(self.state_home, "gc", *arguments, **options)

    def plan(self, *arguments: object, **options: Any) -> Done:
        """Run `gc plan --json` on this volume."""
        return self.gc("plan", "--json", *arguments, self.root, **options)

    def collect(self, *arguments: object, code: int = 0, **options: Any) -> Done:
        """Run `gc run --json`, offline and with no grace, which must end with `code`."""
        return self.gc("run", "--json", *OFFLINE, *arguments, self.root, **options).expect(code)

    def run(self, *arguments: object, **options: Any) -> Done:
        """Run `gc run --json` with no grace and otherwise only these arguments."""
        return self.gc("run", "--json", *NOW, *arguments, self.root, **options)

    def plan_at(self, now: float, **options: Any) -> gc.Plan:
        """Plan an offline collection by the library as if the storage's clock said `now`: change times cannot be set.

        Options are those of `regstore.gc.Options`.
        """
        selected = gc.Options(**{"offline": True, "max_delete_percent": None, **options})
        return gc.plan_collection(open_registry(str(self.root)), selected, state=State(None), now=now)

    def newest(self, key: str) -> float:
        """Return the newest time of a file and of its directory, from which its age counts."""
        path = self.path(key)
        return max(path.stat().st_mtime, path.stat().st_ctime, path.parent.stat().st_mtime)

    def undo(self, *arguments: object) -> Done:
        """Run `gc undo --json`, which must find nothing wrong."""
        return self.gc("undo", "--json", self.root, *arguments).expect(0)

    def snapshot(self) -> Snapshot:
        """Describe the tree that belongs to the registry."""
        return snapshot(self.root / "docker")

    def file_keys(self) -> set[str]:
        """Return the keys of all files of the registry's tree."""
        return {f"docker/{path}" for path in files_of(self.snapshot())}

    def blobs(self) -> set[str]:
        """Return the digests whose data are there."""
        return {
            f"{path.parent.parent.parent.name}:{path.parent.name}" for path in (self.tree / "blobs").glob("*/*/*/data")
        }

    def quarantined(self) -> dict[str, Path]:
        """Return what lies in the quarantines of all runs, by its original key."""
        found = {}
        for run in sorted((self.root / "regstore/runs").glob("*")):
            for path in (run / "quarantine").rglob("*"):
                if path.is_file():
                    found[str(path.relative_to(run / "quarantine"))] = path
        return found

    def assert_whole(self, expected: Whole, *, others: bool = True, sparse: bool = False, **options: Any) -> None:
        """Fail unless a freshly started registry serves all this whole, and (`others`) every other tag that it knows.

        Everything is fetched and hashed. Options are those of the registry; `sparse` allows absent children of indexes.
        """
        verified: set[tuple[str, str]] = set()
        with self.serving(**options) as client:
            for (repository, reference), digests in expected.items():
                found = client.pull(repository, reference, sparse=sparse, verified=verified)
                assert found == digests, f"{repository}:{reference}"
            if others:
                client.pull_all(sparse=sparse)


def run_killed(volume: Volume, moves: int, *arguments: object, signal_number: int = 9) -> Done:
    """Run `gc run` offline, with no grace, and end it with a signal once it has moved so many objects."""
    program = [sys.executable, "-c", _DIE_AFTER, str(moves), str(signal_number), "gc", "run", *OFFLINE]
    done = subprocess.run(
        [*program, *map(str, arguments), str(volume.root)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(volume.state_home)},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def pulled(client: Pusher, *images: Image) -> Whole:
    """Pull images by their tags (by digest where they have none), and return what each reaches."""
    references = [(image.repository, image.tag or image.digest) for image in images]
    return {(repository, reference): client.pull(repository, reference) for repository, reference in references}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def push_garbage(client: Pusher, repository: str, seed: object = "garbage") -> Image:
    """Push an image of two layers of its own and delete its manifest: everything of it but the link is left."""
    image = client.push_image(repository, f"deleted-{seed}", layers(2, f"deleted {repository} {seed}"))
    assert client.delete_manifest(repository, image.digest) == 202
    return image

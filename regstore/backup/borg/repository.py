"""A borg repository, in the operations that a store needs."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from regstore.backup.borg.program import find_program
from regstore.backup.borg.run import Borg, Outcome, raise_error
from regstore.errors import StorageFailedError, UsageError
from regstore.state import state_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from regstore.backup.borg.program import Program

SCHEME = "borg:"
SNAPSHOT_FILE = "snapshot.jsonl.zst"


class Archive(NamedTuple):
    """An archive: its name, its id, which changes with its content, and when it was begun (seconds since the epoch)."""

    name: str
    id: str
    begun_at: float


class Repository:
    """A borg repository.

    Args:
        location: `borg:PATH` or `borg:ssh://user@host/path`.
        passphrase: of its key.
        lock_wait: seconds to wait for another run.
        program: the borg program; None: the one that is found.
    """

    def __init__(
        self, location: str, passphrase: bytes, *, lock_wait: float = 0.0, program: Program | None = None
    ) -> None:
        self.location = location
        self.place = location.removeprefix(SCHEME)
        self._borg = Borg(program or find_program(), passphrase, lock_wait)
        if not self.place:
            raise UsageError(f"{location!r} names no repository", hint="write borg:/path or borg:ssh://user@host/path")

    @property
    def local_path(self) -> str | None:
        """Its directory, unless it lies behind ssh."""
        return None if urlsplit(self.place).scheme or ":" in self.place.split("/")[0] else os.path.abspath(self.place)

    @property
    def warning(self) -> str:
        """What the operator should know of the program, or empty."""
        return self._borg.program.warning

    def init(self, key_file: str) -> str:
        """Make the repository, and export its key to a new file of mode 0600; return its id.

        Raises:
            UsageError: there is one already, or the file exists or cannot be made.
            StorageFailedError: borg failed; the message says whether the repository was made.
        """
        if self.local_path and not os.path.isdir(os.path.dirname(self.local_path)):
            parent = os.path.dirname(self.local_path)
            raise UsageError(f"there is no {parent}", hint="make it, or mount its disk, first", code="store-missing")
        try:
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"the key cannot be exported to {key_file}: {error.strerror}") from error
        with open(descriptor, "wb") as file:
            try:
                self._must(self._borg.run(["init", "-e", "repokey-blake2", self.place]), "make")
            except BaseException:
                os.unlink(key_file)
                raise
            exported = self._borg.run(["key", "export", self.place])
            if exported.code or not exported.output:
                raise StorageFailedError(
                    f"the repository {self.location} was made, but its key cannot be exported: {exported.text}",
                    hint=f"without the key a damaged repository is lost: run borg key export {self.place} FILE",
                    code="key-export",
                )
            file.write(exported.output)
            file.flush()
            os.fsync(file.fileno())
        return self.read_id()

    def read_id(self) -> str:
        """Return its id."""
        outcome = self._must(self._borg.run(["info", "--json", self.place]), "open")
        return str(json.loads(outcome.output)["repository"]["id"])

    def list_archives(self) -> tuple[str, list[Archive]]:
        """Return its id, and all archives in the order made."""
        outcome = self._must(self._borg.run(["list", "--json", self.place]), "list the archives of")
        content = json.loads(outcome.output)
        return str(content["repository"]["id"]), [_archive(one) for one in content["archives"]]

    def list_sizes(self, archive: str) -> dict[str, int]:
        """Return path to bytes of the files of an archive."""
        outcome = self._must(self._borg.run(["list", "--json-lines", f"{self.place}::{archive}"]), "list an archive of")
        return {row["path"]: row["size"] for row in map(json.loads, outcome.output.splitlines())}

    def create(
        self,
        archive: str,
        paths: Sequence[str],
        directory: str,
        source: str,
        on_count: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Make an archive of files of a source; some may be left out: see counts and warnings of the outcome."""
        options = [
            "-C",
            "none",
            "--noacls",
            "--noxattrs",
            "--noflags",
            "--paths-from-stdin",
            "--paths-delimiter",
            "\\0",
        ]
        outcome = self._borg.run(
            ["create", "--json", "--progress", *options, f"{self.place}::{archive}"],
            paths=paths,
            cwd=directory,
            files_cache=state_name(source)[-12:],
            on_count=on_count,
        )
        if outcome.code and not outcome.is_warning:
            raise_error(outcome, self.location, "store in")
        return outcome

    def create_from(self, archive: str, name: str, data: bytes) -> None:
        """Make an archive of one file with some content."""
        arguments = ["create", "-C", "none", "--stdin-name", name, f"{self.place}::{archive}", "-"]
        self._must(self._borg.run(arguments, stdin=data), "store in")

    def read_file(self, archive: str, path: str) -> Outcome:
        """Return what a file of an archive holds, as the output of an outcome that is not judged."""
        return self._borg.run(["extract", "--stdout", f"{self.place}::{archive}", path])

    def stream_file(self, archive: str, path: str) -> AbstractContextManager[tuple[IO[bytes], Outcome]]:
        """Stream what a file of an archive holds; the outcome is not judged."""
        return self._borg.stream(["extract", "--stdout", f"{self.place}::{archive}", path])

    def export_tar(self, archive: str, paths: Sequence[str]) -> AbstractContextManager[tuple[IO[bytes], Outcome]]:
        """Stream an archive, or some of its files, as a tar file; the outcome is not judged."""
        return self._borg.stream(["export-tar", f"{self.place}::{archive}", "-", *paths])

    def check(self, *, is_full: bool) -> Outcome:
        """Check the repository; the outcome is not judged."""
        return self._borg.run(["check", *(["--verify-data"] if is_full else ["--repository-only"]), self.place])

    def delete(self, archives: Sequence[str]) -> None:
        """Delete archives, and free their space."""
        for start in range(0, len(archives), 100):
            self._must(self._borg.run(["delete", self.place, *archives[start : start + 100]]), "delete archives of")

    def compact(self) -> None:
        """Free the space of what was deleted."""
        self._must(self._borg.run(["compact", self.place]), "free the space of")

    def break_lock(self) -> None:
        """Remove all locks."""
        self._must(self._borg.run(["break-lock", self.place]), "unlock")

    def _must(self, outcome: Outcome, what: str) -> Outcome:
        if outcome.code:
            raise_error(outcome, self.location, what)
        return outcome


def _archive(content: dict[str, str]) -> Archive:
    # borg tells times in the local zone, without saying so.
    return Archive(content["name"], content["id"], datetime.fromisoformat(content["start"]).timestamp())


def iter_chunks(paths: Sequence[str], limit: int = 256 * 1024) -> Iterator[list[str]]:
    """Part paths into lists that fit into one command line."""
    chunk: list[str] = []
    size = 0
    for path in paths:
        if chunk and size + len(path) + 1 > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append(path)
        size += len(path) + 1
    if chunk:
        yield chunk

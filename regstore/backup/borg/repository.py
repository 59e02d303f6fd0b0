"""A borg repository, in the operations that a store needs.

What only reads takes no lock: borg's shared one would keep a backup out for as long as a restore takes. A run that
writes meanwhile only appends; what it moves or deletes is looked at again by whoever misses it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from regstore.backup.borg.outcome import Outcome, raise_error
from regstore.backup.borg.program import find_program
from regstore.backup.borg.run import Borg
from regstore.errors import StorageFailedError, UsageError
from regstore.state import state_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from regstore.backup.borg.program import Program
    from regstore.work import Cancel

SCHEME = "borg:"
SNAPSHOT_FILE = "snapshot.jsonl.zst"
_COMMAND_LINE_BYTES = 512 * 1024
"""For the paths of one call: Linux takes 2 MiB, with the environment."""

_STALE_LOCKS = ("Killed stale lock", "Removed stale")


class Archive(NamedTuple):
    """An archive: its name, its id, which changes with its content, and when it was begun (seconds since the epoch)."""

    name: str
    id: str
    begun_at: float


class ArchivedFile(NamedTuple):
    """A file of an archive: its bytes, and whether it is as it was stored; `borg check --repair` puts zeros where
    data were lost."""

    size: int
    is_healthy: bool


class Repository:
    """A borg repository.

    Args:
        location: `borg:PATH` or `borg:ssh://user@host/path`.
        passphrase: of its key.
        lock_wait: seconds to wait for another run.
        program: the borg program; None: the one that is found.

    Attributes:
        local_path: its directory, unless it lies behind ssh.
        place: what borg calls it.
        stale_locks: what borg says of locks of runs that died here, which it took away.

    Raises:
        UsageError: the location names none.
        StorageFailedError: there is no borg program.
    """

    def __init__(
        self, location: str, passphrase: bytes, *, lock_wait: float = 0.0, program: Program | None = None
    ) -> None:
        self.location = location
        place = location.removeprefix(SCHEME)
        if not place:
            raise UsageError(f"{location!r} names no repository", hint="write borg:/path or borg:ssh://user@host/path")
        self.local_path = _local_path(place)
        self.place = self.local_path or place
        self.stale_locks: list[str] = []
        self._borg = Borg(program or find_program(), passphrase, lock_wait)

    @property
    def warning(self) -> str:
        """What the operator should know of the program, or empty."""
        return self._borg.program.warning

    def init(self, key_file: str) -> str:
        """Make the repository, and export its key to a new file of mode 0600; return its id.

        Raises:
            UsageError: there is one already, or the file exists or cannot be made.
            RefusedError: something else lies there.
            StorageFailedError: borg failed; the message says whether the repository was made.
        """
        if self.local_path and not os.path.isdir(os.path.dirname(self.local_path)):
            parent = os.path.dirname(self.local_path)
            raise UsageError(f"there is no {parent}", hint="make it, or mount its disk, first", code="store-missing")
        try:
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"the key cannot be exported to {key_file}: {error.strerror}") from error
        try:
            with open(descriptor, "wb") as file:
                self._must(self._borg.run(["init", "-e", "repokey-blake2", self.place]), "make")
                self._export_key(file)
        except BaseException:
            with suppress(OSError):
                os.unlink(key_file)  # nobody shall take what is in it for the key
            raise
        return self.list_archives()[0]

    def _export_key(self, file: IO[bytes]) -> None:
        exported = self._borg.run(["key", "export", self.place])
        problem = exported.text if exported.code or not exported.output else ""
        if not problem:
            try:
                file.write(exported.output)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                problem = error.strerror or str(error)
        if problem:
            raise StorageFailedError(
                f"the repository {self.location} was made, but its key could not be exported: {problem}",
                hint=f"without the key a damaged repository is lost: run borg key export {self.place} FILE",
                code="key-export",
            )

    def list_archives(self, *, is_locking: bool = False) -> tuple[str, list[Archive]]:
        """Return its id, and all archives in the order made, with the checkpoints of runs that died.

        Args:
            is_locking: whether it waits for the lock, to be told at once that another run holds it.

        Raises:
            UsageError, LockedError, StorageFailedError: as borg says.
        """
        words = ["list", "--consider-checkpoints", "--json", self.place]
        outcome = self._must(self._borg.run(words, takes_lock=is_locking), "list the archives of")
        content = json.loads(outcome.output)
        return str(content["repository"]["id"]), [_archive(one) for one in content["archives"]]

    def list_files(self, archive: str) -> tuple[dict[str, ArchivedFile], str]:
        """Return the files of an archive by path, and what is wrong with the archive; damaged ones are listed as far
        as they can be read, deleted ones have no files.

        Raises:
            UsageError, StorageFailedError: as borg says.
        """
        outcome = self._borg.run(["list", "--json-lines", f"{self.place}::{archive}"], takes_lock=False)
        if outcome.code and not outcome.is_damage:
            raise_error(outcome, self.location, "list an archive of")
        files = {}
        for line in outcome.output.splitlines():
            with suppress(ValueError):  # the last one may be cut off
                row = json.loads(line)
                files[row["path"]] = ArchivedFile(row["size"], row.get("healthy", True))
        return files, outcome.text if outcome.code else ""

    def create(
        self,
        archive: str,
        paths: Iterable[str],
        directory: str,
        source: str,
        *,
        on_count: Callable[[int], None],
        on_file: Callable[[str, str], None],
        cancel: Cancel,
    ) -> Outcome:
        """Make an archive of files of a source; some may be left out: see counts and warnings of the outcome.

        Args:
            archive: its name.
            paths: the files, relative to the directory; borg reads them as they come.
            directory: the source's root.
            source: what tells the source from others with the same paths.
            on_count, on_file, cancel: see `Borg.run`.

        Raises:
            UsageError, LockedError, StorageFailedError: as borg says.
            InterruptedRunError: somebody asked to stop.
        """
        options = ["-C", "none", "--noacls", "--noxattrs", "--noflags", "--paths-from-stdin", "--paths-delimiter"]
        outcome = self._borg.run(
            ["create", "--json", "--list", "--progress", *options, "\\0", f"{self.place}::{archive}"],
            paths=paths,
            cwd=directory,
            files_cache=state_name(source)[-12:],
            on_count=on_count,
            on_file=on_file,
            cancel=cancel,
        )
        self._note_locks(outcome)
        if outcome.code and not outcome.is_warning:
            self._fail(outcome, "store in")
        return outcome

    def create_from(self, archive: str, name: str, data: bytes) -> None:
        """Make an archive of one file with some content.

        Raises:
            UsageError, LockedError, StorageFailedError: as borg says.
        """
        arguments = ["create", "-C", "none", "--stdin-name", name, f"{self.place}::{archive}", "-"]
        self._must(self._borg.run(arguments, stdin=data), "store in")

    def read_file(self, archive: str, path: str) -> Outcome:
        """Return what a file of an archive holds, as the output of an outcome that is not judged."""
        return self._borg.run(["extract", "--stdout", f"{self.place}::{archive}", f"pf:{path}"], takes_lock=False)

    def stream_file(self, archive: str, path: str) -> AbstractContextManager[tuple[IO[bytes], Outcome]]:
        """Stream what a file of an archive holds; the outcome is not judged."""
        return self._borg.stream(["extract", "--stdout", f"{self.place}::{archive}", f"pf:{path}"])

    def export_tar(self, archive: str, paths: Sequence[str]) -> AbstractContextManager[tuple[IO[bytes], Outcome]]:
        """Stream some files of an archive, or all where none is named, as a tar file; the outcome is not judged."""
        # A plain path is a prefix, with which borg compares every file: `pf:` is one look-up.
        words = [f"pf:{path}" for path in paths]
        return self._borg.stream(["export-tar", f"{self.place}::{archive}", "-", *words])

    def check(self, *, is_full: bool, is_locking: bool, cancel: Cancel) -> Outcome:
        """Check the repository; the outcome is not judged. Without the lock, a run that writes may look like damage.

        Raises:
            InterruptedRunError: somebody asked to stop.
        """
        words = ["check", "--verify-data" if is_full else "--repository-only", self.place]
        return self._borg.run(words, takes_lock=is_locking, cancel=cancel)

    def delete(self, archives: Sequence[str]) -> None:
        """Delete archives. Their space is freed by `compact`.

        Raises:
            UsageError, LockedError, StorageFailedError: as borg says.
        """
        for start in range(0, len(archives), 100):
            self._must(self._borg.run(["delete", self.place, *archives[start : start + 100]]), "delete archives of")

    def compact(self) -> None:
        """Free the space of what was deleted.

        Raises:
            UsageError, LockedError, StorageFailedError: as borg says.
        """
        self._must(self._borg.run(["compact", self.place]), "free the space of")

    def break_lock(self) -> list[str]:
        """Remove all locks, and return whose they were; behind ssh nobody can tell.

        Raises:
            UsageError, StorageFailedError: as borg says.
        """
        holders = self.lock_holders()
        self._must(self._borg.run(["break-lock", self.place]), "unlock")
        return holders

    def lock_holders(self) -> list[str]:
        """Return who holds its lock (pid and host), as far as its files tell; behind ssh nobody can."""
        if self.local_path is None:
            return []
        found = set()
        with suppress(OSError):
            for name in os.listdir(os.path.join(self.local_path, "lock.exclusive")):
                host, _, pid = name.rpartition("-")[0].rpartition(".")
                found.add(f"pid {pid} on {host}")
        with (
            suppress(OSError, ValueError, AttributeError),
            open(os.path.join(self.local_path, "lock.roster"), "rb") as file,
        ):
            found |= {f"pid {pid} on {host}" for rows in json.load(file).values() for host, pid, _ in rows}
        return sorted(found)

    def _note_locks(self, outcome: Outcome) -> None:
        self.stale_locks += [text for text in outcome.warnings if text.startswith(_STALE_LOCKS)]

    def _must(self, outcome: Outcome, what: str) -> Outcome:
        self._note_locks(outcome)
        if outcome.code:
            self._fail(outcome, what)
        return outcome

    def _fail(self, outcome: Outcome, what: str) -> None:
        raise_error(outcome, self.location, what, self.lock_holders())


def _local_path(place: str) -> str | None:
    """Return the directory of a repository on this host, or None for one behind ssh."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return os.path.abspath(parts.path)
    is_remote = bool(parts.scheme) or ":" in place.split("/")[0]
    return None if is_remote else os.path.abspath(place)


def _archive(content: dict[str, str]) -> Archive:
    # borg tells times in the local zone, without saying so.
    return Archive(content["name"], content["id"], datetime.fromisoformat(content["start"]).timestamp())


def iter_chunks(paths: Sequence[str]) -> Iterator[list[str]]:
    """Part paths into lists that fit into one command line."""
    chunk: list[str] = []
    size = 0
    for path in paths:
        cost = len(path) + len("pf:") + 1
        if chunk and size + cost > _COMMAND_LINE_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(path)
        size += cost
    if chunk:
        yield chunk

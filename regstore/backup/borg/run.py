"""Running borg: environment, passphrase pipe, log lines, and what an outcome means.

Return codes alone do not tell: 1.2 ends with 1 for a changed file, a missing file and for errors found by `check`
alike. Messages carry ids; whatever is not known is a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NamedTuple

from regstore.backup.borg.passphrase import without_passphrase
from regstore.errors import LockedError, StorageFailedError, UsageError
from regstore.state import state_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regstore.backup.borg.program import Program

_ERRORS = ("ERROR", "CRITICAL")
_MISSING = ("Repository.DoesNotExist", "Repository.InvalidRepository", "Repository.ParentPathDoesNotExist")
_WRONG_KEY = (
    "PassphraseWrong",
    "NoPassphraseFailure",
    "PasswordRetriesExceeded",
    "PasscommandFailure",
    "KeyfileNotFound",
)
_LOCKED = ("LockTimeout", "LockFailed", "LockError", "LockErrorT")
_MODERN = {
    13: "Repository.DoesNotExist",
    10: "Repository.AlreadyExists",
    30: "Archive.AlreadyExists",
    50: "NoPassphraseFailure",
    52: "PassphraseWrong",
    70: "LockError",
    73: "LockTimeout",
    90: "IntegrityError",
}
"""What the codes of borg 1.4 say (docs/internals/frontends.rst, "Message IDs"), for a message that was lost."""


class Message(NamedTuple):
    """One line of borg's log: level, id (or empty) and text."""

    level: str
    id: str
    text: str


@dataclass(slots=True)
class Outcome:
    """How a run of borg ended."""

    code: int
    messages: list[Message] = field(default_factory=list)
    output: bytes = b""

    @property
    def ids(self) -> set[str]:
        """The ids of its error messages, and what its code says."""
        found = {message.id for message in self.messages if message.id and message.level in _ERRORS}
        if self.code in _MODERN:
            found.add(_MODERN[self.code])
        return found

    @property
    def is_warning(self) -> bool:
        """Whether it ended with a warning, by old codes or new ones."""
        return self.code == 1 or 100 <= self.code <= 127

    @property
    def text(self) -> str:
        """The messages of errors, or else the last ones."""
        errors = [message.text for message in self.messages if message.level in _ERRORS]
        return "; ".join(errors or [message.text for message in self.messages[-3:]]) or f"it ended with {self.code}"

    @property
    def warnings(self) -> list[str]:
        """The texts of its warnings."""
        return [message.text for message in self.messages if message.level == "WARNING"]


class Borg:
    """The program with what every call of it needs.

    Args:
        program: which.
        passphrase: of the repository.
        lock_wait: seconds for which borg waits for a lock.
    """

    def __init__(self, program: Program, passphrase: bytes, lock_wait: float = 0.0) -> None:
        self.program = program
        self._passphrase = passphrase
        self._lock_wait = lock_wait

    def run(
        self,
        arguments: Sequence[str],
        *,
        paths: Sequence[str] | None = None,
        stdin: bytes | None = None,
        cwd: str | None = None,
        files_cache: str = "",
        on_count: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Run borg to its end; nothing is judged.

        Args:
            arguments: the command and what follows.
            paths: fed to it, NUL at the end of each.
            stdin: fed to it as it is.
            cwd: where it runs.
            files_cache: which memory of files it uses: registries have the same paths, and not the same files.
            on_count: told how many more bytes it has worked through.
        """
        data = stdin if paths is None else b"".join(os.fsencode(path) + b"\0" for path in paths)
        with self._start(arguments, data is not None, cwd, files_cache) as (process, outcome, reader):
            reader.on_count = on_count
            output: list[bytes] = []
            collecting = threading.Thread(target=lambda: output.append(_stdout_of(process).read()))
            collecting.start()
            if process.stdin and data is not None:
                with suppress(BrokenPipeError):  # it says why by itself
                    process.stdin.write(data)
                with suppress(BrokenPipeError):
                    process.stdin.close()
            collecting.join()
            outcome.output = b"".join(output)
        return outcome

    @contextmanager
    def stream(self, arguments: Sequence[str]) -> Iterator[tuple[IO[bytes], Outcome]]:
        """Run borg and read what it writes meanwhile; the outcome is complete when the block has ended."""
        with self._start(arguments) as (process, outcome, _):
            stdout = _stdout_of(process)
            try:
                yield stdout, outcome
            finally:
                stdout.close()  # one that still writes ends by that

    @contextmanager
    def _start(
        self, arguments: Sequence[str], has_input: bool = False, cwd: str | None = None, files_cache: str = ""
    ) -> Iterator[tuple[subprocess.Popen[bytes], Outcome, _LogReader]]:
        fd, writing = os.pipe()
        try:
            os.write(writing, self._passphrase + b"\n")
        finally:
            os.close(writing)
        command = [self.program.path, "--log-json", "--lock-wait", str(max(1, round(self._lock_wait))), *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=_environment(fd, files_cache),
                pass_fds=(fd,),
                start_new_session=True,  # a Ctrl-C is ours to handle; borg is told by us
            )
        finally:
            os.close(fd)
        outcome = Outcome(-1)
        reader = _LogReader(process, outcome)
        try:
            yield process, outcome, reader
        except BaseException:
            process.terminate()
            raise
        finally:
            outcome.code = process.wait()
            reader.join()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


class _LogReader(threading.Thread):
    """Reads log lines as they come; lines that are no JSON, such as a prompt, are passed over."""

    def __init__(self, process: subprocess.Popen[bytes], outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self.on_count: Callable[[int], None] | None = None
        self._stderr = process.stderr
        self._outcome = outcome
        self._seen = 0
        self.start()

    def run(self) -> None:
        for line in self._stderr or ():
            try:
                content = json.loads(line[line.index(b"{") :])
            except ValueError:
                continue
            if content.get("type") == "log_message":
                text = str(content.get("message", ""))
                self._outcome.messages.append(Message(content.get("levelname", ""), content.get("msgid") or "", text))
            elif content.get("type") == "archive_progress" and self.on_count and "original_size" in content:
                self.on_count(content["original_size"] - self._seen)
                self._seen = content["original_size"]


def raise_error(outcome: Outcome, location: str, what: str) -> None:
    """Raise what a failed run means.

    Args:
        outcome: of a run that did not do what it should.
        location: the repository, for the message.
        what: what was tried, such as `list the archives of`.

    Raises:
        UsageError, LockedError, StorageFailedError: as the messages say.
    """
    ids, text = outcome.ids, outcome.text
    if ids & {*_MISSING}:
        raise UsageError(
            f"there is no store at {location}: {text}",
            hint="is its disk mounted? regstore backup init --key-export FILE makes a new one",
            code="store-missing",
        )
    if "Repository.AlreadyExists" in ids:
        raise UsageError(f"there is a store at {location} already", code="store-exists")
    if ids & {*_WRONG_KEY}:
        raise StorageFailedError(
            f"cannot {what} {location}: {text}", hint="see where the passphrase comes from", code="key-wrong"
        )
    if ids & {*_LOCKED}:
        raise LockedError(
            f"cannot {what} {location}: another run of borg holds its lock",
            hint=f"wait for it (--lock-wait); if it is dead: regstore backup unlock {location}",
        )
    if "No space left" in text:
        raise StorageFailedError(
            f"cannot {what} {location}: the target is full", hint="prune, or make room; then run again", code="full"
        )
    hint = "see the message of borg"
    if "access aborted" in text:
        hint = "borg knows it at another place: if it was moved, set BORG_RELOCATED_REPO_ACCESS_IS_OK=yes once"
    raise StorageFailedError(f"cannot {what} {location}: {text}", hint=hint, code="borg-failed")


def _stdout_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise TypeError("a process without a pipe")
    return process.stdout


def _environment(fd: int, files_cache: str) -> dict[str, str]:
    environment = without_passphrase(dict(os.environ))
    environment |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "BORG_EXIT_CODES": "modern", "BORG_PASSPHRASE_FD": str(fd)}
    if files_cache:
        environment.setdefault("BORG_FILES_CACHE_SUFFIX", files_cache)
    environment.setdefault("BORG_BASE_DIR", str(state_directory() / "borg"))
    environment.setdefault("BORG_DISPLAY_PASSPHRASE", "no")
    environment.setdefault("BORG_RELOCATED_REPO_ACCESS_IS_OK", "no")
    return environment

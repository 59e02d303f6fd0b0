"""The steps of a night: each one a command as an operator would give it, in a process of its own.

A step that fails, or eats all memory, hurts no other one; and what a step does can be tried by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from regstore.errors import UsageError
from regstore.jobs import note_job, read_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from regstore.configuration import Configuration, Nightly
    from regstore.work import Cancel

_POLL_SECONDS = 0.2
_SHOWN_BYTES = 100_000
_VERIFY_DAYS = 30
_KEEP = "keep_"
_LOCKED = 5
JOBS = {
    "fsck": "fsck",
    "backup": "backup",
    "verify": "backup verify",
    "prune": "backup prune",
    "drill": "drill",
    "gc": "gc",
    "report": "report",
    "luks": "luks check",
    "metrics": "metrics",
}
"""Under which name each step is noted, by itself or by the night."""
OF_STORE = ("verify", "prune", "drill")
"""Steps that note themselves on the store, not on the registry."""

_ON_REQUEST = ("drill",)
"""Steps that are no part of a night unless it names them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command: its name among the steps, and what is written behind `regstore`."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    Attributes:
        exit_code: of the command; None when it was left out.
        started_at: seconds since the epoch.
        output: the end of what it printed.
    """

    step: Step
    exit_code: int | None
    duration_seconds: float = 0.0
    output: str = ""
    started_at: float = 0.0

    @property
    def word(self) -> str:
        """How it is called in a summary."""
        if self.exit_code is None:
            return "left out"
        return {0: "ok", 1: "findings", _LOCKED: "locked"}.get(self.exit_code, "failed")

    @property
    def is_failed(self) -> bool:
        """Tell whether it did not come to its end."""
        return self.exit_code not in (0, 1)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "step": self.step.name,
            "command": ["regstore", *self.step.words],
            "outcome": self.word,
            "exit_code": self.exit_code,
            "duration_seconds": round(self.duration_seconds, 3),
            "output": self.output,
        }


class Run(Protocol):
    """How the words behind `regstore` are run: returns the exit code and the end of the output."""

    def __call__(self, words: Sequence[str], cancel: Cancel) -> tuple[int, str]: ...


def plan_steps(night: Nightly, configuration: Configuration, today: date) -> list[Step]:
    """Return the steps of a night, in order.

    Args:
        night: what is wanted.
        configuration: where the registry and the store stand.
        today: which part of a store is verified; in a month every part has been.

    Raises:
        UsageError: a step is unknown, or cannot be done with what is configured.
    """
    all_steps = _possible_steps(night, configuration, today)
    for name in night.steps:
        if name not in all_steps:
            where = f"[nightly.{night.name}]"
            raise UsageError(f"{where} has an unknown step {name}", hint=f"known: {', '.join(all_steps)}")
        if all_steps[name] is None:
            raise UsageError(
                f"[nightly.{night.name}] cannot do the step {name}",
                hint="backup, verify, prune and drill need a store, luks the registry's header_backup, "
                "metrics a textfile",
            )
    usual = (name for name, words in all_steps.items() if words is not None and name not in _ON_REQUEST)
    chosen = night.steps or tuple(usual)
    return [Step(name, words) for name in chosen if (words := all_steps[name]) is not None]


def _possible_steps(night: Nightly, configuration: Configuration, today: date) -> dict[str, tuple[str, ...] | None]:
    """Return the words of every step, None for those that lack something. The order is that of a night.

    What is whole is saved first, then room is made, then the numbers are taken.
    """
    registry, store = night.name, night.store
    place = configuration.registries[registry]
    has_rules = bool(store) and any(key.startswith(_KEEP) for key in configuration.stores[store].options)
    part = f"{today.toordinal() % _VERIFY_DAYS + 1}/{_VERIFY_DAYS}"
    is_local = "://" not in place.location
    return {
        "fsck": ("fsck", "--data", "--older-than", "30d", "--time-budget", "1h", "--idle", "-q", registry),
        "backup": ("backup", "create", "-q", registry, store) if store else None,
        "verify": ("backup", "verify", "-q", "--subset", part, store) if store else None,
        "prune": ("backup", "prune", "-q", store) if has_rules else None,
        "drill": ("drill", "-q", store) if store else None,
        "gc": ("gc", "run", "-q", registry),
        "report": ("report", "capacity", "-q", registry),
        "luks": ("luks", "check", "-q", registry) if is_local and "header_backup" in place.options else None,
        "metrics": ("metrics", "--textfile", night.textfile, registry) if night.textfile else None,
    }


def run_steps(
    steps: Sequence[Step], cancel: Cancel, *, stop_on_failure: bool = False, run: Run | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:  # fmt: skip
    """Run steps one after the other and yield how each ended; after a failed one the rest goes on.

    Args:
        steps: of `plan_steps`.
        cancel: ends the step that runs, and leaves out the rest.
        stop_on_failure: leave out the rest after a failed step.
        run: for tests.
        clock: seconds.
    """
    is_over = False
    for step in steps:
        if is_over or cancel.is_requested:
            yield Outcome(step, None)
            continue
        started, started_at = clock(), time.time()
        code, output = (run or run_command)(step.words, cancel)
        outcome = Outcome(step, code, clock() - started, output, started_at)
        is_over = stop_on_failure and outcome.is_failed
        yield outcome


def note_outcome(outcome: Outcome, location: str, store: str) -> None:
    """Note a step on the registry, unless its command did so itself.

    A command notes nothing that was killed, that failed before it had opened the registry, or that works on a store:
    of the latter the findings are taken from the store's own note.

    Args:
        outcome: of the step; one that was left out is not noted.
        location: of the registry.
        store: the location of the store, or empty.
    """
    if outcome.exit_code is None:
        return
    job = JOBS[outcome.step.name]
    last = read_jobs(location).get(job)
    if last is not None and last.last_run_at >= outcome.started_at:
        return
    of_store = read_jobs(store).get(job) if store else None
    is_of_this_run = of_store is not None and of_store.last_run_at >= outcome.started_at
    numbers, findings = (of_store.numbers, of_store.findings) if of_store and is_of_this_run else ({}, {})
    note_job(location, job, outcome.started_at, outcome.duration_seconds, outcome.exit_code, numbers, findings)


def run_command(words: Sequence[str], cancel: Cancel) -> tuple[int, str]:
    """Run regstore with these words. Its output is kept to its last 100,000 bytes; a request to stop goes to it.

    It has a session of its own: of a Ctrl-C it hears from here alone, since a second signal would end it at once.
    """
    with subprocess.Popen(
        [*_own_command(), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        if process.stdout is None:
            raise AssertionError
        os.set_blocking(process.stdout.fileno(), False)
        kept: deque[bytes] = deque()
        is_told = False
        while True:
            code = process.poll()
            while piece := process.stdout.read(65536):
                kept.append(piece)
                while sum(map(len, kept)) > 2 * _SHOWN_BYTES:
                    kept.popleft()
            if code is not None:
                break
            if cancel.is_requested and not is_told:
                process.terminate()
                is_told = True
            time.sleep(_POLL_SECONDS)
    output = b"".join(kept)[-_SHOWN_BYTES:].decode("utf-8", "replace")
    return (code if code >= 0 else 128 - code), output


def _own_command() -> list[str]:
    """Return what runs regstore: the directory around it where that is a program, as in the package for Debian.

    Nothing is imported from the working directory, which may be anybody's: `-m` would look there first.
    """
    here = Path(__file__).parent
    if (here.parent / "__main__.py").is_file():
        return [sys.executable, "-I", str(here.parent)]
    return [sys.executable, "-P", str(here / "__main__.py")]

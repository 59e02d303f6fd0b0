"""How a run ended, as it is told: one line, a text, a JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regstore._version import __version__
from regstore.wording import iso_time, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION = 1
_TAIL_CHARACTERS = 2000
_ERROR_CHARACTERS = 500
_FAILED = ("failed", "locked")
_WORDS = {0: "ok", 1: "findings", 5: "locked", 129: "interrupted", 130: "interrupted", 143: "interrupted"}


def outcome_word(exit_code: int) -> str:
    """Return what an exit code of a run is called."""
    return _WORDS.get(exit_code, "failed")


@dataclass(frozen=True, slots=True)
class Report:
    """A run that ended.

    Attributes:
        host: where it ran.
        registry: the name of the registry in the configuration.
        location: of the registry, as it is configured.
        started_at: seconds since the epoch.
        duration_seconds: how long it took.
        exit_code: how it ended.
        steps: each as in `run nightly --json`; none when the run could not begin.
        error: why it could not begin or go on, or empty.
        text: a summary for people, of some lines.
        is_test: whether nothing was run, and only the way to the reader is tried.
    """

    host: str
    registry: str
    location: str
    started_at: float
    duration_seconds: float
    exit_code: int
    steps: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    text: str = ""
    is_test: bool = False

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        return "test" if self.is_test else outcome_word(self.exit_code)

    @property
    def title(self) -> str:
        """The run and how it ended, on one line: `nightly main: failed (backup, gc)`."""
        failed = [str(step["step"]) for step in self.steps if step["outcome"] in _FAILED]
        bad = failed or [str(step["step"]) for step in self.steps if step["outcome"] == "findings"]
        return f"nightly {plain(self.registry)}: {self.outcome}" + (f" ({', '.join(bad)})" if bad else "")

    @property
    def subject(self) -> str:
        """The title with the host, as the subject of a mail."""
        return f"[regstore] {plain(self.host)}: {self.title}"

    @property
    def line(self) -> str:
        """The subject and, where there is one, the error."""
        return f"{self.subject}: {plain(self.error[:_ERROR_CHARACTERS])}" if self.error else self.subject

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; of what steps printed the last 2,000 characters."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool_version": __version__,
            "command": "run nightly",
            "text": self.line,
            "host": self.host,
            "registry": self.registry,
            "location": self.location,
            "started_at": iso_time(self.started_at),
            "duration_seconds": round(self.duration_seconds, 3),
            "exit_code": self.exit_code,
            "outcome": self.outcome,
            "error": self.error or None,
            "steps": [_step_to_json(step) for step in self.steps],
        }


def _step_to_json(step: Mapping[str, Any]) -> dict[str, Any]:
    short = {key: value for key, value in step.items() if key != "output"}
    return {**short, "output_tail": str(step["output"])[-_TAIL_CHARACTERS:]}

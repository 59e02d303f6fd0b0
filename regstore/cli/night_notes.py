"""Noting how a night and its steps ended, for status and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.named import find_store
from regstore.errors import RegstoreError

if TYPE_CHECKING:
    from regstore import jobs, nightly
    from regstore import registry as registries
    from regstore.configuration import Configuration, Nightly
    from regstore.nightly import Outcome
    from regstore.report import textfile as textfiles
else:
    jobs = Lazily("regstore.jobs")
    nightly = Lazily("regstore.nightly")
    registries = Lazily("regstore.registry")
    textfiles = Lazily("regstore.report.textfile")

JOB = "nightly"


class NightNotes:
    """The notes of one night.

    Args:
        configuration: where registry and store stand.
        night: of the configuration.
        started: seconds since the epoch.
    """

    def __init__(self, configuration: Configuration, night: Nightly, started: float) -> None:
        self._night = night
        self._started = started
        place = configuration.registries[night.name].location
        self._configuration = configuration
        try:
            self._location = registries.settled_location(place)
        except Exception:  # noqa: BLE001 - the steps say what is wrong with it, and somebody is told
            self._location = place

    def add(self, outcome: Outcome) -> None:
        """Note a step."""
        is_of_store = outcome.step.name in nightly.OF_STORE
        store = self._store() if is_of_store else ""
        nightly.note_outcome(outcome, self._location, store)

    def end(self, exit_code: int, duration_seconds: float) -> None:
        """Note the night, and bring its text file up to date; where that cannot be written is a warning."""
        note = jobs.note_job(self._location, JOB, self._started, duration_seconds, exit_code, {}, {})
        if not self._night.textfile:
            return
        try:
            newest = jobs.newest_jobs(self._location, self._store())
            textfiles.update_jobs(self._night.textfile, self._location, {**newest, JOB: note})
        except (RegstoreError, OSError) as error:
            messages.warn(f"the metrics do not show how this night ended: {error}", hint=getattr(error, "hint", ""))

    def _store(self) -> str:
        return find_store(self._configuration, self._night.store)

"""One pass over all repositories of a volume: scan, mark, look twice at what may be a write in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.inventory.mark import Marks, mark_repository
from regstore.inventory.memory import recall_marks, to_remember
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Set

    from regstore.digest import Digest
    from regstore.inventory.manifests import ManifestReader
    from regstore.inventory.mark import Policy
    from regstore.registry.scan import Repository, Volume
    from regstore.state import State
    from regstore.work import Cancel, Progress

SECOND_LOOKS_SECONDS = (0.15, 0.35, 0.7)
"""Pauses before a damaged repository is read again: over a second in all, longer than a link is half-written."""


_Troubles = set[tuple[str, str]]


def _troubles_of(marks: Marks) -> _Troubles:
    """Return kind and subject of what was wrong."""
    return {(kind, subject) for kind, subject, _ in marks.troubles}


def _is_damaged(marks: Marks) -> bool:
    return bool(marks.troubles or marks.restores)


class Survey:
    """Scans and marks repositories.

    A repository with damage is put aside and read again, whole, after the others and after pauses that last over a
    second in all: a registry of the 2.x line truncates a link before it writes it, writes a tag's index before its
    current link, and removes a tag file by file.

    Args:
        volume: what is read.
        state: what is remembered of it.
        policy_of: the marking policy for a repository.
        manifests: their records.
        cancel: asked between repositories, and waited with.
        doubted: repository to layer links that are looked for whatever is remembered: a former run removed them.
        on_error: told of a repository that cannot be read and of the reason, and the survey goes on; by default it
            ends.
    """

    def __init__(
        self,
        volume: Volume,
        state: State,
        policy_of: Callable[[Repository], Policy],
        manifests: ManifestReader,
        cancel: Cancel,
        doubted: Mapping[str, Set[Digest]],
        on_error: Callable[[str, DriverError], None] | None = None,
    ) -> None:
        self._volume = volume
        self._state = state
        self._policy_of = policy_of
        self._manifests = manifests
        self._cancel = cancel
        self._doubted = doubted
        self._on_error = on_error

    def iter_repositories(self, progress: Progress) -> Iterator[tuple[Repository, Marks]]:
        """Yield every repository once with its marks.

        The names are listed again at the end: what appeared meanwhile is scanned too.
        """
        names = self._volume.list_repositories()
        seen: set[str] = set()
        damaged: dict[str, _Troubles] = {}
        progress.start("repositories", len(names))
        while names:
            for name in names:
                self._cancel.check()
                examined = self._try_to_examine(name)
                if examined and _is_damaged(examined[1]):
                    damaged[name] = _troubles_of(examined[1])
                elif examined:
                    yield examined
                progress.advance()
            seen.update(names)
            names = [name for name in self._volume.list_repositories() if name not in seen]
        progress.finish()
        yield from self._look_again(damaged)
        self._state.commit()

    def _look_again(self, damaged: dict[str, _Troubles]) -> Iterator[tuple[Repository, Marks]]:
        """Look at damaged repositories after each pause. Damage is what every look saw: beside a busy registry each may
        meet another write in flight. A repository with any at the last look stays frozen, whatever is told of it."""
        for pause in SECOND_LOOKS_SECONDS if damaged else ():
            self._cancel.wait(pause)
            still: dict[str, _Troubles] = {}
            for name, troubles in damaged.items():
                examined = self._try_to_examine(name)
                if examined and _is_damaged(examined[1]):
                    still[name] = troubles & _troubles_of(examined[1])
                elif examined:
                    yield examined
            damaged = still
        for name, troubles in damaged.items():
            if examined := self._try_to_examine(name):
                marks = examined[1]
                marks.troubles = [trouble for trouble in marks.troubles if trouble[:2] in troubles]
                yield examined

    def _try_to_examine(self, name: str) -> tuple[Repository, Marks] | None:
        try:
            return self.examine(name)
        except DriverError as error:
            if self._on_error is None:
                raise
            self._on_error(name, error)
            return None

    def examine(self, name: str) -> tuple[Repository, Marks]:
        """Scan and mark one repository as it is now."""
        known = stored = self._state.known_repository(name)
        if name in self._doubted:
            known = known._replace(layers=known.layers - self._doubted[name])
        repository = self._volume.scan_repository(name, known)
        policy = self._policy_of(repository)
        marks = recall_marks(repository, known) if policy.keep_untagged else None
        if marks is None:
            marks = mark_repository(repository, self._manifests, policy)
            self._manifests.remember()
        remembered = to_remember(repository, marks, known if policy.keep_untagged else None)
        if remembered != stored:
            self._state.remember_repository(name, remembered)
        return repository, marks

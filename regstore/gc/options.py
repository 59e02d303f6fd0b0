"""The options of a collection. They stand in the head of a plan file, so that applying it needs nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400.0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and value >= 0  # type: ignore[operator]


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "float": _is_number,
    "float | None": lambda value: value is None or _is_number(value),
    "int": lambda value: type(value) is int and value >= 1,
    "int | None": lambda value: value is None or (type(value) is int and value >= 0),
    "str | None": lambda value: value is None or isinstance(value, str),
    "tuple[str, ...]": lambda value: isinstance(value, list | tuple) and all(isinstance(item, str) for item in value),
}
"""What a JSON document may hold for an option, by its type."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a collection may remove. Durations are seconds.

    Attributes:
        offline: the registry is stopped or proven read-only; links and blobs go in one run.
        delete_untagged: revisions that no tag needs go.
        untagged_older_than: only untagged revisions whose link is at least that old go; implies `delete_untagged`.
        grace: nothing younger goes.
        registry_urls: every replica that serves this volume; links are removed through its API so that its cache
            forgets.
        max_delete_percent, max_delete_bytes: the most of the blob data that a run may take; None: no limit.
        upload_age: uploads at least that old go.
        empty_repositories: repositories without links and uploads go (offline, on a file system).
        keep_signature_history: untagged signatures that a kept signature tag named before stay.
        delete_orphan_signatures: signature and fallback tags whose subject is gone go.
        no_quarantine: what is removed is deleted at the end of the run.
        quarantine_retention: what earlier runs quarantined is deleted when it is at least that old.
        repository: a pattern; only repositories that match lose anything.
        jobs: how many requests run at once on an object store.
    """

    offline: bool = False
    delete_untagged: bool = False
    untagged_older_than: float | None = None
    grace: float = DAY
    registry_urls: tuple[str, ...] = ()
    max_delete_percent: float | None = 50.0
    max_delete_bytes: int | None = None
    upload_age: float = 7 * DAY
    empty_repositories: bool = False
    keep_signature_history: bool = False
    delete_orphan_signatures: bool = False
    no_quarantine: bool = False
    quarantine_retention: float = 7 * DAY
    repository: str | None = None
    jobs: int = 16

    @property
    def deletes_untagged(self) -> bool:
        """Whether untagged revisions may go."""
        return self.delete_untagged or self.untagged_older_than is not None

    def may_remove_from(self, repository: str) -> bool:
        """Tell whether a repository may lose anything."""
        return self.repository is None or fnmatchcase(repository, self.repository)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Options:
        """Read the JSON form.

        Raises:
            ValueError: an option is missing, unknown or of the wrong type.
        """
        names = {field.name for field in fields(cls)}
        if set(content) != names:
            raise ValueError(f"the options differ from those of this version: {sorted(names ^ set(content))}")
        for field in fields(cls):
            if not _CHECKS[str(field.type)](content[field.name]):
                raise ValueError(f"the option {field.name} cannot be {content[field.name]!r}")
        return cls(**{**content, "registry_urls": tuple(content["registry_urls"])})

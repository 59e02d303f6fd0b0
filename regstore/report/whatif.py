"""What-if rules: which tags would go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from regstore.durations import parse_duration
from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMS = "write 'delete REPOSITORY:TAG' (patterns allowed), 'keep-last 10', or 'older-than 90d'"


class Rule(Protocol):
    """A rule."""

    @property
    def text(self) -> str:
        """What the operator wrote."""

    def choose(self, repository: str, pushed: Mapping[str, float], now: float) -> set[str]:
        """Return the tags of a repository that would go.

        Args:
            repository: its name.
            pushed: tag to the time at which it was pushed, in seconds since the epoch; no tags of signatures.
            now: seconds since the epoch.
        """


@dataclass(frozen=True, slots=True)
class Delete:
    """Tags whose repository and name match patterns; case counts, and a star crosses slashes."""

    text: str
    repository: str
    tag: str

    def choose(self, repository: str, pushed: Mapping[str, float], _: float) -> set[str]:
        """See `Rule.choose`."""
        if not fnmatchcase(repository, self.repository):
            return set()
        return {tag for tag in pushed if fnmatchcase(tag, self.tag)}


@dataclass(frozen=True, slots=True)
class KeepLast:
    """All tags of a repository but the last `count` that were pushed; of those of one time the names that sort last
    stay."""

    text: str
    count: int

    def choose(self, _: str, pushed: Mapping[str, float], __: float) -> set[str]:
        """See `Rule.choose`."""
        order = sorted(pushed, key=lambda tag: (pushed[tag], tag), reverse=True)
        return set(order[self.count :])


@dataclass(frozen=True, slots=True)
class OlderThan:
    """Tags that were pushed more than `seconds` ago."""

    text: str
    seconds: float

    def choose(self, _: str, pushed: Mapping[str, float], now: float) -> set[str]:
        """See `Rule.choose`."""
        return {tag for tag, at in pushed.items() if now - at > self.seconds}


def parse_rule(text: str) -> Rule:
    """Parse a rule as an operator writes it.

    Raises:
        UsageError: it is none.
    """
    verb, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    if verb == "delete":
        repository, separator, tag = argument.rpartition(":")
        if separator and repository and tag and "/" not in tag:
            return Delete(text, repository, tag)
    elif verb == "keep-last":
        if re.fullmatch(r"[0-9]{1,9}", argument):
            return KeepLast(text, int(argument))
    elif verb == "older-than":
        try:
            return OlderThan(text, parse_duration(argument))
        except ValueError as error:
            raise UsageError(f"{text!r} is no rule: {error}", hint=_FORMS, code="bad-rule") from None
    raise UsageError(f"{text!r} is no rule", hint=_FORMS, code="bad-rule")

"""Rules: which tags would go."""

from __future__ import annotations

import pytest

from regstore import report
from regstore.errors import UsageError

NOW = 1_000_000.0
DAY = 86400.0
PUSHED = {"v1": NOW - 10 * DAY, "v2": NOW - 5 * DAY, "v3": NOW - DAY, "V4": NOW}


@pytest.mark.parametrize(
    ("rule", "repository", "going"),
    [
        ("delete app:v1", "app", {"v1"}),
        ("delete app:v*", "app", {"v1", "v2", "v3"}),
        ("delete app:*", "app", set(PUSHED)),
        ("delete app:v*", "team/app", set()),
        ("delete *:v1", "team/app", {"v1"}),
        ("delete team/*:v[12]", "team/deep/app", {"v1", "v2"}),
        ("delete App:v1", "app", set()),
        ("delete  app:v1 ", "app", {"v1"}),
        ("keep-last 10", "app", set()),
        ("keep-last 2", "app", {"v1", "v2"}),
        ("keep-last 0", "app", set(PUSHED)),
        ("older-than 1d", "app", {"v1", "v2"}),
        ("older-than 0s", "app", {"v1", "v2", "v3"}),
        ("older-than 1w", "app", {"v1"}),
    ],
)
def test_rules_choose_tags(rule: str, repository: str, going: set[str]) -> None:
    parsed = report.parse_rule(rule)

    assert parsed.choose(repository, PUSHED, NOW) == going
    assert parsed.text == rule


def test_of_tags_of_one_time_the_last_names_stay() -> None:
    assert report.parse_rule("keep-last 1").choose("app", dict.fromkeys("abc", NOW), NOW) == {"a", "b"}


@pytest.mark.parametrize(
    "rule",
    [
        *("", "delete", "delete app", "delete app:", "delete :v1", "delete app:a/b", "remove app:v1"),
        *(
            "keep-last",
            "keep-last -1",
            "keep-last many",
            "keep-last 1.5",
            "older-than",
            "older-than 90",
            "older-than 3y",
        ),
    ],
)
def test_what_is_no_rule_says_how_to_write_one(rule: str) -> None:
    with pytest.raises(UsageError, match="is no rule") as caught:
        report.parse_rule(rule)
    assert "keep-last 10" in caught.value.hint

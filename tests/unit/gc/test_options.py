"""Options and their JSON form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regstore.gc import Options

SECONDS = st.floats(0, 1e9)
OPTIONS = st.builds(
    Options,
    offline=st.booleans(),
    delete_untagged=st.booleans(),
    untagged_older_than=st.none() | SECONDS,
    grace=SECONDS,
    registry_urls=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    max_delete_percent=st.none() | st.floats(0, 100),
    max_delete_bytes=st.none() | st.integers(0),
    upload_age=SECONDS,
    empty_repositories=st.booleans(),
    keep_signature_history=st.booleans(),
    delete_orphan_signatures=st.booleans(),
    no_quarantine=st.booleans(),
    quarantine_retention=SECONDS,
    repository=st.none() | st.text(max_size=10),
    jobs=st.integers(1, 256),
)


@given(OPTIONS)
def test_the_json_form_keeps_every_option(options: Options) -> None:
    assert Options.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_an_option_too_few_or_too_many_is_an_error() -> None:
    content = Options().to_json()
    fewer = {name: value for name, value in content.items() if name != "grace"}

    with pytest.raises(ValueError, match="grace"):
        Options.from_json(fewer)
    with pytest.raises(ValueError, match="force"):
        Options.from_json({**content, "force": True})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grace", "24h"),
        ("grace", None),
        ("grace", True),
        ("offline", "yes"),
        ("offline", 1),
        ("delete_untagged", None),
        ("registry_urls", "http://x"),
        ("registry_urls", [1]),
        ("max_delete_percent", "50%"),
        ("max_delete_bytes", 1.5),
        ("repository", 7),
        ("repository", []),
        ("jobs", "4"),
        ("jobs", 2.5),
        ("jobs", 0),
        ("grace", -1.0),
        ("upload_age", -1),
        ("untagged_older_than", -1),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Options.from_json({**Options().to_json(), name: value})


def test_whole_numbers_of_seconds_are_durations() -> None:
    assert Options.from_json({**Options().to_json(), "grace": 3600}) == Options(grace=3600.0)


def test_the_defaults_are_careful() -> None:
    options = Options()

    assert (options.offline, options.deletes_untagged, options.no_quarantine) == (False, False, False)
    assert (options.grace, options.upload_age, options.quarantine_retention) == (86400, 7 * 86400, 7 * 86400)
    assert (options.max_delete_percent, options.max_delete_bytes, options.repository) == (50.0, None, None)
    assert not options.delete_orphan_signatures


def test_an_age_of_untagged_manifests_asks_for_their_deletion() -> None:
    assert Options(untagged_older_than=0.0).deletes_untagged
    assert Options(delete_untagged=True).deletes_untagged


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        (None, "any/thing", True),
        ("app", "app", True),
        ("app", "app/web", False),
        ("app*", "app/web/x", True),
        ("*/web", "app/web", True),
        ("*/web", "web", False),
        ("a?p", "app", True),
        ("[ab]pp", "app", True),
        ("APP", "app", False),
        ("", "app", False),
    ],
)
def test_patterns_match_whole_names_and_stars_cross_slashes(pattern: str | None, name: str, matches: bool) -> None:
    assert Options(repository=pattern).may_remove_from(name) is matches

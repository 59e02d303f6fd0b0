"""When a collection refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regstore import gc
from regstore.errors import RefusedError
from regstore.findings import Finding
from regstore.gc import Action, Kind, Options, Summary, Verb
from regstore.gc.guards import check_harbor, check_markers, refusals_of
from regstore.registry.config import RegistryConfig
from support.memory_registry import MemoryRegistry
from support.random_volumes import DAY, NOW
from support.volume import layer_link_key

ACTIONS = {kind: Action(Verb.REMOVE, kind, "app", None, "name", 5, "") for kind in Kind}
CACHED = RegistryConfig("/etc/config.yml", "filesystem", {}, cache="inmemory")


def refused(
    config: RegistryConfig | None, options: Options, *actions: Action, summary: Summary | None = None
) -> list[str]:
    """Return the codes of the guards that are not passed."""
    registry = MemoryRegistry(config=config).registry
    return [refusal.code for refusal in refusals_of(registry, options, summary or Summary(), actions)]


@pytest.mark.parametrize("kind", [Kind.LAYER_LINK, Kind.REVISION_LINK, Kind.TAG_LINK, Kind.BLOB])
def test_what_a_cache_may_answer_for_goes_online_only_where_none_can(kind: Kind) -> None:
    action = ACTIONS[kind]

    assert refused(None, Options(), action) == ["cache"]
    assert refused(CACHED, Options(), action) == ["cache"]
    assert refused(RegistryConfig("/x", "filesystem", {}), Options(), action) == []
    assert refused(None, Options(registry_urls=("http://x",)), action) == []
    assert refused(CACHED, Options(registry_urls=("http://x",)), action) == []
    assert refused(None, Options(offline=True), action) == []
    assert refused(CACHED, Options(offline=True), action) == []
    assert refused(None, Options(), action._replace(verb=Verb.RESTORE)) == []
    assert refused(None, Options(), action._replace(verb=Verb.CONDEMN)) == ["cache"]


@pytest.mark.parametrize("kind", [Kind.UPLOAD, Kind.MULTIPART, Kind.LEFTOVER, Kind.TAG_INDEX])
def test_no_cache_answers_for_the_rest(kind: Kind) -> None:
    assert refused(None, Options(), ACTIONS[kind]) == []
    assert refused(None, Options()) == []


def test_the_refusal_says_what_is_missing() -> None:
    registry = MemoryRegistry(config=CACHED).registry

    refusal = refusals_of(registry, Options(), Summary(), [ACTIONS[Kind.BLOB]])[0]

    assert "/etc/config.yml has a blob descriptor cache (inmemory)" in refusal.message
    assert "--registry-url" in refusal.hint
    assert "--offline" in refusal.hint


@pytest.mark.parametrize(
    ("limits", "removable", "codes"),
    [
        ({}, 500, []),
        ({}, 501, ["max-delete"]),
        ({"max_delete_percent": 100.0}, 1000, []),
        ({"max_delete_percent": 0.0}, 0, []),
        ({"max_delete_percent": 0.0}, 1, ["max-delete"]),
        ({"max_delete_percent": 50.1}, 501, []),
        ({"max_delete_percent": None}, 1000, []),
        ({"max_delete_percent": None, "max_delete_bytes": 10}, 10, []),
        ({"max_delete_percent": None, "max_delete_bytes": 10}, 11, ["max-delete"]),
        ({"max_delete_percent": None, "max_delete_bytes": 0}, 1, ["max-delete"]),
    ],
)
def test_limits(limits: dict[str, Any], removable: int, codes: list[str]) -> None:
    summary = Summary(live_bytes=300, grace_bytes=100, unreferenced_bytes=600, removable_bytes=removable)

    assert refused(None, Options(offline=True, **limits), summary=summary) == codes


def test_both_guards_are_named() -> None:
    summary = Summary(unreferenced_bytes=10, removable_bytes=10)

    assert refused(None, Options(), ACTIONS[Kind.BLOB], summary=summary) == ["cache", "max-delete"]


@pytest.mark.parametrize(
    ("options", "tags", "signatures", "revisions", "is_refused"),
    [
        (Options(delete_untagged=True), 0, 0, 1, True),
        (Options(untagged_older_than=DAY), 0, 0, 1, True),
        (Options(delete_untagged=True, max_delete_percent=None), 0, 0, 9, True),
        (Options(delete_untagged=True), 2, 2, 3, True),
        (Options(delete_untagged=True), 2, 1, 3, False),
        (Options(delete_untagged=True), 1, 0, 1, False),
        (Options(delete_untagged=True), 0, 0, 0, False),
        (Options(), 0, 0, 1, False),
    ],
)
def test_the_shape_of_harbor(options: Options, tags: int, signatures: int, revisions: int, is_refused: bool) -> None:
    summary = Summary(tag_count=tags, signature_tag_count=signatures, revision_count=revisions)

    if is_refused:
        with pytest.raises(RefusedError, match="Harbor") as caught:
            check_harbor(options, summary)
        assert (caught.value.code, caught.value.exit_code) == ("harbor", 3)
    else:
        check_harbor(options, summary)


def calls(bench: MemoryRegistry) -> list[Callable[[], object]]:
    """Return every operation that must ask the guards of markers."""
    plan = gc.Plan("memory://test", Options(), NOW, Summary(), [], list[Finding]())
    return [
        bench.plan,
        bench.collect,
        lambda: bench.apply(plan),
        bench.undo,
        lambda: gc.purge(bench.registry, 0.0, state=bench.state),
    ]


def test_a_database_in_use_is_refused_always_and_nothing_is_written() -> None:
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.put("docker/registry/lockfiles/database-in-use", b"")
    before = bench.everything

    for call in calls(bench):
        with pytest.raises(RefusedError, match="GitLab") as caught:
            call()
        assert caught.value.code == "database-in-use"
    assert bench.everything == before


def test_another_lock_file_is_none() -> None:
    bench = MemoryRegistry()
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.put("docker/registry/lockfiles/filesystem-in-use", b"")

    check_markers(bench.registry)
    for call in calls(bench):
        call()


@pytest.mark.parametrize("code", ["cache", "max-delete"])
def test_a_refused_run_changes_nothing_and_leaves_no_run(code: str) -> None:
    bench = MemoryRegistry(config=None)
    bench.time = NOW - 2 * DAY
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.writer.layer("app", b"g" * 10_000)
    bench.time = NOW
    before = bench.contents
    options = {"offline": True, "max_delete_percent": 50.0} if code == "max-delete" else {}
    plan = bench.plan(**options)
    assert [refusal.code for refusal in plan.refusals] == [code]

    for run in (lambda: bench.collect(**options), lambda: bench.apply(plan)):
        with pytest.raises(RefusedError) as caught:
            run()
        assert caught.value.code == code

    assert bench.contents == before
    assert set(bench.everything) - set(before) <= {"regstore/lock"}


def test_a_plan_made_elsewhere_is_guarded_by_what_is_true_here() -> None:
    """The limit counts the volume as it is when the plan is applied."""
    bench = MemoryRegistry()
    bench.time = NOW - 2 * DAY
    bench.writer.push_image("app", "latest", [b"l" * 10_000], b"{}")
    garbage = bench.writer.layer("app", b"g" * 5_000)
    bench.time = NOW
    plan = bench.plan(offline=True, max_delete_percent=50.0)
    assert plan.refusals == []
    bench.drop(*[key for key in bench.keys if "latest" in key])
    bench.drop(*[key for key in bench.keys if "/revisions/" in key])

    with pytest.raises(RefusedError):
        bench.apply(plan)
    assert layer_link_key("app", garbage) in bench.keys

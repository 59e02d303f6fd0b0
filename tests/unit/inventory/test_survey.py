"""One pass over a volume: writes in flight, what appears and vanishes, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from regstore.digest import Digest, format_digest, parse_digest
from regstore.errors import InterruptedRunError
from regstore.inventory import survey as survey_module
from regstore.inventory.manifests import ManifestReader
from regstore.inventory.mark import Marks, Policy
from regstore.inventory.survey import Survey
from regstore.registry.listing import ListingVolume
from regstore.registry.local import LocalVolume
from regstore.registry.scan import Repository
from regstore.state import State
from regstore.work import Cancel, NoProgress
from regstore_drivers.base import ReadDriver
from regstore_drivers.errors import Unavailable
from regstore_drivers.wrappers import Counting, Faulty
from support.examples import examples
from support.memory_registry import MemoryRegistry
from support.random_volumes import Tree, reachable, tags_of, trees
from support.volume import VolumeWriter, blob_key, layer_link_key, revision_link_key, tag_link_key

Seen = dict[str, tuple[Repository, Marks]]


def look(
    driver: ReadDriver,
    state: State | None = None,
    policy: Policy = Policy(is_young=lambda _: False),  # noqa: B008 - never changed
    cancel: Cancel | None = None,
    doubted: dict[str, set[Digest]] | None = None,
) -> Seen:
    """Survey a volume and return every repository with its marks."""
    volume, state = ListingVolume(driver), state or State(None)
    made = Survey(volume, state, lambda _: policy, ManifestReader(volume, state), cancel or Cancel(), doubted or {})
    seen: Seen = {}
    for repository, marks in made.iter_repositories(NoProgress()):
        assert repository.name not in seen, "a repository came twice"
        seen[repository.name] = (repository, marks)
    return seen


@pytest.fixture
def bench() -> MemoryRegistry:
    """Two repositories behind a driver with faults."""
    made = MemoryRegistry(wrap=Faulty)
    made.writer.push_image("app", "latest", [b"layer"], b"{}")
    made.writer.push_image("web", "latest", [b"web"], b"{}")
    return made


def faults(bench: MemoryRegistry) -> Faulty:
    """Return its driver."""
    assert isinstance(bench.driver, Faulty)
    return bench.driver


def kinds(seen: Seen) -> list[str]:
    """Return the kinds of all troubles, sorted."""
    return sorted(kind for _, marks in seen.values() for kind, _, _ in marks.troubles)


def test_every_repository_comes_once(bench: MemoryRegistry) -> None:
    seen = look(bench.driver)

    assert set(seen) == {"app", "web"}
    assert kinds(seen) == []
    assert all(len(marks.kept) == 1 and len(marks.needed) == 2 for _, marks in seen.values())


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_link_that_is_being_written_is_no_damage(bench: MemoryRegistry, looks: int) -> None:
    key = tag_link_key("app", "latest")
    whole = bench.contents[key]
    bench.put(key, b"")
    faults(bench).call_after("read", key, lambda: bench.put(key, whole), nth=looks)

    seen = look(bench.driver)

    assert kinds(seen) == []
    assert set(seen["app"][0].tags) == {"latest"}


def test_a_link_that_stays_malformed_is_damage_once(bench: MemoryRegistry) -> None:
    bench.put(tag_link_key("app", "latest"), b"")

    seen = look(bench.driver)

    assert kinds(seen) == ["link-malformed"]
    assert seen["app"][1].is_frozen
    assert not seen["web"][1].is_frozen
    assert list(seen) == ["web", "app"]


def test_damage_that_each_look_sees_elsewhere_is_none(bench: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a busy registry each look may meet another write in flight; what it cannot believe stays, untold."""
    tags = [f"t{number}" for number in range(10)]
    whole = {tag: bench.writer.push_image("app", tag, [tag.encode()], b"{}").digest.encode() for tag in tags}
    lasting = tag_link_key("app", "latest")
    bench.put(lasting, b"")
    written = iter(tags)
    current = next(written)
    bench.put(tag_link_key("app", current), b"")

    def write_on(_: Cancel, __: float) -> None:
        nonlocal current
        bench.put(tag_link_key("app", current), whole[current])
        current = next(written)
        bench.put(tag_link_key("app", current), b"")

    monkeypatch.setattr(Cancel, "wait", write_on)

    marks = look(bench.driver)["app"][1]

    assert marks.is_frozen
    assert [subject for _, subject, _ in marks.troubles] == [lasting]


def test_damage_is_looked_at_for_more_than_a_second(bench: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the pauses as they are
    assert sum(survey_module.SECOND_LOOKS_SECONDS) >= 1.0
    waited: list[float] = []
    cancel = Cancel()
    monkeypatch.setattr(cancel, "wait", waited.append)
    look(bench.driver, cancel=cancel)
    assert waited == []
    bench.put(tag_link_key("app", "latest"), b"")
    counting = Counting(bench.driver)

    look(counting, cancel=cancel)

    assert waited == list(survey_module.SECOND_LOOKS_SECONDS)
    assert counting.counts["read"] >= 1 + len(waited)


@pytest.mark.parametrize("key", [revision_link_key, layer_link_key], ids=["revision", "layer"])
def test_links_written_after_the_first_look_are_seen(bench: MemoryRegistry, key: Callable[[str, str], str]) -> None:
    image = bench.writer.push_image("app", "new", [b"new"], b'{"new": 1}')
    digest = image.digest if key is revision_link_key else image.layers[0]
    bench.drop(key("app", digest))
    faults(bench).call_before("read", blob_key(image.digest), lambda: bench.put(key("app", digest), digest.encode()))

    seen = look(bench.driver)

    assert kinds(seen) == []
    assert parse_digest(image.digest) in seen["app"][1].kept


def test_a_tag_deleted_while_it_is_read_is_gone(bench: MemoryRegistry) -> None:
    key = tag_link_key("app", "latest")
    bench.put(key, b"")

    def delete() -> None:
        bench.drop(*[key for key in bench.keys if "app/_manifests/tags/latest" in key])

    faults(bench).call_before("read", key, delete)

    seen = look(bench.driver)

    assert kinds(seen) == []
    assert seen["app"][0].tags == {}


def test_a_repository_that_appears_meanwhile_is_surveyed_too(bench: MemoryRegistry) -> None:
    faults(bench).call_after(
        "read", "*blobs*", lambda: bench.writer.push_image("late/comer", "latest", [b"late"], b"{}")
    )

    seen = look(bench.driver)

    assert set(seen) == {"app", "web", "late/comer"}


def test_a_repository_that_vanishes_meanwhile_is_empty() -> None:
    bench = MemoryRegistry(wrap=Faulty)
    bench.writer.push_image("app", "latest", [b"layer"], b"{}")
    bench.put(tag_link_key("app", "latest"), b"")
    faults(bench).call_before(
        "read", tag_link_key("app", "latest"), lambda: bench.drop(*[k for k in bench.keys if "/app/" in k])
    )

    seen = look(bench.driver)

    assert kinds(seen) == []
    assert seen["app"][0].is_empty


def test_a_storage_error_in_any_look_is_raised(bench: MemoryRegistry) -> None:
    key = tag_link_key("app", "latest")
    bench.put(key, b"")
    for nth in (1, 2, 4):
        faults(bench).fail("read", key, Unavailable, nth=nth)
        with pytest.raises(Unavailable):
            look(bench.driver)


def test_a_request_to_stop_is_heard_between_repositories(bench: MemoryRegistry) -> None:
    cancel = Cancel()
    faults(bench).call_before("read", "*", cancel.request)

    with pytest.raises(InterruptedRunError):
        look(bench.driver, cancel=cancel)
    assert faults(bench).fired == 1


def test_a_second_survey_reads_no_manifest(bench: MemoryRegistry) -> None:
    state = State(None)
    first = look(bench.driver, state)
    counting = Counting(bench.driver)

    second = look(counting, state)

    assert second == first
    assert counting.counts.get("read", 0) == 0


POLICIES = (Policy(is_young=lambda _: False), Policy(keep_untagged=False, is_young=lambda _: False))


@examples(30)
@given(trees(), trees())
def test_remembering_changes_no_answer(first: Tree, second: Tree) -> None:
    """Volumes are surveyed with a memory that other states of theirs, and other volumes, have filled."""
    state = State(None)
    for tree in (first, second, Tree({**first, **second}), first):
        driver = MemoryRegistry(tree).memory
        for policy in POLICIES:
            remembering, fresh = look(driver, state, policy), look(driver, None, policy)
            assert set(remembering) == set(fresh)
            for name, (repository, marks) in fresh.items():
                remembered = remembering[name][1]
                assert remembering[name][0].tags == repository.tags
                assert remembered.is_frozen == marks.is_frozen
                # A child that is not here may be remembered from when its data were: then it keeps more.
                assert remembered.live.keys() >= marks.live.keys()
                if not marks.is_frozen:
                    assert remembered.live == marks.live
                    assert remembered.kept == marks.kept
                    assert remembered.needed.keys() == marks.needed.keys()


@examples(40)
@given(trees(), trees(damage=True))
def test_remembering_may_hide_damage_and_never_a_reference(whole: Tree, damaged: Tree) -> None:
    """Whatever a tag reaches stays, also where a manifest that is remembered got lost."""
    state = State(None)
    for tree in (whole, Tree({**whole, **damaged}), damaged):
        contents = tree.contents
        for policy in POLICIES:
            seen = look(MemoryRegistry(tree).memory, state, policy)
            for (name, _), digest in tags_of(contents).items():
                needed = {key for key in reachable(contents, name, digest) if "/blobs/" in key}
                assert {blob_key(format_digest(live)) for live in seen[name][1].live} >= needed


def test_layer_links_that_a_former_run_removed_are_looked_for_whatever_is_remembered(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path)
    writer.push_image("app", "latest", [b"layer"], b"{}")
    digest = parse_digest(writer.layer("app", b"unused"))
    state = State(None)

    def layers(doubted: dict[str, set[Digest]]) -> set[str]:
        volume = LocalVolume(str(tmp_path))
        made = Survey(volume, state, lambda _: Policy(), ManifestReader(volume, state), Cancel(), doubted)
        return {format_digest(d) for repository, _ in made.iter_repositories(NoProgress()) for d in repository.layers}

    assert format_digest(digest) in layers({})
    (tmp_path / layer_link_key("app", format_digest(digest))).unlink()
    assert format_digest(digest) in layers({})  # only its directory is seen
    assert format_digest(digest) not in layers({"app": {digest}})
    assert format_digest(digest) not in layers({})

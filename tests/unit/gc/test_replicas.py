"""The replicas of a registry, as a collection asks and uses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from regstore.digest import parse_digest
from regstore.errors import RefusedError, StorageFailedError
from regstore.gc import Action, Kind, Options, Verb
from regstore.gc.replicas import Replicas
from regstore_drivers.errors import ShortRead
from regstore_drivers.wrappers import Faulty
from support import images
from support.fake_registry import FakeRegistry, fake_registry
from support.memory_registry import MemoryRegistry
from support.random_volumes import DAY, NOW
from support.volume import blob_key, layer_link_key

GARBAGE = b"garbage"
DIGEST = images.digest_of(GARBAGE)
REMOVAL = Action(Verb.REMOVE, Kind.LAYER_LINK, "app", parse_digest(DIGEST), "", 71, "")


@pytest.fixture
def bench() -> MemoryRegistry:
    """A registry with a nested repository, whose tag comes after one that cannot be read, and garbage."""
    made = MemoryRegistry(wrap=Faulty, config=None)
    made.time = NOW - 2 * DAY
    made.writer.push_image("team/app", "latest", [b"layer"], b"{}")
    made.writer.layer("team/app", GARBAGE)
    made.time = NOW
    return made


@pytest.fixture
def fakes(bench: MemoryRegistry) -> Iterator[list[FakeRegistry]]:
    """Two replicas that serve it."""
    digest = next(f"sha256:{key.split('/')[-2]}" for key in bench.keys if "/revisions/" in key)
    with ExitStack() as running:
        made = [running.enter_context(fake_registry()) for _ in range(2)]
        for fake in made:
            fake.answer("HEAD", "/v2/team/app/manifests/latest", 200, Docker_Content_Digest=digest)
            fake.answer("DELETE", "/v2/team/app/blobs/", 202)
            fake.answer("DELETE", f"/v2/team/app/blobs/sha256:{'0' * 64}", 404)
        yield made


def urls(fakes: list[FakeRegistry]) -> tuple[str, ...]:
    """Return where they are."""
    return tuple(fake.url for fake in fakes)


def test_every_replica_is_asked_before_anything_is_removed(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    result = bench.collect(registry_urls=urls(fakes))

    assert bench.removed(result) == {"layer-link": 1}
    for fake in fakes:
        assert fake.asked == [
            "GET /v2/",
            f"DELETE /v2/team/app/blobs/sha256:{'0' * 64}",
            "HEAD /v2/team/app/manifests/latest",
            f"DELETE /v2/team/app/blobs/{DIGEST}",
        ]
    assert layer_link_key("team/app", DIGEST) not in bench.keys
    assert bench.undo().restored_count == 1
    assert bench.contents[layer_link_key("team/app", DIGEST)] == DIGEST.encode()


def test_the_copy_lies_in_the_quarantine_before_a_replica_removes_the_link(
    bench: MemoryRegistry, fakes: list[FakeRegistry]
) -> None:
    link = layer_link_key("team/app", DIGEST)
    seen: list[bool] = []
    original = fakes[0].answer_to

    def answer_to(request: Any) -> Any:
        if request.method == "DELETE" and DIGEST in request.path:
            seen.append(any(key.endswith(f"quarantine/{link}") for key in bench.everything))
            bench.drop(link)  # as the registry does
        return original(request)

    fakes[0].answer_to = answer_to  # type: ignore[method-assign]
    result = bench.collect(registry_urls=urls(fakes))

    assert seen == [True]
    assert bench.removed(result) == {"layer-link": 1}
    assert bench.undo().restored_count == 1


@pytest.mark.parametrize("is_cut_off", [True, False])
def test_a_link_that_a_registry_is_writing_stays(
    bench: MemoryRegistry, fakes: list[FakeRegistry], *, is_cut_off: bool
) -> None:
    link = layer_link_key("team/app", DIGEST)
    assert isinstance(bench.driver, Faulty)
    if is_cut_off:
        bench.driver.fail("copy", link, ShortRead)
    else:
        bench.driver.call_before("copy", link, lambda: bench.put(link, b""))
        bench.driver.call_after("copy", link, lambda: bench.put(link, DIGEST.encode()))

    result = bench.collect(registry_urls=urls(fakes))

    assert (bench.removed(result), result.skipped_count) == ({}, 1)
    assert bench.contents[link] == DIGEST.encode()
    assert not any(DIGEST in request for fake in fakes for request in fake.asked)
    assert bench.undo().restored_count == 0
    assert bench.contents[link] == DIGEST.encode()


@pytest.mark.parametrize("status", [202, 404, 500])
def test_a_replica_that_finds_the_link_gone_has_forgotten_it(
    bench: MemoryRegistry, fakes: list[FakeRegistry], status: int
) -> None:
    fakes[1].answer("DELETE", f"/v2/team/app/blobs/{DIGEST}", status)

    assert bench.removed(bench.collect(registry_urls=urls(fakes))) == {"layer-link": 1}


@pytest.mark.parametrize("status", [200, 400, 405, 429, 503])
def test_another_answer_to_a_deletion_stops_the_run(
    bench: MemoryRegistry, fakes: list[FakeRegistry], status: int
) -> None:
    fakes[1].answer("DELETE", f"/v2/team/app/blobs/{DIGEST}", status)
    before = bench.contents

    with pytest.raises(StorageFailedError, match=f"answers {status}") as caught:
        bench.collect(registry_urls=urls(fakes))

    assert caught.value.exit_code == 4
    assert bench.contents == before
    assert [run.state for run in bench_status(bench)] == ["killed"]


def bench_status(bench: MemoryRegistry) -> list[Any]:
    """Return the runs of a registry."""
    from regstore import gc

    return gc.read_status(bench.registry).runs


def test_a_link_that_the_storage_does_not_let_go_is_a_finding(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    assert isinstance(bench.driver, Faulty)
    bench.driver.fail_key(layer_link_key("team/app", DIGEST), "AccessDenied")

    result = bench.collect(registry_urls=urls(fakes))

    assert bench.removed(result) == {}
    assert [finding.id for finding in result.findings] == ["removal-failed"]
    assert "AccessDenied" in result.findings[0].detail


@pytest.mark.parametrize("answers", [{}, {"Docker_Content_Digest": DIGEST}], ids=["unknown", "other"])
def test_a_replica_of_another_volume_is_refused(
    bench: MemoryRegistry, fakes: list[FakeRegistry], answers: dict[str, str]
) -> None:
    fakes[1].answer("HEAD", "/v2/team/app/manifests/latest", 200 if answers else 404, **answers)
    before = bench.contents

    with pytest.raises(RefusedError, match="does not serve the volume") as caught:
        bench.collect(registry_urls=urls(fakes))

    assert caught.value.code == "wrong-registry"
    assert bench.contents == before
    assert not any(DIGEST in asked for fake in fakes for asked in fake.asked)


def test_one_tag_that_agrees_is_proof_enough(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    """Tags move while they are asked for."""
    for number in range(5):
        bench.writer.push_image("team/app", f"a-{number}", [b"layer"], b"{}", annotations={"n": str(number)})

    assert bench.removed(bench.collect(registry_urls=urls(fakes))) == {"layer-link": 1}
    assert sum(asked.startswith("HEAD") for asked in fakes[0].asked) == 6


def test_not_more_than_twenty_tags_are_asked_for(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    for number in range(30):
        bench.writer.push_image("team/app", f"a-{number}", [b"layer"], b"{}", annotations={"n": str(number)})

    with pytest.raises(RefusedError, match="20 of its tags"):
        bench.collect(registry_urls=urls(fakes))


def test_a_volume_without_tags_cannot_be_compared(fakes: list[FakeRegistry]) -> None:
    bench = MemoryRegistry(config=None)
    bench.time = NOW - 2 * DAY
    bench.writer.layer("app", GARBAGE)
    bench.writer.put("docker/registry/v2/repositories/app/_manifests/tags/broken/current/link", b"")
    bench.time = NOW
    bench.drop("docker/registry/v2/repositories/app/_manifests/tags/broken/current/link")
    fakes[0].answer("DELETE", "/v2/app/blobs/", 202)

    bench.collect(registry_urls=(fakes[0].url,))

    assert not any(asked.startswith("HEAD") for asked in fakes[0].asked)
    assert fakes[0].asked[1].startswith("DELETE /v2/regstore/probe/blobs/")


def test_a_replica_that_does_not_answer_stops_the_run_before_anything(
    bench: MemoryRegistry, fakes: list[FakeRegistry]
) -> None:
    before = bench.contents

    with pytest.raises(StorageFailedError) as caught:
        bench.collect(registry_urls=(fakes[0].url, "http://127.0.0.1:1"))

    assert caught.value.exit_code == 4
    assert bench.contents == before
    assert fakes[0].asked == ["GET /v2/"]


def test_nothing_to_do_asks_only_whether_they_answer(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    result = bench.collect(registry_urls=urls(fakes), grace=99 * DAY)

    assert result.removed == {}
    assert [fake.asked for fake in fakes] == [["GET /v2/"]] * 2


def test_offline_they_must_be_quiet_and_are_not_used(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    for fake in fakes:
        fake.answer("PUT", "/v2/", 405)
        fake.answer("POST", "/v2/", 405)

    result = bench.collect(registry_urls=(*urls(fakes), "http://127.0.0.1:1"), offline=True)

    assert bench.removed(result) == {"layer-link": 1, "blob": 1}
    assert not any(asked.startswith("DELETE") for fake in fakes for asked in fake.asked)
    assert fakes[0].asked[-1] == "POST /v2/team/app/blobs/uploads/"


def test_offline_one_that_takes_pushes_is_refused(bench: MemoryRegistry, fakes: list[FakeRegistry]) -> None:
    fakes[0].answer("PUT", "/v2/", 405)
    fakes[0].answer("POST", "/v2/", 405)
    fakes[1].answer("PUT", "/v2/", 400)
    before = bench.contents

    with pytest.raises(RefusedError) as caught:
        bench.collect(registry_urls=urls(fakes), offline=True)

    assert (caught.value.code, caught.value.exit_code) == ("not-quiet", 3)
    assert bench.contents == before


def test_without_urls_none_are_used(bench: MemoryRegistry) -> None:
    replicas = Replicas(bench.registry, Options())

    replicas.check([REMOVAL])
    assert not replicas.are_used
    replicas.delete_layer("app", parse_digest(DIGEST))
    replicas.close()
    assert blob_key(DIGEST) in bench.keys

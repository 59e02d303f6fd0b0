"""Clients that push, move, mount and delete beside run after run of the command, through registries with caches."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from support.clients import Worker
from support.collection import Volume, pulled
from support.images import digest_of, layers
from support.pusher import Pusher

pytestmark = pytest.mark.registry


RUNS, PUSHES = 20, 200


@pytest.mark.slow
@pytest.mark.parametrize("grace", ["0s", "2s"])
@pytest.mark.parametrize("replica_count", [1, 2])
def test_pushes_beside_runs_are_refused_or_whole(volume: Volume, grace: str, replica_count: int) -> None:
    """Hundreds of pushes beside dozens of runs, with caches: what was answered by 201 is whole in a fresh registry."""
    is_over = threading.Event()
    with ExitStack() as stack:
        registries = [stack.enter_context(volume.registry(cache="inmemory")) for _ in range(replica_count)]
        urls = [registry.url for registry in registries]
        with Pusher(urls[0]) as client:
            kept = pulled(client, client.push_image("app", "kept", layers(2, "kept")))
        workers = [Worker(urls, f"w{number}", number, is_over) for number in range(3)]
        for worker in workers:
            worker.thread.start()
        arguments = ["--grace", grace, "--max-delete", "none", "--delete-untagged"]
        for url in urls:
            arguments += ["--registry-url", url]
        removed: Counter[str] = Counter()
        runs = 0
        deadline = time.monotonic() + 450
        try:
            while runs < RUNS or sum(worker.pushes for worker in workers) < PUSHES:
                assert time.monotonic() < deadline
                assert [worker.failure for worker in workers] == [None] * 3
                removed.update(volume.gc("run", "--json", *arguments, volume.root).expect(0).removed)
                runs += 1
        finally:
            is_over.set()
            for worker in workers:
                worker.thread.join()
        # The run of the next night heals what was written after the last look of the last one.
        volume.gc("run", "--json", *arguments, "--grace", "1h", volume.root).expect(0)
    assert [worker.failure for worker in workers] == [None] * 3
    assert removed["layer-link"] > 0
    if grace == "0s":
        assert removed["blob"] > 0
    accepted = {key: image for worker in workers for key, image in worker.accepted.items()}
    assert len(accepted) > 3
    with volume.serving() as client:
        for (repository, tag), image in accepted.items():
            found = client.fetch_manifest(repository, tag)
            assert found is not None, (repository, tag)
            assert digest_of(found[0]) == image.digest
            assert client.pull(repository, tag) >= set(image.digests)
    volume.assert_whole(kept, others=False)

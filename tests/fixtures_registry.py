"""Fixtures with a real registry behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.collection import Volume
from support.programs import require_program
from support.registry import BINARY, Registry

MakeRegistry = Callable[..., Registry]


@pytest.fixture
def make_registry(tmp_path: Path) -> Iterator[MakeRegistry]:
    """A function that starts a registry with the options of `Registry`; all are stopped at the end of the test.

    Without `root` and `storage` each has a new root directory; two with the same root are replicas.
    """
    require_program(BINARY, "docker-registry")
    with ExitStack() as running:
        count = 0

        def make(root: Path | None = None, **options: Any) -> Registry:
            nonlocal count
            count += 1
            workdir = tmp_path / f"registry-{count}"
            workdir.mkdir()
            return running.enter_context(Registry(workdir, root, **options))

        yield make


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    """A running registry without a cache, over an empty root directory."""
    return make_registry()


@pytest.fixture
def cached_registry(make_registry: MakeRegistry) -> Registry:
    """A running registry with the in-memory blob descriptor cache, the packaged default."""
    return make_registry(cache="inmemory")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """An empty root directory, to be served by real registries and collected by the command line."""
    require_program(BINARY, "docker-registry")
    return Volume(tmp_path / "volume", tmp_path)

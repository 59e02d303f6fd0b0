"""A registry in memory whose clock stands still until it is told to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regstore import gc
from regstore.registry import Registry
from regstore.registry.config import RegistryConfig
from regstore.state import State
from regstore_drivers.base import Driver
from regstore_drivers.memory import MemoryDriver
from regstore_drivers.wrappers import Faulty
from support.random_volumes import NOW, Tree, load
from support.volume import VolumeWriter

UNCACHED = RegistryConfig("/etc/docker/registry/config.yml", "filesystem", {})
"""A configuration without a cache: what lets a collection run online."""

FREE: dict[str, Any] = {"max_delete_percent": None}
NOW_OFFLINE: dict[str, Any] = {**FREE, "offline": True, "grace": 0.0}


class MemoryRegistry:
    """A volume in memory.

    Args:
        tree: what lies in it.
        wrap: makes the driver that collections see.
        config: the registry's configuration.
    """

    def __init__(
        self,
        tree: Tree | None = None,
        *,
        wrap: Callable[[Driver], Driver] = lambda driver: driver,
        config: RegistryConfig | None = UNCACHED,
    ) -> None:
        self.time = NOW
        self.memory = MemoryDriver("test", clock=lambda: self.time)
        self.writer = VolumeWriter(self.put)
        if tree is not None:
            load(tree, self.memory, self._set_time)
            self.time = NOW
        self.driver = wrap(self.memory)
        self.registry = Registry(self.driver, config)
        self.state = State(None)

    def _set_time(self, seconds: float) -> None:
        self.time = seconds

    def put(self, key: str, data: bytes) -> None:
        """Store bytes, now."""
        self.memory.write(key, data, len(data))

    def drop(self, *keys: str) -> None:
        """Remove objects behind everybody's back."""
        outcomes = [deleted.outcome for deleted in self.memory.delete(keys)]
        assert outcomes == ["gone"] * len(keys)

    @property
    def faults(self) -> Faulty:
        """The driver, where `wrap` is `Faulty`."""
        assert isinstance(self.driver, Faulty)
        return self.driver

    @property
    def everything(self) -> dict[str, bytes]:
        """All bytes by key, the journal's too."""
        return {entry.key: self.memory.read(entry.key) for entry in list(self.memory.list(""))}

    @property
    def contents(self) -> dict[str, bytes]:
        """The bytes of the registry, by key."""
        return {key: data for key, data in self.everything.items() if not key.startswith("regstore/")}

    @property
    def keys(self) -> set[str]:
        """The keys of the registry."""
        return set(self.contents)

    def plan(self, **options: Any) -> gc.Plan:
        """Plan a collection, with no limit on what it may take."""
        return gc.plan_collection(self.registry, gc.Options(**{**FREE, **options}), state=self.state)

    def collect(self, **options: Any) -> gc.Result:
        """Collect, with no limit on what may be taken."""
        settings = gc.Options(**{**FREE, **options})
        return gc.collect(self.registry, settings, state=self.state, settle_seconds=0.0)

    def apply(self, plan: gc.Plan) -> gc.Result:
        """Apply a plan."""
        return gc.apply_plan(self.registry, plan, state=self.state, settle_seconds=0.0)

    def undo(self, run_id: str = "") -> gc.UndoResult:
        """Take back a run."""
        return gc.undo(self.registry, run_id)

    def removed(self, result: gc.Result) -> dict[str, int]:
        """Return kind to count of what a collection removed."""
        return {kind.value: count for kind, (count, _) in result.removed.items()}


GARBAGE = b"garbage"


def registry_with_garbage() -> MemoryRegistry:
    """Make a registry with an image and a layer that nothing needs, behind a driver with faults."""
    made = MemoryRegistry(wrap=Faulty)
    made.writer.push_image("app", "latest", [b"layer"], b"{}")
    made.writer.layer("app", GARBAGE)
    return made

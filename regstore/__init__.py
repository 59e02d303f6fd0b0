"""The storage toolkit for the data volume of a Docker/OCI registry.

What the command line does, a script can do:

    import regstore
    from regstore import gc

    registry = regstore.open_registry("/var/lib/registry")
    plan = gc.plan_collection(registry, gc.Options(grace=48 * 3600))
    print(plan.summary.unreferenced_bytes, len(plan.findings))
    result = gc.apply_plan(registry, plan)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore._version import __version__

if TYPE_CHECKING:
    from regstore.registry import Registry, open_registry

__all__ = ["Registry", "__version__", "open_registry"]


def __getattr__(name: str) -> object:
    # Importing the version must not load drivers.
    if name in ("Registry", "open_registry"):
        from regstore import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The read model of a registry: where it lies and what is in it."""

from regstore.registry.location import Registry, open_registry, open_target, settled_location

__all__ = ["Registry", "open_registry", "open_target", "settled_location"]

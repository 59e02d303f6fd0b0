"""The library, imported when something of it is first used: help and completion need only names and options."""

from __future__ import annotations

import importlib


class Lazily:
    """Stands for a module.

    Args:
        name: in full.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        return getattr(importlib.import_module(self._name), attribute)

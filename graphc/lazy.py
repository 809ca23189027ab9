"""Libraries that are imported when they are first used, so that `import graphc` stays quick.

networkx, graphviz and pyopencl cost more to import than all of graphc, and most programs never draw
a picture or list a device.
"""

from __future__ import annotations

import importlib
from typing import Any


class Module:
    """A stand-in for a module; its attributes are the module's."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<{self._name}, imported when it is used>"

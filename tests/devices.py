"""Devices for tests of sessions: the reference one, with something added or broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.graph import Graph, Node
from graphc.runtime.device import Environment
from graphc.runtime.opencl.platforms import look
from graphc.runtime.reference.device import ReferenceProgram

OPENCL = ("opencl",) if look().devices else ()  # for tables of devices: none where no driver is


class FreshProgram(ReferenceProgram):
    """Returns new arrays, as a native program does."""

    fresh = True
    summary: Mapping[str, Any] = {"kernels": 3}

    def run(self, feeds: Sequence[Any], environment: Environment) -> list[Any]:
        """Copies of the values of the roots."""
        self.last = [np.array(a) for a in super().run(feeds, environment)]
        return list(self.last)

    def memory(self, sizes: Mapping[Any, int]) -> dict[str, int]:
        """The sizes, by name."""
        return {symbol.name: size for symbol, size in sizes.items()}


class FreshDevice:
    """The device of such programs; it keeps those it has made."""

    name = "fresh"
    notes = True

    def __init__(self) -> None:
        self.programs: list[FreshProgram] = []

    def compile(self, graph: Graph, check: str | None = None) -> FreshProgram:
        """A program that returns new arrays."""
        self.programs.append(FreshProgram(graph, check))
        return self.programs[-1]


class WrongProgram(ReferenceProgram):
    """Changes what one op gives."""

    def __init__(self, graph: Graph, op: str, change: Callable[[Any], Any]) -> None:
        super().__init__(graph)
        self._op = op
        self._change = change

    def _step(self, step: Any, values: list[Any], environment: Environment) -> None:
        node: Node = step.node
        super()._step(step, values, environment)
        if node.op.name == self._op:
            for slot in step.outputs:
                if values[slot] is not None:
                    values[slot] = self._change(values[slot])


class WrongDevice:
    """The reference device with a fault in one op; in graphs that `broken` picks."""

    name = "wrong"
    notes = False

    def __init__(
        self,
        op: str,
        change: Callable[[Any], Any],
        broken: Callable[[Graph], bool] = lambda graph: True,
    ) -> None:
        self._fault = op, change
        self._broken = broken

    def compile(self, graph: Graph, check: str | None = None) -> ReferenceProgram:
        """A program with the fault."""
        return WrongProgram(graph, *self._fault) if self._broken(graph) else ReferenceProgram(graph)

"""What a session holds between runs: values of variables, seeds and counters, and their locks.

A value that exists is replaced by a holder of `writing` alone. First values are given under `lock`,
and every replacement lands under it, so that who takes several values under it takes them as they
were together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from graphc.dtypes import Array, uint64
from graphc.errors import DeviceError
from graphc.graph import Graph
from graphc.ops.source import Variable
from graphc.runtime import checkpoint
from graphc.runtime.compilation import FetchSet
from graphc.runtime.device import Device, Environment
from graphc.runtime.locks import ForkLock
from graphc.runtime.randomness import MASK, Keys, session_seed
from graphc.runtime.report import CompileReport
from graphc.runtime.variables import Values, in_dependency_order, is_literal


class State:
    """The part of a session that its runs share."""

    def __init__(
        self,
        device: Device,
        check: str | None,
        seed: int | None,
        release: Callable[[], None] | None = None,
    ) -> None:
        """`release` frees what the device holds."""
        self.device, self._release = device, release
        self.check = check
        self.report = CompileReport(device.name)
        self.lock = ForkLock()  # guards everything here
        self.writing = ForkLock()  # held through runs that write, taken before the other
        self.values = Values()
        self.restored = checkpoint.Restored()
        self.runs = itertools.count()
        self.closed = False
        self._seed = np.array([session_seed(seed), 0], uint64.numpy)
        self._keys = Keys()
        self._initializations: dict[str, int] = {}

    def open(self) -> None:
        """Raise where the session has been closed."""
        if self.closed:
            raise DeviceError("run: the session is closed")

    def close(self) -> None:
        """Forget all values, and free the device's memory."""
        self.closed = True
        self.values.clear()
        if self._release is not None:
            self._release()

    def entropy(self, run: int) -> Array:
        """What random ops are computed from in a run."""
        words: Array = self._seed.copy()
        words[1] = run & MASK
        return words

    def fetch_set(self, graph: Graph, prefix: str = "") -> FetchSet:
        """A graph with keys on its random ops, ready to be compiled."""
        return FetchSet(self._keys.assign(graph, prefix), self.device, self.check)

    def initialize(self, variables: Sequence[Variable]) -> None:
        """Give every variable without a value its initial one, in dependency order."""
        order = in_dependency_order(variables, self.values)
        restored = self.restored.claim(order)
        for variable in order:
            array = restored[variable] if variable in restored else self._initial(variable)
            self.values.write({variable: array})

    def reinitialize(self, variables: Iterable[Variable]) -> None:
        """Give variables their initial values again; what a file held for others is forgotten."""
        chosen = list(variables)
        self.restored = checkpoint.Restored()
        for variable in in_dependency_order(chosen, Values()):
            if variable in chosen or variable not in self.values:
                self.values.write({variable: self._initial(variable)})

    def _initial(self, variable: Variable) -> Array:
        if is_literal(variable.initial):
            literal: Array = variable.initial.node.attrs["value"].array
            return literal
        count = self._initializations.get(variable.name, -1) + 1
        self._initializations[variable.name] = count
        graph = Graph((variable.initial,))
        fetch_set = self.fetch_set(graph, f"initial value of {variable.name}")
        values = self.values.snapshot(fetch_set.variables)
        entropy = self.entropy(MASK - count)  # runs count from 0, initialisations from the top
        bound = fetch_set.bind([], values, entropy)
        [array] = bound.compilation.program.run([], Environment(bound.sizes, values, entropy))
        return array

"""`check="nan"` on devices that run kernels: the operation that made a NaN, though these are many.

Enters: a graph and its program, which stops at the first kernel that makes a NaN. Leaves: a
program that then runs the graph node by node in NumPy, whose error names the node with its line
and the ranges of what it read. Where NumPy makes no NaN, the kernel's own error stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.errors import NumericsError
from graphc.graph import Graph
from graphc.kernel import Kernel
from graphc.plan import Host
from graphc.runtime.device import Environment, Program
from graphc.runtime.memory import Peak
from graphc.runtime.reference.device import ReferenceDevice


class NativeProgram(Program, Protocol):
    """What both native devices make of a graph."""

    fresh: bool

    @property
    def summary(self) -> Mapping[str, int]:
        """For the compile report."""
        ...

    def memory(self, sizes: Mapping[Symbol, int]) -> Peak:
        """The memory that a run of these sizes needs."""
        ...


def has_nan(array: Array) -> bool:
    """Whether there is a NaN; none is in integers."""
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def check_kernel(kernel: Kernel, results: Iterable[Array]) -> None:
    """Raise where a kernel made a NaN; what it read had none."""
    for array in filter(has_nan, results):
        raise NumericsError(kernel.failure(_rule(array)))


def check_host(host: Host, results: Iterable[Array]) -> None:
    """Raise where an op on the host made a NaN; what it read had none."""
    for array in filter(has_nan, results):
        name = host.node.op.name
        raise NumericsError(f"{name}: {_rule(array)}\n  {name} was called at {host.node.where}")


def _rule(array: Array) -> str:
    return f"made {int(np.isnan(array).sum())} NaN of {array.size} values"


class CheckedProgram:
    """A program that stops at a NaN, and the graph that it was made of."""

    def __init__(self, graph: Graph, program: NativeProgram) -> None:
        self._program = program
        self._reference = ReferenceDevice().compile(graph, "nan")
        self.fresh, self.summary, self.memory = program.fresh, program.summary, program.memory

    def run(self, feeds: Sequence[Array], environment: Environment) -> Sequence[Array]:
        """The values of the roots."""
        try:
            return self._program.run(feeds, environment)
        except NumericsError:
            self._reference.run(feeds, environment._replace(note=None))
            raise

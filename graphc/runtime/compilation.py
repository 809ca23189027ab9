"""From a fetch set to programs: one for each pattern of sizes that its builders asked about.

Enters: the graph of some fetches, and the arrays fed to its inputs. Leaves: a program, and the
values of all sizes. Most fetch sets have a single program for every batch size; what a program
takes for granted (a size that is 1, two that are equal) are its `guards`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.build import assuming
from graphc.dims import Dim, Dimension, Symbol, evaluate
from graphc.graph import Graph, Tensor
from graphc.ops.source import PLACEHOLDER, Variable
from graphc.passes import observers, optimise
from graphc.passes.dump import requested_dump
from graphc.runtime.device import Array, Device, Environment, Program
from graphc.runtime.feeds import bind_sizes, check_expressions, missing, missing_error
from graphc.types import Assumptions, TensorType


@dataclass(slots=True)
class Compilation:
    """One program, what it holds for, and what making it cost."""

    program: Program
    ranks: tuple[int, ...]  # of what is fed
    guards: tuple[tuple[Dimension, Dimension, bool], ...]
    values: tuple[tuple[Symbol, FetchSet], ...]  # sizes that are elements of tensors; fed twice
    reason: str
    seconds: dict[str, float]
    nodes: int
    targets: tuple[Tensor, ...]  # what its updates write; those that change nothing are gone

    def holds(self, sizes: Mapping[Symbol, int]) -> bool:
        """Whether every question has the answer that it had."""
        try:
            return all(
                (evaluate(a, sizes) == evaluate(b, sizes)) is answer for a, b, answer in self.guards
            )
        except KeyError:
            return False


def _value_symbols(graph: Graph) -> list[Symbol]:
    """The symbols among a graph's sizes whose values are elements of tensors."""
    found: dict[Symbol, None] = {}
    for node in graph.nodes:
        for type in node.types:
            _gather(type.shape, found)
        for value in node.attrs.values():
            _gather(value, found)
    return list(found)


def _gather(value: Any, found: dict[Symbol, None]) -> None:
    if isinstance(value, Dim):
        found.update((s, None) for s in value.symbols() if s.source is not None)
    elif isinstance(value, tuple):
        for part in value:
            _gather(part, found)


@dataclass(slots=True)
class FetchSet:
    """The graph of some fetches and feeds, with the programs made for it so far."""

    graph: Graph
    device: Device
    check: str | None
    variables: list[Variable] = field(default_factory=list)
    compilations: list[Compilation] = field(default_factory=list)
    _types: dict[tuple[int, ...], list[TensorType]] = field(default_factory=dict)
    _values: tuple[tuple[Symbol, FetchSet], ...] = ()

    def __post_init__(self) -> None:
        if absent := missing(self.graph):
            raise missing_error(self.graph, absent)
        self.variables = [t for t in self.graph.tensors() if isinstance(t, Variable)]
        self._values = self._value_programs(_value_symbols(self.graph), self.graph.inputs)

    def _value_programs(
        self, symbols: Sequence[Symbol], inputs: Sequence[Tensor]
    ) -> tuple[tuple[Symbol, FetchSet], ...]:
        sets = []
        for symbol in symbols:
            value = FetchSet(Graph((symbol.source[0],), (), tuple(inputs)), self.device, None)
            sets.append((symbol, value))
            self.variables += [v for v in value.variables if v not in self.variables]
        return tuple(sets)

    def _refined(self, arrays: Sequence[Array]) -> list[TensorType]:
        """The types of the inputs at these ranks, with a symbol for every open size."""
        ranks = tuple(array.ndim for array in arrays)
        if ranks not in self._types:
            types = []
            for tensor, rank in zip(self.graph.inputs, ranks, strict=True):
                declared = tensor.shape or (None,) * rank
                inner = tensor.node.op is not PLACEHOLDER
                types.append(TensorType(tensor.dtype, tuple(_open(d, inner) for d in declared)))
            self._types[ranks] = types
        return self._types[ranks]

    def bind(
        self, arrays: Sequence[Array], variables: Mapping[Any, Array], entropy: Array
    ) -> tuple[Compilation, Environment]:
        """The program for these arrays (made now, if there is none) and what it runs with."""
        types = self._refined(arrays)
        sizes = bind_sizes(self.graph.inputs, types, arrays)
        check_expressions(self.graph.inputs, arrays, sizes)
        environment = Environment(sizes, variables, entropy)
        _evaluate(self._values, sizes, arrays, environment)
        ranks = tuple(array.ndim for array in arrays)
        for compilation in self.compilations:
            if compilation.ranks == ranks and compilation.holds(sizes):
                break
        else:
            compilation = self._compile(types, sizes)
            self.compilations.append(compilation)
        _evaluate(compilation.values, sizes, [*arrays, *arrays], environment)
        return compilation, environment

    def _compile(self, types: Sequence[TensorType], sizes: dict[Symbol, int]) -> Compilation:
        assumptions = Assumptions(
            dict(sizes), types=dict(zip(self.graph.inputs, types, strict=True))
        )
        seconds: dict[str, float] = {}

        def observe(name: str, graph: Graph, taken: float) -> None:
            seconds[name] = seconds.get(name, 0.0) + taken

        with assuming(assumptions):
            graph = optimise(self.graph, observers(observe, requested_dump()))
        start = time.perf_counter()
        program = self.device.compile(graph, self.check)
        seconds["compile"] = time.perf_counter() - start
        known = {symbol for symbol, _ in self._values}
        late = [s for s in _value_symbols(graph) if s not in known]
        values = self._value_programs(late, (*self.graph.inputs, *graph.inputs)) if late else ()
        guards = tuple((a, b, answer) for (a, b), answer in assumptions.asked.items())
        reason = "a new set of fetches and feeds"
        if self.compilations:
            reason = "sizes of a new pattern: " + ", ".join(
                f"{a} {'==' if answer else '!='} {b}" for a, b, answer in guards
            )
        targets = tuple(variable for variable, _ in graph.updates)
        ranks = tuple(len(t.shape or ()) for t in types)
        return Compilation(
            program, ranks, guards, values, reason, seconds, len(graph.nodes), targets
        )


def _open(dimension: Dimension | None, inner: bool) -> Dimension:
    """A declared size; a fresh symbol where it is unknown, or an inner tensor's expression."""
    if dimension is None or (
        inner and isinstance(dimension, Dim) and dimension.as_symbol() is None
    ):
        return Dim.symbol()
    return dimension


def _evaluate(
    values: Sequence[tuple[Symbol, FetchSet]],
    sizes: dict[Symbol, int],
    arrays: Sequence[Array],
    environment: Environment,
) -> None:
    """Run the small graphs that sizes are elements of, and note the sizes."""
    for symbol, value in values:
        compilation, inner = value.bind(arrays, environment.variables, environment.entropy)
        result = compilation.program.run(arrays, inner)[0]
        sizes[symbol] = int(np.asarray(result).reshape(-1)[symbol.source[1]])

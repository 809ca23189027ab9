"""`Session(check="reference")`: every result of a device held against the reference device.

Enters: a device. Leaves: a device that runs each program in NumPy too, and raises a NumericsError
at the first difference. It then fetches inner tensors of the graph, one after another, from both,
to name the first operation that gives something else where all that it reads agrees.

What agrees: whole numbers where they are equal; floats where NaN and infinities are the same and
the rest differ by no more than `TOLERANCE` of the array's largest value. Where a sum cancels, or a
comparison is close, rounding alone makes larger differences. How large is measured: the reference
runs `TRIALS` times more with every float (feeds and variables too) moved by up to `MOVED` ulp at
random. Up to `MARGIN` times what that changes agrees as well, and so do as many whole numbers as
that changes at once (after J. Vignes, A stochastic arithmetic for reliable scientific computation,
1993).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.build import failure
from graphc.dtypes import Array
from graphc.errors import NumericsError
from graphc.graph import Graph, Node, Tensor, bodies, topological
from graphc.ops.random import ENTROPY
from graphc.ops.source import VARIABLE
from graphc.runtime.device import Device, Environment, Program
from graphc.runtime.reference.device import ReferenceDevice, apply_oracle, resolved

Values: TypeAlias = Mapping[tuple[Node, int], Array]

TOLERANCE = {"e": 4e-3, "f": 4e-6, "d": 1e-12}  # relative, by the float's type
MOVED = 4
MARGIN = 8
TRIALS = 8  # runs with moved values


class Compared:
    """A device whose programs are compared with the reference in every run."""

    def __init__(self, device: Device) -> None:
        self.inner = device
        self.name = device.name
        self.notes = device.notes

    def compile(self, graph: Graph, check: str | None = None) -> ComparedProgram:
        """A program that compares."""
        return ComparedProgram(graph, self.inner, self.inner.compile(graph, check))

    def close(self) -> None:
        """What the device frees."""
        getattr(self.inner, "close", lambda: None)()


class ComparedProgram:
    """A device's program beside the reference's."""

    def __init__(self, graph: Graph, device: Device, program: Program) -> None:
        self._graph = graph
        self._device = device
        self._program = program
        self._reference = ReferenceDevice().compile(graph)
        self.fresh = getattr(program, "fresh", False)
        self.summary: Mapping[str, Any] = getattr(program, "summary", {})
        self.memory = getattr(program, "memory", None)

    def run(self, feeds: Sequence[Array], environment: Environment) -> Sequence[Array]:
        """The device's values of the roots, which agree with the reference's."""
        results = self._program.run(feeds, environment)
        plain = Environment(environment.sizes, environment.variables, environment.entropy)
        wanted = self._reference.run(feeds, plain)
        for root, got, want in zip(self._graph.roots, results, wanted, strict=True):
            if differing(got, want) is not None:
                Search(self._graph, self._device, feeds, plain).judge(root, got)
        return results


class Search:
    """One run that may have gone wrong, with the reference's values of all its tensors."""

    def __init__(
        self, graph: Graph, device: Device, feeds: Sequence[Array], environment: Environment
    ) -> None:
        self._graph = graph
        self._device = device
        self._feeds = feeds
        self._environment = environment
        self._wanted = evaluated(graph, feeds, environment)
        seeds = range(TRIALS)
        self._moved = [evaluated(graph, feeds, environment, moved(seed)) for seed in seeds]
        self._faults: dict[Node, str | None] = {}

    def judge(self, root: Tensor, got: Array) -> None:
        """Raise where a root's value differs by more than rounding, at what is at fault for it."""
        fault = self._fault(root, got)
        if fault is None:
            return
        node = root.node
        if self._of(node) is None:
            fault += "; fetched without the rest of its run, it agrees"
        else:
            node = self._first(node)
            fault = self._of(node) or fault
        rule = f"the device {self._device.name!r} must agree with the reference, but {fault}"
        raise NumericsError(failure(node.op, rule, node.inputs, node.where))

    def _first(self, node: Node) -> Node:
        """A node that differs and reads nothing that does.

        A difference mostly stays in what is computed of it, so halving the order of the nodes comes
        close; from there, the way goes on through operands that differ.
        """
        order = topological((Tensor(node, 0, node.types[0]),), frozenset(self._graph.inputs))
        agrees, differs = -1, len(order) - 1
        while differs - agrees > 1:
            middle = (agrees + differs) // 2
            if self._of(order[middle]) is None:
                agrees = middle
            else:
                differs = middle
        inside, found = set(order), order[differs]
        while True:
            operands = [t.node for t in found.inputs if t.node in inside]
            wrong = next((n for n in operands if self._of(n) is not None), None)
            if wrong is None:
                return found
            found = wrong

    def _of(self, node: Node) -> str | None:
        """What is wrong with a node's values where nothing else is fetched."""
        if node not in self._faults:
            tensors = [Tensor(node, i, type) for i, type in enumerate(node.types)]
            graph = Graph(tuple(tensors), (), self._graph.inputs)
            values = self._device.compile(graph).run(self._feeds, self._environment)
            faults = (self._fault(t, got) for t, got in zip(tensors, values, strict=True))
            self._faults[node] = next((fault for fault in faults if fault is not None), None)
        return self._faults[node]

    def _fault(self, tensor: Tensor, got: Array) -> str | None:
        place = tensor.node, tensor.index
        others = [values[place] for values in self._moved]
        return differing(got, self._wanted[place], others)


def evaluated(
    graph: Graph,
    feeds: Sequence[Array],
    environment: Environment,
    change: Callable[[Array], Array] | None = None,
) -> Values:
    """The values of all tensors of a graph by the oracles, each changed before it is used."""
    keep = change or (lambda array: array)
    values = {(t.node, t.index): keep(a) for t, a in zip(graph.inputs, feeds, strict=True)}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op is VARIABLE:
                results: Sequence[Any] = (environment.variables[node],)
            elif node.op is ENTROPY:
                results = (environment.entropy,)
            else:
                operands = [values[t.node, t.index] for t in node.inputs]
                inside = {k: _Body(b.graph, environment, change) for k, b in bodies(node).items()}
                results = apply_oracle(node, operands, environment.sizes, inside)
            for index, (result, type) in enumerate(zip(results, node.types, strict=True)):
                array = np.asarray(result).astype(type.dtype.numpy, copy=False)
                values.setdefault((node, index), keep(array))
    return values


class _Body:
    """A body of a loop or a branch, whose values are changed too."""

    def __init__(
        self, graph: Graph, environment: Environment, change: Callable[[Array], Array] | None
    ) -> None:
        self._graph, self._environment, self._change = graph, environment, change

    @property
    def results(self) -> list[tuple[tuple[int, ...], Any]]:
        """Shape and NumPy's dtype of each result."""
        sizes = self._environment.sizes
        return [(resolved(t.shape, sizes), t.dtype.numpy) for t in self._graph.roots]

    def __call__(self, *arrays: Array) -> list[Array]:
        """The results for some operands."""
        values = evaluated(self._graph, arrays, self._environment, self._change)
        return [values[t.node, t.index] for t in self._graph.roots]


def moved(seed: int) -> Callable[[Array], Array]:
    """A function that moves each float by up to `MOVED` ulp."""
    rng = np.random.default_rng(seed)

    def change(array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        factors = 1.0 + MOVED * np.finfo(array.dtype).eps * rng.uniform(-1.0, 1.0, array.shape)
        with np.errstate(all="ignore"):
            return np.asarray(array * factors).astype(array.dtype)

    return change


def differing(got: Array, want: Array, others: Sequence[Array] = ()) -> str | None:
    """What is wrong with a value; None: nothing. `others` are as right as `want` is."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"it gives {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
    if want.dtype.kind != "f":
        wrong, close = got != want, 0
        for other in others:
            wrong &= other == want
            close = max(close, int((other != want).sum()))
        if int(wrong.sum()) <= close:  # as few as rounding decides about
            return None
        first = np.unravel_index(np.argmax(wrong), wrong.shape)
        return _told(got, want, wrong, first)
    return _floats(got, want, others)


def _floats(got: Array, want: Array, others: Sequence[Array]) -> str | None:
    with np.errstate(all="ignore"):
        exact, value = want.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(exact)
        largest = np.abs(exact[finite]).max(initial=0.0)
        rounding = 0.0
        special = ~finite & ~((value == exact) | (np.isnan(value) & np.isnan(exact)))
        for other in others:
            differences = np.abs(other.astype(np.float64) - exact)[finite]
            if not np.isfinite(differences).all():
                return None  # rounding decides whether it is finite
            rounding = max(rounding, differences.max(initial=0.0))
            special &= ~np.isfinite(other)
        bound = TOLERANCE[want.dtype.char] * largest + MARGIN * rounding
        error = np.abs(value - exact)
        wrong = special | (finite & ~(error <= bound + float(np.finfo(want.dtype).tiny)))
        if not wrong.any():
            return None
        error = np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)
        worst = np.unravel_index(np.argmax(error), error.shape)
        text = _told(got, want, wrong, worst)
        ulps = error[worst] / float(np.spacing(np.abs(want[worst])))
    return f"{text}, which is {ulps:.3g} ulp" if np.isfinite(ulps) else text


def _told(got: Array, want: Array, wrong: Array, place: Sequence[Any]) -> str:
    where = f" at [{', '.join(map(str, place))}]" if want.ndim else ""
    return (
        f"{int(wrong.sum())} of {want.size} values differ, most{where}: "
        f"{got[tuple(place)]!s} instead of {want[tuple(place)]!s}"
    )
